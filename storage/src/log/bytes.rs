//! Reading and writing little-endian fields at fixed places; a read past the end gives zero bytes, never a panic.
//! Callers check lengths first: every structure here has a fixed size.

use uuid::Uuid;

/// `N` bytes at `at`; zeros where the slice ends.
pub(crate) fn get<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    if let Some(found) = bytes.get(at..at + N) {
        out.copy_from_slice(found);
    }
    out
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(get(bytes, at))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(get(bytes, at))
}

pub(crate) fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(get(bytes, at))
}

pub(crate) fn uuid_at(bytes: &[u8], at: usize) -> Uuid {
    Uuid::from_bytes(get(bytes, at))
}

/// Writes `value` at `at`; a structure's encoder only uses places inside it.
pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

/// CRC-32 of `bytes` with the four bytes at `hole` taken as zero, seeded with the journal's UUID so that a block of
/// another journal never passes.
pub(crate) fn crc_with_hole(uuid: &Uuid, bytes: &[u8], hole: usize) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(uuid.as_bytes());
    hasher.update(bytes.get(..hole).unwrap_or_default());
    hasher.update(&[0; 4]);
    hasher.update(bytes.get(hole + 4..).unwrap_or_default());
    hasher.finalize()
}

/// Whether every byte is zero.
pub(crate) fn all_zero(bytes: &[u8]) -> bool {
    bytes.chunks(4096).all(|chunk| chunk.iter().fold(0, |acc, b| acc | b) == 0)
}
