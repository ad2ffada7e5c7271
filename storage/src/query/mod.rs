//! Questions to the journal.

mod source;

pub use source::{BlockSummary, EventSource, agent_bits};
