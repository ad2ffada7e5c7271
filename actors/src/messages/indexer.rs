//! To the indexer.

use actix::Message;

/// More is durable than is indexed.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct IndexDoorbell;
