//! One source: what it hands out becomes groups of events, each with the account that is true behind it.
//!
//! 1. Records of one life leave in the order of their sequences, except those that come later than they are waited for.
//! 2. A sequence is waited for until [`HOLD_RECORDS`] records stand behind it, or [`HOLD_NS`] have passed; then it is
//!    missing, and a gap says so before the next record.
//!    A record that comes later than that is still taken, if its time is not newer than what was read before it.
//! 3. The same record is never journaled twice, and a record never takes another's place: a sequence that comes again is
//!    a repetition only if its identity is known; otherwise the source counts anew.
//! 4. The account behind a group counts every sequence up to its last one as a record or as lost.

use super::events;
use super::told::Told;
use super::triggers::{Trigger, Triggers};
use crate::sources::{Gap, GapCause, Item, KernelRecord, Lost};
use semj_storage::error::ReadError;
use semj_storage::log::Account;
use semj_storage::log::control::ClockAnchor;
use std::collections::{BTreeMap, VecDeque};
use uuid::Uuid;

/// Records that may stand behind a missing sequence before it counts as lost.
pub(super) const HOLD_RECORDS: usize = 64;
/// How long a missing sequence is waited for, ns.
pub(super) const HOLD_NS: i64 = 1_000_000;
/// A wall clock that moved by more against the boot-time clock was set, ns, ...
const STEP_NS: i64 = 10_000_000;
/// ... unless so much time lies between that it may have been slewed: it is at most by 500 ppm, one part in this.
const SLEW: i64 = 2_000;

/// Where an item stood: the number of its batch, and its place there.
pub type Place = (u64, u32);

/// A record that waits for those before it.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) place: Place,
    since_ns: i64,
    record: Box<KernelRecord>,
}

/// Something that is to become an event.
#[derive(Clone, Debug)]
pub(super) enum Out {
    Record {
        record: Box<KernelRecord>,
        late: bool,
    },
    Gap {
        gap: Gap,
        range: Option<(u64, u64)>,
    },
    Epoch {
        boot_id: Uuid,
        incarnation: u64,
        first: Option<u64>,
    },
    Step {
        step_ns: i64,
        error_ns: u32,
    },
    /// What is said of the source, and when, ns of the boot-time clock.
    Told {
        told: Box<Told>,
        now_ns: i64,
    },
}

/// What was counted since the journal was opened; it goes on from core to core.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Records that came again and were dropped.
    pub duplicates: u64,
    /// Records that were counted as missing and came after all.
    pub late: u64,
    /// How often the state of the source was established anew.
    pub resyncs: u64,
    /// Why it is to be established anew, the next time.
    pub reasons: Triggers,
    /// Steps of the wall clock.
    pub clock_steps: u64,
    /// Wall clock minus boot-time clock: how much it changed between the last two anchors, ns.
    pub drift_ns: i64,
    /// How exact that is, ns.
    pub drift_error_ns: u64,
    /// The last anchor that the source handed out.
    source_anchor: Option<ClockAnchor>,
    /// The last one that was taken for it.
    own_anchor: Option<ClockAnchor>,
}

/// See the module.
#[derive(Debug)]
pub struct SourceCore {
    pub(super) name: String,
    pub(super) namespace: Uuid,
    /// Behind the last group.
    pub(super) account: Account,
    /// The life that is being read, and the highest sequence that left the window.
    reading: Account,
    /// The first sequence of the life is not known: the first record tells.
    base_unknown: bool,
    pub(super) held: BTreeMap<u64, Held>,
    /// In order; the flag tells that the item at that place is done with it.
    pub(super) out: VecDeque<(Place, bool, Out)>,
    /// Items that became nothing.
    pub(super) dropped: Vec<Place>,
    /// The last batch that was taken whole.
    pub(super) batch: u64,
    /// Anchors that wait for a group.
    pub(super) anchors: Vec<ClockAnchor>,
    counts: Counts,
}

/// Tells whether an id is an event's.
pub(super) type Knows<'a> = dyn Fn(&Uuid) -> Result<bool, ReadError> + 'a;

