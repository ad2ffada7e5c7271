//! semj: an embedded, actor-based journal of semantic events for agent runtimes.
//!
//! Every event - a decision, a tool call, a file written - is emitted in well under a microsecond, committed in groups,
//! ordered once and for all, linked to what caused it, and can be asked for, verified and exported. What a [`Ticket`]
//! confirms survives a power cut; nothing damaged is ever passed off as whole.
//!
//! ```
//! use semj::{Event, Journal};
//! use serde_json::json;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("journal");
//! let journal = Journal::open(&path)?; // Its own threads; no async runtime needed.
//! let planner = journal.emitter("planner");
//! let call = planner.try_emit(Event::decision("run the tests").payload(json!({"gen_ai.tool.name": "bash"})))?;
//! let effect = planner.try_emit(Event::file_write("/src/lib.rs").parent(call.id()))?;
//! effect.wait()?; // On disk: survives a power cut. In async code: `effect.await?`
//!
//! for event in journal.query().agent("planner").covering(&effect).run()? {
//!     let event = event?;
//!     println!("{} {}", event.sequence, event.event.event_type());
//! }
//! let graph = journal.why(effect.id())?;
//! assert_eq!(graph.edges[0].cause, call.id());
//! journal.close(std::time::Duration::from_secs(5))?;
//! # Ok(())
//! # }
//! ```

pub mod actix;
mod config;
mod error;
pub mod import;
mod journal;
mod query;
mod reader;
mod repair;
mod report;
mod stream;
#[cfg(feature = "torture")]
pub mod torture;
mod view;

pub use config::Options;
pub use error::Error;
pub use journal::Journal;
pub use query::QueryBuilder;
pub use reader::Reader;
pub use repair::repair;
pub use report::{Health, Owner, Status, Verification, age_ms};
pub use semj_actors::metrics;
pub use semj_actors::observe;
pub use semj_actors::sources;
pub use semj_actors::{
    AttachError, CommitError, Committed, Condition, EmitError, Emitter, GroupTicket, OpenError, SourceStatus,
    SyncError, Ticket, Unfinished,
};
pub use semj_storage::blobs::BlobError;
pub use semj_storage::error::{Damage, ErrorKind, ReadError};
pub use semj_storage::event::{self, Category, Event, EventType, Priority, Recorded};
pub use semj_storage::kernel;
pub use semj_storage::limits;
/// Control records that tell where kernel sources stand.
pub use semj_storage::log::control;
pub use semj_storage::log::{Account, Codec, Origin, Standing, TornTail};
pub use semj_storage::query::{Edge, Graph, Query, WalkLimits};
pub use semj_storage::verify::{VerifyLevel, VerifyReport};
pub use stream::EventStream;
pub use view::Events;
