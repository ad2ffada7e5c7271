//! The supervisor: a plain thread, so that no actor and no arbiter can take it down. It counts deaths and escalates.

use super::cell::{Obituary, Role};
use super::policy::{Intensity, Verdict};
use crossbeam_channel::Receiver;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

/// Crashes within [`WINDOW_NS`] that a role may have.
const RESTARTS_MAX: usize = 5;
const WINDOW_NS: i64 = 10_000_000_000;

/// Restarts of each role, counted since opening.
#[derive(Debug, Default)]
pub struct Restarts([AtomicU64; Role::ALL.len()]);

impl Restarts {
    /// How often this role was restarted.
    pub fn of(&self, role: Role) -> u64 {
        self.slot(role).map_or(0, |n| n.load(Ordering::Relaxed))
    }

    fn slot(&self, role: Role) -> Option<&AtomicU64> {
        let at = Role::ALL.iter().position(|r| *r == role)?;
        self.0.get(at)
    }
}

/// The supervisor's thread. It ends when all actors are gone.
#[derive(Debug)]
pub struct Supervisor {
    thread: JoinHandle<()>,
    restarts: Arc<Restarts>,
}

impl Supervisor {
    /// Starts it. `escalate` is called when a role crashed too often, or could not be rebuilt.
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub fn start(
        obituaries: Receiver<Obituary>,
        now_ns: impl Fn() -> i64 + Send + 'static,
        escalate: impl Fn(Role, &str) + Send + 'static,
    ) -> io::Result<Self> {
        let restarts = Arc::new(Restarts::default());
        let counted = restarts.clone();
        let watch = move || {
            let mut intensity: HashMap<Role, Intensity> = HashMap::new();
            for obituary in obituaries {
                if let Some(count) = counted.slot(obituary.role) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                crate::metrics::restarted(obituary.role);
                let limit =
                    intensity.entry(obituary.role).or_insert_with(|| Intensity::new(RESTARTS_MAX, WINDOW_NS));
                if limit.crash(now_ns()) == Verdict::Exhausted || !obituary.restarted {
                    escalate(obituary.role, &obituary.cause);
                }
            }
        };
        let thread = std::thread::Builder::new().name("semj-supervisor".into()).spawn(watch)?;
        Ok(Supervisor { thread, restarts })
    }

    /// Restarts since opening.
    pub fn restarts(&self) -> Arc<Restarts> {
        self.restarts.clone()
    }

    /// Waits for its end.
    pub fn join(self) {
        let _ = self.thread.join();
    }
}
