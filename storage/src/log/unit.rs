//! A commit unit: what commits atomically. All its bytes are under the hash chain.
//!
//! ```text
//!  0  u64  first sequence          24  u64  nonce of derived ids        64  u64  hybrid logical clock, physical part, ns
//!  8  u32  number of events        32  i64  handed to the disk, ns      72  u16  hybrid logical clock, counter
//! 12  u32  length of the entries   40  i64  wall clock - boot clock     74  6 x 0
//! 16  u32  length of the controls  48  [16] boot id                     80  table: u32 offset, u32 CRC per event
//! 20  u32  CRC of these 80 bytes                                        ..  entries, then control records
//! ```
//! The CRC of a row covers the event's index, u32, and its entry. With the one of the fixed part it makes an event that is
//! read alone, without the body's CRC, as safe as one read with its block.
//!
//! A control record is `u16 kind, u16 index, u32 length, bytes`: `index` is the place in the unit of the first event of the
//! group that it was committed with, 0 where it came alone.

use super::bytes::{crc_with_hole, i64_at, put, u32_at, u64_at, uuid_at};
use super::entry::{EntryRef, UnitInfo};
use crate::event::Timestamp;
use crate::limits::BATCH_EVENTS_MAX;
use crate::plant::{Bug, planted};
use uuid::Uuid;

/// Length of the fixed part.
pub(crate) const PREAMBLE_BYTES: usize = 80;
/// Length of one row of the entry table.
pub(crate) const ROW_BYTES: usize = 8;
/// Where the CRC of the fixed part lies.
const CRC_AT: usize = 20;

/// Builds the bytes of one unit.
#[derive(Debug, Default)]
pub struct UnitBuilder {
    rows: Vec<u8>,
    entries: Vec<u8>,
    controls: Vec<u8>,
    count: u32,
}

impl UnitBuilder {
    /// A builder with room for that many bytes of entries.
    pub fn with_capacity(events: usize, bytes: usize) -> Self {
        UnitBuilder {
            rows: Vec::with_capacity(events * ROW_BYTES),
            entries: Vec::with_capacity(bytes),
            ..Self::default()
        }
    }

    /// Adds an event; `write` appends the bytes of its entry.
    pub fn entry(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.entries.len();
        write(&mut self.entries);
        let crc = entry_crc(self.count, self.entries.get(start..).unwrap_or_default());
        self.row(start as u32, crc);
    }

    /// Adds the event whose entry is `bytes`, which start at `start` in what [`UnitBuilder::finish_over`] gets.
    pub fn entry_over(&mut self, start: u32, bytes: &[u8]) {
        self.row(start, entry_crc(self.count, bytes));
    }

    fn row(&mut self, start: u32, crc: u32) {
        self.rows.extend_from_slice(&start.to_le_bytes());
        self.rows.extend_from_slice(&crc.to_le_bytes());
        self.count += 1;
    }

    /// Adds a control record that came with the group whose first event is number `index` of the unit; 0 for one that
    /// came alone.
    pub fn control(&mut self, kind: u16, index: u16, bytes: &[u8]) {
        self.controls.extend_from_slice(&kind.to_le_bytes());
        self.controls.extend_from_slice(&index.to_le_bytes());
        self.controls.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        self.controls.extend_from_slice(bytes);
    }

    /// How many events it holds.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Appends the whole unit to `out`.
    pub fn finish(&self, first_sequence: u64, info: &UnitInfo, hlc: (u64, u16), out: &mut Vec<u8>) {
        self.finish_over(&self.entries, first_sequence, info, hlc, out);
    }

    /// As [`UnitBuilder::finish`] where all entries lie back to back in `entries`: they are copied once.
    pub fn finish_over(
        &self,
        entries: &[u8],
        first_sequence: u64,
        info: &UnitInfo,
        hlc: (u64, u16),
        out: &mut Vec<u8>,
    ) {
        out.reserve(PREAMBLE_BYTES + self.rows.len() + entries.len() + self.controls.len());
        let mut preamble = [0u8; PREAMBLE_BYTES];
        put(&mut preamble, 0, &first_sequence.to_le_bytes());
        put(&mut preamble, 8, &self.count.to_le_bytes());
        put(&mut preamble, 12, &(entries.len() as u32).to_le_bytes());
        put(&mut preamble, 16, &(self.controls.len() as u32).to_le_bytes());
        put(&mut preamble, 24, &info.id_nonce.to_le_bytes());
        put(&mut preamble, 32, &info.recorded.0.to_le_bytes());
        put(&mut preamble, 40, &info.wall_offset_ns.to_le_bytes());
        put(&mut preamble, 48, info.boot_id.as_bytes());
        put(&mut preamble, 64, &hlc.0.to_le_bytes());
        put(&mut preamble, 72, &hlc.1.to_le_bytes());
        let crc = crc_with_hole(&Uuid::nil(), &preamble, CRC_AT);
        put(&mut preamble, CRC_AT, &crc.to_le_bytes());
        out.extend_from_slice(&preamble);
        out.extend_from_slice(&self.rows);
        out.extend_from_slice(entries);
        out.extend_from_slice(&self.controls);
    }
}

