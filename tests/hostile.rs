//! Input that means harm, and places that are no journal: everything is refused by name, nothing is lost, nothing grows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::{Talk, World, complaint, error_kind, feed, interrupt, lines, sequences, until};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

/// Appends raw lines; the answers with the exit code.
fn answers(world: &World, input: &[u8]) -> (Vec<Value>, Option<i32>) {
    let output = world.run(&["append"], input);
    (lines(&output), output.status.code())
}

/// Most memory a process has had, in KiB.
fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_line_of_100_megabytes_is_refused_without_being_held() {
    let world = World::new();
    let mut talk = Talk::start(&world, &["append"]);
    let piece = format!("{{\"type\":1,\"payload\":\"{}", "x".repeat(1 << 20));
    for (begin, end) in [(piece.as_str(), "\"}\n"), ("                ", "\n"), ("[[[[[[[[", "\n")] {
        for _ in 0..100 {
            talk.say(begin);
            talk.say(&begin[..1].repeat((1 << 20) - begin.len().min(1 << 20)));
        }
        talk.say(end);
        let answer = talk.hear();
        assert_eq!(error_kind(&answer), Some("limit"), "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains("8388608"), "{answer}");
    }
    talk.say("{\"type\":1}\n");
    assert_eq!(talk.hear(), talk_answer(4, 1, &world));
    let peak = peak_kib(talk.pid());
    assert!(peak < 300 << 10, "{peak} KiB");
    assert_eq!(talk.end(), Some(3));
}

fn talk_answer(line: u64, sequence: u64, world: &World) -> Value {
    json!({"line": line, "sequence": sequence, "id": world.one(&["show", &sequence.to_string(), "--json"])["id"]})
}

#[test]
fn lines_at_the_limit_with_much_in_them_stay_in_bounded_memory() {
    let world = World::new();
    let mut talk = Talk::start(&world, &["append"]);
    // The worst for a parser: as many values as fit.
    let room = (8 << 20) - 64;
    for (n, filler) in ["[],", "1,", "\"\",", "{\"a\":1},"].iter().enumerate() {
        let payload = filler.repeat(room / filler.len());
        talk.say(&format!("{{\"type\":1,\"payload\":[{}]}}\n", payload.trim_end_matches(',')));
        let answer = talk.hear();
        assert_eq!(
            (answer["line"].as_u64(), error_kind(&answer)),
            (Some(n as u64 + 1), Some("limit")),
            "{filler}"
        );
    }
    let group = format!("[{}]\n", vec!["{\"type\":1}"; 700_000].join(","));
    assert!(group.len() < 8 << 20);
    talk.say(&group);
    assert_eq!(error_kind(&talk.hear()), Some("limit"));
    let peak = peak_kib(talk.pid());
    assert!(peak < 600 << 10, "{peak} KiB");
    eprintln!("peak {peak} KiB");
    assert_eq!(talk.end(), Some(3));
}

#[test]
fn nesting_ends_at_128_levels_with_the_event_as_the_first() {
    let world = World::new();
    let nested = |levels: usize, open: &str, close: &str| {
        format!("{{\"type\":1,\"payload\":{}1{}}}\n", open.repeat(levels), close.repeat(levels))
    };
    let mut input = String::new();
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        // The event itself is level 1, so 127 more pass.
        for levels in [126, 127, 128, 100_000] {
            input += &nested(levels, open, close);
        }
    }
    input += &format!("{}1{}\n", "[".repeat(100_000), "]".repeat(100_000));
    input += &format!("{{\"type\":1,\"payload\":{}\n", "[".repeat(100_000));
    let (answers, code) = answers(&world, input.as_bytes());
    let kinds: Vec<_> = answers.iter().map(error_kind).collect();
    let limit = Some("limit");
    assert_eq!(kinds[..8], [None, None, limit, limit, None, None, limit, limit]);
    assert!(kinds[8].is_some() && kinds[9] == Some("syntax"), "{kinds:?}");
    assert_eq!(answers[2]["error"]["key"], json!("payload"));
    assert_eq!(code, Some(3));
    // What was taken comes out again, in every way of asking.
    assert_eq!(world.json(&["query", "--json", "--text", "absent"]).len(), 0);
    let events = world.run(&["query", "--json"], b"");
    assert_eq!((events.status.code(), events.stdout.split(|b| *b == b'\n').count()), (Some(0), 5));
    assert_eq!(world.run(&["query"], b"").status.code(), Some(0));
}

