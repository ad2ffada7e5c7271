//! Questions to the journal: by what events are, and by what caused them.
//!
//! A query looks at the record chunk by chunk. Where the index knows a chunk, it names the places worth reading;
//! elsewhere the summaries in the blocks' headers tell which blocks to leave out. Every event read is checked against
//! the whole query, so an index can only save work.

mod carriers;
mod causes;
mod filter;
#[cfg(test)]
pub(crate) mod mock;
mod plan;
#[cfg(test)]
mod properties;
mod run;
mod source;
mod text;
#[cfg(test)]
mod walks;
mod windows;

pub use causes::{Edge, Graph, WalkLimits, impact, why};
pub use filter::Query;
pub use plan::{Candidates, Plan};
pub use run::QueryRun;
pub use source::{BlockSummary, EventSource, agent_bits};
pub use text::Needle;
