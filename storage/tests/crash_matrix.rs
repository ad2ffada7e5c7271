//! Power cuts, kills and failed syncs at every operation of a workload: what opens afterwards is a prefix of what was
//! written, holds all that was acknowledged, and can be built on. `SEMJ_WORK=10` does ten times as much.

mod common;
mod gates;

use common::seed;
use gates::{Work, blobs, crash};
use semj_storage::backend::DirectoryRule;

#[test]
fn every_operation_may_be_the_last() {
    crash::workload(DirectoryRule::Strict, seed(1), Work::full());
}

#[test]
fn every_operation_may_be_the_last_on_a_journaling_file_system() {
    crash::workload(DirectoryRule::Journal, seed(2), Work::full());
}

#[test]
fn recovery_may_be_cut_anywhere() {
    crash::recovery_may_be_cut_anywhere(Work::full());
}

#[test]
fn sealing_may_be_cut_anywhere() {
    crash::sealing_may_be_cut_anywhere(Work::full());
}

#[test]
fn space_ahead_of_the_tail_changes_nothing() {
    crash::space_ahead_of_the_tail_changes_nothing();
}

#[test]
fn what_a_failed_sync_forgot_is_written_again() {
    crash::what_a_failed_sync_forgot_is_written_again();
}

#[test]
fn a_blob_is_whole_or_not_there() {
    blobs::a_blob_is_whole_or_not_there();
}