#[test]
fn what_is_no_proper_json_is_refused_line_by_line() {
    let world = World::new();
    let cases: Vec<(&[u8], &str, Option<&str>)> = vec![
        (b"{\"type\":1,\"type\":1}", "bad_value", Some("type")),
        (b"{\"type\":1,\"payload\":{\"a\":1,\"a\":2}}", "bad_value", Some("payload.a")),
        (b"{\"type\":1,\"metadata\":{\"a\":1,\"a\":2}}", "bad_value", Some("metadata.a")),
        (b"{\"type\":1,\"sequence\":1,\"sequence\":2}", "bad_value", Some("sequence")),
        (b"{\"type\":1,\"intent\":\"\xFF\"}", "syntax", None),
        (b"\xC3\x28", "syntax", None),
        (b"{\"type\":1,\"payload\":NaN}", "syntax", None),
        (b"{\"type\":1,\"payload\":Infinity}", "syntax", None),
        (b"{\"type\":1,\"payload\":-Infinity}", "syntax", None),
        (b"{\"type\":1,\"payload\":1e999}", "bad_value", Some("payload")),
        (b"{\"type\":1,\"payload\":[-1e999]}", "bad_value", Some("payload")),
        (b"{\"type\":1,\"payload\":18446744073709551616}", "bad_value", Some("payload")),
        (b"{\"type\":1,\"payload\":-9223372036854775809}", "bad_value", Some("payload")),
        (b"{\"type\":1,\"payload\":\"\\ud800\"}", "bad_value", Some("payload")),
        (b"{\"type\":1,\"intent\":\"\\udfff\"}", "bad_value", Some("intent")),
        (b"{\"type\":1,\"intent\":\"a\\", "syntax", None),
        (b"{\"type\":1,}", "syntax", None),
        (b"{\"type\":1}{\"type\":1}", "syntax", None),
        (b"{'type':1}", "syntax", None),
        (b"{\"type\":01}", "syntax", None),
        (b"nul", "syntax", None),
        (b"\x00", "syntax", None),
        (b"1", "bad_value", None),
        (b"null", "bad_value", None),
        (b"\"text\"", "bad_value", None),
        (b"[]", "bad_value", None),
        (b"[1]", "bad_value", None),
        (b"[[{\"type\":1}]]", "bad_value", None),
        (b"{}", "bad_value", Some("type")),
        (b"{\"type\":null}", "bad_value", Some("type")),
        (b"{\"Type\":1}", "unknown_key", Some("Type")),
        (b"{\"type\":1,\"\":1}", "unknown_key", Some("")),
        (b"{\"type\":1,\"links\":[{\"cause\":1,\"colour\":1}]}", "unknown_key", Some("links.colour")),
    ];
    let mut input = Vec::new();
    for (line, ..) in &cases {
        input.extend_from_slice(line);
        input.extend_from_slice(b"\n{\"type\":1}\n");
    }
    let (answers, code) = answers(&world, &input);
    assert_eq!((answers.len(), code), (2 * cases.len(), Some(3)));
    for (at, (line, kind, key)) in cases.iter().enumerate() {
        let answer = &answers[2 * at];
        let line = String::from_utf8_lossy(line);
        assert_eq!(
            (error_kind(answer), answer["error"]["key"].as_str()),
            (Some(*kind), *key),
            "{line}: {answer}"
        );
        assert_eq!(answer["line"], json!(2 * at + 1));
        assert!(answer["error"]["message"].as_str().unwrap().len() > 5, "{answer}");
        // The next one is taken, at the next place.
        assert_eq!(answers[2 * at + 1]["sequence"], json!(at + 1), "{line}");
    }
    let edges = b"{\"type\":1,\"payload\":[18446744073709551615,-9223372036854775808,1.7976931348623157e308,\"\\ud83d\\ude00\"]}\n";
    assert_eq!(world.run(&["append"], edges).status.code(), Some(0));
    let kept = &world.json(&["tail", "-n", "1", "--json"])[0]["payload"];
    assert_eq!(kept, &json!([u64::MAX, i64::MIN, f64::MAX, "\u{1F600}"]));
}

