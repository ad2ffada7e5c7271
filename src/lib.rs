//! Stand-in for the public face; thrown away when the real one is merged.

pub mod import;
#[doc(hidden)]
pub mod stub;
pub use semj_storage::{event, event::Event, event::Recorded, limits};
pub use stub::*;
