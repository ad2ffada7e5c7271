//! The page before the stream in a file with a committed length: how much is committed, who sleeps, what the clocks said.
//! Its bytes are described in docs/FORMAT.md.

use semj_storage::kernel::checksum;
use semj_storage::log::control::ClockAnchor;

/// Where the stream begins behind a committed length.
pub const DATA_AT: u64 = 4_096;

/// u64: bytes of the stream that are committed.
pub(super) const LENGTH_AT: usize = 0;
/// u32: 1 while a reader sleeps and wants to be woken.
pub(super) const SLEEPS_AT: usize = 8;
/// u32: 1 where the writer wakes who sleeps.
pub(super) const WAKES_AT: usize = 12;
/// u64: how often the writer began again at the start. It counts after it took the length back and before it overwrites
/// anything: who finds the same number before and after reading has read what was committed.
pub(super) const LAPS_AT: usize = 16;
/// What the clocks said last, and the checksum of it.
pub(super) const CLOCK_AT: usize = 64;
const ANCHOR_BYTES: usize = 44;
pub(super) const CLOCK_BYTES: usize = ANCHOR_BYTES + 4;
/// So many bytes of the page mean something.
pub(super) const HEAD_BYTES: usize = CLOCK_AT + CLOCK_BYTES;

/// The page as it was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct HeadPage {
    pub(super) length: u64,
    pub(super) sleeps: bool,
    pub(super) wakes: bool,
    pub(super) clock: Option<ClockAnchor>,
}

impl HeadPage {
    pub(super) fn read(bytes: &[u8; HEAD_BYTES]) -> Self {
        let word =
            |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
        let length = bytes.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
        let anchor = bytes.get(CLOCK_AT..CLOCK_AT + ANCHOR_BYTES).unwrap_or_default();
        let is_whole = checksum(anchor) == word(CLOCK_AT + ANCHOR_BYTES);
        // Zeros have the checksum 0; they are no boot's.
        let clock = ClockAnchor::decode(anchor).filter(|a| is_whole && !a.boot_id.is_nil());
        HeadPage { length, sleeps: word(SLEEPS_AT) == 1, wakes: word(WAKES_AT) == 1, clock }
    }
}

/// The bytes at [`CLOCK_AT`].
pub(super) fn clock_bytes(anchor: &ClockAnchor) -> Vec<u8> {
    let mut bytes = anchor.encode();
    let sum = checksum(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

const _: () = assert!(
    LENGTH_AT == 0 && SLEEPS_AT + 4 == WAKES_AT && WAKES_AT + 4 == LAPS_AT && LAPS_AT + 8 <= CLOCK_AT
);

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_clock_that_is_being_written_is_none() {
        let anchor =
            ClockAnchor { boot_id: Uuid::from_u128(7), boot_ns: 1, wall_ns: 2, mono_ns: 3, error_ns: 4 };
        let mut bytes = [0; HEAD_BYTES];
        assert_eq!(HeadPage::read(&bytes).clock, None);
        bytes[CLOCK_AT..].copy_from_slice(&clock_bytes(&anchor));
        bytes[..8].copy_from_slice(&5u64.to_le_bytes());
        bytes[WAKES_AT] = 1;
        let head = HeadPage::read(&bytes);
        assert_eq!((head.length, head.sleeps, head.wakes, head.clock), (5, false, true, Some(anchor)));
        for at in CLOCK_AT..HEAD_BYTES {
            let mut torn = bytes;
            torn[at] ^= 1;
            assert_eq!(HeadPage::read(&torn).clock, None, "byte {at}");
        }
    }
}
