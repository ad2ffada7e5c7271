//! Finished segments that wait for their seal: footer and closing hash, made off the persist lane.

use parking_lot::{Mutex, MutexGuard};
use semj_storage::error::ReadError;
use semj_storage::log::{Sealing, Segments};
use std::collections::VecDeque;
use std::time::Duration;

#[derive(Debug, Default)]
struct State {
    /// First and last sequence of each finished segment.
    waiting: VecDeque<(u64, u64)>,
    /// First sequence of the segment being written.
    writing: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Sealer {
    state: Mutex<State>,
    /// Held while a segment is sealed, and while the record is recovered.
    working: Mutex<()>,
}

impl Sealer {
    /// Segments that an earlier owner left without a seal.
    pub fn inherit(&self, unsealed: Vec<(u64, u64)>) {
        self.state.lock().waiting.extend(unsealed);
    }

    /// The segment that is being written; the one before it is finished when it changes.
    pub fn writing(&self, first: u64) {
        let mut state = self.state.lock();
        let before = std::mem::replace(&mut state.writing, first);
        if before != 0 && before != first {
            state.waiting.push_back((before, first - 1));
        }
    }

    /// Seals one finished segment, if one waits; answers with the last event that lies in sealed segments only.
    ///
    /// # Errors
    /// When the disk refuses; the segment stays readable without its seal, and the next owner tries again.
    pub fn seal_one(&self, segments: &Segments, now_ns: i64) -> Result<Option<u64>, ReadError> {
        let _working = self.working.lock();
        let Some((first, last)) = self.state.lock().waiting.pop_front() else { return Ok(None) };
        let sealed = segments.seal(first, last, now_ns)?;
        // Ids are found in a damaged segment, too, only more slowly.
        let _: Sealing = sealed;
        Ok(Some(last))
    }

    /// Lets nobody seal while the answer lives; `None` when a seal under way does not end within `patience`.
    pub fn pause(&self, patience: Duration) -> Option<MutexGuard<'_, ()>> {
        self.working.try_lock_for(patience)
    }

    /// Whether a finished segment waits.
    pub fn has_work(&self) -> bool {
        !self.state.lock().waiting.is_empty()
    }
}
