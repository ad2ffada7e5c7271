//! Which ids a segment holds: an immutable set of pairs (fingerprint of an id, where its event is).
//!
//! ```text
//!  0  [8]  "SEMJIDS1"
//!  8  u32  number of pairs
//! 12  u32  number of filter blocks
//! 16  u32  0
//! 20  u32  CRC-32 of bytes 0..20, the fences and the filter
//! 24  ..   fences: u64 for each page, its first fingerprint
//! ..  ..   filter: blocks of 64 bytes, about 10 bits for each pair
//! ..  ..   pages: up to 341 pairs (u64 fingerprint, u32 value), then the CRC-32 of (u64 page number, pairs)
//! ```
//!
//! A fingerprint `f` belongs to filter block `f * blocks / 2^64` and sets six of its 512 bits there: the
//! lowest six groups of nine bits of `g(f)`, bit `b` being bit `b % 8` of byte `b / 8`. `g` is what
//! SplitMix64 makes of its state: `f ^= f >> 30`, `f *= 0xBF58476D1CE4E5B9`, `f ^= f >> 27`,
//! `f *= 0x94D049BB133111EB`, `f ^= f >> 31`. Numbers are little-endian.
//!
//! Pairs are sorted; all pages but the last are full, 4,096 bytes. Opening reads what is before the
//! pages. A lookup reads no page when the filter excludes the id (98 in 100 of those that are not there),
//! otherwise the one page between whose fences the fingerprint lies, or the two around a fence it equals.
//! Every byte is covered by a check that is made before it is believed.

use sha2::{Digest, Sha256};
use std::io;

const MAGIC: [u8; 8] = *b"SEMJIDS1";
const HEADER_BYTES: usize = 24;
const CRC_AT: usize = 20;
const CRC_BYTES: usize = 4;
const FENCE_BYTES: usize = 8;
const PAIR_BYTES: usize = 12;
const PAGE_PAIRS: usize = 341;
const BLOCK_BYTES: usize = 64;
const FILTER_BITS_PER_PAIR: u64 = 10;
/// Bits that each fingerprint sets in its block.
const PROBES: u32 = 6;
/// A block has 2^9 bits.
const PROBE_BITS: u32 = 9;

const _: () = {
    assert!(PAGE_PAIRS * PAIR_BYTES + CRC_BYTES == 4096);
    assert!(BLOCK_BYTES * 8 == 1 << PROBE_BITS && PROBES * PROBE_BITS <= 64);
    assert!(CRC_AT + CRC_BYTES == HEADER_BYTES);
};

/// The 64 bits that stand for an id, stable for ever: the first eight bytes of its SHA-256, most
/// significant first. Ids come from outside, so nothing weaker: whoever can choose ids with equal
/// fingerprints decides how many events a lookup has to read.
///
/// ```
/// use semj_storage::log::idset::fingerprint;
/// assert_eq!(fingerprint(b""), 0xE3B0_C442_98FC_1C14);
/// assert_eq!(fingerprint(b"abc"), 0xBA78_16BF_8F01_CFEA);
/// assert_eq!(fingerprint(&[0; 16]), 0x3747_08FF_F771_9DD5);
/// ```
pub fn fingerprint(id: &[u8]) -> u64 {
    Sha256::digest(id).iter().take(8).fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// Opening or searching a set failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdSetError {
    /// The bytes are not what was written.
    #[error("id set: damage at byte {offset}: {reason}")]
    Damaged {
        /// Where, counted from the start of the set.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// Reading failed.
    #[error("id set: read at byte {offset}: {source}")]
    Io {
        /// Where, counted from the start of the set.
        offset: u64,
        /// Why it failed.
        source: io::Error,
    },
}

/// Gives the bytes of a set: from an offset, exactly that many.
pub type Reader<'a> = &'a dyn Fn(u64, usize) -> io::Result<Vec<u8>>;

/// Collects pairs for a set.
#[derive(Clone, Debug, Default)]
pub struct IdSetBuilder {
    pairs: Vec<(u64, u32)>,
}

impl IdSetBuilder {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a pair, in any order. One fingerprint may have several values; an equal pair counts once.
    pub fn add(&mut self, fingerprint: u64, value: u32) {
        self.pairs.push((fingerprint, value));
    }

    /// Pairs added so far.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The bytes of the set. They depend on the pairs only, not on the order they were added in.
    ///
    /// # Panics
    /// With more than `u32::MAX` pairs: a segment has fewer bytes.
    pub fn encode(mut self) -> Vec<u8> {
        assert!(u32::try_from(self.pairs.len()).is_ok(), "an id set of {} pairs", self.pairs.len());
        self.pairs.sort_unstable();
        self.pairs.dedup();
        let layout = Layout::of(self.pairs.len() as u64, blocks_for(self.pairs.len() as u64));
        let mut filter = Filter { bytes: vec![0; layout.blocks as usize * BLOCK_BYTES] };
        self.pairs.iter().for_each(|(fingerprint, _)| filter.insert(*fingerprint));

        let mut out = Vec::with_capacity(layout.end() as usize);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&(layout.pairs as u32).to_le_bytes());
        out.extend_from_slice(&(layout.blocks as u32).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        let mut rest = Vec::new();
        for page in self.pairs.chunks(PAGE_PAIRS) {
            rest.extend(page.iter().take(1).flat_map(|(first, _)| first.to_le_bytes()));
        }
        rest.extend_from_slice(&filter.bytes);
        let crc = crc_of(&[&out, &rest]);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&rest);
        for (number, page) in self.pairs.chunks(PAGE_PAIRS).enumerate() {
            let start = out.len();
            for (fingerprint, value) in page {
                out.extend_from_slice(&fingerprint.to_le_bytes());
                out.extend_from_slice(&value.to_le_bytes());
            }
            let crc = page_crc(number as u64, out.get(start..).unwrap_or_default());
            out.extend_from_slice(&crc.to_le_bytes());
        }
        assert_eq!(out.len() as u64, layout.end(), "encoded length differs from the layout");
        out
    }
}

