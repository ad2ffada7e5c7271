//! Index, scan and looking at everything give the same answers, whatever the journal and the question.

use super::mock::{MockSource, Rng};
use super::*;
use crate::error::ReadError;
use crate::event::{Category, Event, EventType, Link, Priority, Recorded, TAG_TIME_UNKNOWN, Timestamp};
use crate::limits::CHUNK_EVENTS;
use crate::trees::{Index, IndexCore, Trees};
use serde_json::json;
use std::sync::Arc;
use uuid::Uuid;

const WORDS: [&str; 5] = ["a", "b", "planner", "Straße", "src/lib.rs"];

fn word(rng: &mut Rng) -> String {
    match rng.below(8) {
        0 => format!("rare-{}", rng.below(200)),
        1 => "long/".repeat(60) + WORDS[rng.below(5) as usize],
        n => WORDS[n as usize % 5].to_owned(),
    }
}

fn random_type(rng: &mut Rng) -> EventType {
    match rng.one_in(12) {
        true => EventType::from_code([0, 0x010D, 0x0701, 0x04FF, u32::MAX][rng.below(5) as usize]),
        false => EventType::all().nth(rng.below(60) as usize % [60, 6][rng.below(2) as usize]).unwrap(),
    }
}

fn random_cause(rng: &mut Rng, source: &MockSource) -> crate::event::Cause {
    let near = source.len() - rng.below(source.len().min(20));
    match rng.below(5) {
        0 => Uuid::from_u128(u128::from(rng.below(50))).into(),
        1 => source.id(near).into(),
        2 => (1 + rng.below(source.len())).into(),
        _ => near.into(),
    }
}

fn random_event(rng: &mut Rng, source: &MockSource) -> Event<'static> {
    let mut event = Event::new(random_type(rng));
    if !rng.one_in(3) {
        event = event.agent(word(rng));
    }
    if rng.one_in(2) {
        event = event.session(word(rng)).path(format!("/{}/{}", word(rng), word(rng)));
    }
    if rng.one_in(4) {
        event =
            event.stream(word(rng)).name(word(rng)[..1].to_owned()).transaction(word(rng)).source("import:x");
    }
    for _ in 0..rng.below(4) {
        event = event.tag(word(rng));
    }
    if rng.one_in(5) {
        event = event.priority(Priority::from_code(rng.below(7) as u32)).visibility(rng.next() & 0b1111);
    }
    event = match rng.below(4) {
        0 => event.time(Timestamp((source.len() as i64 - 50 + rng.below(100) as i64) * 1_000)),
        1 if rng.one_in(3) => event.tag(TAG_TIME_UNKNOWN),
        _ => event,
    };
    if rng.one_in(3) {
        event = event.intent(word(rng)).payload(json!({"x": [word(rng)]}));
    }
    if rng.one_in(10) {
        event = event.id(Uuid::from_u128(1_000 + u128::from(source.len())));
    }
    if source.len() > 0 && rng.one_in(2) {
        event = event.parent(random_cause(rng, source));
    }
    if source.len() > 0 && rng.one_in(8) {
        let mut link = Link::new(random_cause(rng, source), "because").strength(rng.below(101) as u32);
        link.effect = rng.one_in(2).then(|| random_cause(rng, source));
        event = event.root(random_cause(rng, source)).link(link);
    }
    event
}

pub(super) fn random_source(rng: &mut Rng, len: u64) -> MockSource {
    let mut source = MockSource::new(rng.next());
    while source.len() < len {
        match rng.below(40) {
            0 => source.push_tombstone(),
            _ => {
                source.push(random_event(rng, &source));
            }
        }
        if rng.one_in(30) {
            source.cut();
        }
    }
    source
}

fn random_query(rng: &mut Rng, len: u64) -> Query {
    let mut query = Query::new().past_damage(true).reverse(rng.one_in(2));
    for _ in 0..1 + rng.below(3) {
        for _ in 0..1 + rng.below(2) {
            query = match rng.below(16) {
                0 => query.event_type(random_type(rng)),
                1 => query.category(random_type(rng).category()),
                2 => query.name(&word(rng)[..1]),
                3 => query.agent(word(rng)),
                4 => query.stream(word(rng)),
                5 => query.session(word(rng)),
                6 => query.path(format!("/{}", word(rng))),
                7 => query.tag(word(rng)),
                8 => query.transaction(word(rng)),
                9 => query.source(["user", "import:x"][rng.below(2) as usize]),
                10 => query.priority(Priority::from_code(rng.below(7) as u32)),
                11 => query.after(rng.below(len)),
                12 => query.before(rng.below(len) + 1),
                13 => query.since(Timestamp(rng.below(len) as i64 * 1_000)),
                14 => query.until(Timestamp(rng.below(len) as i64 * 1_000)).visible_to(1 << rng.below(5)),
                _ => query.text(&word(rng).to_uppercase()),
            };
        }
    }
    if rng.one_in(3) {
        query = query.limit(rng.below(30));
    }
    query
}

