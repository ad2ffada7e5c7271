//! Every actor, every kind of death: it lives again, and nothing is lost, repeated or reordered.
//!
//! `cargo test -p semj-actors --features chaos --test supervision`

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use common::{SOON, contents, disk, emit, open, restarts, silence, until};
use semj_actors::chaos::{self, Action};
use semj_actors::supervision::{Command, RestartLimits, Role, WatchLimits};
use semj_actors::{CommitError, Engine, EngineOptions};
use semj_storage::backend::Backend;
use std::sync::Arc;
use std::time::Duration;

/// Roles of every journal; that of kernel sources has tests of its own.
const ROLES: [Role; 4] = [Role::Ingest, Role::Batcher, Role::Persister, Role::Indexer];

/// Failpoints are shared by the whole process.
static ONE_AT_A_TIME: parking_lot::Mutex<()> = parking_lot::Mutex::new(());

fn patient() -> EngineOptions {
    let restarts = RestartLimits { restarts: 1_000, ..RestartLimits::default() };
    let ms = 1_000_000;
    let watch = WatchLimits { hang_ns: 300 * ms, slow_ns: 30_000 * ms, stall_ns: 100 * ms };
    EngineOptions { restarts, watch, ..EngineOptions::default() }
}

/// Asks the actor of a role for something; waits for one that is just being brought back.
fn ask(engine: &Engine, role: Role, command: Command) {
    until("somebody can be asked", || engine.disturb(role, command));
}

/// Lets `disturb` happen while events flow, until the role was restarted; nothing may be lost.
fn survives(role: Role, how: &str, disturb: impl Fn(&Engine)) {
    let _one = ONE_AT_A_TIME.lock();
    println!("{} after {how}", role.name());
    silence();
    let disk = disk();
    let engine = open(&disk, patient());
    let emitter = engine.emitter(Some("a"));
    let mut count = 0;
    for round in 1..=3 {
        let before = restarts(&engine, role.name());
        disturb(&engine);
        let mut last = emit(&emitter, count);
        count += 1;
        until(&format!("{} lives again after {how}, round {round}", role.name()), || {
            // A flood would only keep the indexer busy.
            if count < round * 10_000 {
                last = emit(&emitter, count);
                count += 1;
            }
            if count % 64 == 0 {
                last.wait_timeout(SOON).unwrap();
            }
            restarts(&engine, role.name()) > before
        });
        chaos::disarm_all();
        last.wait_timeout(SOON).unwrap();
        // The trees or their stand-in go on, too: closing waits for nobody.
        last = emit(&emitter, count);
        count += 1;
        last.wait_timeout(SOON).unwrap();
    }
    assert_eq!(contents(&engine), (0..count).collect::<Vec<_>>(), "{} after {how}", role.name());
    engine.close(SOON).unwrap();
    drop(engine);
    let engine = open(&disk, patient());
    assert_eq!(contents(&engine), (0..count).collect::<Vec<_>>(), "{} after {how}, reopened", role.name());
}

#[test]
fn a_panic_in_a_handler() {
    for role in [Role::Ingest, Role::Batcher, Role::Indexer] {
        survives(role, "a panic in a handler", |_| {
            chaos::arm(&format!("{}:message", role.name()), 1, Action::Panic);
        });
    }
    // Emission alone sends the persister nothing while the control lane is at work: a waiter does.
    survives(Role::Persister, "a panic in a handler", |_| {
        chaos::arm("persister:message", 1, Action::Panic);
    });
}

#[test]
fn a_panic_in_a_future_it_spawned() {
    for role in [Role::Ingest, Role::Indexer] {
        survives(role, "a panic in a timer", |_| {
            chaos::arm(&format!("{}:timer", role.name()), 1, Action::Panic);
        });
    }
}

#[test]
fn a_panic_while_it_starts_or_recovers() {
    for role in ROLES {
        for step in ["start", "recover"] {
            survives(role, step, |engine| {
                chaos::arm(&format!("{}:{step}", role.name()), 1, Action::Panic);
                chaos::arm(&format!("{}:{step}", role.name()), 1, Action::Panic);
                engine.disturb(role, Command::Crash);
            });
        }
    }
}

