//! How many crashes are too many: OTP's restart intensity.

use std::collections::VecDeque;

/// What to do about a crash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The restart in place stands.
    Restarted,
    /// Too many: escalate.
    Exhausted,
}

/// At most `restarts` in `window_ns`, per role.
#[derive(Clone, Debug)]
pub struct Intensity {
    restarts: usize,
    window_ns: i64,
    recent: VecDeque<i64>,
}

impl Intensity {
    /// At most `restarts` crashes within `window_ns`; one more is too many.
    pub fn new(restarts: usize, window_ns: i64) -> Self {
        Intensity { restarts, window_ns, recent: VecDeque::new() }
    }

    /// Counts a crash at `now_ns`.
    pub fn crash(&mut self, now_ns: i64) -> Verdict {
        while self.recent.front().is_some_and(|t| now_ns - t >= self.window_ns) {
            self.recent.pop_front();
        }
        self.recent.push_back(now_ns);
        if self.recent.len() > self.restarts { Verdict::Exhausted } else { Verdict::Restarted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_counts_only_what_lies_in_the_window() {
        let mut intensity = Intensity::new(2, 100);
        let verdicts: Vec<_> = [0, 10, 100, 109, 111].map(|t| intensity.crash(t)).to_vec();
        use Verdict::{Exhausted, Restarted};
        assert_eq!(verdicts, [Restarted, Restarted, Restarted, Exhausted, Exhausted]);
    }
}
