//! Which sequences came, which are missing, and which will never come.

use crate::sources::{Gap, GapCause, Lost};

/// The sequences of one life of the source, counted from 0.
#[derive(Clone, Debug, Default)]
pub(super) struct Sequences {
    /// All below it came, but for `missing`.
    next: u64,
    /// Ranges that have not come, in order; the end is excluded.
    missing: Vec<(u64, u64)>,
    came: u64,
}

impl Sequences {
    /// A record with this sequence came.
    pub(super) fn take(&mut self, sequence: u64) {
        self.came += 1;
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

    /// Whether each of the first `made` sequences has come or is known to be lost, `lost` being counted by the kernel.
    pub(super) fn is_settled(&self, made: u64, lost: u64) -> bool {
        self.came + lost >= made
    }

    /// The gaps among the first `made` sequences, once they are settled: each is told once.
    pub(super) fn gaps(&mut self, made: u64, (from_ns, to_ns): (i64, i64)) -> Vec<Gap> {
        if made > self.next {
            self.missing.push((self.next, made));
            self.next = made;
        }
        let each = self.missing.drain(..).map(|(first, end)| Gap {
            // The kernel counts from 0, records from 1.
            after: Some(first),
            lost: Lost::Exactly(end - first),
            from_ns,
            to_ns,
            cause: GapCause::Overflow,
        });
        each.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_late_is_not_missing_and_what_does_not_come_is_told_once() {
        let mut s = Sequences::default();
        [0, 3, 1, 7].into_iter().for_each(|n| s.take(n));
        assert!(!s.is_settled(9, 0) && !s.is_settled(9, 4) && s.is_settled(9, 5));
        let gaps = s.gaps(9, (1, 2));
        let ranges: Vec<_> = gaps.iter().map(|g| (g.after.unwrap(), g.lost)).collect();
        assert_eq!(ranges, [(2, Lost::Exactly(1)), (4, Lost::Exactly(3)), (8, Lost::Exactly(1))]);
        assert!(s.gaps(9, (2, 3)).is_empty());
    }
}
