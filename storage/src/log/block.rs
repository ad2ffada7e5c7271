//! A block: one header, and a body of whole commit units.
//!
//! ```text
//!   0  [8]  "SEMJBLK1"               28  u32  number of events         64  [32] chain before
//!   8  u32  CRC of this header       32  u64  first sequence           96  [32] chain after
//!  12  u32  CRC of the stored body   40  u64  durable through         128  u64  types
//!  16  u32  length of stored body    48  u64  epoch                   136  i64  earliest time, ns
//!  20  u32  length of the raw body   56  u8   codec, 7 x 0            144  i64  latest time, ns
//!  24  u32  number of units                                           152  [32] agents and sessions
//!                                                                     184  u64  offset of this block
//! ```

use super::bytes::{crc_with_hole, get, i64_at, put, u32_at, u64_at};
use super::chain::{ChainValue, link, unit_digest};
use super::codec::{Codec, body_crc, open_body};
use super::unit::{PREAMBLE_BYTES, ROW_BYTES, UnitRef};
use crate::limits::BLOCK_BODY_BYTES_MAX;
use crate::plant::{Bug, planted};
use crate::query::BlockSummary;
use uuid::Uuid;

/// Length of a block's header.
pub(crate) const HEADER_BYTES: usize = 192;
/// The first bytes of a block.
pub(crate) const MAGIC: [u8; 8] = *b"SEMJBLK1";

/// A block's header, decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BlockHeader {
    pub(crate) body_crc: u32,
    pub(crate) stored_len: u32,
    pub(crate) raw_len: u32,
    pub(crate) units: u32,
    pub(crate) count: u32,
    pub(crate) first_sequence: u64,
    pub(crate) durable_through: u64,
    pub(crate) epoch: u64,
    pub(crate) codec: u8,
    pub(crate) chain_before: ChainValue,
    pub(crate) chain_after: ChainValue,
    pub(crate) types: u64,
    pub(crate) time_min: i64,
    pub(crate) time_max: i64,
    pub(crate) agents: [u8; 32],
    pub(crate) offset: u64,
}

impl BlockHeader {
    /// The header's bytes.
    pub(crate) fn encode(&self, journal: &Uuid) -> [u8; HEADER_BYTES] {
        let mut h = [0; HEADER_BYTES];
        put(&mut h, 0, &MAGIC);
        put(&mut h, 12, &self.body_crc.to_le_bytes());
        put(&mut h, 16, &self.stored_len.to_le_bytes());
        put(&mut h, 20, &self.raw_len.to_le_bytes());
        put(&mut h, 24, &self.units.to_le_bytes());
        put(&mut h, 28, &self.count.to_le_bytes());
        put(&mut h, 32, &self.first_sequence.to_le_bytes());
        put(&mut h, 40, &self.durable_through.to_le_bytes());
        put(&mut h, 48, &self.epoch.to_le_bytes());
        put(&mut h, 56, &[self.codec]);
        put(&mut h, 64, &self.chain_before);
        put(&mut h, 96, &self.chain_after);
        put(&mut h, 128, &self.types.to_le_bytes());
        put(&mut h, 136, &self.time_min.to_le_bytes());
        put(&mut h, 144, &self.time_max.to_le_bytes());
        put(&mut h, 152, &self.agents);
        put(&mut h, 184, &self.offset.to_le_bytes());
        let crc = crc_with_hole(journal, &h, 8);
        put(&mut h, 8, &crc.to_le_bytes());
        h
    }

    /// Decodes the header of a block that lies at `offset`; the error says what is wrong.
    pub(crate) fn decode(h: &[u8], journal: &Uuid, offset: u64) -> Result<Self, String> {
        if h.len() < HEADER_BYTES || !h.starts_with(&MAGIC) {
            return Err("no block starts here".into());
        }
        let h = h.get(..HEADER_BYTES).unwrap_or_default();
        let (found, expected) = (u32_at(h, 8), crc_with_hole(journal, h, 8));
        if found != expected {
            return Err(format!("checksum of the block header is {found:08x}, expected {expected:08x}"));
        }
        let header = BlockHeader {
            body_crc: u32_at(h, 12),
            stored_len: u32_at(h, 16),
            raw_len: u32_at(h, 20),
            units: u32_at(h, 24),
            count: u32_at(h, 28),
            first_sequence: u64_at(h, 32),
            durable_through: u64_at(h, 40),
            epoch: u64_at(h, 48),
            codec: get::<1>(h, 56)[0],
            chain_before: get(h, 64),
            chain_after: get(h, 96),
            types: u64_at(h, 128),
            time_min: i64_at(h, 136),
            time_max: i64_at(h, 144),
            agents: get(h, 152),
            offset: u64_at(h, 184),
        };
        if header.offset != offset {
            return Err(format!("block of offset {} found at {offset}", header.offset));
        }
        let limit = BLOCK_BODY_BYTES_MAX as u32;
        if header.stored_len > limit || header.raw_len > limit || header.first_sequence == 0 {
            return Err("block header out of bounds".into());
        }
        Ok(header)
    }

    /// The last event; one less than the first where the block holds control records only.
    pub(crate) fn last_sequence(&self) -> u64 {
        self.first_sequence + u64::from(self.count) - 1
    }

    /// Where the next item starts.
    pub(crate) fn end(&self) -> u64 {
        self.offset + HEADER_BYTES as u64 + u64::from(self.stored_len)
    }

    /// What queries need to skip the block.
    pub(crate) fn summary(&self) -> BlockSummary {
        BlockSummary {
            first_sequence: self.first_sequence,
            last_sequence: self.last_sequence(),
            types: self.types,
            time_min: self.time_min,
            time_max: self.time_max,
            agents: self.agents,
        }
    }

