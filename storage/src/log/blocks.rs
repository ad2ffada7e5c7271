//! The blocks of one segment, found by walking their headers as far as asked and remembered.

use super::block::BlockHeader;
use super::segment::SEGMENT_HEADER_BYTES;
use super::walk::{Item, Walk};
use crate::error::Damage;
use crate::query::BlockSummary;
use std::io;
use std::path::Path;

/// What is remembered of a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockInfo {
    pub(crate) offset: u64,
    pub(crate) stored_len: u32,
    pub(crate) raw_len: u32,
    pub(crate) body_crc: u32,
    pub(crate) codec: u8,
    pub(crate) units: u32,
    pub(crate) summary: BlockSummary,
}

impl From<&BlockHeader> for BlockInfo {
    fn from(h: &BlockHeader) -> Self {
        BlockInfo {
            offset: h.offset,
            stored_len: h.stored_len,
            raw_len: h.raw_len,
            body_crc: h.body_crc,
            codec: h.codec,
            units: h.units,
            summary: h.summary(),
        }
    }
}

impl BlockInfo {
    /// The spot of this block as damage.
    pub(crate) fn damage(&self, segment: &Path, reason: String) -> Damage {
        Damage {
            segment: segment.to_owned(),
            offset: self.offset,
            length: super::block::HEADER_BYTES as u64 + u64::from(self.stored_len),
            first_sequence: self.summary.first_sequence,
            last_sequence: self.summary.last_sequence,
            reason,
        }
    }
}

/// The blocks of a segment that have been walked so far.
#[derive(Debug)]
pub(crate) struct BlockList {
    pub(crate) blocks: Vec<BlockInfo>,
    /// Spots between blocks that could not be read as one.
    pub(crate) damage: Vec<Damage>,
    walked_to: u64,
    next_sequence: u64,
}

impl BlockList {
    pub(crate) fn new(first_sequence: u64) -> Self {
        BlockList {
            blocks: Vec::new(),
            damage: Vec::new(),
            walked_to: SEGMENT_HEADER_BYTES as u64,
            next_sequence: first_sequence,
        }
    }

    /// Whether nothing was walked yet.
    pub(crate) fn is_new(&self) -> bool {
        self.blocks.is_empty() && self.walked_to == SEGMENT_HEADER_BYTES as u64
    }

    /// Takes the blocks of a sealed segment from its footer.
    pub(crate) fn fill(&mut self, blocks: Vec<BlockInfo>) {
        if let Some(last) = blocks.last() {
            self.next_sequence = last.summary.last_sequence + 1;
            self.walked_to = last.offset + super::block::HEADER_BYTES as u64 + u64::from(last.stored_len);
            self.blocks = blocks;
        }
    }

    /// The last event the walk has passed.
    pub(crate) fn last_sequence(&self) -> u64 {
        self.next_sequence - 1
    }

    /// Walks on until event `upto` is passed, which must be one that was durable in this segment.
    pub(crate) fn extend(&mut self, walk: &Walk<'_>, path: &Path, upto: u64) -> io::Result<()> {
        while self.next_sequence <= upto {
            let reason = match walk.item(self.walked_to)? {
                Item::Block(h) if h.first_sequence == self.next_sequence => {
                    self.push(&h);
                    continue;
                }
                Item::Block(h) => {
                    format!("block starts at event {}, expected {}", h.first_sequence, self.next_sequence)
                }
                Item::End(mark) => {
                    self.walked_to = mark.offset + super::segment::MARK_BYTES as u64;
                    continue;
                }
                Item::Footer | Item::CleanEnd => "the segment ends before its last event".into(),
                Item::Invalid(reason) => reason,
            };
            self.skip_damage(walk, path, upto, reason)?;
        }
        Ok(())
    }

    fn push(&mut self, h: &BlockHeader) {
        self.blocks.push(h.into());
        self.walked_to = h.end();
        self.next_sequence = h.last_sequence() + 1;
    }

    /// Notes the spot at which the walk stands as damage and goes on behind it.
    fn skip_damage(&mut self, walk: &Walk<'_>, path: &Path, upto: u64, reason: String) -> io::Result<()> {
        let start = self.walked_to;
        let mut from = start + 1;
        let next = loop {
            let Some(offset) = walk.resync(from)? else { break None };
            match walk.item(offset)? {
                // A block of the past is no way on: it may be bytes inside a payload.
                Item::Block(h) if h.first_sequence >= self.next_sequence => break Some(h),
                _ => from = offset + 1,
            }
        };
        let (end, last) = match &next {
            Some(h) => (h.offset, h.first_sequence - 1),
            None => (walk.len.max(start + 1), upto),
        };
        self.damage.push(Damage {
            segment: path.to_owned(),
            offset: start,
            length: end - start,
            first_sequence: if last < self.next_sequence { 0 } else { self.next_sequence },
            last_sequence: if last < self.next_sequence { 0 } else { last },
            reason,
        });
        match next {
            Some(h) => self.push(&h),
            None => {
                self.walked_to = end;
                self.next_sequence = upto + 1;
            }
        }
        Ok(())
    }
}
