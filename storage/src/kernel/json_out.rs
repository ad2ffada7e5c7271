//! Records, blocks and heads as JSON: the objects that golden vectors hold under `decoded`.
//!
//! That form names long payloads and many links only by their hash. The full form adds what bytes need to come back:
//! `hex` of any length, all `links`, and `behind_hex` of text fields.

use super::layout::Padded;
use super::{BLOCK_A_BYTES, BLOCK_B_BYTES, BLOCK_MAGIC, LINK_BYTES, MAGIC, MARKER, STREAM_HEADER_BYTES};
use super::{
    Block, BlockHeader, CausalityLink, JournalHeader, Record, Reject, Reserved, StoreBlock, StoreEntry,
    StoreHeader, UserspaceHeader,
};
use serde::ser::{Serialize, SerializeMap, Serializer};
use sha2::{Digest as _, Sha256};

/// Longest payload or metadata that is shown in the short form, in bytes.
const HEX_BYTES_MAX: usize = 256;
/// Most links that are shown in the short form.
const LINKS_SHOWN_MAX: usize = 4;

/// A value on its way to JSON.
#[derive(Debug)]
pub struct Shown<'v, T: ?Sized> {
    /// The value.
    pub value: &'v T,
    /// With everything that its bytes need to come back.
    pub full: bool,
}

/// A structure whose fields may stand among others.
pub(super) trait ShowInto {
    fn show_into<M: SerializeMap>(&self, map: &mut M, full: bool) -> Result<(), M::Error>;
}

macro_rules! plain {
    ($($type:ty)*) => {$(
        impl Serialize for Shown<'_, $type> {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                self.value.serialize(s)
            }
        }
    )*};
}
plain!(u32 u64 i64);

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |n: u8| char::from_digit(n.into(), 16).unwrap_or('0');
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect()
}

impl<const N: usize> Serialize for Shown<'_, Padded<'_, N>> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let (text, behind) = (self.value.text(), self.value.behind());
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("hex", &hex(text))?;
        map.serialize_entry("utf8", &std::str::from_utf8(text).ok())?;
        map.serialize_entry("nul_terminated", &self.value.is_terminated())?;
        if !behind.is_empty() {
            map.serialize_entry("bytes_after_nul", &true)?;
            if self.full {
                map.serialize_entry("behind_hex", &hex(behind))?;
            }
        }
        map.end()
    }
}

impl Serialize for Shown<'_, Reserved> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&hex(&self.value.0))
    }
}

/// Payload or metadata.
impl Serialize for Shown<'_, [u8]> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("len", &self.value.len())?;
        map.serialize_entry("sha256", &hex(&Sha256::digest(self.value)))?;
        if self.full || self.value.len() <= HEX_BYTES_MAX {
            map.serialize_entry("hex", &hex(self.value))?;
        }
        map.end()
    }
}

impl Serialize for Shown<'_, [CausalityLink<'_>]> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.value.iter().map(|value| Shown { value, full: self.full }))
    }
}

/// A record and the bytes it takes; without context and links inside a block, unless all is asked for.
struct ShownRecord<'v> {
    record: &'v Record<'v>,
    consumed: usize,
    with_context: bool,
    full: bool,
}

impl Serialize for ShownRecord<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let (record, full) = (self.record, self.full);
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("header", &Shown { value: &record.header, full })?;
        map.serialize_entry("payload", &Shown { value: record.payload.as_ref(), full })?;
        map.serialize_entry("metadata", &Shown { value: record.metadata.as_ref(), full })?;
        map.serialize_entry("consumed", &self.consumed)?;
        if !self.with_context && !full {
            return map.end();
        }
        map.serialize_entry("context", &Shown { value: &record.context, full })?;
        let links = record.links.as_slice();
        match links {
            [first, .., last] if links.len() > LINKS_SHOWN_MAX && !full => {
                let ends = [first, last].map(|value| Shown { value, full });
                map.serialize_entry("links_first_last", &ends)?;
                let mut hash = Sha256::new();
                links.iter().for_each(|link| hash.update(link.to_bytes()));
                map.serialize_entry("links_sha256", &hex(&hash.finalize()))?;
            }
            _ => map.serialize_entry("links", &Shown { value: links, full })?,
        }
        map.end()
    }
}

impl Serialize for Shown<'_, UserspaceHeader> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        self.value.journal.show_into(&mut map, self.full)?;
        map.serialize_entry("userspace_marker", &self.value.tail.userspace_marker)?;
        map.serialize_entry("reserved_hex", &hex(&self.value.tail.reserved.0))?;
        map.end()
    }
}

struct ShownBlock<'v> {
    block: &'v Block<'v>,
    full: bool,
}

impl Serialize for ShownBlock<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        struct Events<'v>(&'v Block<'v>, bool);
        impl Serialize for Events<'_> {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                let records = self.0.each().filter_map(|bytes| Record::decode(bytes).ok());
                let full = self.1;
                let mut list = s.serialize_seq(None)?;
                for (record, consumed) in records {
                    let shown = ShownRecord { record: &record, consumed, with_context: false, full };
                    serde::ser::SerializeSeq::serialize_element(&mut list, &shown)?;
                }
                serde::ser::SerializeSeq::end(list)
            }
        }
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("block", &Shown { value: &self.block.header, full: self.full })?;
        map.serialize_entry("events", &Events(self.block, self.full))?;
        map.end()
    }
}

struct ShownEntry<'v>(&'v StoreEntry, &'v [u8], bool);

