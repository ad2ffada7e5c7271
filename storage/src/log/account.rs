//! What is known of a kernel source: its life, how far it is accounted for, and what is missing.

use std::collections::BTreeMap;
use uuid::Uuid;

/// Missing ranges kept in an account; older ones are forgotten.
pub const RANGES_MAX: usize = 64;

/// See the module. Every sequence up to `last_sequence` is a record of the journal, or counted as lost.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Account {
    /// Which boot the sequences belong to; nil where unknown.
    pub boot_id: Uuid,
    /// Which life of the source, counted by the journal from 1 on; 0 before the first.
    pub incarnation: u64,
    /// Records journaled in this life.
    pub records: u64,
    /// Highest source sequence accounted for, as a record or as missing; 0: none.
    pub last_sequence: u64,
    /// Newest boot-time clock of its records, ns.
    pub newest_boot_ns: i64,
    /// Records known to be missing in this life.
    pub lost: u64,
    /// Gaps of unknown length in this life.
    pub unknown_gaps: u64,
    /// The newest missing sequences.
    pub missing: Ranges,
}

impl Account {
    /// Whether it speaks of this life.
    pub fn is_of(&self, boot_id: &Uuid, incarnation: u64) -> bool {
        (&self.boot_id, self.incarnation) == (boot_id, incarnation)
    }
}

/// The newest missing ranges. Older ones are forgotten: a record that comes that late is taken for one of another epoch,
/// never for a repetition.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// From first and last sequence of each range.
    pub fn from_pairs(pairs: &[(u64, u64)]) -> Self {
        Ranges(pairs.iter().copied().filter(|(first, last)| first <= last).collect())
    }

    /// First and last sequence of each range, in order.
    pub fn pairs(&self) -> Vec<(u64, u64)> {
        self.0.iter().map(|(first, last)| (*first, *last)).collect()
    }

    /// How many ranges.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a range behind all others.
    pub fn push(&mut self, first: u64, last: u64) {
        if first <= last {
            self.0.insert(first, last);
        }
        while self.0.len() > RANGES_MAX {
            self.0.pop_first();
        }
    }

    /// Takes a sequence out; `false` when it was not missing.
    pub fn fill(&mut self, sequence: u64) -> bool {
        let Some((&first, &last)) =
            self.0.range(..=sequence).next_back().filter(|(_, last)| **last >= sequence)
        else {
            return false;
        };
        self.0.remove(&first);
        if first < sequence {
            self.0.insert(first, sequence - 1);
        }
        if sequence < last {
            self.0.insert(sequence + 1, last);
        }
        while self.0.len() > RANGES_MAX {
            self.0.pop_first();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_late_splits_its_range() {
        let mut ranges = Ranges::from_pairs(&[(5, 9), (20, 20)]);
        assert!(ranges.fill(7) && !ranges.fill(7) && ranges.fill(20) && !ranges.fill(4) && !ranges.fill(10));
        assert_eq!(ranges.pairs(), [(5, 6), (8, 9)]);
        (0..200).for_each(|n| ranges.push(100 + 2 * n, 100 + 2 * n));
        assert_eq!(ranges.pairs().len(), RANGES_MAX);
        assert!(!ranges.fill(5), "the oldest are forgotten");
    }
}
