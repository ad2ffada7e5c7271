//! Derives the index from the record, a bounded step at a time.

use super::index::{Position, digest_of};
use super::{Index, chunk_first, chunk_of};
use crate::error::ReadError;
use crate::limits::CHUNK_EVENTS;
use crate::query::EventSource;
use std::ops::ControlFlow;
use std::sync::Arc;

/// What one step did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// The last sequence that is indexed now.
    pub indexed: u64,
    /// The last sequence there is.
    pub target: u64,
    /// How many sequences this step took in.
    pub taken: u64,
    /// Whether trees are in use; without them there is nothing to do but to rebuild.
    pub has_trees: bool,
}

impl Progress {
    /// Whether another step has nothing to do.
    pub fn is_caught_up(&self) -> bool {
        !self.has_trees || self.indexed >= self.target
    }
}

/// The logic of the indexer: no thread, no clock, and nothing to lose but a few events' work.
#[derive(Debug)]
pub struct IndexCore {
    index: Arc<Index>,
    /// The last event that could be read in this chunk or before, and what it looked like.
    witness: Option<(u64, [u8; 32])>,
}

impl IndexCore {
    /// An indexer that goes on where the index ends.
    pub fn new(index: Arc<Index>) -> Self {
        Self { index, witness: None }
    }

    /// The index it feeds.
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// Takes in up to `budget_events` more sequences. Ranges that cannot be trusted are noted as unread.
    ///
    /// # Errors
    /// When the record cannot be read for another reason than damage; the index stays as far as it got.
    pub fn step(&mut self, source: &dyn EventSource, budget_events: u64) -> Result<Progress, ReadError> {
        let target = source.last_sequence();
        let mut left = budget_events;
        let mut taken = 0;
        while let Some(at) = self.index.position() {
            if at.complete {
                // A failure takes the trees out of use, which ends this loop.
                self.finish(source, at);
                continue;
            }
            if left == 0 || at.next > target {
                break;
            }
            let chunk_last = chunk_first(chunk_of(at.next)) + CHUNK_EVENTS - 1;
            let first = at.next.max(source.first_sequence()).min(chunk_last + 1);
            let last = target.min(chunk_last).min(first.saturating_add(left - 1));
            if first > at.next && !self.index.skip_to(at, first) {
                continue;
            }
            if first <= last {
                self.take_in(source, at, first, last)?;
            }
            let done = self.index.position().map_or(0, |now| now.next.saturating_sub(at.next)).max(1);
            taken += done;
            left = left.saturating_sub(done);
        }
        let (indexed, has_trees) = (self.index.indexed_sequence(), self.index.has_trees());
        Ok(Progress { indexed, target, taken, has_trees })
    }

    /// Reads `first..=last` into the chunk in progress.
    fn take_in(
        &mut self,
        source: &dyn EventSource,
        at: Position,
        first: u64,
        last: u64,
    ) -> Result<(), ReadError> {
        let mut next = first;
        while next <= last {
            let mut newest = None;
            let read = source.read(next, last, &mut |entry| {
                let event = if entry.is_tombstone() { None } else { entry.event() };
                if !self.index.add(at, entry, event.as_ref()) {
                    return ControlFlow::Break(());
                }
                // Only what may stand at the end of a chunk is worth a digest.
                newest = Some(entry.sequence);
                if entry.sequence == last {
                    self.witness = Some((entry.sequence, digest_of(entry)));
                }
                ControlFlow::Continue(())
            });
            let seen = newest.map_or(next, |n| n + 1);
            match read {
                // Whatever the source left out without a word is noted as unread, too.
                Ok(()) => next = last + 1,
                Err(ReadError::Damaged(damage)) => {
                    // Damage that names no event ends the range: there is no place to go on from.
                    next = if damage.last_sequence >= seen { damage.last_sequence + 1 } else { last + 1 };
                }
                Err(other) => return Err(other),
            }
            if !self.index.skip_to(at, next.min(last + 1)) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Writes the chunk in progress, which is complete, to the trees.
    fn finish(&mut self, source: &dyn EventSource, at: Position) {
        let last = at.next - 1;
        if self.witness.is_none_or(|(sequence, _)| sequence != last) {
            self.witness = find_witness(source, last);
        }
        self.index.finish_chunk(at, self.witness);
    }
}

/// The last event of the chunk that ends at `last` which can be read.
fn find_witness(source: &dyn EventSource, last: u64) -> Option<(u64, [u8; 32])> {
    let mut witness = None;
    let mut next = chunk_first(chunk_of(last)).max(source.first_sequence());
    while next <= last {
        let read = source.read(next, last, &mut |entry| {
            witness = Some((entry.sequence, digest_of(entry)));
            ControlFlow::Continue(())
        });
        next = match read {
            Err(ReadError::Damaged(damage)) if damage.last_sequence >= next => damage.last_sequence + 1,
            _ => break,
        };
    }
    witness
}
