//! What the thread at the desk and whoever takes records have in common.

use super::line::Line;
use crate::sources::ready::{Ready, hand_out};
use crate::sources::{Item, Progress};
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

/// Records that may wait to be taken; beyond it callers wait.
const READY_MAX: usize = 100_000;
/// Programs that wanted privileges and are named.
const NAMED_MAX: usize = 20;

/// Both ends' state.
#[derive(Debug, Default)]
pub(super) struct Shared {
    queue: Mutex<Queue>,
    room: Condvar,
    tag: AtomicU64,
    without_effect: AtomicU64,
    forbids_privileges: AtomicU64,
    privileged: Mutex<BTreeSet<Vec<u8>>>,
}

#[derive(Debug, Default)]
struct Queue {
    ready: VecDeque<Ready>,
    /// The last point that was asked for, the last that was put into the line, and the last that was handed out.
    asked: u64,
    given: u64,
    passed: u64,
    /// Nobody will put points into the line: there is no thread yet, or no more.
    is_idle: bool,
    stops: bool,
}

impl Shared {
    pub(super) fn new() -> Self {
        let shared = Shared::default();
        shared.queue.lock().is_idle = true;
        shared
    }

    pub(super) fn tag(&self) -> u64 {
        self.tag.load(Ordering::SeqCst)
    }

    pub(super) fn set_tag(&self, tag: u64) {
        self.tag.store(tag, Ordering::SeqCst);
    }

    pub(super) fn had_no_effect(&self) {
        self.without_effect.fetch_add(1, Ordering::Relaxed);
    }

    /// Calls that were seen to have had no effect.
    pub(super) fn without_effect(&self) -> u64 {
        self.without_effect.load(Ordering::Relaxed)
    }

    pub(super) fn set_forbids_privileges(&self, forbids: bool) {
        self.forbids_privileges.store(forbids.into(), Ordering::SeqCst);
    }

    /// A program that would give privileges is run.
    pub(super) fn wanted_privileges(&self, program: Vec<u8>) {
        let mut named = self.privileged.lock();
        if self.forbids_privileges.load(Ordering::SeqCst) != 0 && named.len() < NAMED_MAX {
            named.insert(program);
        }
    }

    /// Programs that were run without the privileges they give.
    pub(super) fn privileged(&self) -> Vec<Vec<u8>> {
        self.privileged.lock().iter().cloned().collect()
    }

    /// Takes from the line what may leave it. Waits while too much is not taken.
    pub(super) fn publish(&self, line: &mut Line) {
        let mut queue = self.queue.lock();
        line.leave(|ready| queue.ready.push_back(ready));
        while queue.ready.len() > READY_MAX && !queue.stops {
            self.room.wait(&mut queue);
        }
    }

    /// Hands out up to `max` items.
    pub(super) fn take(&self, max: usize, out: &mut Vec<Item>) -> Progress {
        let mut queue = self.queue.lock();
        let Queue { ready, passed, .. } = &mut *queue;
        hand_out(ready, passed, max, out);
        if queue.is_idle && queue.ready.is_empty() {
            queue.passed = queue.asked;
        }
        if queue.ready.len() <= READY_MAX {
            self.room.notify_all();
        }
        Progress { more: !queue.ready.is_empty(), passed: queue.passed }
    }

    /// A new point behind all that was entered up to now.
    pub(super) fn ask(&self) -> u64 {
        let mut queue = self.queue.lock();
        queue.asked += 1;
        queue.asked
    }

    /// The last point that was asked for, if it was not given yet.
    pub(super) fn asked(&self) -> Option<u64> {
        let queue = self.queue.lock();
        (queue.asked > queue.given).then_some(queue.asked)
    }

    /// The point is in the line.
    pub(super) fn given(&self, point: u64) {
        self.queue.lock().given = point;
    }

    pub(super) fn begin(&self) {
        self.queue.lock().is_idle = false;
    }

    pub(super) fn end(&self) {
        self.queue.lock().is_idle = true;
    }

    pub(super) fn stop(&self) {
        self.queue.lock().stops = true;
        self.room.notify_all();
    }

    pub(super) fn stops(&self) -> bool {
        self.queue.lock().stops
    }
}