#[test]
fn every_key_refuses_what_is_not_of_its_type() {
    let world = World::new();
    world.append(&[json!({"type": 1})]);
    // A value that each key takes, and some that it does not.
    let keys: Vec<(&str, Value, Vec<Value>)> = vec![
        (
            "type",
            json!("agent.query"),
            vec![json!("nope"), json!(-1), json!(1.5), json!([]), json!(4_294_967_296u64), json!(true)],
        ),
        ("subtype", json!(1), vec![json!("1"), json!(-1), json!(4_294_967_296u64)]),
        ("name", json!("n"), vec![json!(1), json!({}), json!([])]),
        ("id", json!("00000000-0000-0000-0000-000000000001"), vec![json!("x"), json!(1), json!("")]),
        ("stream", json!("s"), vec![json!(1), json!(false)]),
        ("expect", json!(0), vec![json!("0"), json!(-1), json!(0.5)]),
        ("agent", json!("a"), vec![json!(1), json!(["a"])]),
        ("session", json!("s"), vec![json!({}), json!(true)]),
        ("path", json!("/p"), vec![json!(1), json!(["/p"])]),
        ("intent", json!("i"), vec![json!(1), json!({"a": 1})]),
        ("confidence", json!(100), vec![json!("1"), json!(-1), json!(0.5)]),
        ("agent_intent", json!("i"), vec![json!(1)]),
        ("agent_confidence", json!(1), vec![json!("1"), json!(1.5)]),
        ("priority", json!("high"), vec![json!("urgent"), json!(-1), json!([])]),
        ("flags", json!([1]), vec![json!(1), json!(["nope"]), json!([-1]), json!("x")]),
        ("tags", json!(["t"]), vec![json!("t"), json!([1]), json!({})]),
        ("parent", json!(1), vec![json!("x"), json!(-1), json!([1]), json!(1.5)]),
        ("root", json!(1), vec![json!("x"), json!({})]),
        (
            "links",
            json!([{"cause": 1}]),
            vec![json!({"cause": 1}), json!([1]), json!([{}]), json!([{"cause": null}])],
        ),
        ("transaction", json!("t"), vec![json!(1.5), json!([])]),
        ("chain", json!("c"), vec![json!({}), json!(true)]),
        ("visibility", json!("0x00000000000000ff"), vec![json!("xyz"), json!(-1), json!([])]),
        ("relevance", json!(1), vec![json!("1"), json!(-1)]),
        ("replay_priority", json!("low"), vec![json!("soon"), json!([])]),
        ("graph", json!({"node": 1}), vec![json!(1), json!({"node": "x"}), json!({"operation": "x"})]),
        ("vector", json!({"id": 1}), vec![json!([]), json!({"dimensions": -1})]),
        ("system", json!({"load": 1}), vec![json!("x"), json!({"load": 1.5})]),
        ("inode", json!(1), vec![json!("x"), json!(-1), json!(0.5)]),
        ("file_type", json!(1), vec![json!("x"), json!(-1)]),
        ("cpu", json!(1), vec![json!("x"), json!(-1)]),
        ("pid", json!(1), vec![json!("x"), json!(4_294_967_296u64)]),
        (
            "time",
            json!("2026-01-01T00:00:00Z"),
            vec![json!("yesterday"), json!(1), json!("2026-13-01T00:00:00Z")],
        ),
        ("metadata", json!({"a": 1}), vec![json!([]), json!(1), json!("x")]),
    ];
    let (mut input, mut expected) = (String::new(), Vec::new());
    for (key, good, bad) in &keys {
        let null = if *key == "type" { None } else { Some(Value::Null) };
        for (value, ok) in std::iter::once((good, true))
            .chain(null.iter().map(|n| (n, true)))
            .chain(bad.iter().map(|b| (b, false)))
        {
            let mut event = json!({"type": 1});
            event[*key] = value.clone();
            if *key == "expect" {
                event["stream"] = json!("untouched");
            }
            input += &format!("{event}\n");
            expected.push((*key, ok, event));
        }
    }
    let (answers, code) = answers(&world, input.as_bytes());
    assert_eq!((answers.len(), code), (expected.len(), Some(3)));
    for ((key, ok, event), answer) in expected.iter().zip(&answers) {
        match ok {
            true => assert!(answer["sequence"].is_u64(), "{event}: {answer}"),
            false => {
                assert_eq!(error_kind(answer), Some("bad_value"), "{event}: {answer}");
                let named = answer["error"]["key"].as_str().unwrap();
                assert!(named == *key || named.starts_with(&format!("{key}.")), "{event}: {answer}");
            }
        }
    }
}

