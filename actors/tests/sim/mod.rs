//! The engine without threads: its very stages, its supervisor and its disk in one thread, where chance alone decides
//! who comes next, what breaks, and when. A seed is a whole run, and runs the same way every time.

#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test binary uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

pub mod actor;
pub mod boundary;
pub mod chance;
pub mod gates;
pub mod hosts;
pub mod model;
pub mod run;
pub mod saga;
pub mod trouble;
pub mod world;
