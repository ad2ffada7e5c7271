//! The rows of a chunk in sled: keys, and dictionaries cut into values of at most 4 KiB.
//!
//! ```text
//! key    u8 kind (0: the chunk as a whole, 64 + kind: overflow), u64 chunk (big-endian), first value of the row
//! value  u32 CRC of key and the rest, u8 version, u16 number of this row, u16 rows of this kind in this chunk, entries
//! entry  u8 bytes shared with the value before (the first: with the key's), u8 length, the other bytes, postings
//! postings  varint n, then n offsets as varint differences; n = 0: a bitmap of 512 bytes
//! ```
//!
//! Numbered rows make a lost row visible: whoever leaves a row behind must find the next number.

use super::bits::OFFSET_MAX;
use super::chunk::{ChunkPostings, Places};
use super::{Bits, Kind, TreeError, VALUE_BYTES_MAX};
use crate::limits::{TREE_KEY_BYTES_MAX, TREE_VALUE_BYTES_MAX};

/// The version of this layout; rows of another one are rebuilt.
pub(crate) const ROW_VERSION: u8 = 1;
/// Kind byte of the row about the chunk as a whole.
pub(crate) const META: u8 = 0;
/// Added to a kind's number for the places that its dictionary does not hold.
pub(crate) const OVERFLOW: u8 = 64;
const KEY_HEAD: usize = 9;
const HEADER: usize = 9;
/// Number, two lengths, value, and postings at their longest.
const ENTRY_BYTES_MAX: usize = 2 + VALUE_BYTES_MAX + 1 + Bits::BYTES;
const _: () =
    assert!(KEY_HEAD + VALUE_BYTES_MAX <= TREE_KEY_BYTES_MAX && VALUE_BYTES_MAX <= u8::MAX as usize);
const _: () = assert!(HEADER + ENTRY_BYTES_MAX <= TREE_VALUE_BYTES_MAX);

/// A key and its value.
pub(crate) type RawRow = (Vec<u8>, Vec<u8>);

/// The key of a row.
pub(crate) fn key(kind: u8, chunk: u64, value: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(KEY_HEAD + value.len());
    key.push(kind);
    key.extend_from_slice(&chunk.to_be_bytes());
    key.extend_from_slice(value);
    key
}

fn write_varint(out: &mut Vec<u8>, value: u16) {
    match value {
        0..=0x7F => out.push(value as u8),
        0x80..=0x3FFF => out.extend_from_slice(&[value as u8 | 0x80, (value >> 7) as u8]),
        _ => out.extend_from_slice(&[value as u8 | 0x80, (value >> 7) as u8 | 0x80, (value >> 14) as u8]),
    }
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(head)
}

fn take_byte(bytes: &mut &[u8]) -> Option<u8> {
    let (byte, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*byte)
}

fn read_varint(bytes: &mut &[u8]) -> Option<u16> {
    let mut value = 0u32;
    for shift in [0, 7, 14] {
        let byte = take_byte(bytes)?;
        value |= u32::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return u16::try_from(value).ok();
        }
    }
    None
}

/// Appends ascending offsets, in the shorter of two forms.
pub(crate) fn write_postings(out: &mut Vec<u8>, offsets: &[u16]) {
    let start = out.len();
    write_varint(out, offsets.len() as u16);
    let mut before = 0;
    for offset in offsets {
        write_varint(out, offset - before);
        before = *offset;
    }
    // A list of no offsets at all can only be told from a bitmap by being one.
    if offsets.is_empty() || out.len() - start > 1 + Bits::BYTES {
        let mut bits = Bits::EMPTY;
        offsets.iter().for_each(|offset| bits.insert(*offset));
        out.truncate(start);
        out.push(0);
        out.extend(bits.to_bytes());
    }
}

/// Reads postings from the front of `bytes` into `into`; `None` when they do not add up.
pub(crate) fn read_postings(bytes: &mut &[u8], into: &mut Bits) -> Option<()> {
    let count = read_varint(bytes)?;
    if count == 0 {
        into.union(&Bits::from_bytes(take(bytes, Bits::BYTES)?)?);
        return Some(());
    }
    let mut offset = 0u16;
    for _ in 0..count {
        offset = offset.checked_add(read_varint(bytes)?).filter(|o| *o <= OFFSET_MAX)?;
        into.insert(offset);
    }
    Some(())
}

