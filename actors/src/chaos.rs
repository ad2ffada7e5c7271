//! Failpoints: one set for this package and the storage below it. Without the feature `chaos` they are nothing.

pub use semj_storage::chaos::*;