#[test]
fn a_value_equal_to_its_limit_passes_and_one_over_it_is_named() {
    let world = World::new();
    world.append(&[json!({"type": 1})]);
    let x = |n: usize| "x".repeat(n);
    let texts = ["stream", "agent", "session", "path", "intent", "agent_intent", "transaction", "chain"];
    let mut cases: Vec<(&str, Value, Value)> =
        texts.map(|k| (k, json!({k: x(4_096)}), json!({k: x(4_097)}))).to_vec();
    // Two bytes a letter: bytes count, not letters.
    cases.push((
        "intent",
        json!({"intent": "\u{E9}".repeat(2_048)}),
        json!({"intent": "\u{E9}".repeat(2_049)}),
    ));
    cases.push(("name", json!({"name": x(128)}), json!({"name": x(129)})));
    let link = |kind: usize| json!({"links": [{"cause": 1, "kind": x(kind)}]});
    cases.push(("links", link(128), link(129)));
    let links = |n: usize| json!({"links": vec![json!({"cause": 1}); n]});
    cases.push(("links", links(256), links(257)));
    let description = |n: usize| json!({"links": [{"cause": 1, "description": x(n)}]});
    cases.push(("links", description(4_096), description(4_097)));
    cases.push(("tags", json!({"tags": vec!["t"; 64]}), json!({"tags": vec!["t"; 65]})));
    cases.push(("tags", json!({"tags": [x(256)]}), json!({"tags": [x(257)]})));
    // With its quotes.
    cases.push(("payload", json!({"payload": x((1 << 20) - 2)}), json!({"payload": x((1 << 20) - 1)})));
    let metadata = |n: usize| json!({"metadata": {"k": x(n - 8)}});
    cases.push(("metadata", metadata(2_048), metadata(2_049)));
    let strength = |n: u64| json!({"links": [{"cause": 1, "strength": n}]});
    let mut input = String::new();
    for (_, fits, over) in &cases {
        for part in [fits, over] {
            let mut event = json!({"type": 1});
            event.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
            input += &format!("{event}\n");
        }
    }
    for events in [8_192, 8_193] {
        input += &format!("[{}]\n", vec!["{\"type\":1}"; events].join(","));
    }
    let full = json!({"type": 1, "payload": x(1_000_000)}).to_string();
    input += &format!("[{}]\n[{}]\n", [full.as_str(); 4].join(","), [full.as_str(); 5].join(","));
    for percent in [100, 101] {
        let mut event = strength(percent);
        event["type"] = json!(1);
        input += &format!("{event}\n");
    }
    let (answers, code) = answers(&world, input.as_bytes());
    assert_eq!((answers.len(), code), (2 * cases.len() + 6, Some(3)));
    for (at, (key, ..)) in cases.iter().enumerate() {
        let (fits, over) = (&answers[2 * at], &answers[2 * at + 1]);
        assert!(fits["sequence"].is_u64(), "{key} at the limit: {fits}");
        assert_eq!(error_kind(over), Some("limit"), "{key} over the limit: {over}");
        assert!(over["error"]["key"].as_str().unwrap().starts_with(key), "{over}");
        // The limit and the value are both named.
        let numbers = over["error"]["message"].as_str().unwrap().split(|c: char| !c.is_ascii_digit());
        assert!(numbers.filter(|n| !n.is_empty()).count() >= 2, "{over}");
    }
    let [groups_ok, groups_over, bytes_ok, bytes_over, percent_ok, percent_over] =
        &answers[2 * cases.len()..]
    else {
        panic!()
    };
    assert_eq!(groups_ok["sequences"].as_array().map(Vec::len), Some(8_192));
    assert_eq!(error_kind(groups_over), Some("limit"), "{groups_over}");
    assert_eq!(bytes_ok["sequences"].as_array().map(Vec::len), Some(4), "{bytes_ok}");
    assert_eq!(error_kind(bytes_over), Some("limit"), "{bytes_over}");
    assert!(percent_ok["sequence"].is_u64());
    assert!(matches!(error_kind(percent_over), Some("bad_value" | "limit")), "{percent_over}");
    let report = world.one(&["verify", "--deep", "--json"]);
    assert_eq!(report["intact"], json!(true), "{report}");
}

