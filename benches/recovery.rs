//! What opening costs: after a clean close, after SIGKILL, without trees; and what checking costs.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unreachable_pub)]

mod common;

use common::{Args, Runs, Scratch, Table, Workload, disk_bytes, evict, rss_mib, short, timed};
use semj::{Journal, VerifyLevel};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The child: fills a journal, says so, and waits to be killed, or closes it.
fn child(path: &Path, events: u64, close: bool) {
    let work = Workload::new(4, 16_384);
    let journal = Journal::open(path).unwrap();
    let emitter = journal.emitter("agent");
    let mut last = None;
    for n in 0..events {
        last = Some(emitter.emit_blocking(work.at(n as usize).event()).unwrap());
    }
    last.unwrap().wait().unwrap();
    if close {
        journal.close(Duration::from_secs(30)).unwrap();
    }
    println!("ready");
    std::io::stdout().flush().unwrap();
    if !close {
        std::thread::sleep(Duration::from_secs(600));
    }
}

/// Runs the child; kills it once it is ready, unless it closes.
fn filled_by_child(path: &Path, events: u64, how: &str) {
    let exe = std::env::current_exe().unwrap();
    let mut command = Command::new(exe);
    command.arg("--child").arg(path).arg(events.to_string()).arg(how).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    // SIGKILL; fine when the child has ended by itself.
    let _ = child.kill();
    child.wait().unwrap();
}

fn seconds(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

fn empty(table: &Table, scratch: &Scratch, runs: usize) {
    let before = rss_mib();
    let (mut make, mut reopen) = (Runs::default(), Runs::default());
    let mut grown = 0.0;
    for n in 0..runs {
        let path = scratch.join(&format!("empty{n}"));
        let (journal, took) = timed(|| Journal::open(&path).unwrap());
        make.push(seconds(took));
        if n == 0 {
            std::thread::sleep(Duration::from_millis(300));
            grown = rss_mib() - before;
        }
        journal.close(Duration::from_secs(5)).unwrap();
        drop(journal);
        let (journal, took) = timed(|| Journal::open(&path).unwrap());
        reopen.push(seconds(took));
        journal.close(Duration::from_secs(5)).unwrap();
    }
    table.row("make an empty journal", "", &make.show(" ms"), "");
    table.row("open an empty journal", "", &reopen.show(" ms"), "");
    table.row(
        "memory of an empty journal",
        "< 10 MiB",
        &format!("{} MiB", short(grown)),
        "sled 1.3, SQLite 2.0",
    );
}

/// Opens and closes again; milliseconds of the opening.
fn open_ms(path: &Path) -> f64 {
    let (journal, took) = timed(|| Journal::open(path).unwrap());
    journal.close(Duration::from_secs(60)).unwrap();
    seconds(took)
}

/// Removes a folder; what opens the trees may outlive the journal by a moment and still write there.
fn remove(folder: &Path) {
    for _ in 0..200 {
        if std::fs::remove_dir_all(folder).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{} cannot be removed", folder.display());
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

fn main() {
    let all: Vec<String> = std::env::args().collect();
    if all.get(1).is_some_and(|a| a == "--child") {
        return child(Path::new(&all[2]), all[3].parse().unwrap(), all[4] == "close");
    }
    let Some(args) = Args::parse() else { return };
    let events: u64 = if args.quick { 200_000 } else { 1_000_000 };
    let scratch = Scratch::new();
    let table = Table::new(&format!("recovery, {events} events"), scratch.path());
    empty(&table, &scratch, 5);

    let path = scratch.join("clean");
    filled_by_child(&path, events, "close");
    let mut clean = Runs::default();
    let before = rss_mib();
    for _ in 0..3 {
        clean.push(open_ms(&path));
    }
    table.row("open after a clean close, hot", "< 100 ms", &clean.show(" ms"), "SQLite 0.5, fjall 545 ms");
    table.row("  memory grown by that", "", &format!("{} MiB", short(rss_mib() - before)), "");
    evict(&path);
    let cold = open_ms(&path);
    table.row("open after a clean close, cold", "< 100 ms", &format!("{} ms", short(cold)), "");

    let killed = scratch.join("killed");
    filled_by_child(&killed, events, "kill");
    let mut kill = Runs::default();
    for n in 0..if args.quick { 1 } else { 2 } {
        let again = scratch.join(&format!("killed{n}"));
        copy(&killed, &again);
        kill.push(open_ms(&again));
        remove(&again);
    }
    table.row("open after SIGKILL, hot", "< 500 ms", &kill.show(" ms"), "SQLite 2, redb 349, fjall 579 ms");
    remove(&killed);

    let bytes = disk_bytes(&path.join("segments")) as f64;
    let reader = Journal::open_read_only(&path).unwrap();
    for (name, level) in
        [("quick", VerifyLevel::Quick), ("full", VerifyLevel::Full), ("deep", VerifyLevel::Deep)]
    {
        let (report, took) = timed(|| reader.verify(level).unwrap());
        assert!(report.record.intact && report.record.events == events);
        let seconds = took.as_secs_f64();
        let (mib, rate) = (bytes / seconds / (1 << 20) as f64, events as f64 / seconds);
        table.row(
            &format!("verify, {name}"),
            "",
            &format!("{:.0} ms = {mib:.0} MiB/s, {} events/s", seconds * 1e3, short(rate)),
            if name == "full" { "SHA-256 alone 1,380 MiB/s" } else { "" },
        );
    }
    drop(reader);

    remove(&path.join("trees"));
    let before = rss_mib();
    let journal = Journal::open(&path).unwrap();
    let begin = Instant::now();
    let rebuilt = loop {
        if journal.status().indexed_sequence >= events {
            break Some(begin.elapsed());
        }
        if begin.elapsed() > Duration::from_secs(30) {
            break None;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let measured = rebuilt.map_or("> 30 s".into(), |d| format!("{:.2} s", d.as_secs_f64()));
    table.row("all trees rebuilt from nothing", "< 10 s", &measured, "");
    table.row("  memory grown by that", "< 50 MiB", &format!("{} MiB", short(rss_mib() - before)), "");
    journal.close(Duration::from_secs(60)).unwrap();
}
