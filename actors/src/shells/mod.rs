//! The actix actors: one per core, each short. They carry messages to the shared pipeline and effects back.

mod batcher;
mod indexer;
mod ingest;
mod persister;

pub use batcher::{BatcherActor, BatcherSeed};
pub use indexer::{IndexerActor, IndexerSeed};
pub use ingest::{IngestActor, IngestSeed};
pub use persister::{PersisterActor, PersisterSeed};
