//! A simulated kernel writes its semantic journal, loses and repeats records and starts anew, and a semj journal follows
//! it: every record once, every loss told.
//!
//! `cargo run --example kernel_sim`, or as the other program alone: `kernel_sim write FILE EVENTS SEED`
#![allow(clippy::unwrap_used, reason = "an example that fails shows where")]

mod sim;

use semj::Journal;
use semj::sources::SemjTail;
use sim::{Plan, write};
use std::fs::OpenOptions;
use std::process::Command;
use std::time::Duration;

fn plan(events: u64, seed: u64) -> Plan {
    Plan { seed, events, drop: 5, duplicate: 5, reorder: 10, restart_every: events / 3 + 1 }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [what, file, events, seed] = arguments.as_slice()
        && what == "write"
    {
        let mut file = OpenOptions::new().create(true).append(true).open(file).unwrap();
        write(&plan(events.parse().unwrap(), seed.parse().unwrap()), &mut file, &mut |_| {}).unwrap();
        return;
    }
    let folder = std::env::temp_dir().join(format!("semj-kernel-sim-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let stream = folder.join("kernel.semj");
    std::fs::write(&stream, []).unwrap();
    let journal = Journal::options().source(SemjTail::new(&stream)).open(folder.join("journal")).unwrap();
    // The kernel is another program; the journal follows while it writes.
    let this = std::env::current_exe().unwrap();
    let mut kernel = Command::new(this).arg("write").arg(&stream).args(["3000", "7"]).spawn().unwrap();
    assert!(kernel.wait().unwrap().success());
    journal.sync_now(Duration::from_secs(30)).unwrap();

    let truth = write(&plan(3_000, 7), &mut std::io::sink(), &mut |_| {}).unwrap();
    let records = journal.query().source("kernel:kernel.semj").count().unwrap();
    println!(
        "{records} events of {} records in {} lives, and what is told about them",
        truth.written(),
        truth.lives.len()
    );
    for status in journal.sync_status() {
        println!("{status:#?}");
        assert_eq!(status.incarnation, truth.lives.len() as u64);
        assert_eq!(Some(&status.lost), truth.dropped.last());
        assert_eq!(Some(status.records), truth.lives.last().map(|l| l.len() as u64));
    }
    journal.close(Duration::from_secs(10)).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
}