#[test]
fn a_crash_a_stop_and_the_end_of_its_lane() {
    for role in ROLES {
        survives(role, "a crash", |engine| ask(engine, role, Command::Crash));
        survives(role, "a stop", |engine| ask(engine, role, Command::Stop));
        survives(role, "the end of its lane", |engine| ask(engine, role, Command::EndLane));
    }
}

#[test]
fn a_hang() {
    for role in ROLES {
        // Four threads may be left behind; the one that hangs longer than the test comes back to find itself fenced.
        survives(role, "a hang", |engine| {
            ask(engine, role, Command::Hang(Duration::from_millis(1_500)));
        });
    }
}

#[test]
fn an_error_of_its_core() {
    use semj_storage::backend::{DirectoryRule, Fault, FaultClass, MemoryBackend};
    let _one = ONE_AT_A_TIME.lock();
    let memory = Arc::new(MemoryBackend::new(DirectoryRule::Journal));
    let disk: Arc<dyn Backend> = memory.clone();
    let engine = open(&disk, patient());
    let emitter = engine.emitter(Some("a"));
    emit(&emitter, 0).wait_timeout(SOON).unwrap();
    // Resolving a cause by sequence reads the record, once its event has left the ledger.
    let dead = || ["ingest", "persister"].map(|r| restarts(&engine, r)).iter().sum::<u64>();
    memory.fail(Fault::on(FaultClass::Read).forever().path("segments/"));
    let mut last = None;
    let mut count = 1;
    until("an error is a crash", || {
        let event = semj_storage::event::Event::query("q").payload(serde_json::json!(count)).parent(1u64);
        last = Some(emitter.emit_blocking(event).unwrap());
        count += 1;
        dead() > 0
    });
    memory.clear_faults();
    last.unwrap().wait_timeout(SOON).unwrap();
    assert_eq!(contents(&engine), (0..count).collect::<Vec<_>>());
}

#[test]
fn who_comes_after_the_persister_is_restarted_with_it() {
    let _one = ONE_AT_A_TIME.lock();
    silence();
    let engine = open(&disk(), patient());
    let emitter = engine.emitter(Some("a"));
    emit(&emitter, 0).wait_timeout(SOON).unwrap();
    let recoveries = || chaos::passes().get("indexer:recover").copied().unwrap_or(0);
    let before = recoveries();
    engine.disturb(Role::Ingest, Command::Crash);
    until("ingest lives again", || restarts(&engine, "ingest") == 1);
    emit(&emitter, 1).wait_timeout(SOON).unwrap();
    assert_eq!(recoveries(), before, "one for one");
    engine.disturb(Role::Persister, Command::Crash);
    until("the indexer has read its cursor again", || recoveries() > before);
    assert_eq!(restarts(&engine, "indexer"), 0, "it did not die");
}

/// A thread that hangs behind its write comes back after its successor has gone on: it must change nothing.
#[test]
fn a_fenced_persister_changes_nothing_when_it_comes_back() {
    for point in ["persister:after_sync", "ingest:resolve", "batcher:pack", "persister:message"] {
        let _one = ONE_AT_A_TIME.lock();
        silence();
        let disk = disk();
        let engine = open(&disk, patient());
        let emitter = engine.emitter(Some("a"));
        let mut count = 0;
        for _ in 0..3 {
            chaos::arm(point, 1, Action::Hang);
            let mut last = emit(&emitter, count);
            count += 1;
            // A durable waiter brings the persist lane to the point.
            last.wait_timeout(SOON).unwrap();
            for _ in 0..50 {
                last = emit(&emitter, count);
                count += 1;
                last.wait_timeout(SOON).unwrap();
            }
            let hung = chaos::hanging();
            chaos::disarm_all();
            until("it came back", || chaos::hanging() == 0);
            for _ in 0..50 {
                last = emit(&emitter, count);
                count += 1;
                last.wait_timeout(SOON).unwrap();
            }
            assert!(hung <= 1);
        }
        assert!(engine.status().left_behind > 0, "{point}: nobody was left behind");
        assert_eq!(contents(&engine), (0..count).collect::<Vec<_>>(), "{point}");
        engine.close(SOON).unwrap();
        drop(engine);
        assert_eq!(contents(&open(&disk, patient())), (0..count).collect::<Vec<_>>(), "{point}, reopened");
    }
}

