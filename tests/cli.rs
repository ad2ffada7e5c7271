//! The command line as programs and people use it: through the real binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// A folder of its own, with a journal in it.
struct World(tempfile::TempDir);

impl World {
    fn new() -> Self {
        World(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_semj"));
        command
            .args(args)
            .current_dir(self.0.path())
            .env("SEMJ_JOURNAL", self.path("j"))
            .env_remove("NO_COLOR");
        command
    }

    fn run(&self, args: &[&str], input: &str) -> Output {
        let mut child = self.spawn(args);
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_owned();
        // A command that reads nothing closes its end; that is its right.
        let feed = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
        let output = child.wait_with_output().unwrap();
        feed.join().unwrap();
        output
    }

    fn spawn(&self, args: &[&str]) -> Child {
        let piped = || Stdio::piped();
        self.command(args).stdin(piped()).stdout(piped()).stderr(piped()).spawn().unwrap()
    }

    /// The JSON lines that a command prints; it must succeed.
    fn json(&self, args: &[&str]) -> Vec<Value> {
        let output = self.run(args, "");
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        lines(&output)
    }

    /// Appends some events, all of which must be taken.
    fn filled(events: &[Value]) -> Self {
        let world = World::new();
        let input: String = events.iter().map(|e| format!("{e}\n")).collect();
        let output = world.run(&["append"], &input);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        world
    }
}

fn lines(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
}

fn some_events() -> Vec<Value> {
    vec![
        json!({"type": "agent.query", "agent": "user", "intent": "fix the bug"}),
        json!({"type": "agent.decision", "agent": "planner", "intent": "read it", "parent": 1, "tags": ["tool:bash"]}),
        json!({"type": "filesystem.read", "agent": "coder", "path": "/src/a.rs", "parent": 2,
            "links": [{"cause": 1, "kind": "informed_by", "strength": 80}], "time": "2026-01-01T00:00:00Z"}),
        json!({"type": 1793, "stream": "foreign", "priority": 9, "payload": {"Deep": ["a", {"x": "NeeDLe"}]}}),
    ]
}

/// A running `append` that is talked to line by line.
struct Talk {
    child: Child,
    stdin: Option<ChildStdin>,
    answers: Receiver<Value>,
}

impl Talk {
    fn start(world: &World, args: &[&str]) -> Self {
        let mut child = world.spawn(args);
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (to, answers) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if to.send(serde_json::from_str(&line).unwrap()).is_err() {
                    return;
                }
            }
        });
        Talk { child, stdin, answers }
    }

    fn say(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()).unwrap();
    }

    fn hear(&self) -> Value {
        self.answers.recv_timeout(Duration::from_secs(10)).expect("an answer within ten seconds")
    }

    fn end(mut self) -> Option<i32> {
        drop(self.stdin.take());
        self.child.wait().unwrap().code()
    }
}

fn interrupt(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
}

#[test]
fn append_answers_each_line_before_the_next_is_sent() {
    let world = World::new();
    let mut talk = Talk::start(&world, &["append"]);
    for n in 1..=20u64 {
        talk.say(&format!("{{\"type\":\"agent.decision\",\"expect\":{}}}\n", n - 1));
        let answer = talk.hear();
        assert_eq!((&answer["line"], &answer["sequence"]), (&json!(n), &json!(n)), "{answer}");
        // True the moment it is said.
        if n % 10 == 0 {
            assert_eq!(world.json(&["query", "--count", "--json"]), [json!({"count": n})]);
        }
    }
    assert_eq!(talk.end(), Some(0));
}

#[test]
fn append_refuses_single_lines_and_goes_on() {
    let world = World::new();
    let id = "00000000-0000-0000-0000-000000000001";
    let long = " ".repeat((8 << 20) + 1);
    let input = format!(
        "{{\"type\":\"agent.query\",\"id\":\"{id}\"}}\n\n{{\"type\":\"agent.query\",\"colour\":1}}\n   \nnope\n{long}\n\
         {{\"type\":\"agent.query\",\"id\":\"{id}\"}}\n{{\"type\":\"agent.decision\",\"id\":\"{id}\"}}\n\
         [{{\"type\":\"agent.query\"}},{{\"type\":\"agent.query\"}}]\n[{{\"type\":\"agent.query\"}},{{\"type\":0.5}}]\n\
         {{\"type\":\"agent.query\",\"expect\":77}}\n{{\"type\":\"agent.query\",\"agent\":\"last\"}}"
    );
    let output = world.run(&["append"], &input);
    assert_eq!(output.status.code(), Some(3));
    let answers = lines(&output);
    let brief: Vec<_> =
        answers.iter().map(|a| (a["line"].as_u64().unwrap(), a["error"]["kind"].as_str())).collect();
    let expected = [
        (1, None),
        (3, Some("unknown_key")),
        (5, Some("syntax")),
        (6, Some("limit")),
        (7, None),
        (8, Some("conflict")),
        (9, None),
        (10, Some("bad_value")),
        (11, Some("position")),
        (12, None),
    ];
    assert_eq!(brief, expected);
    assert_eq!(answers[0], json!({"line": 1, "sequence": 1, "id": id}));
    assert_eq!(answers[1]["error"]["key"], json!("colour"));
    assert_eq!(answers[4], json!({"line": 7, "sequence": 1, "id": id, "duplicate": true}));
    assert_eq!(answers[6]["sequences"], json!([2, 3]));
    assert_eq!(answers[9]["sequence"], json!(4));
}

