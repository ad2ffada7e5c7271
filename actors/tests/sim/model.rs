//! What the journal must hold: kept beside it, in the plainest way.

use semj_actors::ledger::Ledger;
use semj_storage::event::{Cause, Event, Priority};
use semj_storage::log::Segments;
use semj_storage::log::entry::EntryRef;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use uuid::Uuid;

/// What a host emits, so that it can be emitted again.
#[derive(Clone, PartialEq, Debug)]
pub struct Draft {
    /// Unique, but for repetitions.
    pub tag: u64,
    pub stream: &'static str,
    pub filler: usize,
    pub id: Option<Uuid>,
    pub causes: Vec<Cause>,
    pub is_critical: bool,
    /// Crashes a stage that meets it.
    pub is_pill: bool,
}

impl Draft {
    pub fn event(&self) -> Event<'static> {
        let mut event = Event::query("q").agent("host").stream(self.stream).payload(json!({
            "tag": self.tag,
            "pill": if self.is_pill { pill(self.tag) } else { String::new() },
            "filler": "f".repeat(self.filler),
        }));
        if self.is_critical {
            event = event.priority(Priority::CRITICAL);
        }
        if let Some(id) = self.id {
            event = event.id(id);
        }
        let mut causes = self.causes.iter();
        if let Some(cause) = causes.next() {
            event = event.parent(*cause);
        }
        causes.fold(event, |event, cause| event.link(semj_storage::event::Link::new(*cause, "because")))
    }
}

/// The text that makes a pill of an event.
pub fn pill(tag: u64) -> String {
    format!("pill-{tag}-pill")
}

/// What one sequence stands for.
#[derive(Clone, Debug)]
pub enum Expected {
    Host(HostEvent),
    /// The engine's own words.
    Own,
}

#[derive(Clone, Debug)]
pub struct HostEvent {
    pub draft: Draft,
    pub local: u64,
    /// First and last sequence of its group, or its own twice.
    pub group: (u64, u64),
    /// What its causes stand for.
    pub causes: Vec<Option<u64>>,
    /// Some event of its group is a pill.
    pub is_refusable: bool,
}

/// How an emission must end.
#[derive(Clone, PartialEq, Debug)]
pub enum Verdict {
    New,
    Known(u64),
    Conflict,
    Position,
    Cycle,
}

#[derive(Clone, Debug, Default)]
pub struct Model {
    pub events: BTreeMap<u64, Expected>,
    pub ids: BTreeMap<Uuid, u64>,
    streams: BTreeMap<&'static str, u64>,
    /// Told to be durable.
    pub acknowledged: BTreeSet<u64>,
    /// Told to be refused.
    pub refused: BTreeSet<u64>,
    /// Told to be with the operating system.
    pub written: u64,
    /// The last sequence of all.
    pub last: u64,
}

impl Model {
    pub fn count(&self, stream: &str) -> u64 {
        self.streams.get(stream).copied().unwrap_or(0)
    }

    pub fn host(&self, sequence: u64) -> Option<&HostEvent> {
        match self.events.get(&sequence)? {
            Expected::Host(event) => Some(event),
            Expected::Own => None,
        }
    }

    /// How the emission of these events as one must end, before anything is done.
    pub fn judge(&self, drafts: &[Draft], expect: Option<u64>) -> Verdict {
        let known: Vec<_> = drafts.iter().map(|d| d.id.and_then(|id| self.ids.get(&id))).collect();
        if known.iter().any(Option::is_some) {
            let first = known[0].copied().unwrap_or(0);
            let same = known.iter().zip(first..).zip(drafts).all(|((known, sequence), draft)| {
                known.is_some_and(|k| *k == sequence)
                    && self.host(sequence).is_some_and(|e| e.draft == *draft)
            });
            return if same { Verdict::Known(first) } else { Verdict::Conflict };
        }
        let is_late = |(draft, own): (&Draft, u64)| {
            draft.causes.iter().any(|c| matches!(c, Cause::Sequence(n) if *n >= own))
        };
        if drafts.iter().zip(self.last + 1..).any(is_late) {
            return Verdict::Cycle;
        }
        match (expect, drafts.first()) {
            (Some(count), Some(first)) if count != self.count(first.stream) => Verdict::Position,
            _ => Verdict::New,
        }
    }

    /// These events were admitted from `first` on.
    pub fn admit(&mut self, first: u64, drafts: &[Draft]) {
        self.own_up_to(first - 1);
        assert_eq!(first, self.last + 1, "sequences are dense");
        let group = (first, first + drafts.len() as u64 - 1);
        let is_refusable = drafts.iter().any(|d| d.is_pill);
        for (draft, sequence) in drafts.iter().zip(first..) {
            let local = self.streams.entry(draft.stream).or_default();
            *local += 1;
            let causes = draft.causes.iter().map(|cause| match cause {
                Cause::Sequence(n) => Some(*n),
                Cause::Id(id) => self.ids.get(id).copied(),
            });
            let causes = causes.collect();
            let event = HostEvent { draft: draft.clone(), local: *local, group, causes, is_refusable };
            self.events.insert(sequence, Expected::Host(event));
            if let Some(id) = draft.id {
                self.ids.insert(id, sequence);
            }
        }
        self.last = group.1;
    }

    /// What was admitted up to here and comes from no host is the engine's own.
    pub fn own_up_to(&mut self, last: u64) {
        while self.last < last {
            self.last += 1;
            self.events.insert(self.last, Expected::Own);
        }
    }