fn sequences(run: &mut QueryRun) -> Vec<u64> {
    run.map(|event| event.unwrap().sequence).collect()
}

/// What the query must answer, with its order and limit.
fn expected(mut all: Vec<u64>, query: &Query) -> Vec<u64> {
    if query.reverse {
        all.reverse();
    }
    all.truncate(query.limit.map_or(usize::MAX, |n| n as usize));
    all
}

pub(super) fn indexed(source: &MockSource, budget: u64) -> (tempfile::TempDir, Arc<Index>) {
    let folder = tempfile::tempdir().unwrap();
    let index = Arc::new(Index::new());
    index.install(Trees::open(folder.path()).unwrap(), source).unwrap();
    let mut core = IndexCore::new(Arc::clone(&index));
    while !core.step(source, budget).unwrap().is_caught_up() {}
    assert_eq!(index.failure(), None);
    assert_eq!(index.indexed_sequence(), source.last_sequence());
    (folder, index)
}

fn check(source: &Arc<MockSource>, index: &Arc<Index>, query: &Query) {
    let naive = source.naive(query);
    let expected = expected(naive.clone(), query);
    let run = |index: Option<&Arc<Index>>| QueryRun::new(source.clone(), index.cloned(), query.clone());
    assert_eq!(sequences(&mut run(Some(index))), expected, "by index: {query:?}");
    assert_eq!(sequences(&mut run(None)), expected, "by scan: {query:?}");
    let all = naive.len() as u64;
    assert_eq!(run(Some(index)).count_matches().unwrap(), all, "count by index: {query:?}");
    assert_eq!(run(None).count_matches().unwrap(), all, "count by scan: {query:?}");
}

#[test]
fn index_scan_and_naive_filter_agree() {
    let mut rng = Rng::from_env("index_scan_and_naive_filter_agree");
    for round in 0..6 {
        let len = [1, 700, 4_095, 4_096, 4_097, 8_300][round];
        let mut source = random_source(&mut rng, len);
        if round >= 4 {
            source.headers_intact = rng.one_in(2);
            for _ in 0..3 {
                let first = 1 + rng.below(len);
                source.damaged.push((first, len.min(first + rng.below(500))));
            }
            source.first = 1 + rng.below(300);
        }
        let (_folder, index) = indexed(&source, 1 + rng.below(3_000));
        let source = Arc::new(source);
        for _ in 0..if len > 1_000 { 16 } else { 60 } {
            check(&source, &index, &random_query(&mut rng, len));
        }
        assert!(!index.needs_rebuild());
    }
}

#[test]
fn the_end_of_a_chunk_is_no_edge() {
    let mut rng = Rng::from_env("the_end_of_a_chunk_is_no_edge");
    for len in [CHUNK_EVENTS - 1, CHUNK_EVENTS, CHUNK_EVENTS + 1] {
        let mut source = MockSource::new(1);
        (0..len).for_each(|i| {
            source.push(Event::decision("x").agent(if i + 2 >= len { "last" } else { "other" }));
        });
        let (_folder, index) = indexed(&source, 1 + rng.below(5_000));
        let source = Arc::new(source);
        for query in
            [Query::new().agent("last"), Query::new().agent("last").reverse(true), Query::new().agent("x")]
        {
            check(&source, &index, &query);
        }
        check(&source, &index, &Query::new().after(len - 1));
        check(&source, &index, &Query::new().before(1).reverse(true));
    }
}

/// Runs until the first error: what came before it, and the damage.
fn until_damage(mut run: QueryRun) -> (Vec<u64>, Option<(u64, u64)>) {
    let mut before = Vec::new();
    while let Some(next) = run.next() {
        match next {
            Ok(event) => before.push(event.sequence),
            Err(ReadError::Damaged(damage)) => {
                assert!(run.next().is_none(), "an error is the end");
                return (before, Some((damage.first_sequence, damage.last_sequence)));
            }
            Err(other) => panic!("{other}"),
        }
    }
    (before, None)
}

