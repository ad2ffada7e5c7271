//! Source sequences that are missing, as ranges.

use semj_storage::log::control::RANGES_MAX;
use std::collections::BTreeMap;

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
