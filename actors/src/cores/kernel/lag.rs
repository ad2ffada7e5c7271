//! Tells from looks at a source whether it has been behind for too long. Pure.

/// When a source is told to be behind, and how often its state is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SyncLimits {
    /// How often figures are looked at, ns. While something happens, a clock anchor is taken and a certificate written
    /// that often; alerts and resyncs of a source come no closer together.
    pub period_ns: i64,
    /// A source is behind when more records than these are not accounted for.
    pub lag_events: u64,
    /// Or when the newest record that is accounted for is older than this while there are others, ms.
    pub lag_ms: u64,
    /// After so many periods in a row that it was behind, it is told.
    pub lag_periods: u32,
}

impl Default for SyncLimits {
    fn default() -> Self {
        SyncLimits { period_ns: 1_000_000_000, lag_events: 100_000, lag_ms: 10_000, lag_periods: 3 }
    }
}

/// How far a source is behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lag {
    /// Records that exist and are not accounted for; `None` where the source does not say.
    pub events: Option<u64>,
    /// How old that makes what is journaled, ms.
    pub ms: u64,
}

impl Lag {
    fn is_over(self, limits: &SyncLimits) -> bool {
        self.events.is_some_and(|n| n > limits.lag_events) || self.ms > limits.lag_ms
    }
}

/// The looks at one source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LagWatch {
    /// Looks in a row that found it behind.
    over: u32,
}

impl LagWatch {
    /// Takes a look, once a period; `is_told` says whether it is told to be behind. Answers what is to be told now:
    /// that it is behind, or that it is no longer.
    pub fn look(&mut self, lag: Lag, is_told: bool, limits: &SyncLimits) -> Option<bool> {
        if lag.is_over(limits) {
            self.over = self.over.saturating_add(1);
            (!is_told && self.over >= limits.lag_periods).then_some(true)
        } else {
            self.over = 0;
            is_told.then_some(false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lasts_is_told_and_its_end_once() {
        let limits = SyncLimits { lag_events: 10, lag_ms: 50, lag_periods: 3, ..SyncLimits::default() };
        let (few, many) = (Lag { events: Some(10), ms: 50 }, Lag { events: Some(11), ms: 0 });
        let old = Lag { events: None, ms: 51 };
        let (mut watch, mut is_told) = (LagWatch::default(), false);
        let mut told = Vec::new();
        for (n, lag) in [many, old, few, many, old, many, many, few, few].into_iter().enumerate() {
            if let Some(over) = watch.look(lag, is_told, &limits) {
                is_told = over;
                told.push((n, over));
            }
        }
        assert_eq!(told, [(5, true), (7, false)]);
    }
}
