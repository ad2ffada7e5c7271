//! The ledger: admitted, uncommitted events in one order. It outlives every actor.
//!
//! 1. Sequences are assigned and published under one lock: no hole, and no two threads in different orders.
//! 2. Nothing between assignment and publication allocates, calls out or panics.
//! 3. An event leaves the ledger only after its commit point.
//! 4. A group lies in one chunk with its control records, so it is committed as a whole.

mod chunk;
mod ids;
mod prepare;
mod streams;

pub use chunk::{Chunk, Control, Entry, TIME_UNKNOWN};
pub use ids::{IdIndex, Known};
pub use prepare::Prepared;
pub use streams::Streams;

use crate::error::{EmitError, PoisonCause};
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering};
use semj_storage::error::ReadError;
use semj_storage::event::Cause;
use semj_storage::limits::{
    BATCH_BYTES_MAX, BATCH_EVENTS_MAX, CONTROL_BYTES_MAX, LEDGER_BYTES_MAX, LEDGER_EVENTS_MAX,
};
use semj_storage::log::entry::{FLAG_ENGINE, FLAG_KEYED, put_envelope};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// Why nothing is admitted at the moment, or any more.
#[derive(Clone, Debug)]
pub enum Gate {
    /// Admitting.
    Open,
    /// The disk is full; admitting again when there is room.
    StorageFull,
    /// Closed for good.
    Closed,
    /// Poisoned for good.
    Poisoned(PoisonCause),
}

/// How an admission ended well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Admitted {
    /// Sequence of the first event.
    pub first: u64,
    /// The events were known already.
    pub duplicate: bool,
}

/// Why an admission was refused; the event itself is still with the caller.
#[derive(Debug)]
pub enum Refused {
    /// No room.
    Full,
    /// A refusal with its own words.
    Error(EmitError),
    /// The content of a known id must be compared with the stored event.
    Compare {
        /// Which of the events.
        index: usize,
        /// The stored event.
        sequence: u64,
    },
    /// The record could not be read to look an id up.
    Read(ReadError),
}

#[derive(Debug)]
struct State {
    gate: Gate,
    /// The open chunk; its last sequence is the last one assigned.
    open: Chunk,
    sealed: VecDeque<Arc<Chunk>>,
    spare: Vec<Chunk>,
    live_events: usize,
    live_bytes: usize,
    /// Boot-time clock when the open chunk got its first event.
    open_since_ns: i64,
}

/// The ledger.
#[derive(Debug)]
pub struct Ledger {
    state: Mutex<State>,
    ids: Mutex<IdIndex>,
    streams: Streams,
    /// Last sequence assigned.
    admitted: AtomicU64,
    /// Highest sequence somebody waits for.
    wanted: AtomicU64,
    /// A critical event, or a flush: commit at once.
    urgent: AtomicBool,
    /// The lanes sleep: the next emission must ring.
    parked: AtomicBool,
}

/// What the ledger holds, for status and for the decision to cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pending {
    /// Chunks sealed and not committed.
    pub sealed: usize,
    /// Events in the open chunk.
    pub open_events: usize,
    /// Bytes in the open chunk.
    pub open_bytes: usize,
    /// Since when the open chunk waits, ns of the boot-time clock.
    pub open_since_ns: i64,
    /// First sequence of the open chunk.
    pub open_first: u64,
    /// Admitted, uncommitted events in all.
    pub events: usize,
    /// Admitted, uncommitted bytes in all.
    pub bytes: usize,
}

impl Ledger {
    /// A ledger that goes on behind event `last`.
    pub fn new(last: u64, ids: IdIndex, streams: Streams) -> Self {
        let mut open = Chunk::default();
        open.reset(last + 1);
        Ledger {
            state: Mutex::new(State {
                gate: Gate::Open,
                open,
                sealed: VecDeque::new(),
                spare: Vec::new(),
                live_events: 0,
                live_bytes: 0,
                open_since_ns: 0,
            }),
            ids: Mutex::new(ids),
            streams,
            admitted: AtomicU64::new(last),
            wanted: AtomicU64::new(0),
            urgent: AtomicBool::new(false),
            parked: AtomicBool::new(true),
        }
    }

    /// The streams.
    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    /// Last sequence assigned.
    pub fn admitted(&self) -> u64 {
        self.admitted.load(Ordering::Acquire)
    }

