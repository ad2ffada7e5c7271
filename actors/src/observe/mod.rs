//! A tool under observation: its processes and what they do to files become events that say which call it was.
//!
//! [`Observer::open`] picks the best source of this machine and this user, and beside one that sees only the tool's own
//! processes a *witness* that sees what others change. [`Observer::start`] follows one process and all
//! that come from it; the process has to wait until then. [`Running::finish`] reads all that happened up to now, and
//! says what it came to.

mod events;
mod join;
mod judge;
mod named;
mod observer;
mod rung;
mod tell;
mod told;
mod touched;
mod tree;
mod witness;

pub use events::{ATTEMPT_OF, EFFECT_OF, TAG_EXTERNAL, TAG_FAILED, TAG_OBSERVED, TAG_ORPHAN};
pub use judge::{Evidence, Judge, Verdict};
pub use named::{Words, plain};
pub use observer::{Finished, Observer, Running};
pub use rung::{Coverage, Plan, Wanted};
pub use touched::{Done, Touched};
pub use tree::{Place, Tree};

pub use crate::sources::seccomp::{Listener, come_under, ends, keep, take_over};
pub use crate::sources::{Op, Unavailable};
use uuid::Uuid;

/// The call that effects are linked to.
#[derive(Clone, Debug)]
pub struct Call {
    /// The id of its event, which is durable.
    pub id: Uuid,
    /// Who called.
    pub agent: String,
    /// In which run.
    pub session: Option<String>,
    /// What was called: words that may be paths.
    pub arguments: Vec<String>,
    /// When, BOOTTIME in nanoseconds.
    pub started_ns: i64,
    /// When it returned; `None` while it runs.
    pub ended_ns: Option<i64>,
}

/// The boot-time clock, ns.
pub fn boot_ns() -> i64 {
    crate::sources::boot_ns().cast_signed()
}
