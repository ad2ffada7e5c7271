//! How many deaths are too many, and how long to wait before the next life: OTP's restart intensity, and back-off.

use std::collections::VecDeque;

/// At most so many deaths in a window.
#[derive(Clone, Debug)]
pub struct Intensity {
    restarts: usize,
    window_ns: i64,
    recent: VecDeque<i64>,
}

impl Intensity {
    /// At most `restarts` deaths within `window_ns`; one more is too many.
    pub fn new(restarts: usize, window_ns: i64) -> Self {
        Intensity { restarts, window_ns, recent: VecDeque::new() }
    }

    /// Counts a death at `now_ns`; answers how many lie in the window, or `None` when they are too many.
    pub fn count(&mut self, now_ns: i64) -> Option<usize> {
        while self.recent.front().is_some_and(|t| now_ns - t >= self.window_ns) {
            self.recent.pop_front();
        }
        // More than the limit need not be remembered: they say no more than one of them.
        if self.recent.len() > self.restarts {
            self.recent.pop_front();
        }
        self.recent.push_back(now_ns);
        (self.recent.len() <= self.restarts).then_some(self.recent.len())
    }

    /// The limit in words.
    pub fn describe(&self) -> String {
        format!("more than {} restarts in {} s", self.restarts, self.window_ns as f64 / 1e9)
    }
}

/// How long a restart waits: the first two in a window do not, then the pause doubles.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// The pause before the third restart, ns.
    pub first_ns: i64,
    /// The longest pause, ns.
    pub max_ns: i64,
}

impl Backoff {
    /// The pause before the restart that answers the `recent`-th death of the window.
    pub fn pause_ns(self, recent: usize) -> i64 {
        match u32::try_from(recent.saturating_sub(3)) {
            Ok(doublings) if recent >= 3 => {
                let factor = 1i64.checked_shl(doublings.min(40)).unwrap_or(i64::MAX);
                self.first_ns.saturating_mul(factor).min(self.max_ns)
            }
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_counts_only_what_lies_in_the_window() {
        let mut intensity = Intensity::new(2, 100);
        let counts: Vec<_> = [0, 10, 100, 109, 111, 300].map(|t| intensity.count(t)).to_vec();
        assert_eq!(counts, [Some(1), Some(2), Some(2), None, None, Some(1)]);
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let backoff = Backoff { first_ns: 100, max_ns: 1_000 };
        let pauses: Vec<_> = [1, 2, 3, 4, 5, 6, 7, 1_000].map(|n| backoff.pause_ns(n)).to_vec();
        assert_eq!(pauses, [0, 0, 100, 200, 400, 800, 1_000, 1_000]);
    }
}
