//! Why bytes are refused, in the words that golden vectors use.

use std::borrow::Cow;
use std::fmt;

/// Why bytes are no record, block or header.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Reject {
    /// Fewer bytes than the fixed part takes.
    TruncatedHeader {
        /// Bytes the fixed part takes.
        expected: usize,
        /// Bytes there are.
        found: usize,
    },
    /// Fewer bytes than the sizes in the fixed part add up to.
    TruncatedBody {
        /// Bytes by the sizes.
        expected: u64,
        /// Bytes there are.
        found: usize,
    },
    /// Not the magic number.
    BadMagic {
        /// The magic number.
        expected: u32,
        /// What stands in its place.
        found: u32,
    },
    /// No marker of a userspace header.
    BadMarker {
        /// The marker.
        expected: u32,
        /// What stands in its place.
        found: u32,
    },
    /// A version that cannot be read.
    BadVersion {
        /// The version that can be read.
        expected: u32,
        /// The version there is.
        found: u32,
    },
    /// The context has one size only.
    BadContextSize(
        /// What the header says.
        u32,
    ),
    /// More payload than a record may have.
    PayloadTooLarge(
        /// What the header says.
        u32,
    ),
    /// More metadata than a record may have.
    MetadataTooLarge(
        /// What the header says.
        u32,
    ),
    /// More links than a record may have.
    TooManyLinks(
        /// What the header says.
        u32,
    ),
    /// The parts do not add up to the whole.
    SizeMismatch {
        /// The sum of the parts.
        expected: u64,
        /// The whole, by its own field.
        found: u64,
    },
    /// The checksum is not that of the bytes.
    BadChecksum {
        /// That of the bytes.
        expected: u32,
        /// The stored one.
        found: u32,
    },
    /// Compressed in a way that no kernel reads.
    UnsupportedCompression(
        /// The code.
        u32,
    ),
    /// An event inside a block is refused.
    BadEvent {
        /// Which, from 0.
        index: u32,
        /// Why.
        why: Box<Reject>,
    },
    /// Bytes behind the last event of a block.
    TrailingData(
        /// How many.
        usize,
    ),
    /// First and last id of a block are not those of its events.
    IdRangeMismatch {
        /// By the events.
        expected: (u64, u64),
        /// By the block.
        found: (u64, u64),
    },
    /// A block of the storage engine has one length only.
    BadBlockLength(
        /// The length there is.
        usize,
    ),
    /// More entries than a block of the storage engine has slots.
    TooManyEntries(
        /// What the block says.
        u32,
    ),
    /// More space used than a block of the storage engine has.
    UsedSpaceOutOfRange(
        /// What the block says.
        u32,
    ),
    /// An entry ends behind the used space.
    EntryOutOfRange {
        /// Which, from 0.
        index: u32,
        /// Where it ends.
        end: u64,
        /// Where the used space ends.
        used: u32,
    },
}

impl Reject {
    /// The reason in one word, that of an event in a block behind `bad_event:`.
    pub fn name(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Reject::TruncatedHeader { .. } => "truncated_header",
            Reject::TruncatedBody { .. } => "truncated_body",
            Reject::BadMagic { .. } => "bad_magic",
            Reject::BadMarker { .. } => "bad_marker",
            Reject::BadVersion { .. } => "bad_version",
            Reject::BadContextSize(_) => "bad_context_size",
            Reject::PayloadTooLarge(_) => "payload_too_large",
            Reject::MetadataTooLarge(_) => "metadata_too_large",
            Reject::TooManyLinks(_) => "too_many_links",
            Reject::SizeMismatch { .. } => "size_mismatch",
            Reject::BadChecksum { .. } => "bad_checksum",
            Reject::UnsupportedCompression(_) => "unsupported_compression",
            Reject::BadEvent { why, .. } => return Cow::Owned(format!("bad_event:{}", why.name())),
            Reject::TrailingData(_) => "trailing_data",
            Reject::IdRangeMismatch { .. } => "id_range_mismatch",
            Reject::BadBlockLength(_) => "bad_block_length",
            Reject::TooManyEntries(_) => "too_many_entries",
            Reject::UsedSpaceOutOfRange(_) => "used_space_out_of_range",
            Reject::EntryOutOfRange { .. } => "entry_out_of_range",
        })
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use super::{
            BLOCK_B_BYTES, BLOCK_B_DATA_BYTES, BLOCK_B_SLOTS, CONTEXT_BYTES, LINKS_MAX, METADATA_BYTES_MAX,
            PAYLOAD_BYTES_MAX,
        };
        let over = |f: &mut fmt::Formatter<'_>, what, found: &u32, limit: usize| {
            write!(f, "{what} is {found}, the limit is {limit}")
        };
        match self {
            Reject::TruncatedHeader { expected, found } => {
                write!(f, "the fixed part takes {expected} bytes, there are {found}")
            }
            Reject::TruncatedBody { expected, found } => {
                write!(f, "the whole takes {expected} bytes, there are {found}")
            }
            Reject::BadMagic { expected, found } => {
                write!(f, "the magic number is {expected:#010x}, found {found:#010x}")
            }
            Reject::BadMarker { expected, found } => {
                write!(f, "the userspace marker is {expected:#010x}, found {found:#010x}")
            }
            Reject::BadVersion { expected, found } => {
                write!(f, "this program reads version {expected}, found version {found}")
            }
            Reject::BadContextSize(found) => {
                write!(f, "the context takes {CONTEXT_BYTES} bytes, found a size of {found}")
            }
            Reject::PayloadTooLarge(n) => over(f, "payload bytes", n, PAYLOAD_BYTES_MAX),
            Reject::MetadataTooLarge(n) => over(f, "metadata bytes", n, METADATA_BYTES_MAX),
            Reject::TooManyLinks(n) => over(f, "links", n, LINKS_MAX),
            Reject::SizeMismatch { expected, found } => {
                write!(f, "the parts add up to {expected} bytes, the size of the whole is given as {found}")
            }
            Reject::BadChecksum { expected, found } => {
                write!(f, "the bytes have the checksum {expected:#010x}, found {found:#010x}")
            }
            Reject::UnsupportedCompression(code) => write!(f, "expected compression 0, found {code}"),
            Reject::BadEvent { index, why } => write!(f, "event {index} of the block: {why}"),
            Reject::TrailingData(bytes) => write!(f, "{bytes} bytes behind the last event of the block"),
            Reject::IdRangeMismatch { expected, found } => write!(
                f,
                "the events have the ids {} to {}, the block says {} to {}",
                expected.0, expected.1, found.0, found.1
            ),
            Reject::BadBlockLength(found) => {
                write!(f, "a block takes exactly {BLOCK_B_BYTES} bytes, there are {found}")
            }
            Reject::TooManyEntries(n) => over(f, "entries", n, BLOCK_B_SLOTS),
            Reject::UsedSpaceOutOfRange(n) => over(f, "used bytes", n, BLOCK_B_DATA_BYTES),
            Reject::EntryOutOfRange { index, end, used } => {
                write!(f, "entry {index} ends at {end}, the used space at {used}")
            }
        }
    }
}

impl std::error::Error for Reject {}
