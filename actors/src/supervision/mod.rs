//! Let it crash: what restarts an actor, how often, and who is told.

mod cell;
mod policy;
mod supervisor;

pub use cell::{Cell, Obituary, Recover, Role};
pub use policy::{Intensity, Verdict};
pub use supervisor::{Restarts, Supervisor};