    /// Admits all of `prepared`, or nothing. `same[i]` tells that the content of event `i` was compared with the stored
    /// event of its id and is the same.
    ///
    /// # Errors
    /// [`Refused`]; nothing changed.
    pub fn admit(
        &self,
        prepared: &Prepared,
        boot_ns: i64,
        durable: u64,
        same: &[bool],
    ) -> Result<Admitted, Refused> {
        if prepared.items.iter().all(|i| i.key.is_none()) {
            return self.admit_new(prepared, boot_ns, None).map(|first| Admitted { first, duplicate: false });
        }
        let mut ids = self.ids.lock();
        if let Some(first) = Self::known(&ids, prepared, durable, same)? {
            return Ok(Admitted { first, duplicate: true });
        }
        let first = self.admit_new(prepared, boot_ns, Some(&mut ids))?;
        Ok(Admitted { first, duplicate: false })
    }

    /// The first sequence, when all ids are known with this content; `None` when none is known.
    fn known(
        ids: &IdIndex,
        prepared: &Prepared,
        durable: u64,
        same: &[bool],
    ) -> Result<Option<u64>, Refused> {
        let mut first = None;
        let mut unknown = false;
        let mut seen = HashSet::new();
        for (index, item) in prepared.items.iter().enumerate() {
            let Some((id, digest)) = &item.key else {
                unknown = true;
                continue;
            };
            // Within one group, too, an id stands for one event.
            if prepared.items.len() > 1 && !seen.insert(*id) {
                return Err(Refused::Error(EmitError::Conflict { id: *id, sequence: 0 }));
            }
            let Some(known) = ids.find(id, durable).map_err(Refused::Read)? else {
                unknown = true;
                continue;
            };
            if known.digest != Some(*digest) && same.get(index) != Some(&true) {
                return Err(if known.sequence <= durable {
                    Refused::Compare { index, sequence: known.sequence }
                } else {
                    Refused::Error(EmitError::Conflict { id: *id, sequence: known.sequence })
                });
            }
            let start = known.sequence.saturating_sub(index as u64);
            if *first.get_or_insert(start) != start {
                return Err(Refused::Error(EmitError::GroupConflict));
            }
        }
        match (first, unknown) {
            (Some(_), true) => Err(Refused::Error(EmitError::GroupConflict)),
            (first, _) => Ok(first),
        }
    }

