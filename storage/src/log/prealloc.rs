//! Zero-filled space ahead of the tail: writing into it costs a sync no change of the file's size.
//!
//! One thread fills, another writes. A stretch being filled is never written to: the writer waits for the fill, so
//! zeros can never land on data.

use crate::backend::File;
use parking_lot::{Condvar, Mutex};
use std::io;
use std::sync::Arc;

/// First step; each further one is twice as long.
const STEP_MIN: u64 = 1 << 20;
/// Longest step.
const STEP_MAX: u64 = 16 << 20;
/// Written at once.
const PIECE: usize = 256 << 10;

#[derive(Debug, Default)]
struct State {
    file: Option<Arc<dyn File>>,
    /// The writer's end.
    used: u64,
    /// Zero-filled or written up to here.
    filled: u64,
    step: u64,
    /// A fill is under way.
    busy: bool,
    sync_error: Option<io::Error>,
}

/// The space ahead of the tail of one segment.
#[derive(Debug, Default)]
pub struct Prealloc {
    state: Mutex<State>,
    idle: Condvar,
}

impl Prealloc {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Starts with a segment whose valid part ends at `offset`.
    pub(crate) fn start(&self, file: Arc<dyn File>, offset: u64) {
        let mut state = self.state.lock();
        while state.busy {
            self.idle.wait(&mut state);
        }
        *state = State { file: Some(file), used: offset, filled: offset, step: STEP_MIN, ..State::default() };
    }

    /// Ends: no fill is under way when it returns, and none starts.
    pub fn stop(&self) {
        let mut state = self.state.lock();
        while state.busy {
            self.idle.wait(&mut state);
        }
        state.file = None;
    }

    /// The writer is about to write up to `end`.
    pub(crate) fn claim(&self, end: u64) {
        let mut state = self.state.lock();
        while state.busy && end > state.filled {
            self.idle.wait(&mut state);
        }
        state.used = end;
        state.filled = state.filled.max(end);
    }

    /// The error of a sync that a fill has seen.
    pub(crate) fn take_sync_error(&self) -> Option<io::Error> {
        self.state.lock().sync_error.take()
    }

    /// Whether more space should be filled now.
    pub fn wants_fill(&self) -> bool {
        let state = self.state.lock();
        state.file.is_some()
            && !state.busy
            && state.sync_error.is_none()
            && state.filled - state.used < state.step / 2
    }

    /// Fills one step, if one is wanted. A full disk is no error: the writer will meet it.
    pub fn fill(&self) {
        crate::chaos::point("prealloc:fill");
        let (file, from, to) = {
            let mut state = self.state.lock();
            if state.busy || state.sync_error.is_some() || state.filled - state.used >= state.step / 2 {
                return;
            }
            let Some(file) = state.file.clone() else { return };
            state.busy = true;
            (file, state.filled, state.filled + state.step)
        };
        let mut under_way = UnderWay { of: self, filled: from, synced: Ok(()) };
        let zeros = vec![0; PIECE];
        while under_way.filled < to {
            let piece = PIECE.min((to - under_way.filled) as usize);
            if file.write_at(zeros.get(..piece).unwrap_or_default(), under_way.filled).is_err() {
                break;
            }
            under_way.filled += piece as u64;
        }
        crate::chaos::point("prealloc:filled");
        if under_way.filled > from {
            under_way.synced = file.sync_data();
        }
    }
}

/// A fill under way. Dropped, also by a crash, it lets go the writer, which would wait for ever.
struct UnderWay<'a> {
    of: &'a Prealloc,
    filled: u64,
    synced: io::Result<()>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut state = self.of.state.lock();
        state.busy = false;
        state.sync_error = std::mem::replace(&mut self.synced, Ok(())).err();
        // After a full disk the step stays wanted; the next try starts from the same place.
        state.filled = self.filled;
        state.step = (state.step * 2).min(STEP_MAX);
        self.of.idle.notify_all();
    }
}

#[cfg(all(test, feature = "chaos"))]
mod tests {
    use super::*;
    use crate::backend::{Backend, MemoryBackend, OpenMode};
    use crate::chaos::{Action, arm};

    #[test]
    fn a_fill_that_crashes_keeps_nobody_waiting() {
        let file = MemoryBackend::default().open(std::path::Path::new("a"), OpenMode::CreateNew).unwrap();
        let prealloc = Prealloc::new();
        prealloc.start(file, 10);
        arm("prealloc:filled", 1, Action::Panic);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| prealloc.fill())).unwrap_err();
        prealloc.claim(10 * STEP_MIN);
        assert!(prealloc.wants_fill());
        prealloc.fill();
        prealloc.stop();
        assert!(prealloc.take_sync_error().is_none());
    }
}
