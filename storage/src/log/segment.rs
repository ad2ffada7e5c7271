//! The fixed marks of a segment file: its header, the end mark of a clean close, and the seal.
//!
//! ```text
//! header, 256 bytes: the 80-byte SEMJ header (magic, version, totals; rewritten once at the seal), then
//!  80  u32  format version            120  u64  first sequence           160  [32] chain value before the first block
//!  84  u32  CRC of bytes 80..256      128  u64  epoch                    192  64 x 0
//!  88  [16] journal UUID              136  i64  created, ns
//! 104  [16] boot id                   144  u64  last sequence before, 152 8 x 0
//!
//! end mark and seal, 128 bytes:
//!   0  [8]  "SEMJEND1" / "SEMJSEA1"   24  u64  first sequence            56  [32] chain value
//!   8  u32  CRC                       32  u64  last sequence             88  [32] seal (zeros in an end mark)
//!  12  u32  0                         40  u64  number of events         120  u64  offset of the footer (seal)
//!  16  u64  its own offset            48  i64  written, ns
//! ```

use super::bytes::{crc_with_hole, get, i64_at, put, u32_at, u64_at, uuid_at};
use super::chain::ChainValue;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The format version this program writes, and the newest it reads.
pub const FORMAT_VERSION: u32 = 1;
/// Length of a segment's header: where the first block starts.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 256;
/// Length of an end mark and of a seal.
pub(crate) const MARK_BYTES: usize = 128;
pub(crate) const END_MAGIC: [u8; 8] = *b"SEMJEND1";
pub(crate) const SEAL_MAGIC: [u8; 8] = *b"SEMJSEA1";
pub(crate) const FOOTER_MAGIC: [u8; 8] = *b"SEMJDIR1";

const SEMJ_MAGIC: u32 = 0x5345_4D4A;
const USERSPACE_MARKER: u32 = 0x5553_5253;
const SEMJ_HEADER_BYTES: usize = 80;

/// The part of a segment's header that never changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SegmentHeader {
    pub(crate) journal: Uuid,
    pub(crate) boot_id: Uuid,
    pub(crate) first_sequence: u64,
    pub(crate) epoch: u64,
    pub(crate) created_ns: i64,
    pub(crate) last_before: u64,
    pub(crate) chain_before: ChainValue,
}

/// Why a segment's header was not accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum HeaderError {
    /// A newer format version.
    Newer(u32),
    /// Damaged, or no segment at all.
    Bad(String),
}

/// The 80-byte header in the kernel journal's form.
fn semj_header(total_events: u64, next_event_id: u64, size: u64, footer: u64) -> [u8; SEMJ_HEADER_BYTES] {
    let mut h = [0; SEMJ_HEADER_BYTES];
    put(&mut h, 0, &SEMJ_MAGIC.to_le_bytes());
    put(&mut h, 4, &1u32.to_le_bytes());
    put(&mut h, 12, &total_events.to_le_bytes());
    put(&mut h, 20, &next_event_id.to_le_bytes());
    put(&mut h, 28, &size.to_le_bytes());
    put(&mut h, 36, &footer.to_le_bytes());
    put(&mut h, 52, &USERSPACE_MARKER.to_le_bytes());
    let digest: [u8; 32] = Sha256::digest(h).into();
    put(&mut h, 48, &get::<4>(&digest, 0));
    h
}

/// Whether the 80-byte header is whole.
pub(crate) fn semj_header_is_whole(h: &[u8]) -> bool {
    let mut zeroed = get::<SEMJ_HEADER_BYTES>(h, 0);
    put(&mut zeroed, 48, &[0; 4]);
    let digest: [u8; 32] = Sha256::digest(zeroed).into();
    h.len() >= SEMJ_HEADER_BYTES && u32_at(h, 0) == SEMJ_MAGIC && get::<4>(h, 48) == get::<4>(&digest, 0)
}

/// The 80-byte header of a sealed segment, with its totals.
pub(crate) fn sealed_semj_header(count: u64, last: u64, size: u64, footer: u64) -> [u8; SEMJ_HEADER_BYTES] {
    semj_header(count, last + 1, size, footer)
}

