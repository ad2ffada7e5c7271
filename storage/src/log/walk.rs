//! Walking a segment from item to item: what stands where, and what is not what was written.

use super::block::{BlockHeader, HEADER_BYTES, MAGIC};
use super::bytes::{all_zero, u64_at};
use super::segment::{END_MAGIC, FOOTER_MAGIC, MARK_BYTES, Mark};
use crate::backend::File;
use std::io;
use uuid::Uuid;

/// What starts at an offset.
#[derive(Debug)]
pub(crate) enum Item {
    /// A block with a whole header; its body is not looked at.
    Block(Box<BlockHeader>),
    /// The end mark of a clean close; more blocks may follow.
    End(Mark),
    /// The footer of a sealed segment; nothing follows but the seal.
    Footer,
    /// Nothing but zeros to the end of the file.
    CleanEnd,
    /// Anything else.
    Invalid(String),
}

/// Why something is invalid that does not even start like an item.
pub(crate) const UNKNOWN: &str = "neither a block nor empty space";

/// A segment file being walked.
#[derive(Clone, Copy)]
pub(crate) struct Walk<'a> {
    pub(crate) file: &'a dyn File,
    pub(crate) len: u64,
    pub(crate) journal: Uuid,
}

const CHUNK: usize = 256 << 10;
const CHUNK_MIN: usize = 4 << 10;

impl Walk<'_> {
    /// The item at `offset`.
    pub(crate) fn item(&self, offset: u64) -> io::Result<Item> {
        let mut head = [0; HEADER_BYTES];
        let n = self.file.read_at(&mut head, offset)?;
        let head = head.get(..n).unwrap_or_default();
        if head.starts_with(&MAGIC) {
            return Ok(match BlockHeader::decode(head, &self.journal, offset) {
                Ok(h) if h.end() > self.len => {
                    Item::Invalid(format!("block ends at byte {}, the file at {}", h.end(), self.len))
                }
                Ok(h) => Item::Block(Box::new(h)),
                Err(reason) => Item::Invalid(reason),
            });
        }
        if head.starts_with(&END_MAGIC) {
            return Ok(match Mark::decode(head, END_MAGIC, &self.journal, offset) {
                Some(mark) => Item::End(mark),
                None => Item::Invalid("checksum of the end mark is wrong".into()),
            });
        }
        if head.starts_with(&FOOTER_MAGIC) {
            return Ok(Item::Footer);
        }
        if all_zero(head) && self.zero_to_end(offset)? {
            return Ok(Item::CleanEnd);
        }
        Ok(Item::Invalid(UNKNOWN.into()))
    }

    /// Whether nothing but zeros follows.
    fn zero_to_end(&self, mut offset: u64) -> io::Result<bool> {
        let mut buffer = vec![0; CHUNK];
        while offset < self.len {
            let n = self.file.read_at(&mut buffer, offset)?;
            if n == 0 {
                break;
            }
            if !all_zero(buffer.get(..n).unwrap_or_default()) {
                return Ok(false);
            }
            offset += n as u64;
        }
        Ok(true)
    }

    /// The first whole block or end mark at or after `offset`: how a walk goes on behind a damaged spot.
    pub(crate) fn resync(&self, mut offset: u64) -> io::Result<Option<u64>> {
        // The next block is near as a rule, and this is called for each of them behind a damaged spot.
        let mut chunk = CHUNK_MIN;
        let mut buffer = Vec::new();
        while offset < self.len {
            buffer.resize(chunk + HEADER_BYTES, 0);
            let n = self.file.read_at(&mut buffer, offset)?;
            let found = buffer.get(..n).unwrap_or_default();
            for (at, window) in found.windows(8).enumerate().take(chunk) {
                // Every magic starts with the same four bytes.
                if !window.starts_with(b"SEMJ") {
                    continue;
                }
                let place = offset + at as u64;
                let whole = if window == MAGIC {
                    let head = found.get(at..).unwrap_or_default();
                    BlockHeader::decode(head, &self.journal, place).is_ok_and(|h| h.end() <= self.len)
                } else if window == END_MAGIC {
                    Mark::decode(found.get(at..).unwrap_or_default(), END_MAGIC, &self.journal, place)
                        .is_some()
                } else {
                    window == FOOTER_MAGIC && self.seal().is_ok_and(|s| s.is_some_and(|s| s.footer == place))
                };
                if whole {
                    return Ok(Some(place));
                }
            }
            offset += chunk as u64;
            chunk = CHUNK.min(chunk * 2);
        }
        Ok(None)
    }

    /// The seal at the end of the file, if it is sealed.
    pub(crate) fn seal(&self) -> io::Result<Option<Mark>> {
        let Some(offset) = self.len.checked_sub(MARK_BYTES as u64) else { return Ok(None) };
        let mut bytes = [0; MARK_BYTES];
        let n = self.file.read_at(&mut bytes, offset)?;
        let bytes = bytes.get(..n).unwrap_or_default();
        // The place it names itself is checked again by the decoder.
        if n < MARK_BYTES || u64_at(bytes, 16) != offset {
            return Ok(None);
        }
        Ok(Mark::decode(bytes, super::segment::SEAL_MAGIC, &self.journal, offset))
    }
}