impl SourceCore {
    /// A core that goes on where `account` stands, and goes on counting.
    pub fn new(name: &str, account: Account, counts: Counts) -> Self {
        SourceCore {
            namespace: events::namespace(name),
            name: name.to_owned(),
            base_unknown: account.incarnation == 0 || account.last_sequence == 0,
            reading: account.clone(),
            account,
            held: BTreeMap::new(),
            out: VecDeque::new(),
            dropped: Vec::new(),
            batch: 0,
            anchors: Vec::new(),
            counts,
        }
    }

    /// What was counted.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether something waits: held back, or not in a group yet.
    pub fn is_waiting(&self) -> bool {
        !self.held.is_empty() || !self.out.is_empty()
    }

    /// Whether a sequence is being waited for.
    pub fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Takes one item that stood at `place`; all items of a batch, then [`SourceCore::end_batch`].
    ///
    /// # Errors
    /// When the record cannot be read to tell a repetition.
    pub fn take(
        &mut self,
        place: Place,
        item: Item,
        now_ns: i64,
        knows: &Knows<'_>,
    ) -> Result<(), ReadError> {
        match item {
            Item::Record(record) => return self.take_record(place, record, now_ns, knows),
            Item::Gap(gap) => {
                self.flush(place);
                self.take_gap(place, gap);
            }
            Item::Epoch { boot_id, incarnation, first_sequence } => {
                let is_same = incarnation != 0
                    && (boot_id, incarnation) == (self.reading.boot_id, self.reading.incarnation);
                if is_same {
                    self.dropped.push(place);
                } else {
                    self.begin_life(place, Some(Trigger::NewLife), boot_id, incarnation, first_sequence);
                }
            }
            Item::Clock { boot_ns, wall_ns, mono_ns, error_ns } => {
                let boot_id = self.reading.boot_id;
                self.flush(place);
                let anchor = ClockAnchor { boot_id, boot_ns, wall_ns, mono_ns, error_ns };
                let before = self.counts.source_anchor.replace(anchor);
                self.take_clock(place, true, anchor, before);
                self.dropped.push(place);
            }
        }
        Ok(())
    }

    /// All items of batch `number` were taken.
    pub fn end_batch(&mut self, number: u64) {
        self.batch = number;
    }

    fn take_record(
        &mut self,
        place: Place,
        record: Box<KernelRecord>,
        now_ns: i64,
        knows: &Knows<'_>,
    ) -> Result<(), ReadError> {
        if self.reading.incarnation == 0 {
            let boot_id = self.reading.boot_id;
            self.begin_life(place, None, boot_id, 0, None);
        }
        let Some(sequence) = record.sequence else {
            self.flush(place);
            self.leave(place, record, false);
            return Ok(());
        };
        if self.base_unknown {
            self.base_unknown = false;
            self.reading.last_sequence = sequence.saturating_sub(1);
        }
        if sequence <= self.reading.last_sequence {
            return self.take_past(place, sequence, record, now_ns, knows);
        }
        match self.held.get(&sequence) {
            Some(held) if held.record == record => self.drop_duplicate(place),
            // Two records with one sequence, or a smaller one at a later time: it counts anew, unnoticed until now.
            other if other.is_some() || self.is_behind(sequence, &record) => {
                let boot_id = self.reading.boot_id;
                self.begin_life(place, Some(Trigger::SequenceBack), boot_id, 0, None);
                return self.take_record(place, record, now_ns, knows);
            }
            _ if sequence == self.reading.last_sequence + 1 => {
                self.reading.last_sequence = sequence;
                self.leave(place, record, false);
                self.leave_next();
            }
            _ => {
                self.held.insert(sequence, Held { place, since_ns: now_ns, record });
                while self.held.len() > HOLD_RECORDS {
                    self.give_up_first(place);
                }
            }
        }
        Ok(())
    }

