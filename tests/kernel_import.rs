//! Streams of kernel records through the real binary: from pipes, with times, and beside what a source journaled of them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;
#[path = "../examples/kernel_sim/sim.rs"]
mod sim;

use common::{PATIENCE, World, complaint, lines};
use semj::Journal;
use semj::kernel::{EventHeader, Record, encode_block};
use serde_json::{Value, json};
use sim::{Dice, Kernel};
use std::io::Write as _;
use std::time::Instant;

fn records(kernel: &mut Kernel, count: usize) -> Vec<Vec<u8>> {
    let mut dice = Dice(1);
    (0..count).map(|_| kernel.event(&mut dice).2).collect()
}

/// What `import --json` says of a stream.
fn import(world: &World, args: &[&str], input: &[u8], code: i32) -> (Value, String) {
    let output = world.run(&[&["--json", "import", "--format", "semj"], args].concat(), input);
    let said = complaint(&output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    (lines(&output).first().cloned().unwrap_or_default(), said)
}

fn exported(world: &World, filter: &[&str]) -> Vec<u8> {
    let out = world.run(&[&["export", "--format", "semj"], filter].concat(), b"").stdout;
    out[80..].to_vec()
}

/// The real time of a journal's kernel events, in order.
fn times(world: &World) -> Vec<Option<String>> {
    let events = world.json(&["export", "--category", "filesystem", "--category", "agent"]);
    events.iter().map(|e| e.get("time").and_then(Value::as_str).map(str::to_owned)).collect()
}

#[test]
fn a_stream_on_stdin_is_the_same_as_a_file() {
    let all = records(&mut Kernel::loaded_at(1_000_000_000), 300).concat();
    let (file, pipe) = (World::new(), World::new());
    std::fs::write(file.path("k"), &all).unwrap();
    let (told, _) = import(&file, &["k"], b"", 0);
    let (piped, _) = import(&pipe, &["-"], &all, 0);
    assert_eq!((&told["records"], &piped["records"]), (&json!(300), &json!(300)));
    assert_eq!((&piped["file"], &piped["session"]), (&json!("-"), &told["session"]));
    assert!(exported(&file, &[]) == all && exported(&pipe, &[]) == all);
    // By its looks, and again.
    let again = pipe.run(&["--json", "import", "-"], &all);
    assert_eq!(lines(&again)[0]["duplicates"], 300);
}

#[test]
fn records_of_a_pipe_are_there_before_its_end_and_a_torn_end_is_told_with_its_byte() {
    let world = World::new();
    let all = records(&mut Kernel::loaded_at(1_000_000_000), 3);
    let pipe = world.path("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    let child = world.spawn(&["--json", "import", "--format", "semj", "fifo"]);
    let mut writer = std::fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    writer.write_all(&[&all[0][..], &all[1], &all[2][..2_000]].concat()).unwrap();
    // Nobody has closed the pipe.
    let until = Instant::now() + PATIENCE;
    loop {
        let out = world.run(&["query", "--json"], b"");
        if lines(&out).len() == 2 {
            break;
        }
        assert!(Instant::now() < until, "{}", complaint(&out));
    }
    drop(writer);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let told = &lines(&output)[0];
    let place = all[0].len() + all[1].len();
    let reason = told["losses"][0]["reason"].as_str().unwrap();
    assert!(reason.starts_with(&format!("at byte {place}: truncated_body: ")), "{reason}");
    assert_eq!((&told["events"], &told["losses"][0]["line"]), (&json!(2), &json!(3)));
}

#[test]
fn a_signal_ends_an_import_that_waits_for_a_pipe() {
    let world = World::new();
    let mut child = world.spawn(&["import", "--format", "semj", "-"]);
    let record = records(&mut Kernel::loaded_at(1_000_000_000), 1).concat();
    child.stdin.as_mut().unwrap().write_all(&record).unwrap();
    let until = Instant::now() + PATIENCE;
    while lines(&world.run(&["query", "--json"], b"")).is_empty() {
        assert!(Instant::now() < until);
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let stdin = child.stdin.take();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    drop(stdin);
    assert_eq!(lines(&world.run(&["query", "--json"], b"")).len(), 1);
}

#[test]
fn a_signal_ends_an_import_of_a_pipe_that_nobody_opens() {
    let world = World::new();
    let pipe = world.path("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    let mut child = world.spawn(&["import", "--format", "semj", "fifo"]);
    let until = Instant::now() + PATIENCE;
    while !world.run(&["status"], b"").status.success() {
        assert!(Instant::now() < until);
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn times_are_unknown_said_once_or_reckoned_and_the_bytes_stay() {
    let all = records(&mut Kernel::loaded_at(1_000_000_000), 3);
    let first = i64::from_le_bytes(all[0][16..24].try_into().unwrap());
    let world = World::new();
    let (_, said) = import(&world, &["-"], &all.concat(), 0);
    assert_eq!(said.matches("no wall-clock time").count(), 1, "{said}");
    assert_eq!(times(&world), [None, None, None]);
    // With a time, in each notation; what was journaled without one stays as it is.
    for at in ["2026-02-09T08:00:00Z", "1770624000000000000"] {
        let (told, said) = import(&world, &["--boot-at", at, "-"], &all.concat(), 0);
        assert_eq!((&told["duplicates"], &told["losses"]), (&json!(3), &json!([])), "{said}");
        assert!(!said.contains("wall-clock"), "{said}");
        let other = World::new();
        import(&other, &["--wall-offset", at, "-"], &all.concat(), 0);
        let wall = semj::event::Timestamp(1_770_624_000_000_000_000 + first).to_string();
        assert_eq!(times(&other)[0], Some(wall));
        assert_eq!(other.json(&["query", "--json", "--since", "2026-02-09T08:00:00Z"]).len(), 3);
        assert_eq!(other.json(&["query", "--json", "--until", "2026-02-09T08:00:00Z"]).len(), 0);
        assert!(exported(&other, &[]) == all.concat(), "the record holds the kernel's own clock");
    }
    assert_eq!(times(&world), [None, None, None]);
    assert!(exported(&world, &[]) == all.concat());
}

#[test]
fn only_the_first_boot_of_a_stream_has_the_time_that_was_given() {
    let world = World::new();
    let (mut one, mut other) = (Kernel::loaded_at(9_000_000_000), Kernel::loaded_at(1_000_000_000));
    let all = [records(&mut one, 2), records(&mut other, 2)].concat().concat();
    let (_, said) = import(&world, &["--boot-at", "2026-02-09T08:00:00Z", "-"], &all, 0);
    let known: Vec<bool> = times(&world).iter().map(Option::is_some).collect();
    assert_eq!(known, [true, true, false, false]);
    assert!(said.contains("no wall-clock time"), "{said}");
}

/// How many records the journal holds, however it came by them.
fn held(world: &World) -> usize {
    world.json(&["export", "--category", "filesystem", "--category", "agent"]).len()
}

#[test]
fn a_stream_that_was_synced_and_is_imported_is_not_doubled_nor_the_other_way() {
    // Lost records, repetitions, disorder, and lives that begin with a loss.
    for (seed, boot) in [(1, None), (4, Some("b")), (5, None), (9, Some("b"))] {
        println!("seed {seed}");
        let plan = sim::Plan { seed, events: 900, drop: 10, duplicate: 10, reorder: 10, restart_every: 210 };
        let mut bytes = Vec::new();
        let truth = sim::write(&plan, &mut bytes, &mut |_| {}).unwrap();
        let named: Vec<&str> = boot.iter().flat_map(|b| ["--boot", b]).collect();
        for sync_first in [true, false] {
            let world = World::new();
            std::fs::write(world.path("k"), &bytes).unwrap();
            for is_sync in [sync_first, !sync_first] {
                if is_sync {
                    let out = world.run(&[&["kernel", "sync", "k"], named.as_slice()].concat(), b"");
                    assert!(out.status.success(), "{}", complaint(&out));
                } else {
                    let (told, _) = import(&world, &[named.as_slice(), &["k"]].concat(), b"", 0);
                    assert_eq!(told["losses"], json!([]), "seed {seed}");
                    let known = told["duplicates"].as_u64().unwrap();
                    let written = truth.written() as u64;
                    assert_eq!(known, truth.duplicates + if sync_first { written } else { 0 }, "seed {seed}");
                }
                assert_eq!(held(&world), truth.written(), "seed {seed}, sync first: {sync_first}");
            }
        }
    }
}

#[test]
fn another_record_under_the_same_identity_is_told_as_a_conflict() {
    let record = |event_id: u64, ktime: i64| {
        let header = EventHeader { event_id, ktime, global_sequence: event_id, ..EventHeader::default() };
        Record { header, ..Record::default() }.to_bytes().unwrap()
    };
    for sync_first in [true, false] {
        let world = World::new();
        let known = [record(2, 20), record(3, 30)].concat();
        std::fs::write(world.path("k"), &known).unwrap();
        if sync_first {
            assert!(world.run(&["kernel", "sync", "--boot", "b", "k"], b"").status.success());
        } else {
            import(&world, &["--boot", "b", "k"], b"", 0);
        }
        // The same boot by name, the same number, another record; what is new beside it comes in.
        let mut other = Vec::new();
        encode_block(1, &[record(2, 20), record(3, 31), record(4, 40)].concat(), &mut other).unwrap();
        let (told, _) = import(&world, &["--boot", "b", "-"], &other, 3);
        assert_eq!((&told["events"], &told["duplicates"]), (&json!(3), &json!(1)));
        let reason = told["losses"][0]["reason"].as_str().unwrap();
        assert!(reason.starts_with(&format!("at byte {}: conflict: ", 104 + 5_412)), "{reason}");
        let journal = Journal::open(world.journal()).unwrap();
        assert_eq!(journal.query().in_stream("kernel:b").count().unwrap(), 3, "sync first: {sync_first}");
        journal.close(PATIENCE).unwrap();
    }
}

#[test]
fn a_source_that_finds_another_record_under_its_identity_tells_it_once_and_goes_on() {
    let world = World::new();
    let (mut one, mut other) = (Kernel::loaded_at(1_000_000_000), Kernel::loaded_at(2_000_000_000));
    let (known, new) = (records(&mut one, 2).concat(), records(&mut other, 3).concat());
    import(&world, &["--boot", "b", "-"], &known, 0);
    std::fs::write(world.path("k"), &new).unwrap();
    for _ in 0..2 {
        let out = world.run(&["kernel", "sync", "--json", "--boot", "b", "k"], b"");
        let told = &lines(&out)[0];
        assert_eq!((&told["records"], &told["lost"]), (&json!(3), &json!(0)), "{}", complaint(&out));
        let conflicts = world.json(&["query", "--json", "--name", "semj.record_conflict"]);
        assert_eq!(conflicts.len(), 2);
        assert_eq!(conflicts[0]["payload"]["semj.known_as"], 1);
        assert_eq!(held(&world), 3, "the record whose number nobody had came in");
    }
}
