//! All attached sources, and waiting until they are read.

use super::slot::Slot;
use super::status::{Condition, SourceStatus};
use super::watcher::Watcher;
use crate::clock::Clock;
use crate::error::CommitError;
use crate::sources::{NotSupported, OpenSource};
use parking_lot::{Mutex, RwLock};
use semj_storage::error::ErrorKind;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Why a source was not attached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// One of this name is attached.
    #[error("a source named {0} is attached already")]
    Known(String),
    /// The journal was closed.
    #[error("the journal is closed")]
    Closed,
    /// A thread cannot be made.
    #[error("a thread for the source cannot be started: {0}")]
    Thread(#[from] io::Error),
}

impl AttachError {
    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        match self {
            AttachError::Known(_) => ErrorKind::Conflict,
            AttachError::Closed => ErrorKind::Closed,
            AttachError::Thread(_) => ErrorKind::Unreadable,
        }
    }
}

/// Why it cannot be said that everything before now is durable.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// The source, or the function, cannot be had. Writes go on.
    #[error("kernel sync is unavailable: {cause}")]
    Unavailable {
        /// Why.
        cause: String,
    },
    /// The source knows no point behind which all earlier effects are.
    #[error("{source_name}: {0}", source_name = .1)]
    NotSupported(NotSupported, String),
    /// The time is over.
    #[error("{0} was not read up to now within the time given")]
    Timeout(String),
    /// It was read, but is not durable.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl SyncError {
    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        match self {
            SyncError::Unavailable { .. } | SyncError::NotSupported(..) => ErrorKind::Missing,
            SyncError::Timeout(_) => ErrorKind::Stalled,
            SyncError::Commit(e) => e.kind(),
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    slots: RwLock<Vec<Arc<Slot>>>,
    watcher: Mutex<Option<Watcher>>,
    /// Why nobody serves any more.
    lost: Mutex<Option<String>>,
}

impl Desk {
    /// All sources, in the order in which they were attached.
    pub(crate) fn slots(&self) -> Vec<Arc<Slot>> {
        self.slots.read().clone()
    }

    /// Adds a source; `ring` rings KernelSync.
    pub(crate) fn attach(
        &self,
        opener: Box<dyn OpenSource>,
        ring: impl Fn() + Send + 'static,
    ) -> Result<(), AttachError> {
        let mut slots = self.slots.write();
        if slots.iter().any(|s| s.name == opener.name()) {
            return Err(AttachError::Known(opener.name().to_owned()));
        }
        let mut watcher = self.watcher.lock();
        match watcher.as_ref() {
            Some(watcher) => watcher.interrupt(),
            None => *watcher = Some(Watcher::start(ring)?),
        }
        slots.push(Arc::new(Slot::new(opener)));
        Ok(())
    }

    /// Rings when a source is readable, at the latest when one wants to be looked at anyway.
    pub(crate) fn watch(&self) {
        let (mut fds, mut at_most) = (Vec::new(), Duration::from_secs(1));
        for slot in self.slots.read().iter() {
            let state = slot.state.lock();
            if state.condition == Condition::Open {
                fds.extend(state.fd.clone());
                at_most = at_most.min(state.poll_every);
            }
        }
        if let Some(watcher) = self.watcher.lock().as_ref() {
            watcher.watch(fds, at_most);
        }
    }

    /// Nobody serves any more: who waits is told.
    pub(crate) fn give_up(&self, why: &str) {
        *self.lost.lock() = Some(why.to_owned());
        for slot in self.slots() {
            // Whoever looked before is asleep by now.
            let _state = slot.state.lock();
            slot.answered.notify_all();
        }
    }

    /// The journal is being closed.
    pub(crate) fn close(&self) {
        self.give_up("the journal is closed");
        *self.watcher.lock() = None;
    }

    /// The state of each source.
    pub(crate) fn status(&self, clock: &dyn Clock) -> Vec<SourceStatus> {
        self.slots().iter().map(|slot| SourceStatus::of(slot, clock)).collect()
    }

    /// How often somebody set the wall clock while a source was attached.
    pub(crate) fn clock_sets(&self) -> u64 {
        self.watcher.lock().as_ref().map_or(0, Watcher::clock_sets)
    }

    /// All sources were read up to a moment and are durable, so long after it.
    pub(crate) fn synced_within(&self, time: Duration) {
        crate::metrics::sync_now(time);
        for slot in self.slots() {
            slot.state.lock().sync_now = Some(time);
        }
    }

    /// Waits until all sources are read up to now; answers the last event of what they had.
    pub(crate) fn wait_read(&self, ring: impl Fn(), until: Instant) -> Result<u64, SyncError> {
        let slots = self.slots();
        let requests: Vec<u64> = slots
            .iter()
            .map(|slot| {
                let mut state = slot.state.lock();
                state.asked += 1;
                state.asked
            })
            .collect();
        ring();
        let mut last = 0;
        for (slot, request) in slots.iter().zip(requests) {
            let mut state = slot.state.lock();
            while state.replied < request {
                let cause = self.lost.lock().clone().or_else(|| state.condition.cause());
                if let Some(cause) = cause {
                    return Err(SyncError::Unavailable { cause: format!("{}: {cause}", slot.name) });
                }
                if let Some(why) = state.unsupported {
                    return Err(SyncError::NotSupported(why, slot.name.clone()));
                }
                if slot.answered.wait_until(&mut state, until).timed_out() && state.replied < request {
                    return Err(match self.lost.lock().clone().or_else(|| state.condition.cause()) {
                        Some(cause) => SyncError::Unavailable { cause: format!("{}: {cause}", slot.name) },
                        None => SyncError::Timeout(slot.name.clone()),
                    });
                }
            }
            last = last.max(state.last_event);
        }
        Ok(last)
    }
}
