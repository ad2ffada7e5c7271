//! To the ingest actor.

use actix::Message;

/// Look at the ledger: there is something to cut, or room behind the persister again.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct LedgerDoorbell;
