//! Gates: what must hold whatever the disk does. The tests named after them run them in full, and `planted_bugs` runs
//! them small, with a mechanism taken away, to see that they notice.

#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests are tests")]

pub mod blobs;
pub mod crash;
pub mod damage;
pub mod faults;
pub mod layers;
pub mod order;

/// How much a gate does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// Enough to notice a mechanism that is missing.
    Small,
    /// All of it, where it is random this many times as much.
    Full(u64),
}

impl Work {
    /// Full, as often as `SEMJ_WORK` says; once without it.
    pub fn full() -> Self {
        Work::Full(std::env::var("SEMJ_WORK").ok().and_then(|times| times.parse().ok()).unwrap_or(1))
    }

    /// One of `every` things is enough for small work.
    pub fn takes(self, number: u64, every: u64) -> bool {
        self != Work::Small || number.is_multiple_of(every)
    }

    pub fn times(self) -> u64 {
        match self {
            Work::Small => 1,
            Work::Full(times) => times,
        }
    }
}
