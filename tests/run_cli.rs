//! `semj run` end to end: what the tool's caller gets, and what the journal says the tool did.
//!
//! Tests that need a source with processes say so and end where this user has none.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::World;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

/// Set in a process that is the tool of a test: the folder it works in.
const TOOL_FOLDER: &str = "SEMJ_TEST_TOOL_FOLDER";
const FILES: usize = 10_000;

fn world() -> World {
    let world = World::new();
    fs::create_dir(world.path("w")).unwrap();
    world
}

/// `semj run` with these arguments in the folder `w`.
fn run(world: &World, args: &[&str]) -> Command {
    let mut command = world.command(&[&["run"], args].concat());
    command.current_dir(world.path("w"));
    command
}

fn events(world: &World, args: &[&str]) -> Vec<Value> {
    world.json(&[&["query", "--json"], args].concat())
}

/// The source that a journal's only call was observed with.
fn source_of(world: &World) -> String {
    let coverage = events(world, &["--name", "semj.coverage"]);
    coverage[0]["payload"]["semj.source"].as_str().unwrap().to_owned()
}

fn knows_processes(world: &World) -> bool {
    let source = source_of(world);
    let knows = ["ebpf", "seccomp", "fanotify"].contains(&source.as_str());
    if !knows {
        println!("skipped: this user has only {source} here, which tells no processes");
    }
    knows
}

/// Paths of observed effects on files, each with its type, and whether it is linked to a call.
fn effects(world: &World) -> Vec<(String, String, Option<u64>)> {
    let observed = events(world, &["--category", "filesystem", "--tag", "observed"]);
    let each = observed.iter().map(|e| {
        let strength = e["links"].as_array().map(|l| l[0]["strength"].as_u64().unwrap());
        (e["type"].as_str().unwrap().to_owned(), e["path"].as_str().unwrap_or("").to_owned(), strength)
    });
    each.collect()
}

#[test]
fn the_exit_code_is_the_tools() {
    let world = world();
    for (script, code) in [("true", 0), ("exit 3", 3), ("kill -9 $$", 137), ("kill -TERM $$", 143)] {
        assert_eq!(
            run(&world, &["-q", "--", "sh", "-c", script]).status().unwrap().code(),
            Some(code),
            "{script}"
        );
    }
    let missing = run(&world, &["--", "no-such-tool-anywhere"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(127));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("no-such-tool-anywhere"));
    let ends = events(&world, &["--type", "observability.trace_span_end"]);
    let codes: Vec<u64> = ends.iter().map(|e| e["payload"]["semj.exit_code"].as_u64().unwrap()).collect();
    assert_eq!(codes, [0, 3, 137, 143, 127]);
}

