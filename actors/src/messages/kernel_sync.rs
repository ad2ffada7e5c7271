//! To KernelSync.

use actix::Message;

/// A source may have something, or somebody asks whether all is read.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct SyncDoorbell;
