//! What tests of the engine share: a journal in memory or on disk, and what it holds.
#![allow(dead_code, unreachable_pub, reason = "every test binary uses its own part of it")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests are tests")]

pub mod faulty;

use semj_actors::clock::SystemClock;
use semj_actors::{Emitter, Engine, EngineOptions, Ticket};
use semj_storage::backend::{Backend, DirectoryRule, MemoryBackend};
use semj_storage::event::Event;
use semj_storage::query::EventSource;
use serde_json::json;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longer than anything here takes; over it, something hangs.
pub const SOON: Duration = Duration::from_secs(30);

/// A disk in memory.
pub fn disk() -> Arc<dyn Backend> {
    Arc::new(MemoryBackend::new(DirectoryRule::Journal))
}

/// A journal on a disk in memory.
pub fn open(disk: &Arc<dyn Backend>, options: EngineOptions) -> Engine {
    let clock = Arc::new(SystemClock::new());
    Engine::open_on(disk.clone(), clock, Path::new("/data/j"), options).unwrap()
}

/// Emits an event that says `n`.
pub fn emit(emitter: &Emitter, n: u64) -> Ticket {
    emitter.emit_blocking(Event::query("q").payload(json!(n))).unwrap()
}

/// Payloads of the durable events in order, after checking that sequences are dense; what the engine tells itself and
/// tombstones are left out.
pub fn contents(engine: &Engine) -> Vec<u64> {
    let view = engine.view();
    let (mut found, mut next) = (Vec::new(), 1);
    view.read(1, view.last_sequence(), &mut |entry| {
        assert_eq!(entry.sequence, next);
        next += 1;
        let event = entry.event().filter(|e| e.stream_or_default() != b"semj");
        found.extend(event.and_then(|e| e.payload_value().as_json()?.as_u64()));
        ControlFlow::Continue(())
    })
    .unwrap();
    found
}

/// Looks until it is so; what is looked at has no other way to tell.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !so() {
        assert!(begin.elapsed() < SOON, "never came: {what}");
        std::thread::yield_now();
    }
}

/// Panics that are meant stay silent; their traces would bury everything else.
pub fn silence() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let text = info.payload().downcast_ref::<String>().map_or("", String::as_str);
        let is_meant = info.payload().is::<semj_storage::chaos::Injected>()
            || text.starts_with("a pill at")
            || std::thread::current().name().is_some_and(|n| n == "semj-meant");
        if !is_meant {
            before(info);
        }
    }));
}

/// Restarts of a role.
pub fn restarts(engine: &Engine, role: &str) -> u64 {
    engine.status().restarts.iter().find(|(r, _)| *r == role).unwrap().1
}
