//! Kernel sources: what they hand out is journaled once, in order, with the place to go on from in the same unit.
//!
//! `cargo test -p semj-actors --features chaos --test kernel_sync`

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;
#[path = "common/script.rs"]
mod script;

use common::{SOON, disk, emit, open, restarts, silence, until};
use script::{Script, Step, found, record};
use semj_actors::chaos::{self, Action};
use semj_actors::clock::{Clock, SystemClock};
use semj_actors::sources::{GapCause, Item, Lost, ResumeKind};
use semj_actors::supervision::{Command, RestartLimits, Role, WatchLimits};
use semj_actors::{Condition, Engine, EngineOptions, SyncError};
use semj_storage::backend::{Backend, CrashMode, DirectoryRule, MemoryBackend};
use semj_storage::log::control::ResumePoint;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Failpoints are shared by the whole process.
static ONE_AT_A_TIME: parking_lot::Mutex<()> = parking_lot::Mutex::new(());

fn patient() -> EngineOptions {
    let restarts = RestartLimits { restarts: 1_000, ..RestartLimits::default() };
    EngineOptions { restarts, ..EngineOptions::default() }
}

/// As patient with crashes, and quick to take somebody for hanging: on a busy machine also who is only slow.
fn suspicious() -> EngineOptions {
    let ms = 1_000_000;
    let watch = WatchLimits { hang_ns: 300 * ms, slow_ns: 600 * ms, stall_ns: 100 * ms };
    EngineOptions { watch, ..patient() }
}

/// Steps of one record each, or of `n` at once.
fn in_calls_of(n: usize, sequences: impl IntoIterator<Item = u64>) -> Vec<Step> {
    let all: Vec<u64> = sequences.into_iter().collect();
    all.chunks(n)
        .map(|c| Step::Items(c.iter().map(|s| Item::Record(Box::new(record(*s)))).collect()))
        .collect()
}

#[test]
fn losses_repetitions_and_disorder_are_told_apart() {
    let _one = ONE_AT_A_TIME.lock();
    let engine = open(&disk(), patient());
    // 4 comes late, 7 to 9 never; 5 and 12 come twice; 14 and 13 are swapped.
    let order = [1, 2, 3, 5, 4, 5, 6, 10, 11, 12, 12, 14, 13, 15];
    engine.attach(Script::new("k", in_calls_of(3, order)).boxed()).unwrap();
    engine.sync_now(SOON).unwrap();
    let found = found(&engine, "k");
    let want: Vec<u64> = (1..=15).filter(|n| !(7..=9).contains(n)).collect();
    assert_eq!(found.sequences, want, "in order, once each");
    assert_eq!(found.lost, 3);
    let status = &engine.sync_status()[0];
    assert_eq!((status.lost, status.duplicates, status.last_sequence), (3, 2, 15));
    assert_eq!((status.lag_events, status.lag_ms), (Some(0), 0));
    let point = engine.resume_point("k").unwrap().unwrap().account;
    assert_eq!((point.last_sequence, point.lost, point.missing.pairs()), (15, 3, vec![(7, 9)]));
}

#[test]
fn both_sequences_are_translated() {
    let _one = ONE_AT_A_TIME.lock();
    let engine = open(&disk(), patient());
    let emitter = engine.emitter(Some("a"));
    emit(&emitter, 0).wait_timeout(SOON).unwrap();
    engine.attach(Script::new("k", in_calls_of(4, (1..=40).filter(|n| *n != 17))).boxed()).unwrap();
    engine.sync_now(SOON).unwrap();
    let events = found(&engine, "k").events;
    assert_eq!(events.len(), 39);
    for (source, sequence) in events {
        assert_eq!(engine.sequence_of("k", source), Some(sequence));
        assert_eq!(engine.source_sequence_of("k", sequence), Some(source));
    }
    assert_eq!((engine.sequence_of("k", 17), engine.source_sequence_of("k", 1)), (None, None));
}

