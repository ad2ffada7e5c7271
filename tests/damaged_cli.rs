//! One flipped byte: it is found, named, read past, lived with and set aside, and nothing else is lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::{Talk, World, complaint, lines, sequences, until};
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
    assert_eq!(
        (&report["intact"], &report["damage"].as_array().unwrap().len()),
        (&json!(false), &1),
        "{report}"
    );
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
        let whole = if lost.1 < EVENTS { lost.1 + 1 } else { lost.0 - 1 };
        assert_eq!(world.one(&["show", &whole.to_string(), "--json"])["sequence"], json!(whole));
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
    let is_kept = std::fs::read(file).unwrap().starts_with(&before);
    assert!(is_kept, "a damaged segment is evidence: it may grow, but what is in it stays as it is");
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
                        assert_eq!(
                            json!(event.id.to_string()),
                            truth[event.sequence as usize - 1]["id"],
                            "byte {at}"
                        );
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

/// A journal of several segments, all but the last sealed.
fn of_segments() -> (World, u64) {
    let world = World::new();
    std::fs::write(world.path("config.toml"), "segment_bytes = 1048576\n").unwrap();
    let mut talk = Talk::start(&world, &["append", "--config", "config.toml"]);
    let events = 130;
    for number in 1..=events {
        let mut event = event(number);
        event["payload"]["pad"] = json!("x".repeat(30_000));
        talk.say(&format!("{event}\n"));
        talk.hear();
    }
    until("the seals", || {
        let segments = world.segments();
        segments.len() > 3 && segments[..segments.len() - 1].iter().all(|(_, bytes)| is_sealed(bytes))
    });
    assert_eq!(talk.end(), Some(0));
    (world, events)
}

/// The header's totals are written when the seal is on disk.
fn is_sealed(segment: &[u8]) -> bool {
    segment[12..20] != [0; 8] && segment[segment.len() - 128..].starts_with(b"SEMJSEA1")
}

fn first_of(path: &Path) -> u64 {
    name(path).trim_end_matches(".semj").parse().unwrap()
}

#[test]
fn a_missing_segment_is_damage_wherever_it_was() {
    for gone in [0, 1] {
        let (world, events) = of_segments();
        let segments = world.segments();
        let lost = (first_of(&segments[gone].0), first_of(&segments[gone + 1].0) - 1);
        std::fs::remove_file(&segments[gone].0).unwrap();
        let output = world.run(&["verify", "--json"], b"");
        let report = lines(&output).remove(0);
        assert_eq!((output.status.code(), &report["intact"]), (Some(1), &json!(false)), "{gone}: {report}");
        let damage = &report["damage"][0];
        assert_eq!((&damage["first_sequence"], &damage["last_sequence"]), (&json!(lost.0), &json!(lost.1)));
        let query = world.run(&["query", "--json"], b"");
        assert_eq!(query.status.code(), Some(4), "{gone}: {}", complaint(&query));
        assert_eq!(sequences(&lines(&query)), (1..lost.0).collect::<Vec<_>>());
        let past = world.run(&["query", "--json", "--past-damage"], b"");
        assert_eq!(past.status.code(), Some(0), "{gone}: {}", complaint(&past));
        assert_eq!(sequences(&lines(&past)), without(lost, events));
        let range = format!("events {} to {}", lost.0, lost.1);
        assert!(complaint(&past).contains(&range), "{}", complaint(&past));
        assert_eq!(world.run(&["doctor"], b"").status.code(), Some(1));
        // What is left is lived with.
        assert_eq!(sequences(&world.append(&[event(500)])), [events + 1]);
        let repaired = world.run(&["doctor", "--repair"], b"");
        assert_eq!(repaired.status.code(), Some(1), "{}", complaint(&repaired));
        assert_eq!(sequences(&world.append(&[event(501)])), [events + 2]);
    }
}

#[test]
fn sealing_that_a_crash_cut_short_is_no_damage_and_is_done_again() {
    let (world, events) = of_segments();
    let segments = world.segments();
    let (path, whole) = &segments[0];
    let fresh_header = &segments.last().unwrap().1[..80];
    for cut in [1, 128, 300] {
        // The totals come last: without them, the seal may be missing.
        let mut bytes = whole[..whole.len() - cut].to_vec();
        bytes[..80].copy_from_slice(fresh_header);
        std::fs::write(path, &bytes).unwrap();
        let report = world.one(&["verify", "--json"]);
        assert_eq!((&report["intact"], &report["events"]), (&json!(true), &json!(events)), "{cut}: {report}");
        assert_eq!(report["torn_tail"]["segment"], json!(name(path)), "it is told: {report}");
        // With them, it may not.
        let mut bytes = whole[..whole.len() - cut].to_vec();
        std::fs::write(path, &bytes).unwrap();
        let output = world.run(&["verify", "--json"], b"");
        assert_eq!(output.status.code(), Some(1), "{cut}");
        bytes[..80].copy_from_slice(fresh_header);
        std::fs::write(path, &bytes).unwrap();
        let owner = Talk::start(&world, &["append"]);
        until("the seal", || is_sealed(&world.segments()[0].1));
        assert_eq!(owner.end(), Some(0));
        let report = world.one(&["verify", "--deep", "--json"]);
        assert_eq!(
            (&report["intact"], &report["torn_tail"]),
            (&json!(true), &Value::Null),
            "{cut}: {report}"
        );
    }
}

#[test]
fn verifying_while_segments_are_finished_and_sealed_finds_nothing() {
    let world = World::new();
    let options = semj::Journal::options().segment_bytes(1 << 20);
    let journal = options.open(world.journal()).unwrap();
    let emitter = journal.emitter("a");
    let pad = "x".repeat(60_000);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..600 {
                emitter
                    .emit_blocking(semj::Event::decision("grow").payload(json!({"n": number, "pad": pad})))
                    .unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::SeqCst);
        });
        let mut checks = 0;
        while !done.load(std::sync::atomic::Ordering::SeqCst) {
            let reader = semj::Journal::open_read_only(world.journal()).unwrap();
            let record = reader.verify(semj::VerifyLevel::Quick).unwrap().record;
            assert!(record.intact && record.torn_tail.is_none(), "check {checks}: {record:?}");
            checks += 1;
        }
        eprintln!("{checks} checks beside the owner");
    });
    journal.close(common::PATIENCE).unwrap();
    assert!(journal.verify().unwrap().record.intact);
}
