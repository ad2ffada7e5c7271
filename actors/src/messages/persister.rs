//! To the persister.

use crate::ledger::Chunk;
use actix::Message;
use semj_storage::log::PreparedBlock;
use std::sync::Arc;

/// Commit this batch.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct CommitBatch {
    /// Which run of the pipeline it belongs to; others are void, and storage checks it again.
    pub epoch: u64,
    /// The batch, ready for the disk; it knows its first and last sequence.
    pub block: Box<PreparedBlock>,
    /// The events whose places its tombstones take, and why, where they are refused.
    pub refused: Option<(Arc<Chunk>, Arc<str>)>,
}

/// Somebody waits for durability: commit what the ledger holds, the short way where nothing is under way.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct DurableDoorbell;
