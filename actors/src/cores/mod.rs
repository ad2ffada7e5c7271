//! The logic of each stage, free of actors, clocks and files.

mod batcher;
mod ingest;
mod isolation;
pub mod kernel;

pub use batcher::{BatcherCore, LogicalClock, Stamp};
pub use ingest::{CauseSource, IngestCore};
pub use isolation::{Isolation, Judgement, Span};