/// Skips postings at the front of `bytes`.
fn skip_postings(bytes: &mut &[u8]) -> Option<()> {
    match read_varint(bytes)? {
        0 => take(bytes, Bits::BYTES).map(|_| ()),
        count => (0..count).try_for_each(|_| read_varint(bytes).map(|_| ())),
    }
}

/// Puts header and checksum before `body`.
fn sealed(key: &[u8], number: u16, of: u16, body: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEADER + body.len());
    value.extend_from_slice(&[0; 4]);
    value.push(ROW_VERSION);
    value.extend_from_slice(&number.to_le_bytes());
    value.extend_from_slice(&of.to_le_bytes());
    value.extend_from_slice(body);
    let crc = checksum(key, value.get(4..).unwrap_or_default());
    if let Some(place) = value.get_mut(..4) {
        place.copy_from_slice(&crc.to_le_bytes());
    }
    value
}

fn checksum(key: &[u8], rest: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(key);
    crc.update(rest);
    crc.finalize()
}

/// Splits the sorted values of one kind into bodies of rows, each with its first value.
fn bodies(chunk: &ChunkPostings, kind: Kind) -> Vec<RawRow> {
    let mut done: Vec<RawRow> = Vec::new();
    let mut entry = Vec::with_capacity(ENTRY_BYTES_MAX);
    let mut before: &[u8] = &[];
    for (value, places) in chunk.sorted(kind) {
        let shared = value.iter().zip(before).take_while(|(a, b)| a == b).count();
        entry.clear();
        write_entry(&mut entry, value, shared, places);
        match done.last_mut() {
            Some((_, body)) if HEADER + body.len() + entry.len() <= TREE_VALUE_BYTES_MAX => {
                body.extend_from_slice(&entry);
            }
            _ => {
                let mut body = Vec::with_capacity(TREE_VALUE_BYTES_MAX);
                write_entry(&mut body, value, value.len(), places);
                done.push((value.to_vec(), body));
            }
        }
        before = value;
    }
    done
}

fn write_entry(out: &mut Vec<u8>, value: &[u8], shared: usize, places: &Places) {
    let suffix = value.get(shared..).unwrap_or_default();
    out.extend_from_slice(&[shared as u8, suffix.len() as u8]);
    out.extend_from_slice(suffix);
    write_postings(out, &places.offsets());
}

/// All rows of a chunk, within the limits of keys and values.
pub(crate) fn encode(number: u64, chunk: &ChunkPostings) -> Result<Vec<RawRow>, TreeError> {
    let mut rows = Vec::new();
    let mut meta = super::ChunkView::meta(chunk).clone();
    for kind in Kind::ALL {
        let done = bodies(chunk, kind);
        let of = done.len() as u16;
        if let Some(n) = meta.rows.get_mut(kind.index()) {
            *n = of;
        }
        for (i, (first, body)) in (0..of).zip(done) {
            let key = key(kind as u8, number, &first);
            let value = sealed(&key, i, of, &body);
            rows.push((key, value));
        }
        if meta.has_overflow(kind) {
            let places = chunk.overflow(kind);
            let mut body = Vec::new();
            write_postings(&mut body, &places.iter().collect::<Vec<_>>());
            let key = key(OVERFLOW + kind as u8, number, b"");
            let value = sealed(&key, 0, 1, &body);
            rows.push((key, value));
        }
    }
    let mut body = Vec::new();
    meta.encode(&mut body);
    let key = key(META, number, b"");
    let value = sealed(&key, 0, 1, &body);
    rows.push((key, value));
    for (key, value) in &rows {
        for (actual, limit) in [(key.len(), TREE_KEY_BYTES_MAX), (value.len(), TREE_VALUE_BYTES_MAX)] {
            if actual > limit {
                return Err(TreeError::TooLong { actual, limit });
            }
        }
    }
    Ok(rows)
}

/// A row whose checksum was right.
pub(crate) struct Row<'a> {
    /// Its number within kind and chunk.
    pub(crate) number: u16,
    /// How many rows there are.
    pub(crate) of: u16,
    /// The first value.
    pub(crate) first: &'a [u8],
    /// Entries, or whatever else the row holds.
    pub(crate) body: &'a [u8],
}

