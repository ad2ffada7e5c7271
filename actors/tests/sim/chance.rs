//! What a seed decides, and the time it takes.

use semj_actors::clock::Clock;
use std::sync::atomic::{AtomicI64, Ordering};
use uuid::Uuid;

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// True once in `times`; never when that is 0.
    pub fn once_in(&mut self, times: u64) -> bool {
        times > 0 && self.below(times) == 0
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

/// A clock that moves only by what is done: each look at it takes a little, so that whoever waits for it goes on.
#[derive(Debug)]
pub struct SimClock {
    boot_ns: AtomicI64,
    wall_offset_ns: AtomicI64,
}

/// What a look at the clock takes, ns.
const LOOK_NS: i64 = 10_000;

impl SimClock {
    pub fn new() -> Self {
        let wall = AtomicI64::new(1_700_000_000_000_000_000);
        SimClock { boot_ns: AtomicI64::new(1_000_000_000), wall_offset_ns: wall }
    }

    pub fn now(&self) -> i64 {
        self.boot_ns.load(Ordering::Relaxed)
    }

    pub fn advance(&self, ns: i64) {
        self.boot_ns.fetch_add(ns.max(0), Ordering::Relaxed);
    }

    /// The wall clock is set.
    pub fn step_wall(&self, ns: i64) {
        self.wall_offset_ns.fetch_add(ns, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn boot_ns(&self) -> i64 {
        self.boot_ns.fetch_add(LOOK_NS, Ordering::Relaxed)
    }
    fn wall_ns(&self) -> i64 {
        self.boot_ns() + self.wall_offset_ns.load(Ordering::Relaxed)
    }
    fn boot_id(&self) -> Uuid {
        Uuid::from_u128(0xB0)
    }
}