#[test]
fn reopening_goes_on_behind_what_is_durable() {
    let _one = ONE_AT_A_TIME.lock();
    let disk = disk();
    for upto in [14, 14, 35, 105] {
        let engine = open(&disk, patient());
        engine.attach(Script::new("k", in_calls_of(7, 1..=upto)).boxed()).unwrap();
        engine.sync_now(SOON).unwrap();
        assert_eq!(found(&engine, "k").sequences, (1..=upto).collect::<Vec<_>>());
        assert_eq!(engine.sync_status()[0].duplicates, 0, "nothing was read twice");
        let point = engine.resume_point("k").unwrap().unwrap();
        let account = &point.account;
        assert_eq!((account.records, account.last_sequence, account.incarnation), (upto, upto, 1));
        assert_eq!(point.resume, (upto / 7).to_le_bytes(), "it was read to its end");
        engine.close(SOON).unwrap();
    }
}

#[test]
fn a_new_life_counts_anew_and_unknown_gaps_are_told() {
    let _one = ONE_AT_A_TIME.lock();
    let engine = open(&disk(), patient());
    let boot = uuid::Uuid::from_u128(7);
    let epoch =
        |incarnation| Step::Items(vec![Item::Epoch { boot_id: boot, incarnation, first_sequence: Some(1) }]);
    let gap = |lost, after| semj_actors::sources::Gap {
        after,
        lost,
        from_ns: 1,
        to_ns: 2,
        cause: GapCause::Overflow,
    };
    let mut steps = vec![epoch(1)];
    steps.extend(in_calls_of(2, [1, 2, 3]));
    steps.push(Step::Items(vec![Item::Gap(gap(Lost::Exactly(2), Some(3)))]));
    steps.extend(in_calls_of(1, [6]));
    steps.push(Step::Items(vec![Item::Gap(gap(Lost::Unknown, None))]));
    // The ring is made anew: the source says so. Then a source that does not say it.
    steps.push(epoch(2));
    steps.extend(in_calls_of(1, [3, 4]));
    steps.push(Step::Items(
        (1..=3).map(|n| Item::Record(Box::new(script::record_at(n, 9_000_000_000 + n as i64)))).collect(),
    ));
    engine.attach(Script::new("k", steps).boxed()).unwrap();
    engine.sync_now(SOON).unwrap();
    let found = found(&engine, "k");
    assert_eq!(found.sequences, [1, 2, 3, 6, 3, 4, 1, 2, 3]);
    assert_eq!(
        found.names,
        ["semj.epoch", "semj.gap", "semj.gap", "semj.epoch", "semj.gap", "semj.epoch"],
        "4-5; unknown; 1-2 of the second life"
    );
    assert_eq!(found.lost, 4);
    let status = &engine.sync_status()[0];
    assert_eq!((status.incarnation, status.last_sequence, status.lost), (3, 3, 0));
}

/// A wall clock that can be set.
#[derive(Debug)]
struct Settable(SystemClock, AtomicI64);

impl Clock for Settable {
    fn boot_ns(&self) -> i64 {
        self.0.boot_ns()
    }
    fn wall_ns(&self) -> i64 {
        self.0.wall_ns() + self.1.load(Ordering::SeqCst)
    }
    fn boot_id(&self) -> uuid::Uuid {
        self.0.boot_id()
    }
}

