//! The engine in one thread, with chance in the place of scheduler, clock and disk: whatever comes, nothing that was
//! acknowledged is lost, repeated or reordered, and everybody is told the truth.
//!
//! `cargo test -p semj-actors --features chaos --test simulation`, with `SEMJ_SEEDS=100000` for many, `SEMJ_SEED=7` for one.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;
mod sim;

use sim::gates;
use sim::run::{run, try_run};
use sim::saga::Settings;
use std::collections::BTreeMap;
use std::time::Instant;

/// Pills are shared by the whole process.
static ONE_AT_A_TIME: parking_lot::Mutex<()> = parking_lot::Mutex::new(());

/// Seeds that found something once. What a seed does changes with the simulation, so each bug found has a gate, too.
const REGRESSIONS: &[u64] = &[6, 31, 451, 560, 859, 865, 1_339];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|n| n.parse().ok())
}

#[test]
fn whatever_comes_nothing_is_lost_and_everybody_is_told_the_truth() {
    let _one = ONE_AT_A_TIME.lock();
    common::silence();
    let begin = Instant::now();
    let seeds: Vec<u64> = match number("SEMJ_SEED") {
        Some(seed) => vec![seed],
        None => REGRESSIONS.iter().copied().chain(1..=number("SEMJ_SEEDS").unwrap_or(1_000)).collect(),
    };
    let (mut counts, mut steps, mut failures) = (BTreeMap::<&str, u64>::new(), 0, Vec::new());
    for seed in &seeds {
        match try_run(*seed, Settings::from_seed(*seed)) {
            Ok(report) => {
                steps += report.trace.len();
                report.counts.into_iter().for_each(|(what, n)| *counts.entry(what).or_default() += n);
            }
            Err(words) => {
                if failures.is_empty() {
                    println!("{words}");
                }
                println!("SEMJ_SEED={seed} {}", words.lines().next().unwrap_or_default());
                failures.push(*seed);
            }
        }
        if failures.len() > 20 {
            break;
        }
    }
    println!("{} seeds, {steps} lines of traces, {:.1} s", seeds.len(), begin.elapsed().as_secs_f64());
    println!("{counts:?}");
    assert!(failures.is_empty(), "failing seeds: {failures:?}");
}

#[test]
fn a_lane_that_hangs_anywhere_is_replaced_and_changes_nothing_when_it_comes_back() {
    let _one = ONE_AT_A_TIME.lock();
    common::silence();
    println!("{} hangs", gates::hangs(1));
    gates::who_comes_back_late_leaves_all_as_it_is();
}

#[test]
fn nobody_is_replaced_inside_a_write() {
    let _one = ONE_AT_A_TIME.lock();
    gates::nobody_is_replaced_inside_a_write();
}

#[test]
fn messages_of_an_earlier_run_are_void() {
    gates::messages_of_an_earlier_run_are_void();
}

#[test]
fn a_crash_while_the_disk_is_full_closes_nothing() {
    let _one = ONE_AT_A_TIME.lock();
    gates::a_crash_while_the_disk_is_full_closes_nothing();
}

#[test]
fn a_pill_is_refused_and_told_although_the_persister_crashes_meanwhile() {
    let _one = ONE_AT_A_TIME.lock();
    common::silence();
    println!("{} crashes while a pill is isolated", gates::crashes_while_a_pill_is_isolated(1));
}

#[test]
fn what_is_shed_is_told() {
    gates::what_is_shed_is_told();
}

#[test]
fn trees_never_run_ahead_of_what_is_durable() {
    gates::trees_never_run_ahead();
}

#[test]
fn a_seed_runs_the_same_way_twice() {
    let _one = ONE_AT_A_TIME.lock();
    common::silence();
    for seed in [1, 2, 3, 4, 5] {
        let twice = [(); 2].map(|()| run(seed, Settings::from_seed(seed)));
        assert_eq!(twice[0], twice[1], "seed {seed}");
    }
}
