//! The clocks, injected: nothing else in the engine asks the operating system for the time.

use rustix::time::{ClockId, clock_gettime};
use semj_storage::log::control::ClockAnchor;
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
    /// Time since boot without the time that the machine slept, in nanoseconds. Never steps back.
    fn mono_ns(&self) -> i64 {
        self.boot_ns()
    }
}

/// Readings of which the narrowest counts: between the two of one the thread may have been away.
const READINGS: usize = 5;

/// What the clocks say at one moment, as exactly as can be had.
pub fn anchor(clock: &dyn Clock) -> ClockAnchor {
    let read = || {
        let before = clock.boot_ns();
        let (wall_ns, mono_ns) = (clock.wall_ns(), clock.mono_ns());
        let width = clock.boot_ns().saturating_sub(before).max(0);
        let error_ns = u32::try_from(width / 2 + 1).unwrap_or(u32::MAX);
        let boot_ns = before.saturating_add(width / 2);
        ClockAnchor { boot_id: clock.boot_id(), boot_ns, wall_ns, mono_ns, error_ns }
    };
    let first = read();
    (1..READINGS)
        .map(|_| read())
        .fold(first, |best, next| if next.error_ns < best.error_ns { next } else { best })
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
    fn mono_ns(&self) -> i64 {
        nanoseconds(ClockId::Monotonic)
    }
}
