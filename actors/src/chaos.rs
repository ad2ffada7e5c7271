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

#[cfg(test)]
mod tests {
    use super::STAGE_POINTS;
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    #[test]
    fn every_point_is_listed_once_and_every_listed_one_exists() {
        let mut found = BTreeSet::new();
        let mut open: Vec<PathBuf> = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        while let Some(path) = open.pop() {
            if path.is_dir() {
                open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            } else {
                let text = std::fs::read_to_string(&path).unwrap();
                let call = ["chaos::", "point(\""].concat();
                let names = text.split(&call).skip(1).filter_map(|rest| rest.split('"').next());
                found.extend(names.map(str::to_owned));
            }
        }
        let listed: BTreeSet<&str> = STAGE_POINTS.iter().copied().collect();
        assert_eq!(found.iter().map(String::as_str).collect::<BTreeSet<_>>(), listed);
        assert_eq!(listed.len(), STAGE_POINTS.len());
    }
}