#[test]
fn strict_stops_at_the_first_refusal_and_keeps_what_came_before() {
    let world = World::new();
    let output = world.run(&["append", "--strict"], "{\"type\":1}\n{\"type\":-1}\n{\"type\":1}\n");
    assert_eq!((output.status.code(), lines(&output).len()), (Some(3), 2));
    assert_eq!(world.json(&["query", "--count", "--json"]), [json!({"count": 1})]);
}

#[test]
fn append_takes_a_fast_producer_in_groups() {
    let world = World::new();
    let input = "{\"type\":\"agent.decision\",\"agent\":\"a\"}\n".repeat(5_000);
    std::fs::write(world.path("in.jsonl"), input).unwrap();
    let begin = Instant::now();
    let answers = world.json(&["append", "in.jsonl"]);
    assert!(answers.iter().zip(1u64..).all(|(a, n)| a["line"] == json!(n) && a["sequence"] == json!(n)));
    assert_eq!(answers.len(), 5_000);
    assert!(
        begin.elapsed() < Duration::from_secs(20),
        "{:?}: one sync for each would take longer",
        begin.elapsed()
    );
}

#[test]
fn an_interrupted_append_has_committed_what_it_took() {
    let world = World::new();
    let mut talk = Talk::start(&world, &["append"]);
    talk.say("{\"type\":1}\n{\"type\":1}\n{\"type\":1");
    talk.hear();
    talk.hear();
    interrupt(&talk.child);
    assert_eq!(talk.child.wait().unwrap().code(), Some(130));
    assert_eq!(world.json(&["query", "--count", "--json"]), [json!({"count": 2})]);
}

#[test]
fn append_goes_on_when_nobody_reads_the_answers() {
    let world = World::new();
    let mut child = world.spawn(&["append"]);
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    for _ in 0..3 {
        stdin.write_all(b"{\"type\":1}\n").unwrap();
        std::thread::sleep(Duration::from_millis(30));
    }
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(world.json(&["query", "--count", "--json"]), [json!({"count": 3})]);
}

#[test]
fn filters_select() {
    let world = World::filled(&some_events());
    let found = |args: &[&str]| -> Vec<u64> {
        let all = [&["query", "--json"], args].concat();
        world.json(&all).iter().map(|e| e["sequence"].as_u64().unwrap()).collect()
    };
    assert_eq!(found(&[]), [1, 2, 3, 4]);
    assert_eq!(found(&["--reverse", "--limit", "2"]), [4, 3]);
    assert_eq!(found(&["--type", "agent.query", "--type", "filesystem.read"]), [1, 3]);
    assert_eq!(found(&["--category", "agent", "--agent", "planner"]), [2]);
    assert_eq!(found(&["--stream", "foreign"]), [4]);
    assert_eq!(found(&["--path", "/src/"]), [3]);
    assert_eq!(found(&["--tag", "tool:bash"]), [2]);
    assert_eq!(found(&["--priority", "9"]), [4]);
    assert_eq!(found(&["--after", "1", "--before", "4"]), [2, 3]);
    assert_eq!(found(&["--until", "2026-01-01T00:00:01Z"]), [3]);
    assert_eq!(found(&["--since", "2026-01-01T00:00:00Z", "--until", "2026-01-01T00:00:01Z"]), [3]);
    assert_eq!(found(&["--since", "1h"]), [1, 2, 4]);
    let none = world.run(&["query", "--agent", "nobody", "--fail-empty"], "");
    assert_eq!((none.status.code(), none.stdout.len(), none.stderr.len()), (Some(1), 0, 0));
}

