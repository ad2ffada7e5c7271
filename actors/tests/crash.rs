//! Every actor is made to crash at every failpoint while events flow: nothing is lost, repeated or reordered.
//!
//! `cargo test -p semj-actors --features chaos --test crash`

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use semj_actors::chaos::{self, Action, Injected};
use semj_actors::{CommitError, Engine, EngineOptions};
use semj_storage::event::Event;
use semj_storage::query::EventSource;
use serde_json::json;
use std::ops::ControlFlow;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);
const EVENTS: u64 = 600;
const POINTS: [&str; 8] = [
    "ingest:before_cut",
    "ingest:after_cut",
    "batcher:before_pack",
    "batcher:after_pack",
    "persister:before_append",
    "persister:before_sync",
    "persister:after_sync",
    "indexer:before_step",
];

/// Payloads in order, after checking that sequences are dense.
fn contents(engine: &Engine) -> Vec<u64> {
    let view = engine.view();
    let mut found = Vec::new();
    view.read(1, view.last_sequence(), &mut |entry| {
        assert_eq!(entry.sequence, found.len() as u64 + 1);
        assert_eq!(entry.local_sequence, entry.sequence);
        found.push(entry.event().unwrap().payload_value().as_json().unwrap().as_u64().unwrap());
        ControlFlow::Continue(())
    })
    .unwrap();
    found
}

// One test: failpoints are shared by the whole process.
#[test]
fn crashes_change_nothing_but_latency_until_there_are_too_many() {
    // These panics are meant; their traces would bury everything else.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.payload().is::<Injected>() {
            usual(info);
        }
    }));
    let mut crashes = 0;
    for point in POINTS {
        for nth in [1, 2, 7] {
            let folder = tempfile::tempdir().unwrap();
            let options = EngineOptions { batch_events: 50, ..EngineOptions::default() };
            let engine = Engine::open(folder.path(), options).unwrap();
            let emitter = engine.emitter(Some("a"));
            emitter.try_emit(Event::query("q").payload(json!(0))).unwrap().wait_timeout(SOON).unwrap();
            chaos::arm(point, nth, Action::Panic);
            for n in 1..EVENTS {
                let ticket = emitter.emit_blocking(Event::query("q").payload(json!(n))).unwrap();
                if n % 25 == 0 {
                    ticket.wait_timeout(SOON).unwrap();
                }
            }
            let last = engine.last_admitted().unwrap();
            last.wait_timeout(SOON).unwrap();
            let restarts: u64 = engine.status().restarts.iter().map(|(_, n)| n).sum();
            crashes += restarts;
            chaos::disarm_all();
            assert_eq!(contents(&engine), (0..EVENTS).collect::<Vec<_>>(), "{point} {nth}");
            engine.close(SOON).unwrap();
            drop(engine);
            let engine = Engine::open(folder.path(), EngineOptions::default()).unwrap();
            assert_eq!(contents(&engine), (0..EVENTS).collect::<Vec<_>>(), "{point} {nth}, reopened");
        }
    }
    // How often batcher and indexer have work is a matter of timing; ingest and persister have it always.
    assert!(crashes >= 12, "{crashes} crashes: the failpoints were hardly passed");
    too_many_crashes_poison();
}

fn too_many_crashes_poison() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::open(folder.path(), EngineOptions::default()).unwrap();
    let emitter = engine.emitter(Some("a"));
    let first = emitter.try_emit(Event::query("q").payload(json!(0))).unwrap();
    first.wait_timeout(SOON).unwrap();
    let outcome = (0..100).find_map(|_| {
        chaos::arm("persister:before_append", 1, Action::Panic);
        let ticket = emitter.try_emit(Event::query("q").payload(json!(1)));
        ticket.ok()?.wait_timeout(SOON).err()
    });
    chaos::disarm_all();
    assert!(matches!(outcome, Some(CommitError::Poisoned(_))), "{outcome:?}");
    assert!(emitter.try_emit(Event::query("q")).is_err());
    assert!(engine.view().last_sequence() >= 1, "reading goes on");
    drop(engine);
    let engine = Engine::open(folder.path(), EngineOptions::default()).unwrap();
    assert!(engine.view().last_sequence() >= 1, "reopening is the way out");
}
