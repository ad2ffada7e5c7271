//! Damage to every byte, sector and file of a record: it is found, named, never delivered as an event, and never shortens
//! the journal.

mod common;
mod gates;

use gates::damage;

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
