//! Finding events by id and by stream, and the footers that make it quick.

use super::entry::derived_sequence;
use super::idset::{IdSet, fingerprint};
use super::reader::{Segment, Segments, find_footer, read_exact};
use super::seal::{Sealing, is_sealed, seal_segment};
use super::walk::Walk;
use crate::error::ReadError;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use uuid::Uuid;

/// The id sets of a sealed segment, and where in the file they start.
#[derive(Debug)]
pub(super) struct FooterSets {
    ids: (u64, IdSet),
    pub(super) streams: (u64, IdSet),
}

/// Ids and streams of an unsealed segment.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Collected up to this event.
    through: u64,
    ids: HashMap<Uuid, u64>,
    streams: HashMap<Box<[u8]>, u64>,
}

impl Segments {
    /// The id sets of a sealed segment; `None` where it is not sealed, or they cannot be trusted.
    fn sets(&self, segment: &Segment) -> Result<Option<Arc<FooterSets>>, ReadError> {
        let mut sets = segment.sets.lock();
        if sets.is_none() {
            let file = self.file(segment)?;
            let io = |e| ReadError::io(&segment.path, "read the footer", e);
            let walk = Walk { file: file.as_ref(), len: file.len().map_err(io)?, journal: self.journal };
            if let Some((footer, _)) = find_footer(&walk).map_err(io)? {
                let open = |(at, length, _): (u64, u64, u32)| {
                    IdSet::open(&|o, n| read_exact(file.as_ref(), at + o, n), length)
                        .ok()
                        .map(|set| (at, set))
                };
                if let (Some(ids), Some(streams)) = (open(footer.sections[1]), open(footer.sections[2])) {
                    *sets = Some(Arc::new(FooterSets { ids, streams }));
                }
            }
        }
        Ok(sets.clone())
    }

    /// Events of a sealed segment that a set names for a fingerprint; `None` where only reading all of it would tell.
    pub(super) fn named_by(
        &self,
        segment: &Segment,
        which: impl Fn(&FooterSets) -> &(u64, IdSet),
        name: &[u8],
    ) -> Result<Option<Vec<u64>>, ReadError> {
        let Some(sets) = self.sets(segment)? else { return Ok(None) };
        let (at, set) = which(&sets);
        let fingerprint = fingerprint(name);
        if !set.may_contain(fingerprint) {
            return Ok(Some(Vec::new()));
        }
        let file = self.file(segment)?;
        let found = set.lookup(&|o, n| read_exact(file.as_ref(), at + o, n), fingerprint);
        Ok(found.ok().map(|places| places.into_iter().map(|p| segment.first + u64::from(p)).collect()))
    }

