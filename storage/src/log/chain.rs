//! The hash chain over commit units. Every hash is domain-separated by a tag.

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// A value of the chain.
pub type ChainValue = [u8; 32];

/// The value before the first unit of a journal.
pub fn genesis(journal: &Uuid) -> ChainValue {
    let mut hasher = Sha256::new();
    hasher.update(b"semj chain genesis v1");
    hasher.update(journal.as_bytes());
    hasher.finalize().into()
}

/// The digest of one unit's uncompressed bytes.
pub(super) fn unit_digest(unit: &[u8]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(b"semj unit v1");
    hasher.update(unit);
    hasher.finalize().into()
}

/// The value after a unit.
pub(super) fn link(before: &ChainValue, first_sequence: u64, count: u32, digest: &[u8; 32]) -> ChainValue {
    let mut hasher = Sha256::new();
    hasher.update(b"semj chain link v1");
    hasher.update(before);
    hasher.update(first_sequence.to_le_bytes());
    hasher.update(count.to_le_bytes());
    hasher.update(digest);
    hasher.finalize().into()
}

/// A segment's seal.
pub(super) fn seal(journal: &Uuid, first: u64, last: u64, count: u64, chain: &ChainValue) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(b"semj segment seal v1");
    hasher.update(journal.as_bytes());
    hasher.update(first.to_le_bytes());
    hasher.update(last.to_le_bytes());
    hasher.update(count.to_le_bytes());
    hasher.update(chain);
    hasher.finalize().into()
}

/// The first 16 bytes of the digest of an event's caller-given content.
pub fn content_digest(body: &[u8]) -> [u8; 16] {
    let mut hasher = Sha256::new();
    hasher.update(b"semj content v1");
    hasher.update(body);
    let full: [u8; 32] = hasher.finalize().into();
    super::bytes::get(&full, 0)
}
