//! One flipped byte: it is found, named, read past, lived with and set aside, and nothing else is lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::{World, complaint, lines, sequences};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Twenty runs of ten events: twenty blocks, or more.
const RUNS: u64 = 20;
const EVENTS: u64 = RUNS * 10;

fn event(number: u64) -> Value {
    json!({"type": "agent.decision", "agent": "a", "payload": {"mark": format!("mark-{number:04}-here")},
        "id": format!("00000000-0000-4000-8000-{number:012x}")})
}

fn filled() -> World {
    let world = World::new();
    for run in 0..RUNS {
        world.append(&(1..=10).map(|n| event(run * 10 + n)).collect::<Vec<_>>());
    }
    world
}

/// Flips a byte within the payload of event `number`; the file and the place.
fn flip(world: &World, number: u64) -> (PathBuf, u64) {
    let needle = format!("mark-{number:04}-here");
    for (path, mut bytes) in world.segments() {
        if let Some(at) = bytes.windows(needle.len()).position(|w| w == needle.as_bytes()) {
            bytes[at + 3] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            return (path, at as u64 + 3);
        }
    }
    panic!("event {number} is nowhere");
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// The only damage that `verify` tells, which must cover the place: what is lost.
fn lost(world: &World, file: &Path, at: u64) -> (u64, u64) {
    let output = world.run(&["verify", "--json"], b"");
    assert_eq!(output.status.code(), Some(1), "{}", complaint(&output));
    let report = lines(&output).remove(0);
    assert_eq!((&report["intact"], &report["damage"].as_array().unwrap().len()), (&json!(false), &1), "{report}");
    let damage = &report["damage"][0];
    assert_eq!(damage["segment"], json!(name(file)));
    let number = |key: &str| damage[key].as_u64().unwrap();
    assert!(number("offset") <= at && at < number("offset") + number("length"), "{damage}: the byte is {at}");
    assert!(damage["reason"].as_str().unwrap().len() > 10, "{damage}");
    (number("first_sequence"), number("last_sequence"))
}

fn without(lost: (u64, u64), last: u64) -> Vec<u64> {
    (1..=last).filter(|n| !(lost.0..=lost.1).contains(n)).collect()
}

#[test]
fn a_flipped_byte_is_named_read_past_lived_with_and_set_aside() {
    for number in [EVENTS / 2 + 5, 3, EVENTS - 2] {
        let world = filled();
        let (file, at) = flip(&world, number);
        let lost = lost(&world, &file, at);
        // One block at most, and the event itself.
        assert!(lost.0 <= number && number <= lost.1 && lost.1 - lost.0 < 10, "{lost:?}");

        let query = world.run(&["query", "--json"], b"");
        assert_eq!(query.status.code(), Some(4));
        assert_eq!(sequences(&lines(&query)), (1..lost.0).collect::<Vec<_>>());
        assert!(complaint(&query).contains(name(&file)), "{}", complaint(&query));
        let past = world.run(&["query", "--json", "--past-damage"], b"");
        assert_eq!(past.status.code(), Some(0), "{}", complaint(&past));
        assert_eq!(sequences(&lines(&past)), without(lost, EVENTS));
        assert!(complaint(&past).contains(name(&file)), "what is passed over is told: {}", complaint(&past));
        // From the other end, too.
        let back = world.run(&["query", "--json", "--reverse"], b"");
        assert_eq!(back.status.code(), Some(4));
        assert_eq!(sequences(&lines(&back)), (lost.1 + 1..=EVENTS).rev().collect::<Vec<_>>());
        for args in [&["query", "--count"][..], &["export", "--format", "jsonl"]] {
            let output = world.run(args, b"");
            assert_eq!(output.status.code(), Some(4), "{args:?}");
            assert!(complaint(&output).contains(name(&file)), "{args:?}: {}", complaint(&output));
            let past = world.run(&[args, &["--past-damage"]].concat(), b"");
            assert_eq!(past.status.code(), Some(0), "{args:?}: {}", complaint(&past));
        }
        assert_eq!(world.run(&["show", &number.to_string()], b"").status.code(), Some(4));
        assert_eq!(world.one(&["show", &(lost.1 + 1).to_string(), "--json"])["sequence"], json!(lost.1 + 1));
        let doctor = world.run(&["doctor"], b"");
        assert_eq!(doctor.status.code(), Some(1));
        let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
        assert!(text.contains(name(&file)) && text.contains("backup") && text.contains("--repair"), "{text}");

        // Numbering goes on, ids that can still be read are known.
        let after = world.append(&[event(EVENTS + 1), event(1000), event(lost.1 + 1)]);
        assert_eq!(sequences(&after), [EVENTS + 1, EVENTS + 2, lost.1 + 1]);
        assert_eq!(after[2]["duplicate"], json!(true));
        assert_eq!(lost_again(&world, &file, at), lost, "appending changed nothing about the damage");
        let past = world.run(&["query", "--json", "--past-damage"], b"");
        assert_eq!(sequences(&lines(&past)), without(lost, EVENTS + 2));

        repair(&world, &file, at, lost);
    }
}

fn lost_again(world: &World, file: &Path, at: u64) -> (u64, u64) {
    lost(world, file, at)
}

fn repair(world: &World, file: &Path, at: u64, lost: (u64, u64)) {
    let before = std::fs::read(file).unwrap();
    let repaired = world.run(&["doctor", "--repair", "--json"], b"");
    let told = lines(&repaired).remove(0);
    assert!(!told["repaired"].as_array().unwrap().is_empty(), "{told}");
    assert_eq!(std::fs::read(file).unwrap(), before, "a damaged segment is evidence: it stays as it is");
    let aside: Vec<Vec<u8>> = std::fs::read_dir(world.journal().join("quarantine"))
        .unwrap()
        .map(|e| std::fs::read(e.unwrap().path()).unwrap())
        .collect();
    let around = &before[at as usize - 8..at as usize + 8];
    assert!(aside.iter().any(|b| b.windows(16).any(|w| w == around)), "the damaged bytes are set aside");
    // It goes on as before: the lost range is still reported, the rest is there.
    assert_eq!(lost_again(world, file, at), lost);
    let answers = world.append(&[event(2_000)]);
    assert_eq!(sequences(&answers), [EVENTS + 3]);
    let past = world.run(&["query", "--json", "--past-damage"], b"");
    assert_eq!(sequences(&lines(&past)), without(lost, EVENTS + 3));
    // Once more is harmless.
    let again = world.run(&["doctor", "--repair"], b"");
    assert_eq!(again.status.code(), repaired.status.code(), "{}", complaint(&again));
}

#[test]
fn every_single_bit_of_a_small_journal_matters() {
    let world = World::new();
    world.append(&(1..=3).map(event).collect::<Vec<_>>());
    world.append(&[event(4)]);
    let (path, whole) = world.segments().remove(0);
    let truth = world.json(&["query", "--json"]);
    let mut random = common::Random::new();
    let reader = || semj::Journal::open_read_only(world.journal());
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << random.below(8);
        std::fs::write(&path, &bytes).unwrap();
        // Refused at the door, or found by the check: never passed off as whole.
        let found = match reader() {
            Err(_) => true,
            Ok(reader) => match reader.verify(semj::VerifyLevel::Full) {
                Err(_) => true,
                Ok(report) => {
                    let record = report.record;
                    let told = !record.damage.is_empty();
                    assert_eq!(record.intact, record.damage.is_empty());
                    // What is delivered before the damage is the truth.
                    for event in reader.run(semj::Query::new()).unwrap() {
                        let Ok(event) = event else { break };
                        assert_eq!(json!(event.id.to_string()), truth[event.sequence as usize - 1]["id"], "byte {at}");
                    }
                    told
                }
            },
        };
        assert!(found, "byte {at} of {} was changed and nobody saw it", whole.len());
    }
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(world.json(&["query", "--json"]), truth);
    assert_eq!(world.one(&["verify", "--json"])["intact"], json!(true));
}