#[test]
fn line_ends_of_all_kinds_are_taken() {
    let event = "{\"type\":1}";
    for (what, input, expected) in [
        ("empty", String::new(), vec![]),
        ("only blank lines", "\n\r\n  \n\t\n".into(), vec![]),
        ("no last feed", format!("{event}\n{event}"), vec![1, 2]),
        ("CRLF", format!("{event}\r\n\r\n{event}\r\n"), vec![1, 3]),
        ("spaces around", format!("  {event}\t\n\n {event} "), vec![1, 3]),
    ] {
        let world = World::new();
        let (answers, code) = answers(&world, input.as_bytes());
        let lines: Vec<u64> = answers.iter().map(|a| a["line"].as_u64().unwrap()).collect();
        assert_eq!((lines, code), (expected.clone(), Some(0)), "{what}");
        assert_eq!(world.one(&["query", "--count", "--json"]), json!({"count": expected.len()}), "{what}");
        assert_eq!(sequences(&answers), (1..=expected.len() as u64).collect::<Vec<_>>());
    }
}

#[test]
fn a_byte_order_mark_is_refused_and_not_taken_for_content() {
    let world = World::new();
    let (answers, code) = answers(&world, "\u{FEFF}{\"type\":1}\n{\"type\":1}\n".as_bytes());
    assert_eq!((error_kind(&answers[0]), code), (Some("syntax"), Some(3)), "{answers:?}");
    assert_eq!(answers[1]["sequence"], json!(1));
}

#[test]
fn places_that_are_no_journal_are_told_and_left_alone() {
    let world = World::new();
    let folder = world.path("pictures");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("cat.png"), b"meow").unwrap();
    let file = world.path("notes.txt");
    std::fs::write(&file, b"no journal").unwrap();
    let empty = world.path("empty");
    std::fs::create_dir(&empty).unwrap();
    for place in [&folder, &file, &empty, &file.join("below"), &world.path("gone/deeper")] {
        let place = place.to_str().unwrap();
        for args in
            [&["query"][..], &["status"], &["verify"], &["doctor"], &["doctor", "--repair"], &["tail"]]
        {
            let output = world.run(&[args, &["-j", place]].concat(), b"");
            assert_eq!(output.status.code(), Some(4), "{place} {args:?}: {}", complaint(&output));
            assert!(complaint(&output).contains(place), "{place} {args:?}: {}", complaint(&output));
        }
    }
    for place in [&folder, &file, &file.join("below")] {
        let output = world.run(&["append", "-j", place.to_str().unwrap()], b"{\"type\":1}\n");
        assert_eq!(
            (output.status.code(), output.stdout.len()),
            (Some(4), 0),
            "{place:?}: {}",
            complaint(&output)
        );
        assert!(complaint(&output).contains(place.to_str().unwrap()), "{}", complaint(&output));
    }
    assert_eq!(std::fs::read(folder.join("cat.png")).unwrap(), b"meow");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    assert_eq!(std::fs::read(&file).unwrap(), b"no journal");
    assert_eq!(std::fs::read_dir(&empty).unwrap().count(), 0);
    // An empty folder is as good as none, and folders above are made.
    for place in [&empty, &world.path("gone/deeper")] {
        let output = world.run(&["append", "-j", place.to_str().unwrap()], b"{\"type\":1}\n");
        assert_eq!(output.status.code(), Some(0), "{place:?}: {}", complaint(&output));
    }
}

