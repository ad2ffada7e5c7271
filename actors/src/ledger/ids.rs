//! Ids given by callers: the key to "exactly once".

use semj_storage::error::ReadError;
use semj_storage::log::Segments;
use std::collections::HashMap;
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
}

impl IdIndex {
    /// An index over the record up to `in_record`, and nothing admitted yet.
    pub fn new(segments: Arc<Segments>, in_record: u64) -> Self {
        IdIndex { recent: HashMap::new(), segments, in_record }
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
            // An id this journal made itself: the event that has it, if any, is named by it.
            if derived <= durable && self.segments.has_id(derived, id)? {
                return Ok(Some(Known { sequence: derived, digest: None }));
            }
        }
        let Some(sequence) = self.segments.find_given_id(id, self.in_record)? else { return Ok(None) };
        Ok(Some(Known { sequence, digest: self.segments.digest_of(sequence)? }))
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
