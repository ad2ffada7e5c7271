//! What becomes an event: records, gaps, epochs, steps of the clock; and who each of them is.

use crate::sources::{Gap, KernelRecord, payload};
use semj_storage::event::{Event, EventType, Priority, Text, Timestamp, encode_body};
use serde_json::{Value, json};
use uuid::Uuid;

/// `observability.alert_triggered`.
pub(super) const ALERT: EventType = EventType::from_code(0x0805);
/// `observability.system_status`.
pub(super) const STATUS: EventType = EventType::from_code(0x080A);

/// The namespace of a source's ids.
pub fn namespace(source: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("semj kernel source v1 {source}").as_bytes())
}

/// Who a record is: the same record of the same life always has the same id, and another one has another. `ordinal` stands
/// for the sequence of sources that have none.
pub fn identity(
    namespace: &Uuid,
    boot_id: &Uuid,
    incarnation: u64,
    ordinal: u64,
    record: &KernelRecord,
) -> Uuid {
    if let Some(id) = record.event.as_ref().and_then(|e| e.given_id()) {
        return id;
    }
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(boot_id.as_bytes());
    for n in [incarnation, record.sequence.unwrap_or(ordinal), record.boot_ns as u64] {
        bytes.extend_from_slice(&n.to_le_bytes());
    }
    let who = &record.who;
    for n in [
        record.op.event_type().code().into(),
        u64::from(record.cpu.unwrap_or(u32::MAX)),
        who.process.into(),
        who.thread.into(),
        who.start_boot_ns as u64,
        who.cgroup,
        who.tag,
        record.result.unwrap_or(i64::MIN) as u64,
    ] {
        bytes.extend_from_slice(&n.to_le_bytes());
    }
    let object = record.object.clone().unwrap_or_default();
    bytes.extend_from_slice(&object.device.to_le_bytes());
    bytes.extend_from_slice(&object.inode.to_le_bytes());
    let texts = [&object.handle, &who.command, &record.path.path, &record.path.target];
    for text in texts
        .map(Vec::as_slice)
        .into_iter()
        .chain([record.phase.name().as_bytes(), record.op.name().unwrap_or_default().as_bytes()])
    {
        bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
        bytes.extend_from_slice(text);
    }
    if let Some(event) = &record.event {
        // What cannot be encoded is refused later; its identity does not matter.
        let _ = encode_body(event, &mut bytes);
    }
    Uuid::new_v5(namespace, &bytes)
}

/// The event of a record. `wall_offset_ns` is wall clock minus boot-time clock.
pub(super) fn of_record(
    source: &str,
    id: Uuid,
    record: &KernelRecord,
    wall_offset_ns: i64,
) -> Event<'static> {
    if let Some(event) = &record.event {
        return event.as_ref().clone().id(id).source(source.to_owned());
    }
    let who = &record.who;
    let mut event = Event::new(record.op.event_type())
        .id(id)
        .source(source.to_owned())
        .stream(source.to_owned())
        .time(Timestamp(record.boot_ns.saturating_add(wall_offset_ns)));
    if let Some(name) = record.op.name() {
        event = event.name(name);
    }
    if who.process != 0 {
        event = event.pid(who.process);
    }
    if let Some(cpu) = record.cpu {
        event = event.cpu(cpu);
    }
    if !record.path.path.is_empty() {
        event = event.path(Text::from_bytes(record.path.path.clone()));
    }
    if let Some(object) = record.object.as_ref().filter(|o| o.inode != 0) {
        event = event.inode(object.inode);
    }
    event.payload(Value::Object(payload::of_record(record)))
}

/// The event of a gap; `first` and `last` are the missing sequences, where they are known.
pub(super) fn of_gap(source: &str, incarnation: u64, gap: &Gap, range: Option<(u64, u64)>) -> Event<'static> {
    let (words, mut payload) = payload::of_gap(source, gap);
    payload.insert("semj.incarnation".into(), incarnation.into());
    if let Some((first, last)) = range {
        payload.insert("semj.first_missing".into(), first.into());
        payload.insert("semj.last_missing".into(), last.into());
    }
    own(source, ALERT, "semj.gap", words, Value::Object(payload)).priority(Priority::HIGH)
}

/// The event of a record that was counted as missing and came late.
pub(super) fn of_late(source: &str, incarnation: u64, sequence: u64) -> Event<'static> {
    let payload =
        json!({ "semj.source": source, "semj.incarnation": incarnation, "semj.source_sequence": sequence });
    own(source, STATUS, "semj.gap_filled", format!("record {sequence} of {source} came late"), payload)
}

/// The event of a new life of a source.
pub(super) fn of_epoch(source: &str, boot_id: Uuid, incarnation: u64, first: Option<u64>) -> Event<'static> {
    let payload = json!({
        "semj.source": source,
        "semj.boot_id": boot_id.to_string(),
        "semj.incarnation": incarnation,
        "semj.first_sequence": first,
    });
    own(source, STATUS, "semj.epoch", format!("life {incarnation} of {source} begins"), payload)
}

/// The event of a wall clock that was set.
pub(super) fn of_step(source: &str, step_ns: i64, error_ns: u32) -> Event<'static> {
    let payload = json!({ "semj.source": source, "semj.step_ns": step_ns, "semj.error_ns": error_ns });
    let words = format!("the wall clock was set by {:.3} s", step_ns as f64 / 1e9);
    own(source, ALERT, "semj.clock_step", words, payload)
}

pub(super) fn own(
    source: &str,
    kind: EventType,
    name: &'static str,
    words: String,
    payload: Value,
) -> Event<'static> {
    Event::new(kind).stream("semj").name(name).source(source.to_owned()).intent(words).payload(payload)
}
