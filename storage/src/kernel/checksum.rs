//! The kernel's checksum: CRC-32 with the usual polynomial, but started at 0 and not inverted at the end.
//!
//! It does not see zeros in front of the data, and a run of zeros has the checksum 0: it never stands alone.

use crc32fast::Hasher;
use sha2::{Digest as _, Sha256};

/// The kernel's `crc32(0, bytes)`: 0x2DFD2D88 for `123456789`.
pub fn checksum(bytes: &[u8]) -> u32 {
    with_hole(bytes, bytes.len())
}

/// The same with the four bytes at `hole` taken as zero.
pub(super) fn with_hole(bytes: &[u8], hole: usize) -> u32 {
    // Started at all ones, the inverted CRC runs through the same states as the kernel's started at 0.
    let mut hasher = Hasher::new_with_initial(u32::MAX);
    let (head, rest) = bytes.split_at_checked(hole).unwrap_or((bytes, &[]));
    hasher.update(head);
    if let Some((_, tail)) = rest.split_first_chunk::<4>() {
        hasher.update(&[0; 4]);
        hasher.update(tail);
    }
    !hasher.finalize()
}

/// The first four bytes of the SHA-256 of `bytes` with the four bytes at `hole` taken as zero.
pub(super) fn sha_with_hole(bytes: &[u8], hole: usize) -> u32 {
    let mut hasher = Sha256::new();
    hasher.update(bytes.get(..hole).unwrap_or_default());
    hasher.update([0; 4]);
    hasher.update(bytes.get(hole + 4..).unwrap_or_default());
    u32::from_le_bytes(super::layout::get(&hasher.finalize(), 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_values_are_those_of_the_kernel() {
        assert_eq!(checksum(b"123456789"), 0x2DFD_2D88);
        assert_eq!(checksum(b""), 0);
        assert_eq!(checksum(&[0; 5412]), 0);
        assert_eq!(checksum(b"\0\0\0abc"), checksum(b"\0abc"));
    }

    #[test]
    fn the_hole_counts_as_zeros() {
        assert_eq!(with_hole(b"abcdWXYZefgh", 4), checksum(b"abcd\0\0\0\0efgh"));
        assert_eq!(with_hole(b"abcdWXYZ", 4), checksum(b"abcd\0\0\0\0"));
    }
}
