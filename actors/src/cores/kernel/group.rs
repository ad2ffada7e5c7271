//! What is ready becomes groups: events, and the account that is true behind them.

use super::core::{Out, Place, SourceCore};
use super::events;
use super::told::Told;
use crate::sources::Lost;
use semj_storage::event::{Event, Payload};
use semj_storage::limits::{BATCH_BYTES_MAX, PAYLOAD_BYTES_MAX};
use semj_storage::log::Account;
use semj_storage::log::control::{ClockAnchor, Run};
use uuid::Uuid;

/// Most events of one group.
const GROUP_EVENTS: usize = 1_024;
/// About so many bytes end a group.
const GROUP_BYTES: usize = BATCH_BYTES_MAX / 2;
const _: () = assert!(GROUP_BYTES + 2 * PAYLOAD_BYTES_MAX <= BATCH_BYTES_MAX);

/// What was said of the source, once its group is admitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    /// A certificate: up to when the journal is complete, ns of the boot-time clock.
    Certificate(i64),
    /// Whether somebody looks: the name of the state, and when, ns of the boot-time clock.
    Coverage(&'static str, i64),
    /// Whether it is behind.
    Lag(bool),
}

/// A group, ready to be admitted as a whole.
#[derive(Debug, Default)]
pub struct Group {
    /// Its events, each with an id.
    pub events: Vec<Event<'static>>,
    /// Which of its events have which source sequences.
    pub extents: Vec<Run>,
    /// Clock anchors that are committed with it.
    pub anchors: Vec<ClockAnchor>,
    /// Other control records that are committed with it: kind and bytes.
    pub controls: Vec<(u16, Vec<u8>)>,
    /// What is known of the source behind it.
    pub account: Account,
    /// A new life begins in it.
    pub begins_life: bool,
    /// How many of the events are records of the source.
    pub records: u64,
    /// How many records it counts as lost.
    pub lost: u64,
    /// How many of its events are alerts.
    pub alerts: u64,
    /// What it says of the source.
    pub marks: Vec<Mark>,
    /// Items that are done with once it is admitted.
    pub done: Vec<Place>,
    /// Items of batches up to this one are all taken, none is held back.
    pub batch: u64,
}

impl SourceCore {
    /// The next group; `None` when nothing is ready. `wall_offset_ns` is wall clock minus boot-time clock.
    pub fn next_group(&mut self, wall_offset_ns: i64) -> Option<Group> {
        let mut group = Group { account: self.account.clone(), ..Group::default() };
        let mut bytes = 0;
        while group.events.len() < GROUP_EVENTS && bytes < GROUP_BYTES {
            // A group speaks of one life: what it says of sequences is of no other.
            let begins = |out: &Out| matches!(out, Out::Epoch { .. });
            let is_first = group.events.is_empty();
            let next = self.out.pop_front_if(|(_, _, out)| is_first || !begins(out));
            let Some((place, is_done, out)) = next else { break };
            bytes += self.add(&mut group, out, wall_offset_ns);
            if is_done {
                group.done.push(place);
            }
        }
        if group.events.is_empty() {
            return None;
        }
        group.done.append(&mut self.dropped);
        group.anchors.append(&mut self.anchors);
        let open = self.held.values().map(|h| h.place.0).chain(self.out.front().map(|(place, ..)| place.0));
        group.batch = open.min().map_or(self.batch, |first| self.batch.min(first - 1));
        self.account = group.account.clone();
        Some(group)
    }

    /// Makes the events of one thing, and counts it in; answers their bytes, roughly.
    fn add(&self, group: &mut Group, out: Out, wall_offset_ns: i64) -> usize {
        let Group { account, events, .. } = group;
        let ordinal = account.records + account.lost + account.unknown_gaps;
        let named = |what: &str, n: u64| {
            let text = format!("{what} {} {} {n}", account.boot_id, account.incarnation);
            Uuid::new_v5(&self.namespace, text.as_bytes())
        };
        match out {
            Out::Record { record, late } => {
                let id = events::identity(
                    &self.namespace,
                    &account.boot_id,
                    account.incarnation,
                    account.records,
                    &record,
                );
                if late && let Some(sequence) = record.sequence {
                    let filled = named("filled", sequence);
                    events.push(events::of_late(&self.name, account.incarnation, sequence).id(filled));
                    account.missing.fill(sequence);
                    account.lost = account.lost.saturating_sub(1);
                }
                if let Some(sequence) = record.sequence {
                    account.last_sequence = account.last_sequence.max(sequence);
                    let offset = events.len() as u32;
                    match group.extents.last_mut() {
                        Some(run)
                            if run.source_sequence + u64::from(run.length) == sequence
                                && run.offset + run.length == offset =>
                        {
                            run.length += 1;
                        }
                        _ => group.extents.push(Run { source_sequence: sequence, offset, length: 1 }),
                    }
                }
                account.records += 1;
                account.newest_boot_ns = account.newest_boot_ns.max(record.boot_ns);
                group.records += 1;
                let event = events::of_record(&self.name, id, &record, wall_offset_ns);
                let size = payload_bytes(event.payload_value()) + 256;
                events.push(event);
                size
            }
            Out::Gap { gap, range } => {
                let id = named("gap", range.map_or(ordinal, |(first, _)| first));
                group.alerts += 1;
                let lost_before = account.lost;
                match (range, gap.lost) {
                    (Some((first, last)), _) => {
                        account.missing.push(first, last);
                        account.lost += last + 1 - first;
                        account.last_sequence = account.last_sequence.max(last);
                    }
                    (None, Lost::Exactly(n)) => account.lost += n,
                    (None, Lost::AtLeast(n)) => {
                        account.lost += n;
                        account.unknown_gaps += 1;
                    }
                    (None, Lost::Unknown) => account.unknown_gaps += 1,
                }
                group.lost += account.lost - lost_before;
                events.push(events::of_gap(&self.name, account.incarnation, &gap, range).id(id));
                256
            }
            Out::Epoch { boot_id, incarnation, first } => {
                *account = Account {
                    boot_id,
                    incarnation,
                    last_sequence: first.map_or(0, |f| f.saturating_sub(1)),
                    ..Account::default()
                };
                group.begins_life = true;
                let text = format!("epoch {boot_id} {incarnation}");
                let id = Uuid::new_v5(&self.namespace, text.as_bytes());
                events.push(events::of_epoch(&self.name, boot_id, incarnation, first).id(id));
                256
            }
            Out::Step { step_ns, error_ns } => {
                let id = named("step", ordinal ^ step_ns as u64);
                group.alerts += 1;
                events.push(events::of_step(&self.name, step_ns, error_ns).id(id));
                256
            }
            Out::Told { told, now_ns } => {
                group.marks.extend(match told.as_ref() {
                    Told::Certificate { complete_ns, .. } => Some(Mark::Certificate(*complete_ns)),
                    Told::Coverage { covered, .. } => Some(Mark::Coverage(covered.name(), now_ns)),
                    Told::Lag { is_over, .. } => Some(Mark::Lag(*is_over)),
                    Told::Resync { .. } => None,
                });
                group.alerts += u64::from(told.is_alert());
                group.controls.extend(told.control(&self.name));
                let event = told.event(&self.name, account, wall_offset_ns);
                let name = event.name_text().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
                events.push(event.id(named(&name, now_ns.cast_unsigned())));
                1_024
            }
        }
    }
}

/// The bytes of a payload, as it is stored.
fn payload_bytes(payload: &Payload<'_>) -> usize {
    match payload {
        Payload::Json(text) => text.as_str().len(),
        Payload::Bytes(bytes) => bytes.len(),
        _ => 0,
    }
}