    /// Whether a record stands before one that waits, and is newer all the same.
    fn is_behind(&self, sequence: u64, record: &KernelRecord) -> bool {
        let next = self.held.range(sequence..).next().map(|(_, held)| held.record.boot_ns);
        next.is_some_and(|next| next.saturating_add(HOLD_NS) < record.boot_ns)
    }

    /// A sequence that was accounted for already.
    fn take_past(
        &mut self,
        place: Place,
        sequence: u64,
        record: Box<KernelRecord>,
        now_ns: i64,
        knows: &Knows<'_>,
    ) -> Result<(), ReadError> {
        let life = &self.reading;
        let id = events::identity(&self.namespace, &life.boot_id, life.incarnation, sequence, &record);
        let is_waiting = self
            .out
            .iter()
            .any(|(_, _, out)| matches!(out, Out::Record { record: waiting, .. } if *waiting == record));
        if is_waiting || knows(&id)? {
            self.drop_duplicate(place);
        } else if record.boot_ns <= self.reading.newest_boot_ns.saturating_add(HOLD_NS)
            && self.reading.missing.fill(sequence)
        {
            self.counts.late += 1;
            self.reading.lost = self.reading.lost.saturating_sub(1);
            self.leave(place, record, true);
        } else {
            let boot_id = self.reading.boot_id;
            self.begin_life(place, Some(Trigger::SequenceBack), boot_id, 0, None);
            return self.take_record(place, record, now_ns, knows);
        }
        Ok(())
    }

    fn drop_duplicate(&mut self, place: Place) {
        self.counts.duplicates += 1;
        self.dropped.push(place);
    }

    fn begin_life(
        &mut self,
        place: Place,
        trigger: Option<Trigger>,
        boot_id: Uuid,
        incarnation: u64,
        first: Option<u64>,
    ) {
        self.flush(place);
        if let Some(trigger) = trigger.filter(|_| self.reading.incarnation > 0) {
            self.counts.reasons.add(trigger);
        }
        let next = self.reading.incarnation + 1;
        let is_new_boot = boot_id != self.reading.boot_id;
        // Lives are never numbered twice, whatever the source says.
        let incarnation =
            if incarnation == 0 || (incarnation < next && !is_new_boot) { next } else { incarnation };
        self.reading = Account {
            boot_id,
            incarnation,
            last_sequence: first.map_or(0, |f| f.saturating_sub(1)),
            ..Account::default()
        };
        self.base_unknown = first.is_none();
        let is_item = trigger == Some(Trigger::NewLife);
        self.out.push_back((place, is_item, Out::Epoch { boot_id, incarnation, first }));
    }

    fn take_gap(&mut self, place: Place, mut gap: Gap) {
        let last = self.reading.last_sequence;
        let told = match (gap.after, gap.lost) {
            (Some(after), Lost::Exactly(n)) if n > 0 => Some((after + 1, after.saturating_add(n))),
            _ => None,
        };
        // What sequences told already is not told again.
        let range = told.map(|(first, end)| (first.max(last + 1), end));
        match range {
            Some((first, end)) if first > end => return self.dropped.push(place),
            Some((first, end)) => {
                gap.lost = Lost::Exactly(end + 1 - first);
                self.miss(first, end);
                self.base_unknown = false;
            }
            None => match gap.lost {
                Lost::Exactly(n) => self.reading.lost += n,
                Lost::AtLeast(n) => {
                    self.reading.lost += n;
                    self.reading.unknown_gaps += 1;
                }
                Lost::Unknown => self.reading.unknown_gaps += 1,
            },
        }
        self.counts.reasons.add(Trigger::Gap);
        self.out.push_back((place, true, Out::Gap { gap, range }));
    }

