//! What a disk that misbehaves leads to, rule by rule: docs/SEMANTICS.md, G10 and G11.
//!
//! `cargo test -p semj-actors --test sick_disk`

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use common::faulty::{ROOT, settled, try_open, verified};
use common::{SOON, contents, emit, open, restarts, until};
use parking_lot::{Condvar, Mutex};
use semj_actors::ledger::Gate;
use semj_actors::supervision::WatchLimits;
use semj_actors::{CommitError, EmitError, Engine, EngineOptions, Ticket};
use semj_storage::backend::{
    Backend, Call, CrashMode, DirectoryRule, Fault, FaultClass, Hooked, MemoryBackend, OpenMode,
};
use semj_storage::event::Event;
use semj_storage::limits::{LEDGER_BYTES_MAX, LEDGER_EVENTS_MAX};
use semj_storage::log::{LockFile, OwnerState};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use uuid::Uuid;

/// Small segments, and no space filled ahead, so that every byte of room counts.
fn options() -> EngineOptions {
    EngineOptions { segment_bytes: 64 << 10, preallocate: false, ..EngineOptions::default() }
}

fn memory() -> MemoryBackend {
    MemoryBackend::new(DirectoryRule::Journal)
}

fn started(disk: &MemoryBackend) -> Engine {
    let engine = try_open(disk, options()).unwrap();
    let emitter = engine.emitter(Some("a"));
    (0..5).for_each(|n| emit(&emitter, n).wait_timeout(SOON).unwrap());
    engine
}

/// The journal is poisoned: waits and emissions end with the cause, reading goes on, and opening again is the way out.
fn is_poisoned(engine: Engine, disk: &MemoryBackend, ticket: &Ticket, cause: &str) {
    let Err(CommitError::Poisoned(told)) = ticket.wait_timeout(SOON) else { panic!("{cause}: no poison") };
    assert!(told.to_string().contains(cause), "{told}");
    let emitter = engine.emitter(Some("a"));
    assert!(matches!(emitter.try_emit(Event::query("q")), Err(EmitError::Poisoned(_))));
    assert!(matches!(ticket.wait_timeout(SOON), Err(CommitError::Poisoned(_))), "for good");
    assert!(matches!(engine.status().gate, Gate::Poisoned(_)));
    assert_eq!(contents(&engine), [0, 1, 2, 3, 4], "reading goes on");
    assert!(!ticket.is_durable());
    disk.clear_faults();
    assert!(
        matches!(ticket.wait_timeout(SOON), Err(CommitError::Poisoned(_))),
        "a disk that recovers changes nothing"
    );
    assert!(matches!(engine.close(SOON), Err(CommitError::Poisoned(_) | CommitError::Unfinished(_))));
    drop(engine);
    let model = common::faulty::Model { emitted: (0..6).collect(), acknowledged: 5 };
    settled(disk, &model, 1, cause);
    let engine = try_open(disk, options()).unwrap();
    emit(&engine.emitter(Some("a")), 9).wait_timeout(SOON).unwrap();
}

#[test]
fn a_failed_sync_poisons() {
    for fault in [Fault::on(FaultClass::Sync), Fault::on(FaultClass::Sync).forget()] {
        let disk = memory();
        let engine = started(&disk);
        disk.fail(fault);
        let ticket = emit(&engine.emitter(Some("a")), 5);
        is_poisoned(engine, &disk, &ticket, "durable failed");
    }
}

#[test]
fn a_sync_that_finds_no_room_poisons_too() {
    let disk = memory();
    let engine = started(&disk);
    disk.fail(Fault::on(FaultClass::Sync).full().forget());
    let ticket = emit(&engine.emitter(Some("a")), 5);
    is_poisoned(engine, &disk, &ticket, "durable failed");
}

#[test]
fn an_error_in_a_write_poisons() {
    for fault in [Fault::on(FaultClass::Write), Fault::on(FaultClass::Write).short()] {
        let disk = memory();
        let engine = started(&disk);
        disk.fail(fault.path("segments/"));
        let ticket = emit(&engine.emitter(Some("a")), 5);
        is_poisoned(engine, &disk, &ticket, "writing events 6 to 6 failed");
    }
}