#[test]
fn stdin_and_stdout_are_the_tools_byte_for_byte() {
    let world = world();
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut command = run(&world, &["--", "cat"]);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let output = common::feed(child, &bytes);
    assert!(output.status.success());
    assert!(output.stdout == bytes, "{} bytes came back of {}", output.stdout.len(), bytes.len());
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("semj: exit 0"));
    let quiet = run(&world, &["-q", "--", "sh", "-c", "echo out; echo err >&2"]).output().unwrap();
    assert_eq!((quiet.stdout.as_slice(), quiet.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
}

#[test]
fn a_signal_to_semj_is_the_tools_to_answer() {
    for (signal, name, code) in [(Signal::TERM, "TERM", 7), (Signal::INT, "INT", 8), (Signal::HUP, "HUP", 9)]
    {
        let world = world();
        let script = format!("trap 'exit {code}' {name}; echo ready; while :; do sleep 0.02; done");
        let mut child =
            run(&world, &["-q", "--", "sh", "-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{name}");
        assert_eq!(events(&world, &["--tag", "outcome:error"]).len(), 1);
    }
}

/// `semj run -- cat`, and its stdout once the tool is known to run.
fn running_cat(world: &World) -> (Child, ChildStdout) {
    let mut command = run(world, &["-q", "--", "cat"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"up\n").unwrap();
    let (mut stdout, mut up) = (child.stdout.take().unwrap(), [0; 3]);
    stdout.read_exact(&mut up).unwrap();
    (child, stdout)
}

#[test]
fn a_journal_that_somebody_else_owns_is_told_before_the_tool_starts() {
    let world = world();
    let (mut owner, mut stdout) = running_cat(&world);
    let second = run(&world, &["--", "sh", "-c", "echo ran > ran"]).output().unwrap();
    assert_eq!(second.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&second.stderr).contains("one process owns"));
    assert!(!world.path("w/ran").exists());
    drop(owner.stdin.take());
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    assert!(owner.wait().unwrap().success());
}

#[test]
fn the_call_comes_first_and_is_there_even_if_semj_is_killed() {
    let world = world();
    let mut child = run(&world, &["--session", "s", "--", "sh", "-c", "echo up; sleep 20"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let calls = events(&world, &["--type", "agent.decision", "--session", "s"]);
    assert_eq!(calls[0]["sequence"], 1);
    assert_eq!(calls[0]["payload"]["gen_ai.tool.name"], "sh");
    assert_eq!(calls[0]["payload"]["gen_ai.tool.call.arguments"]["argv"][2], "echo up; sleep 20");
}

#[test]
fn every_effect_of_a_pipeline_is_linked_and_none_of_a_neighbour() {
    let (world, neighbour) = (world(), World::new());
    let folder = world.path("w");
    let script = |p: &str| {
        format!(
            "seq 1 40 | while read i; do echo $i > {p}$i; done; \
             sh -c 'mkdir -p {p}d/x; (echo y | tee {p}d/x/f | cat > {p}d/x/g); mv {p}d/x/f {p}moved; rm -r {p}d'; sleep 0.2"
        )
    };
    let mut other = neighbour.command(&["run", "-q", "--", "sh", "-c", &script("b")]);
    let mut other = other.current_dir(&folder).spawn().unwrap();
    let mut unseen = Command::new("sh").args(["-c", &script("c")]).current_dir(&folder).spawn().unwrap();
    let ran = run(&world, &["--", "sh", "-c", &script("a")]).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(other.wait().unwrap().success() && unseen.wait().unwrap().success());
    if !knows_processes(&world) {
        return;
    }
    for (journal, mine) in [(&world, 'a'), (&neighbour, 'b')] {
        let root = fs::canonicalize(&folder).unwrap();
        let mut own = BTreeSet::new();
        for (kind, path, strength) in effects(journal) {
            let Ok(path) = Path::new(&path).strip_prefix(&root) else { continue };
            let path = path.to_str().unwrap();
            assert_eq!(strength.is_some(), path.starts_with(mine), "{mine}: {kind} {path} {strength:?}");
            if let Some(strength) = strength {
                assert!(strength >= 95, "{path}: {strength}");
                own.insert(format!("{} {path}", kind.trim_start_matches("filesystem.")));
            }
        }
        let mut expected: BTreeSet<String> = (1..=40).map(|i| format!("create {mine}{i}")).collect();
        expected.extend((1..=40).map(|i| format!("write {mine}{i}")));
        for rest in [
            "mkdir d",
            "mkdir d/x",
            "create d/x/f",
            "create d/x/g",
            "write d/x/f",
            "write d/x/g",
            "rename d/x/f",
            "delete d/x/g",
            "rmdir d/x",
            "rmdir d",
        ] {
            let (kind, path) = rest.split_once(' ').unwrap();
            expected.insert(format!("{kind} {mine}{path}"));
        }
        assert_eq!(own, expected);
    }
}

#[test]
fn processes_begin_and_end_in_the_journal_and_orphans_are_told() {
    let world = world();
    let output =
        run(&world, &["--json", "--", "sh", "-c", "sh -c 'exit 5'; sleep 30 >/dev/null 2>&1 & echo $!"])
            .output()
            .unwrap();
    let orphan: u32 = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap();
    kill_process(Pid::from_raw(orphan as i32).unwrap(), Signal::KILL).unwrap();
    let report: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(report["orphans"][0]["pid"], orphan);
    assert_eq!(events(&world, &["--name", "semj.orphans"])[0]["payload"]["semj.pids"][0], orphan);
    let exits = events(&world, &["--name", "process.exit"]);
    let lineage = events(&world, &["--name", "semj.coverage"])[0]["payload"]["semj.lineage"].clone();
    if lineage != "process connector" {
        println!("skipped in part: exit codes and short lives are told by the process connector");
        return;
    }
    assert!(exits.iter().any(|e| e["payload"]["semj.exit_code"] == 5), "{exits:?}");
    let argv = events(&world, &["--name", "process.exec"]);
    assert!(argv.iter().all(|e| e["links"][0]["strength"].as_u64().unwrap() >= 95));
}

#[test]
fn what_others_change_is_told_as_theirs() {
    let world = world();
    let (mut child, _stdout) = running_cat(&world);
    fs::write(world.path("w/by-hand"), "x").unwrap();
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    if !knows_processes(&world) {
        return;
    }
    let external = events(&world, &["--tag", "external"]);
    assert!(
        external.iter().all(|e| e["links"].is_null() && e["path"].as_str().unwrap().ends_with("by-hand"))
    );
    assert!(!external.is_empty());
}

/// Sources that see only the tool's own processes.
const OWN_ONLY: [&str; 2] = ["ebpf", "seccomp"];

/// `semj run` with this source beside this witness, while the test changes files, too; nothing where there is no such source.
fn beside(source: &str, witness: &str) -> Option<World> {
    let world = world();
    fs::write(world.path("w/before"), "x").unwrap();
    let script = "echo up; read go; mkdir d; echo x > d/f; mv d/f d/g; chmod 600 d/g; rm d/g; rmdir d; \
                  echo y > mine; mkfifo pipe; ln -s mine link; (echo a; sh -c 'echo b') > shared";
    let args = ["--source", source, "--witness", witness, "--", "sh", "-ec", script];
    let mut command = run(&world, &args);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    if line.is_empty() {
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(2), "{said}");
        println!("skipped: {said}");
        return None;
    }
    fs::write(world.path("w/theirs"), "x").unwrap();
    fs::write(world.path("w/before"), "y").unwrap();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert!(child.wait().unwrap().success());
    fs::write(world.path("w/after"), "nobody looks any more").unwrap();
    Some(world)
}

#[test]
fn a_witness_tells_what_others_change_and_the_tools_own_effects_stay_told_once() {
    for (source, witness) in OWN_ONLY.into_iter().flat_map(|s| [(s, "fanotify"), (s, "inotify")]) {
        let Some(world) = beside(source, witness) else { continue };
        let coverage = &events(&world, &["--name", "semj.coverage"])[0]["payload"];
        if coverage["semj.witness"].is_null() {
            println!("skipped: no {witness} here: {}", coverage["semj.tried"]);
            continue;
        }
        assert_eq!(coverage["semj.witness"], witness);
        let root = fs::canonicalize(world.path("w")).unwrap();
        let (mut own, mut others) = (Vec::new(), BTreeSet::new());
        for event in events(&world, &["--category", "filesystem", "--tag", "observed"]) {
            let Ok(path) = Path::new(event["path"].as_str().unwrap()).strip_prefix(&root) else { continue };
            let kind = event["type"].as_str().unwrap().trim_start_matches("filesystem.");
            let what = format!("{kind} {}", path.display());
            if event["links"].is_null() {
                assert_eq!(event["source"], witness, "{what}");
                assert!(event["tags"].as_array().unwrap().contains(&Value::from("external")), "{event}");
                let known = event["pid"] == std::process::id();
                assert_eq!((known, event["payload"]["semj.strength"] == 95), (witness == "fanotify", known));
                others.insert(what);
            } else {
                assert_eq!(event["links"][0]["strength"], 100, "{what}");
                own.push(what);
            }
        }
        own.sort();
        let mut expected = vec![
            "mkdir d",
            "create d/f",
            "write d/f",
            "rename d/f",
            "chmod d/g",
            "delete d/g",
            "rmdir d",
            "create mine",
            "write mine",
            "create pipe",
            "symlink link",
            "create shared",
            "write shared",
        ];
        expected.sort_unstable();
        assert_eq!(own, expected, "{source} beside {witness}");
        let expected = ["create theirs", "write before", "write theirs"].map(str::to_owned);
        assert_eq!(others, BTreeSet::from(expected), "{source} beside {witness}");
        let ends = events(&world, &["--type", "observability.trace_span_end"]);
        assert_eq!(ends[0]["payload"]["semj.complete"], true);
    }
}

#[test]
fn without_a_witness_changes_by_others_are_not_told_and_the_journal_says_so() {
    for source in OWN_ONLY {
        let Some(world) = beside(source, "none") else { continue };
        let coverage = &events(&world, &["--name", "semj.coverage"])[0]["payload"];
        assert!(coverage["semj.witness"].is_null());
        assert!(coverage["semj.not_observed"].as_array().unwrap().contains(&"changes by others".into()));
        assert!(events(&world, &["--tag", "external"]).is_empty());
    }
}

/// Not a test by itself: the tool of the next one.
#[test]
fn tool_that_makes_moves_and_removes() {
    let Some(folder) = std::env::var_os(TOOL_FOLDER) else { return };
    let folder = Path::new(&folder);
    for i in 0..FILES {
        let (one, two) = (folder.join(format!("one{i}")), folder.join(format!("two{i}")));
        fs::write(&one, b"x").unwrap();
        fs::rename(&one, &two).unwrap();
        fs::remove_file(&two).unwrap();
    }
}

#[test]
fn ten_thousand_files_made_moved_and_removed_are_all_journaled() {
    let world = world();
    let folder = fs::canonicalize(world.path("w")).unwrap();
    let tool = std::env::current_exe().unwrap();
    let args = ["--json", "--", tool.to_str().unwrap(), "--exact", "tool_that_makes_moves_and_removes"];
    let output = run(&world, &args).env(TOOL_FOLDER, &folder).output().unwrap();
    assert!(output.status.success());
    let report: Value = serde_json::from_slice(&output.stderr).unwrap();
    if !knows_processes(&world) {
        return;
    }
    assert_eq!((&report["complete"], &report["gaps"]), (&Value::Bool(true), &Value::from(0)));
    for (kind, name) in [("create", "one"), ("write", "one"), ("rename", "one"), ("delete", "two")] {
        let kind = format!("filesystem.{kind}");
        let found: Vec<Value> = events(&world, &["--type", &kind, "--path", folder.to_str().unwrap()]);
        let paths: BTreeSet<&str> = found.iter().map(|e| e["path"].as_str().unwrap()).collect();
        let expected: Vec<String> = (0..FILES).map(|i| format!("{}/{name}{i}", folder.display())).collect();
        assert_eq!(found.len(), FILES, "{kind}");
        assert!(expected.iter().all(|e| paths.contains(e.as_str())), "{kind}");
        assert!(found.iter().all(|e| e["links"][0]["strength"].as_u64().unwrap() >= 95), "{kind}");
        if kind == "filesystem.rename" {
            assert!(found.iter().all(|e| e["payload"]["semj.target"].as_str().unwrap().contains("/two")));
        }
    }
}

/// `semj run` by somebody who may do nothing special; `None` where this process cannot become such a one.
fn by_an_ordinary_user(world: &World, args: &[&str]) -> Option<Output> {
    let binary = common::for_everybody(world)?;
    let mut command = Command::new(&binary);
    command.arg("run").args(args);
    command.args(["--", "sh", "-c", "echo x > mine; mkdir -p a/b; echo y > a/b/c"]);
    command.current_dir(world.path("w")).env("SEMJ_JOURNAL", world.journal()).uid(65_534).gid(65_534);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(output)
}

/// The strength of the link of the first effect on each of what the ordinary user's tool makes.
fn strengths(world: &World) -> Vec<u64> {
    let found = effects(world);
    let root = fs::canonicalize(world.path("w")).unwrap();
    let strength = |name: &str| {
        let of = found.iter().find(|(_, p, _)| Path::new(p) == root.join(name));
        let (_, _, strength) = of.unwrap_or_else(|| panic!("{name} is missing in {found:?}"));
        strength.unwrap_or_else(|| panic!("{name} is somebody else's in {found:?}"))
    };
    ["mine", "a", "a/b", "a/b/c"].map(strength).to_vec()
}

#[test]
fn an_ordinary_user_gets_the_best_rung_below_root_and_is_told() {
    let world = world();
    let Some(output) = by_an_ordinary_user(&world, &[]) else { return };
    let coverage = &events(&world, &["--name", "semj.coverage"])[0]["payload"];
    let tried = coverage["semj.tried"].as_array().unwrap();
    let refused = |name: &str| tried.iter().find(|t| t["source"] == name);
    assert!(!refused("ebpf").unwrap()["remedy"].as_str().unwrap().is_empty());
    if let Some(seccomp) = refused("seccomp") {
        println!("skipped: nobody can listen to calls here: {seccomp}");
        assert_eq!(coverage["semj.source"], "inotify");
        return;
    }
    assert!(String::from_utf8_lossy(&output.stderr).contains("seen by seccomp beside inotify"));
    assert_eq!((&coverage["semj.source"], &coverage["semj.witness"]), (&"seccomp".into(), &"inotify".into()));
    let fanotify = refused("fanotify as witness").unwrap();
    assert_eq!(fanotify["errno"], 1);
    assert!(fanotify["remedy"].as_str().unwrap().contains("setcap"));
    assert!(strengths(&world).iter().all(|s| *s == 100));
    assert!(events(&world, &["--tag", "external"]).is_empty());
    let ends = events(&world, &["--type", "observability.trace_span_end"]);
    assert_eq!(ends[0]["payload"]["semj.complete"], true);
}

#[test]
fn an_ordinary_user_can_have_the_lowest_rung_and_is_told_what_it_does_not_see() {
    let world = world();
    let Some(output) = by_an_ordinary_user(&world, &["--source", "inotify"]) else { return };
    assert!(String::from_utf8_lossy(&output.stderr).contains("seen by inotify"));
    let coverage = &events(&world, &["--name", "semj.coverage"])[0]["payload"];
    assert_eq!(coverage["semj.source"], "inotify");
    assert!(coverage["semj.not_observed"].to_string().contains("which process did it"));
    assert!(strengths(&world).iter().all(|s| (30..=50).contains(s)));
}

#[test]
fn nothing_is_watched_when_that_is_wanted_and_the_journal_says_so() {
    let world = world();
    let output = run(&world, &["--source", "none", "--", "sh", "-c", "echo x > f"]).output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("not complete"));
    assert_eq!(source_of(&world), "none");
    assert_eq!(effects(&world), []);
}

#[test]
fn what_was_said_and_what_was_done_are_compared() {
    let world = world();
    let script = "echo x > said; . ./hidden.sh";
    fs::write(world.path("w/hidden.sh"), "echo y > secret").unwrap();
    let compare = || world.command(&["said-vs-did", "--json", "s"]).output().unwrap();
    assert_eq!(compare().status.code(), Some(4), "there is no journal yet");
    assert!(run(&world, &["-q", "--session", "s", "--", "sh", "-c", script]).status().unwrap().success());
    let lines = |output: &Output| -> Vec<Value> {
        output.stdout.split(|b| *b == b'\n').filter_map(|l| serde_json::from_slice(l).ok()).collect()
    };
    let output = compare();
    let found = lines(&output);
    assert_eq!(output.status.code(), Some(1), "{found:?}");
    assert_eq!((&found[0]["finding"], found.len()), (&Value::from("not_said"), 2), "{found:?}");
    let secret = fs::canonicalize(world.path("w/secret")).unwrap();
    assert_eq!(found[0]["path"], secret.to_str().unwrap());
    let call = events(&world, &["--type", "agent.decision"])[0]["id"].as_str().unwrap().to_owned();
    let claim = |path: &str| {
        let event = serde_json::json!({ "type": "filesystem.write", "agent": "a", "session": "s", "path": path, "parent": call });
        assert!(world.run(&["append"], format!("{event}\n").as_bytes()).status.success());
    };
    claim(secret.to_str().unwrap());
    let output = compare();
    assert_eq!(output.status.code(), Some(0), "{:?}", lines(&output));
    claim("never");
    let output = compare();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        (&lines(&output)[0]["finding"], &lines(&output)[0]["path"]),
        (&"not_seen".into(), &"never".into())
    );
    assert_eq!(world.command(&["said-vs-did", "nobody"]).output().unwrap().status.code(), Some(1));
}

#[test]
fn a_named_folder_covers_what_is_below_it_and_that_is_said() {
    let world = world();
    fs::create_dir_all(world.path("w/from/deep")).unwrap();
    fs::write(world.path("w/from/deep/f"), "x").unwrap();
    fs::write(world.path("w/hidden.sh"), "mkdir out; echo y > out/f").unwrap();
    for args in [&["cp", "-r", "from", "to"][..], &["sh", "-c", ". ./hidden.sh"]] {
        let all = [&["-q", "--session", "s", "--"], args].concat();
        assert!(run(&world, &all).status().unwrap().success());
    }
    let compared = || {
        let output = world.command(&["said-vs-did", "--json", "s"]).output().unwrap();
        let lines = output.stdout.split(|b| *b == b'\n').filter_map(|l| serde_json::from_slice(l).ok());
        (output.status.code(), lines.collect::<Vec<Value>>())
    };
    let paths = |found: &[Value], kind: &str| -> Vec<(String, u64)> {
        let of_kind = found.iter().filter(|f| f["finding"] == kind);
        let each = of_kind.map(|f| (f["path"].as_str().unwrap().to_owned(), f["paths"].as_u64().unwrap()));
        each.collect()
    };
    let at = |name: &str| fs::canonicalize(world.path("w")).unwrap().join(name).to_str().unwrap().to_owned();
    let claim = |kind: &str, path: &str| {
        let event = serde_json::json!({ "type": kind, "agent": "a", "session": "s", "path": at(path) });
        assert!(world.run(&["append"], format!("{event}\n").as_bytes()).status.success());
    };
    let (code, found) = compared();
    assert_eq!(code, Some(1));
    assert_eq!(paths(&found, "covered"), [(at("to"), 2)], "{found:?}");
    assert_eq!(paths(&found, "not_said"), [(at("out"), 1), (at("out/f"), 1)]);
    assert_eq!(found.last().unwrap()["covered"], 2);
    // That something was written at a path says nothing of what is below it.
    claim("filesystem.write", "out");
    assert_eq!(paths(&compared().1, "not_said"), [(at("out/f"), 1)]);
    claim("filesystem.mkdir", "out");
    let (code, found) = compared();
    assert_eq!((code, paths(&found, "not_said")), (Some(0), vec![]));
    assert_eq!(paths(&found, "covered"), [(at("out"), 1), (at("to"), 2)]);
    let text = world.run(&["said-vs-did", "s"], b"").stdout;
    assert!(String::from_utf8_lossy(&text).contains("covered by a named folder"));
}

#[test]
fn the_sources_of_this_machine_are_told_with_what_each_needs() {
    let world = world();
    let lines = world.json(&["kernel", "sources", "--json"]);
    let names: Vec<&str> = lines.iter().map(|l| l["source"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["ebpf", "seccomp", "fanotify", "inotify", "process connector", "/proc snapshots", "semj_tail"]
    );
    for line in &lines {
        assert_eq!(line["available"].as_bool().unwrap(), line["need"].is_null(), "{line}");
        assert_eq!(line["available"].as_bool().unwrap(), line["remedy"].is_null(), "{line}");
    }
    assert!(lines[3]["available"].as_bool().unwrap());
}
