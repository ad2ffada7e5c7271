//! A stream of records: an optional head of 80 or 52 bytes, then records or blocks of layout A, back to back.

use super::record::frame;
use super::{
    BLOCK_A_BYTES, BLOCK_MAGIC, Block, CONTEXT_BYTES, EVENT_VERSION, HEADER_BYTES, JournalHeader, Kind,
    MAGIC, Record, Reject, STREAM_HEADER_BYTES, UserspaceHeader,
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

/// What stands at a place of a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// So many bytes that are no record: the head of a block, or a block without records.
    Skip(usize),
    /// A whole record of so many bytes.
    Record(usize),
    /// A record of so many bytes with a wrong checksum; its sizes add up, so the next one begins behind it.
    Damaged(usize, Reject),
    /// The bytes end within a block or record: more of them tell, or it is torn.
    More(Reject),
    /// No record, and nobody can know where the next one begins.
    Lost(Reject),
    /// The bytes end between two records.
    End,
}

/// Where a stream is being read: which step comes next, whoever holds the bytes. A step is taken before the next one is
/// asked for, with the bytes from there on.
#[derive(Clone, Debug)]
pub struct Walk {
    /// Bytes that are left of the block that was checked as a whole.
    block_left: usize,
    in_blocks: bool,
    /// The head, where there is one.
    pub header: Option<JournalHeader>,
}

impl Walk {
    /// So many bytes tell how a stream begins.
    pub const OPEN_BYTES: usize = STREAM_HEADER_BYTES + HEADER_BYTES;

    /// Reads the head of a stream, from its first [`Walk::OPEN_BYTES`] or all there is; answers how many bytes it takes.
    ///
    /// # Errors
    /// When it has a head that cannot be read: another version, a wrong checksum.
    pub fn open(bytes: &[u8]) -> Result<(Self, usize), Reject> {
        let (header, at) = match Kind::guess(bytes) {
            Kind::UserspaceHeader => (Some(UserspaceHeader::decode(bytes)?.journal), STREAM_HEADER_BYTES),
            Kind::JournalHeader => (Some(JournalHeader::decode(bytes)?), JournalHeader::BYTES),
            _ => (None, 0),
        };
        let in_blocks = Kind::guess(bytes.get(at..).unwrap_or_default()) == Kind::BlockA;
        Ok((Walk { block_left: 0, in_blocks, header }, at))
    }

    /// What stands at the start of `rest`.
    pub fn step(&mut self, rest: &[u8]) -> Step {
        if rest.is_empty() {
            return Step::End;
        }
        let torn =
            |why: &Reject| matches!(why, Reject::TruncatedHeader { .. } | Reject::TruncatedBody { .. });
        if self.in_blocks && self.block_left == 0 {
            return match Block::decode(rest) {
                Ok(block) => {
                    self.block_left = block.records.len();
                    Step::Skip(BLOCK_A_BYTES)
                }
                Err(why) if torn(&why) => Step::More(why),
                Err(why) => Step::Lost(why),
            };
        }
        match Record::decode(rest) {
            Ok((_, used)) => {
                self.block_left = self.block_left.saturating_sub(used);
                Step::Record(used)
            }
            Err(why @ Reject::BadChecksum { .. }) => match frame(rest) {
                Ok((_, whole)) => Step::Damaged(whole.len(), why),
                Err(_) => Step::Lost(why),
            },
            Err(why) if torn(&why) => Step::More(why),
            Err(why) => Step::Lost(why),
        }
    }
}

/// The records of a stream, each as its bytes.
///
/// A record with a wrong checksum is told and passed over, since its sizes add up; behind anything else that is wrong
/// there is no way to know where the next record begins, and the stream ends.
#[derive(Clone, Debug)]
pub struct Stream<'a> {
    bytes: &'a [u8],
    at: usize,
    walk: Walk,
}

