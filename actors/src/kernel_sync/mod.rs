//! What KernelSync and those who ask it share, and what outlives its actor: sources, what they handed out, accounts.

mod admit;
mod desk;
mod keeper;
mod slot;
mod status;
mod watcher;

pub use desk::{AttachError, SyncError};
pub use status::{Condition, SourceStatus};

pub(crate) use desk::Desk;
pub(crate) use keeper::{Keeper, Next, RETRY_NS};
pub(crate) use slot::Slot;