#[test]
fn no_sync_is_tried_again_after_one_failed() {
    let disk = memory();
    let syncs = Arc::new(AtomicU64::new(u64::MAX / 2));
    let counted = syncs.clone();
    let hooked: Arc<dyn Backend> = Arc::new(Hooked::new(Arc::new(disk.clone()), move |request| {
        if matches!(request.call, Call::Sync) && request.path.starts_with(Path::new(ROOT).join("segments")) {
            counted.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }));
    let engine = open(&hooked, options());
    let emitter = engine.emitter(Some("a"));
    emit(&emitter, 0).wait_timeout(SOON).unwrap();
    disk.fail(Fault::on(FaultClass::Sync).forget());
    syncs.store(0, Ordering::SeqCst);
    let ticket = emit(&emitter, 1);
    assert!(matches!(ticket.wait_timeout(SOON), Err(CommitError::Poisoned(_))));
    let _ = ticket.wait_timeout(SOON);
    let _ = engine.close(SOON);
    drop(engine);
    assert_eq!(syncs.load(Ordering::SeqCst), 1, "the one that failed");
}

/// Fills the disk: what is admitted and not durable, and the number of the event that was refused.
fn fill(engine: &Engine, from: u64) -> (Vec<Ticket>, u64) {
    let emitter = engine.emitter(Some("a"));
    let mut waiting = Vec::new();
    for n in from.. {
        let event = Event::query("q").tag("x".repeat(200)).payload(json!(n));
        match emitter.try_emit(event) {
            Ok(ticket) => match ticket.wait_timeout(SOON) {
                Ok(()) => {}
                Err(CommitError::StorageFull) => waiting.push(ticket),
                Err(other) => panic!("{other:?}"),
            },
            Err(EmitError::StorageFull(event)) => {
                assert_eq!(event.payload_value().as_json(), Some(json!(n)), "the event comes back");
                return (waiting, n);
            }
            Err(other) => panic!("{other}"),
        }
    }
    unreachable!()
}

#[test]
fn a_full_disk_is_told_and_writing_goes_on_by_itself() {
    let disk = memory();
    let engine = started(&disk);
    let mut next = 5;
    for round in 0..4 {
        disk.set_quota(Some(disk.used_bytes() + 3_000 + 77 * round));
        let (waiting, refused) = fill(&engine, next);
        assert!(!waiting.is_empty());
        next = refused;
        // Reading and waiting work all the while; the events stay admitted, and nobody is restarted or poisoned.
        assert_eq!(contents(&engine).len() as u64, engine.status().durable);
        assert_eq!(engine.status().admitted, refused);
        for ticket in &waiting {
            assert!(
                matches!(ticket.wait_timeout(SOON), Err(e @ CommitError::StorageFull) if e.is_retryable())
            );
        }
        disk.set_quota(None);
        until("it goes on by itself", || matches!(engine.status().gate, Gate::Open));
        waiting.iter().for_each(|ticket| ticket.wait_timeout(SOON).unwrap());
        assert_eq!(restarts(&engine, "persister"), 0);
    }
    assert_eq!(contents(&engine), (0..next).collect::<Vec<_>>());
    engine.close(SOON).unwrap();
    assert!(verified(&disk).intact);
    let after = disk.crash_image(CrashMode::Drop, 0);
    assert_eq!(contents(&try_open(&after, options()).unwrap()), (0..next).collect::<Vec<_>>());
}

fn owner_state(disk: &MemoryBackend) -> OwnerState {
    let file = disk.open(&Path::new(ROOT).join("LOCK"), OpenMode::Read).unwrap();
    LockFile::new(file).read().unwrap().unwrap().watermark.unwrap().state
}

#[test]
fn an_end_mark_finds_room_on_a_full_disk() {
    for preallocate in [false, true] {
        let disk = memory();
        let engine = try_open(&disk, EngineOptions { preallocate, ..options() }).unwrap();
        let emitter = engine.emitter(Some("a"));
        (0..5).for_each(|n| emit(&emitter, n).wait_timeout(SOON).unwrap());
        disk.set_quota(Some(disk.used_bytes()));
        engine.close(SOON).unwrap();
        assert_eq!(owner_state(&disk), OwnerState::Closed);
        let report = verified(&disk);
        assert!(report.intact && report.torn_tail.is_none() && report.events == 5, "{report:?}");
    }
}

#[test]
fn closing_finishes_on_a_full_disk_and_tells_what_it_could_not_keep() {
    for room in (0..2_000).step_by(133) {
        let disk = memory();
        let engine = started(&disk);
        disk.set_quota(Some(disk.used_bytes() + room));
        let (waiting, refused) = fill(&engine, 5);
        let durable = engine.status().durable;
        let told = engine.close(SOON).unwrap_err();
        let CommitError::Unfinished(unfinished) = &told else { panic!("{told:?}") };
        assert!(matches!(unfinished.cause.as_deref(), Some(CommitError::StorageFull)), "{told}");
        assert_eq!(unfinished.not_durable, Some((durable + 1, refused)), "{told}");
        assert_eq!(waiting.len() as u64, refused - durable);
        assert_eq!(owner_state(&disk), OwnerState::Closed, "room {room}");
        let report = verified(&disk);
        assert!(report.intact && report.torn_tail.is_none() && report.events == durable, "{report:?}");
        drop(engine);
        disk.set_quota(None);
        let engine = try_open(&disk.crash_image(CrashMode::Drop, 0), options()).unwrap();
        assert_eq!(contents(&engine), (0..durable).collect::<Vec<_>>());
        assert_eq!(emit(&engine.emitter(Some("a")), 9).sequence(), durable + 1);
    }
}

/// A door in the way of some calls: they wait while it is shut.
#[derive(Debug, Default)]
struct Door {
    shut: Mutex<bool>,
    opened: Condvar,
    waiting: AtomicU64,
}

impl Door {
    fn pass(&self) {
        let mut shut = self.shut.lock();
        self.waiting.fetch_add(1, Ordering::SeqCst);
        while *shut {
            self.opened.wait(&mut shut);
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    fn shut(&self) {
        *self.shut.lock() = true;
    }

    fn open(&self) {
        *self.shut.lock() = false;
        self.opened.notify_all();
    }

    fn is_somebody_waiting(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }
}

/// A disk on which some calls on segments wait for the door.
fn behind(door: &Arc<Door>, is_hit: impl Fn(Call<'_>) -> bool + Send + Sync + 'static) -> Arc<dyn Backend> {
    let door = door.clone();
    Arc::new(Hooked::new(Arc::new(memory()), move |request| {
        if is_hit(request.call) && request.path.starts_with(Path::new(ROOT).join("segments")) {
            door.pass();
        }
        Ok(())
    }))
}

#[test]
fn a_slow_disk_blocks_nobody_who_emits_and_bounds_memory() {
    let slow: [fn(Call<'_>) -> bool; 2] =
        [|call| matches!(call, Call::Sync), |call| matches!(call, Call::Write(_))];
    for slow in slow {
        let door = Arc::new(Door::default());
        let disk = behind(&door, slow);
        let watch = WatchLimits { stall_ns: 50_000_000, hang_ns: 200_000_000, ..WatchLimits::default() };
        let engine = open(&disk, EngineOptions { watch, preallocate: false, ..EngineOptions::default() });
        let emitter = engine.emitter(Some("a"));
        emit(&emitter, 0).wait_timeout(SOON).unwrap();
        door.shut();
        let first = emit(&emitter, 1);
        let mut admitted = 2;
        // Nothing is committed, so each of these calls returns without the disk.
        let given_back = loop {
            let event = Event::query("q").payload(json!(admitted));
            match emitter.try_emit(event) {
                Ok(_) => admitted += 1,
                Err(EmitError::Full(event)) => break event,
                Err(other) => panic!("{other}"),
            }
            assert!(admitted <= 2 * LEDGER_EVENTS_MAX as u64, "never full");
        };
        assert_eq!(given_back.payload_value().as_json(), Some(json!(admitted)));
        let pending = engine.status();
        assert!(pending.pending_events <= LEDGER_EVENTS_MAX && pending.pending_bytes <= LEDGER_BYTES_MAX);
        assert!(pending.pending_events > LEDGER_EVENTS_MAX / 2, "{pending:?}");
        until("the stall is told", || {
            matches!(first.wait_timeout(Duration::from_millis(20)), Err(CommitError::Stalled { .. }))
        });
        assert!(door.is_somebody_waiting() && engine.status().stalled.is_some());
        assert_eq!(
            (engine.status().left_behind, restarts(&engine, "persister")),
            (0, 0),
            "nobody is replaced"
        );
        assert_eq!(contents(&engine), [0], "reading goes on");
        door.open();
        engine.last_admitted().unwrap().wait_timeout(SOON).unwrap();
        until("the stall is over", || engine.status().stalled.is_none());
        emit(&emitter, admitted).wait_timeout(SOON).unwrap();
        assert_eq!(contents(&engine), (0..=admitted).collect::<Vec<_>>());
        engine.close(SOON).unwrap();
    }
}

#[test]
fn a_read_that_hangs_hangs_alone() {
    let door = Arc::new(Door::default());
    let disk = behind(&door, |call| {
        matches!(call, Call::Read) && std::thread::current().name().is_some_and(|name| name == "hangs")
    });
    let id = Uuid::from_u128(0x4000 << 64 | 0x8000 << 48 | 7);
    let keyed = || Event::query("q").payload(json!(0)).id(id);
    let engine = open(&disk, options());
    engine.emitter(Some("a")).emit_blocking(keyed()).unwrap().wait_timeout(SOON).unwrap();
    engine.close(SOON).unwrap();
    drop(engine);
    // Opened again, the id lies in the record only.
    let engine = open(&disk, options());
    let emitter = engine.emitter(Some("a"));
    door.shut();
    std::thread::scope(|scope| {
        let named = || std::thread::Builder::new().name("hangs".into());
        let reader = named().spawn_scoped(scope, || contents(&engine)).unwrap();
        until("the reader hangs", || door.is_somebody_waiting());
        for n in 1..200 {
            emit(&emitter, n).wait_timeout(SOON).unwrap();
        }
        assert_eq!(contents(&engine).len(), 200, "others read");
        let repeats = named().spawn_scoped(scope, || emitter.try_emit(keyed())).unwrap();
        until("the emitter hangs", || door.waiting.load(Ordering::SeqCst) > 1);
        for n in 200..400 {
            emit(&emitter, n).wait_timeout(SOON).unwrap();
        }
        assert_eq!((engine.status().left_behind, engine.status().stalled), (0, None));
        assert!(!reader.is_finished() && !repeats.is_finished());
        door.open();
        assert!(repeats.join().unwrap().unwrap().is_duplicate());
        assert!(!reader.join().unwrap().is_empty());
    });
    assert_eq!(contents(&engine), (0..400).collect::<Vec<_>>());
    engine.close(SOON).unwrap();
}
