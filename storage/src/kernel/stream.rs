//! A stream of records: an optional head of 80 or 52 bytes, then records or blocks of layout A, back to back.

use super::record::frame;
use super::{
    BLOCK_A_BYTES, BLOCK_MAGIC, Block, JournalHeader, Kind, MAGIC, Record, Reject, STREAM_HEADER_BYTES,
    UserspaceHeader,
};
use std::fmt;

/// What is wrong at a place of a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// Where, in bytes from the start of the stream.
    pub offset: usize,
    /// What.
    pub why: Reject,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: {}: {}", self.offset, self.why.name(), self.why)
    }
}

impl std::error::Error for Broken {}

/// The records of a stream, each as its bytes.
///
/// A record with a wrong checksum is told and passed over, since its sizes add up; behind anything else that is wrong
/// there is no way to know where the next record begins, and the stream ends.
#[derive(Clone, Debug)]
pub struct Stream<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where the block ends that was checked as a whole.
    block_end: usize,
    in_blocks: bool,
    /// The head, where there is one.
    pub header: Option<JournalHeader>,
}

impl<'a> Stream<'a> {
    /// Reads the head of a stream.
    ///
    /// # Errors
    /// When it has a head that cannot be read: another version, a wrong checksum.
    pub fn open(bytes: &'a [u8]) -> Result<Self, Broken> {
        let broken = |why| Broken { offset: 0, why };
        let (header, at) = match Kind::guess(bytes) {
            Kind::UserspaceHeader => {
                let header = UserspaceHeader::decode(bytes).map_err(broken)?;
                (Some(header.journal), STREAM_HEADER_BYTES)
            }
            Kind::JournalHeader => {
                (Some(JournalHeader::decode(bytes).map_err(broken)?), JournalHeader::BYTES)
            }
            _ => (None, 0),
        };
        let in_blocks = Kind::guess(bytes.get(at..).unwrap_or_default()) == Kind::BlockA;
        Ok(Stream { bytes, at, block_end: at, in_blocks, header })
    }

    /// Whether the stream begins like one: with a head, or with what can only be a block or a record.
    pub fn is_one(bytes: &[u8]) -> bool {
        let first = u32::from_le_bytes(super::layout::get(bytes, 0));
        match first {
            MAGIC => true,
            BLOCK_MAGIC if Kind::guess(bytes) == Kind::BlockA => bytes.len() >= BLOCK_A_BYTES,
            _ => Record::decode(bytes).is_ok(),
        }
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn end_with(&mut self, why: Reject) -> Broken {
        let offset = self.at;
        self.at = self.bytes.len();
        Broken { offset, why }
    }
}

impl<'a> Iterator for Stream<'a> {
    type Item = Result<&'a [u8], Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.in_blocks && self.at >= self.block_end {
            // Blocks may be empty.
            loop {
                if self.rest().is_empty() {
                    return None;
                }
                match Block::decode(self.rest()) {
                    Ok(block) if block.records.is_empty() => self.at += block.bytes(),
                    Ok(block) => {
                        self.block_end = self.at + block.bytes();
                        self.at += BLOCK_A_BYTES;
                        break;
                    }
                    Err(why) => return Some(Err(self.end_with(why))),
                }
            }
        }
        if self.rest().is_empty() {
            return None;
        }
        match Record::decode(self.rest()) {
            Ok((_, used)) => {
                let record = self.rest().get(..used).unwrap_or_default();
                self.at += used;
                Some(Ok(record))
            }
            Err(why @ Reject::BadChecksum { .. }) => {
                let offset = self.at;
                self.at += frame(self.rest()).map_or(usize::MAX - offset, |(_, whole)| whole.len());
                Some(Err(Broken { offset, why }))
            }
            Err(why) => Some(Err(self.end_with(why))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{EventHeader, encode_block};
    use super::*;

    fn record(event_id: u64) -> Vec<u8> {
        let header = EventHeader { event_id, ..EventHeader::default() };
        Record { header, ..Record::default() }.to_bytes().unwrap()
    }

    #[test]
    fn every_form_of_a_stream_gives_the_same_records() {
        let records = [record(2), record(3), record(4)];
        let plain = records.concat();
        let mut blocks = Vec::new();
        encode_block(1, &plain[..5412 * 2], &mut blocks).unwrap();
        encode_block(2, &[], &mut blocks).unwrap();
        encode_block(3, &plain[5412 * 2..], &mut blocks).unwrap();
        let (long, short) = (UserspaceHeader::new(3, 5, 0).encode(), JournalHeader::new(3, 5, 0).encode());
        for head in [&[][..], &long, &short] {
            for body in [&plain, &blocks] {
                let bytes = [head, body.as_slice()].concat();
                let stream = Stream::open(&bytes).unwrap();
                assert_eq!(stream.header.is_some(), !head.is_empty());
                let found: Vec<_> = stream.map(|r| r.unwrap().to_vec()).collect();
                assert!(found == records);
                assert!(Stream::is_one(&bytes));
            }
        }
    }

    #[test]
    fn a_wrong_checksum_is_passed_over_and_anything_else_ends_the_stream() {
        let mut bytes = [record(2), record(3), record(4), vec![7; 20]].concat();
        bytes[5412 + 3000] ^= 1;
        let all: Vec<_> = Stream::open(&bytes).unwrap().collect();
        let names: Vec<_> = all
            .iter()
            .map(|r| {
                r.as_ref().map_or_else(|b| format!("{}@{}", b.why.name(), b.offset), |r| r[0].to_string())
            })
            .collect();
        assert_eq!(names, ["2", "bad_checksum@5412", "4", "truncated_header@16236"]);
    }

    #[test]
    fn another_version_is_refused_by_its_head() {
        let mut header = UserspaceHeader::new(0, 1, 80);
        header.journal.version_major = 3;
        let refused = Stream::open(&header.encode()).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "at byte 0: bad_version: this program reads version 1, found version 3"
        );
    }

    #[test]
    fn a_record_whose_id_looks_like_a_block_is_a_record() {
        let id = u64::from(BLOCK_MAGIC) | 1 << 32;
        let header = EventHeader { event_id: id, ktime: 5000, ..EventHeader::default() };
        let bytes = Record { header, ..Record::default() }.to_bytes().unwrap();
        assert_eq!(Stream::open(&bytes).unwrap().filter(Result::is_ok).count(), 1);
    }
}