#[test]
fn one_event_its_causes_and_its_consequences() {
    let world = World::filled(&some_events());
    let event = &world.json(&["--json", "show", "3"])[0];
    assert_eq!(
        (&event["sequence"], &event["code"], &event["parent_sequence"]),
        (&json!(3), &json!(0x0103), &json!(2))
    );
    let id = event["id"].as_str().unwrap();
    assert_eq!(&world.json(&["show", "--json", id])[0], event);
    assert_eq!(world.run(&["show", "5"], "").status.code(), Some(1));
    assert_eq!(world.run(&["show", "00000000-0000-0000-0000-000000000009"], "").status.code(), Some(1));
    let why = world.json(&["why", "3", "--json"]);
    assert_eq!(&why[0], event);
    let mut edges: Vec<_> =
        why[1..].iter().map(|e| (&e["cause_sequence"], &e["effect_sequence"], &e["kind"])).collect();
    edges.sort_by_key(|e| format!("{e:?}"));
    let (one, two, three) = (json!(1), json!(2), json!(3));
    let (parent, informed) = (json!("parent"), json!("informed_by"));
    assert_eq!(edges, [(&one, &two, &parent), (&one, &three, &informed), (&two, &three, &parent)]);
    let tree = String::from_utf8(world.run(&["impact", "1"], "").stdout).unwrap();
    assert!(tree.starts_with("#1 user agent.query  fix the bug\n") && tree.contains("└─ "), "{tree}");
}

#[test]
fn an_export_is_input_for_any_journal() {
    let world = World::filled(&some_events());
    let export = world.run(&["export", "--format", "jsonl"], "");
    let text = String::from_utf8(export.stdout).unwrap();
    let copied = world.run(&["append", "-j", "copy"], &text);
    assert_eq!((copied.status.code(), lines(&copied).len()), (Some(0), 4), "{copied:?}");
    let again = world.run(&["append", "-j", "copy"], &text);
    assert!(lines(&again).iter().all(|a| a["duplicate"] == json!(true)), "{again:?}");
    let strip = |events: Vec<Value>| -> Vec<Value> {
        events
            .into_iter()
            .map(|mut e| {
                for key in ["recorded", "boot_ns", "boot_id"] {
                    e.as_object_mut().unwrap().remove(key);
                }
                e
            })
            .collect()
    };
    assert_eq!(
        strip(world.json(&["query", "--json", "-j", "copy"])),
        strip(world.json(&["query", "--json"]))
    );
}

#[test]
fn tail_shows_the_newest_and_follows() {
    let world = World::filled(&some_events());
    let newest = world.json(&["tail", "-n", "2", "--json"]);
    assert_eq!(newest.iter().map(|e| &e["sequence"]).collect::<Vec<_>>(), [&json!(3), &json!(4)]);
    let follower = Talk::start(&world, &["tail", "-f", "-n", "0", "--json", "--agent", "late"]);
    std::thread::sleep(Duration::from_millis(100));
    world.run(&["append"], "{\"type\":1,\"agent\":\"early\"}\n{\"type\":1,\"agent\":\"late\"}\n");
    assert_eq!(follower.hear()["agent"], json!("late"));
    interrupt(&follower.child);
    assert_eq!(follower.end(), Some(130));
}

#[test]
fn tail_ends_when_its_reader_goes() {
    let world = World::filled(&some_events());
    let mut child = world.spawn(&["tail", "-f"]);
    drop(child.stdout.take());
    let begin = Instant::now();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn status_and_verify_have_their_keys() {
    let world = World::filled(&some_events());
    let status = &world.json(&["status", "--json"])[0];
    for key in ["bytes", "segments", "state", "owner", "indexed_sequence"] {
        assert!(status.get(key).is_some(), "{key}: {status}");
    }
    assert_eq!(
        (&status["events"], &status["first_sequence"], &status["durable_sequence"]),
        (&json!(4), &json!(1), &json!(4))
    );
    assert_eq!(status["state"], json!("idle"));
    let report = &world.json(&["--json", "verify"])[0];
    assert_eq!(
        (&report["intact"], &report["events"], &report["damage"]),
        (&json!(true), &json!(4), &json!([]))
    );
    assert_eq!(report["head"]["sequence"], json!(4));
    assert_eq!(report["head"]["sha256"].as_str().map(str::len), Some(64));
    assert_eq!(report["torn_tail"], Value::Null);
    assert!(report["trees"].is_string());
    let doctor = world.run(&["doctor"], "");
    assert_eq!(doctor.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("4 events are intact"));
}

#[test]
fn human_output_never_acts_on_the_terminal() {
    let evil = "\u{1B}]52;c;QQ==\u{7}\u{9B}2J\u{202E}abc\r\nx";
    let world = World::filled(&[
        json!({"type": "agent.query", "agent": evil, "intent": evil, "path": evil, "payload": {evil: evil}}),
        json!({"type": "agent.query", "parent": 1, "payload": evil, "links": [{"cause": 1, "kind": evil}]}),
    ]);
    for args in
        [&["query"][..], &["tail"], &["show", "1"], &["show", "2"], &["why", "2"], &["query", "--json"]]
    {
        let output = world.run(args, "");
        assert_eq!(output.status.code(), Some(0));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            !text.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202E}'),
            "{args:?}: {text:?}"
        );
    }
    assert_eq!(world.json(&["query", "--json"])[0]["intent"], json!(evil));
}