impl Serialize for ShownEntry<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        self.0.show_into(&mut map, self.2)?;
        map.serialize_entry("data", &Shown { value: self.1, full: self.2 })?;
        map.end()
    }
}

struct ShownStore<'v>(&'v StoreBlock<'v>, bool);

impl Serialize for ShownStore<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        struct Head<'v>(&'v StoreHeader);
        impl Serialize for Head<'_> {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                let h = self.0;
                let mut map = s.serialize_map(None)?;
                map.serialize_entry("magic", &h.magic)?;
                map.serialize_entry("version", &h.version)?;
                map.serialize_entry("block_id", &h.block_id)?;
                map.serialize_entry("event_count", &h.event_count)?;
                map.serialize_entry("used_space", &h.used_space)?;
                map.serialize_entry("compression_type", &h.compression_type)?;
                map.serialize_entry("checksum", &h.checksum)?;
                map.serialize_entry("first_event_id", &h.first_event_id)?;
                map.serialize_entry("last_event_id", &h.last_event_id)?;
                map.serialize_entry("creation_time", &h.creation_time)?;
                map.end()
            }
        }
        let entries: Vec<_> = self.0.entries.iter().map(|(e, data)| ShownEntry(e, data, self.1)).collect();
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("block", &Head(&self.0.header))?;
        map.serialize_entry("entries", &entries)?;
        map.end()
    }
}

/// What bytes may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// An event record.
    Event,
    /// A causality link on its own.
    Link,
    /// A storage block of layout A.
    BlockA,
    /// A storage block of layout B.
    BlockB,
    /// A head of 52 bytes.
    JournalHeader,
    /// A head of 80 bytes.
    UserspaceHeader,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Event, Self::Link, Self::BlockA, Self::BlockB, Self::JournalHeader, Self::UserspaceHeader];

    /// The kind's name.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Event => "event",
            Kind::Link => "link",
            Kind::BlockA => "block_a",
            Kind::BlockB => "block_b",
            Kind::JournalHeader => "journal_header",
            Kind::UserspaceHeader => "userspace_header",
        }
    }

    /// What the bytes most likely are. An event record has no magic number: it is what nothing else is.
    pub fn guess(bytes: &[u8]) -> Self {
        let word = |at| u32::from_le_bytes(super::layout::get(bytes, at));
        let first = word(0);
        // A record begins with its id, which may be any number, those of the magic included. What has the right checksum,
        // or is a block's in every field, is no record all the same, whatever follows.
        let is_short = first == MAGIC && super::JournalHeader::decode(bytes).is_ok();
        let is_head = is_short || first == MAGIC && super::UserspaceHeader::decode(bytes).is_ok();
        let is_block = first == BLOCK_MAGIC
            && (word(4), word(24)) == (1, 0)
            && u64::from(word(16)) == BLOCK_A_BYTES as u64 + u64::from(word(28))
            && word(28) == word(32);
        if is_block {
            return Kind::BlockA;
        }
        if !is_head && matches!(super::record::frame(bytes), Ok(_) | Err(Reject::TruncatedBody { .. })) {
            return Kind::Event;
        }
        if first == MAGIC || first == MAGIC.swap_bytes() {
            // Behind the short head a record may begin with the marker as its id.
            let long = !is_short && (word(52) == MARKER || bytes.len() == STREAM_HEADER_BYTES);
            return if long { Kind::UserspaceHeader } else { Kind::JournalHeader };
        }
        if first == BLOCK_MAGIC || first == BLOCK_MAGIC.swap_bytes() {
            // A block of layout A has its size there, one of layout B the number of its entries.
            return if (word(16) as usize) < BLOCK_A_BYTES { Kind::BlockB } else { Kind::BlockA };
        }
        if bytes.len() == LINK_BYTES { Kind::Link } else { Kind::Event }
    }
}

/// The JSON form of what stands at the start of `bytes`, and how many bytes it takes.
///
/// # Errors
/// When the bytes are no such thing.
pub fn show(kind: Kind, bytes: &[u8], full: bool, pretty: bool) -> Result<(String, usize), Reject> {
    fn text(value: &impl Serialize, pretty: bool) -> String {
        // Keys are text and every value has a JSON form: this has no way to fail.
        if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) }
            .unwrap_or_default()
    }
    Ok(match kind {
        Kind::Event => {
            let (record, consumed) = Record::decode(bytes)?;
            (text(&ShownRecord { record: &record, consumed, with_context: true, full }, pretty), consumed)
        }
        Kind::Link => {
            let raw = bytes.first_chunk();
            let raw = raw.ok_or(Reject::TruncatedHeader { expected: LINK_BYTES, found: bytes.len() })?;
            (text(&Shown { value: &CausalityLink::read(raw), full }, pretty), LINK_BYTES)
        }
        Kind::BlockA => {
            let block = Block::decode(bytes)?;
            (text(&ShownBlock { block: &block, full }, pretty), block.bytes())
        }
        Kind::BlockB => {
            let block = StoreBlock::decode(bytes)?;
            (text(&ShownStore(&block, full), pretty), BLOCK_B_BYTES)
        }
        Kind::JournalHeader => {
            let header = JournalHeader::decode(bytes)?;
            (text(&Shown { value: &header, full }, pretty), JournalHeader::BYTES)
        }
        Kind::UserspaceHeader => {
            let header = UserspaceHeader::decode(bytes)?;
            (text(&Shown { value: &header, full }, pretty), STREAM_HEADER_BYTES)
        }
    })
}

const _: () = assert!(BlockHeader::BYTES == BLOCK_A_BYTES);
