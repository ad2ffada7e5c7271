//! Tells from looks at a progress word whether an actor hangs or stands inside a call on the record. Pure.
//!
//! A look counts only if the looks themselves come on time: after the whole process stood still, nobody is to blame.

use super::progress::{Word, Zone};

/// How long is too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WatchLimits {
    /// A busy actor that shows no progress for this long hangs, ns.
    pub hang_ns: i64,
    /// One inside what is known to be slow, ns.
    pub slow_ns: i64,
    /// A call on the record that takes this long is told as a stall, ns.
    pub stall_ns: i64,
}

impl Default for WatchLimits {
    fn default() -> Self {
        WatchLimits { hang_ns: 5_000_000_000, slow_ns: 60_000_000_000, stall_ns: 1_000_000_000 }
    }
}

impl WatchLimits {
    /// How often to look, ns.
    pub fn period_ns(self) -> i64 {
        (self.hang_ns.min(self.stall_ns) / LOOKS_MIN).clamp(1_000_000, 250_000_000)
    }
}

/// So many looks must agree, however much time lies between them.
const LOOKS_MIN: i64 = 4;

/// What a look found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finding {
    /// It moves, or has nothing to do.
    Moves,
    /// It hangs; this word fences it, if it still shows it.
    Hangs(Word),
    /// It stands inside a call on the record, since then.
    Stalls {
        /// When it was first seen there, ns.
        since_ns: i64,
    },
}

/// The looks at one incarnation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watch {
    seen: Option<(Word, i64)>,
    looks: i64,
}

impl Watch {
    /// Takes a look.
    pub fn look(&mut self, word: Word, now_ns: i64, limits: WatchLimits) -> Finding {
        let since_ns = match self.seen {
            Some((seen, since)) if seen == word => since,
            _ => {
                self.seen = Some((word, now_ns));
                self.looks = 0;
                return Finding::Moves;
            }
        };
        self.looks += 1;
        let stood = now_ns - since_ns;
        let enough = self.looks >= LOOKS_MIN;
        match word.zone() {
            Zone::Busy if enough && stood >= limits.hang_ns => Finding::Hangs(word),
            Zone::Slow if enough && stood >= limits.slow_ns => Finding::Hangs(word),
            Zone::Disk if enough && stood >= limits.stall_ns => Finding::Stalls { since_ns },
            _ => Finding::Moves,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::progress::Progress;
    use super::*;

    const LIMITS: WatchLimits = WatchLimits { hang_ns: 100, slow_ns: 1_000, stall_ns: 200 };

    fn looks(progress: &Progress, times: impl IntoIterator<Item = i64>) -> Vec<Finding> {
        let mut watch = Watch::default();
        times.into_iter().map(|t| watch.look(progress.look(), t, LIMITS)).collect()
    }

    #[test]
    fn each_zone_has_its_patience() {
        let progress = Progress::default();
        let moves = [Finding::Moves; 7];
        let times = [0, 50, 99, 150, 199, 250, 5_000];
        assert_eq!(looks(&progress, times), moves, "an idle actor never hangs");
        assert!(progress.begin());
        let word = progress.look();
        let found = looks(&progress, times);
        assert_eq!(found[..4], moves[..4]);
        assert_eq!(found[4..], [Finding::Hangs(word); 3]);
        let slow = progress.slow().unwrap();
        assert_eq!(looks(&progress, times)[..6], moves[..6]);
        assert!(matches!(looks(&progress, times)[6], Finding::Hangs(_)));
        drop(slow);
        let _disk = progress.disk().unwrap();
        let found = looks(&progress, times);
        assert_eq!(found[..5], moves[..5]);
        assert_eq!(found[5..], [Finding::Stalls { since_ns: 0 }; 2]);
    }

    #[test]
    fn progress_and_a_process_that_stood_still_are_no_hang() {
        let progress = Progress::default();
        assert!(progress.begin());
        assert_eq!(
            looks(&progress, [0, 1_000_000, 2_000_000, 3_000_000]),
            [Finding::Moves; 4],
            "too few looks"
        );
        let mut watch = Watch::default();
        for time in (0..2_000).step_by(50) {
            assert!(progress.tick());
            assert_eq!(watch.look(progress.look(), time, LIMITS), Finding::Moves);
        }
    }
}
