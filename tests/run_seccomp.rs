//! `semj run --source seccomp`: a tool whose calls wait until they have been looked at, and what becomes of it when nobody
//! looks any more.
//!
//! Where this machine lets nobody listen, each test says why and ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::{PATIENCE, World};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Instant;

/// Set in a process that is the tool of a test: the folder it works in.
const TOOL_FOLDER: &str = "SEMJ_TEST_TOOL_FOLDER";
const FILES: usize = 10_000;
const THREADS: usize = 8;
const NAMES: usize = 150;

/// A folder `w` beside a journal; `None`, with the reason said, where there is no listening.
fn world() -> Option<World> {
    let world = World::new();
    fs::create_dir(world.path("w")).unwrap();
    let sources = world.json(&["kernel", "sources", "--json"]);
    let seccomp = sources.iter().find(|s| s["source"] == "seccomp").unwrap();
    if seccomp["available"] == true {
        return Some(world);
    }
    println!("skipped: nobody can listen to calls here: {} {}", seccomp["need"], seccomp["remedy"]);
    None
}

fn run(world: &World, args: &[&str]) -> Command {
    let mut command = world.command(&[&["run", "--source", "seccomp", "--witness", "none"], args].concat());
    command.current_dir(world.path("w"));
    command
}

fn sh(world: &World, script: &str) -> std::process::Output {
    run(world, &["--json", "--", "sh", "-c", script]).output().unwrap()
}

fn events(world: &World, args: &[&str]) -> Vec<Value> {
    world.json(&[&["query", "--json"], args].concat())
}

/// "kind path" of each effect within the world's folder, in the order of the journal; each linked as strongly as can be.
fn effects(world: &World) -> Vec<String> {
    let root = fs::canonicalize(world.path("w")).unwrap();
    let mut told = Vec::new();
    for event in events(world, &["--category", "filesystem", "--tag", "observed"]) {
        let Ok(path) = Path::new(event["path"].as_str().unwrap()).strip_prefix(&root) else { continue };
        assert_eq!(event["links"][0]["strength"], 100, "{event}");
        assert_ne!(event["payload"]["semj.phase"], "intent", "{event}");
        let kind = event["type"].as_str().unwrap().trim_start_matches("filesystem.").to_owned();
        told.push(format!("{kind} {}", path.display()));
    }
    told
}

/// A write is told when somebody has looked, which may be after a call of another process.
fn sorted(mut effects: Vec<String>) -> Vec<String> {
    effects.sort();
    effects
}

/// This test binary as a tool: runs the test of that name in the world's folder.
fn tool(world: &World, args: &[&str], test: &str) -> Command {
    let exe = std::env::current_exe().unwrap();
    let mut command = run(world, &[args, &["--", exe.to_str().unwrap(), "--exact", test]].concat());
    command.env(TOOL_FOLDER, fs::canonicalize(world.path("w")).unwrap());
    command
}

fn tool_folder() -> Option<PathBuf> {
    std::env::var_os(TOOL_FOLDER).map(PathBuf::from)
}

/// Looks again and again, since nothing tells when another process is done.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "{what} did not come about");
        std::thread::yield_now();
    }
}

#[test]
fn what_each_call_did_is_told_in_the_order_of_the_calls() {
    let Some(world) = world() else { return };
    fs::write(world.path("w/old"), "12345").unwrap();
    let script = "mkdir d; echo x > d/a; echo y >> d/a; mv d/a d/b; ln d/b c; ln -s nowhere l; chmod 600 c; : > old; \
                  rm c; rm d/b; rmdir d; mkfifo p; echo 2 > old; truncate -s 9 old; truncate -s 9 old";
    let output = sh(&world, script);
    assert!(output.status.success());
    let expected = "mkdir d|create d/a|write d/a|write d/a|rename d/a|hardlink c|symlink l|chmod c|truncate old|\
                    delete c|delete d/b|rmdir d|create p|write old|truncate old";
    assert_eq!(effects(&world).join("|"), expected);
    let named = |kind: &str| events(&world, &["--type", kind]).remove(0);
    let root = fs::canonicalize(world.path("w")).unwrap();
    let within = |name: &str| Value::from(root.join(name).to_str().unwrap());
    assert_eq!(named("filesystem.rename")["payload"]["semj.target"], within("d/b"));
    assert_eq!(named("filesystem.hardlink")["payload"]["semj.target"], within("d/b"));
    assert_eq!(named("filesystem.symlink")["payload"]["semj.target"], "nowhere");
    let report: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!((&report["complete"], &report["source"]), (&true.into(), &"seccomp".into()));
}

