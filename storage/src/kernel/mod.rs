//! The kernel's semantic journal, byte for byte: profile `semj-1.0`.
//!
//! Bytes in, values out, and back: no I/O. The event record is exact, as the kernel's own function builds it; heads of
//! streams and blocks of layout A are a reading, which docs/FORMAT.md states. Nothing that a record holds is lost:
//! unknown codes, bytes behind a NUL and fields without one survive decoding and encoding, and the way through an
//! event of the journal.
//!
//! ```
//! use semj_storage::kernel::{EventHeader, Record};
//! let header = EventHeader { event_id: 2, event_type: 0x0101, ..EventHeader::default() };
//! let bytes = Record { header, ..Record::default() }.to_bytes()?;
//! assert_eq!(bytes.len(), 5412);
//! let (record, used) = Record::decode(&bytes)?;
//! assert_eq!((record.header.event_id, used), (2, 5412));
//! # Ok::<(), semj_storage::kernel::Reject>(())
//! ```

mod block;
mod checksum;
mod convert;
mod draft;
mod header;
mod identity;
mod json_in;
mod json_out;
mod kept;
mod layout;
mod lives;
mod patch;
mod record;
mod reject;
mod stream;
mod texts;

#[cfg(test)]
mod tests;

pub use block::{Block, BlockHeader, StoreBlock, StoreEntry, StoreHeader, encode_block};
pub use checksum::checksum;
pub use convert::{Encoded, Numbering, SOURCE, event_of, restore, set_wall_time};
pub use draft::{Cut, How};
pub use header::{HeaderTail, JournalHeader, Reserved, UserspaceHeader};
pub use identity::{Instance, Instances, split_id};
pub use json_in::{Unreadable, bytes_of};
pub use json_out::{Kind, Shown, show};
pub use layout::{Field, Padded, Width};
pub use lives::Lives;
pub use record::{CausalityLink, Context, EventHeader, Record};
pub use reject::Reject;
pub use stream::{Broken, Step, Stream, Walk, next_record};

/// `SEMJ` as a number; little-endian on disk, so `4A 4D 45 53`.
pub const MAGIC: u32 = 0x5345_4D4A;
/// `USRS`: the head of a stream that userspace wrote.
pub const MARKER: u32 = 0x5553_5253;
/// `STOR`: a storage block.
pub const BLOCK_MAGIC: u32 = 0x5354_4F52;
/// The major version of streams that can be read.
pub const VERSION_MAJOR: u32 = 1;
/// The version of event records.
pub const EVENT_VERSION: u32 = 1;

/// Bytes of a record's head.
pub const HEADER_BYTES: usize = 132;
/// Bytes of a record's context.
pub const CONTEXT_BYTES: usize = 5_280;
/// Bytes of a record without payload, metadata and links.
pub const FIXED_BYTES: usize = HEADER_BYTES + CONTEXT_BYTES;
/// Bytes of a link.
pub const LINK_BYTES: usize = 160;
/// Largest payload of a record, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 65_536;
/// Largest metadata of a record, in bytes.
pub const METADATA_BYTES_MAX: usize = 2_048;
/// Most links of a record.
pub const LINKS_MAX: usize = 256;
/// Largest record, in bytes.
pub const RECORD_BYTES_MAX: usize =
    FIXED_BYTES + PAYLOAD_BYTES_MAX + METADATA_BYTES_MAX + LINKS_MAX * LINK_BYTES;

/// Bytes of the head of a block of layout A.
pub const BLOCK_A_BYTES: usize = 104;
/// Bytes of a block of layout B.
pub const BLOCK_B_BYTES: usize = 4_096;
/// Slots of a block of layout B.
pub const BLOCK_B_SLOTS: usize = 64;
/// Where the data of a block of layout B begins.
pub const BLOCK_B_DATA_AT: usize = StoreHeader::BYTES + BLOCK_B_SLOTS * StoreEntry::BYTES;
/// Bytes of the data of a block of layout B.
pub const BLOCK_B_DATA_BYTES: usize = BLOCK_B_BYTES - BLOCK_B_DATA_AT;
/// Bytes of the head of a stream that userspace wrote.
pub const STREAM_HEADER_BYTES: usize = JournalHeader::BYTES + HeaderTail::BYTES;

/// Where a record's checksum stands.
const CHECKSUM_AT: usize = 84;
/// Where the checksum of a stream's head stands.
const HEADER_CHECKSUM_AT: usize = 48;
/// Where the checksum of a block of layout A stands.
const BLOCK_A_CHECKSUM_AT: usize = 36;

const _: () = {
    assert!(EventHeader::BYTES == HEADER_BYTES && Context::BYTES == CONTEXT_BYTES);
    assert!(FIXED_BYTES == 5_412 && RECORD_BYTES_MAX == 113_956);
    assert!(CausalityLink::BYTES == LINK_BYTES && BlockHeader::BYTES == BLOCK_A_BYTES);
    assert!(BLOCK_B_DATA_AT == 1_608 && BLOCK_B_DATA_BYTES == 2_488);
    assert!(STREAM_HEADER_BYTES == 80);
    // What a record may hold, an event may hold too.
    assert!(PAYLOAD_BYTES_MAX * 2 < crate::limits::PAYLOAD_BYTES_MAX);
    assert!(METADATA_BYTES_MAX <= crate::limits::METADATA_BYTES_MAX);
    assert!(LINKS_MAX <= crate::limits::LINKS_MAX);
};
