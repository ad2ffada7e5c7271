//! Which sequences came, which are missing, and which will never come.

use crate::sources::{Gap, GapCause, Lost};

/// The sequences of one life of the source, counted from 0.
#[derive(Clone, Debug, Default)]
pub(super) struct Sequences {
    /// All below it came, but for `missing` and what was told.
    next: u64,
    /// Ranges that have not come, in order; the end is excluded.
    missing: Vec<(u64, u64)>,
    /// How many were told to be lost.
    told: u64,
}

impl Sequences {
    /// A record with this sequence came.
    pub(super) fn take(&mut self, sequence: u64) {
        if sequence >= self.next {
            if sequence > self.next {
                self.missing.push((self.next, sequence));
            }
            self.next = sequence + 1;
            return;
        }
        // Two processors may swap a few records; what is looked for is near the end.
        let Some(at) = self.missing.iter().rposition(|(from, to)| (*from..*to).contains(&sequence)) else {
            return;
        };
        let (from, to) = self.missing.remove(at);
        for part in [(sequence + 1, to), (from, sequence)] {
            if part.0 < part.1 {
                self.missing.insert(at, part);
            }
        }
    }

    /// Whether each of the first `made` sequences has come or is known to be lost. `lost` was counted by the kernel, and
    /// read before `made`: so it counts none but these, and where it counts as many as are missing, none of them is on
    /// its way. What came beyond `made` says nothing.
    pub(super) fn is_settled(&self, made: u64, lost: u64) -> bool {
        let ranges = self.missing.iter().map(|(from, to)| (*to).min(made).saturating_sub(*from));
        ranges.sum::<u64>() + made.saturating_sub(self.next) + self.told == lost
    }

    /// The gaps among the first `made` sequences, once they are settled: each is told once.
    pub(super) fn gaps(&mut self, made: u64, (from_ns, to_ns): (i64, i64)) -> Vec<Gap> {
        if made > self.next {
            self.missing.push((self.next, made));
            self.next = made;
        }
        let mut gaps = Vec::new();
        let mut beyond = Vec::new();
        for (from, to) in self.missing.drain(..) {
            let end = to.min(made);
            if from < end {
                self.told += end - from;
                // The kernel counts from 0, records from 1.
                let (after, lost) = (Some(from), Lost::Exactly(end - from));
                gaps.push(Gap { after, lost, from_ns, to_ns, cause: GapCause::Overflow });
            }
            if from.max(made) < to {
                beyond.push((from.max(made), to));
            }
        }
        self.missing = beyond;
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(gaps: &[Gap]) -> Vec<(u64, Lost)> {
        gaps.iter().map(|g| (g.after.unwrap(), g.lost)).collect()
    }

    #[test]
    fn what_comes_late_is_not_missing_and_what_does_not_come_is_told_once() {
        let mut s = Sequences::default();
        [0, 3, 1, 7].into_iter().for_each(|n| s.take(n));
        assert!(!s.is_settled(9, 0) && !s.is_settled(9, 4) && s.is_settled(9, 5));
        let gaps = s.gaps(9, (1, 2));
        assert_eq!(ranges(&gaps), [(2, Lost::Exactly(1)), (4, Lost::Exactly(3)), (8, Lost::Exactly(1))]);
        assert!(s.gaps(9, (2, 3)).is_empty() && s.is_settled(9, 5));
    }

    #[test]
    fn what_is_on_its_way_is_no_gap_though_later_ones_have_come() {
        let mut s = Sequences::default();
        // Of 4 that were made when the count was read, 2 is on its way; 4 and 6 came after that, 5 is on its way, too.
        [0, 1, 3, 4, 6].into_iter().for_each(|n| s.take(n));
        assert!(!s.is_settled(4, 0), "five came, but not the first four");
        s.take(2);
        assert!(s.is_settled(4, 0));
        assert!(s.gaps(4, (1, 2)).is_empty(), "5 is nobody's gap yet");
        assert!(!s.is_settled(7, 0) && s.is_settled(7, 1));
        assert_eq!(ranges(&s.gaps(7, (1, 2))), [(5, Lost::Exactly(1))]);
        assert!(s.is_settled(7, 1));
    }
}