#[test]
fn a_call_that_fails_is_no_effect() {
    let Some(world) = world() else { return };
    fs::create_dir_all(world.path("w/full/inner")).unwrap();
    fs::write(world.path("w/file"), "x").unwrap();
    let script = "mkdir full; rmdir full; rm missing; rm -d full; mkdir file/x; ln file full/inner/no/l; mv missing full; \
                  ln -s x file; echo x > full; echo x > no/file; chmod 600 missing; set -C; echo x > file; echo end > last";
    assert!(sh(&world, script).status.success());
    assert_eq!(effects(&world), ["create last", "write last"]);
}

#[test]
fn every_effect_of_a_pipeline_is_linked_and_none_of_a_neighbour() {
    let Some(world) = world() else { return };
    let neighbour = World::new();
    let folder = world.path("w");
    let script = |p: &str| {
        format!(
            "seq 1 40 | while read i; do echo $i > {p}$i; done; \
             sh -c 'mkdir -p {p}d/x; (echo y | tee {p}d/x/f | cat > {p}d/x/g); mv {p}d/x/f {p}moved; rm -r {p}d'"
        )
    };
    let mut other = neighbour.command(&["run", "-q", "--", "sh", "-c", &script("b")]);
    let mut other = other.current_dir(&folder).spawn().unwrap();
    let mut unseen = Command::new("sh").args(["-c", &script("c")]).current_dir(&folder).spawn().unwrap();
    assert!(sh(&world, &script("a")).status.success());
    assert!(other.wait().unwrap().success() && unseen.wait().unwrap().success());
    let mut expected: Vec<String> =
        (1..=40).flat_map(|i| [format!("create a{i}"), format!("write a{i}")]).collect();
    for rest in "mkdir ad|mkdir ad/x|create ad/x/f|create ad/x/g|write ad/x/f|write ad/x/g|rename ad/x/f|delete ad/x/g|\
                 rmdir ad/x|rmdir ad"
        .split('|')
    {
        expected.push(rest.to_owned());
    }
    assert_eq!(sorted(effects(&world)), sorted(expected));
}

/// Not a test by itself: the tool of the next one.
#[test]
fn tool_that_makes_moves_and_removes() {
    let Some(folder) = tool_folder() else { return };
    for i in 0..FILES {
        let (one, two) = (folder.join(format!("one{i}")), folder.join(format!("two{i}")));
        fs::write(&one, b"x").unwrap();
        fs::rename(&one, &two).unwrap();
        fs::remove_file(&two).unwrap();
    }
}

#[test]
fn ten_thousand_files_made_moved_and_removed_each_come_out_right() {
    let Some(world) = world() else { return };
    let output = tool(&world, &["--json"], "tool_that_makes_moves_and_removes").output().unwrap();
    assert!(output.status.success());
    let report: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!((&report["complete"], &report["gaps"]), (&true.into(), &0.into()));
    let told = effects(&world);
    let expected = (0..FILES).flat_map(|i| {
        let kinds = ["create one", "write one", "rename one", "delete two"];
        kinds.map(|kind| format!("{kind}{i}"))
    });
    assert!(told.iter().eq(expected.collect::<Vec<_>>().iter()), "{} effects", told.len());
}

