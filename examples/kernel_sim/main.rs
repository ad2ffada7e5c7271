//! A simulated kernel writes its semantic journal, loses, repeats and overwrites records, starts anew and has its clock set,
//! and a semj journal follows it: every record once, every loss told.
//!
//! `cargo run --example kernel_sim`, or as the other program alone:
//! `kernel_sim write FILE EVENTS SEED [--drop PERCENT] [--duplicate PERCENT] [--reorder PERCENT] [--restart-every EVENTS]
//! [--overwrite BYTES] [--clock-step SECONDS]`. With `--overwrite` the file has room for so many bytes of records, which are
//! overwritten when it is full; `--clock-step` sets the wall clock by so much half-way through such a file.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "an example that fails shows where")]

mod sim;

use semj::Journal;
use semj::sources::{SemjTail, TailForm};
use sim::{Plan, Ring, Truth, write};
use std::fs::OpenOptions;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

fn plan(events: u64, seed: u64) -> Plan {
    Plan { seed, events, drop: 5, duplicate: 5, reorder: 10, restart_every: events / 3 + 1 }
}

/// What the other program is told to do.
struct Orders {
    plan: Plan,
    /// Room for so many bytes of records, which are overwritten then; 0: the file grows.
    overwrite: u64,
    clock_step_s: i64,
}

/// Reads EVENTS, SEED and the flags.
fn orders(arguments: &[String]) -> Orders {
    let number = |at: usize| arguments.get(at).and_then(|n| n.parse().ok()).expect("a number");
    let flag = |name: &str| {
        let at = arguments.iter().position(|a| a == name)?;
        arguments.get(at + 1)?.parse::<i64>().ok()
    };
    let count = |name: &str, default: u64| flag(name).map_or(default, i64::unsigned_abs);
    let (overwrite, usual) = (count("--overwrite", 0), plan(number(0), number(1)));
    // Faults that are not asked for do not happen where some are.
    let none = Plan { seed: usual.seed, events: usual.events, ..Plan::default() };
    let usual = if arguments.len() == 2 { usual } else { none };
    let plan = Plan {
        drop: count("--drop", usual.drop),
        duplicate: count("--duplicate", usual.duplicate),
        reorder: count("--reorder", usual.reorder),
        restart_every: count("--restart-every", usual.restart_every),
        ..usual
    };
    Orders { plan, overwrite, clock_step_s: flag("--clock-step").unwrap_or(0) }
}

fn carry_out(file: &Path, orders: &Orders) -> Truth {
    let Orders { plan, overwrite, clock_step_s } = orders;
    if *overwrite == 0 {
        let mut file = OpenOptions::new().create(true).append(true).open(file).unwrap();
        return write(plan, &mut file, &mut |_| {}).unwrap();
    }
    let mut ring = Ring::create(file, *overwrite).unwrap();
    if *clock_step_s != 0 {
        ring.step = (plan.events / 2, clock_step_s * 1_000_000_000);
    }
    write(plan, &mut ring, &mut |_| {}).unwrap()
}

/// The kernel is another program.
fn kernel(file: &Path, arguments: &[&str]) {
    let this = std::env::current_exe().unwrap();
    let mut kernel = Command::new(this).arg("write").arg(file).args(arguments).spawn().unwrap();
    assert!(kernel.wait().unwrap().success());
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [what, file, rest @ ..] = arguments.as_slice()
        && what == "write"
    {
        carry_out(Path::new(file), &orders(rest));
        return;
    }
    let folder = std::env::temp_dir().join(format!("semj-kernel-sim-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (stream, ring) = (folder.join("kernel.semj"), folder.join("ring"));
    std::fs::write(&stream, []).unwrap();
    std::fs::write(&ring, []).unwrap();
    let journal = Journal::options().source(SemjTail::new(&stream)).open(folder.join("journal")).unwrap();
    // The journal follows while it writes.
    kernel(&stream, &["3000", "7"]);
    journal.sync_now(PATIENCE).unwrap();
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
    // One that has room for twenty records, and overwrites those that nobody has read yet.
    journal.attach(SemjTail::new(&ring).form(TailForm::CommittedLength)).unwrap();
    kernel(&ring, &["5000", "7", "--overwrite", "110000"]);
    journal.sync_now(PATIENCE).unwrap();
    let status = journal.sync_status().pop().unwrap();
    println!("{} records were read in time, {} were overwritten", status.records, status.lost);
    assert_eq!((status.records + status.lost, status.unknown_gaps), (5_000, 0));
    journal.close(PATIENCE).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
}
