//! Ids given by callers: the key to "exactly once".

use semj_storage::error::ReadError;
use semj_storage::log::Segments;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use uuid::Uuid;

/// What is known of an id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Known {
    /// The event that has it.
    pub sequence: u64,
    /// Digest of its content; `None` where only the record can tell.
    pub digest: Option<[u8; 16]>,
}

/// The index of ids: those of this process's life and of unsealed segments in memory, the rest in the record.
#[derive(Debug)]
pub struct IdIndex {
    recent: HashMap<Uuid, Known>,
    segments: Arc<Segments>,
    /// Events up to here are looked up in the record when `recent` does not know them.
    in_record: u64,
    openings: RefCell<Openings>,
}

/// Whose derived ids the events have: each opening of a journal has a nonce of its own, and its events are one range. First
/// and last event seen of a range, and the upper half of its derived ids.
#[derive(Debug, Default)]
struct Openings(Vec<(u64, u64, u64)>);

impl Openings {
    fn find(&self, sequence: u64) -> Option<u64> {
        self.0.iter().find(|(first, last, _)| (*first..=*last).contains(&sequence)).map(|(_, _, high)| *high)
    }

    fn learn(&mut self, sequence: u64, high: u64) {
        match self.0.iter_mut().find(|(_, _, known)| *known == high) {
            Some((first, last, _)) => (*first, *last) = ((*first).min(sequence), (*last).max(sequence)),
            None => self.0.push((sequence, sequence, high)),
        }
    }
}

impl IdIndex {
    /// An index over the record up to `in_record`, and nothing admitted yet.
    pub fn new(segments: Arc<Segments>, in_record: u64) -> Self {
        IdIndex { recent: HashMap::new(), segments, in_record, openings: RefCell::default() }
    }

    /// Looks an id up.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn find(&self, id: &Uuid, durable: u64) -> Result<Option<Known>, ReadError> {
        if let Some(known) = self.recent.get(id) {
            return Ok(Some(*known));
        }
        if let Some(derived) = semj_storage::log::entry::derived_sequence(id) {
            // An id this journal made itself: the event that has it, if any, is named by it. Ids of kernel records look alike.
            if derived <= durable
                && self.upper_half(derived)? == Some(id.as_u64_pair().0)
                && self.segments.has_id(derived, id)?
            {
                return Ok(Some(Known { sequence: derived, digest: None }));
            }
        }
        let Some(sequence) = self.segments.find_given_id(id, self.in_record)? else { return Ok(None) };
        Ok(Some(Known { sequence, digest: self.segments.digest_of(sequence)? }))
    }

    /// The upper half of the id that event `sequence` has if its caller gave none; `None` where damage hides it.
    fn upper_half(&self, sequence: u64) -> Result<Option<u64>, ReadError> {
        if let Some(high) = self.openings.borrow().find(sequence) {
            return Ok(Some(high));
        }
        let mut high = None;
        let read = self.segments.read(sequence, sequence, &mut |entry| {
            high = Some(entry.unit.derived_id(sequence).as_u64_pair().0);
            ControlFlow::Continue(())
        });
        match read {
            Err(e) if !e.is_damage() => return Err(e),
            _ => {}
        }
        if let Some(high) = high {
            self.openings.borrow_mut().learn(sequence, high);
        }
        Ok(high)
    }

    /// Ids of events up to `through` are found in the record as quickly: their memory is free again.
    pub fn forget(&mut self, through: u64) {
        self.recent.retain(|_, known| known.sequence > through);
        self.in_record = self.in_record.max(through);
    }

    /// The event of this id was refused.
    pub fn remove(&mut self, id: &Uuid) {
        self.recent.remove(id);
    }

    /// Notes the id of an event just admitted.
    pub fn insert(&mut self, id: Uuid, sequence: u64, digest: [u8; 16]) {
        self.recent.insert(id, Known { sequence, digest: Some(digest) });
    }
}
