//! To the persister.

use actix::Message;
use semj_storage::log::PreparedBlock;

/// Commit this batch.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct CommitBatch {
    /// Which run of the pipeline it belongs to; others are void.
    pub generation: u64,
    /// The batch, ready for the disk; it knows its first and last sequence.
    pub block: Box<PreparedBlock>,
}

/// Somebody waits for durability: commit what the ledger holds, the short way where nothing is under way.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct DurableDoorbell;
