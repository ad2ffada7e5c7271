//! Every metric of the engine, with unit and description. Counters are bumped once per batch, never per event.

use crate::supervision::Role;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

const COMMITTED_EVENTS: &str = "semj_committed_events_total";
const COMMITTED_BYTES: &str = "semj_committed_bytes_total";
const COMMIT_SECONDS: &str = "semj_commit_seconds";
const LEDGER_EVENTS: &str = "semj_ledger_events";
const INDEX_LAG_EVENTS: &str = "semj_index_lag_events";
const RESTARTS: &str = "semj_actor_restarts_total";
const SYNC_RECORDS: &str = "semj_sync_records_total";
const SYNC_NOTES: &str = "semj_sync_notes_total";
const SYNC_LAG: &str = "semj_sync_lag_events";
const SHED_EVENTS: &str = "semj_shed_events_total";

/// Tells the installed recorder what each metric means. Call it once, after installing one.
pub fn describe() {
    describe_counter!(COMMITTED_EVENTS, Unit::Count, "events made durable");
    describe_counter!(COMMITTED_BYTES, Unit::Bytes, "bytes of blocks written to segments");
    describe_histogram!(COMMIT_SECONDS, Unit::Seconds, "time of one commit: write and fdatasync");
    describe_gauge!(LEDGER_EVENTS, Unit::Count, "events admitted and not yet committed");
    describe_gauge!(INDEX_LAG_EVENTS, Unit::Count, "durable events that the trees do not cover yet");
    describe_counter!(RESTARTS, Unit::Count, "actors restarted after a crash, by role");
    describe_counter!(SYNC_RECORDS, Unit::Count, "records of kernel sources admitted, by source");
    describe_counter!(SYNC_NOTES, Unit::Count, "gaps, lives and clock steps told, by source");
    describe_gauge!(SYNC_LAG, Unit::Count, "records of a source not accounted for yet");
    describe_counter!(SHED_EVENTS, Unit::Count, "unticketed events shed for want of room");
}

pub(crate) fn committed(events: u64, bytes: u64, seconds: f64, ledger_events: usize) {
    counter!(COMMITTED_EVENTS).increment(events);
    counter!(COMMITTED_BYTES).increment(bytes);
    histogram!(COMMIT_SECONDS).record(seconds);
    gauge!(LEDGER_EVENTS).set(ledger_events as f64);
}

pub(crate) fn index_lag(events: u64) {
    gauge!(INDEX_LAG_EVENTS).set(events as f64);
}

pub(crate) fn restarted(role: Role) {
    counter!(RESTARTS, "role" => role.name()).increment(1);
}

pub(crate) fn shed(events: u64) {
    counter!(SHED_EVENTS).increment(events);
}

pub(crate) fn synced(source: &str, records: u64, notes: u64) {
    counter!(SYNC_RECORDS, "source" => source.to_owned()).increment(records);
    counter!(SYNC_NOTES, "source" => source.to_owned()).increment(notes);
}

pub(crate) fn sync_lag(source: &str, events: u64) {
    gauge!(SYNC_LAG, "source" => source.to_owned()).set(events as f64);
}