/// Where the parts of a set are. Two `u32` counts cannot overflow any of these `u64` sums.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Layout {
    pairs: u64,
    blocks: u64,
}

impl Layout {
    fn of(pairs: u64, blocks: u64) -> Self {
        Self { pairs, blocks }
    }

    fn pages(self) -> u64 {
        self.pairs.div_ceil(PAGE_PAIRS as u64)
    }

    fn filter(self) -> u64 {
        HEADER_BYTES as u64 + self.pages() * FENCE_BYTES as u64
    }

    fn first_page(self) -> u64 {
        self.filter() + self.blocks * BLOCK_BYTES as u64
    }

    /// Start of a page and how many pairs it has.
    fn page(self, number: u64) -> (u64, usize) {
        let before = number * PAGE_PAIRS as u64;
        let pairs = self.pairs.saturating_sub(before).min(PAGE_PAIRS as u64);
        (self.first_page() + before * PAIR_BYTES as u64 + number * CRC_BYTES as u64, pairs as usize)
    }

    fn end(self) -> u64 {
        self.first_page() + self.pairs * PAIR_BYTES as u64 + self.pages() * CRC_BYTES as u64
    }
}

fn blocks_for(pairs: u64) -> u64 {
    (pairs * FILTER_BITS_PER_PAIR).div_ceil(BLOCK_BYTES as u64 * 8)
}

fn crc_of(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}

/// The number is part of it, so that a page in another's place is found out.
fn page_crc(number: u64, pairs: &[u8]) -> u32 {
    crc_of(&[&number.to_le_bytes(), pairs])
}

/// A Bloom filter whose bits for one fingerprint are all in one block of a cache line.
#[derive(Clone, Debug)]
struct Filter {
    bytes: Vec<u8>,
}