#[test]
fn a_clock_set_back_one_hour_changes_no_order() {
    let _one = ONE_AT_A_TIME.lock();
    let hour = 3_600_000_000_000;
    let memory: Arc<dyn Backend> = disk();
    let clock = Arc::new(Settable(SystemClock::new(), AtomicI64::new(0)));
    let engine = Engine::open_on(memory.clone(), clock.clone(), Path::new("/data/j"), patient()).unwrap();
    let at = |offset: i64| {
        Step::Items(vec![Item::Clock { boot_ns: 0, wall_ns: offset, mono_ns: 0, error_ns: 60 }])
    };
    let mut steps = vec![at(0)];
    steps.extend(in_calls_of(5, 1..=20));
    steps.push(at(-hour));
    steps.extend(in_calls_of(5, 21..=40));
    let script = Script::new("k", steps);
    script.hold_back_after(3);
    let control = script.control();
    engine.attach(script.boxed()).unwrap();
    engine.sync_now(SOON).unwrap();
    clock.1.store(-hour, Ordering::SeqCst);
    control.let_go();
    engine.sync_now(SOON).unwrap();
    let found = found(&engine, "k");
    assert_eq!(found.sequences, (1..=40).collect::<Vec<_>>());
    assert_eq!(found.names, ["semj.epoch", "semj.clock_step"]);
    assert_eq!(engine.sync_status()[0].clock_drift_ns, -hour);
    let before = engine.view_clock();
    engine.close(SOON).unwrap();
    drop(engine);
    // The logical clock is not set back by the next opening either.
    let engine = Engine::open_on(memory, clock, Path::new("/data/j"), patient()).unwrap();
    emit(&engine.emitter(None), 1).wait_timeout(SOON).unwrap();
    assert!(engine.view_clock() > before, "{:?} after {before:?}", engine.view_clock());
}

/// A boot-time clock that stands still until it is told to go on.
#[derive(Debug)]
struct Stopped(AtomicI64);

