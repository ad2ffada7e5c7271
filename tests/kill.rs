//! `kill -9` of a writing `semj append`, many times on one journal: what was acknowledged is there, once, in its place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::{Random, Talk, World, complaint, lines, sequences};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const KILLS: u64 = 200;

/// One line that was sent whole, and what became of it.
struct Sent {
    /// The numbers of its events; more than one is a group.
    numbers: Vec<u64>,
    text: String,
    has_id: bool,
    /// In which run it was sent first.
    run: u64,
    /// Sent again in a later run because its answer was lost.
    again: bool,
    answer: Option<(Vec<u64>, Vec<String>)>,
}

fn uuid(number: u64) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}

fn event(random: &mut Random, number: u64, with_id: bool) -> Value {
    let pad = if random.percent(2) { random.below(60_000) } else { random.below(40) };
    let mut event = json!({"type": "agent.decision", "agent": format!("a{}", number % 3),
        "payload": {"n": number, "pad": "x".repeat(pad as usize)}});
    if with_id {
        event["id"] = json!(uuid(number));
    }
    event
}

/// A line with the next numbers: an event, one with an id, or a group.
fn line(random: &mut Random, numbers: &mut u64, run: u64) -> Sent {
    let has_id = random.percent(40);
    let count = if random.percent(15) { 2 + random.below(6) } else { 1 };
    let range: Vec<u64> = (*numbers..*numbers + count).collect();
    *numbers += count;
    let events: Vec<Value> = range.iter().map(|n| event(random, *n, has_id)).collect();
    let value = if count == 1 { events.into_iter().next().unwrap() } else { Value::Array(events) };
    Sent { numbers: range, text: format!("{value}\n"), has_id, run, again: false, answer: None }
}

fn answer_of(answer: &Value) -> (Vec<u64>, Vec<String>) {
    let texts = |v: &Value| v.as_array().unwrap().iter().map(|s| s.as_str().unwrap().to_owned()).collect();
    match answer.get("sequences") {
        Some(all) => {
            (all.as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect(), texts(&answer["ids"]))
        }
        None => (vec![answer["sequence"].as_u64().unwrap()], vec![answer["id"].as_str().unwrap().to_owned()]),
    }
}

/// Starts `append`, sends the lines of `to_send` up to a random byte, hears a random number of answers, kills it.
fn run_and_kill(world: &World, random: &mut Random, sent: &mut [Sent], to_send: &[usize]) -> usize {
    let mut talk = Talk::start(world, &["append", "--config", "config.toml"]);
    let text: String = to_send.iter().map(|at| sent[*at].text.as_str()).collect();
    // Half of the time everything is sent, else up to a random byte.
    let cut = if random.percent(50) { text.len() } else { random.below(text.len() as u64 + 1) as usize };
    talk.say(&text[..cut]);
    let mut whole = 0;
    let mut bytes = 0;
    for at in to_send {
        bytes += sent[*at].text.len();
        whole += usize::from(bytes <= cut);
    }
    let mut answers = Vec::new();
    for _ in 0..random.below(whole as u64 + 1) {
        answers.push(talk.hear());
    }
    talk.kill();
    answers.extend(talk.rest());
    for (place, answer) in answers.iter().enumerate() {
        assert_eq!(answer["line"], json!(place + 1), "answers come in line order: {answer}");
        let line = &mut sent[to_send[place]];
        let now = answer_of(answer);
        if let Some(before) = &line.answer {
            assert_eq!((&now, answer.get("duplicate")), (before, Some(&json!(true))), "answered twice");
        }
        line.answer = Some(now);
    }
    whole
}

