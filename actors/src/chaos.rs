//! Failpoints: one set for this package and the storage below it. Without the feature `chaos` they are nothing.

pub use semj_storage::chaos::*;

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
