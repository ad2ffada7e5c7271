//! The logic of KernelSync: order inside a source, losses, lives, clocks. No actor, no clock, no file.

mod core;
mod events;
mod extents;
mod group;
mod lag;
#[cfg(test)]
mod tests;
mod told;
mod triggers;

pub use core::{Counts, Place, SourceCore};
pub use events::{identity, namespace};
pub use extents::ExtentMap;
pub use group::{Group, Mark};
pub use lag::{Lag, LagWatch, SyncLimits};
pub use semj_storage::log::Account;
pub use told::{Covered, Rescan, Told, Why};
pub use triggers::{Trigger, Triggers};