    pub fn see(&mut self, ledger: &Ledger) {
        self.own_up_to(ledger.admitted());
    }

    /// The refused event's id is free again.
    pub fn refuse(&mut self, sequence: u64) {
        let Some(event) = self.host(sequence).cloned() else { panic!("event {sequence} is no host's") };
        assert!(event.is_refusable, "event {sequence} is no pill, and was refused");
        for n in event.group.0..=event.group.1 {
            self.refused.insert(n);
            let id = self.host(n).and_then(|e| e.draft.id);
            if let Some(id) = id.filter(|id| self.ids.get(id) == Some(&n)) {
                self.ids.remove(&id);
            }
        }
    }

    /// The journal was opened again and ends at `last`.
    pub fn reopened(&mut self, last: u64, refused: &BTreeSet<u64>) {
        self.events.split_off(&(last + 1));
        self.ids.retain(|_, n| *n <= last && !refused.contains(n));
        self.refused.split_off(&(last + 1));
        self.refused.extend(refused);
        assert!(self.acknowledged.range(last + 1..).next().is_none(), "an acknowledged event is gone");
        self.streams.clear();
        for (sequence, event) in &self.events {
            if let Expected::Host(event) = event
                && !refused.contains(sequence)
            {
                self.streams.insert(event.draft.stream, event.local);
            }
        }
        (self.last, self.written) = (last, self.written.min(last));
    }

    fn check_entry(&self, entry: &EntryRef<'_>) -> Result<(), String> {
        let sequence = entry.sequence;
        let expected = self.events.get(&sequence).ok_or(format!("event {sequence} was never admitted"))?;
        let Expected::Host(expected) = expected else {
            let event = entry.event().ok_or("an event of the engine's own is unreadable")?;
            let is_own = event.stream_or_default() == b"semj";
            return is_own.then_some(()).ok_or(format!("event {sequence} is not the engine's own"));
        };
        if entry.local_sequence != expected.local {
            return Err(format!(
                "event {sequence} is number {} of its stream, not {}",
                expected.local, entry.local_sequence
            ));
        }
        if entry.is_tombstone() {
            let fine = expected.is_refusable && !self.acknowledged.contains(&sequence);
            return fine.then_some(()).ok_or(format!("event {sequence} is a tombstone without reason"));
        }
        if self.refused.contains(&sequence) {
            return Err(format!("event {sequence} was told to be refused"));
        }
        let event = entry.event().ok_or(format!("event {sequence} cannot be decoded"))?;
        let payload = event.payload_value().as_json().unwrap_or_default();
        let draft = &expected.draft;
        let tag = payload.get("tag").and_then(Value::as_u64);
        let filler = payload.get("filler").and_then(Value::as_str).map(str::len);
        if (tag, filler, event.stream_or_default(), entry.given_id)
            != (Some(draft.tag), Some(draft.filler), draft.stream.as_bytes(), draft.id)
        {
            return Err(format!("event {sequence} is not what was emitted: {tag:?}, {draft:?}"));
        }
        let causes: Vec<_> = entry.causes().map(|c| c.sequence).collect();
        // What a refused event is called by is free again, whenever that happens.
        let fits = |(found, wanted): (&Option<u64>, &Option<u64>)| {
            found == wanted || found.is_none() && wanted.is_some_and(|n| self.may_be_refused(n))
        };
        let fit = causes.len() == expected.causes.len() && causes.iter().zip(&expected.causes).all(fits);
        fit.then_some(()).ok_or(format!("event {sequence} has causes {causes:?}: {:?}", expected.causes))
    }

    fn may_be_refused(&self, sequence: u64) -> bool {
        self.host(sequence).is_some_and(|e| e.is_refusable)
    }

    /// Whether the record up to `last` is a prefix of what was admitted, groups whole, and holds what was acknowledged;
    /// tells which events are tombstones.
    pub fn check(&self, segments: &Segments, last: u64) -> Result<BTreeSet<u64>, String> {
        let (mut next, mut tombstones) = (1, BTreeSet::new());
        let mut wrong = None;
        let read = segments.read(1, last, &mut |entry| {
            let checked = if entry.sequence == next {
                self.check_entry(entry)
            } else {
                Err(format!("event {next} is followed by {}", entry.sequence))
            };
            if let Err(words) = checked {
                wrong = Some(words);
                return ControlFlow::Break(());
            }
            if entry.is_tombstone() {
                tombstones.insert(next);
            }
            next += 1;
            ControlFlow::Continue(())
        });
        if let Some(words) = wrong {
            return Err(words);
        }
        read.map_err(|e| e.to_string())?;
        if next != last + 1 {
            return Err(format!("the record ends before event {next}, not behind {last}"));
        }
        if let Some(cut) = self.host(last).filter(|e| e.group.1 > last) {
            return Err(format!("group {:?} is cut at event {last}", cut.group));
        }
        for n in &tombstones {
            let (from, to) = self.host(*n).map_or((1, 0), |e| e.group);
            if !(from..=to).all(|n| tombstones.contains(&n)) {
                return Err(format!("group {from} to {to} is refused in part"));
            }
        }
        match self.acknowledged.last() {
            Some(acknowledged) if *acknowledged > last => {
                Err(format!("event {acknowledged} was acknowledged, the record ends at {last}"))
            }
            _ => Ok(tombstones),
        }
    }
}
