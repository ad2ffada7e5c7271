//! The index as queries and the indexer share it: trees for complete chunks, memory for the one in progress.

use super::{ChunkPostings, ChunkView, Cursor, TreeError, Trees};
use crate::error::ReadError;
use crate::event::Event;
use crate::limits::CHUNK_EVENTS;
use crate::log::entry::EntryRef;
use crate::query::EventSource;
use parking_lot::RwLock;
use sha2::{Digest, Sha256};
use std::ops::ControlFlow;
use std::sync::Arc;

/// The chunk a sequence belongs to.
pub const fn chunk_of(sequence: u64) -> u64 {
    sequence.saturating_sub(1) / CHUNK_EVENTS
}

/// The first sequence of a chunk.
pub const fn chunk_first(chunk: u64) -> u64 {
    chunk * CHUNK_EVENTS + 1
}

/// A sequence's place within its chunk.
pub const fn offset_of(sequence: u64) -> u16 {
    (sequence.saturating_sub(1) % CHUNK_EVENTS) as u16
}

/// What an entry looks like, as proof that trees belong to the record that holds it.
pub(super) fn digest_of(entry: &EntryRef<'_>) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"semj trees witness 1");
    hash.update(entry.sequence.to_le_bytes());
    hash.update(entry.local_sequence.to_le_bytes());
    hash.update(entry.boot_ns.to_le_bytes());
    hash.update([entry.flags]);
    hash.update(entry.id().as_bytes());
    hash.update(entry.unit.id_nonce.to_le_bytes());
    hash.update(entry.unit.recorded.0.to_le_bytes());
    hash.update((entry.body.len() as u64).to_le_bytes());
    hash.update(entry.body);
    hash.update(entry.references);
    hash.finalize().into()
}

#[derive(Debug, Default)]
struct State {
    trees: Option<Arc<Trees>>,
    /// Chunks before this one are not in the trees.
    first_chunk: u64,
    /// The chunk that follows those in the trees; shared while it is being written to them.
    current: Option<Arc<ChunkPostings>>,
    /// Changes whenever trees come or go: a step that began before must not add to what came after.
    epoch: u64,
    /// Trees that failed. They are dropped by whoever rebuilds, because dropping them calls into sled again.
    failed: Vec<Arc<Trees>>,
    failure: Option<TreeError>,
}

impl State {
    fn fail(&mut self, error: TreeError) {
        if let Some(trees) = self.trees.take() {
            self.failed.push(trees);
            self.epoch += 1;
            self.current = None;
            self.failure = Some(error);
        }
    }
}

/// A handle on the index. Whatever happens to the trees, a query goes on without them.
#[derive(Debug, Default)]
pub struct Index {
    state: RwLock<State>,
}

/// Where the indexer goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Position {
    pub(super) epoch: u64,
    pub(super) next: u64,
    /// The chunk in progress is complete and waits to be written.
    pub(super) complete: bool,
}

impl Index {
    /// An index without trees: every query scans.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes trees into use after checking that they belong to `source`. Answers up to where they go.
    ///
    /// # Errors
    /// `Stale` and other errors of the trees mean: set them aside and install empty ones.
    pub fn install(&self, trees: Trees, source: &dyn EventSource) -> Result<u64, TreeError> {
        let cursor = trees.cursor()?;
        let last = match cursor {
            Some(cursor) => {
                check(&cursor, source)?;
                cursor.sequence
            }
            None => 0,
        };
        // Chunks that retention removed altogether are passed over.
        let chunk = (last / CHUNK_EVENTS).max(chunk_of(source.first_sequence()));
        let is_gapless = last > 0 && chunk == last / CHUNK_EVENTS;
        crate::chaos::point("trees:install");
        let mut state = self.state.write();
        state.epoch += 1;
        state.first_chunk = if is_gapless { 0 } else { chunk };
        let old = state.trees.replace(Arc::new(trees));
        state.failed.extend(old);
        state.current = Some(Arc::new(ChunkPostings::new(chunk)));
        state.failure = None;
        Ok(last)
    }

    /// Takes the trees out of use; queries scan from now on, and a rebuild is due.
    pub fn fail(&self, error: TreeError) {
        self.state.write().fail(error);
    }

    /// Why the trees went out of use; `None` while they are in use or were never there.
    pub fn failure(&self) -> Option<String> {
        self.state.read().failure.as_ref().map(ToString::to_string)
    }

    /// Whether the trees failed and must be rebuilt.
    pub fn needs_rebuild(&self) -> bool {
        self.state.read().failure.is_some()
    }

