//! What a torture found, in figures. The names are those of `semj torture --json` and stay.

use super::check::Findings;
use semj_actors::supervision::Role;
use serde::Serialize;
use std::collections::BTreeMap;

/// Times, sorted when they are asked.
#[derive(Clone, Default, Debug)]
pub(super) struct Times(Vec<u64>);

impl Times {
    pub(super) fn push(&mut self, nanos: u64) {
        self.0.push(nanos);
    }

    pub(super) fn extend(&mut self, other: &Times) {
        self.0.extend(&other.0);
    }

    /// The figures, in microseconds.
    pub(super) fn figures(&self) -> Spread {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = |share: f64| {
            let index = (sorted.len() as f64 * share) as usize;
            sorted.get(index.min(sorted.len().saturating_sub(1))).map_or(0.0, |ns| *ns as f64 / 1e3)
        };
        Spread { count: sorted.len() as u64, p50_us: at(0.5), p99_us: at(0.99), max_us: at(1.0) }
    }
}

/// A spread of times.
#[derive(Clone, Copy, PartialEq, Default, Debug, Serialize)]
pub struct Spread {
    /// How many were measured.
    pub count: u64,
    /// Median, microseconds.
    pub p50_us: f64,
    /// 99th percentile, microseconds.
    pub p99_us: f64,
    /// The longest, microseconds.
    pub max_us: f64,
}

/// Time from one kind of disturbance to the next commit.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Recovery {
    /// Which actor.
    pub role: String,
    /// What was done to it: `crash`, `stop` and `failpoint` end it in place; `end_lane` and `hang` cost its thread;
    /// `pause` and `restart` are no deaths.
    pub command: String,
    /// From the last moment at which it was seen alive (of a `hang`, `pause` or `restart`: from the disturbance) until
    /// more was durable than when its death was seen.
    #[serde(flatten)]
    pub time: Spread,
}

/// Injected I/O faults.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub struct IoFaults {
    /// Writes that found the disk full.
    pub full: u64,
    /// Writes, syncs and reads that ended in an I/O error.
    pub errors: u64,
    /// Syncs and reads that were delayed.
    pub slow: u64,
}

/// Everything.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// What the random numbers came from.
    pub seed: u64,
    /// How long the tortured lives lasted together, seconds.
    pub seconds: f64,
    /// Lives of the process.
    pub lives: u64,
    /// Those that ended by SIGKILL.
    pub sigkills: u64,
    /// Events in the journal in the end.
    pub events: u64,
    /// What was acknowledged, and what of it is not as promised.
    #[serde(flatten)]
    pub findings: Findings,
    /// Whether every checksum and the chain of the record are right in the end.
    pub intact: bool,
    /// Actors disturbed.
    pub disturbances: u64,
    /// Restarts by role.
    pub restarts: BTreeMap<&'static str, u64>,
    /// Threads that hung for good and were replaced.
    pub left_behind: u64,
    /// Injected I/O faults.
    pub io_faults: IoFaults,
    /// From a journal poisoned by an I/O error until it was open again in the same process.
    pub reopened: Spread,
    /// From the start of a check until the journal was open, after each life.
    pub opened_after_life: Spread,
    /// From the crash or stop of an actor on the way to the disk until the next commit; see [`Recovery::time`].
    pub crash_to_commit: Spread,
    /// The same for an undisturbed journal: from a random moment until the next commit.
    pub undisturbed_to_commit: Spread,
    /// Each role and each disturbance.
    pub recovery: Vec<Recovery>,
    /// Acknowledged events a second.
    pub per_second: f64,
    /// The same for the undisturbed journal, in lives of the same length.
    pub undisturbed_per_second: f64,
    /// The one by the other.
    pub ratio: f64,
    /// Largest resident memory of a tortured life, bytes.
    pub memory_bytes: u64,
    /// Of an undisturbed one.
    pub undisturbed_memory_bytes: u64,
    /// It was ended early.
    pub interrupted: bool,
}

impl Report {
    /// Whether everything is as promised.
    pub fn is_clean(&self) -> bool {
        self.findings.is_clean() && self.intact
    }
}

/// Whether a crash of this role stands in the way of a commit.
pub(super) fn is_on_the_way(role: &str) -> bool {
    Role::parse(role).is_some_and(|role| role != Role::Indexer)
}

/// Whether the actor ends in place, on its own thread.
pub(super) fn is_in_place(command: &str) -> bool {
    matches!(command, "crash" | "stop" | "failpoint")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_are_told_in_microseconds() {
        let mut times = Times::default();
        assert_eq!(times.figures(), Spread::default());
        (1..=100).rev().for_each(|n| times.push(n * 1_000));
        assert_eq!(times.figures(), Spread { count: 100, p50_us: 51.0, p99_us: 100.0, max_us: 100.0 });
    }
}
