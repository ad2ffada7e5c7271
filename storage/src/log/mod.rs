//! The record: segments of blocks of commit units.

mod block;
mod blocks;
mod bytes;
mod chain;
mod check;
mod codec;
pub mod entry;
mod footer;
pub mod idset;
mod inspect;
mod lock;
mod lookup;
mod prealloc;
mod reader;
mod recover;
mod seal;
mod segment;
mod unit;
mod walk;
mod writer;

pub use block::{PreparedBlock, SummaryBuilder};
pub use chain::{ChainValue, content_digest, genesis};
pub(crate) use check::{SegmentCheck, check_segment};
pub use codec::Codec;
pub use inspect::{Inspection, TornTail, inspect};
pub use lock::{HEALTH_ROLES, Health, LockFile, LockInfo, OwnerState, Watermark};
pub use prealloc::Prealloc;
pub use reader::{LogView, Segments, segment_files};
pub use recover::{Place, Recovered, Tail, recover};
pub use seal::Sealing;
pub(crate) use seal::is_sealed;
pub use segment::FORMAT_VERSION;
pub use unit::{UnitBuilder, control};
pub use writer::{AppendError, LogWriter, WriterOptions};
