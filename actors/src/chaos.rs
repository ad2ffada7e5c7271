//! Failpoints: one set for this package and the storage below it. Without the feature `chaos` they are nothing.

pub use semj_storage::chaos::*;

/// All points of this package, in the order of the flow. `recover` and `start` belong to an incarnation's first turn,
/// `message` to every handler of a stage. `persister:timer` is passed only when the disk is full.
pub const STAGE_POINTS: &[&str] = &[
    "ingest:recover",
    "ingest:start",
    "ingest:message",
    "ingest:timer",
    "ingest:before_cut",
    "ingest:resolve",
    "ingest:after_cut",
    "batcher:recover",
    "batcher:start",
    "batcher:message",
    "batcher:before_pack",
    "batcher:pack",
    "batcher:after_pack",
    "persister:recover",
    "persister:start",
    "persister:message",
    "persister:timer",
    "persister:before_append",
    "persister:before_sync",
    "persister:after_sync",
    "indexer:recover",
    "indexer:start",
    "indexer:message",
    "indexer:timer",
    "indexer:before_step",
    "indexer:after_step",
    "kernel_sync:recover",
    "kernel_sync:start",
    "kernel_sync:message",
    "kernel_sync:timer",
    "kernel_sync:before_read",
    "kernel_sync:after_read",
    "kernel_sync:taken",
    "kernel_sync:before_admit",
    "kernel_sync:after_admit",
];

/// Does nothing.
#[cfg(not(feature = "chaos"))]
#[inline(always)]
pub(crate) fn swallow(_: &str, _: &[u8]) {}

#[cfg(feature = "chaos")]
pub(crate) use pills::swallow;
#[cfg(feature = "chaos")]
pub use pills::{arm_pill, disarm_pills};

/// Events that crash a stage whenever it meets them, as a bug would.
#[cfg(feature = "chaos")]
mod pills {
    use parking_lot::Mutex;

    static PILLS: Mutex<Vec<(String, Vec<u8>)>> = Mutex::new(Vec::new());

    /// From now on this point panics, for real, over bytes that contain `pattern`.
    pub fn arm_pill(point: &str, pattern: &[u8]) {
        PILLS.lock().push((point.to_owned(), pattern.to_vec()));
    }

    /// Takes all pills away.
    pub fn disarm_pills() {
        PILLS.lock().clear();
    }

    pub(crate) fn swallow(point: &str, bytes: &[u8]) {
        let is_pill = |(at, pattern): &(String, Vec<u8>)| {
            at == point && bytes.windows(pattern.len().max(1)).any(|w| w == pattern)
        };
        if PILLS.lock().iter().any(is_pill) {
            panic!("a pill at {point}");
        }
    }
}