impl Filter {
    /// Bytes and masks to look at.
    fn probes(fingerprint: u64, filter_bytes: usize) -> impl Iterator<Item = (usize, u8)> {
        let blocks = (filter_bytes / BLOCK_BYTES) as u128;
        let block = ((u128::from(fingerprint) * blocks) >> 64) as usize;
        // The block is chosen by the high bits, so the bits inside it come from all of them, mixed.
        let mut word = (fingerprint ^ (fingerprint >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^= word >> 31;
        (0..PROBES).map(move |probe| {
            let bit = (word >> (probe * PROBE_BITS)) as usize & (BLOCK_BYTES * 8 - 1);
            (block * BLOCK_BYTES + bit / 8, 1 << (bit % 8))
        })
    }

    fn insert(&mut self, fingerprint: u64) {
        for (at, mask) in Self::probes(fingerprint, self.bytes.len()) {
            if let Some(byte) = self.bytes.get_mut(at) {
                *byte |= mask;
            }
        }
    }

    fn may_contain(&self, fingerprint: u64) -> bool {
        Self::probes(fingerprint, self.bytes.len())
            .all(|(at, mask)| self.bytes.get(at).is_some_and(|byte| byte & mask != 0))
    }
}

/// An opened set: fences and filter are in memory, the pages are read as needed.
#[derive(Clone, Debug)]
pub struct IdSet {
    layout: Layout,
    fences: Vec<u64>,
    filter: Filter,
}

impl IdSet {
    /// Reads and checks header, fences and filter of a set that is `length` bytes long. What the header
    /// claims is compared with `length` before anything is allocated by it.
    ///
    /// # Errors
    /// [`IdSetError::Damaged`], [`IdSetError::Io`].
    pub fn open(reader: Reader<'_>, length: u64) -> Result<Self, IdSetError> {
        let damaged = |offset: usize, reason| IdSetError::Damaged { offset: offset as u64, reason };
        if length < HEADER_BYTES as u64 {
            return Err(damaged(0, "shorter than a header"));
        }
        let header = read(reader, 0, HEADER_BYTES)?;
        if header.get(..8) != Some(&MAGIC) {
            return Err(damaged(0, "not an id set"));
        }
        let word = |at| u32_at(&header, at).ok_or(damaged(at, "shorter than a header"));
        let layout = Layout::of(word(8)?.into(), word(12)?.into());
        if layout.end() != length {
            return Err(damaged(8, "the counts do not fit the length"));
        }
        if (layout.blocks == 0) != (layout.pairs == 0) || word(16)? != 0 {
            return Err(damaged(12, "impossible header"));
        }
        let rest = usize::try_from(layout.first_page() - HEADER_BYTES as u64)
            .map_err(|_| damaged(8, "larger than memory"))?;
        let rest = read(reader, HEADER_BYTES as u64, rest)?;
        if crc_of(&[header.get(..CRC_AT).unwrap_or_default(), &rest]) != word(CRC_AT)? {
            return Err(damaged(0, "checksum of header and filter"));
        }
        let (fences, filter) = rest
            .split_at_checked((layout.filter() - HEADER_BYTES as u64) as usize)
            .ok_or(damaged(HEADER_BYTES, "shorter than its fences"))?;
        let fences: Vec<u64> = fences.chunks(FENCE_BYTES).filter_map(|fence| u64_at(fence, 0)).collect();
        if !fences.is_sorted() {
            return Err(damaged(HEADER_BYTES, "fences out of order"));
        }
        Ok(Self { layout, fences, filter: Filter { bytes: filter.to_vec() } })
    }

    /// How many pairs it has.
    pub fn len(&self) -> u64 {
        self.layout.pairs
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.layout.pairs == 0
    }

    /// Bytes of memory that the open set holds.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.fences.len() * FENCE_BYTES + self.filter.bytes.len()
    }

    /// `false` if the fingerprint is certainly not in the set; reads nothing.
    pub fn may_contain(&self, fingerprint: u64) -> bool {
        self.filter.may_contain(fingerprint)
    }

    /// The values of a fingerprint, ascending. Other ids may share it: compare the events' ids.
    ///
    /// # Errors
    /// [`IdSetError::Damaged`], [`IdSetError::Io`]: then it is unknown whether the id is there.
    pub fn lookup(&self, reader: Reader<'_>, fingerprint: u64) -> Result<Vec<u32>, IdSetError> {
        let mut values = Vec::new();
        if !self.may_contain(fingerprint) {
            return Ok(values);
        }
        // The page before the first fence that is not below may end with the fingerprint.
        let first = self.fences.partition_point(|fence| *fence < fingerprint).saturating_sub(1);
        let candidates = self.fences.iter().enumerate().skip(first);
        for (number, _) in candidates.take_while(|(_, fence)| **fence <= fingerprint) {
            self.search_page(reader, number, fingerprint, &mut values)?;
        }
        Ok(values)
    }

    /// Calls `each` with every pair in order, reading page after page.
    ///
    /// # Errors
    /// [`IdSetError::Damaged`], [`IdSetError::Io`].
    pub fn for_each(&self, reader: Reader<'_>, mut each: impl FnMut(u64, u32)) -> Result<(), IdSetError> {
        (0..self.fences.len()).try_for_each(|number| self.read_page(reader, number, &mut each))
    }

    fn search_page(
        &self,
        reader: Reader<'_>,
        number: usize,
        wanted: u64,
        values: &mut Vec<u32>,
    ) -> Result<(), IdSetError> {
        self.read_page(reader, number, &mut |fingerprint, value| {
            if fingerprint == wanted {
                values.push(value);
            }
        })
    }

    /// Reads a page, checks it against its checksum, its order and its fences, and hands out its pairs.
    fn read_page(
        &self,
        reader: Reader<'_>,
        number: usize,
        each: &mut dyn FnMut(u64, u32),
    ) -> Result<(), IdSetError> {
        let (offset, pairs) = self.layout.page(number as u64);
        let damaged = |reason| IdSetError::Damaged { offset, reason };
        let bytes = read(reader, offset, pairs * PAIR_BYTES + CRC_BYTES)?;
        let (pairs, crc) = bytes.split_at_checked(pairs * PAIR_BYTES).ok_or(damaged("short page"))?;
        if u32_at(crc, 0) != Some(page_crc(number as u64, pairs)) {
            return Err(damaged("checksum of a page"));
        }
        let fence = self.fences.get(number).copied();
        if u64_at(pairs, 0) != fence {
            return Err(damaged("a page and its fence differ"));
        }
        let next_fence = self.fences.get(number + 1).copied().unwrap_or(u64::MAX);
        let mut last = None;
        for pair in pairs.chunks(PAIR_BYTES) {
            let pair = u64_at(pair, 0).zip(u32_at(pair, 8)).ok_or(damaged("short page"))?;
            if last.is_some_and(|last| last >= pair) || pair.0 > next_fence {
                return Err(damaged("pairs out of order"));
            }
            last = Some(pair);
            each(pair.0, pair.1);
        }
        Ok(())
    }
}

fn read(reader: Reader<'_>, offset: u64, length: usize) -> Result<Vec<u8>, IdSetError> {
    let bytes = reader(offset, length).map_err(|source| IdSetError::Io { offset, source })?;
    if bytes.len() != length {
        return Err(IdSetError::Damaged { offset, reason: "the file ends inside the set" });
    }
    Ok(bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_le_bytes(*word))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|word| u64::from_le_bytes(*word))
}

#[cfg(test)]
#[path = "idset_tests.rs"]
mod tests;
