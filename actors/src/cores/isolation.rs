//! Finds the event that crashes a stage: its batch is halved until one commit unit stands alone, and is refused then.
//!
//! 1. A batch that crashed its stage twice is halved; what is left is one unit (an event, or a whole group).
//! 2. Only a unit that stands alone is refused, after three crashes.
//! 3. It ends by itself: each crash is the second of a batch, makes it smaller, or is one of the last six.

use semj_storage::plant::{Bug, planted};

/// Crashes of a batch before it is halved.
const CRASHES_TO_HALVE: u32 = 2;
/// Crashes of a unit alone before it is refused, and of its tombstone before nothing can help: one may be a coincidence.
const CRASHES_TO_REFUSE: u32 = 3;

/// A range of sequences, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
}

/// What a crash with a batch in hand leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Judgement {
    /// The batch, or the first half of it, is tried again.
    Again,
    /// The unit is refused: a tombstone takes its place.
    Refuse,
    /// What crashed was the tombstone itself: the batch is not to blame.
    Hopeless,
}

#[derive(Clone, Debug)]
struct Suspicion {
    /// The batch that crashed.
    batch: Span,
    crashes: u32,
    /// The ends of the batches that crashed around it, the one in which the search began first: once a first half is
    /// committed, the smallest of them is tried next, since what crashed it is in there.
    ends: Vec<u64>,
    /// Its words, once it is refused.
    refused: Option<String>,
}

/// The search. At most one is under way, since batches are committed in order.
#[derive(Clone, Debug, Default)]
pub struct Isolation(Option<Suspicion>);

impl Isolation {
    /// A stage crashed with `batch` in hand, in these words. `middle` gives the last sequence of a span's first half,
    /// with units kept whole; `None` for a single unit.
    pub fn crashed(
        &mut self,
        batch: Span,
        words: &str,
        middle: impl FnOnce(Span) -> Option<u64>,
    ) -> Judgement {
        let until = self.0.as_ref().and_then(|s| s.ends.first().copied()).unwrap_or(0).max(batch.last);
        let suspicion = match &mut self.0 {
            Some(s) if s.batch.first == batch.first && s.batch.last >= batch.last => s,
            other => other.insert(Suspicion { batch, crashes: 0, ends: vec![until], refused: None }),
        };
        suspicion.batch = batch;
        suspicion.crashes += 1;
        if suspicion.refused.is_some() {
            let is_enough = suspicion.crashes >= CRASHES_TO_REFUSE;
            return if is_enough { Judgement::Hopeless } else { Judgement::Again };
        }
        if suspicion.crashes < CRASHES_TO_HALVE {
            return Judgement::Again;
        }
        match middle(batch) {
            _ if planted(Bug::RefuseWithoutHalving) => {
                (suspicion.refused, suspicion.crashes) = (Some(words.to_owned()), 0);
                Judgement::Refuse
            }
            Some(last) if last < batch.last => {
                if suspicion.ends.last().is_none_or(|end| batch.last < *end) {
                    suspicion.ends.push(batch.last);
                }
                suspicion.batch.last = last.max(batch.first);
                suspicion.crashes = 0;
                Judgement::Again
            }
            _ if suspicion.crashes < CRASHES_TO_REFUSE => Judgement::Again,
            _ => {
                (suspicion.refused, suspicion.crashes) = (Some(words.to_owned()), 0);
                Judgement::Refuse
            }
        }
    }

    /// The last sequence that the next batch may hold; `None` where nothing limits it.
    pub fn limit(&self) -> Option<u64> {
        self.0.as_ref().map(|s| s.batch.last)
    }

    /// The words with which the batch that starts at `first` is refused, if it is.
    pub fn refused(&self, first: u64) -> Option<&str> {
        self.0.as_ref().filter(|s| s.batch.first == first).and_then(|s| s.refused.as_deref())
    }

    /// Everything up to `last` is committed: what is behind it comes next.
    pub fn committed(&mut self, last: u64) {
        if let Some(s) = self.0.as_mut().filter(|s| s.batch.last <= last) {
            s.ends.retain(|end| *end > last);
            match s.ends.last() {
                None => self.0 = None,
                Some(end) => {
                    s.batch = Span { first: last + 1, last: *end };
                    (s.crashes, s.refused) = (0, None);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays batches over `1..=count` of which those that hold a pill crash; groups are `(first, last)`.
    fn play(count: u64, pills: &[u64], groups: &[(u64, u64)]) -> (Vec<Span>, u32) {
        let mut isolation = Isolation::default();
        let (mut next, mut refused, mut crashes) = (1, Vec::new(), 0);
        let middle = |span: Span| {
            let half = span.first + (span.last - span.first) / 2;
            let bounds = (span.first..span.last).filter(|s| !groups.iter().any(|(a, b)| a <= s && s < b));
            bounds.min_by_key(|s| s.abs_diff(half))
        };
        while next <= count {
            let batch = Span { first: next, last: isolation.limit().unwrap_or(count).min(count) };
            let is_pill = pills.iter().any(|p| (batch.first..=batch.last).contains(p));
            if is_pill && isolation.refused(next).is_none() {
                crashes += 1;
                assert!(crashes < 1_000, "it ends");
                match isolation.crashed(batch, "boom", middle) {
                    Judgement::Refuse => refused.push(batch),
                    judgement => assert_eq!(judgement, Judgement::Again),
                }
                continue;
            }
            next = batch.last + 1;
            isolation.committed(batch.last);
        }
        assert_eq!(isolation.limit(), None, "the search is over");
        (refused, crashes)
    }

    #[test]
    fn exactly_the_pills_are_refused() {
        let span = |first, last| Span { first, last };
        for pill in [1, 2, 500, 4_096] {
            let (refused, crashes) = play(4_096, &[pill], &[]);
            assert_eq!(refused, [span(pill, pill)]);
            assert!(crashes <= 4 * 12 + 3, "{crashes} crashes");
        }
        let (refused, _) = play(100, &[7, 8, 99], &[]);
        assert_eq!(refused, [span(7, 7), span(8, 8), span(99, 99)]);
        assert_eq!(play(1, &[1], &[]).0, [span(1, 1)]);
        assert_eq!(play(64, &[], &[]), (vec![], 0));
    }

    #[test]
    fn a_group_is_refused_as_a_whole() {
        let (refused, _) = play(64, &[30], &[(28, 40)]);
        assert_eq!(refused, [Span { first: 28, last: 40 }]);
    }

    #[test]
    fn a_crash_that_passes_leaves_no_trace_and_a_tombstone_that_crashes_is_hopeless() {
        let mut isolation = Isolation::default();
        let batch = Span { first: 5, last: 9 };
        assert_eq!(isolation.crashed(batch, "once", |_| Some(7)), Judgement::Again);
        assert_eq!(isolation.limit(), Some(9));
        isolation.committed(9);
        assert_eq!(isolation.limit(), None);
        let alone = Span { first: 10, last: 10 };
        for _ in 0..2 {
            assert_eq!(isolation.crashed(alone, "boom", |_| None), Judgement::Again);
        }
        assert_eq!(isolation.crashed(alone, "boom", |_| None), Judgement::Refuse);
        assert_eq!(isolation.refused(10), Some("boom"));
        for _ in 0..2 {
            assert_eq!(
                isolation.crashed(alone, "boom", |_| None),
                Judgement::Again,
                "its tombstone, perhaps"
            );
        }
        assert_eq!(isolation.crashed(alone, "boom", |_| None), Judgement::Hopeless);
    }
}
