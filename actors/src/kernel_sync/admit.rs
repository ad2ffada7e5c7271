//! A group's way into the ledger: its events, the resume point behind them and the clock anchors in one unit, once.

use super::conflict::conflict;
use super::slot::{Doubt, Note, Slot};
use crate::cores::kernel::Group;
use crate::error::EmitError;
use crate::ledger::{Prepared, Refused};
use crate::pipeline::Pipeline;
use semj_storage::error::ReadError;
use semj_storage::event::{Event, EventType};
use semj_storage::log::control::{CLOCK_ANCHOR, RESUME_POINT, ResumePoint, Run};
use uuid::Uuid;

/// `observability.alert_triggered`.
const ALERT: EventType = EventType::from_code(0x0805);

/// How an admission ended.
#[derive(Debug)]
pub(crate) enum Admission {
    /// It is in the ledger; so many of its events were known from before, and are not there again.
    Done(u64),
    /// There is no room; the same group is to be tried again.
    Full,
    /// Nothing is taken any more, for this reason.
    Ended(String),
}

/// What an actor that crashed during an admission left open is settled: the ledger knows whether it happened.
///
/// # Errors
/// When the record cannot be read.
pub(crate) fn settle_doubt(pipeline: &Pipeline, slot: &Slot) -> Result<(), ReadError> {
    let Some(Doubt { first_id, behind, events, note }) = slot.state.lock().doubt.take() else {
        return Ok(());
    };
    let known = pipeline.ledger().find_id(&first_id, pipeline.watermark().durable())?;
    if let Some(known) = known.filter(|known| known.sequence > behind) {
        slot.state.lock().note(note, known.sequence, events);
    }
    Ok(())
}

/// Admits a group, or tells why not; a group that is not admitted changed nothing.
///
/// # Errors
/// When the record cannot be read.
pub(crate) fn admit(pipeline: &Pipeline, slot: &Slot, group: &mut Group) -> Result<Admission, ReadError> {
    let mut known = 0;
    loop {
        let Some(first_id) = group.events.first().and_then(Event::given_id) else {
            slot.state.lock().note(note_of(group), 0, 0);
            return Ok(Admission::Done(known));
        };
        let prepared = match prepare(pipeline, slot, group)? {
            Ok(prepared) => prepared,
            Err(ended) => return Ok(ended),
        };
        let events = group.events.len() as u64;
        let behind = pipeline.ledger().admitted();
        slot.state.lock().doubt = Some(Doubt { first_id, behind, events, note: note_of(group) });
        crate::chaos::point("kernel_sync:before_admit");
        let (now, durable) = (pipeline.clock().boot_ns(), pipeline.watermark().durable());
        let admitted = pipeline.ledger().admit(&prepared, now, durable, &[]);
        crate::chaos::point("kernel_sync:after_admit");
        match admitted {
            Ok(admitted) => {
                slot.state.lock().note(note_of(group), admitted.first, events);
                pipeline.admitted(false);
                return Ok(Admission::Done(known + if admitted.duplicate { events } else { 0 }));
            }
            refused => {
                slot.state.lock().doubt = None;
                match refused {
                    Err(Refused::Full) => return Ok(Admission::Full),
                    Err(Refused::Read(e)) => return Err(e),
                    // Some of it is known: an earlier opening journaled it, and damage hides its resume point.
                    Err(Refused::Compare { .. })
                    | Err(Refused::Error(EmitError::Conflict { .. } | EmitError::GroupConflict)) => {
                        match drop_known(pipeline, group)? {
                            (0, 0) => {
                                let why = "the same record came twice in one group";
                                return Ok(Admission::Ended(why.into()));
                            }
                            (dropped, _) => known += dropped,
                        }
                    }
                    Err(Refused::Error(e)) => return Ok(Admission::Ended(e.to_string())),
                    Ok(_) => return Ok(Admission::Done(known)),
                }
            }
        }
    }
}

