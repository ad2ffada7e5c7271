//! The engine's threads under a model checker: they are interleaved at every lock and atomic, thousands of times.
//!
//! `cargo test -p semj-actors --features model --test models`. A failing schedule is printed and replays exactly.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(unreachable_pub, reason = "a test binary has no outside")]

mod admission;
mod bell;
mod common;
mod ledger;
mod pipeline;
mod ring_sleep;
mod ticket;
mod watermark;