#[test]
fn damage_stops_a_query_at_its_place_in_both_directions() {
    let mut source = MockSource::new(3);
    (0..5_000).for_each(|i| {
        source.push(Event::decision("x").agent(if i % 7 == 0 { "seven" } else { "other" }));
        if i % 50 == 0 {
            source.cut();
        }
    });
    source.damaged = vec![(100, 120), (3_000, 3_010), (4_090, 4_100)];
    let (_folder, index) = indexed(&source, 1_000);
    let source = Arc::new(source);
    for index in [None, Some(index)] {
        let run = |query: Query| QueryRun::new(source.clone(), index.clone(), query);
        for query in [Query::new(), Query::new().agent("seven")] {
            let all = source.naive(&query);
            let (found, damage) = until_damage(run(query.clone()));
            assert_eq!(
                (found, damage),
                (all.iter().copied().filter(|s| *s < 100).collect(), Some((100, 120)))
            );
            let (found, damage) = until_damage(run(query.clone().reverse(true)));
            let mut behind: Vec<_> = all.iter().copied().filter(|s| *s > 4_100).collect();
            behind.reverse();
            assert_eq!((found, damage), (behind, Some((4_090, 4_100))));
            let (found, damage) = until_damage(run(query.clone().after(120).before(3_000)));
            assert_eq!(
                (found.len(), damage),
                (all.iter().filter(|s| (121..3_000).contains(*s)).count(), None)
            );
            let (found, damage) = until_damage(run(query.clone().limit(5).reverse(true)));
            assert_eq!((found.len(), damage), (5, None), "damage beyond the limit is no concern");
            assert!(run(query.clone()).count_matches().is_err());
            for reverse in [false, true] {
                let mut past = run(query.clone().past_damage(true).reverse(reverse));
                assert_eq!(past.by_ref().map(Result::unwrap).count(), all.len());
                assert_eq!(past.damage_skipped(), 21 + 11 + 11);
            }
        }
    }
}

#[test]
fn an_event_that_does_not_decode_is_damage() {
    let mut source = MockSource::new(3);
    source.extend((0..10).map(|_| Event::decision("x").agent("a")));
    source.push_unreadable();
    source.extend((0..10).map(|_| Event::decision("x").agent("a")));
    source.cut();
    let (_folder, index) = indexed(&source, 1_000);
    let source = Arc::new(source);
    for index in [None, Some(index)] {
        let run = |query: Query| QueryRun::new(source.clone(), index.clone(), query.agent("a"));
        assert_eq!(until_damage(run(Query::new())), ((1..=10).collect(), Some((11, 11))));
        assert_eq!(
            until_damage(run(Query::new().reverse(true))),
            ((12..=21).rev().collect(), Some((11, 11)))
        );
        for reverse in [false, true] {
            let mut past = run(Query::new().past_damage(true).reverse(reverse));
            assert_eq!((past.by_ref().count(), past.damage_skipped()), (20, 1));
        }
    }
}

#[test]
fn a_stream_holds_little_at_a_time() {
    let mut source = MockSource::new(1);
    source.extend((0..3_000).map(|_| Event::decision("x")));
    let source = Arc::new(source);
    let read = || source.entries_read.swap(0, std::sync::atomic::Ordering::Relaxed);
    for reverse in [false, true] {
        let query = Query::new().reverse(reverse);
        let mut run = QueryRun::new(source.clone(), None, query.clone());
        run.next().unwrap().unwrap();
        assert!(read() <= run::READY_EVENTS_MAX as u64, "one event does not read all");
        assert_eq!(run.count(), 2_999);
        read();
        let mut run = QueryRun::new(source.clone(), None, query.limit(3));
        assert_eq!(run.by_ref().count(), 3);
        assert!(read() <= 64);
    }
    let mut source = MockSource::new(1);
    source.extend((0..40).map(|i| Event::decision("x").payload(json!(format!("{i}").repeat(100_000)))));
    let source = Arc::new(source);
    for reverse in [false, true] {
        let mut run = QueryRun::new(source.clone(), None, Query::new().reverse(reverse));
        let first = run.next().unwrap().unwrap();
        assert!(run.ready_bytes() < 2 * run::READY_BYTES_MAX, "{} bytes", run.ready_bytes());
        let rest: Vec<u64> = run.map(|e| e.unwrap().sequence).collect();
        assert_eq!((first.sequence, rest.len()), (if reverse { 40 } else { 1 }, 39));
        assert!(rest.is_sorted_by(|a, b| (a < b) != reverse));
    }
}

#[test]
fn a_query_sees_what_was_there_when_it_began() {
    let source = Arc::new(random_source(&mut Rng(5), 100));
    let run = QueryRun::new(source.clone(), None, Query::new().category(Category::Agent).past_damage(true));
    let all: Vec<Recorded> = run.map(Result::unwrap).collect();
    assert!(all.iter().all(|e| e.event.event_type().category() == Category::Agent));
    assert_eq!(QueryRun::new(source, None, Query::new().limit(0)).count(), 0);
}
