//! What KernelSync and those who ask it share, and what outlives its actor: sources, what they handed out, accounts.

mod admit;
mod conflict;
mod desk;
mod slot;
mod status;
mod watcher;

pub use desk::{AttachError, SyncError};
pub use status::{Condition, SourceStatus};

pub(crate) use admit::{Admission, admit, settle_doubt};
pub(crate) use desk::Desk;
pub(crate) use slot::{Batch, Machine, Slot, State, Target};
