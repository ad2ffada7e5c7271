//! How the body of a block is stored.

use crate::limits::BLOCK_BODY_BYTES_MAX;
use crate::plant::{Bug, planted};

/// A compression of block bodies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Codec {
    /// As it is: the fastest to write, and single events can be read alone.
    #[default]
    None,
    /// LZ4.
    Lz4,
    /// Zstandard at this level (1 to 19).
    Zstd(i32),
}

impl Codec {
    /// The number in the block header.
    pub(crate) fn number(self) -> u8 {
        match self {
            Codec::None => 0,
            Codec::Lz4 => 1,
            Codec::Zstd(_) => 2,
        }
    }

    /// Compresses `raw`; `None` where that does not make it smaller, and the body is stored plain.
    pub(crate) fn compress(self, raw: &[u8]) -> Option<Vec<u8>> {
        let stored = match self {
            Codec::None => return None,
            Codec::Lz4 => lz4_flex::block::compress(raw),
            Codec::Zstd(level) => zstd::bulk::compress(raw, level).ok()?,
        };
        (stored.len() < raw.len()).then_some(stored)
    }
}

/// The checksum of a stored body.
pub(crate) fn body_crc(stored: &[u8]) -> u32 {
    let left_out = if planted(Bug::ShortBodyChecksum) { 4.min(stored.len()) } else { 0 };
    crc32fast::hash(stored.get(..stored.len() - left_out).unwrap_or_default())
}

/// Checks a stored body's CRC and restores the raw body; the error says what is wrong.
pub(crate) fn open_body(number: u8, stored: Vec<u8>, crc: u32, raw_len: usize) -> Result<Vec<u8>, String> {
    let found = body_crc(&stored);
    if found != crc {
        return Err(format!("checksum of the block body is {found:08x}, expected {crc:08x}"));
    }
    decompress(number, stored, raw_len)
}

/// Restores a body of exactly `raw_len` bytes; a plain one is handed through.
fn decompress(number: u8, stored: Vec<u8>, raw_len: usize) -> Result<Vec<u8>, String> {
    if raw_len > BLOCK_BODY_BYTES_MAX {
        return Err(format!("body of {raw_len} bytes, the limit is {BLOCK_BODY_BYTES_MAX}"));
    }
    let raw = match number {
        0 => stored,
        1 => lz4_flex::block::decompress(&stored, raw_len).map_err(|e| format!("lz4: {e}"))?,
        2 => zstd::bulk::decompress(&stored, raw_len).map_err(|e| format!("zstd: {e}"))?,
        n => return Err(format!("unknown codec {n}")),
    };
    if raw.len() != raw_len {
        return Err(format!("body of {} bytes, expected {raw_len}", raw.len()));
    }
    Ok(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_survive_and_bombs_are_refused() {
        let raw = b"the same again and again ".repeat(400);
        for codec in [Codec::Lz4, Codec::Zstd(1), Codec::Zstd(19)] {
            let stored = codec.compress(&raw).unwrap();
            assert_eq!(decompress(codec.number(), stored.clone(), raw.len()).as_deref(), Ok(raw.as_slice()));
            assert!(
                decompress(codec.number(), stored.clone(), raw.len() - 1).is_err(),
                "more than the header says"
            );
            assert!(
                decompress(codec.number(), stored.clone(), raw.len() + 1).is_err(),
                "less than the header says"
            );
            assert!(
                decompress(codec.number(), stored[..stored.len() / 2].to_vec(), raw.len()).is_err(),
                "cut"
            );
        }
        assert_eq!(Codec::Zstd(1).compress(b"x"), None, "what does not shrink is stored plain");
        let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
        assert!(decompress(2, bomb, 64 << 20).is_err(), "over the limit before anything is allocated");
        assert!(decompress(9, raw.clone(), raw.len()).is_err());
    }
}
