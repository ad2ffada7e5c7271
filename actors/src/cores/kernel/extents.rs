//! Source sequences and the journal's sequences, translated both ways. No constant offset exists, since events of agents
//! lie between; but a burst of kernel records is one run.

use std::collections::VecDeque;

/// Runs kept; the oldest are forgotten.
const RUNS_MAX: usize = 65_536;

/// A run: both sequences count up together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Run {
    source: u64,
    global: u64,
    length: u64,
}

/// The map of one life of a source.
///
/// 1. Runs are in the order of the journal's sequences and do not overlap there.
/// 2. A source sequence is in at most one run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ExtentMap {
    /// By journal sequence.
    runs: VecDeque<Run>,
}

impl ExtentMap {
    /// Adds a run behind all others in the journal.
    pub fn push(&mut self, source: u64, global: u64, length: u64) {
        if length == 0 {
            return;
        }
        if let Some(last) = self.runs.back_mut() {
            debug_assert!(global >= last.global + last.length, "runs are added in the journal's order");
            if last.source + last.length == source && last.global + last.length == global {
                last.length += length;
                return;
            }
        }
        self.runs.push_back(Run { source, global, length });
        if self.runs.len() > RUNS_MAX {
            self.runs.pop_front();
        }
    }

    /// The journal's sequence of a source sequence.
    pub fn to_global(&self, source: u64) -> Option<u64> {
        let within = |run: &Run| Some(source.checked_sub(run.source)?).filter(|n| *n < run.length);
        // In order but for records that came late, which lie behind their place.
        let at = self.runs.partition_point(|run| run.source <= source);
        let near = at.checked_sub(1).and_then(|at| self.runs.get(at));
        let found = near
            .filter(|run| within(run).is_some())
            .or_else(|| self.runs.iter().rev().find(|run| within(run).is_some()))?;
        Some(found.global + within(found)?)
    }

    /// The source sequence of an event.
    pub fn to_source(&self, global: u64) -> Option<u64> {
        let at = self.runs.partition_point(|run| run.global <= global).checked_sub(1)?;
        let run = self.runs.get(at)?;
        let place = global - run.global;
        (place < run.length).then(|| run.source + place)
    }

    /// How many runs.
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Forgets everything: another life begins.
    pub fn clear(&mut self) {
        self.runs.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_agree_and_a_burst_is_one_run() {
        let mut map = ExtentMap::default();
        map.push(1, 10, 1_000);
        map.push(1_001, 1_010, 5);
        assert_eq!(map.len(), 1);
        // Agents emit between; sequences get lost; one comes late.
        map.push(1_006, 2_000, 3);
        map.push(1_100, 2_003, 2);
        map.push(1_050, 2_005, 1);
        map.push(1_102, 2_006, 1);
        let pairs = (1..=1_102).filter_map(|s| Some((s, map.to_global(s)?))).collect::<Vec<_>>();
        assert_eq!(pairs.len(), 1_005 + 3 + 2 + 1 + 1);
        for (source, global) in pairs {
            assert_eq!(map.to_source(global), Some(source));
        }
        for (source, global) in [(1_050, 2_005), (1_008, 2_002), (1_102, 2_006)] {
            assert_eq!(map.to_global(source), Some(global));
        }
        assert_eq!((map.to_global(0), map.to_global(1_009), map.to_global(1_103)), (None, None, None));
        assert_eq!((map.to_source(9), map.to_source(1_015), map.to_source(2_007)), (None, None, None));
    }
}
