//! Finding the events that carry references, with an index or without.

use super::EventSource;
use super::windows::unreadable;
use crate::error::{Damage, ReadError};
use crate::event::Recorded;
use crate::limits::CHUNK_EVENTS;
use crate::log::entry::EntryRef;
use crate::trees::{Bits, ChunkView, Index, Kind, TreeError, Wanted, chunk_first, chunk_of, fingerprint};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use uuid::Uuid;

/// From this many ids on, looking at a whole chunk is cheaper than looking each of them up.
const LOOKUPS_MAX: usize = 64;
/// Most links with an effect of their own that a walk keeps in memory.
const EFFECTS_MAX: usize = 65_536;

/// Decides on an entry; `None`: its body does not decode.
type Look<'a> = dyn FnMut(&EntryRef<'_>) -> Option<ControlFlow<()>> + 'a;

/// Reads for a walk: damage is noted, and the walk goes on without what is lost.
pub(super) struct Reader<'a> {
    source: &'a dyn EventSource,
    index: Option<&'a Index>,
    /// What there was when the walk began.
    last: u64,
    pub(super) damage: Option<Damage>,
    pub(super) truncated: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a dyn EventSource, index: Option<&'a Index>) -> Self {
        Self { source, index, last: source.last_sequence(), damage: None, truncated: false }
    }

    pub(super) fn first(&self) -> u64 {
        self.source.first_sequence().max(1)
    }

    pub(super) fn last(&self) -> u64 {
        self.last
    }

    fn note(&mut self, damage: Damage) {
        self.damage.get_or_insert(damage);
    }

    /// The event a walk starts from; damage there is an error.
    pub(super) fn start(&mut self, sequence: u64) -> Result<Option<Recorded>, ReadError> {
        let event = self.event(sequence)?;
        match self.damage.take() {
            Some(damage) if event.is_none() => Err(damage.into()),
            _ => Ok(event),
        }
    }

    /// One event; `None` where there is none or it is lost.
    pub(super) fn event(&mut self, sequence: u64) -> Result<Option<Recorded>, ReadError> {
        let mut found = None;
        if sequence >= self.first() && sequence <= self.last {
            self.scan(sequence, sequence, &mut |entry| {
                if !entry.is_tombstone() {
                    found = Some(entry.recorded(entry.event()?));
                }
                Some(ControlFlow::Break(()))
            })?;
        }
        Ok(found)
    }

    /// Shows `look` each entry of a range that can be read.
    pub(super) fn scan(&mut self, first: u64, last: u64, look: &mut Look<'_>) -> Result<(), ReadError> {
        let mut next = first;
        while next <= last {
            let (mut bad, mut stopped) = (Vec::new(), false);
            let read = self.source.read(next, last, &mut |entry| {
                next = entry.sequence + 1;
                let flow = look(entry).unwrap_or_else(|| {
                    // The first one is all that is reported.
                    if bad.is_empty() {
                        bad.push(entry.sequence);
                    }
                    ControlFlow::Continue(())
                });
                stopped = flow.is_break();
                flow
            });
            bad.into_iter().for_each(|sequence| self.note(unreadable(sequence)));
            match read {
                Err(ReadError::Damaged(damage)) => {
                    next = if damage.last_sequence < next { last } else { damage.last_sequence } + 1;
                    self.note(*damage);
                }
                other => return other,
            }
            if stopped {
                break;
            }
        }
        Ok(())
    }

    /// Where a chunk refers to one of these ids; `None`: look at all of it.
    pub(super) fn places<'i>(
        &self,
        chunk: u64,
        kind: Kind,
        ids: impl ExactSizeIterator<Item = &'i Uuid>,
    ) -> Option<Bits> {
        if ids.len() > LOOKUPS_MAX {
            return None;
        }
        let wanted = ids.map(|id| Wanted::Exact(fingerprint(id).to_vec())).collect::<Vec<_>>();
        self.indexed(chunk, |view, places| wanted.iter().try_for_each(|w| view.lookup(kind, w, places)))
    }

    /// What an index knows of a chunk, and what it does not know.
    fn indexed(
        &self,
        chunk: u64,
        look: impl FnOnce(&dyn ChunkView, &mut Bits) -> Result<(), TreeError>,
    ) -> Option<Bits> {
        self.index?.with_chunk(chunk, |view| {
            // Neither unread places nor those behind the index are known to be free of references.
            let mut places = Bits::FULL;
            places.subtract(&Bits::first(view.meta().events));
            places.union(&view.meta().unread);
            look(view, &mut places)?;
            Ok(places)
        })
    }

    /// For each event that a link of another one names as its effect: the carriers of such links.
    pub(super) fn carriers_of_effects(&mut self) -> Result<BTreeMap<u64, Vec<u64>>, ReadError> {
        let mut carriers: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        let (mut next, mut count) = (self.first(), 0);
        while next <= self.last && count < EFFECTS_MAX {
            let chunk = chunk_of(next);
            let last = self.last.min(chunk_first(chunk) + CHUNK_EVENTS - 1);
            let any = Wanted::Prefix(Vec::new());
            let places = self.indexed(chunk, |view, places| view.lookup(Kind::Effect, &any, places));
            let runs = places.map_or_else(|| vec![(0, u16::MAX)], |places| places.runs(8));
            for (a, b) in runs {
                let start = chunk_first(chunk);
                let (a, b) = (next.max(start + u64::from(a)), last.min(start + u64::from(b)));
                self.scan(a, b, &mut |entry| {
                    // A link with an effect needs two references.
                    if entry.causes().nth(1).is_some() {
                        let carrier = entry.recorded(entry.event()?);
                        for (_, _, effect) in carrier.links() {
                            if let Some(effect) = effect.and_then(|e| e.sequence) {
                                carriers.entry(effect).or_default().push(carrier.sequence);
                                count += 1;
                            }
                        }
                    }
                    Some(ControlFlow::Continue(()))
                })?;
            }
            next = last + 1;
        }
        self.truncated |= count >= EFFECTS_MAX;
        carriers.values_mut().for_each(Vec::dedup);
        Ok(carriers)
    }
}