/// Not a test by itself: the tool of the next one. Each name is made and removed by many threads at once.
#[test]
fn tool_whose_threads_want_the_same_names() {
    let Some(folder) = tool_folder() else { return };
    let (made, removed) = (std::sync::atomic::AtomicUsize::new(0), std::sync::atomic::AtomicUsize::new(0));
    let start = std::sync::Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for i in 0..NAMES {
                    let name = folder.join(format!("n{i}"));
                    start.wait();
                    let one = usize::from(fs::create_dir(&name).is_ok());
                    made.fetch_add(one, std::sync::atomic::Ordering::SeqCst);
                    start.wait();
                    let one = usize::from(fs::remove_dir(&name).is_ok());
                    removed.fetch_add(one, std::sync::atomic::Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!((made.into_inner(), removed.into_inner()), (NAMES, NAMES));
}

#[test]
fn of_threads_that_want_the_same_name_one_has_the_effect() {
    let Some(world) = world() else { return };
    let output = tool(&world, &["--json"], "tool_whose_threads_want_the_same_names").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let expected: Vec<String> =
        (0..NAMES).flat_map(|i| [format!("mkdir n{i}"), format!("rmdir n{i}")]).collect();
    assert_eq!(effects(&world), expected);
    let made = events(&world, &["--type", "filesystem.mkdir"]);
    let threads: BTreeSet<u64> = made.iter().map(|e| e["payload"]["semj.thread"].as_u64().unwrap()).collect();
    let process: BTreeSet<u64> = made.iter().map(|e| e["pid"].as_u64().unwrap()).collect();
    assert_eq!(process.len(), 1);
    assert!(!threads.contains(process.first().unwrap()), "threads of their own: {threads:?}");
}

#[test]
fn codes_signals_and_bytes_are_the_tools() {
    let Some(world) = world() else { return };
    for (script, code) in [("true", 0), ("exit 3", 3), ("kill -9 $$", 137), ("kill -TERM $$", 143)] {
        assert_eq!(sh(&world, script).status.code(), Some(code), "{script}");
    }
    let missing = run(&world, &["-q", "--", "no-such-tool-anywhere"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(127));
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut command = run(&world, &["-q", "--", "cat"]);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let output = common::feed(child, &bytes);
    assert!(output.status.success() && output.stdout == bytes && output.stderr.is_empty());
    let script = "trap 'echo x > answered; exit 7' TERM; echo ready; while :; do sleep 0.02; done";
    let mut child = run(&world, &["-q", "--", "sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(7));
    assert_eq!(effects(&world), ["create answered", "write answered"]);
}

/// Processes of this machine that keep a listener.
fn keepers() -> BTreeSet<u32> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let keeps = |entry: &fs::DirEntry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("__keep-answering")
    };
    all.filter(keeps).filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

/// Where in the tool's work its watcher is killed: in each round somewhere else, for a call may be in hand or not.
const KILLS: usize = 12;

#[test]
fn a_tool_goes_on_rightly_whenever_semj_is_killed() {
    for round in 0..KILLS {
        let Some(world) = world() else { return };
        let script = "i=0; while [ $i -lt 60 ]; do echo $i > f$i && : >> f$i && mv -n f$i g$i && rm g$i || exit 1; echo $i; \
                      i=$((i+1)); done; mkdir after && echo right > after/end";
        let mut child =
            run(&world, &["-q", "--", "sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let (to, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || stdout.lines().map(Result::unwrap).try_for_each(|line| to.send(line)));
        let next = || lines.recv_timeout(PATIENCE).unwrap_or_else(|e| panic!("round {round}: {e}"));
        while next() != (round * 4).to_string() {}
        child.kill().unwrap();
        child.wait().unwrap();
        while next() != "59" {}
        wait_until("the end", || fs::read(world.path("w/after/end")).is_ok_and(|t| t == b"right\n"));
        assert_eq!(fs::read_dir(world.path("w")).unwrap().count(), 1, "every file was removed");
    }
}

#[test]
fn what_a_tool_leaves_behind_goes_on_after_semj_and_its_keeper_ends_with_it() {
    let Some(world) = world() else { return };
    let before = keepers();
    // A FIFO, so that the test decides when it goes on.
    let script = "mkfifo go; (read word < go; mkdir late && echo $word > late/word) > /dev/null 2>&1 & echo started > first";
    let output = sh(&world, script);
    assert!(output.status.success());
    let report: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(report["orphans"].as_array().unwrap().len(), 1);
    assert!(!keepers().is_subset(&before), "somebody keeps the listener");
    fs::write(world.path("w/go"), "word\n").unwrap();
    wait_until("the late file", || fs::read(world.path("w/late/word")).is_ok_and(|t| t == b"word\n"));
    wait_until("the keeper's end", || keepers().is_subset(&before));
    assert_eq!(sorted(effects(&world)), ["create first", "create go", "write first"]);
}

#[test]
fn the_keeper_holds_nothing_of_the_callers() {
    let Some(world) = world() else { return };
    let mut child = run(&world, &["-q", "--", "sh", "-c", "sleep 600 > /dev/null 2>&1 & echo $!"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Both end although a process of the tool goes on: nobody else has these pipes.
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert!(child.wait().unwrap().success());
    let left = Pid::from_raw(out.trim().parse().unwrap()).unwrap();
    kill_process(left, Signal::KILL).unwrap();
}

fn as_somebody_else(world: &World, binary: &Path, script: &str) -> std::process::Output {
    let mut command = Command::new(binary);
    command.args(["run", "--source", "seccomp", "--witness", "none", "--", "sh", "-c", script]);
    command.current_dir(world.path("w")).env("SEMJ_JOURNAL", world.journal()).uid(65_534).gid(65_534);
    command.output().unwrap()
}

#[test]
fn an_ordinary_user_sees_as_much() {
    let Some(world) = world() else { return };
    let Some(binary) = common::for_everybody(&world) else { return };
    fs::write(world.path("w/roots"), "x").unwrap();
    let script = "echo x > mine; mkdir -p a/b; echo y > a/b/c; chmod 600 roots; echo z > roots; rm -r a";
    let output = as_somebody_else(&world, &binary, script);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("seen by seccomp"), "{said}");
    let expected =
        "create mine|write mine|mkdir a|mkdir a/b|create a/b/c|write a/b/c|delete a/b/c|rmdir a/b|rmdir a";
    assert_eq!(effects(&world).join("|"), expected);
    let coverage = &events(&world, &["--name", "semj.coverage"])[0]["payload"];
    assert!(coverage["semj.not_observed"].to_string().contains("results"));
    assert!(events(&world, &["--name", "semj.remark"]).is_empty());
}

#[test]
fn what_nobody_can_see_is_an_intent_and_no_effect() {
    let Some(world) = world() else { return };
    let Some(binary) = common::for_everybody(&world) else { return };
    fs::create_dir(world.path("w/closed")).unwrap();
    fs::set_permissions(world.path("w/closed"), fs::Permissions::from_mode(0o700)).unwrap();
    let output = as_somebody_else(&world, &binary, "mkdir closed/x; mkdir open");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("1 effect on 1 path") && said.contains("nobody could see the outcome"), "{said}");
    let told = events(&world, &["--type", "filesystem.mkdir"]);
    let phases: Vec<&str> = told.iter().map(|e| e["payload"]["semj.phase"].as_str().unwrap()).collect();
    assert_eq!(phases, ["intent", "done"]);
    assert!(told[0]["path"].as_str().unwrap().ends_with("w/closed/x"), "{}", told[0]);
}

#[test]
fn a_program_that_loses_its_privileges_is_told_with_the_way_out() {
    let Some(world) = world() else { return };
    let Some(binary) = common::for_everybody(&world) else { return };
    let program = world.path("w/raised");
    assert!(Command::new("cp").arg("/bin/true").arg(&program).status().unwrap().success());
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    let output = as_somebody_else(&world, &binary, "./raised; ./raised; true");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let told: Vec<&str> = said.lines().filter(|l| l.contains("w/raised")).collect();
    assert_eq!(told.len(), 1, "{said}");
    assert!(told[0].contains("without the privileges") && told[0].contains("--source inotify"), "{said}");
    assert_eq!(events(&world, &["--name", "semj.remark"]).len(), 1);
}

#[test]
fn a_program_that_is_named_and_gives_privileges_keeps_them_unless_the_filter_is_asked_for() {
    let Some(world) = world() else { return };
    let Some(binary) = common::for_everybody(&world) else { return };
    let program = world.path("w/raised");
    assert!(Command::new("cp").arg("/usr/bin/id").arg(&program).status().unwrap().success());
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    let run = |mut command: Command| {
        command.current_dir(world.path("w")).env("SEMJ_JOURNAL", world.journal()).uid(65_534).gid(65_534);
        command.output().unwrap()
    };
    let script = ["sh", "-c", "cd . && ./raised -u"];
    let mut bare = Command::new(script[0]);
    bare.args(&script[1..]);
    let mut watched = Command::new(&binary);
    watched.args(["run", "--"]).args(script);
    let (bare, watched) = (run(bare), run(watched));
    if bare.stdout != b"0\n" {
        return println!("skipped: programs gain no privileges in this folder");
    }
    assert_eq!(watched.stdout, bare.stdout);
    let coverage = &events(&world, &["--name", "semj.coverage"])[0]["payload"];
    assert_ne!(coverage["semj.source"], "seccomp");
    let tried = coverage["semj.tried"].as_array().unwrap();
    let seccomp = tried.iter().find(|t| t["source"] == "seccomp").unwrap();
    assert!(seccomp["need"].as_str().unwrap().contains("./raised"), "{seccomp}");
    let asked = as_somebody_else(&world, &binary, "./raised -u");
    assert_eq!(asked.stdout, b"65534\n");
}

#[test]
fn a_tool_may_have_filters_and_namespaces_of_its_own() {
    let Some(world) = world() else { return };
    // Answers every mkdir and mkdirat with error 13, as a sandbox would.
    let perl = "my $f = join '', map { pack 'SCCL', @$_ } [0x20,0,0,0], [0x15,0,1,83], [6,0,0,0x5000d], [0x15,0,1,258], \
                [6,0,0,0x5000d], [6,0,0,0x7fff0000]; my $p = pack 'Sx6P', 6, $f; syscall(157,38,1,0,0,0); \
                syscall(317,1,0,$p) == 0 or exit 9; mkdir 'no' and exit 8; open my $h, '>', 'yes' or exit 7; exit 0";
    let has = |what: &str, args: &[&str]| {
        let found = Command::new(what).args(args).stderr(Stdio::null()).status().is_ok_and(|s| s.success());
        if !found {
            println!("skipped in part: {what} {args:?} does not work here");
        }
        found
    };
    let mut expected = vec!["create plain"];
    assert!(sh(&world, ": > plain").status.success());
    if cfg!(target_arch = "x86_64") && has("perl", &["-e", "1"]) {
        let ran = run(&world, &["-q", "--", "perl", "-e", perl]).status().unwrap();
        assert_eq!(ran.code(), Some(0));
        expected.push("create yes");
    }
    if has("unshare", &["--user", "--map-root-user", "--mount", "true"]) {
        let script = "unshare --user --map-root-user --mount sh -c 'echo x > within; mkdir root; \
                      cd root && mkdir etc && echo y > etc/f'";
        assert!(sh(&world, script).status.success());
        expected.extend([
            "create within",
            "write within",
            "mkdir root",
            "mkdir root/etc",
            "create root/etc/f",
        ]);
        expected.push("write root/etc/f");
    }
    assert_eq!(sorted(effects(&world)), sorted(expected.into_iter().map(str::to_owned).collect()));
}

#[test]
fn a_second_listener_is_refused_with_the_reason() {
    let Some(world) = world() else { return };
    let inner = World::new();
    let binary = env!("CARGO_BIN_EXE_semj");
    let journal = inner.journal();
    let args =
        ["-q", "--", binary, "-j", journal.to_str().unwrap(), "run", "--source", "seccomp", "--", "true"];
    let output = run(&world, &args).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("another supervisor listens"));
}
