//! Damage to every byte, sector and file of a record: it is found, named, never delivered as an event, and never shortens
//! the journal.

mod common;
mod gates;

use gates::{Work, blobs, damage, layers, order};

macro_rules! gates {
    ($($gate:ident)*) => { $(#[test] fn $gate() { damage::$gate(); })* };
}

gates! {
    a_record_without_identity_is_left_alone
    every_truncation_is_found
    every_sector_is_found
    events_read_alone_are_checked_too
    lock_may_be_damaged_anyhow
    a_missing_segment_is_damage
    a_segment_of_another_journal_is_refused
    a_newer_format_is_told_apart_from_damage
    damage_and_an_unclean_end_together
}

#[test]
fn every_flipped_byte_is_found() {
    damage::every_flipped_byte_is_found(Work::full());
}

#[test]
fn every_flipped_byte_is_found_without_lock() {
    damage::every_flipped_byte_is_found_without_lock(Work::full());
}

#[test]
fn later_blocks_prove_the_ones_before() {
    damage::later_blocks_prove_the_ones_before(Work::full());
}

#[test]
fn each_checksum_stands_alone() {
    layers::each_checksum_stands_alone(Work::full());
}

#[test]
fn events_that_changed_places_are_refused() {
    layers::events_that_changed_places_are_refused(Work::full());
}

#[test]
fn a_change_with_all_checksums_made_right_breaks_the_chain() {
    layers::a_change_with_all_checksums_made_right_breaks_the_chain(Work::full());
}

#[test]
fn only_the_next_block_of_this_epoch_is_accepted() {
    order::only_the_next_block_of_this_epoch_is_accepted();
}

#[test]
fn every_flipped_byte_of_a_blob_is_found() {
    blobs::every_flipped_byte_of_a_blob_is_found();
}
