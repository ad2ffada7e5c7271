//! The logic of KernelSync: order inside a source, losses, lives, clocks. No actor, no clock, no file.

mod account;
mod core;
mod events;
mod extents;
mod ranges;

pub use account::Account;
pub use core::{Counts, Group, Place, SourceCore};
pub use events::{identity, namespace};
pub use extents::ExtentMap;
pub use ranges::Ranges;
