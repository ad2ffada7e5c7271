//! Proof that the gates can fail: each planted bug is caught by the gate meant for it, and without a bug all pass.
//!
//! `cargo test -p semj-actors --features planted,chaos --test planted_bugs -- --nocapture`

#![allow(clippy::indexing_slicing, reason = "helpers of tests are tests")]

mod sim;

use semj_actors::chaos;
use semj_storage::plant::{Bug, plant};
use sim::gates;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A gate and its name.
type Gate = (&'static str, fn());

const SEEDS: Gate = ("simulation", || gates::seeds(1..=300));
const BOUNDARIES: Gate = ("crashes at boundaries", gates::boundaries);
const HANGS: Gate = ("hangs at every point", || {
    gates::hangs(7);
});
const WRITES: Gate = ("hangs inside a write", gates::nobody_is_replaced_inside_a_write);
const SHED: Gate = ("a full ledger", gates::what_is_shed_is_told);
const TREES: Gate = ("trees between write and sync", gates::trees_never_run_ahead);

const RUNS: Gate = ("messages of an earlier run", gates::messages_of_an_earlier_run_are_void);

const LATE: Gate = ("who comes back late", gates::who_comes_back_late_leaves_all_as_it_is);
const FULL: Gate = ("a crash while the disk is full", gates::a_crash_while_the_disk_is_full_closes_nothing);

const PILLS: Gate = ("crashes while a pill is isolated", || {
    gates::crashes_while_a_pill_is_isolated(1);
});

const GATES: [Gate; 10] = [SEEDS, BOUNDARIES, HANGS, WRITES, SHED, TREES, RUNS, LATE, FULL, PILLS];

/// The gate meant for a bug.
fn gate_for(bug: Bug) -> Gate {
    match bug {
        Bug::SkipDiskZone => WRITES,
        Bug::ResumeBehindLost
        | Bug::KeepInFlight
        | Bug::SkipPublishAtRestart
        | Bug::SegmentUnknown
        | Bug::ReleaseBeforeCommit => BOUNDARIES,
        Bug::LateIncarnationActs => LATE,
        Bug::StayFullAfterCrash => FULL,
        Bug::IgnoreRun => RUNS,
        Bug::ShedSilently => SHED,
        Bug::RefusalNotedLate => PILLS,
        Bug::TreesAheadOfCommit => TREES,
        Bug::AcknowledgeEarly
        | Bug::ForgetRearm
        | Bug::HalvingDropsRest
        | Bug::HalvingSplitsGroups
        | Bug::RefuseWithoutHalving
        | Bug::PillWithoutTombstone
        | Bug::RefuseWithoutNotice
        | Bug::RefusedIdStaysTaken
        | Bug::RefuseSilently
        | Bug::DropHeldOnFull
        | Bug::FailWithoutWaking => SEEDS,
        other => panic!("no gate is meant for {}", other.name()),
    }
}

/// Runs a gate; what it says when it fails.
fn run(gate: Gate) -> Result<(), String> {
    let ran = catch_unwind(AssertUnwindSafe(gate.1));
    chaos::on_pass(None);
    chaos::disarm_pills();
    ran.map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
        text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
    })
}

/// The beginning of a text, on one line.
fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(160).collect()
}

// One test: a bug is planted in the whole process.
#[test]
fn every_planted_bug_is_caught_by_the_gate_meant_for_it() {
    // Panics are meant here; their traces would bury everything else.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let sound: Vec<_> = GATES.iter().map(|gate| (gate.0, run(*gate))).collect();
    // One bug alone, where somebody looks into it.
    let only = std::env::var("SEMJ_BUG").ok();
    let outcomes: Vec<_> = Bug::ACTORS
        .iter()
        .filter(|bug| only.as_ref().is_none_or(|only| only.split(',').any(|name| name == bug.name())))
        .map(|bug| {
            let gate = gate_for(*bug);
            plant(Some(*bug));
            let result = run(gate);
            plant(None);
            if only.is_some() {
                println!("{}", result.as_ref().err().map_or("", |words| words));
            }
            (bug.name(), gate.0, result)
        })
        .collect();
    std::panic::set_hook(usual);
    for (gate, result) in sound {
        assert_eq!(result, Ok(()), "{gate} fails without a bug");
    }
    println!();
    for (bug, gate, result) in &outcomes {
        match result {
            Err(how) => println!("{bug}: caught by {gate}: {}", short(how)),
            Ok(()) => println!("{bug}: NOT CAUGHT by {gate}"),
        }
    }
    let missed: Vec<_> = outcomes.iter().filter(|(.., result)| result.is_ok()).map(|(bug, ..)| bug).collect();
    println!("{} bugs planted, {} caught", outcomes.len(), outcomes.len() - missed.len());
    assert!(missed.is_empty(), "not caught: {missed:?}");
}
