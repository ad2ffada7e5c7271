//! A disk that is full: told by kind, nothing acknowledged is lost, and it goes on by itself when there is room.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::{World, complaint, error_kind, lines, sequences, until};
use semj::{CommitError, EmitError, ErrorKind, Event, Journal, Ticket};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A file system of its own, gone with the value.
struct Small(PathBuf);

impl Small {
    /// `None`, with the reason printed, where none can be had.
    fn mount(at: PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir(&at).unwrap();
        let options = format!("size={size}");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "semj-test"]).arg(&at).output();
        match mount {
            Ok(output) if output.status.success() => Some(Small(at)),
            other => {
                eprintln!("skipped: cannot mount a small file system: {other:?}");
                None
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Bytes that can still be written.
    fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.0).unwrap();
        stat.f_bavail * stat.f_frsize
    }

    /// A file that can be deleted to make room.
    fn filler(&self, bytes: usize) -> PathBuf {
        let path = self.path("filler");
        std::fs::write(&path, vec![1; bytes]).unwrap();
        path
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn line(number: u64, bytes: usize) -> String {
    json!({"type": 1, "payload": {"n": number, "pad": "x".repeat(bytes)}}).to_string()
}

/// What `query` tells of each event: its number.
fn numbers(events: &[Value]) -> Vec<u64> {
    events.iter().map(|e| e["payload"]["n"].as_u64().unwrap()).collect()
}

#[test]
fn a_tool_keeps_its_exit_code_and_its_report_when_the_journal_finds_no_room() {
    let world = World::new();
    let Some(small) = Small::mount(world.path("small"), "2m") else { return };
    let journal = small.path("j");
    let script = "i=0; while [ $i -lt 6000 ]; do : > f$i; i=$((i+1)); done; echo made; exit 3";
    let tool = ["run", "--source", "inotify", "-j", journal.to_str().unwrap(), "--", "sh", "-c", script];
    let output = world.command(&tool).current_dir(world.path(".")).output().unwrap();
    let said = complaint(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert_eq!(output.stdout, b"made\n");
    assert!(said.contains("not all of it is in the journal") && said.contains("exit 3"), "{said}");
    assert!(said.contains("the disk is full"), "{said}");
    let report = world.json(&["verify", "--json", "-j", journal.to_str().unwrap()]);
    assert_eq!(report[0]["intact"], true, "{report:?}");
}

#[test]
fn append_tells_of_a_full_disk_and_loses_nothing_it_acknowledged() {
    let world = World::new();
    let Some(small) = Small::mount(world.path("small"), "4m") else { return };
    let journal = small.path("j");
    let at = ["-j", journal.to_str().unwrap()];
    let args =
        |args: &[&'static str]| -> Vec<String> { args.iter().chain(&at).map(ToString::to_string).collect() };
    let run = |a: &[&'static str], input: &str| {
        let owned = args(a);
        world.run(&owned.iter().map(String::as_str).collect::<Vec<_>>(), input.as_bytes())
    };
    let filler = small.filler(1 << 20);
    let input: String = (1..=400).map(|n| line(n, 20_000) + "\n").collect();
    let output = run(&["append"], &input);
    assert_eq!(output.status.code(), Some(4), "{}", complaint(&output));
    assert!(
        complaint(&output).contains("full") && complaint(&output).contains("free some space"),
        "{}",
        complaint(&output)
    );
    let answers = lines(&output);
    let taken: Vec<&Value> = answers.iter().take_while(|a| a.get("sequence").is_some()).collect();
    assert!(taken.len() > 20, "{} acknowledged", taken.len());
    for refused in &answers[taken.len()..] {
        assert_eq!(error_kind(refused), Some("full"), "{refused}");
    }
    assert!(answers.len() > taken.len(), "somebody is told");
    // Reading works on a full disk.
    let kept = run(&["query", "--json"], "");
    assert_eq!(kept.status.code(), Some(0), "{}", complaint(&kept));
    let kept = lines(&kept);
    assert!(kept.len() >= taken.len(), "{} of {} acknowledged", kept.len(), taken.len());
    assert_eq!(numbers(&kept), (1..=kept.len() as u64).collect::<Vec<_>>());
    assert_eq!(run(&["verify"], "").status.code(), Some(0));
    // Groups end as well, however many there are.
    let groups: String = (1..=200).map(|n| format!("[{},{}]\n", line(n, 60_000), line(n, 60_000))).collect();
    let output = run(&["append"], &groups);
    assert_eq!(output.status.code(), Some(4), "{}", complaint(&output));
    // With room again, it goes on behind what was kept.
    std::fs::remove_file(filler).unwrap();
    let before = lines(&run(&["query", "--json"], "")).len() as u64;
    let output = run(&["append"], &(line(1_000, 10) + "\n"));
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    assert_eq!(sequences(&lines(&output)), [before + 1]);
    let report = lines(&run(&["verify", "--deep", "--json"], "")).remove(0);
    assert_eq!((&report["intact"], &report["events"]), (&json!(true), &json!(before + 1)), "{report}");
}

/// Waits for a ticket, however often it must be asked.
fn settle(ticket: &Ticket) {
    until("room", || match ticket.wait_timeout(Duration::from_secs(1)) {
        Ok(()) => true,
        Err(e) if e.is_retryable() => false,
        Err(e) => panic!("{e}"),
    });
}

fn fill(journal: &Journal, from: u64, bytes: usize) -> Vec<Ticket> {
    let emitter = journal.emitter("filler");
    let pad = "x".repeat(bytes);
    let mut tickets = Vec::new();
    loop {
        let number = from + tickets.len() as u64;
        assert!(number < from + 100_000, "the disk never gets full");
        match emitter.try_emit(Event::decision("fill").payload(json!({"n": number, "pad": pad}))) {
            Ok(ticket) => {
                tickets.push(ticket);
                // Little may wait when the disk is full: it must fit the room that is made later.
                if tickets.len().is_multiple_of(1 + 20_000 / bytes) {
                    let _ = tickets.last().unwrap().wait_timeout(Duration::from_secs(5));
                }
            }
            Err(EmitError::StorageFull(event)) => {
                assert_eq!(event.payload_value().as_json().unwrap()["n"], json!(number), "it comes back");
                return tickets;
            }
            Err(EmitError::Full(_)) => {
                // The ledger is full first: the disk follows.
                let _ = tickets.last().unwrap().wait_timeout(Duration::from_millis(10));
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn the_same_process_goes_on_when_there_is_room_again() {
    let world = World::new();
    for bytes in [40_000, 300] {
        let Some(small) = Small::mount(world.path(&format!("small{bytes}")), "6m") else { return };
        let path = small.path("j");
        let filler = small.filler(1 << 20);
        // Space filled ahead would be room that comes and goes by itself.
        let journal = Journal::options().preallocate(false).open(&path).unwrap();
        let mut tickets = Vec::new();
        for round in 0..3 {
            let new = fill(&journal, tickets.len() as u64 + 1, bytes);
            tickets.extend(new);
            assert_eq!(journal.status().state, "full", "round {round}");
            // Waiting ends, by kind; the events stay admitted.
            let pending: Vec<&Ticket> = tickets.iter().filter(|t| !t.is_durable()).collect();
            assert!(!pending.is_empty(), "round {round}");
            for ticket in &pending {
                match ticket.wait_timeout(Duration::from_secs(20)) {
                    Err(e @ CommitError::StorageFull) => assert_eq!(e.kind(), ErrorKind::Full),
                    // The trees have given some room back.
                    Ok(()) => {}
                    other => panic!("round {round}: {other:?}"),
                }
            }
            // Readers work all the while, beside the owner and in it.
            let durable = journal.status().durable_sequence;
            let reader = Journal::open_read_only(&path).unwrap();
            assert_eq!(reader.status().unwrap().state, "full");
            assert_eq!(reader.count(semj::Query::new()).unwrap(), durable);
            assert_eq!(journal.query().count().unwrap(), durable);
            // Smaller and smaller, and room each time.
            let left = [700_000, 400_000, 0][round];
            std::fs::OpenOptions::new().write(true).open(&filler).unwrap().set_len(left).unwrap();
            let waiting = journal.status().engine.map_or(0, |e| e.pending_bytes);
            eprintln!("round {round} of {bytes}: {waiting} bytes wait, {} are free", small.free());
            tickets.iter().for_each(settle);
            until("the gate", || journal.status().state == "open");
        }
        let last = journal.emitter("after").emit_blocking(Event::decision("after")).unwrap();
        last.wait().unwrap();
        let expected: Vec<u64> = (1..=last.sequence()).collect();
        let found: Vec<u64> = journal.query().run().unwrap().map(|e| e.unwrap().sequence).collect();
        assert_eq!(found, expected);
        assert_eq!(tickets.iter().map(Ticket::sequence).collect::<Vec<_>>(), expected[..tickets.len()]);
        journal.close(Duration::from_secs(10)).unwrap();
        let journal = Journal::open(&path).unwrap();
        assert!(journal.verify().unwrap().record.intact);
        assert_eq!(journal.query().count().unwrap(), last.sequence());
        journal.close(Duration::from_secs(10)).unwrap();
    }
}

#[test]
fn closing_on_a_full_disk_tells_so_and_reopening_finds_all_that_was_durable() {
    let world = World::new();
    let Some(small) = Small::mount(world.path("small"), "4m") else { return };
    let path = small.path("j");
    let filler = small.filler(1 << 20);
    let journal = Journal::open(&path).unwrap();
    let tickets = fill(&journal, 1, 20_000);
    let durable = tickets.iter().filter(|t| t.is_durable()).count() as u64;
    let error = journal.close(Duration::from_secs(5)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    drop(journal);
    // Reopening needs no room to read.
    assert!(count(&path) >= durable);
    std::fs::remove_file(filler).unwrap();
    let journal = Journal::open(&path).unwrap();
    let ticket = journal.emitter("a").emit_blocking(Event::decision("again")).unwrap();
    ticket.wait().unwrap();
    assert!(ticket.sequence() > durable);
    let record = journal.verify().unwrap().record;
    assert!(record.intact, "{record:?}");
    journal.close(Duration::from_secs(5)).unwrap();
}

fn count(path: &Path) -> u64 {
    Journal::open_read_only(path).unwrap().count(semj::Query::new()).unwrap()
}

#[test]
fn a_limit_on_the_size_of_files_counts_as_a_full_disk() {
    let world = World::new();
    let input: String = (1..=200).map(|n| line(n, 20_000) + "\n").collect();
    std::fs::write(world.path("in.jsonl"), &input).unwrap();
    let mut command = Command::new("bash");
    command.args(["-c", "ulimit -f 1500; exec \"$SEMJ\" append in.jsonl"]);
    command.env("SEMJ", env!("CARGO_BIN_EXE_semj")).env("SEMJ_JOURNAL", world.journal());
    let output = match command.current_dir(world.root()).output() {
        Ok(output) => output,
        Err(e) => {
            eprintln!("skipped: no bash: {e}");
            return;
        }
    };
    assert_eq!(output.status.code(), Some(4), "{}", complaint(&output));
    let answers = lines(&output);
    let taken: Vec<Value> = answers.iter().filter(|a| a.get("sequence").is_some()).cloned().collect();
    assert!(answers[taken.len()..].iter().all(|a| error_kind(a) == Some("full")), "{:?}", answers.last());
    let kept = world.json(&["query", "--json"]);
    assert!(kept.len() >= taken.len());
    assert_eq!(numbers(&kept), (1..=kept.len() as u64).collect::<Vec<_>>());
    world.append(&[json!({"type": 1})]);
    assert_eq!(world.one(&["verify", "--json"])["intact"], json!(true));
}
