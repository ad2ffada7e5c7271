//! Every metric of the engine, with unit and description. Counters are bumped once per batch, never per event.

use crate::cores::kernel::Lag;
use crate::supervision::Role;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use std::time::Duration;

const COMMITTED_EVENTS: &str = "semj_committed_events_total";
const COMMITTED_BYTES: &str = "semj_committed_bytes_total";
const COMMIT_SECONDS: &str = "semj_commit_seconds";
const LEDGER_EVENTS: &str = "semj_ledger_events";
const INDEX_LAG_EVENTS: &str = "semj_index_lag_events";
const RESTARTS: &str = "semj_actor_restarts_total";
const SYNC_RECORDS: &str = "semj_sync_records_total";
const SYNC_NOTES: &str = "semj_sync_notes_total";
const SYNC_LAG: &str = "semj_sync_lag_events";
const SYNC_LAG_SECONDS: &str = "semj_sync_lag_seconds";
const SYNC_DRIFT: &str = "semj_sync_clock_drift_seconds";
const SYNC_LOST: &str = "semj_sync_lost_records_total";
const SYNC_ALERTS: &str = "semj_sync_alerts_total";
const SYNC_RESYNCS: &str = "semj_sync_resyncs_total";
const SYNC_CERTIFICATES: &str = "semj_sync_certificates_total";
const SYNC_NOW: &str = "semj_sync_now_seconds";
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
    describe_counter!(SYNC_NOTES, Unit::Count, "events told of a source beside its records, by source");
    describe_gauge!(SYNC_LAG, Unit::Count, "records of a source not accounted for yet");
    describe_gauge!(SYNC_LAG_SECONDS, Unit::Seconds, "age of the newest journaled record of a source behind");
    describe_gauge!(SYNC_DRIFT, Unit::Seconds, "wall clock against boot-time clock between two anchors");
    describe_counter!(SYNC_LOST, Unit::Count, "records of a source told to be missing, by source");
    describe_counter!(SYNC_ALERTS, Unit::Count, "gaps, clock steps, lag and nobody watching, by source");
    describe_counter!(SYNC_RESYNCS, Unit::Count, "resyncs, by source");
    describe_counter!(SYNC_CERTIFICATES, Unit::Count, "certificates of completeness, by source");
    describe_histogram!(SYNC_NOW, Unit::Seconds, "time of one sync_now: read, certified, durable");
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

/// What an admitted group held.
pub(crate) struct Synced {
    /// Records.
    pub(crate) records: u64,
    /// Events beside them.
    pub(crate) notes: u64,
    /// Records counted as lost.
    pub(crate) lost: u64,
    /// Alerts among the notes.
    pub(crate) alerts: u64,
    /// Certificates among the notes.
    pub(crate) certificates: u64,
}

pub(crate) fn synced(source: &str, synced: &Synced) {
    for (name, count) in [
        (SYNC_RECORDS, synced.records),
        (SYNC_NOTES, synced.notes),
        (SYNC_LOST, synced.lost),
        (SYNC_ALERTS, synced.alerts),
        (SYNC_CERTIFICATES, synced.certificates),
    ] {
        counter!(name, "source" => source.to_owned()).increment(count);
    }
}

pub(crate) fn sync_figures(source: &str, lag: Lag, drift_ns: i64) {
    gauge!(SYNC_LAG, "source" => source.to_owned()).set(lag.events.unwrap_or(0) as f64);
    gauge!(SYNC_LAG_SECONDS, "source" => source.to_owned()).set(lag.ms as f64 / 1e3);
    gauge!(SYNC_DRIFT, "source" => source.to_owned()).set(drift_ns as f64 / 1e9);
}

pub(crate) fn resynced(source: &str) {
    counter!(SYNC_RESYNCS, "source" => source.to_owned()).increment(1);
}

pub(crate) fn sync_now(time: Duration) {
    histogram!(SYNC_NOW).record(time.as_secs_f64());
}
