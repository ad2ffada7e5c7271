//! An actor's turn ends, however much there is to do: what it is asked to do, and its mailbox, come to their turn.

#![allow(clippy::unwrap_used)]

mod common;

use common::{SOON, disk, emit};
use semj_actors::clock::{Clock, SystemClock};
use semj_actors::supervision::{Command, Role};
use semj_actors::{Emitter, Engine, EngineOptions};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use uuid::Uuid;

/// With so many events it ends in any case.
const ENOUGH: u64 = 5_000;
/// From here on the persister is asked to crash.
const ASKED_AT: u64 = 10;

/// A clock that emits the next event while the persister works on the one before: there is always one more.
#[derive(Debug, Default)]
struct Busy {
    clock: SystemClock,
    engine: OnceLock<(Weak<Engine>, Emitter)>,
    emitted: AtomicU64,
}

impl Clock for Busy {
    fn boot_ns(&self) -> i64 {
        self.clock.boot_ns()
    }
    fn wall_ns(&self) -> i64 {
        if std::thread::current().name() == Some("semj-persist")
            && let Some((engine, emitter)) = self.engine.get()
            && let Some(engine) = engine.upgrade()
            && engine.restarts(Role::Persister) == 0
        {
            let n = self.emitted.fetch_add(1, Ordering::SeqCst);
            if n == ASKED_AT {
                assert!(engine.disturb(Role::Persister, Command::Crash));
            }
            if n < ENOUGH {
                // Somebody waits for it, so the persister takes it by itself.
                let _ = emit(emitter, n).wait_timeout(Duration::ZERO);
            }
        }
        self.clock.wall_ns()
    }
    fn boot_id(&self) -> Uuid {
        self.clock.boot_id()
    }
}

#[test]
fn a_writer_without_a_pause_does_not_keep_the_persister_from_hearing() {
    let clock = Arc::new(Busy::default());
    let engine =
        Engine::open_on(disk(), clock.clone(), Path::new("/data/j"), EngineOptions::default()).unwrap();
    let engine = Arc::new(engine);
    let emitter = engine.emitter(Some("a"));
    clock.engine.set((Arc::downgrade(&engine), emitter.clone())).unwrap();
    emit(&emitter, ENOUGH).wait_timeout(SOON).unwrap();
    common::until("the persister crashes", || engine.restarts(Role::Persister) > 0);
    let emitted = clock.emitted.load(Ordering::SeqCst);
    assert!(emitted > ASKED_AT && emitted < ENOUGH / 10, "it heard after {emitted} events");
    emit(&emitter, ENOUGH).wait_timeout(SOON).unwrap();
}