/// Whether writing the totals of `seal` into a new header stopped somewhere: each byte is the old or the new one, and
/// not all are new.
pub(crate) fn semj_header_is_half_sealed(h: &[u8], seal: &Mark) -> bool {
    let size = seal.offset + MARK_BYTES as u64;
    let (old, new) = (semj_header(0, 0, 0, 0), sealed_semj_header(seal.count, seal.last, size, seal.footer));
    let mixed = h.iter().zip(old.iter().zip(&new)).all(|(h, (old, new))| h == old || h == new);
    mixed && h.len() >= SEMJ_HEADER_BYTES && !h.starts_with(&new)
}

impl SegmentHeader {
    /// The header's bytes at creation.
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut h = [0; SEGMENT_HEADER_BYTES];
        put(&mut h, 0, &semj_header(0, 0, 0, 0));
        put(&mut h, 80, &FORMAT_VERSION.to_le_bytes());
        put(&mut h, 88, self.journal.as_bytes());
        put(&mut h, 104, self.boot_id.as_bytes());
        put(&mut h, 120, &self.first_sequence.to_le_bytes());
        put(&mut h, 128, &self.epoch.to_le_bytes());
        put(&mut h, 136, &self.created_ns.to_le_bytes());
        put(&mut h, 144, &self.last_before.to_le_bytes());
        put(&mut h, 160, &self.chain_before);
        let crc = crc32fast::hash(&Self::covered(&h));
        put(&mut h, 84, &crc.to_le_bytes());
        h
    }

    /// Bytes 80..256 with the CRC's place zeroed.
    fn covered(h: &[u8]) -> [u8; SEGMENT_HEADER_BYTES - SEMJ_HEADER_BYTES] {
        let mut covered = get(h, SEMJ_HEADER_BYTES);
        put(&mut covered, 4, &[0; 4]);
        covered
    }

    /// Decodes bytes 80..256.
    pub(crate) fn decode(h: &[u8]) -> Result<Self, HeaderError> {
        if h.len() < SEGMENT_HEADER_BYTES {
            return Err(HeaderError::Bad(format!("{} bytes, a header has {SEGMENT_HEADER_BYTES}", h.len())));
        }
        let (found, expected) = (u32_at(h, 84), crc32fast::hash(&Self::covered(h)));
        if found != expected {
            return Err(HeaderError::Bad(format!(
                "checksum of the segment header is {found:08x}, expected {expected:08x}"
            )));
        }
        match u32_at(h, 80) {
            FORMAT_VERSION => {}
            newer if newer > FORMAT_VERSION => return Err(HeaderError::Newer(newer)),
            other => return Err(HeaderError::Bad(format!("format version {other}"))),
        }
        Ok(SegmentHeader {
            journal: uuid_at(h, 88),
            boot_id: uuid_at(h, 104),
            first_sequence: u64_at(h, 120),
            epoch: u64_at(h, 128),
            created_ns: i64_at(h, 136),
            last_before: u64_at(h, 144),
            chain_before: get(h, 160),
        })
    }
}

/// An end mark, or a seal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mark {
    pub(crate) offset: u64,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) count: u64,
    pub(crate) written_ns: i64,
    pub(crate) chain: ChainValue,
    pub(crate) seal: [u8; 32],
    pub(crate) footer: u64,
}

impl Mark {
    pub(crate) fn encode(&self, magic: [u8; 8], journal: &Uuid) -> [u8; MARK_BYTES] {
        let mut m = [0; MARK_BYTES];
        put(&mut m, 0, &magic);
        put(&mut m, 16, &self.offset.to_le_bytes());
        put(&mut m, 24, &self.first.to_le_bytes());
        put(&mut m, 32, &self.last.to_le_bytes());
        put(&mut m, 40, &self.count.to_le_bytes());
        put(&mut m, 48, &self.written_ns.to_le_bytes());
        put(&mut m, 56, &self.chain);
        put(&mut m, 88, &self.seal);
        put(&mut m, 120, &self.footer.to_le_bytes());
        let crc = crc_with_hole(journal, &m, 8);
        put(&mut m, 8, &crc.to_le_bytes());
        m
    }

