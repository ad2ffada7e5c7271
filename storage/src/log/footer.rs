//! The footer of a sealed segment: derived data that spares readers a walk. All of it can be made again from the blocks.
//!
//! ```text
//!  0  [8]  "SEMJDIR1"        16  u64  length of the footer, this head included
//!  8  u32  CRC of the head   24  3 rows: u32 CRC of the section, u32 0, u64 length
//! 12  u32  3                 72  the sections: blocks, ids, streams
//! ```
//! *Blocks*: 96 bytes each (offset, stored length, raw length, body CRC, codec, units, first sequence, count, types,
//! times, filter). *Ids* and *streams* are id sets: fingerprint of an id given by a caller, and of a stream's name, to
//! the event's place in the segment (of a stream: its last event's). *Streams* names each source that has a resume point
//! in the segment, too, and says that it names all of them.

use super::blocks::BlockInfo;
use super::bytes::{crc_with_hole, get, i64_at, put, u32_at, u64_at};
use super::idset::{IdSetBuilder, fingerprint};
use super::segment::FOOTER_MAGIC;
use crate::query::BlockSummary;
use std::collections::HashMap;
use uuid::Uuid;

const HEAD_BYTES: usize = 72;
const ROW_BYTES: usize = 16;
const BLOCK_BYTES: usize = 96;
const SECTIONS: usize = 3;

/// Collects what the footer tells, event by event.
#[derive(Clone, Debug, Default)]
pub(crate) struct FooterBuilder {
    blocks: Vec<u8>,
    ids: IdSetBuilder,
    streams: HashMap<u64, u32>,
    /// Of each source the first event of the last group with a resume point.
    points: HashMap<u64, u32>,
    /// It tells something of sources.
    has_points: bool,
    /// As footers were before they named sources.
    leaves_points_out: bool,
}

/// What stands in the set of streams for the resume points of a source. No stream has such a name: it is not UTF-8, and a
/// reader looks at the event all the same.
pub(crate) fn point_key(source: &str) -> Vec<u8> {
    [b"\xFFsemj resume point ", source.as_bytes()].concat()
}

/// Stands in the set of streams where it names all sources, at one of the places that no event has.
pub(crate) const ALL_POINTS: &[u8] = b"\xFFsemj resume points v1";
/// The segment tells something of sources.
pub(crate) const SOME_POINTS_PLACE: u32 = u32::MAX;
/// It does not.
pub(crate) const NO_POINTS_PLACE: u32 = u32::MAX - 1;

impl FooterBuilder {
    pub(crate) fn block(&mut self, b: &BlockInfo) {
        let mut row = [0; BLOCK_BYTES];
        let s = &b.summary;
        put(&mut row, 0, &b.offset.to_le_bytes());
        put(&mut row, 8, &b.stored_len.to_le_bytes());
        put(&mut row, 12, &b.raw_len.to_le_bytes());
        put(&mut row, 16, &b.body_crc.to_le_bytes());
        put(&mut row, 20, &[b.codec]);
        put(&mut row, 24, &b.units.to_le_bytes());
        put(&mut row, 28, &((s.last_sequence + 1 - s.first_sequence) as u32).to_le_bytes());
        put(&mut row, 32, &s.first_sequence.to_le_bytes());
        put(&mut row, 40, &s.types.to_le_bytes());
        put(&mut row, 48, &s.time_min.to_le_bytes());
        put(&mut row, 56, &s.time_max.to_le_bytes());
        put(&mut row, 64, &s.agents);
        self.blocks.extend_from_slice(&row);
    }

    /// One event, `place` events behind the segment's first.
    pub(crate) fn event(&mut self, place: u32, given_id: Option<&Uuid>, stream: Option<&[u8]>) {
        if let Some(id) = given_id {
            self.ids.add(fingerprint(id.as_bytes()), place);
        }
        if let Some(name) = stream {
            self.streams.insert(fingerprint(name), place);
        }
    }

    /// A group with a resume point of a source, `place` events behind the segment's first.
    pub(crate) fn point(&mut self, place: u32, source: &str) {
        self.points.insert(fingerprint(&point_key(source)), place);
    }

    /// A control record that tells something of a source.
    pub(crate) fn tells_of_source(&mut self) {
        self.has_points = true;
    }

    /// The same footer as it was made before footers named sources.
    pub(crate) fn without_points(self) -> Self {
        FooterBuilder { leaves_points_out: true, ..self }
    }

