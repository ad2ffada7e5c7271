//! What KernelSync and those who ask it share, and what outlives its actor: sources, what they handed out, accounts.

mod admit;
mod conflict;
mod desk;
mod health;
mod keeper;
mod slot;
mod status;
mod watcher;

pub use desk::{AttachError, SyncError};
pub use status::{Condition, SourceStatus};

pub(crate) use desk::Desk;
pub(crate) use health::tell_hang;
pub(crate) use keeper::{Keeper, Next, RETRY_NS, Tools};
pub(crate) use slot::Slot;
