//! Every write, sync, cut, read, opening, renaming and removal of a run fails once, in several ways: nothing panics,
//! nothing is acknowledged that is not there afterwards, and what the disk did not refuse for ever goes on.

mod common;
mod gates;

use gates::{Work, faults};
use semj_storage::backend::FaultClass;

#[test]
fn every_write_fails() {
    faults::each_operation_fails(FaultClass::Write, faults::WRITES, Work::full());
}

#[test]
fn every_sync_fails() {
    faults::each_operation_fails(FaultClass::Sync, faults::SYNCS, Work::full());
}

#[test]
fn every_read_fails() {
    faults::each_operation_fails(FaultClass::Read, faults::READS, Work::full());
}

#[test]
fn every_truncation_fails() {
    faults::each_operation_fails(FaultClass::Truncate, faults::OTHERS, Work::full());
}

#[test]
fn every_opening_and_creation_fails() {
    faults::each_operation_fails(FaultClass::Open, faults::OTHERS, Work::full());
}

#[test]
fn every_renaming_fails() {
    faults::each_operation_fails(FaultClass::Rename, faults::OTHERS, Work::full());
}

#[test]
fn every_removal_fails() {
    faults::each_operation_fails(FaultClass::Remove, faults::OTHERS, Work::full());
}

#[test]
fn every_sync_of_a_directory_fails() {
    faults::each_operation_fails(FaultClass::SyncDir, faults::OTHERS, Work::full());
}

#[test]
fn every_read_of_an_opening_fails() {
    faults::every_read_of_an_opening_fails();
}

#[test]
fn the_disk_is_full_at_every_size() {
    faults::the_disk_is_full_at_every_size();
}

#[test]
fn space_ahead_may_not_be_had() {
    faults::space_ahead_may_not_be_had();
}

#[test]
fn no_space_is_filled_ahead_when_that_is_off() {
    faults::no_space_is_filled_ahead_when_that_is_off();
}

#[test]
fn a_watermark_without_room_costs_no_event() {
    faults::a_watermark_without_room_costs_no_event();
}