impl Clock for Stopped {
    fn boot_ns(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
    fn wall_ns(&self) -> i64 {
        self.0.load(Ordering::SeqCst) + 1_000
    }
    fn boot_id(&self) -> uuid::Uuid {
        uuid::Uuid::from_u128(3)
    }
}

/// Of a call, what comes before a missing sequence is admitted at once, the rest when it was waited for long enough. If the
/// machine stops in between, the place to go on from is before the call.
#[test]
fn a_call_that_was_admitted_in_part_comes_again_and_is_journaled_once() {
    let _one = ONE_AT_A_TIME.lock();
    let memory = Arc::new(MemoryBackend::new(DirectoryRule::Journal));
    let steps = || in_calls_of(9, (1..=27).filter(|n| *n != 5));
    let image = {
        let backend: Arc<dyn Backend> = memory.clone();
        let clock = Arc::new(Stopped(AtomicI64::new(1_000)));
        let engine = Engine::open_on(backend, clock, Path::new("/data/j"), patient()).unwrap();
        let script = Script::new("k", steps());
        script.hold_back_after(1);
        engine.attach(script.boxed()).unwrap();
        until("the first half is admitted", || engine.sync_status()[0].last_sequence == 4);
        emit(&engine.emitter(None), 1).wait_timeout(SOON).unwrap();
        memory.crash_image(CrashMode::Drop, 0)
    };
    let image: Arc<dyn Backend> = Arc::new(image);
    let engine = open(&image, patient());
    assert_eq!(found(&engine, "k").sequences, [1, 2, 3, 4]);
    engine.attach(Script::new("k", steps()).boxed()).unwrap();
    engine.sync_now(SOON).unwrap();
    let found = found(&engine, "k");
    assert_eq!(found.sequences, (1..=27).filter(|n| *n != 5).collect::<Vec<_>>());
    let status = &engine.sync_status()[0];
    assert_eq!((status.duplicates, status.lost, found.lost), (4, 1, 1));
}

/// Lets `disturb` happen while records flow; nothing may be lost, repeated or reordered.
fn survives(how: &str, who: &str, resume: ResumeKind, disturb: impl Fn(&Engine, u64)) {
    let _one = ONE_AT_A_TIME.lock();
    println!("{how}, {resume:?}");
    silence();
    let disk = disk();
    let engine = open(&disk, suspicious());
    let lost = [50u64, 51, 333];
    let there = |upto: u64| (1..=upto).filter(|n| !lost.contains(n)).collect::<Vec<_>>();
    let script = Script::new("k", in_calls_of(5, there(600))).resumes(resume);
    let control = script.control();
    control.hold_back_after(0);
    engine.attach(script.boxed()).unwrap();
    let emitter = engine.emitter(Some("a"));
    for round in 1..=3u64 {
        let before = restarts(&engine, who);
        until("somebody can be asked", || engine.sync_status()[0].opened > 0);
        disturb(&engine, round);
        control.hold_back_after(20 * round as usize);
        until(&format!("it lives again after {how}, round {round}"), || {
            emit(&emitter, 1);
            engine.poke_sync();
            restarts(&engine, who) > before
        });
        chaos::disarm_all();
    }
    control.let_go();
    until("all is read", || engine.sync_now(SOON).is_ok());
    let all = found(&engine, "k");
    assert_eq!(all.sequences, there(600), "{how}");
    assert_eq!(all.lost, 3, "{how}");
    assert_eq!(engine.resume_point("k").unwrap().unwrap().account.last_sequence, 600);
    engine.close(SOON).unwrap();
    drop(engine);
    let engine = open(&disk, patient());
    assert_eq!(found(&engine, "k").sequences, there(600), "{how}, reopened");
}

#[test]
fn a_crash_at_any_step_leaves_no_hole_and_no_repetition() {
    for point in
        ["message", "before_read", "taken", "after_read", "before_admit", "after_admit", "recover", "start"]
    {
        for resume in [ResumeKind::Durable, ResumeKind::None] {
            survives(point, "kernel_sync", resume, |engine, round| {
                let is_birth = matches!(point, "recover" | "start");
                chaos::arm(&format!("kernel_sync:{point}"), if is_birth { 1 } else { round }, Action::Panic);
                if is_birth {
                    engine.disturb(Role::KernelSync, Command::Crash);
                }
            });
        }
    }
}

#[test]
fn a_crash_a_stop_a_hang_and_the_end_of_its_lane() {
    let ask = |command: Command| {
        move |engine: &Engine, _| until("asked", || engine.disturb(Role::KernelSync, command))
    };
    for resume in [ResumeKind::Durable, ResumeKind::None] {
        survives("a crash", "kernel_sync", resume, ask(Command::Crash));
        survives("a stop", "kernel_sync", resume, ask(Command::Stop));
        survives("the end of its lane", "kernel_sync", resume, ask(Command::EndLane));
        survives("a hang", "kernel_sync", resume, ask(Command::Hang(Duration::from_millis(1_000))));
        survives("a crash of the persister", "persister", resume, |engine, _| {
            until("asked", || engine.disturb(Role::Persister, Command::Crash));
        });
    }
}

/// Nobody may act on a source twice: an incarnation that was taken for hanging, and comes back when its successor has
/// gone on, must neither take the account back nor answer for what the other one holds.
#[test]
fn an_incarnation_that_was_replaced_changes_nothing_when_it_comes_back() {
    let _one = ONE_AT_A_TIME.lock();
    silence();
    for point in ["taken", "before_admit", "after_admit", "after_read"] {
        let engine = open(&disk(), suspicious());
        let script = Script::new("k", in_calls_of(5, 1..=60));
        let control = script.control();
        control.hold_back_after(0);
        engine.attach(script.boxed()).unwrap();
        until("it is open", || engine.sync_status()[0].opened > 0);
        chaos::arm(&format!("kernel_sync:{point}"), 1, Action::Hang);
        control.hold_back_after(1);
        until("it hangs", || {
            engine.poke_sync();
            chaos::hanging() == 1
        });
        control.hold_back_after(4);
        let seen = || engine.sync_status().remove(0);
        until("somebody else is at it", || {
            engine.poke_sync();
            restarts(&engine, "kernel_sync") > 0
                && (seen().last_sequence == 20 || seen().condition == Condition::Hangs)
        });
        chaos::disarm_all();
        until("the old thread has ended", || engine.status().left_behind == 0);
        until("all is read", || engine.sync_now(SOON).is_ok());
        assert_eq!(seen().last_sequence, 20, "{point}: the account was taken back");
        until("asked", || engine.disturb(Role::KernelSync, Command::Crash));
        control.let_go();
        until("all is read again", || engine.sync_now(SOON).is_ok());
        let found = found(&engine, "k");
        assert_eq!((found.sequences, found.lost), ((1..=60).collect(), 0), "{point}");
        assert_eq!(engine.resume_point("k").unwrap().unwrap().account.records, 60, "{point}");
    }
}

/// The same before its turn: what its successor took and holds back is not done with because the old one knows nothing of it.
#[test]
fn an_incarnation_that_was_replaced_lets_go_of_nothing_that_its_successor_holds() {
    let _one = ONE_AT_A_TIME.lock();
    silence();
    let clock = Arc::new(Stopped(AtomicI64::new(1_000)));
    let engine = Engine::open_on(disk(), clock.clone(), Path::new("/data/j"), suspicious()).unwrap();
    let steps = in_calls_of(3, (1..=9).filter(|n| *n != 6));
    let script = Script::new("k", steps).resumes(ResumeKind::None);
    let control = script.control();
    control.hold_back_after(1);
    engine.attach(script.boxed()).unwrap();
    engine.sync_now(SOON).unwrap();
    chaos::arm("kernel_sync:message", 1, Action::Hang);
    until("it hangs", || {
        engine.poke_sync();
        chaos::hanging() == 1
    });
    until("it is replaced", || {
        clock.0.fetch_add(1_000_000, Ordering::SeqCst);
        std::thread::yield_now();
        restarts(&engine, "kernel_sync") > 0
    });
    // 4 and 5 are journaled, 7 is held back: the clock stands still.
    control.hold_back_after(2);
    until("the successor is at it", || {
        engine.poke_sync();
        engine.sync_status()[0].last_sequence == 5
    });
    chaos::disarm_all();
    until("the old thread has ended", || engine.status().left_behind == 0);
    let before = restarts(&engine, "kernel_sync");
    until("asked", || engine.disturb(Role::KernelSync, Command::Crash));
    until("it crashed", || restarts(&engine, "kernel_sync") > before);
    control.let_go();
    until("all is read", || {
        clock.0.fetch_add(1_000_000, Ordering::SeqCst);
        engine.poke_sync();
        engine.sync_status()[0].last_sequence == 9
    });
    if let Some(ticket) = engine.last_admitted() {
        ticket.wait_timeout(SOON).unwrap();
    }
    let found = found(&engine, "k");
    assert_eq!((found.sequences, found.lost), (vec![1, 2, 3, 4, 5, 7, 8, 9], 1));
}

#[test]
fn a_call_that_does_not_return_is_told_and_so_is_its_end() {
    let _one = ONE_AT_A_TIME.lock();
    silence();
    let mut options = suspicious();
    options.sync.period_ns = 1_000_000;
    let engine = open(&disk(), options);
    engine.attach(Script::new("k", in_calls_of(5, 1..=20)).boxed()).unwrap();
    chaos::arm("kernel_sync:taken", 1, Action::Hang);
    let told = |what: &str| {
        until(what, || {
            engine.poke_sync();
            engine.sync_status()[0].coverage == what
        });
    };
    told("hangs");
    chaos::disarm_all();
    told("watching");
    until("all is read", || engine.sync_now(SOON).is_ok());
    let found = found(&engine, "k");
    assert_eq!(found.sequences, (1..=20).collect::<Vec<_>>());
    let states: Vec<_> = found.told("semj.coverage").iter().map(|p| p["semj.state"].clone()).collect();
    assert_eq!(states, ["watching", "hangs", "watching"]);
}

#[test]
fn a_source_that_panics_inside_its_call_is_opened_anew() {
    let _one = ONE_AT_A_TIME.lock();
    silence();
    let engine = open(&disk(), patient());
    let mut steps = in_calls_of(5, 1..=50);
    steps.insert(4, Step::Panic);
    steps.insert(8, Step::Fail);
    engine.attach(Script::new("k", steps).boxed()).unwrap();
    until("all is read", || engine.sync_now(SOON).is_ok());
    assert_eq!(found(&engine, "k").sequences, (1..=50).collect::<Vec<_>>());
    assert_eq!(engine.sync_status()[0].opened, 3);
}

#[test]
fn a_source_that_cannot_be_had_says_why_and_writes_go_on() {
    let _one = ONE_AT_A_TIME.lock();
    silence();
    let engine = open(&disk(), EngineOptions::default());
    engine.attach(Script::new("k", vec![]).unavailable().boxed()).unwrap();
    let refused = engine.sync_now(SOON).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "kernel sync is unavailable: k: it needs a miracle (Operation not permitted (os error 1)); pray; else: inotify"
    );
    assert!(matches!(engine.sync_status()[0].condition, Condition::Unavailable(_)));
    emit(&engine.emitter(None), 1).wait_timeout(SOON).unwrap();
    drop(engine);
    // One whose restarts are exhausted, too.
    let engine = open(&disk(), EngineOptions::default());
    engine.attach(Script::new("k", vec![Step::AlwaysPanic]).boxed()).unwrap();
    let gone = |e: &Engine| matches!(e.sync_now(Duration::from_secs(5)), Err(SyncError::Unavailable { cause }) if cause.contains("restarts"));
    until("it is given up", || gone(&engine));
    emit(&engine.emitter(None), 1).wait_timeout(SOON).unwrap();
}

