//! The straight path of the engine: emit, commit, close, open again.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use semj_actors::{EmitError, Engine, EngineOptions, read_one};
use semj_storage::event::{Event, Recorded};
use semj_storage::query::EventSource;
use serde_json::json;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(30);

fn open(path: &Path) -> Engine {
    Engine::open(path, EngineOptions::default()).unwrap()
}

fn all(engine: &Engine) -> Vec<Recorded> {
    let view = engine.view();
    let mut found = Vec::new();
    view.read(1, view.last_sequence(), &mut |entry| {
        found.push(entry.recorded(entry.event().unwrap()));
        ControlFlow::Continue(())
    })
    .unwrap();
    found
}

#[test]
fn acknowledged_events_are_there_again_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("j");
    let engine = open(&root);
    let emitter = engine.emitter(Some("planner"));
    let mut last = None;
    for n in 0..20_000u64 {
        last = Some(emitter.emit_blocking(Event::decision("d").payload(json!({"n": n}))).unwrap());
    }
    let last = last.unwrap();
    assert_eq!(last.sequence(), 20_000);
    last.wait_timeout(SOON).unwrap();
    engine.close(SOON).unwrap();
    drop(engine);
    let engine = open(&root);
    let events = all(&engine);
    assert_eq!(events.len(), 20_000);
    for (n, event) in events.iter().enumerate() {
        assert_eq!((event.sequence, event.local_sequence), (n as u64 + 1, n as u64 + 1));
        assert_eq!(event.event.payload_value().as_json(), Some(json!({"n": n})));
    }
    assert_eq!(events[19_999].id, last.id());
    let next = engine.emitter(None).try_emit(Event::query("q")).unwrap();
    assert_eq!(next.sequence(), 20_001);
    next.wait_timeout(SOON).unwrap();
}

#[test]
fn an_id_is_never_stored_twice() {
    let folder = tempfile::tempdir().unwrap();
    let id = Uuid::new_v4();
    let event = || Event::decision("once").id(id).parent(Uuid::from_u128(1));
    for round in 0..3 {
        let engine = open(folder.path());
        let emitter = engine.emitter(Some("a"));
        for _ in 0..2 {
            let ticket = emitter.try_emit(event()).unwrap();
            ticket.wait_timeout(SOON).unwrap();
            assert_eq!((ticket.sequence(), ticket.id()), (1, id));
        }
        let other = emitter.try_emit(event().confidence(3));
        assert!(matches!(other, Err(EmitError::Conflict { sequence: 1, .. })), "{other:?}");
        // What the journal filled in may come back.
        let stored = read_one(&engine.view(), 1).unwrap().unwrap();
        let back = stored.event.clone().id(id).time(stored.time.unwrap());
        assert!(emitter.try_emit(back).unwrap().is_duplicate(), "round {round}");
        assert_eq!(engine.status().admitted, 1);
    }
}

#[test]
fn groups_are_contiguous_and_all_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    let emitter = engine.emitter(Some("a"));
    let group = emitter.emit_all((0..100).map(|_| Event::query("g")).collect()).unwrap();
    assert_eq!(group.sequences(), 1..=100);
    let refused = emitter.emit_all(vec![Event::query("x"), Event::query("y").parent(500u64)]);
    assert!(matches!(refused, Err(EmitError::Cycle { sequence: 102, .. })), "{refused:?}");
    let refused = emitter.try_emit(Event::query("x").expect(99));
    assert!(matches!(refused, Err(EmitError::Position { expected: 99, actual: 100, .. })), "{refused:?}");
    emitter.try_emit(Event::query("x").expect(100)).unwrap().wait_timeout(SOON).unwrap();
    assert_eq!(all(&engine).len(), 101);
}

#[test]
fn causes_are_resolved_to_smaller_sequences_only() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    let emitter = engine.emitter(Some("a"));
    let later = Uuid::new_v4();
    let first = emitter.try_emit(Event::query("q").parent(later)).unwrap();
    emitter.try_emit(Event::query("late").id(later)).unwrap();
    emitter.try_emit(Event::decision("d").parent(first.id()).root(later)).unwrap();
    let last = emitter.try_emit(Event::decision("d").parent(2u64)).unwrap();
    last.wait_timeout(SOON).unwrap();
    let events = all(&engine);
    assert_eq!(events[0].parent().unwrap().sequence, None, "an id that came later stays foreign");
    assert_eq!(events[2].parent().map(|c| (c.id, c.sequence)), Some((first.id(), Some(1))));
    assert_eq!(events[2].root().unwrap().sequence, Some(2));
    assert_eq!(events[3].parent().map(|c| (c.id, c.sequence)), Some((later, Some(2))));
}

#[test]
fn a_second_owner_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let _engine = open(folder.path());
    let second = Engine::open(folder.path(), EngineOptions::default());
    let text = second.err().unwrap().to_string();
    assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
}

#[test]
fn many_producers_share_one_dense_order() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    std::thread::scope(|scope| {
        for t in 0..4 {
            let emitter = engine.emitter(Some(&format!("agent-{t}")));
            scope.spawn(move || {
                let mut before = 0;
                for n in 0..2_000u64 {
                    let ticket = emitter.emit_blocking(Event::decision("d").payload(json!(n))).unwrap();
                    assert!(ticket.sequence() > before);
                    before = ticket.sequence();
                    if n % 500 == 0 {
                        ticket.wait_timeout(SOON).unwrap();
                    }
                }
            });
        }
    });
    engine.close(SOON).unwrap();
    drop(engine);
    let engine = open(folder.path());
    let events = all(&engine);
    assert_eq!(events.len(), 8_000);
    let mut local = std::collections::HashMap::new();
    for (n, event) in events.iter().enumerate() {
        assert_eq!(event.sequence, n as u64 + 1);
        let count = local.entry(event.stream()).or_insert(0);
        *count += 1;
        assert_eq!(event.local_sequence, *count);
    }
}
