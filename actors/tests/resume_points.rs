//! Resume points are found again: of a source that was idle for long, behind damage, and as the map between the sequences
//! of a source and the events of the whole journal.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;
#[path = "common/script.rs"]
mod script;

use common::{SOON, open, until};
use script::{Script, Step, found, record, record_at};
use semj_actors::sources::Item;
use semj_actors::{Engine, EngineOptions};
use semj_storage::backend::{Backend, Call, DirectoryRule, Hooked, MemoryBackend};
use semj_storage::event::Event;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const SEGMENT: u64 = 64 << 10;

fn small() -> EngineOptions {
    EngineOptions { segment_bytes: SEGMENT, ..EngineOptions::default() }
}

fn memory() -> (Arc<MemoryBackend>, Arc<dyn Backend>) {
    let memory = Arc::new(MemoryBackend::new(DirectoryRule::Journal));
    (memory.clone(), memory)
}

fn items(sequences: impl IntoIterator<Item = u64>) -> Step {
    Step::Items(sequences.into_iter().map(|s| Item::Record(Box::new(record(s)))).collect())
}

/// Events of an agent, each in a block of its own.
fn fill(engine: &Engine, events: usize) {
    let emitter = engine.emitter(Some("a"));
    for n in 0..events {
        let event = Event::query("q").payload(json!({ "n": n, "fill": "x".repeat(1_000) }));
        emitter.emit_blocking(event).unwrap().wait_timeout(SOON).unwrap();
    }
}

fn segments(memory: &MemoryBackend) -> u64 {
    memory.files().iter().filter(|path| path.extension().is_some_and(|x| x == "semj")).count() as u64
}

