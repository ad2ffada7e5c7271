//! Committed up to here, and who waits for it. It outlives every actor.
//!
//! 1. `durable` never passes what an `fdatasync` has confirmed, and `durable <= written`.
//! 2. Sleepers on threads are woken where the commit happens; tasks are woken off that lane.
//! 3. A refusal is noted before the watermark passes it, so nobody takes a tombstone for a durable event.

use crate::error::{CommitError, PoisonCause};
use crate::sync::{AtomicBool, AtomicU64, Condvar, Mutex, Ordering};
use crossbeam_channel::Sender;
use semj_storage::plant::{Bug, planted};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

/// What a waiter waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// Handed to the operating system: survives a crash of the process, not of the machine.
    Written,
    /// Survives a power cut.
    Durable,
}

#[derive(Debug, Default)]
struct Waiters {
    /// Tasks by the sequence they wait for; the number tells several on one sequence apart.
    tasks: BTreeMap<(u64, u64), (Level, Waker)>,
    next: u64,
    sleepers: usize,
    failure: Option<CommitError>,
    /// Since when a call on the record does not return.
    stalled: Option<Instant>,
    /// Refused spans by their first sequence, with their last and the reason; the newest ones.
    refused: BTreeMap<u64, (u64, Arc<str>)>,
}

/// Refusals that are remembered for those who still wait or ask.
const REFUSALS_MAX: usize = 4_096;

impl Waiters {
    fn refusal(&self, sequence: u64) -> Option<CommitError> {
        let (first, (last, reason)) = self.refused.range(..=sequence).next_back()?;
        (*first <= sequence && sequence <= *last)
            .then(|| CommitError::Refused { sequence, reason: reason.clone() })
    }
}

/// How far the journal is committed.
#[derive(Debug)]
pub struct Watermark {
    written: AtomicU64,
    durable: AtomicU64,
    failed: AtomicBool,
    any_refused: AtomicBool,
    waiters: Mutex<Waiters>,
    changed: Condvar,
    wake: Sender<Vec<Waker>>,
}

impl Watermark {
    /// A watermark at `last`; wakers go out through `wake`.
    pub fn new(last: u64, wake: Sender<Vec<Waker>>) -> Self {
        Watermark {
            written: AtomicU64::new(last),
            durable: AtomicU64::new(last),
            failed: AtomicBool::new(false),
            any_refused: AtomicBool::new(false),
            waiters: Mutex::default(),
            changed: Condvar::new(),
            wake,
        }
    }

    /// Last durable event.
    #[inline]
    pub fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Last event handed to the operating system.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    fn at(&self, level: Level) -> u64 {
        match level {
            Level::Written => self.written(),
            Level::Durable => self.durable(),
        }
    }

    /// Events up to `sequence` are with the operating system.
    pub fn set_written(&self, sequence: u64) {
        let before = self.written.fetch_max(sequence, Ordering::AcqRel);
        if before < sequence {
            self.notify();
        }
    }

    /// Events up to `sequence` survive a power cut.
    pub fn set_durable(&self, sequence: u64) {
        self.written.fetch_max(sequence, Ordering::AcqRel);
        // An incarnation that was replaced may come late with what its successor has found on disk already.
        self.durable.fetch_max(sequence, Ordering::AcqRel);
        self.notify();
    }

    /// Events `first..=last` are refused: tombstones take their places. Call it before they are durable.
    pub fn refuse(&self, first: u64, last: u64, reason: &str) {
        let mut waiters = self.waiters.lock();
        waiters.refused.insert(first, (last, reason.into()));
        if waiters.refused.len() > REFUSALS_MAX {
            waiters.refused.pop_first();
        }
        self.any_refused.store(true, Ordering::Release);
    }

    /// Why `sequence` was refused, if it was.
    pub fn refusal(&self, sequence: u64) -> Option<CommitError> {
        if !self.any_refused.load(Ordering::Acquire) {
            return None;
        }
        self.waiters.lock().refusal(sequence)
    }

    /// A call on the record does not return since then, or does again.
    pub fn set_stalled(&self, since: Option<Instant>) {
        self.waiters.lock().stalled = since;
    }

    /// Since when a call on the record does not return.
    pub fn stalled(&self) -> Option<Instant> {
        self.waiters.lock().stalled
    }

