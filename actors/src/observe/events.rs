//! What was observed, as events of the journal.

use super::Call;
use super::judge::{Evidence, Verdict};
use crate::sources::{Gap, KernelRecord, Lost, Op, Phase};
use semj_storage::event::{Event, EventType, Link, Priority, Text, Timestamp};
use semj_storage::limits::TEXT_BYTES_MAX;
use serde_json::{Map, Value, json};

/// `observability.alert_triggered`.
const ALERT: EventType = EventType::from_code(0x0805);

/// `observability.audit_event`.
const AUDIT: EventType = EventType::from_code(0x0809);

/// What an effect's link to its call is called.
pub const EFFECT_OF: &str = "effect_of";
/// The tag of what was seen rather than said.
pub const TAG_OBSERVED: &str = "observed";
/// The tag of what nobody's call explains.
pub const TAG_EXTERNAL: &str = "external";
/// The tag of a call that failed: nothing came of it.
pub const TAG_FAILED: &str = "failed";
/// What the link of a call that failed is called.
pub const ATTEMPT_OF: &str = "attempt_of";
/// The tag of what a process did after its call had returned.
pub const TAG_ORPHAN: &str = "orphan";

/// What all events of one observation share.
pub(super) fn frame(call: &Call, kind: EventType, source: &str) -> Event<'static> {
    let mut event = Event::new(kind).source(source.to_owned()).agent(call.agent.clone());
    if let Some(session) = &call.session {
        event = event.session(session.clone());
    }
    event.tag(format!("call:{}", call.id))
}

/// A path that fits into an event.
fn fitting(path: &[u8]) -> Text<'static> {
    Text::from_bytes(path.get(..TEXT_BYTES_MAX).unwrap_or(path).to_vec())
}

/// The event of an effect. `wall_offset_ns` is wall clock minus boot-time clock.
pub(super) fn of_record(
    call: &Call,
    source: &str,
    record: &KernelRecord,
    verdict: Verdict,
    wall_offset_ns: i64,
) -> Event<'static> {
    let time = Timestamp(record.boot_ns.saturating_add(wall_offset_ns));
    let failed = record.has_failed();
    // No type of an effect: whoever looks for effects must not find what never happened.
    let kind = if failed { AUDIT } else { record.op.event_type() };
    let mut event = frame(call, kind, source).time(time).tag(TAG_OBSERVED);
    if failed {
        event = event.name("file.failed").tag(TAG_FAILED);
    } else if let Some(name) = record.op.name() {
        event = event.name(name);
    }
    let (path, target) = (&record.path.path, &record.path.target);
    if !path.is_empty() {
        event = event.path(fitting(path));
    } else if !target.is_empty() {
        event = event.path(fitting(target));
    }
    let who = &record.who;
    if who.process != 0 {
        event = event.pid(who.process);
    }
    if let Some(cpu) = record.cpu {
        event = event.cpu(cpu);
    }
    if let Some(object) = record.object.as_ref().filter(|o| o.inode != 0) {
        event = event.inode(object.inode);
    }
    if record.phase == Phase::Synthetic {
        event = event.tag("synthetic");
    }
    match verdict {
        Verdict::Call(evidence) => {
            let mut link = link(call, evidence, record.boot_ns);
            if failed {
                link.kind = Some(ATTEMPT_OF.into());
            }
            event = event.link(link);
            if call.ended_ns.is_some_and(|ended| record.boot_ns > ended) {
                event = event.tag(TAG_ORPHAN);
            }
        }
        Verdict::External | Verdict::Elsewhere => {
            event = event.tag(TAG_EXTERNAL);
            if !failed && record.op.name().is_none() {
                event = event.name("semj.external_change");
            }
        }
    }
    event.payload(payload(record))
}

fn payload(record: &KernelRecord) -> Value {
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
        ("time_error_ns", record.time_error_ns.into()),
    ] {
        if number != 0 {
            put(key, number.into());
        }
    }
    let lossy = |bytes: &[u8]| Value::from(String::from_utf8_lossy(bytes).into_owned());
    for (key, text) in [("command", &who.command), ("target", &record.path.target)] {
        if !text.is_empty() {
            put(key, lossy(text));
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
    if record.has_failed() {
        let op = record.op.event_type().to_string();
        put("op", op.trim_start_matches("filesystem.").into());
    }
    Value::Object(payload)
}

pub(super) fn link(call: &Call, evidence: Evidence, boot_ns: i64) -> Link<'static> {
    let mut link = Link::new(call.id, EFFECT_OF).strength(evidence.strength());
    link.delay_ns = Some(boot_ns.saturating_sub(call.started_ns));
    link.description = Some(evidence.words().into());
    link
}

/// The event of a process that started, runs another program or ended.
pub(super) fn of_process(
    call: &Call,
    source: &str,
    (op, tgid, at_ns): (Op, u32, i64),
    evidence: Evidence,
    details: Value,
    wall_offset_ns: i64,
) -> Event<'static> {
    let time = Timestamp(at_ns.saturating_add(wall_offset_ns));
    let mut event = frame(call, op.event_type(), source).time(time).tag(TAG_OBSERVED).pid(tgid);
    if let Some(name) = op.name() {
        event = event.name(name);
    }
    event.link(link(call, evidence, at_ns)).payload(details)
}

/// The event of a gap.
pub(super) fn of_gap(call: &Call, source: &str, gap: &Gap) -> Event<'static> {
    let (lost, exact, words) = match gap.lost {
        Lost::Exactly(n) => (Some(n), "exactly", format!("{n} records of {source} are missing")),
        Lost::AtLeast(n) => (Some(n), "at_least", format!("{n} or more records of {source} are missing")),
        Lost::Unknown => (None, "unknown", format!("records of {source} are missing, nobody knows how many")),
    };
    let payload = json!({
        "semj.source": source,
        "semj.lost": lost,
        "semj.lost_is": exact,
        "semj.cause": gap.cause.name(),
        "semj.after": gap.after,
        "semj.from_boot_ns": gap.from_ns,
        "semj.to_boot_ns": gap.to_ns,
    });
    let event = frame(call, ALERT, source).name("semj.gap").priority(Priority::HIGH).parent(call.id);
    event.intent(words).payload(payload)
}

/// The event that tells which processes were left behind when the call returned.
pub(super) fn of_orphans(call: &Call, source: &str, orphans: &[(u32, String)]) -> Event<'static> {
    let names: Vec<String> = orphans.iter().map(|(pid, name)| format!("{name} ({pid})")).collect();
    let mut words = format!("still running: {}", names.join(", "));
    if words.len() > TEXT_BYTES_MAX {
        words = format!("still running: {} processes", orphans.len());
    }
    let pids: Vec<u32> = orphans.iter().map(|(pid, _)| *pid).collect();
    let event = frame(call, ALERT, source).name("semj.orphans").tag(TAG_ORPHAN).tag(TAG_OBSERVED);
    event.parent(call.id).intent(words).payload(json!({ "semj.pids": pids }))
}