    /// How many events a stream holds among those up to `last`, as its last one there tells.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn stream_count(&self, name: &[u8], last: u64) -> Result<u64, ReadError> {
        let list = self.list.read().clone();
        let mut end = last;
        for segment in list.iter().rev() {
            if segment.first > end {
                continue;
            }
            let mut count = 0;
            match self.named_by(segment, |s| &s.streams, name)? {
                Some(sequences) => {
                    for sequence in sequences.into_iter().filter(|s| *s <= end) {
                        self.read_past_damage(sequence, sequence, &mut |entry| {
                            if entry.event().is_some_and(|e| e.stream_or_default() == name) {
                                count = count.max(entry.local_sequence);
                            }
                        })?;
                    }
                }
                None => {
                    let mut names = segment.names.lock();
                    self.collect(segment, end, &mut names)?;
                    count = names.streams.get(name).copied().unwrap_or(0);
                }
            }
            if count > 0 {
                return Ok(count);
            }
            end = segment.first - 1;
        }
        Ok(0)
    }

    /// The segments up to the one that holds `last` which have no seal, in order: first and last sequence of each.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn unsealed(&self, last: u64) -> Result<Vec<(u64, u64)>, ReadError> {
        let firsts = self.firsts();
        let mut found = Vec::new();
        for (at, first) in firsts.iter().enumerate().filter(|(_, first)| **first <= last) {
            if !is_sealed(self.backend.as_ref(), &self.folder, self.journal, *first)? {
                found.push((*first, firsts.get(at + 1).map_or(last, |next| last.min(next - 1))));
            }
        }
        Ok(found)
    }

    /// Seals a finished segment and forgets what was remembered of it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn seal(&self, first: u64, last: u64, now_ns: i64) -> Result<Sealing, ReadError> {
        let sealed = seal_segment(self.backend.as_ref(), &self.folder, self.journal, first, last, now_ns)?;
        if sealed == Sealing::Sealed {
            self.forget(first);
        }
        Ok(sealed)
    }

    /// Looks an id up in one segment: in its set where it is sealed, else by collecting the ids of all its events.
    fn id_in(&self, segment: &Segment, last: u64, id: &Uuid) -> Result<Option<u64>, ReadError> {
        if let Some(sequences) = self.named_by(segment, |s| &s.ids, id.as_bytes())? {
            for sequence in sequences.into_iter().filter(|s| *s <= last) {
                if self.has_id(sequence, id)? {
                    return Ok(Some(sequence));
                }
            }
            return Ok(None);
        }
        let mut names = segment.names.lock();
        self.collect(segment, last, &mut names)?;
        Ok(names.ids.get(id).copied().filter(|s| *s <= last))
    }

    /// Reads an unsealed segment up to `last` for the ids and streams of its events.
    fn collect(&self, segment: &Segment, last: u64, names: &mut Names) -> Result<(), ReadError> {
        let from = names.through.max(segment.first - 1) + 1;
        if from > last {
            return Ok(());
        }
        let Names { ids, streams, .. } = names;
        self.read_past_damage(from, last, &mut |entry| {
            if let Some(given) = entry.given_id {
                ids.insert(given, entry.sequence);
            }
            if let Some(event) = entry.event() {
                let name = event.stream_or_default();
                match streams.get_mut(name) {
                    Some(count) => *count = entry.local_sequence,
                    None => drop(streams.insert(name.into(), entry.local_sequence)),
                }
            }
        })?;
        names.through = last;
        Ok(())
    }

    /// Reads what is not sealed, so that later look-ups need not.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn collect_unsealed(&self, unsealed: &[(u64, u64)]) -> Result<(), ReadError> {
        let list = self.list.read().clone();
        for (first, last) in unsealed {
            if let Some(segment) = list.iter().find(|s| s.first == *first) {
                self.collect(segment, *last, &mut segment.names.lock())?;
            }
        }
        Ok(())
    }

    /// Whether event `sequence`, which must be durable, has this id.
    ///
    /// # Errors
    /// When the record cannot be read; damage counts as "no".
    pub fn has_id(&self, sequence: u64, id: &Uuid) -> Result<bool, ReadError> {
        let mut same = false;
        let read = self.read(sequence, sequence, &mut |entry| {
            same = entry.id() == *id;
            ControlFlow::Continue(())
        });
        match read {
            Err(e) if !e.is_damage() => Err(e),
            _ => Ok(same),
        }
    }

    /// The digest of the content of an event whose caller gave its id; `None` for others, and where damage hides it.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn digest_of(&self, sequence: u64) -> Result<Option<[u8; 16]>, ReadError> {
        let mut digest = None;
        let read = self.read(sequence, sequence, &mut |entry| {
            digest = entry.given_id.map(|_| entry.digest);
            ControlFlow::Continue(())
        });
        match read {
            Err(e) if !e.is_damage() => Err(e),
            _ => Ok(digest),
        }
    }

    /// The event whose caller gave it this id, among those up to `last`.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn find_given_id(&self, id: &Uuid, last: u64) -> Result<Option<u64>, ReadError> {
        let list = self.list.read().clone();
        let mut end = last;
        for segment in list.iter().rev() {
            if segment.first <= end {
                if let Some(sequence) = self.id_in(segment, end, id)? {
                    return Ok(Some(sequence));
                }
                end = segment.first - 1;
            }
        }
        Ok(None)
    }

    /// The event with this id, given or derived, among those up to `last`.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn find_id(&self, id: &Uuid, last: u64) -> Result<Option<u64>, ReadError> {
        if let Some(sequence) = derived_sequence(id).filter(|s| (1..=last).contains(s))
            && self.has_id(sequence, id)?
        {
            return Ok(Some(sequence));
        }
        self.find_given_id(id, last)
    }
}
