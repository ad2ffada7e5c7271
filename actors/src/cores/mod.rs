//! The logic of each stage, free of actors, clocks and files.

mod batcher;
mod ingest;

pub use batcher::{BatcherCore, Stamp};
pub use ingest::{CauseSource, IngestCore};