#[test]
fn a_missing_journal_is_told_with_advice_and_not_created() {
    let world = World::new();
    for args in [
        &["query"][..],
        &["status"],
        &["verify"],
        &["doctor"],
        &["tail"],
        &["show", "1"],
        &["export", "--format", "jsonl"],
    ] {
        let output = world.run(args, "");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(4), "{args:?}");
        assert!(text.contains(world.path("j").to_str().unwrap()) && text.contains("SEMJ_JOURNAL"), "{text}");
    }
    assert!(!world.path("j").exists());
    assert_eq!(world.run(&["append", "missing.jsonl"], "").status.code(), Some(2));
    assert!(!world.path("j").exists());
}

#[test]
fn a_second_writer_is_refused_and_readers_are_not() {
    let world = World::filled(&some_events());
    let mut owner = Talk::start(&world, &["append"]);
    owner.say("{\"type\":1}\n");
    owner.hear();
    let second = world.run(&["append"], "{\"type\":1}\n");
    assert_eq!(second.status.code(), Some(4), "{second:?}");
    assert_eq!(world.json(&["query", "--count", "--json"]), [json!({"count": 5})]);
    assert_eq!(owner.end(), Some(0));
    let waited = world.run(&["append", "--wait", "10s"], "{\"type\":1}\n");
    assert_eq!(waited.status.code(), Some(0));
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let many: Vec<Value> =
        (0..3_000).map(|n| json!({"type": "agent.query", "intent": format!("question {n}")})).collect();
    let world = World::filled(&many);
    let mut child = world.spawn(&["query"]);
    let mut some = [0u8; 100];
    child.stdout.take().unwrap().read_exact(&mut some).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{output:?}");
}

#[test]
fn a_full_output_is_no_success() {
    if !Path::new("/dev/full").exists() {
        return;
    }
    let world = World::filled(&some_events());
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    assert_eq!(world.command(&["query"]).stdout(full).status().unwrap().code(), Some(4));
}

#[test]
fn help_shows_examples_and_completions_complete() {
    let world = World::new();
    for command in [
        "append",
        "query",
        "export",
        "show",
        "why",
        "impact",
        "tail",
        "status",
        "verify",
        "doctor",
        "import",
        "bench",
        "completions",
    ] {
        let help = world.run(&[command, "--help"], "");
        assert_eq!(help.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&help.stdout).contains("Example"), "{command}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(world.run(&["completions", shell], "").stdout.len() > 1_000);
    }
}

#[test]
fn our_own_lines_are_imported_file_by_file() {
    let world = World::new();
    std::fs::create_dir(world.path("logs")).unwrap();
    std::fs::write(
        world.path("logs/a.jsonl"),
        "{\"type\":\"agent.query\",\"id\":\"00000000-0000-0000-0000-000000000001\"}\nbroken\n",
    )
    .unwrap();
    std::fs::write(world.path("logs/notes.txt"), "no events at all\n").unwrap();
    for duplicates in [0, 1] {
        let told = world.json(&["import", "--json", "logs"]);
        assert_eq!(told.len(), 1);
        let (told, keys) =
            (&told[0], ["file", "format", "session", "records", "events", "duplicates", "losses"]);
        assert!(keys.iter().all(|k| told.get(k).is_some()), "{told}");
        assert_eq!(
            (&told["format"], &told["session"], &told["events"]),
            (&json!("jsonl"), &json!("a"), &json!(1))
        );
        assert_eq!((&told["duplicates"], &told["losses"][0]["line"]), (&json!(duplicates), &json!(2)));
    }
    assert_eq!(world.run(&["import", "logs/notes.txt"], "").status.code(), Some(3));
    assert_eq!(world.run(&["import", "nowhere"], "").status.code(), Some(2));
}