#[test]
fn what_was_acknowledged_survives_every_kill_exactly_once() {
    let mut random = Random::new();
    let world = World::new();
    // Small segments, so that kills fall into rotations too.
    std::fs::write(world.path("config.toml"), "segment_bytes = 1048576\n").unwrap();
    let (mut sent, mut numbers) = (Vec::<Sent>::new(), 0);
    for run in 0..KILLS {
        let mut to_send = Vec::new();
        for (at, line) in sent.iter_mut().enumerate() {
            let lost = line.answer.is_none() && line.has_id && random.percent(70);
            let known = line.answer.is_some() && line.has_id && random.percent(1);
            if lost || known {
                line.again = true;
                to_send.push(at);
            }
        }
        for _ in 0..=random.below(25) {
            to_send.push(sent.len());
            sent.push(line(&mut random, &mut numbers, run));
        }
        let whole = run_and_kill(&world, &mut random, &mut sent, &to_send);
        // What was cut off was never sent: forget the new ones among it.
        let unsent = to_send[whole..].iter().filter(|at| sent[**at].run == run).count();
        sent.truncate(sent.len() - unsent);
        if run % 20 == 19 {
            let acknowledged = sent.iter().filter_map(|s| s.answer.as_ref()).flat_map(|a| &a.0).max();
            let report = world.one(&["verify", "--json"]);
            assert_eq!(report["intact"], json!(true), "after run {run}: {report}");
            assert!(report["events"].as_u64() >= acknowledged.copied(), "after run {run}: {report}");
        }
    }
    // Whatever is still unanswered and has an id is sent once more, to a run that may end.
    let lost: Vec<usize> = (0..sent.len()).filter(|i| sent[*i].answer.is_none() && sent[*i].has_id).collect();
    let text: String = lost.iter().map(|at| sent[*at].text.as_str()).collect();
    let output = world.run(&["append"], text.as_bytes());
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    for (at, answer) in lost.iter().zip(lines(&output)) {
        sent[*at].again = true;
        sent[*at].answer = Some(answer_of(&answer));
    }
    check(&world, &sent);
}

fn check(world: &World, sent: &[Sent]) {
    let events = world.json(&["query", "--json"]);
    assert_eq!(sequences(&events), (1..=events.len() as u64).collect::<Vec<_>>(), "dense from 1");
    let mut found: BTreeMap<u64, &Value> = BTreeMap::new();
    for event in &events {
        let number = event["payload"]["n"].as_u64().unwrap();
        assert!(found.insert(number, event).is_none(), "event {number} is there twice");
    }
    let (mut acknowledged, mut groups, mut latest) = (0, 0, (0, 0));
    let mut ended: Option<u64> = None;
    for line in sent {
        let there: Vec<u64> = line
            .numbers
            .iter()
            .filter_map(|n| found.get(n))
            .map(|e| e["sequence"].as_u64().unwrap())
            .collect();
        assert!(there.is_empty() || there.len() == line.numbers.len(), "half a group: {:?}", line.numbers);
        assert!(there.windows(2).all(|w| w[0] + 1 == w[1]), "a group in pieces: {there:?}");
        groups += u64::from(there.len() > 1);
        if let Some((places, ids)) = &line.answer {
            acknowledged += 1;
            assert_eq!(&there, places, "acknowledged at another place: {:?}", line.numbers);
            let kept: Vec<&str> = line.numbers.iter().map(|n| found[n]["id"].as_str().unwrap()).collect();
            assert_eq!(&kept, ids);
        }
        if line.again {
            continue;
        }
        // Of what one run sent, a prefix is kept, in order.
        match there.first() {
            None => ended = Some(line.run),
            Some(first) => {
                assert_ne!(ended, Some(line.run), "a hole in run {}: {:?} is there", line.run, line.numbers);
                assert!(
                    latest < (line.run, *first),
                    "out of order: {latest:?}, then {first} in run {}",
                    line.run
                );
                latest = (line.run, *first);
            }
        }
    }
    let report = world.one(&["verify", "--deep", "--json"]);
    assert_eq!((&report["intact"], &report["events"]), (&json!(true), &json!(events.len())), "{report}");
    let segments = world.segments().len();
    eprintln!(
        "{KILLS} kills, {} events, {acknowledged} lines acknowledged, {groups} groups, {segments} segments",
        events.len()
    );
    assert!(acknowledged > 100 && groups > 10 && segments > 3, "the test tests something");
}
