//! Walks against a plain search over all edges, by index and without one.

use super::causes::edges_of;
use super::mock::{MockSource, Rng};
use super::properties::{indexed, random_source};
use super::*;
use crate::event::{Event, Link};
use crate::limits::CHUNK_EVENTS;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use uuid::Uuid;

const ALL: WalkLimits = WalkLimits { depth: u32::MAX, events_max: usize::MAX };

/// Every edge of the journal that can be read.
fn all_edges(source: &MockSource) -> Vec<Edge> {
    let readable = (source.first..=source.last_sequence()).filter(|s| !source.is_damaged(*s));
    let events =
        readable.filter_map(|s| source.entry(s).event().map(|event| source.entry(s).recorded(event)));
    events.flat_map(|event| edges_of(&event)).collect()
}

/// The edges and numbers within reach of `start`, and how far away the numbers are.
fn search(edges: &[Edge], start: u64, depth: u32, backwards: bool) -> (BTreeSet<Edge>, BTreeMap<u64, u32>) {
    let ends = |e: &Edge| match backwards {
        true => (e.effect_sequence, e.cause_sequence),
        false => (e.cause_sequence, e.effect_sequence),
    };
    let (mut found, mut depths, mut queue) =
        (BTreeSet::new(), BTreeMap::from([(start, 0)]), VecDeque::from([start]));
    while let Some(at) = queue.pop_front() {
        if depths[&at] == depth {
            continue;
        }
        for edge in edges.iter().filter(|e| ends(e).0 == Some(at)) {
            found.insert(edge.clone());
            if let Some(next) = ends(edge).1.filter(|n| !depths.contains_key(n)) {
                depths.insert(next, depths[&at] + 1);
                queue.push_back(next);
            }
        }
    }
    (found, depths)
}

fn is_event(source: &MockSource, sequence: u64) -> bool {
    sequence >= source.first && !source.is_damaged(sequence) && source.entry(sequence).event().is_some()
}

#[test]
fn walks_agree_with_a_search_over_all_edges() {
    let mut rng = Rng::from_env("walks_agree_with_a_search_over_all_edges");
    for len in [300, CHUNK_EVENTS + 600] {
        let mut source = random_source(&mut rng, len);
        if rng.one_in(2) {
            source.damaged.push((len / 3, len / 3 + 5));
            source.first = 1 + rng.below(50);
        }
        let (_folder, index) = indexed(&source, 1_000);
        let edges = all_edges(&source);
        for _ in 0..12 {
            let start = source.first + rng.below(len - source.first);
            let depth = if rng.one_in(2) { u32::MAX } else { rng.below(4) as u32 };
            let limits = WalkLimits { depth, ..ALL };
            for backwards in [true, false] {
                let (found, depths) = search(&edges, start, depth, backwards);
                for index in [None, Some(&*index)] {
                    let walk = if backwards { why } else { impact };
                    let Ok(graph) = walk(&source, index, start, limits) else {
                        assert!(source.is_damaged(start));
                        continue;
                    };
                    let Some(graph) = graph else {
                        assert!(!is_event(&source, start));
                        continue;
                    };
                    let said = format!("{backwards} from {start}, depth {depth}, index {}", index.is_some());
                    assert_eq!(graph.edges.iter().cloned().collect::<BTreeSet<_>>(), found, "{said}");
                    assert_eq!(graph.edges.len(), found.len(), "{said}: an edge twice");
                    let expected: Vec<u64> =
                        depths.keys().copied().filter(|s| is_event(&source, *s)).collect();
                    assert_eq!(graph.events.keys().copied().collect::<Vec<_>>(), expected, "{said}");
                    assert!(graph.events.iter().all(|(sequence, event)| *sequence == event.sequence));
                    assert!(!graph.truncated);
                }
            }
        }
        assert!(!index.needs_rebuild());
    }
}

#[test]
fn kinds_foreign_causes_and_cycles() {
    let mut source = MockSource::new(9);
    let foreign = Uuid::from_u128(7);
    source.push(Event::query("ask"));
    source.push(Event::reasoning("think").parent(1u64).root(1u64));
    source.push(Event::decision("do").parent(foreign));
    // Two goes back to one: a circle that no parent could make.
    let back = Link { effect: Some(1u64.into()), ..Link::new(2u64, "feedback").strength(40) };
    source.push(Event::decision("note").link(back));
    source.push(Event::decision("late").id(foreign));
    let graph = why(&source, None, 2, ALL).unwrap().unwrap();
    let told: Vec<_> =
        graph.edges.iter().map(|e| (e.cause_sequence, e.effect_sequence, e.kind.as_str())).collect();
    assert_eq!(
        told,
        [(Some(1), Some(2), "parent"), (Some(1), Some(2), "root"), (Some(2), Some(1), "feedback")]
    );
    assert_eq!((graph.edges[2].strength, graph.start.sequence), (Some(40), 2));
    let graph = impact(&source, None, 1, ALL).unwrap().unwrap();
    assert_eq!((graph.edges.len(), graph.events.len()), (3, 2));
    let graph = why(&source, None, 3, ALL).unwrap().unwrap();
    assert_eq!((graph.edges[0].cause, graph.edges[0].cause_sequence), (foreign, None));
    assert!(impact(&source, None, 5, ALL).unwrap().unwrap().edges.is_empty(), "foreign for ever");
    assert!(
        why(&source, None, 6, ALL).unwrap().is_none() && impact(&source, None, 0, ALL).unwrap().is_none()
    );
}

#[test]
fn a_long_chain_is_walked_without_recursion_and_within_limits() {
    let len = 2 * CHUNK_EVENTS + 50;
    let mut source = MockSource::new(9);
    source.push(Event::query("ask"));
    source.extend((1..len).map(|i| Event::decision("next").parent(i)));
    let (_folder, index) = indexed(&source, 10_000);
    for index in [None, Some(&*index)] {
        for (walk, start) in [(why as fn(_, _, _, _) -> _, len), (impact, 1)] {
            let graph: Graph = walk(&source, index, start, ALL).unwrap().unwrap();
            assert_eq!(
                (graph.events.len() as u64, graph.edges.len() as u64, graph.truncated),
                (len, len - 1, false)
            );
            let graph = walk(&source, index, start, WalkLimits { depth: 3, ..ALL }).unwrap().unwrap();
            assert_eq!((graph.events.len(), graph.edges.len(), graph.truncated), (4, 3, false));
            let graph = walk(&source, index, start, WalkLimits { events_max: 10, ..ALL }).unwrap().unwrap();
            assert_eq!((graph.events.len(), graph.truncated), (10, true));
            assert!(graph.edges.len() <= 10);
        }
    }
}

#[test]
fn damage_on_the_way_is_told() {
    let mut source = MockSource::new(9);
    source.push(Event::query("ask"));
    source.extend((1..10u64).map(|i| Event::decision("next").parent(i)));
    source.damaged.push((5, 5));
    let graph = why(&source, None, 10, ALL).unwrap().unwrap();
    assert_eq!(graph.damage.map(|d| d.first_sequence), Some(5));
    assert_eq!(graph.events.keys().copied().collect::<Vec<_>>(), [6, 7, 8, 9, 10]);
    let graph = impact(&source, None, 1, ALL).unwrap().unwrap();
    assert_eq!((graph.damage.is_some(), graph.events.len()), (true, 4));
    assert!(why(&source, None, 5, ALL).unwrap_err().is_damage());
}
