//! Events that crash a stage whenever it meets them: exactly they are refused, everything else goes on.
//!
//! `cargo test -p semj-actors --features chaos --test pills`

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use common::{SOON, disk, open, silence, until};
use semj_actors::{CommitError, EmitError, Engine, EngineOptions, chaos, read_one};
use semj_storage::backend::Backend;
use semj_storage::event::Event;
use semj_storage::query::EventSource;
use serde_json::json;
use std::ops::ControlFlow;
use std::sync::Arc;
use uuid::Uuid;

const PILL: &str = "this one crashes";

fn event(n: u64) -> Event<'static> {
    let words = if n % 100 == 42 { PILL } else { "fine" };
    Event::query(format!("{words} {n}")).payload(json!(n))
}

/// What the record holds: `None` for a tombstone, else the payload's number. The engine's own events are left out.
fn record(engine: &Engine) -> Vec<Option<u64>> {
    let view = engine.view();
    let mut found = Vec::new();
    view.read(1, view.last_sequence(), &mut |entry| {
        let event = (!entry.is_tombstone()).then(|| entry.event().unwrap());
        match event {
            Some(e) if e.stream_or_default() == b"semj" => {}
            Some(e) => found.push(e.payload_value().as_json().and_then(|v| v.as_u64())),
            None => found.push(None),
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    found
}

#[test]
fn exactly_the_pills_are_refused_whichever_stage_they_crash() {
    silence();
    for stage in ["ingest", "batcher", "persister"] {
        let disk: Arc<dyn Backend> = disk();
        let engine = open(&disk, EngineOptions::default());
        let emitter = engine.emitter(Some("a"));
        chaos::arm_pill(stage, PILL.as_bytes());
        let key = Uuid::from_u128(7);
        let mut tickets: Vec<_> = (0..300).map(|n| emitter.emit_blocking(event(n)).unwrap()).collect();
        // A group with a pill in it is refused as a whole; a group without one is not.
        let bad = emitter.emit_all((440..444).map(event).collect()).unwrap();
        let good = emitter.emit_all((450..460).map(event).collect()).unwrap();
        let keyed = emitter.emit_blocking(event(542).id(key)).unwrap();
        tickets.push(emitter.emit_blocking(event(600)).unwrap());
        for (n, ticket) in (0..300).chain([600]).zip(&tickets) {
            let outcome = ticket.wait_timeout(SOON);
            match outcome {
                Ok(()) => assert!(n % 100 != 42 && ticket.is_durable(), "{stage}: {n} was acknowledged"),
                Err(CommitError::Refused { sequence, ref reason }) => {
                    assert!(n % 100 == 42 && sequence == ticket.sequence(), "{stage}: {n} was refused");
                    assert!(reason.contains(&format!("a pill at {stage}")) && !ticket.is_durable());
                }
                Err(e) => panic!("{stage}: {n}: {e}"),
            }
        }
        assert!(matches!(bad.wait_timeout(SOON), Err(CommitError::Refused { .. })));
        good.wait_timeout(SOON).unwrap();
        assert!(matches!(keyed.wait_timeout(SOON), Err(CommitError::Refused { .. })));
        assert_eq!(engine.status().refused, 3 + 4 + 1);
        // The id of a refused event is free: nothing was stored under it.
        chaos::disarm_pills();
        let again = emitter.emit_blocking(event(542).id(key)).unwrap();
        again.wait_timeout(SOON).unwrap();
        assert!(!again.is_duplicate() && again.sequence() > keyed.sequence());
        let expected: Vec<_> = (0..300)
            .map(|n| (n % 100 != 42).then_some(n))
            .chain([None; 4])
            .chain((450..460).map(Some))
            .chain([None, Some(600), Some(542)])
            .collect();
        assert_eq!(record(&engine), expected, "{stage}");
        // Told, with the bytes in quarantine.
        until("it is told", || told(&engine).len() == 5);
        for payload in told(&engine) {
            let file = payload["semj.quarantine"].as_str().unwrap();
            let path = std::path::Path::new("/data/j/quarantine").join(file);
            let kept = disk.open(&path, semj_storage::backend::OpenMode::Read).unwrap();
            let mut bytes = vec![0; kept.len().unwrap() as usize];
            kept.read_at(&mut bytes, 0).unwrap();
            assert!(bytes.windows(PILL.len()).any(|w| w == PILL.as_bytes()), "{file}");
        }
        assert!(read_one(&engine.view(), keyed.sequence()).unwrap().is_none(), "a tombstone has no content");
        engine.close(SOON).unwrap();
        drop(engine);
        let engine = open(&disk, EngineOptions::default());
        assert_eq!(record(&engine), expected, "{stage}, reopened");
        let known = engine.emitter(Some("a")).emit_blocking(event(542).id(key)).unwrap();
        assert!(known.is_duplicate());
    }
    a_stage_that_crashes_on_everything_poisons();
}

fn told(engine: &Engine) -> Vec<serde_json::Value> {
    let view = engine.view();
    let mut found = Vec::new();
    view.read(1, view.last_sequence(), &mut |entry| {
        let event = entry.event().filter(|e| e.stream_or_default() == b"semj");
        found.extend(event.and_then(|e| e.payload_value().as_json()));
        ControlFlow::Continue(())
    })
    .unwrap();
    found
}

/// Refusing event after event would be a way of losing all of them.
fn a_stage_that_crashes_on_everything_poisons() {
    let disk = disk();
    let engine = open(&disk, EngineOptions::default());
    let emitter = engine.emitter(Some("a"));
    emitter.emit_blocking(event(0)).unwrap().wait_timeout(SOON).unwrap();
    chaos::arm_pill("batcher", b"fine");
    let mut refused = 0;
    let outcome = (1..1_000).find_map(|n| match emitter.emit_blocking(event(n)) {
        Ok(ticket) => match ticket.wait_timeout(SOON) {
            Err(CommitError::Refused { .. }) => {
                refused += 1;
                None
            }
            outcome => Some(format!("{outcome:?}")),
        },
        Err(EmitError::Poisoned(cause)) => Some(cause.to_string()),
        Err(e) => Some(e.to_string()),
    });
    chaos::disarm_pills();
    let outcome = outcome.unwrap();
    assert!(outcome.contains("it crashes on too many events"), "{outcome}");
    assert!((1..=16).contains(&refused), "{refused}");
    assert_eq!(record(&engine)[0], Some(0), "reading goes on");
}