#[test]
fn a_cut_file_and_a_missing_file_are_damage_where_more_was_durable() {
    // Cut in the middle: LOCK knows better.
    let world = filled();
    let (path, whole) = world.segments().remove(0);
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let output = world.run(&["verify", "--json"], b"");
    let report = lines(&output).remove(0);
    assert_eq!((output.status.code(), &report["intact"]), (Some(1), &json!(false)), "{report}");
    assert_eq!(report["damage"][0]["last_sequence"], json!(EVENTS), "{report}");
    let query = world.run(&["query", "--json"], b"");
    assert_eq!(query.status.code(), Some(4), "{}", complaint(&query));
    let kept = sequences(&lines(&query));
    assert!(!kept.is_empty() && kept == (1..=kept.len() as u64).collect::<Vec<_>>());
    // What was acknowledged keeps its number for ever.
    assert_eq!(sequences(&world.append(&[event(500)])), [EVENTS + 1]);
    let past = world.run(&["query", "--json", "--past-damage"], b"");
    assert_eq!(past.status.code(), Some(0), "{}", complaint(&past));
    assert_eq!(sequences(&lines(&past)), kept.iter().copied().chain([EVENTS + 1]).collect::<Vec<_>>());

    // The segment is gone altogether.
    let world = filled();
    std::fs::remove_file(world.segments().remove(0).0).unwrap();
    let output = world.run(&["verify", "--json"], b"");
    assert_eq!(output.status.code(), Some(1), "{}", complaint(&output));
    let query = world.run(&["query", "--json"], b"");
    assert_eq!((query.status.code(), query.stdout.len()), (Some(4), 0), "{}", complaint(&query));
    assert_eq!(sequences(&world.append(&[event(500)])), [EVENTS + 1]);
    let past = world.run(&["query", "--json", "--past-damage"], b"");
    assert_eq!(past.status.code(), Some(0), "{}", complaint(&past));
    assert_eq!(sequences(&lines(&past)), [EVENTS + 1]);
}

#[test]
fn a_damaged_or_missing_lock_file_loses_nothing() {
    let spoilings: [&[u8]; 3] = [b"", &[0xA5; 2_048], b"SEMJLOCK"];
    for content in spoilings.into_iter().map(Some).chain([None]) {
        let world = filled();
        let lock = world.journal().join("LOCK");
        match content {
            Some(bytes) => std::fs::write(&lock, bytes).unwrap(),
            None => std::fs::remove_file(&lock).unwrap(),
        }
        assert_eq!(world.json(&["query", "--json"]).len() as u64, EVENTS);
        assert_eq!(world.one(&["verify", "--json"])["intact"], json!(true));
        assert_eq!(sequences(&world.append(&[event(500)])), [EVENTS + 1]);
        assert_eq!(world.json(&["query", "--json"]).len() as u64, EVENTS + 1);
    }
}