    fn admit_new(
        &self,
        prepared: &Prepared,
        boot_ns: i64,
        ids: Option<&mut IdIndex>,
    ) -> Result<u64, Refused> {
        let count = prepared.items.len();
        let bytes = prepared.bodies.len() + prepared.control_bytes.len() + count * (24 + 32);
        let mut state = self.state.lock();
        let state = &mut *state;
        match &state.gate {
            Gate::Open => {}
            Gate::StorageFull => return Err(Refused::Full),
            Gate::Closed => return Err(Refused::Error(EmitError::Closed)),
            Gate::Poisoned(cause) => return Err(Refused::Error(EmitError::Poisoned(cause.clone()))),
        }
        if count > BATCH_EVENTS_MAX || prepared.bodies.len() > BATCH_BYTES_MAX {
            let (what, actual, limit) = if count > BATCH_EVENTS_MAX {
                ("events in the group", count, BATCH_EVENTS_MAX)
            } else {
                ("bytes of the group", prepared.bodies.len(), BATCH_BYTES_MAX)
            };
            let limit = semj_storage::event::LimitExceeded { what, key: "type", actual, limit };
            return Err(Refused::Error(limit.into()));
        }
        if prepared.control_bytes.len() > CONTROL_BYTES_MAX || (count == 0 && !prepared.controls.is_empty()) {
            let what =
                if count == 0 { "control records without an event" } else { "bytes of control records" };
            let (actual, limit) =
                (prepared.control_bytes.len(), if count == 0 { 0 } else { CONTROL_BYTES_MAX });
            let limit = semj_storage::event::LimitExceeded { what, key: "type", actual, limit };
            return Err(Refused::Error(limit.into()));
        }
        let first = state.open.last_sequence() + 1;
        self.check_causes(prepared, first)?;
        self.streams.check_expected(prepared)?;
        if state.live_events + count > LEDGER_EVENTS_MAX || state.live_bytes + bytes > LEDGER_BYTES_MAX {
            return Err(Refused::Full);
        }
        let open = &state.open;
        if open.entries.len() + count > BATCH_EVENTS_MAX
            || open.bytes.len() + open.control_bytes.len() + bytes > BATCH_BYTES_MAX + count * 56
        {
            Self::seal_open(state);
        }
        if state.open.entries.is_empty() {
            state.open_since_ns = boot_ns;
        }
        state.open.entries.reserve(count);
        state.open.bytes.reserve(bytes);
        state.open.causes.reserve(prepared.causes.len());
        state.open.groups.reserve(1);
        state.open.controls.reserve(prepared.controls.len());
        state.open.control_bytes.reserve(prepared.control_bytes.len());
        // From here on nothing can fail: the sequences are taken.
        let start = state.open.entries.len() as u32;
        let mut control_start = state.open.control_bytes.len() as u32;
        let control_base = control_start;
        for (kind, end) in &prepared.controls {
            let control =
                Control { index: start, kind: *kind, start: control_start, end: control_base + end };
            control_start = control.end;
            state.open.controls.push(control);
        }
        state.open.control_bytes.extend_from_slice(&prepared.control_bytes);
        if count > 1 {
            state.open.groups.push((start, count as u32));
        }
        let mut body_start = 0usize;
        let mut local = self.streams.lock();
        for item in &prepared.items {
            let body = prepared.bodies.get(body_start..item.body_end as usize).unwrap_or_default();
            body_start = item.body_end as usize;
            let start = state.open.bytes.len() as u32;
            let keyed = if item.key.is_some() { FLAG_KEYED } else { 0 };
            let flags = keyed | if prepared.engine { FLAG_ENGINE } else { 0 };
            let local_sequence = local.next(item.stream);
            put_envelope(
                &mut state.open.bytes,
                flags,
                item.causes,
                body.len() as u32,
                local_sequence,
                boot_ns,
                item.key,
            );
            state.open.bytes.extend_from_slice(body);
            state.open.entries.push(Entry {
                start,
                end: state.open.bytes.len() as u32,
                causes: item.causes,
                type_bit: item.type_bit,
                time: item.time,
                boot_ns,
                id: item.key.map(|(id, _)| id),
            });
        }
        drop(local);
        state.open.causes.extend_from_slice(&prepared.causes);
        state.open.agents.iter_mut().zip(prepared.agents).for_each(|(a, b)| *a |= b);
        state.live_events += count;
        state.live_bytes += bytes;
        self.admitted.store(state.open.last_sequence(), Ordering::Release);
        if let Some(ids) = ids {
            for (item, sequence) in prepared.items.iter().zip(first..) {
                if let Some((id, digest)) = item.key {
                    ids.insert(id, sequence, digest);
                }
            }
        }
        Ok(first)
    }

    /// A cause by number must have been given before; one by id must not be the event's own.
    fn check_causes(&self, prepared: &Prepared, first: u64) -> Result<(), Refused> {
        let mut causes = prepared.causes.iter();
        for (item, sequence) in prepared.items.iter().zip(first..) {
            for cause in causes.by_ref().take(usize::from(item.causes)) {
                if matches!(cause, Cause::Sequence(n) if *n == 0 || *n >= sequence) {
                    return Err(Refused::Error(EmitError::Cycle { cause: *cause, sequence }));
                }
            }
        }
        Ok(())
    }

    fn seal_open(state: &mut State) {
        let next = state.open.last_sequence() + 1;
        let mut fresh = state.spare.pop().unwrap_or_default();
        fresh.reset(next);
        let full = std::mem::replace(&mut state.open, fresh);
        state.sealed.push_back(Arc::new(full));
    }

    /// Seals the open chunk, if it holds anything.
    pub fn seal(&self) {
        let mut state = self.state.lock();
        if !state.open.entries.is_empty() {
            Self::seal_open(&mut state);
        }
    }

    /// The sealed chunk that holds the event behind `after`. It may begin before it, where a part was committed already.
    pub fn sealed_after(&self, after: u64) -> Option<Arc<Chunk>> {
        let next = after + 1;
        let state = self.state.lock();
        state.sealed.iter().find(|c| (c.first_sequence..=c.last_sequence()).contains(&next)).cloned()
    }

