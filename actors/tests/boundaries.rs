//! Every actor is killed at every message boundary of a standard run, and at every failpoint it passes: the journal ends
//! up the same as if nothing had happened.
//!
//! `cargo test --release -p semj-actors --features chaos --test boundaries -- --nocapture`; without optimisation only every
//! few failpoints are tried.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;
mod sim;

use common::{SOON, contents, disk, emit, open, restarts, silence};
use semj_actors::EngineOptions;
use semj_actors::chaos::{self, Action};
use semj_actors::simulation::ROLES;
use semj_actors::supervision::{Command, RestartLimits};
use sim::boundary::sweep;
use std::time::Instant;

#[test]
fn a_crash_at_any_boundary_changes_nothing() {
    silence();
    let begin = Instant::now();
    let figures =
        sweep(450, 1, if cfg!(debug_assertions) { 11 } else { 1 }).unwrap_or_else(|words| panic!("{words}"));
    println!("{figures:?} in {:.1} s", begin.elapsed().as_secs_f64());
    assert!(figures.messages >= 500, "{figures:?}");
    assert!(figures.unreached * 50 < figures.before + figures.inside, "{figures:?}");
}

/// The same with the real actors, at every few messages: how many there are is a matter of timing, so a crash may never
/// come; how many came is printed.
#[test]
fn a_crash_of_a_real_actor_at_any_message_changes_nothing() {
    const EVENTS: u64 = 120;
    silence();
    let begin = Instant::now();
    let limits = RestartLimits { restarts: 1_000, ..RestartLimits::default() };
    let (mut runs, mut crashes) = (0, 0);
    for role in ROLES {
        for step in ["message", "timer", "start", "recover"] {
            for nth in (1..=40).step_by(if step == "message" { 3 } else { 20 }) {
                let engine = open(&disk(), EngineOptions { restarts: limits, ..EngineOptions::default() });
                let emitter = engine.emitter(Some("a"));
                emit(&emitter, 0).wait_timeout(SOON).unwrap();
                if matches!(step, "start" | "recover") {
                    engine.disturb(role, Command::Crash);
                }
                chaos::arm(&format!("{}:{step}", role.name()), nth, Action::Panic);
                for n in 1..EVENTS {
                    let ticket = emit(&emitter, n);
                    if n % 3 == 0 {
                        ticket.wait_timeout(SOON).unwrap();
                    }
                }
                engine.last_admitted().unwrap().wait_timeout(SOON).unwrap();
                chaos::disarm_all();
                assert_eq!(
                    contents(&engine),
                    (0..EVENTS).collect::<Vec<_>>(),
                    "{} {step} {nth}",
                    role.name()
                );
                engine.close(SOON).unwrap();
                runs += 1;
                crashes += restarts(&engine, role.name());
            }
        }
    }
    println!("{runs} runs of real actors, {crashes} crashes in {:.1} s", begin.elapsed().as_secs_f64());
    assert!(crashes > runs / 3, "{crashes} crashes in {runs} runs");
}
