//! What was observed, as events of the journal.

use super::Call;
use super::judge::{Evidence, Verdict};
use crate::sources::{Gap, KernelRecord, Op, Phase, payload};
use semj_storage::event::{Event, EventType, Link, Priority, Text, Timestamp};
use semj_storage::limits::TEXT_BYTES_MAX;
use serde_json::{Value, json};

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
            if is_after(call, record) {
                event = event.tag(TAG_ORPHAN);
            }
        }
        Verdict::External | Verdict::Unexplained | Verdict::Elsewhere => {
            event = event.tag(TAG_EXTERNAL);
            if !failed && record.op.name().is_none() {
                event = event.name("semj.external_change");
            }
        }
    }
    event.payload(payload_of(record, verdict))
}

/// Whether it was done after the call had returned: for certain, not only read later.
fn is_after(call: &Call, record: &KernelRecord) -> bool {
    let earliest = record.boot_ns.saturating_sub(record.time_error_ns.into());
    call.ended_ns.is_some_and(|ended| earliest > ended)
}

fn payload_of(record: &KernelRecord, verdict: Verdict) -> Value {
    let mut payload = payload::of_record(record);
    // It is made of the call, and the link leads there.
    payload.remove("semj.tag");
    if let Some((strength, words)) = verdict.others() {
        payload.insert("semj.strength".into(), strength.into());
        payload.insert("semj.evidence".into(), words.into());
    }
    if record.has_failed() {
        let op = record.op.event_type().to_string();
        payload.insert("semj.op".into(), op.trim_start_matches("filesystem.").into());
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
    let (words, mut payload) = payload::of_gap(source, gap);
    payload.insert("semj.after".into(), gap.after.into());
    let event = frame(call, ALERT, source).name("semj.gap").priority(Priority::HIGH).parent(call.id);
    event.intent(words).payload(Value::Object(payload))
}

/// The event of what a source has to remark at the end.
pub(super) fn of_remark(call: &Call, source: &str, remark: String) -> Event<'static> {
    let mut remark = remark;
    remark.truncate(remark.floor_char_boundary(TEXT_BYTES_MAX));
    frame(call, ALERT, source).name("semj.remark").tag(TAG_OBSERVED).parent(call.id).intent(remark)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_effect_read_after_the_end_is_no_orphan_unless_it_was_done_after_it() {
        let call = Call {
            id: uuid::Uuid::nil(),
            agent: "a".to_owned(),
            session: None,
            arguments: Vec::new(),
            started_ns: 0,
            ended_ns: Some(1_000),
        };
        let tagged = |error| {
            let mut record = KernelRecord::new(Op::Write, Phase::Observed, 1_500);
            record.time_error_ns = error;
            let event = of_record(&call, "fanotify", &record, Verdict::Call(Evidence::Tree), 0);
            event.has_tag(TAG_ORPHAN)
        };
        assert!(!tagged(600), "it may have been done before");
        assert!(tagged(400));
    }
}