    /// The footer's bytes.
    pub(crate) fn encode(self, journal: &Uuid) -> Vec<u8> {
        let mut streams = IdSetBuilder::new();
        #[cfg(test)]
        let leaves_points_out = self.leaves_points_out || AS_BEFORE.get();
        #[cfg(not(test))]
        let leaves_points_out = self.leaves_points_out;
        if !leaves_points_out {
            let place = if self.has_points { SOME_POINTS_PLACE } else { NO_POINTS_PLACE };
            streams.add(fingerprint(ALL_POINTS), place);
            self.points.into_iter().for_each(|(name, place)| streams.add(name, place));
        }
        self.streams.into_iter().for_each(|(name, place)| streams.add(name, place));
        let sections = [self.blocks, self.ids.encode(), streams.encode()];
        let total: usize = HEAD_BYTES + sections.iter().map(Vec::len).sum::<usize>();
        let mut head = [0; HEAD_BYTES];
        put(&mut head, 0, &FOOTER_MAGIC);
        put(&mut head, 12, &(SECTIONS as u32).to_le_bytes());
        put(&mut head, 16, &(total as u64).to_le_bytes());
        for (at, section) in sections.iter().enumerate() {
            put(&mut head, 24 + at * ROW_BYTES, &crc32fast::hash(section).to_le_bytes());
            put(&mut head, 32 + at * ROW_BYTES, &(section.len() as u64).to_le_bytes());
        }
        let crc = crc_with_hole(journal, &head, 8);
        put(&mut head, 8, &crc.to_le_bytes());
        let mut out = head.to_vec();
        sections.iter().for_each(|s| out.extend_from_slice(s));
        out
    }
}

#[cfg(test)]
thread_local! {
    /// Lets this thread make footers as they were before they named sources.
    pub(super) static AS_BEFORE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Where the sections of a footer lie, and their checksums.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FooterHead {
    /// Offset in the file, length and CRC: blocks, ids, streams.
    pub(crate) sections: [(u64, u64, u32); SECTIONS],
}

impl FooterHead {
    /// How many bytes to read to decode a head.
    pub(crate) const BYTES: usize = HEAD_BYTES;

    /// Decodes the head of a footer that lies at `offset` and ends at `end`.
    pub(crate) fn decode(h: &[u8], journal: &Uuid, offset: u64, end: u64) -> Option<Self> {
        let h = h.get(..HEAD_BYTES)?;
        let whole = h.starts_with(&FOOTER_MAGIC)
            && u32_at(h, 8) == crc_with_hole(journal, h, 8)
            && u32_at(h, 12) as usize == SECTIONS
            && u64_at(h, 16).checked_add(offset) == Some(end);
        let mut at = offset + HEAD_BYTES as u64;
        let mut sections = [(0, 0, 0); SECTIONS];
        for (n, section) in sections.iter_mut().enumerate() {
            let length = u64_at(h, 32 + n * ROW_BYTES);
            *section = (at, length, u32_at(h, 24 + n * ROW_BYTES));
            at = at.checked_add(length)?;
        }
        (whole && at == end).then_some(FooterHead { sections })
    }
}

/// Decodes the section of blocks; `None` when it is not what its CRC says, or out of order.
pub(crate) fn decode_blocks(bytes: &[u8], crc: u32, first_sequence: u64) -> Option<Vec<BlockInfo>> {
    if crc32fast::hash(bytes) != crc || !bytes.len().is_multiple_of(BLOCK_BYTES) {
        return None;
    }
    let mut next = first_sequence;
    let mut blocks = Vec::with_capacity(bytes.len() / BLOCK_BYTES);
    for row in bytes.chunks_exact(BLOCK_BYTES) {
        let (first, count) = (u64_at(row, 32), u64::from(u32_at(row, 28)));
        if first != next {
            return None;
        }
        next = first + count;
        blocks.push(BlockInfo {
            offset: u64_at(row, 0),
            stored_len: u32_at(row, 8),
            raw_len: u32_at(row, 12),
            body_crc: u32_at(row, 16),
            codec: get::<1>(row, 20)[0],
            units: u32_at(row, 24),
            summary: BlockSummary {
                first_sequence: first,
                last_sequence: next - 1,
                types: u64_at(row, 40),
                time_min: i64_at(row, 48),
                time_max: i64_at(row, 56),
                agents: get(row, 64),
            },
        });
    }
    Some(blocks)
}