/// The fixed part of a unit, decoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Preamble {
    pub(crate) first_sequence: u64,
    pub(crate) count: usize,
    pub(crate) entries_len: usize,
    pub(crate) controls_len: usize,
    pub(crate) info: UnitInfo,
    pub(crate) hlc: (u64, u16),
}

impl Preamble {
    /// Decodes the first 80 bytes of a unit; `None` when they are none.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let fixed = bytes.get(..PREAMBLE_BYTES)?;
        let count = u32_at(fixed, 8) as usize;
        if u32_at(fixed, CRC_AT) != crc_with_hole(&Uuid::nil(), fixed, CRC_AT) {
            return None;
        }
        if count > BATCH_EVENTS_MAX || fixed.get(74..80)? != [0; 6] {
            return None;
        }
        Some(Preamble {
            first_sequence: u64_at(fixed, 0),
            count,
            entries_len: u32_at(fixed, 12) as usize,
            controls_len: u32_at(fixed, 16) as usize,
            info: UnitInfo {
                id_nonce: u64_at(fixed, 24),
                recorded: Timestamp(i64_at(fixed, 32)),
                wall_offset_ns: i64_at(fixed, 40),
                boot_id: uuid_at(fixed, 48),
            },
            hlc: (u64_at(fixed, 64), u32_at(fixed, 72) as u16),
        })
    }

    /// Length of the whole unit.
    pub(crate) fn unit_len(&self) -> usize {
        PREAMBLE_BYTES + self.count * ROW_BYTES + self.entries_len + self.controls_len
    }

    /// Where entry `index` lies behind the preamble's start, from its row and the next one.
    pub(crate) fn entry_range(
        &self,
        row: &[u8],
        next: Option<&[u8]>,
    ) -> Option<(std::ops::Range<usize>, u32)> {
        let base = PREAMBLE_BYTES + self.count * ROW_BYTES;
        let start = u32_at(row, 0) as usize;
        let end = next.map_or(self.entries_len, |n| u32_at(n, 0) as usize);
        (start <= end && end <= self.entries_len).then_some((base + start..base + end, u32_at(row, 4)))
    }
}

/// A unit inside a block body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnitRef<'a> {
    pub(crate) preamble: Preamble,
    pub(crate) bytes: &'a [u8],
}

impl<'a> UnitRef<'a> {
    /// The unit at the start of `body` and what follows it.
    pub(crate) fn split(body: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let preamble = Preamble::parse(body)?;
        let (bytes, rest) = body.split_at_checked(preamble.unit_len())?;
        Some((UnitRef { preamble, bytes }, rest))
    }

    /// Entry `index`, its CRC checked; the error says what is wrong.
    pub(crate) fn entry(&self, index: usize) -> Result<EntryRef<'a>, String> {
        let row_at = PREAMBLE_BYTES + index * ROW_BYTES;
        let row = self.bytes.get(row_at..row_at + ROW_BYTES).ok_or("entry table too short")?;
        let next = (index + 1 < self.preamble.count)
            .then(|| self.bytes.get(row_at + ROW_BYTES..row_at + 2 * ROW_BYTES))
            .flatten();
        let (range, crc) = self.preamble.entry_range(row, next).ok_or("entry table out of order")?;
        let bytes = self.bytes.get(range).ok_or("entry outside its unit")?;
        parse_entry(bytes, crc, index, &self.preamble)
    }

    /// Kind, index and content of each control record; `None` where they do not add up.
    pub(crate) fn controls(&self) -> Option<Vec<(u16, u16, &'a [u8])>> {
        let mut rest = self.bytes.get(self.bytes.len().checked_sub(self.preamble.controls_len)?..)?;
        let mut found = Vec::new();
        while !rest.is_empty() {
            let kind = u16::from_le_bytes(rest.get(..2)?.try_into().ok()?);
            let index = u16::from_le_bytes(rest.get(2..4)?.try_into().ok()?);
            let length = u32_at(rest.get(..8)?, 4) as usize;
            let (content, after) = rest.get(8..)?.split_at_checked(length)?;
            found.push((kind, index, content));
            rest = after;
        }
        Some(found)
    }
}

/// The checksum of one entry. Its index is part of it, so that a row in another's place is found out.
fn entry_crc(index: u32, bytes: &[u8]) -> u32 {
    let covered = index.to_le_bytes();
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(if planted(Bug::EntryChecksumWithoutIndex) { &[] } else { &covered });
    hasher.update(bytes);
    hasher.finalize()
}

/// Entry `index` of a unit from its bytes, after its CRC is checked.
pub(crate) fn parse_entry<'a>(
    bytes: &'a [u8],
    crc: u32,
    index: usize,
    unit: &Preamble,
) -> Result<EntryRef<'a>, String> {
    let sequence = unit.first_sequence + index as u64;
    let found = entry_crc(index as u32, bytes);
    if found != crc {
        return Err(format!("checksum of event {sequence} is {found:08x}, expected {crc:08x}"));
    }
    EntryRef::parse(bytes, sequence, unit.info).ok_or_else(|| format!("event {sequence} does not decode"))
}