#[test]
fn a_read_only_journal_is_read_and_not_written() {
    let world = World::new();
    world.append(&[json!({"type": 1}), json!({"type": 2})]);
    let open = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    // Root may write everywhere, so another user is needed.
    let as_nobody = |args: &[&str]| -> Option<std::process::Output> {
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
            command.arg(env!("CARGO_BIN_EXE_semj"));
            command
        } else {
            Command::new(env!("CARGO_BIN_EXE_semj"))
        };
        command.args(args).args(["-j", world.journal().to_str().unwrap()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().ok()?;
        Some(feed(child, b"{\"type\":1}\n"))
    };
    // The binary lies where only root may look, as often as not.
    open(world.root(), 0o755);
    match as_nobody(&["--version"]) {
        Some(output) if output.status.success() => {}
        other => {
            eprintln!("skipped: cannot run as another user: {other:?}");
            return;
        }
    }
    for path in ["j", "j/segments"] {
        open(&world.path(path), 0o555);
    }
    for (path, _) in world.segments() {
        open(&path, 0o444);
    }
    open(&world.path("j/LOCK"), 0o444);
    for args in [
        &["query", "--json"][..],
        &["verify", "--json"],
        &["status", "--json"],
        &["show", "2", "--json"],
        &["doctor"],
    ] {
        let output = as_nobody(args).unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", complaint(&output));
    }
    assert_eq!(sequences(&lines(&as_nobody(&["query", "--json"]).unwrap())), [1, 2]);
    for args in [&["append"][..], &["doctor", "--repair"]] {
        let output = as_nobody(args).unwrap();
        assert_eq!(
            (output.status.code(), output.stdout.len()),
            (Some(4), 0),
            "{args:?}: {}",
            complaint(&output)
        );
        assert!(complaint(&output).contains(world.journal().to_str().unwrap()), "{}", complaint(&output));
    }
    open(&world.path("j"), 0o755);
    open(&world.path("j/segments"), 0o755);
}

#[test]
fn a_newer_format_is_refused_by_version_and_never_changed() {
    let world = World::new();
    world.append(&[json!({"type": 1})]);
    let (path, mut bytes) = world.segments().remove(0);
    // The format version is at 80, the CRC over bytes 80..256 (with its own place zeroed) at 84.
    bytes[80..84].copy_from_slice(&2u32.to_le_bytes());
    bytes[84..88].fill(0);
    let crc = crc32(&bytes[80..256]);
    bytes[84..88].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&path, &bytes).unwrap();
    for args in [
        &["query"][..],
        &["append"],
        &["verify"],
        &["status"],
        &["doctor"],
        &["doctor", "--repair"],
        &["tail"],
    ] {
        let output = world.run(args, b"{\"type\":1}\n");
        assert_eq!(
            (output.status.code(), output.stdout.len()),
            (Some(4), 0),
            "{args:?}: {}",
            complaint(&output)
        );
        assert!(complaint(&output).contains("version 2"), "{args:?}: {}", complaint(&output));
    }
    assert!(world.segments() == [(path, bytes)], "it was changed");
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0u32, |crc, b| (0..8).fold(crc ^ u32::from(*b), step))
}

