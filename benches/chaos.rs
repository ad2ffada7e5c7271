//! What a crash costs: from the death of each actor to the next commit, and what is left of the throughput while
//! everything is killed; each life beside an undisturbed one of the same length.
//!
//! `cargo bench --bench chaos`, or with `--features chaos` to let stages crash at failpoints, too.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unreachable_pub)]

mod common;

use common::{Args, Runs, Scratch, Table, short};
use semj::torture::{Plan, Report, live, run};
use std::collections::BTreeMap;
use std::time::Duration;

/// What makes this program a life under torture.
const LIFE: &str = "--life";

fn torture(scratch: &Scratch, name: &str, round: u64, time: Duration, everything: bool) -> Report {
    let folder = scratch.join(&format!("{name}-{round}"));
    std::fs::create_dir(&folder).unwrap();
    let plan = Plan {
        folder: folder.clone(),
        time,
        kill_rate: if everything { 20.0 } else { 60.0 },
        producers: 2,
        seed: 1_000 + round,
        sigkill: everything,
        io_faults: everything,
        failpoints: cfg!(feature = "chaos"),
        program: std::env::current_exe().unwrap(),
        arguments: vec![LIFE.into()],
        plant: None,
    };
    let report = run(&plan, &mut |_| true).unwrap();
    assert!(report.is_clean(), "seed {}: {report:#?}; kept in {}", plan.seed, folder.display());
    std::fs::remove_dir_all(&folder).unwrap();
    report
}

/// Runs of the median and the 99th percentile of one kind of time.
#[derive(Default)]
struct Spreads {
    p50: Runs,
    p99: Runs,
    max: f64,
    count: u64,
}

impl Spreads {
    fn add(&mut self, spread: &semj::torture::Spread) {
        if spread.count > 0 {
            self.p50.push(spread.p50_us);
            self.p99.push(spread.p99_us);
            self.max = self.max.max(spread.max_us);
            self.count += spread.count;
        }
    }

    fn show(&self) -> String {
        if self.count == 0 {
            return "not measured".into();
        }
        let p99 = short(self.p99.median());
        format!("p50 {} p99 {p99} max {} us, {} times", self.p50.show(""), short(self.max), self.count)
    }
}

/// Actors alone are killed: what dies comes back in the same process, on a disk that works.
fn recovery(table: &Table, scratch: &Scratch, rounds: u64, time: Duration) {
    let (mut all, mut undisturbed, mut ratio) = (Spreads::default(), Spreads::default(), Runs::default());
    let (mut rate, mut quiet) = (Runs::default(), Runs::default());
    let mut each: BTreeMap<(String, String), Spreads> = BTreeMap::new();
    for round in 0..rounds {
        let report = torture(scratch, "actors", round, time, false);
        all.add(&report.crash_to_commit);
        undisturbed.add(&report.undisturbed_to_commit);
        ratio.push(report.ratio);
        rate.push(report.per_second);
        quiet.push(report.undisturbed_per_second);
        for one in report.recovery {
            each.entry((one.role, one.command)).or_default().add(&one.time);
        }
    }
    let none = format!("undisturbed {}", undisturbed.show());
    table.row("crash in place to next commit", "p50 < 1,000 us", &all.show(), &none);
    for ((role, command), spreads) in each {
        table.row(&format!("  {role} {command}"), "", &spreads.show(), "");
    }
    let rival = format!("undisturbed {} = {:.2} x", quiet.show("/s"), ratio.median());
    table.row("acknowledged, 60 disturbances a second", "", &rate.show("/s"), &rival);
}

/// Everything at once.
fn everything(table: &Table, scratch: &Scratch, rounds: u64, time: Duration) {
    let (mut rate, mut quiet, mut ratio) = (Runs::default(), Runs::default(), Runs::default());
    let (mut memory, mut quiet_memory) = (Runs::default(), Runs::default());
    let (mut opened, mut reopened) = (Spreads::default(), Spreads::default());
    let (mut acknowledged, mut kills, mut restarts, mut faults) = (0, 0, 0, 0);
    for round in 0..rounds {
        let report = torture(scratch, "all", 100 + round, time, true);
        rate.push(report.per_second);
        quiet.push(report.undisturbed_per_second);
        ratio.push(report.ratio);
        memory.push(report.memory_bytes as f64 / f64::from(1 << 20));
        quiet_memory.push(report.undisturbed_memory_bytes as f64 / f64::from(1 << 20));
        opened.add(&report.opened_after_life);
        reopened.add(&report.reopened);
        acknowledged += report.findings.acknowledged;
        kills += report.sigkills;
        restarts += report.restarts.values().sum::<u64>();
        faults += report.io_faults.full + report.io_faults.errors + report.io_faults.slow;
    }
    let done = format!("{kills} SIGKILL, {restarts} restarts, {faults} I/O faults");
    let found = format!("{} acknowledged, 0 lost, repeated or reordered", short(acknowledged as f64));
    table.row("everything at once", "0 lost", &found, &done);
    let rival = format!("undisturbed {} = {:.2} x", quiet.show("/s"), ratio.median());
    table.row("  acknowledged", "", &rate.show("/s"), &rival);
    let rival = format!("undisturbed {}", quiet_memory.show(" MiB"));
    table.row("  memory", "", &memory.show(" MiB"), &rival);
    table.row("  opened after a life", "", &opened.show(), "");
    table.row("  poisoned by an I/O error to open again", "", &reopened.show(), "");
}

fn main() {
    let all: Vec<String> = std::env::args().collect();
    if all.get(1).is_some_and(|a| a == LIFE) {
        return live(&all[2]).unwrap();
    }
    let Some(args) = Args::parse() else { return };
    let scratch = Scratch::new();
    let table = Table::new("chaos", scratch.path());
    let (rounds, time) = if args.quick { (1, Duration::from_secs(2)) } else { (3, Duration::from_secs(4)) };
    if args.wants("recovery") {
        recovery(&table, &scratch, rounds, time);
    }
    if args.wants("everything") {
        everything(&table, &scratch, rounds, time);
    }
}