    pub(crate) fn decode(m: &[u8], magic: [u8; 8], journal: &Uuid, offset: u64) -> Option<Self> {
        let m = m.get(..MARK_BYTES)?;
        let mark = Mark {
            offset: u64_at(m, 16),
            first: u64_at(m, 24),
            last: u64_at(m, 32),
            count: u64_at(m, 40),
            written_ns: i64_at(m, 48),
            chain: get(m, 56),
            seal: get(m, 88),
            footer: u64_at(m, 120),
        };
        (m.starts_with(&magic) && u32_at(m, 8) == crc_with_hole(journal, m, 8) && mark.offset == offset)
            .then_some(mark)
    }
}

/// The file name of a segment: its first sequence, so that names sort in order.
pub(crate) fn file_name(first_sequence: u64) -> String {
    format!("{first_sequence:020}.semj")
}

/// The first sequence that a file name stands for.
pub(crate) fn parse_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".semj")?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_byte_of_header_and_mark_is_seen() {
        let journal = Uuid::from_u128(1);
        let header = SegmentHeader {
            journal,
            boot_id: Uuid::from_u128(2),
            first_sequence: 3,
            epoch: 4,
            created_ns: 5,
            last_before: 2,
            chain_before: [6; 32],
        };
        let bytes = header.encode();
        assert!(SegmentHeader::decode(&bytes) == Ok(header) && semj_header_is_whole(&bytes));
        let mark = Mark {
            offset: 9,
            first: 1,
            last: 2,
            count: 2,
            written_ns: 3,
            chain: [1; 32],
            seal: [2; 32],
            footer: 8,
        };
        let mark_bytes = mark.encode(SEAL_MAGIC, &journal);
        assert_eq!(Mark::decode(&mark_bytes, SEAL_MAGIC, &journal, 9), Some(mark));
        for i in 0..SEGMENT_HEADER_BYTES {
            let mut damaged = bytes;
            damaged[i] ^= 1;
            assert!(
                SegmentHeader::decode(&damaged) != Ok(header) || !semj_header_is_whole(&damaged),
                "byte {i}"
            );
        }
        for i in 0..MARK_BYTES {
            let mut damaged = mark_bytes;
            damaged[i] ^= 0x80;
            assert_eq!(Mark::decode(&damaged, SEAL_MAGIC, &journal, 9), None, "byte {i}");
        }
        let mut newer = bytes;
        put(&mut newer, 80, &2u32.to_le_bytes());
        let crc = crc32fast::hash(&SegmentHeader::covered(&newer));
        put(&mut newer, 84, &crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&newer), Err(HeaderError::Newer(2)));
    }

    #[test]
    fn totals_that_were_half_written_are_known() {
        let mark = Mark {
            offset: 900,
            first: 1,
            last: 7,
            count: 7,
            written_ns: 3,
            chain: [1; 32],
            seal: [2; 32],
            footer: 800,
        };
        let (old, new) = (semj_header(0, 0, 0, 0), sealed_semj_header(7, 7, 900 + MARK_BYTES as u64, 800));
        for end in 0..SEMJ_HEADER_BYTES {
            let half = [&new[..end], &old[end..]].concat();
            assert_eq!(semj_header_is_half_sealed(&half, &mark), half != new, "written up to byte {end}");
        }
        assert!(!semj_header_is_half_sealed(&new, &mark));
        let damaged =
            |at: usize| new.iter().enumerate().map(|(n, b)| b ^ u8::from(n == at)).collect::<Vec<_>>();
        assert!((0..SEMJ_HEADER_BYTES).all(|at| !semj_header_is_half_sealed(&damaged(at), &mark)));
    }

    #[test]
    fn names_sort_like_sequences() {
        assert_eq!(file_name(1), "00000000000000000001.semj");
        assert_eq!(parse_name(&file_name(u64::MAX)), Some(u64::MAX));
        assert_eq!(
            (parse_name("1.semj"), parse_name("x"), parse_name("0000000000000000000a.semj")),
            (None, None, None)
        );
    }
}