    /// The last sequence of the first half of a span that lies in one sealed chunk; see [`Chunk::middle`].
    pub fn middle(&self, first: u64, last: u64) -> Option<u64> {
        self.sealed_after(first.checked_sub(1)?)?.middle(first..=last)
    }

    /// The ids of refused events are free again: nothing was stored under them.
    pub fn forget_refused(&self, chunk: &Chunk) {
        let mut ids = self.ids.lock();
        chunk.entries.iter().filter_map(|e| e.id).for_each(|id| ids.remove(&id));
    }

    /// The given id of an uncommitted event: `Some(None)` where its caller gave none, `None` when it is not here.
    pub fn id_of(&self, sequence: u64) -> Option<Option<uuid::Uuid>> {
        let state = self.state.lock();
        let chunks = state.sealed.iter().map(Arc::as_ref).chain([&state.open]);
        let chunk =
            chunks.into_iter().find(|c| (c.first_sequence..=c.last_sequence()).contains(&sequence))?;
        chunk.entries.get((sequence - chunk.first_sequence) as usize).map(|e| e.id)
    }

    /// What is waiting.
    pub fn pending(&self) -> Pending {
        let state = self.state.lock();
        Pending {
            sealed: state.sealed.len(),
            open_events: state.open.entries.len(),
            open_bytes: state.open.bytes.len(),
            open_since_ns: state.open_since_ns,
            open_first: state.open.first_sequence,
            events: state.live_events,
            bytes: state.live_bytes,
        }
    }

    /// Events up to `through` are committed: their room is free again.
    pub fn release(&self, through: u64) {
        let mut released = Vec::new();
        {
            let mut state = self.state.lock();
            while state.sealed.front().is_some_and(|c| c.last_sequence() <= through) {
                if let Some(chunk) = state.sealed.pop_front() {
                    state.live_events -= chunk.entries.len();
                    let keys = chunk.entries.iter().filter(|e| e.id.is_none()).count();
                    state.live_bytes = state
                        .live_bytes
                        .saturating_sub(chunk.bytes.len() + chunk.control_bytes.len() + keys * 32);
                    released.push(chunk);
                }
            }
        }
        for chunk in released {
            if let Ok(chunk) = Arc::try_unwrap(chunk) {
                let mut state = self.state.lock();
                if state.spare.len() < 3 {
                    state.spare.push(chunk);
                }
            }
        }
    }

    /// Opens, closes or poisons the way in; poison and closing are final.
    pub fn set_gate(&self, gate: Gate) {
        let mut state = self.state.lock();
        match (&state.gate, &gate) {
            (Gate::Poisoned(_), _) | (Gate::Closed, Gate::Open | Gate::StorageFull) => {}
            _ => state.gate = gate,
        }
    }

    /// Whether and why nothing is admitted.
    pub fn gate(&self) -> Gate {
        self.state.lock().gate.clone()
    }

    /// Somebody waits for this event.
    pub fn want(&self, sequence: u64) {
        self.wanted.fetch_max(sequence, Ordering::AcqRel);
    }

    /// Highest sequence somebody waits for.
    pub fn wanted(&self) -> u64 {
        self.wanted.load(Ordering::Acquire)
    }

    /// Commit at once.
    pub fn set_urgent(&self) {
        self.urgent.store(true, Ordering::Release);
    }

    /// Whether to commit at once; asking clears it.
    pub fn take_urgent(&self) -> bool {
        self.urgent.swap(false, Ordering::AcqRel)
    }

    /// The lanes go to sleep, or wake up.
    pub fn set_parked(&self, parked: bool) {
        self.parked.store(parked, Ordering::SeqCst);
    }

    /// Whether the lanes sleep, without changing it.
    #[inline]
    pub fn is_parked(&self) -> bool {
        self.parked.load(Ordering::SeqCst)
    }

    /// Whether the caller is the one who must wake the sleeping lanes.
    pub fn claim_wake(&self) -> bool {
        self.parked.swap(false, Ordering::SeqCst)
    }

    /// Events up to `through` lie in sealed segments: their ids need no memory any more.
    pub fn forget_ids(&self, through: u64) {
        self.ids.lock().forget(through);
    }

    /// The id and sequence a cause stands for, among events before `before`.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn find_id(&self, id: &uuid::Uuid, durable: u64) -> Result<Option<Known>, ReadError> {
        self.ids.lock().find(id, durable)
    }
}