/// After every operation of the disk the machine may stop: what opens then holds exactly the records that its resume point
/// says, and reading on from there makes it whole.
#[test]
fn records_and_their_resume_point_are_one_whenever_the_power_is_cut() {
    let _one = ONE_AT_A_TIME.lock();
    let memory = Arc::new(MemoryBackend::new(DirectoryRule::Journal));
    let images = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let steps = |upto: u64| in_calls_of(9, (1..=upto).filter(|n| n % 23 != 0));
    {
        let kept = images.clone();
        memory.set_observer(move |backend, operation| {
            let number = operation.index;
            kept.lock().push(backend.kill_image());
            for mode in [CrashMode::Torn, CrashMode::Drop, CrashMode::Garbage] {
                kept.lock().push(backend.crash_image(mode, number));
            }
        });
        let engine = open(&(memory.clone() as Arc<dyn Backend>), patient());
        let script = Script::new("k", steps(301));
        let control = script.control();
        control.hold_back_after(0);
        engine.attach(script.boxed()).unwrap();
        let emitter = engine.emitter(Some("a"));
        for round in 0..34 {
            control.hold_back_after(round + 1);
            engine.sync_now(SOON).unwrap();
            emit(&emitter, 1).wait_timeout(SOON).unwrap();
        }
        memory.clear_observer();
    }
    let images = std::mem::take(&mut *images.lock());
    let (mut with_some, total) = (0, images.len());
    for (number, image) in images.into_iter().enumerate() {
        let image: Arc<dyn Backend> = Arc::new(image);
        let engine = open(&image, patient());
        let before = found(&engine, "k");
        let ResumePoint { account: point, resume, .. } =
            engine.resume_point("k").unwrap().unwrap_or_default();
        let want: Vec<u64> = (1..=point.last_sequence).filter(|n| n % 23 != 0).collect();
        assert_eq!(before.sequences, want, "image {number}: the point says {}", point.last_sequence);
        assert_eq!(
            (before.lost, before.sequences.len() as u64),
            (point.lost, point.records),
            "image {number}"
        );
        with_some += usize::from(!want.is_empty());
        if number % 7 == 0 {
            engine.attach(Script::new("k", steps(310)).boxed()).unwrap();
            engine.sync_now(SOON).unwrap();
            let after = found(&engine, "k");
            assert_eq!(
                after.sequences,
                (1..=310).filter(|n| n % 23 != 0).collect::<Vec<_>>(),
                "image {number}"
            );
            // A call that was admitted in part is read again; what of it is known is dropped, and nothing else.
            let calls = resume.first_chunk().map_or(0, |calls| u64::from_le_bytes(*calls)) as usize;
            let behind: Vec<u64> = (1..=310).filter(|n| n % 23 != 0).skip(calls * 9).collect();
            let again = behind.iter().filter(|n| **n <= point.last_sequence).count() as u64;
            assert!(again < 9, "image {number}: {again} records of more than one call");
            assert_eq!(engine.sync_status()[0].duplicates, again, "image {number}");
        }
    }
    println!("{total} images, {with_some} of them with records");
    assert!(with_some > 100);
}
