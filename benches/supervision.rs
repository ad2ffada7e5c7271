//! What supervision costs: the same work in this build and in one whose actors nobody watches (`--features
//! unsupervised`), in turn. This bench builds the other one itself:
//!
//! `cargo bench --bench supervision`

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unreachable_pub)]

mod common;

use common::{Args, Runs, Scratch, Table, Workload, percentile, short};
use rustix::time::{ClockId, clock_gettime};
use semj_actors::supervision::Progress;
use semj_actors::{Engine, EngineOptions};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What makes this program measure its own build, once.
const ONCE: &str = "--once";

/// Processor time of all threads, ns.
fn processor_ns() -> f64 {
    let t = clock_gettime(ClockId::ProcessCPUTime);
    t.tv_sec as f64 * 1e9 + t.tv_nsec as f64
}

/// Prints what this build gives: events a second pipelined, their processor time, lone commits a second, their median.
fn once(folder: &Path, events: usize, time: Duration) {
    let work = Workload::new(2, 1_024);
    let engine = Engine::open(&folder.join("journal"), EngineOptions::default()).unwrap();
    let emitter = engine.emitter(Some("agent"));
    emitter.try_emit(work.at(0).event()).unwrap().wait().unwrap();
    let (begin, processor) = (Instant::now(), processor_ns());
    let mut last = None;
    for n in 0..events {
        last = Some(emitter.emit_blocking(work.at(n).event()).unwrap());
    }
    last.unwrap().wait().unwrap();
    let pipelined = events as f64 / begin.elapsed().as_secs_f64();
    let processor = (processor_ns() - processor) / events as f64;
    let (begin, lone_processor) = (Instant::now(), processor_ns());
    let mut nanos = Vec::new();
    while begin.elapsed() < time {
        let start = Instant::now();
        emitter.try_emit(work.at(nanos.len()).event()).unwrap().wait().unwrap();
        nanos.push(start.elapsed().as_nanos() as u64);
    }
    let lone = nanos.len() as f64 / begin.elapsed().as_secs_f64();
    let lone_processor = (processor_ns() - lone_processor) / nanos.len() as f64;
    nanos.sort_unstable();
    println!("{pipelined} {processor} {lone} {} {lone_processor}", percentile(&nanos, 0.5));
    engine.close(Duration::from_secs(30)).unwrap();
}

/// What supervision adds to a lone commit, by its parts, ns: the turns of three actors (a guard against unwinding, the
/// word's way from idle through a message and back), the zone of the disk, the note of what is in hand, and its look.
fn added_to_a_commit() -> f64 {
    const TURNS: u32 = 3;
    const ROUNDS: u32 = 1_000_000;
    let (progress, hand) = (Progress::default(), Mutex::new(None));
    let mut moved = 0u64;
    let begin = Instant::now();
    for round in 0..ROUNDS {
        for _ in 0..TURNS {
            let turn = std::panic::catch_unwind(AssertUnwindSafe(|| progress.begin() && progress.tick()));
            moved += u64::from(turn.unwrap());
            progress.end();
        }
        let zone = progress.disk();
        moved += u64::from(zone.is_some());
        drop(zone);
        for note in [Some(round), None, Some(round), None] {
            *hand.lock().unwrap() = note;
        }
    }
    assert_eq!(moved, u64::from(ROUNDS) * u64::from(TURNS + 1));
    begin.elapsed().as_nanos() as f64 / f64::from(ROUNDS)
}

/// Builds this bench without supervision and tells where it is.
fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        // Without the default features: else it would leave a `semj` behind that nobody watches.
        .args(["bench", "--bench", "supervision", "--no-default-features", "--features", "unsupervised"])
        .arg("--no-run")
        .args(["--message-format", "json"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(std::process::Stdio::inherit())
        .output()
        .unwrap();
    assert!(built.status.success(), "the unsupervised build failed");
    let messages = String::from_utf8(built.stdout).unwrap();
    let mut paths = messages.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_it = message["target"]["name"] == "supervision";
        is_it.then(|| message["executable"].as_str().map(PathBuf::from)).flatten()
    });
    paths.next_back().unwrap()
}

fn measure(program: &Path, scratch: &Scratch, events: usize, time: Duration) -> Vec<f64> {
    let folder = scratch.join("one");
    std::fs::create_dir(&folder).unwrap();
    let output = Command::new(program)
        .arg(ONCE)
        .arg(&folder)
        .args([events.to_string(), time.as_millis().to_string()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::remove_dir_all(&folder).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().map(|n| n.parse().unwrap()).collect()
}

fn main() {
    let all: Vec<String> = std::env::args().collect();
    if all.get(1).is_some_and(|a| a == ONCE) {
        let time = Duration::from_millis(all[4].parse().unwrap());
        return once(Path::new(&all[2]), all[3].parse().unwrap(), time);
    }
    let Some(args) = Args::parse() else { return };
    if cfg!(feature = "unsupervised") {
        println!("run it without the feature: it builds the other one itself");
        return;
    }
    let (supervised, other) = (std::env::current_exe().unwrap(), build());
    assert_ne!(supervised, other, "one build measured against itself");
    let scratch = Scratch::new();
    let table = Table::new("supervision", scratch.path());
    let (pairs, events, time) = if args.quick {
        (7, 100_000, Duration::from_millis(200))
    } else {
        (15, 400_000, Duration::from_millis(600))
    };
    let mut ours: Vec<Runs> = vec![Runs::default(); 5];
    let (mut theirs, mut ratios) = (ours.clone(), ours.clone());
    for pair in 0..pairs {
        // Each goes first as often as second: whatever drifts, drifts for both.
        let first_is_ours = pair % 2 == 0;
        let (a, b) = if first_is_ours { (&supervised, &other) } else { (&other, &supervised) };
        let (a, b) = (measure(a, &scratch, events, time), measure(b, &scratch, events, time));
        let (own, bare) = if first_is_ours { (a, b) } else { (b, a) };
        for (i, (own, bare)) in own.into_iter().zip(bare).enumerate() {
            ours[i].push(own);
            theirs[i].push(bare);
            ratios[i].push(own / bare);
        }
    }
    let rows = [
        ("pipelined, 1 producer, events/s", ">= 0.99 x"),
        ("  processor time, ns an event", "<= 1.01 x"),
        ("lone durable append, events/s", ">= 0.99 x"),
        ("  p50, ns", ""),
        ("  processor time, ns an event", ""),
    ];
    for (i, (what, target)) in rows.into_iter().enumerate() {
        let mut sorted = ratios[i].0.clone();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (sorted[sorted.len() / 4], sorted[sorted.len() * 3 / 4]);
        let ratio = format!("{:.4} x, half of the pairs in {low:.4}-{high:.4}", ratios[i].median());
        table.row(what, target, &ours[i].show(""), &format!("unsupervised {} = {ratio}", theirs[i].show("")));
    }
    // The pairs scatter by more than what is looked for: its parts can be told apart from the rest.
    let added: Vec<f64> = (0..7).map(|_| added_to_a_commit()).collect();
    let added = added.into_iter().fold(Runs::default(), |mut runs, ns| {
        runs.push(ns);
        runs
    });
    let commit = ours[3].median();
    table.row(
        "what it adds to a lone commit, ns",
        "< 1 % of it",
        &added.show(""),
        &format!("a lone commit {commit:.0} ns: {:.3} %", 100.0 * added.median() / commit),
    );
    println!(
        "# {pairs} pairs of {} events pipelined and {} ms of lone ones",
        short(events as f64),
        time.as_millis()
    );
}