    fn notify(&self) {
        let mut waiters = self.waiters.lock();
        if waiters.sleepers > 0 {
            self.changed.notify_all();
        }
        if waiters.tasks.is_empty() {
            return;
        }
        let (written, durable) = (self.written(), self.durable());
        let ready: Vec<(u64, u64)> = waiters
            .tasks
            .range(..=(written, u64::MAX))
            .filter(|((sequence, _), (level, _))| *level == Level::Written || *sequence <= durable)
            .map(|(key, _)| *key)
            .collect();
        let wakers: Vec<Waker> =
            ready.iter().filter_map(|key| waiters.tasks.remove(key).map(|(_, waker)| waker)).collect();
        drop(waiters);
        if !wakers.is_empty() {
            let _ = self.wake.send(wakers);
        }
    }

    /// What waiters are told from now on, unless their event is already committed. Poison and closing are final.
    pub fn fail(&self, failure: CommitError) {
        let mut waiters = self.waiters.lock();
        match (&waiters.failure, &failure) {
            (Some(CommitError::Poisoned(_)), _) => {}
            (Some(CommitError::Closed), failure) if !matches!(failure, CommitError::Poisoned(_)) => {}
            _ => waiters.failure = Some(failure),
        }
        self.failed.store(true, Ordering::Release);
        if planted(Bug::FailWithoutWaking) {
            return;
        }
        let wakers: Vec<Waker> =
            std::mem::take(&mut waiters.tasks).into_values().map(|(_, waker)| waker).collect();
        self.changed.notify_all();
        drop(waiters);
        let _ = self.wake.send(wakers);
    }

    /// The disk has room again.
    pub fn recovered(&self) {
        let mut waiters = self.waiters.lock();
        if matches!(waiters.failure, Some(CommitError::StorageFull)) {
            waiters.failure = None;
            self.failed.store(false, Ordering::Release);
        }
    }

    /// What poisoned the journal, if something did.
    pub fn poison(&self) -> Option<PoisonCause> {
        match &self.waiters.lock().failure {
            Some(CommitError::Poisoned(cause)) => Some(cause.clone()),
            _ => None,
        }
    }

    /// `Some` when a wait for `sequence` is over.
    pub fn outcome(&self, sequence: u64, level: Level) -> Option<Result<(), CommitError>> {
        if self.at(level) >= sequence {
            return Some(self.refusal(sequence).map_or(Ok(()), Err));
        }
        if !self.failed.load(Ordering::Acquire) {
            return None;
        }
        let waiters = self.waiters.lock();
        // It may have been committed between the look and the failure: then the failure is not its own.
        if self.at(level) >= sequence {
            return Some(waiters.refusal(sequence).map_or(Ok(()), Err));
        }
        waiters.failure.clone().map(Err)
    }

    /// Sleeps until `sequence` is committed, something fails, or the deadline is over.
    ///
    /// # Errors
    /// [`CommitError`].
    pub fn wait(&self, sequence: u64, level: Level, deadline: Option<Instant>) -> Result<(), CommitError> {
        let mut waiters = self.waiters.lock();
        loop {
            if self.at(level) >= sequence {
                return waiters.refusal(sequence).map_or(Ok(()), Err);
            }
            if let Some(failure) = &waiters.failure {
                return Err(failure.clone());
            }
            waiters.sleepers += 1;
            let late = match deadline {
                Some(deadline) => self.changed.wait_until(&mut waiters, deadline).timed_out(),
                None => {
                    self.changed.wait(&mut waiters);
                    false
                }
            };
            waiters.sleepers -= 1;
            if late && self.at(level) < sequence {
                return Err(match waiters.stalled {
                    Some(since) => CommitError::Stalled { since },
                    None => CommitError::Timeout,
                });
            }
        }
    }

    /// Registers a task; the key takes it back. The task must look again after registering.
    pub fn register(&self, sequence: u64, level: Level, waker: &Waker) -> (u64, u64) {
        let mut waiters = self.waiters.lock();
        waiters.next += 1;
        let key = (sequence, waiters.next);
        waiters.tasks.insert(key, (level, waker.clone()));
        key
    }

    /// Takes a task back.
    pub fn unregister(&self, key: (u64, u64)) {
        self.waiters.lock().tasks.remove(&key);
    }

    /// How many threads and tasks wait.
    pub fn waiting(&self) -> usize {
        let waiters = self.waiters.lock();
        waiters.sleepers + waiters.tasks.len()
    }
}

/// A deadline this far from now.
pub(crate) fn deadline(after: Duration) -> Option<Instant> {
    Instant::now().checked_add(after)
}
