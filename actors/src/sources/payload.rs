//! Records and gaps as payloads of events: the keys that everybody who journals them uses.

use super::{Gap, KernelRecord, Lost};
use serde_json::{Map, Value};

/// What a record says beyond what an event has fields for. Numbers that are 0 and texts that are empty are left out.
pub(crate) fn of_record(record: &KernelRecord) -> Map<String, Value> {
    let mut payload = Map::new();
    let mut put = |key: &str, value: Value| drop(payload.insert(format!("semj.{key}"), value));
    put("phase", record.phase.name().into());
    put("boot_ns", record.boot_ns.into());
    let who = &record.who;
    for (key, number) in [
        ("source_sequence", record.sequence.unwrap_or(0)),
        ("thread", who.thread.into()),
        ("process_start_ns", who.start_boot_ns.cast_unsigned()),
        ("cgroup", who.cgroup),
        ("tag", who.tag),
        ("time_error_ns", record.time_error_ns.into()),
        ("device", record.object.as_ref().map_or(0, |o| o.device)),
    ] {
        if number != 0 {
            put(key, number.into());
        }
    }
    for (key, text) in [("command", &who.command), ("target", &record.path.target)] {
        if !text.is_empty() {
            put(key, String::from_utf8_lossy(text).into());
        }
    }
    for (key, flag) in [("merged", record.merged), ("path_cut", record.path.is_cut)] {
        if flag {
            put(key, true.into());
        }
    }
    if let Some(result) = record.result {
        put("result", result.into());
    }
    payload
}

/// A gap in words, and what it says.
pub(crate) fn of_gap(source: &str, gap: &Gap) -> (String, Map<String, Value>) {
    let (lost, exact, words) = match gap.lost {
        Lost::Exactly(n) => (Some(n), "exactly", format!("{n} records of {source} are missing")),
        Lost::AtLeast(n) => (Some(n), "at_least", format!("{n} or more records of {source} are missing")),
        Lost::Unknown => (None, "unknown", format!("records of {source} are missing, nobody knows how many")),
    };
    let payload = [
        ("semj.source", source.into()),
        ("semj.lost", lost.into()),
        ("semj.lost_is", exact.into()),
        ("semj.cause", gap.cause.name().into()),
        ("semj.from_boot_ns", gap.from_ns.into()),
        ("semj.to_boot_ns", gap.to_ns.into()),
    ];
    (words, payload.into_iter().map(|(key, value): (&str, Value)| (key.to_owned(), value)).collect())
}