    /// Checks the stored body's CRC and restores the raw body.
    pub(crate) fn open_body(&self, stored: Vec<u8>) -> Result<Vec<u8>, String> {
        open_body(self.codec, stored, self.body_crc, self.raw_len as usize)
    }

    /// Checks the raw body against the chain: units dense, digests right.
    pub(crate) fn check_chain(&self, body: &[u8]) -> Result<(), String> {
        let (mut chain, mut next, mut units, mut rest) = (self.chain_before, self.first_sequence, 0, body);
        while !rest.is_empty() {
            let (unit, after) = UnitRef::split(rest).ok_or("the units of the block do not add up")?;
            if unit.preamble.first_sequence != next {
                return Err(format!(
                    "unit starts at event {}, expected {next}",
                    unit.preamble.first_sequence
                ));
            }
            chain = link(&chain, next, unit.preamble.count as u32, &unit_digest(unit.bytes));
            next += unit.preamble.count as u64;
            units += 1;
            rest = after;
        }
        if units != self.units || next != self.first_sequence + u64::from(self.count) {
            return Err("the units of the block do not match its header".into());
        }
        if chain != self.chain_after && !planted(Bug::SkipChainCheck) {
            return Err("the hash chain is broken: the content was changed".into());
        }
        Ok(())
    }
}

/// A batch made ready for the disk: everything but its place.
#[derive(Clone, Debug)]
pub struct PreparedBlock {
    /// Room for the header, then the stored body: written with one call.
    pub(crate) bytes: Vec<u8>,
    pub(crate) raw_len: u32,
    pub(crate) codec: u8,
    pub(crate) body_crc: u32,
    pub(crate) digest: [u8; 32],
    summary: BlockSummary,
}

impl PreparedBlock {
    /// The body as it will be stored.
    pub fn stored(&self) -> &[u8] {
        self.bytes.get(HEADER_BYTES..).unwrap_or_default()
    }

    /// Makes a block of one unit. `unit` starts with [`PreparedBlock::header_room`] bytes that are left free.
    pub fn new(unit: Vec<u8>, codec: Codec, summary: BlockSummary) -> Self {
        let raw = unit.get(HEADER_BYTES..).unwrap_or_default();
        let digest = unit_digest(raw);
        let raw_len = raw.len() as u32;
        let (bytes, codec) = match codec.compress(raw) {
            Some(stored) => {
                let mut bytes = vec![0; HEADER_BYTES];
                bytes.extend_from_slice(&stored);
                (bytes, codec.number())
            }
            None => (unit, 0),
        };
        let body_crc = body_crc(bytes.get(HEADER_BYTES..).unwrap_or_default());
        PreparedBlock { bytes, raw_len, codec, body_crc, digest, summary }
    }

    /// How many bytes to leave free in front of the unit.
    pub const fn header_room() -> usize {
        HEADER_BYTES
    }

    /// How many bytes a block of one unit with so many events and bytes of entries takes.
    pub const fn room_for(events: usize, entries: usize) -> usize {
        HEADER_BYTES + PREAMBLE_BYTES + events * ROW_BYTES + entries
    }

    /// First event.
    pub fn first_sequence(&self) -> u64 {
        self.summary.first_sequence
    }

    /// Last event.
    pub fn last_sequence(&self) -> u64 {
        self.summary.last_sequence
    }

    /// How many bytes it takes on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Writes the header in front of the body and returns it: the block's place in the chain and the file is now fixed.
    pub(crate) fn place(
        &mut self,
        journal: &Uuid,
        offset: u64,
        epoch: u64,
        durable_through: u64,
        chain_before: &ChainValue,
    ) -> BlockHeader {
        let s = &self.summary;
        let count = (s.last_sequence + 1 - s.first_sequence) as u32;
        let header = BlockHeader {
            body_crc: self.body_crc,
            stored_len: (self.bytes.len() - HEADER_BYTES) as u32,
            raw_len: self.raw_len,
            units: 1,
            count,
            first_sequence: s.first_sequence,
            durable_through,
            epoch,
            codec: self.codec,
            chain_before: *chain_before,
            chain_after: link(chain_before, s.first_sequence, count, &self.digest),
            types: s.types,
            time_min: s.time_min,
            time_max: s.time_max,
            agents: s.agents,
            offset,
        };
        put(&mut self.bytes, 0, &header.encode(journal));
        header
    }
}

/// Collects what a block's header tells of its events.
#[derive(Clone, Copy, Debug)]
pub struct SummaryBuilder(BlockSummary);

impl SummaryBuilder {
    /// The summary of no event, starting at `first_sequence`.
    pub fn new(first_sequence: u64) -> Self {
        SummaryBuilder(BlockSummary {
            first_sequence,
            last_sequence: first_sequence - 1,
            types: 0,
            time_min: i64::MAX,
            time_max: i64::MIN,
            agents: [0; 32],
        })
    }

    /// Counts one event in.
    pub fn add(&mut self, type_bit: u32, time: Option<i64>) {
        let s = &mut self.0;
        s.last_sequence += 1;
        s.types |= 1 << type_bit;
        if let Some(t) = time {
            s.time_min = s.time_min.min(t);
            s.time_max = s.time_max.max(t);
        }
    }

    /// Adds filter bits of agents and sessions.
    pub fn add_agents(&mut self, bits: &[u8; 32]) {
        self.0.agents.iter_mut().zip(bits).for_each(|(a, b)| *a |= b);
    }

    /// Counts a sequence without content in.
    pub fn add_tombstone(&mut self) {
        self.0.last_sequence += 1;
    }

    /// The summary.
    pub fn finish(self) -> BlockSummary {
        self.0
    }
}