#[test]
fn the_resume_point_of_a_long_idle_source_is_found_without_reading_every_block() {
    let (memory, disk) = memory();
    let reads = Arc::new(AtomicU64::new(0));
    let count = reads.clone();
    let counted: Arc<dyn Backend> = Arc::new(Hooked::new(disk, move |request| {
        if matches!(request.call, Call::Read) && request.path.extension().is_some_and(|x| x == "semj") {
            count.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }));
    let engine = open(&counted, small());
    engine.attach(Script::new("k", vec![items(1..=20)]).boxed()).unwrap();
    engine.sync_now(SOON).unwrap();
    engine.close(SOON).unwrap();
    drop(engine);
    let engine = open(&counted, small());
    let blocks = 1_000;
    fill(&engine, blocks as usize);
    let segments = segments(&memory);
    assert!(segments > 10 && blocks > 20 * segments, "{segments} segments");
    let reads_of = |source: &str| {
        let before = reads.load(Ordering::SeqCst);
        let point = engine.resume_point(source).unwrap();
        (point.map(|p| p.account.last_sequence), reads.load(Ordering::SeqCst) - before)
    };
    for (source, last) in [("k", Some(20)), ("another", None)] {
        // Segments are sealed a moment after they are full. Of the one that is written every block is looked at.
        let bound = 4 * segments + 2 * blocks / segments;
        until(&format!("the point of {source} is found by footers"), || {
            let (found, reads) = reads_of(source);
            assert_eq!(found, last);
            reads <= bound
        });
    }
}

#[test]
fn an_idle_source_has_its_resume_point_repeated() {
    let (_, disk) = memory();
    let mut options = EngineOptions::default();
    options.sync.period_ns = 1_000_000;
    let engine = open(&disk, options);
    engine.attach(Script::new("k", vec![items(1..=20)]).boxed()).unwrap();
    engine.sync_now(SOON).unwrap();
    let before = engine.sync_status()[0].certificates;
    let emitter = engine.emitter(Some("a"));
    let mut last = None;
    for _ in 0..70_000 {
        last = Some(emitter.emit_blocking(Event::query("q")).unwrap());
    }
    last.unwrap().wait_timeout(SOON).unwrap();
    until("it is certified again, though nothing happened", || {
        engine.poke_sync();
        engine.sync_status()[0].certificates > before
    });
    assert_eq!(engine.sync_status()[0].last_sequence, 20);
}

/// Flips a bit of the event that says `what`, wherever it lies.
fn damage(memory: &MemoryBackend, what: &str) {
    let mut hits = 0;
    for path in memory.files() {
        let bytes = memory.contents(&path).unwrap_or_default();
        if let Some(at) = bytes.windows(what.len()).position(|w| w == what.as_bytes()) {
            memory.damage(&path, |bytes| bytes[at] ^= 1).unwrap();
            hits += 1;
        }
    }
    assert_eq!(hits, 1, "{what}");
}

#[test]
fn damage_over_the_newest_resume_point_leads_to_an_older_one_and_is_told() {
    let (memory, disk) = memory();
    let steps = || (0..6).map(|n| items(10 * n + 1..=10 * n + 10)).collect::<Vec<_>>();
    let engine = open(&disk, EngineOptions::default());
    let script = Script::new("k", steps());
    let control = script.control();
    control.hold_back_after(0);
    engine.attach(script.boxed()).unwrap();
    for steps in 1..=4 {
        control.hold_back_after(steps);
        engine.sync_now(SOON).unwrap();
    }
    let (before, last) = (found(&engine, "k"), engine.durable());
    assert_eq!(before.sequences, (1..=40).collect::<Vec<_>>());
    fill(&engine, 3);
    engine.close(SOON).unwrap();
    drop(engine);
    // The block of the records 31 to 40, and all that repeats their resume point, as certificates do.
    damage(&memory, "/f/35");
    let (engine, mut points) = (open(&disk, EngineOptions::default()), Vec::new());
    engine
        .controls_back(last + 3, &mut |control| {
            let point = semj_storage::log::control::ResumePoint::decode(control.bytes);
            if control.kind == semj_storage::log::control::RESUME_POINT {
                points.extend(point.filter(|p| p.account.last_sequence == 40));
            }
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    drop(engine);
    for point in points {
        damage_all(&memory, &point.encode());
    }
    let engine = open(&disk, EngineOptions::default());
    let point = engine.resume_point("k").unwrap().unwrap();
    assert_eq!(point.account.last_sequence, 30, "an older one");
    engine.attach(Script::new("k", steps()).boxed()).unwrap();
    engine.sync_now(SOON).unwrap();
    until("it is told", || engine.sync_status()[0].resyncs == 1);
    engine.sync_now(SOON).unwrap();
    let sequences = sequences_past_damage(&engine);
    // What the damage took comes again, everything else is there once.
    assert_eq!(sequences, (1..=60).collect::<Vec<_>>());
    let told = resyncs_past_damage(&engine);
    assert_eq!(told, [json!({ "hidden_resume_point": 1 })]);
    let status = &engine.sync_status()[0];
    assert_eq!((status.last_sequence, status.lost, status.incarnation), (60, 0, 1));
}

fn damage_all(memory: &MemoryBackend, what: &[u8]) {
    for path in memory.files() {
        let bytes = memory.contents(&path).unwrap_or_default();
        let at: Vec<usize> =
            (0..bytes.len().saturating_sub(what.len())).filter(|at| bytes[*at..].starts_with(what)).collect();
        memory.damage(&path, |bytes| at.iter().for_each(|at| bytes[*at] ^= 1)).unwrap();
    }
}

/// Payloads of the source's events that can be read, with their streams.
fn past_damage(engine: &Engine) -> Vec<(bool, String, serde_json::Value)> {
    use semj_storage::query::EventSource as _;
    let view = engine.view();
    let (mut found, mut from) = (Vec::new(), 1);
    while from <= view.last_sequence() {
        let read = view.read(from, view.last_sequence(), &mut |entry| {
            if let Some(event) =
                entry.event().filter(|e| e.source_text().and_then(|s| s.as_str()) == Some("k"))
            {
                let name = event.name_text().and_then(|n| n.as_str()).unwrap_or("").to_owned();
                let payload = event.payload_value().as_json().unwrap_or_default();
                found.push((event.stream_or_default() == b"semj", name, payload));
            }
            std::ops::ControlFlow::Continue(())
        });
        match read {
            Ok(()) => break,
            Err(semj_storage::error::ReadError::Damaged(d)) => from = d.last_sequence + 1,
            Err(e) => panic!("{e}"),
        }
    }
    found
}

fn sequences_past_damage(engine: &Engine) -> Vec<u64> {
    let all = past_damage(engine);
    let mut found: Vec<u64> = all
        .iter()
        .filter(|(is_own, ..)| !is_own)
        .map(|(.., payload)| payload["semj.source_sequence"].as_u64().unwrap())
        .collect();
    let count = found.len();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), count, "each once");
    found
}

fn resyncs_past_damage(engine: &Engine) -> Vec<serde_json::Value> {
    let all = past_damage(engine).into_iter();
    all.filter(|(_, name, _)| name == "semj.resync").map(|(.., p)| p["semj.reasons"].clone()).collect()
}

#[test]
fn sequences_and_events_are_translated_for_the_whole_journal() {
    let (memory, disk) = memory();
    let boot = uuid::Uuid::from_u128(5);
    let life =
        |incarnation| Step::Items(vec![Item::Epoch { boot_id: boot, incarnation, first_sequence: Some(1) }]);
    // Two lives, losses, one that comes late, and agents in between: over many segments and several openings.
    let mut steps = vec![life(1)];
    steps.extend((0..20).map(|n| items((5 * n + 1..=5 * n + 5).filter(|s| *s != 7 && *s != 50))));
    steps.push(items([50]));
    steps.push(life(2));
    let second = |s: u64| Item::Record(Box::new(record_at(s, 1_000_000_000 + s as i64)));
    steps.extend((0..10).map(|n| Step::Items((3 * n + 1..=3 * n + 3).map(second).collect())));
    let mut wanted = Vec::new();
    for upto in [5, 14, 21, 22, 26, 33] {
        let engine = open(&disk, small());
        let script = Script::new("k", steps.clone());
        script.hold_back_after(upto);
        engine.attach(script.boxed()).unwrap();
        engine.sync_now(SOON).unwrap();
        fill(&engine, 120);
        engine.sync_now(SOON).unwrap();
        wanted = found(&engine, "k").events;
        engine.close(SOON).unwrap();
    }
    assert!(segments(&memory) > 8, "{} segments", segments(&memory));
    assert_eq!(wanted.len(), 99 + 30);
    let engine = open(&disk, small());
    for (number, (source, event)) in wanted.into_iter().enumerate() {
        let incarnation = if number < 99 { 1 } else { 2 };
        let origin = engine.origin_of(event).unwrap().unwrap();
        let there = (origin.source.as_str(), origin.boot_id, origin.incarnation, origin.source_sequence);
        assert_eq!(there, ("k", boot, incarnation, source));
        let back = engine.event_of("k", Some((boot, incarnation)), source).unwrap();
        assert_eq!(back, Some(origin.clone()), "{source} of life {incarnation}");
        if incarnation == 2 {
            assert_eq!(engine.event_of("k", None, source).unwrap(), Some(origin), "the newest life");
        }
    }
    for (life, source) in [(1, 7), (1, 101), (2, 31), (3, 1)] {
        assert_eq!(
            engine.event_of("k", Some((boot, life)), source).unwrap(),
            None,
            "{source} of life {life}"
        );
    }
    assert_eq!(engine.event_of("other", None, 1).unwrap(), None);
    assert_eq!(
        engine.origin_of(engine.durable()).unwrap(),
        None,
        "what the journal says itself has no sequence"
    );
}
