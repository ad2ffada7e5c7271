//! A simulated kernel in another process that overwrites what nobody has read, and whose wall clock is set, followed by
//! the real binary. `SEMJ_SEED=7` makes a run happen again.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;
#[path = "../examples/kernel_sim/sim.rs"]
mod sim;

use common::{PATIENCE, World, complaint, lines};
use serde_json::{Value, json};
use sim::{Plan, Ring};
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Instant;

const WRITE_TO: &str = "SEMJ_TEST_RING";
const COUNT: &str = "SEMJ_TEST_RING_COUNT";
/// Room for about twenty records.
const ROOM: u64 = 110_000;
const HOUR_NS: i64 = 3_600_000_000_000;

fn plan(events: u64) -> Plan {
    let seed = std::env::var("SEMJ_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(5);
    println!("SEMJ_SEED={seed}");
    Plan { seed, events, ..Plan::default() }
}

/// Not a test by itself: the kernel as a process of its own.
#[test]
fn the_simulated_kernel_as_a_process() {
    let Some(file) = std::env::var_os(WRITE_TO) else { return };
    let count = std::env::var(COUNT).unwrap().parse().unwrap();
    let mut ring = Ring::create(Path::new(&file), ROOM).unwrap();
    sim::write(&plan(count), &mut ring, &mut |_| {}).unwrap();
    assert!(ring.laps > 10);
}

fn kernel(file: &Path, count: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_simulated_kernel_as_a_process"])
        .env(WRITE_TO, file)
        .env(COUNT, count.to_string())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

fn sync(world: &World) -> Value {
    let out = world.run(&["kernel", "sync", "--json", "--committed-length", "k"], b"");
    assert!(out.status.success(), "{}", complaint(&out));
    lines(&out).remove(0)
}

/// The kernel's sequences in the order of the journal.
fn sequences(world: &World) -> Vec<u64> {
    let events = world.json(&["export", "--category", "filesystem", "--category", "agent"]);
    events.iter().map(|e| e["metadata"]["semj.kernel.global_sequence"].as_u64().unwrap()).collect()
}

fn named(world: &World, name: &str) -> Vec<Value> {
    world.json(&["query", "--json", "--name", name])
}

fn stop(child: Child) {
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let out = child.wait_with_output().unwrap();
    // 130 where the signal came before it had begun.
    assert!(matches!(out.status.code(), Some(0 | 130)), "{}", complaint(&out));
}

#[test]
fn what_was_overwritten_before_it_was_read_is_a_gap_of_so_many_records() {
    let world = World::new();
    let mut ring = Ring::create(&world.path("k"), ROOM).unwrap();
    let mut all = Vec::new();
    sim::write(&plan(300), &mut Split(&mut all), &mut |_| {}).unwrap();
    all[..8].iter().for_each(|r| ring.write_all(r).unwrap());
    assert_eq!(sync(&world)["records"], 8);
    all[8..].iter().for_each(|r| ring.write_all(r).unwrap());
    let told = sync(&world);
    let held = sequences(&world);
    let lost = 300 - held.len() as u64;
    assert!(ring.laps > 10 && lost > 250, "{} laps, {lost} lost", ring.laps);
    assert_eq!((&told["lost"], &told["unknown_gaps"]), (&json!(lost), &json!(0)));
    assert_eq!((held[..8].to_vec(), held[8]), ((1..=8).collect(), 9 + lost));
    assert!(held[8..].iter().copied().eq(9 + lost..=300));
    let gaps = named(&world, "semj.gap");
    assert_eq!(gaps.len(), 1);
    let gap = &gaps[0]["payload"];
    assert_eq!((&gap["semj.cause"], &gap["semj.lost"]), (&json!("overwritten"), &json!(lost)));
    assert_eq!((&gap["semj.first_missing"], &gap["semj.last_missing"]), (&json!(9), &json!(8 + lost)));
    assert_eq!(named(&world, "semj.epoch").len(), 1, "it is one life");
}

/// Keeps each record by itself.
struct Split<'a>(&'a mut Vec<Vec<u8>>);

impl std::io::Write for Split<'_> {
    fn write(&mut self, record: &[u8]) -> std::io::Result<usize> {
        self.0.push(record.to_vec());
        Ok(record.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn every_record_of_a_kernel_that_overwrites_at_full_speed_is_there_once_or_counted() {
    let world = World::new();
    const COUNT: u64 = 40_000;
    Ring::create(&world.path("k"), ROOM).unwrap();
    let reader = world.spawn(&["kernel", "sync", "--follow", "--json", "--committed-length", "k"]);
    assert!(kernel(&world.path("k"), COUNT).wait().unwrap().success());
    stop(reader);
    let told = sync(&world);
    let held = sequences(&world);
    println!("{} of {COUNT} were read in time", held.len());
    assert!(held.windows(2).all(|w| w[0] < w[1]), "in order, each once");
    assert_eq!(held.last(), Some(&COUNT));
    let lost: u64 =
        named(&world, "semj.gap").iter().map(|g| g["payload"]["semj.lost"].as_u64().unwrap()).sum();
    assert_eq!(held.len() as u64 + lost, COUNT);
    assert_eq!((&told["lost"], &told["last_sequence"]), (&json!(lost), &json!(COUNT)));
}

#[test]
fn a_clock_that_is_set_back_an_hour_is_told_once_and_changes_no_order() {
    let world = World::new();
    let mut ring = Ring::create(&world.path("k"), 10_000_000).unwrap();
    ring.step = (200, -HOUR_NS);
    let mut all = Vec::new();
    sim::write(&plan(400), &mut Split(&mut all), &mut |_| {}).unwrap();
    let until = Instant::now() + PATIENCE;
    let wait_for = |count: usize| {
        while sequences(&world).len() < count {
            assert!(Instant::now() < until, "{count} records never came");
        }
    };
    all[..150].iter().for_each(|r| ring.write_all(r).unwrap());
    let reader = world.spawn(&["kernel", "sync", "--follow", "--json", "--committed-length", "k"]);
    // What the journal holds can be asked for beside it.
    while !world.run(&["status"], b"").status.success() {
        assert!(Instant::now() < until, "there never was a journal");
    }
    wait_for(150);
    all[150..].iter().for_each(|r| ring.write_all(r).unwrap());
    wait_for(400);
    while named(&world, "semj.clock_step").is_empty() {
        assert!(Instant::now() < until, "no step was told");
    }
    stop(reader);
    let held = sequences(&world);
    assert!(held.iter().copied().eq(1..=400), "the order is the kernel's");
    let steps = named(&world, "semj.clock_step");
    assert_eq!(steps.len(), 1);
    assert_eq!(steps[0]["payload"]["semj.step_ns"], -HOUR_NS);
    // The journal knows this boot's clock now: what is imported of it elsewhere has times, each by the reading before it.
    let boot = ring.boot_id.to_string();
    let known = |ktime: i64| semj::event::Timestamp(sim::BOOTED_AT + ktime).to_string();
    let ktime = |record: &[u8]| i64::from_le_bytes(record[16..24].try_into().unwrap());
    std::fs::write(world.path("apart"), all.concat()).unwrap();
    let out = world.run(&["--json", "import", "--format", "semj", "--boot", &boot, "apart"], b"");
    assert!(!complaint(&out).contains("wall-clock"), "{}", complaint(&out));
    assert_eq!(lines(&out)[0]["duplicates"], 0);
    let imported = world.json(&["export", "--stream", &format!("kernel:{boot}")]);
    assert_eq!(imported[0]["time"], known(ktime(&all[0])));
    assert_eq!(imported[399]["time"], known(ktime(&all[399]) - HOUR_NS));
    let bytes = world.run(&["export", "--format", "semj", "--stream", &format!("kernel:{boot}")], b"").stdout;
    assert!(bytes[80..] == all.concat());
}