impl<'a> Row<'a> {
    /// Checks and splits a row; `None` when it is not what was written under this key.
    pub(crate) fn open(key: &'a [u8], value: &'a [u8]) -> Option<Self> {
        let (crc, rest) = value.split_at_checked(4)?;
        if u32::from_le_bytes(crc.try_into().ok()?) != checksum(key, rest) || *rest.first()? != ROW_VERSION {
            return None;
        }
        let number = u16::from_le_bytes(rest.get(1..3)?.try_into().ok()?);
        let of = u16::from_le_bytes(rest.get(3..5)?.try_into().ok()?);
        let row = Row { number, of, first: key.get(KEY_HEAD..)?, body: rest.get(5..)? };
        (number < of).then_some(row)
    }

    /// Shows `decide` each value, in order, and adds the places of those it takes to `into`.
    ///
    /// Answers whether it came to the end, or `None` when the row does not add up.
    pub(crate) fn entries(&self, into: &mut Bits, mut decide: impl FnMut(&[u8]) -> Step) -> Option<bool> {
        let mut rest = self.body;
        let mut value = self.first.to_vec();
        while !rest.is_empty() {
            let shared = usize::from(take_byte(&mut rest)?);
            let suffix = usize::from(take_byte(&mut rest)?);
            if shared > value.len() {
                return None;
            }
            value.truncate(shared);
            value.extend_from_slice(take(&mut rest, suffix)?);
            match decide(&value) {
                Step::Skip => skip_postings(&mut rest)?,
                Step::Take => read_postings(&mut rest, into)?,
                Step::Stop => return Some(false),
            }
        }
        Some(true)
    }
}

/// What to do with an entry of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Not wanted.
    Skip,
    /// Wanted.
    Take,
    /// Neither it nor any later one is wanted.
    Stop,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postings_take_the_shorter_form_and_survive() {
        let sets: [Vec<u16>; 6] = [
            vec![],
            vec![0],
            vec![4_095],
            (0..4_096).collect(),
            (0..4_096).step_by(7).collect(),
            (0..4_096).step_by(300).collect(),
        ];
        for offsets in sets {
            let mut bytes = Vec::new();
            write_postings(&mut bytes, &offsets);
            assert!(bytes.len() <= 1 + Bits::BYTES, "{} bytes", bytes.len());
            let (mut rest, mut bits) = (bytes.as_slice(), Bits::EMPTY);
            assert_eq!(read_postings(&mut rest, &mut bits), Some(()));
            assert!(rest.is_empty());
            assert_eq!(bits.iter().collect::<Vec<_>>(), offsets);
            for end in 0..bytes.len() {
                let mut cut = &bytes[..end];
                assert_eq!(read_postings(&mut cut, &mut Bits::EMPTY.clone()), None);
            }
        }
    }

    #[test]
    fn offsets_beyond_the_chunk_are_refused() {
        let mut bytes = Vec::new();
        write_varint(&mut bytes, 1);
        write_varint(&mut bytes, 4_096);
        assert_eq!(read_postings(&mut bytes.as_slice(), &mut Bits::EMPTY.clone()), None);
        assert_eq!(read_varint(&mut [0xFF, 0xFF, 0xFF].as_slice()), None);
    }

    #[test]
    fn damaged_rows_are_refused_and_never_panic() {
        let key = key(6, 3, b"/a");
        let value = sealed(&key, 0, 1, &[2, 0, 1, 5]);
        assert!(Row::open(&key, &value).is_some());
        for i in 0..value.len() {
            for bit in 0..8 {
                let mut damaged = value.clone();
                damaged[i] ^= 1 << bit;
                assert!(Row::open(&key, &damaged).is_none());
            }
            assert!(Row::open(&key, &value[..i]).is_none());
        }
        // Even with a right checksum nonsense is bounded.
        for body in [&[3u8, 0, 1, 5][..], &[2, 200, 1], &[2, 0, 0], &[2, 0, 9, 1], &[2]] {
            let value = sealed(&key, 0, 1, body);
            let row = Row::open(&key, &value).unwrap();
            assert_eq!(row.entries(&mut Bits::EMPTY.clone(), |_| Step::Take), None);
        }
    }
}
