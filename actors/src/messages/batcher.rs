//! To the batcher.

use crate::ledger::Chunk;
use actix::Message;
use semj_storage::event::ResolvedCause;
use std::sync::Arc;

/// Make one batch of a sealed chunk whose causes are resolved.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct BatchRange {
    /// Which run of the pipeline it belongs to; others are void.
    pub epoch: u64,
    /// The events.
    pub chunk: Arc<Chunk>,
    /// What their causes stand for, in the chunk's order.
    pub causes: Arc<[ResolvedCause]>,
    /// Why tombstones take the events' places, where they are refused.
    pub refused: Option<Arc<str>>,
}
