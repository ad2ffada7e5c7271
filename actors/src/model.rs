//! What the models of `tests/models` need and no host does.

pub use crate::mail::Bell;
pub use crate::sources::ring_sleep::{Sleeper, Words};

use crate::pipeline::Pipeline;
use crate::ticket::Ticket;
use std::sync::Arc;

/// A ticket of the events `first..=last`, as an emitter would give it.
pub fn ticket(pipeline: &Arc<Pipeline>, first: u64, last: u64) -> Ticket {
    Ticket { pipeline: pipeline.clone(), first, last, given_id: None, duplicate: false }
}