#[test]
fn a_stall_is_told_and_nobody_is_replaced() {
    for point in ["writer:before_sync", "writer:before_write"] {
        let _one = ONE_AT_A_TIME.lock();
        let engine = open(&disk(), patient());
        let emitter = engine.emitter(Some("a"));
        emit(&emitter, 0).wait_timeout(SOON).unwrap();
        chaos::arm(point, 1, Action::Hang);
        let ticket = emit(&emitter, 1);
        let mut answer = ticket.wait_timeout(Duration::from_millis(50));
        until("the stall is told", || {
            answer = ticket.wait_timeout(Duration::from_millis(50));
            matches!(answer, Err(CommitError::Stalled { .. }))
        });
        assert!(answer.unwrap_err().is_retryable());
        assert!(engine.status().stalled.is_some());
        emit(&emitter, 2);
        let status = engine.status();
        assert_eq!((status.left_behind, restarts(&engine, "persister")), (0, 0));
        chaos::disarm_all();
        ticket.wait_timeout(SOON).unwrap();
        until("the stall is over", || engine.status().stalled.is_none());
        emit(&emitter, 3).wait_timeout(SOON).unwrap();
        assert_eq!(contents(&engine), [0, 1, 2, 3], "{point}");
    }
}

#[test]
fn too_many_deaths_poison_what_must_not_fail_and_degrade_what_may() {
    let _one = ONE_AT_A_TIME.lock();
    silence();
    for role in [Role::Ingest, Role::Batcher, Role::Persister] {
        let disk = disk();
        let engine = open(&disk, EngineOptions::default());
        let emitter = engine.emitter(Some("a"));
        emit(&emitter, 0).wait_timeout(SOON).unwrap();
        for n in 1..=6 {
            until("it lives again", || {
                engine.disturb(role, Command::Crash);
                restarts(&engine, role.name()) >= n.min(5)
            });
        }
        until("poison", || {
            emitter.try_emit(semj_storage::event::Event::query("q")).is_err() || {
                engine.disturb(role, Command::Crash);
                false
            }
        });
        let words = emitter.try_emit(semj_storage::event::Event::query("q")).unwrap_err().to_string();
        assert!(words.contains(role.name()) && words.contains("more than 5 restarts in 10 s"), "{words}");
        assert_eq!(contents(&engine)[..1], [0], "reading goes on");
        drop(engine);
        let engine = open(&disk, EngineOptions::default());
        emit(&engine.emitter(Some("a")), 1).wait_timeout(SOON).unwrap();
    }
    let engine = open(&disk(), EngineOptions::default());
    let emitter = engine.emitter(Some("a"));
    until("the indexer is given up", || {
        engine.disturb(Role::Indexer, Command::Crash);
        !engine.status().lost_functions.is_empty()
    });
    emit(&emitter, 0).wait_timeout(SOON).unwrap();
    assert_eq!((engine.status().lost_functions[0].0, contents(&engine)), ("indexer", vec![0]));
}

#[test]
fn closing_says_what_it_did_not_manage() {
    let _one = ONE_AT_A_TIME.lock();
    let disk = disk();
    let engine = open(&disk, patient());
    let emitter = engine.emitter(Some("a"));
    emit(&emitter, 0).wait_timeout(SOON).unwrap();
    chaos::arm("writer:before_sync", 1, Action::Hang);
    emit(&emitter, 1);
    emit(&emitter, 2);
    until("it hangs", || chaos::hanging() == 1);
    let error = engine.close(Duration::from_millis(200)).unwrap_err();
    let CommitError::Unfinished(unfinished) = &error else { panic!("{error:?}") };
    assert_eq!(unfinished.not_durable.map(|(first, _)| first), Some(2), "{error}");
    assert_eq!(unfinished.left_behind, ["semj-persist"], "{error}");
    let again = Engine::open_on(
        disk.clone(),
        Arc::new(semj_actors::clock::SystemClock::new()),
        std::path::Path::new("/data/j"),
        patient(),
    );
    assert!(again.is_err(), "what the thread does that was left behind could land under another owner");
    chaos::disarm_all();
    until("it came back", || chaos::hanging() == 0);
}
