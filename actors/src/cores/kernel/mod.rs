//! The logic of KernelSync: order inside a source, losses, lives, clocks. No actor, no clock, no file.

mod account;
mod core;
mod events;
mod extents;
mod group;
mod ranges;

pub use account::Account;
pub use core::{Counts, Place, SourceCore};
pub use events::{identity, namespace};
pub use extents::ExtentMap;
pub use group::Group;
pub use ranges::Ranges;
