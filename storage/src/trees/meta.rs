//! What is known of a chunk as a whole, beside its dictionaries.

use super::rows::{read_postings, write_postings};
use super::{Bits, KINDS, Kind};
use crate::limits::{CHUNK_EVENTS, TREE_VALUE_BYTES_MAX};

const SPANS: usize = 16;
const SPAN_EVENTS: u16 = CHUNK_EVENTS as u16 / SPANS as u16;

/// Smallest and largest effective time of each sixteenth of a chunk; events of unknown time leave no trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimeSpans([(i64, i64); SPANS]);

impl Default for TimeSpans {
    fn default() -> Self {
        Self([(i64::MAX, i64::MIN); SPANS])
    }
}

impl TimeSpans {
    /// Takes in one event's time.
    pub fn add(&mut self, offset: u16, time: i64) {
        if let Some((min, max)) = self.0.get_mut(usize::from(offset / SPAN_EVENTS)) {
            *min = (*min).min(time);
            *max = (*max).max(time);
        }
    }

    /// Where events of `since <= time < until` may be.
    pub fn overlapping(&self, since: Option<i64>, until: Option<i64>) -> Bits {
        let mut bits = Bits::EMPTY;
        for (index, (min, max)) in (0u16..).zip(self.0) {
            if min <= max && since.is_none_or(|s| max >= s) && until.is_none_or(|u| min < u) {
                bits.insert_range(index * SPAN_EVENTS, (index + 1) * SPAN_EVENTS - 1);
            }
        }
        bits
    }
}

/// What is known of a chunk as a whole.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ChunkMeta {
    /// How many sequences of the chunk were looked at, from its start.
    pub events: u16,
    /// How many rows each kind has in sled; zero in memory.
    pub(crate) rows: [u16; KINDS],
    /// Kinds whose dictionary did not hold everything, a bit each.
    pub(crate) overflowed: u16,
    /// Sequences whose events could not be read: a query must look at them itself.
    pub unread: Bits,
    /// Times.
    pub times: TimeSpans,
}

const FIXED_BYTES: usize = 2 + KINDS * 2 + 2 + SPANS * 16;
const _: () = assert!(FIXED_BYTES + 2 * Bits::BYTES < TREE_VALUE_BYTES_MAX);

impl ChunkMeta {
    /// How many rows a kind has in sled.
    pub(crate) fn rows_of(&self, kind: Kind) -> u16 {
        self.rows.get(kind.index()).copied().unwrap_or(0)
    }

    /// Whether places beside the dictionary must be added to every look-up of this kind.
    pub(crate) fn has_overflow(&self, kind: Kind) -> bool {
        self.overflowed & (1 << kind.index()) != 0
    }

    /// Appends the byte form: counts, flags, times, then the unread places.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.events.to_le_bytes());
        self.rows.iter().for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
        out.extend_from_slice(&self.overflowed.to_le_bytes());
        for (min, max) in self.times.0 {
            out.extend_from_slice(&min.to_le_bytes());
            out.extend_from_slice(&max.to_le_bytes());
        }
        write_postings(out, &self.unread.iter().collect::<Vec<_>>());
    }

    /// Reads the byte form; `None` when it does not add up.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (fixed, mut rest) = bytes.split_at_checked(FIXED_BYTES)?;
        let mut words = fixed.get(..4 + KINDS * 2)?.chunks_exact(2);
        let mut word = || Some(u16::from_le_bytes(words.next()?.try_into().ok()?));
        let mut meta = Self { events: word()?, ..Self::default() };
        for n in &mut meta.rows {
            *n = word()?;
        }
        meta.overflowed = word()?;
        let mut times = fixed.get(4 + KINDS * 2..)?.chunks_exact(8);
        let mut time = || Some(i64::from_le_bytes(times.next()?.try_into().ok()?));
        for span in &mut meta.times.0 {
            *span = (time()?, time()?);
        }
        read_postings(&mut rest, &mut meta.unread)?;
        (rest.is_empty() && u64::from(meta.events) <= CHUNK_EVENTS).then_some(meta)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_survives_and_every_cut_is_refused() {
        let mut meta = ChunkMeta { events: 4_096, overflowed: 5, ..ChunkMeta::default() };
        meta.rows[3] = 700;
        meta.unread.insert_range(17, 40);
        meta.times.add(300, -5);
        let mut bytes = Vec::new();
        meta.encode(&mut bytes);
        assert_eq!(ChunkMeta::decode(&bytes), Some(meta));
        for end in 0..bytes.len() {
            assert_eq!(ChunkMeta::decode(&bytes[..end]), None, "cut at {end}");
        }
    }

    #[test]
    fn since_includes_and_until_excludes() {
        let mut times = TimeSpans::default();
        times.add(0, 10);
        times.add(255, 20);
        times.add(256, 30);
        let places = |since, until| times.overlapping(since, until).runs(0);
        assert_eq!(places(Some(20), None), [(0, 511)]);
        assert_eq!(places(Some(21), None), [(256, 511)]);
        assert_eq!(places(None, Some(30)), [(0, 255)]);
        assert_eq!(places(None, Some(10)), []);
        assert_eq!(places(Some(31), None), []);
    }
}