impl<'a> Stream<'a> {
    /// Reads the head of a stream.
    ///
    /// # Errors
    /// When it has a head that cannot be read: another version, a wrong checksum.
    pub fn open(bytes: &'a [u8]) -> Result<Self, Broken> {
        let (walk, at) = Walk::open(bytes).map_err(|why| Broken { offset: 0, why })?;
        Ok(Stream { bytes, at, walk })
    }

    /// The head, where there is one.
    pub fn header(&self) -> Option<&JournalHeader> {
        self.walk.header.as_ref()
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
}

impl<'a> Iterator for Stream<'a> {
    type Item = Result<&'a [u8], Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (rest, offset) = (self.bytes.get(self.at..).unwrap_or_default(), self.at);
            let (length, answer) = match self.walk.step(rest) {
                Step::Skip(length) => (length, None),
                Step::Record(length) => (length, Some(Ok(rest.get(..length).unwrap_or_default()))),
                Step::Damaged(length, why) => (length, Some(Err(Broken { offset, why }))),
                Step::More(why) | Step::Lost(why) => (rest.len(), Some(Err(Broken { offset, why }))),
                Step::End => return None,
            };
            self.at += length;
            if answer.is_some() {
                return answer;
            }
        }
    }
}

/// Where the next whole record begins behind the first byte of a damaged spot; `None` where none is whole in `bytes`.
pub fn next_record(bytes: &[u8]) -> Option<usize> {
    let field = |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
    (1..bytes.len().checked_sub(HEADER_BYTES)?).find(|at| {
        field(at + 80) == Some(EVENT_VERSION)
            && field(at + 68) == Some(CONTEXT_BYTES as u32)
            && bytes.get(*at..).is_some_and(|r| Record::decode(r).is_ok())
    })
}

#[cfg(test)]
mod tests {
    use super::super::{EventHeader, MARKER, encode_block};
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
                assert_eq!(stream.header().is_some(), !head.is_empty());
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

    /// The marker was found by the fuzz target `stream`: behind the short head it was taken for that of the long one.
    #[test]
    fn a_record_whose_id_looks_like_something_else_is_a_record() {
        let (long, short) = (UserspaceHeader::new(1, 5, 0).encode(), JournalHeader::new(1, 5, 0).encode());
        for magic in [MAGIC, BLOCK_MAGIC, MARKER, MAGIC.swap_bytes(), BLOCK_MAGIC.swap_bytes()] {
            for head in [&[][..], &long, &short] {
                let bytes = [head, &record(u64::from(magic)), &record(u64::from(magic) | 1 << 32)].concat();
                let all: Vec<_> = Stream::open(&bytes).unwrap().collect();
                assert!(all.len() == 2 && all.iter().all(Result::is_ok), "{magic:08x} behind {}", head.len());
                let (_, used) = Walk::open(&bytes[..bytes.len().min(Walk::OPEN_BYTES)]).unwrap();
                assert_eq!(used, head.len(), "by its first bytes: {magic:08x}");
            }
        }
    }

    /// Found by the fuzz target `stream`: the head and the record's own fields add up to the head of a record.
    #[test]
    fn a_head_whose_record_makes_it_look_like_a_record_is_a_head() {
        let header =
            EventHeader { event_subtype: 5_412, ktime: 5_280, sequence: 1 << 32, ..EventHeader::default() };
        let odd = Record { header, ..Record::default() }.to_bytes().unwrap();
        for bytes in [&JournalHeader::new(1, 5, 0).encode()[..], &UserspaceHeader::new(1, 5, 0).encode()] {
            let bytes = [bytes, &odd].concat();
            assert_eq!(Stream::open(&bytes).unwrap().filter(Result::is_ok).count(), 1);
        }
        let mut block = Vec::new();
        let ktime = (5_280 << 32) | 5_412;
        let header = EventHeader { ktime, cpu_id: 1, ..EventHeader::default() };
        encode_block(1, &Record { header, ..Record::default() }.to_bytes().unwrap(), &mut block).unwrap();
        assert_eq!(Stream::open(&block).unwrap().filter(Result::is_ok).count(), 1);
    }
}