#[test]
fn closed_streams_are_no_disaster() {
    let world = World::new();
    let shell = |script: &str| {
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .env("SEMJ", env!("CARGO_BIN_EXE_semj"))
            .env("SEMJ_JOURNAL", world.journal());
        command.current_dir(world.root()).output().unwrap()
    };
    // No stdin at all is an empty one.
    let output = shell("\"$SEMJ\" append <&-");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0), "{}", complaint(&output));
    // Nowhere to answer: the events are taken all the same.
    let output = shell("echo '{\"type\":1}' | \"$SEMJ\" append >&-; echo $?");
    assert_eq!(world.one(&["query", "--count", "--json"]), json!({"count": 1}), "{}", complaint(&output));
    let output = shell("echo '{\"type\":1}' | \"$SEMJ\" append 2>&-");
    assert_eq!(lines(&output)[0]["sequence"], json!(2));
    for _ in 0..3 {
        world.append(&vec![json!({"type": 1, "intent": "x".repeat(300)}); 1_000]);
    }
    for command in ["query", "query --json", "tail -n 5000", "export --format jsonl", "tail -f -n 5000"] {
        let output = shell(&format!("{{ \"$SEMJ\" {command}; echo $? >&2; }} | head -1 >/dev/null"));
        assert_eq!(complaint(&output), "0\n", "{command}");
    }
    // A writer whose reader goes after the first answer commits the rest.
    let output = shell("yes '{\"type\":1}' | head -20000 | { \"$SEMJ\" append; echo $? >&2; } | head -1");
    assert_eq!(complaint(&output), "0\n");
    assert_eq!(world.one(&["query", "--count", "--json"]), json!({"count": 23_002}));
}

#[test]
fn an_interrupt_ends_with_130_and_keeps_what_was_taken() {
    let world = World::new();
    let mut talk = Talk::start(&world, &["append"]);
    let whole = 2_000;
    talk.say(&"{\"type\":1,\"agent\":\"a\"}\n".repeat(whole));
    talk.say("{\"type\":1,\"agent\":\"never ended");
    let mut acknowledged = vec![talk.hear()];
    interrupt(&talk.child);
    acknowledged.extend(talk.rest());
    assert_eq!(talk.child.wait().unwrap().code(), Some(130));
    let count = world.one(&["query", "--count", "--json"])["count"].as_u64().unwrap();
    // Everything taken was also answered: the end is an orderly one.
    assert_eq!(count, acknowledged.len() as u64);
    assert_eq!(sequences(&acknowledged), (1..=count).collect::<Vec<_>>());
    let report = world.one(&["verify", "--json"]);
    assert_eq!((&report["intact"], &report["torn_tail"]), (&json!(true), &Value::Null));
    // Reading commands end at once.
    let follower = Talk::start(&world, &["tail", "-f", "-n", "1", "--json"]);
    follower.hear();
    interrupt(&follower.child);
    assert_eq!(follower.end(), Some(130));
}

#[test]
fn an_interrupt_in_the_middle_of_a_flood_is_orderly_too() {
    let world = World::new();
    let mut child = world.spawn(&["append"]);
    let mut stdin = child.stdin.take().unwrap();
    let flood = std::thread::spawn(move || {
        let piece = "{\"type\":1,\"agent\":\"a\",\"intent\":\"flood\"}\n".repeat(500);
        while stdin.write_all(piece.as_bytes()).is_ok() {}
    });
    let mut stdout = child.stdout.take().unwrap();
    let mut told = vec![0; 10_000];
    stdout.read_exact(&mut told).unwrap();
    interrupt(&child);
    stdout.read_to_end(&mut told).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    flood.join().unwrap();
    let answers: Vec<Value> =
        String::from_utf8(told).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let count = world.one(&["query", "--count", "--json"])["count"].as_u64().unwrap();
    assert_eq!(sequences(&answers), (1..=count).collect::<Vec<_>>());
    until("the lock", || world.run(&["append"], b"").status.code() == Some(0));
}
