//! A set of places within one chunk.

use crate::limits::CHUNK_EVENTS;

const WORDS: usize = CHUNK_EVENTS as usize / 64;
/// The last offset of a chunk.
pub(crate) const OFFSET_MAX: u16 = (CHUNK_EVENTS - 1) as u16;

/// A set of offsets within a chunk, one bit each. Offsets beyond the chunk are never members.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Bits([u64; WORDS]);

impl Default for Bits {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl Bits {
    /// No offset.
    pub const EMPTY: Self = Self([0; WORDS]);
    /// Every offset.
    pub const FULL: Self = Self([u64::MAX; WORDS]);
    /// Length of the byte form.
    pub(crate) const BYTES: usize = WORDS * 8;

    /// The first `count` offsets.
    pub fn first(count: u16) -> Self {
        let mut bits = Self::EMPTY;
        if let Some(last) = count.checked_sub(1) {
            bits.insert_range(0, last);
        }
        bits
    }

    /// Adds one offset.
    pub fn insert(&mut self, offset: u16) {
        if let Some(word) = self.0.get_mut(usize::from(offset / 64)) {
            *word |= 1 << (offset % 64);
        }
    }

    /// Adds `first..=last`.
    pub fn insert_range(&mut self, first: u16, last: u16) {
        for (index, word) in (0u32..).zip(self.0.iter_mut()) {
            let low = u32::from(first).saturating_sub(index * 64);
            let end = (u32::from(last) + 1).saturating_sub(index * 64).min(64);
            if low < end {
                *word |= (u64::MAX >> (64 - (end - low))) << low;
            }
        }
    }

    /// Whether the offset is a member.
    pub fn contains(&self, offset: u16) -> bool {
        self.0.get(usize::from(offset / 64)).is_some_and(|word| word & (1 << (offset % 64)) != 0)
    }

    /// Adds all members of `other`.
    pub fn union(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a |= b);
    }

    /// Keeps only members of `other`.
    pub fn intersect(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a &= b);
    }

    /// Removes all members of `other`.
    pub fn subtract(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a &= !b);
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// How many members there are.
    pub fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// The members in order.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        (0u16..).zip(self.0.iter()).flat_map(|(index, word)| {
            std::iter::successors(Some(*word), |rest| Some(rest & rest.wrapping_sub(1)))
                .take_while(|rest| *rest != 0)
                .map(move |rest| index * 64 + rest.trailing_zeros() as u16)
        })
    }

    /// The first member at or behind `offset`.
    pub fn first_from(&self, offset: u16) -> Option<u16> {
        let index = usize::from(offset / 64);
        let rest = self.0.get(index)? & (u64::MAX << (offset % 64));
        let words = std::iter::once(rest).chain(self.0.iter().skip(index + 1).copied());
        let (at, word) = (offset / 64..).zip(words).find(|(_, word)| *word != 0)?;
        Some(at * 64 + word.trailing_zeros() as u16)
    }

    /// Members in order as runs `first..=last`; runs with at most `gap` offsets between them are joined.
    pub fn runs(&self, gap: u16) -> Vec<(u16, u16)> {
        let mut runs: Vec<(u16, u16)> = Vec::new();
        for offset in self.iter() {
            match runs.last_mut() {
                Some((_, last)) if offset - *last <= gap + 1 => *last = offset,
                _ => runs.push((offset, offset)),
            }
        }
        runs
    }

    /// The bits as bytes, least significant first.
    pub(crate) fn to_bytes(self) -> impl Iterator<Item = u8> {
        self.0.into_iter().flat_map(u64::to_le_bytes)
    }

    /// The set of such bytes; `None` when there are too few or too many.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != Self::BYTES {
            return None;
        }
        let mut bits = Self::EMPTY;
        for (word, chunk) in bits.0.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(chunk.try_into().ok()?);
        }
        Some(bits)
    }
}

impl std::fmt::Debug for Bits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.runs(0)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_runs_agree_with_single_members() {
        for (first, last) in [(0, 0), (0, 63), (63, 64), (1, 4_095), (4_095, 4_095), (100, 1_000), (64, 127)]
        {
            let mut ranged = Bits::EMPTY;
            ranged.insert_range(first, last);
            let mut single = Bits::EMPTY;
            (first..=last).for_each(|offset| single.insert(offset));
            assert_eq!(ranged, single);
            assert_eq!(ranged.runs(0), [(first, last)]);
            assert_eq!(ranged.count(), u32::from(last - first) + 1);
            assert_eq!(ranged.iter().collect::<Vec<_>>(), (first..=last).collect::<Vec<_>>());
        }
        assert_eq!(Bits::first(0), Bits::EMPTY);
        assert_eq!(Bits::first(4_096), Bits::FULL);
    }

    #[test]
    fn near_runs_are_joined() {
        let mut bits = Bits::EMPTY;
        [3, 4, 7, 20].into_iter().for_each(|offset| bits.insert(offset));
        bits.insert(5_000);
        assert_eq!(bits.runs(0), [(3, 4), (7, 7), (20, 20)]);
        assert_eq!(bits.runs(2), [(3, 7), (20, 20)]);
        assert_eq!([0, 3, 5, 8, 21].map(|o| bits.first_from(o)), [Some(3), Some(3), Some(7), Some(20), None]);
        assert!(bits.contains(7) && !bits.contains(8) && !bits.contains(5_000));
        assert_eq!(Bits::from_bytes(&bits.to_bytes().collect::<Vec<_>>()), Some(bits));
    }
}
