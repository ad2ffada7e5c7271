//! The clocks, injected: nothing else in the engine asks the operating system for the time.

use rustix::time::{ClockId, clock_gettime};
use std::fmt::Debug;
use uuid::Uuid;

/// The two clocks of a machine.
pub trait Clock: Send + Sync + Debug {
    /// Time since boot, suspended time included, in nanoseconds. Never steps back.
    fn boot_ns(&self) -> i64;
    /// Wall-clock time since 1970, in nanoseconds. May step.
    fn wall_ns(&self) -> i64;
    /// Which boot.
    fn boot_id(&self) -> Uuid;
}

/// The machine's own clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    boot_id: Uuid,
}

impl SystemClock {
    /// Reads the boot id; where the system tells none it is nil.
    pub fn new() -> Self {
        SystemClock { boot_id: crate::sources::boot_id() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

fn nanoseconds(id: ClockId) -> i64 {
    let t = clock_gettime(id);
    t.tv_sec.saturating_mul(1_000_000_000).saturating_add(t.tv_nsec)
}

impl Clock for SystemClock {
    #[inline]
    fn boot_ns(&self) -> i64 {
        nanoseconds(ClockId::Boottime)
    }
    fn wall_ns(&self) -> i64 {
        nanoseconds(ClockId::Realtime)
    }
    fn boot_id(&self) -> Uuid {
        self.boot_id
    }
}
