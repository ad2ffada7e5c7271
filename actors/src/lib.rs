//! Who does what, when: admission, batching, persistence, indexing and their supervision. The only place that knows actix.

pub mod chaos;
pub mod clock;
mod commit;
pub mod cores;
mod emitter;
mod engine;
mod error;
mod kernel_sync;
mod lanes;
pub mod ledger;
mod mail;
pub mod messages;
pub mod metrics;
#[cfg(feature = "model")]
pub mod model;
pub mod observe;
mod opening;
mod options;
mod pipeline;
mod refusals;
mod resolver;
mod restart;
mod run;
mod running;
pub mod sealer;
mod shed;
mod shell;
#[cfg(feature = "chaos")]
#[doc(hidden)]
pub mod simulation;
pub mod sources;
pub mod stages;
pub mod supervision;
mod sync;
mod ticket;
mod trees;
pub mod watermark;

pub use emitter::Emitter;
pub use engine::{Engine, EngineStatus, Shared, read_one};
pub use error::{CommitError, EmitError, PoisonCause, StageError, Unfinished};
pub use kernel_sync::{AttachError, Condition, SourceStatus, SyncError};
pub use opening::{Layout, OpenError};
pub use options::{EngineOptions, Scrub, Sources};
pub use pipeline::{Cutting, Pipeline, Record};
pub use refusals::{Refusal, Refusals};
pub use shed::{Shed, Shedding};
pub use ticket::{Committed, GroupTicket, Ticket};
pub use trees::TreeKeeper;