    /// Compares two readings of the clocks from the same hand.
    fn take_clock(&mut self, place: Place, is_item: bool, anchor: ClockAnchor, before: Option<ClockAnchor>) {
        if let Some(before) = before.filter(|a| a.boot_id == anchor.boot_id) {
            let offset = |a: &ClockAnchor| a.wall_ns.saturating_sub(a.boot_ns);
            let moved = offset(&anchor).saturating_sub(offset(&before));
            let error = u64::from(anchor.error_ns) + u64::from(before.error_ns);
            self.counts.drift_ns = moved;
            self.counts.drift_error_ns = error;
            let slewed = anchor.boot_ns.saturating_sub(before.boot_ns).max(0) / SLEW;
            if moved.unsigned_abs() > STEP_NS.saturating_add(slewed).unsigned_abs().saturating_add(error) {
                self.counts.clock_steps += 1;
                self.counts.reasons.add(Trigger::ClockStep);
                let step = Out::Step { step_ns: moved, error_ns: anchor.error_ns };
                self.out.push_back((place, is_item, step));
            }
        }
        // Between two groups the newest says it all.
        self.anchors = vec![anchor];
    }

    /// Takes a reading of the machine's clocks, unless the source reads them itself.
    pub fn anchor(&mut self, anchor: ClockAnchor) {
        if self.counts.source_anchor.is_none() {
            let before = self.counts.own_anchor.replace(anchor);
            self.take_clock(self.behind(), false, anchor, before);
        }
    }

    /// Says something of the source, behind all that was taken.
    pub fn tell(&mut self, told: Told, now_ns: i64) {
        self.out.push_back((self.behind(), false, Out::Told { told: Box::new(told), now_ns }));
    }

    /// A place that no item has, behind all that were taken.
    fn behind(&self) -> Place {
        (self.batch + 1, 0)
    }

    /// There is a reason to establish the state of the source anew.
    pub fn trigger(&mut self, trigger: Trigger) {
        self.counts.reasons.add(trigger);
    }

    /// Its state is being established anew; answers why.
    pub fn resynced(&mut self) -> Triggers {
        self.counts.resyncs += 1;
        std::mem::take(&mut self.counts.reasons)
    }

    /// Repetitions were found out later than in the core.
    pub fn dropped_duplicates(&mut self, count: u64) {
        self.counts.duplicates += count;
    }

    fn leave(&mut self, place: Place, record: Box<KernelRecord>, late: bool) {
        self.reading.records += 1;
        self.reading.newest_boot_ns = self.reading.newest_boot_ns.max(record.boot_ns);
        self.out.push_back((place, true, Out::Record { record, late }));
    }

    /// Lets those leave that nothing is missing before.
    fn leave_next(&mut self) {
        while let Some(entry) = self.held.first_entry().filter(|e| *e.key() == self.reading.last_sequence + 1)
        {
            self.reading.last_sequence = *entry.key();
            let held = entry.remove();
            self.leave(held.place, held.record, false);
        }
    }

    fn miss(&mut self, first: u64, last: u64) {
        self.reading.missing.push(first, last);
        self.reading.lost += last + 1 - first;
        self.reading.last_sequence = last;
    }

    /// What is missing before the first held record is waited for no longer.
    fn give_up_first(&mut self, place: Place) {
        let Some((&sequence, held)) = self.held.first_key_value() else { return };
        let (first, last) = (self.reading.last_sequence + 1, sequence - 1);
        let gap = Gap {
            after: Some(first - 1),
            lost: Lost::Exactly(last + 1 - first),
            from_ns: self.reading.newest_boot_ns,
            to_ns: held.record.boot_ns,
            cause: GapCause::Sequence,
        };
        self.miss(first, last);
        self.counts.reasons.add(Trigger::Gap);
        self.out.push_back((place, false, Out::Gap { gap, range: Some((first, last)) }));
        self.leave_next();
    }

    fn flush(&mut self, place: Place) {
        while !self.held.is_empty() {
            self.give_up_first(place);
        }
    }

    /// Time has passed: gives up what was waited for long enough. Answers when to look again, ns.
    pub fn wait_no_longer(&mut self, now_ns: i64) -> Option<i64> {
        loop {
            let held = self.held.first_key_value()?.1;
            let (due, place) = (held.since_ns.saturating_add(HOLD_NS), held.place);
            if due > now_ns {
                return Some(due);
            }
            self.give_up_first(place);
        }
    }
}
