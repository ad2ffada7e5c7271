//! Reading from other processes while one writes: nobody waits, nobody fails, everybody sees what was acknowledged.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::{Talk, World, complaint, sequences};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

fn line(number: u64) -> String {
    let mut event = json!({"type": "agent.decision", "agent": "writer",
        "payload": {"n": number, "pad": "p".repeat(3_000)}});
    if number > 1 {
        event["parent"] = json!(number - 1);
    }
    format!("{event}\n")
}

/// An owner whose segments are as small as they may be.
fn owner(world: &World) -> Talk {
    std::fs::write(world.path("config.toml"), "segment_bytes = 1048576\n").unwrap();
    Talk::start(world, &["append", "--config", "config.toml"])
}

#[test]
fn every_reading_command_works_beside_the_owner_and_sees_what_was_acknowledged() {
    let world = World::new();
    let mut owner = owner(&world);
    let mut acknowledged = 0;
    for step in 0..10 {
        let batch = if step == 0 { 1 } else { 120 };
        owner.say(&(acknowledged + 1..=acknowledged + batch).map(line).collect::<String>());
        for _ in 0..batch {
            acknowledged += 1;
            assert_eq!(owner.hear()["sequence"], json!(acknowledged));
        }
        let last = acknowledged.to_string();
        assert_eq!(world.one(&["query", "--count", "--json"]), json!({"count": acknowledged}));
        assert_eq!(world.one(&["show", &last, "--json"])["payload"]["n"], json!(acknowledged));
        assert_eq!(sequences(&world.json(&["tail", "-n", "1", "--json"])), [acknowledged]);
        let why = world.json(&["why", &last, "--depth", "3", "--json"]);
        assert_eq!(why[0]["sequence"], json!(acknowledged));
        assert_eq!(why.len() as u64 - 1, 3.min(acknowledged - 1));
        let status = world.one(&["status", "--json"]);
        assert_eq!(
            (&status["durable_sequence"], &status["state"], &status["owner"]["pid"]),
            (&json!(acknowledged), &json!("open"), &json!(owner.pid())),
            "{status}"
        );
        let report = world.one(&["verify", "--json"]);
        assert_eq!((&report["intact"], &report["torn_tail"]), (&json!(true), &Value::Null), "{report}");
        assert_eq!(
            (&report["events"], &report["head"]["sequence"]),
            (&json!(acknowledged), &json!(acknowledged))
        );
    }
    assert!(world.segments().len() >= 3, "the test goes across rotations");
    // Readers have disturbed nothing.
    owner.say(&line(acknowledged + 1));
    assert_eq!(owner.hear()["sequence"], json!(acknowledged + 1));
    assert_eq!(owner.end(), Some(0));
    assert_eq!(world.one(&["status", "--json"])["owner"], Value::Null);
}

#[test]
fn a_second_writer_is_refused_with_the_pid_of_the_first() {
    let world = World::new();
    let mut owner = owner(&world);
    owner.say(&line(1));
    owner.hear();
    for args in
        [&["append"][..], &["append", "--wait", "50ms"], &["doctor", "--repair"], &["import", "in.jsonl"]]
    {
        std::fs::write(world.path("in.jsonl"), line(1)).unwrap();
        let second = world.run(args, line(2).as_bytes());
        assert_eq!(second.status.code(), Some(4), "{args:?}: {}", complaint(&second));
        assert!(complaint(&second).contains(&owner.pid().to_string()), "{args:?}: {}", complaint(&second));
    }
    owner.say(&line(2));
    assert_eq!(owner.hear()["sequence"], json!(2));
    assert_eq!(owner.end(), Some(0));
}

#[test]
fn a_follower_gets_every_event_once_and_in_order_across_rotations_and_owners() {
    let world = World::new();
    let mut first = owner(&world);
    first.say(&line(1));
    first.hear();
    let follower = Talk::start(&world, &["tail", "-f", "-n", "1", "--json"]);
    let filtered =
        Talk::start(&world, &["tail", "-f", "-n", "1", "--json", "--agent", "writer", "--text", "ppp"]);
    // Both are at work once they have shown the newest.
    assert_eq!((&follower.hear()["sequence"], &filtered.hear()["sequence"]), (&json!(1), &json!(1)));
    let mut number = 1;
    let mut write = |owner: &mut Talk, count: u64| {
        owner.say(&(number + 1..=number + count).map(line).collect::<String>());
        for _ in 0..count {
            number += 1;
            owner.hear();
            assert_eq!(follower.hear()["payload"]["n"], json!(number));
            assert_eq!(filtered.hear()["sequence"], json!(number));
        }
    };
    write(&mut first, 1_000);
    first.kill();
    // The follower outlives its owner, and follows the next one.
    let mut second = owner(&world);
    write(&mut second, 300);
    assert_eq!(second.end(), Some(0));
    let mut third = owner(&world);
    write(&mut third, 100);
    assert_eq!(third.end(), Some(0));
    assert!(world.segments().len() >= 3, "the test goes across rotations");
}

#[test]
fn readers_in_the_middle_of_heavy_writing_see_a_prefix() {
    let world = World::new();
    let mut owner = owner(&world);
    owner.say(&line(1));
    owner.hear();
    let (acknowledged, ended) = (AtomicU64::new(1), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for args in [
            &["query", "--json"][..],
            &["export", "--format", "jsonl"],
            &["verify", "--json"],
            &["status", "--json"],
        ] {
            let (world, acknowledged, ended) = (&world, &acknowledged, &ended);
            scope.spawn(move || {
                while !ended.load(Ordering::SeqCst) {
                    let before = acknowledged.load(Ordering::SeqCst);
                    let answer = world.json(args);
                    let seen = match args[0] {
                        "verify" => {
                            assert_eq!(answer[0]["intact"], json!(true), "{}", answer[0]);
                            answer[0]["events"].as_u64().unwrap()
                        }
                        "status" => answer[0]["durable_sequence"].as_u64().unwrap(),
                        _ => {
                            assert_eq!(sequences(&answer), (1..=answer.len() as u64).collect::<Vec<_>>());
                            answer.len() as u64
                        }
                    };
                    assert!(seen >= before, "{args:?} sees {seen}, acknowledged were {before}");
                }
            });
        }
        // In pieces, so that there are many blocks, and answers while more is written.
        for piece in 0..80u64 {
            let (from, to) = (2 + piece * 15, 2 + (piece + 1) * 15);
            owner.say(&(from..to).map(line).collect::<String>());
            for _ in from..to {
                let answer = owner.hear();
                acknowledged.store(answer["sequence"].as_u64().unwrap(), Ordering::SeqCst);
            }
        }
        ended.store(true, Ordering::SeqCst);
    });
    assert_eq!(owner.end(), Some(0));
    assert!(world.segments().len() >= 3, "the test goes across rotations");
}