fn note_of(group: &Group) -> Note {
    Note {
        account: group.account.clone(),
        begins_life: group.begins_life,
        extents: group.extents.iter().map(|r| (r.source_sequence, r.offset, r.length)).collect(),
        done: group.done.clone(),
        batch: group.batch,
        alerts: group.alerts,
        marks: group.marks.clone(),
    }
}

fn prepare(
    pipeline: &Pipeline,
    slot: &Slot,
    group: &Group,
) -> Result<Result<Prepared, Admission>, ReadError> {
    let mut prepared = Prepared::default();
    prepared.set_engine();
    for event in &group.events {
        let stream = pipeline.ledger().streams().slot(event.stream_or_default())?;
        if let Err(e) = prepared.add(event, stream) {
            let stand_in = stand_in(&slot.name, event, &e);
            let stream = pipeline.ledger().streams().slot(stand_in.stream_or_default())?;
            if let Err(e) = prepared.add(&stand_in, stream) {
                return Ok(Err(Admission::Ended(e.to_string())));
            }
        }
    }
    // A source that was never open has no place to go on from.
    if let Some(resume) = slot.state.lock().resume_behind(group.batch).cloned() {
        let (source, account) = (slot.name.clone(), group.account.clone());
        let point = ResumePoint { source, account, extents: group.extents.clone(), resume: resume.0 };
        prepared.control(RESUME_POINT, &point.encode());
    }
    for (kind, bytes) in &group.controls {
        prepared.control(*kind, bytes);
    }
    for anchor in &group.anchors {
        prepared.control(CLOCK_ANCHOR, &anchor.encode());
    }
    Ok(Ok(prepared))
}

/// Takes the place of a record that is over a limit, so that its sequence is accounted for.
fn stand_in(source: &str, event: &Event<'_>, why: &EmitError) -> Event<'static> {
    let stand_in = Event::new(ALERT)
        .stream("semj")
        .name("semj.record_refused")
        .source(source.to_owned())
        .intent(format!("a record of {source} is over a limit: {why}"));
    match event.given_id() {
        Some(id) => stand_in.id(id),
        None => stand_in,
    }
}

/// Takes events out of the group that the journal knows already. A record under a known id that is another one is told in
/// its place. Answers how many were taken out, and how many told.
fn drop_known(pipeline: &Pipeline, group: &mut Group) -> Result<(u64, u64), ReadError> {
    let durable = pipeline.watermark().durable();
    let mut sequences: Vec<Option<u64>> = vec![None; group.events.len()];
    for run in &group.extents {
        for n in 0..run.length {
            if let Some(slot) = sequences.get_mut((run.offset + n) as usize) {
                *slot = Some(run.source_sequence + u64::from(n));
            }
        }
    }
    let mut seen = std::collections::HashSet::<Uuid>::new();
    let (mut kept, mut extents, before) = (Vec::new(), Vec::<Run>::new(), group.events.len());
    let mut told = 0;
    for (mut event, sequence) in std::mem::take(&mut group.events).into_iter().zip(sequences) {
        let id = event.given_id().unwrap_or_default();
        if !seen.insert(id) {
            continue;
        }
        if let Some(known) = pipeline.ledger().find_id(&id, durable)? {
            // What is not durable yet was journaled by this opening, of this very record.
            let other = if known.sequence <= durable {
                conflict(pipeline, &event, id, known.sequence)?
            } else {
                None
            };
            let Some(other) = other else { continue };
            let id = other.given_id().unwrap_or_default();
            if !seen.insert(id) || pipeline.ledger().find_id(&id, durable)?.is_some() {
                continue;
            }
            told += 1;
            event = other;
        }
        if let Some(source_sequence) = sequence {
            extents.push(Run { source_sequence, offset: kept.len() as u32, length: 1 });
        }
        kept.push(event);
    }
    group.events = kept;
    group.extents = extents;
    Ok(((before - group.events.len()) as u64, told))
}
