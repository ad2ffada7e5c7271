//! The typed messages, one file per receiving actor. Work stays in the ledger; a message carries a range or nothing.

mod batcher;
mod indexer;
mod ingest;
mod kernel_sync;
mod persister;

pub use batcher::BatchRange;
pub use indexer::IndexDoorbell;
pub use ingest::LedgerDoorbell;
pub use kernel_sync::SyncDoorbell;
pub use persister::{CommitBatch, DurableDoorbell};