    /// Trees that failed, to be dropped on a thread that may hang.
    pub fn take_failed(&self) -> Vec<Arc<Trees>> {
        std::mem::take(&mut self.state.write().failed)
    }

    /// Whether trees are in use.
    pub fn has_trees(&self) -> bool {
        self.state.read().trees.is_some()
    }

    /// The last sequence that was indexed; 0 without trees.
    pub fn indexed_sequence(&self) -> u64 {
        self.state.read().current.as_ref().map_or(0, |c| c.next_sequence() - 1)
    }

    /// Lets `look` look into a chunk. `None`: the chunk is not indexed here, scan it.
    ///
    /// An error of the trees ends their use and answers `None` as well.
    pub fn with_chunk<T>(
        &self,
        chunk: u64,
        look: impl FnOnce(&dyn ChunkView) -> Result<T, TreeError>,
    ) -> Option<T> {
        let (trees, epoch) = {
            let state = self.state.read();
            let current = state.current.as_ref()?;
            if chunk == current.chunk() {
                // A look-up in memory cannot fail.
                return look(current.as_ref()).ok();
            }
            if chunk > current.chunk() || chunk < state.first_chunk {
                return None;
            }
            (Arc::clone(state.trees.as_ref()?), state.epoch)
        };
        match trees.chunk(chunk).and_then(|stored| look(&stored)) {
            Ok(found) => Some(found),
            Err(error) => {
                // Newer trees are not to blame.
                let mut state = self.state.write();
                if state.epoch == epoch {
                    state.fail(error);
                }
                None
            }
        }
    }

    #[cfg(test)]
    pub(super) fn trees_for_test(&self) -> Arc<Trees> {
        Arc::clone(self.state.read().trees.as_ref().unwrap())
    }

    pub(super) fn position(&self) -> Option<Position> {
        let state = self.state.read();
        let current = state.current.as_ref()?;
        Some(Position { epoch: state.epoch, next: current.next_sequence(), complete: current.is_complete() })
    }

    /// Changes the chunk in progress, unless trees came or went since `at` was taken.
    fn update(&self, at: Position, change: impl FnOnce(&mut ChunkPostings)) -> bool {
        let mut state = self.state.write();
        let is_same = state.epoch == at.epoch;
        match &mut state.current {
            Some(current) if is_same => {
                // Nobody else holds it while it grows, so this never copies.
                change(Arc::make_mut(current));
                true
            }
            _ => false,
        }
    }

    pub(super) fn add(&self, at: Position, entry: &EntryRef<'_>, event: Option<&Event<'_>>) -> bool {
        self.update(at, |current| match event {
            Some(event) => current.add(entry, event),
            None => current.add_bare(entry),
        })
    }

    pub(super) fn skip_to(&self, at: Position, sequence: u64) -> bool {
        self.update(at, |current| current.skip_to(sequence))
    }

    /// Writes the chunk in progress to the trees when it is complete, and begins the next one.
    pub(super) fn finish_chunk(&self, at: Position, witness: Option<(u64, [u8; 32])>) {
        let (trees, current) = {
            let state = self.state.read();
            match (&state.trees, &state.current) {
                (Some(trees), Some(current)) if state.epoch == at.epoch && current.is_complete() => {
                    (Arc::clone(trees), Arc::clone(current))
                }
                _ => return,
            }
        };
        let (witness, digest) = witness.unwrap_or((0, [0; 32]));
        let applied =
            trees.apply(&current, Cursor { sequence: current.next_sequence() - 1, witness, digest });
        let mut state = self.state.write();
        if state.epoch == at.epoch {
            match applied {
                Ok(()) => state.current = Some(Arc::new(ChunkPostings::new(current.chunk() + 1))),
                Err(error) => state.fail(error),
            }
        }
    }
}

/// Checks that trees up to `cursor` were made from `source`.
fn check(cursor: &Cursor, source: &dyn EventSource) -> Result<(), TreeError> {
    if cursor.sequence > source.last_sequence() {
        return Err(TreeError::Stale { reason: "they go further than the record" });
    }
    if cursor.witness == 0 {
        return Ok(());
    }
    let mut seen = None;
    let read = source.read(cursor.witness, cursor.witness, &mut |entry| {
        seen = Some(digest_of(entry));
        ControlFlow::Break(())
    });
    match (read, seen) {
        (_, Some(digest)) if digest == cursor.digest => Ok(()),
        (Err(ReadError::Retained { .. }), None) => {
            Err(TreeError::Stale { reason: "their witness was removed" })
        }
        _ => Err(TreeError::Stale { reason: "the record holds another event where they end" }),
    }
}
