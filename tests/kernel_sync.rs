//! A simulated kernel in another process writes, loses, repeats, reorders and starts anew; the journal follows: each record
//! once, in order, every loss told. `SEMJ_SEED=7` makes a run happen again.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;
#[path = "../examples/kernel_sim/sim.rs"]
mod sim;

use common::{PATIENCE, Random, World};
use semj::sources::{SemjTail, TailForm};
use semj::{Journal, Recorded, SourceStatus};
use sim::{Dice, Kernel, Plan, Truth, write};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

fn seed(n: u64) -> u64 {
    let seed = std::env::var("SEMJ_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(n);
    println!("SEMJ_SEED={seed}");
    seed
}

fn truth(plan: &Plan) -> Truth {
    write(plan, &mut std::io::sink(), &mut |_| {}).unwrap()
}

const WRITE_TO: &str = "SEMJ_TEST_KERNEL_WRITES_TO";

/// The simulated kernel as a process of its own: this test binary, asked for one test.
fn kernel(file: &Path, plan: &Plan) -> Child {
    let Plan { seed, events, drop, duplicate, reorder, restart_every } = plan;
    let plan = format!("{seed},{events},{drop},{duplicate},{reorder},{restart_every}");
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_simulated_kernel_as_a_process"])
        .env(WRITE_TO, file)
        .env("SEMJ_TEST_KERNEL_PLAN", plan)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn the_simulated_kernel_as_a_process() {
    let Some(file) = std::env::var_os(WRITE_TO) else { return };
    let plan = std::env::var("SEMJ_TEST_KERNEL_PLAN").unwrap();
    let n: Vec<u64> = plan.split(',').map(|n| n.parse().unwrap()).collect();
    let plan =
        Plan { seed: n[0], events: n[1], drop: n[2], duplicate: n[3], reorder: n[4], restart_every: n[5] };
    let mut file = OpenOptions::new().append(true).open(file).unwrap();
    write(&plan, &mut file, &mut |_| {}).unwrap();
}

/// What a journal holds of a source.
#[derive(Debug, Default)]
struct Held {
    /// For each life: sequence and event id of its records.
    lives: Vec<BTreeMap<u64, u64>>,
    /// For each life: the sum of its gaps, without what came late.
    lost: Vec<u64>,
    /// Gaps of unknown length.
    unknown: u64,
    /// Records that stand behind one with a greater sequence of their life.
    out_of_order: u64,
    filled: u64,
}

fn number(event: &Recorded, key: &str) -> u64 {
    let metadata = event.event.metadata_json().unwrap().value();
    metadata[format!("semj.kernel.{key}")].as_u64().unwrap()
}

fn held(events: impl Iterator<Item = Recorded>) -> Held {
    let mut held = Held::default();
    let mut greatest = 0;
    for event in events {
        let payload = event.event.payload_value().as_json().unwrap_or_default();
        match event.event.name_text().and_then(|n| n.as_str()) {
            Some("semj.epoch") => {
                held.lives.push(BTreeMap::new());
                held.lost.push(0);
                greatest = 0;
            }
            Some("semj.gap") => match payload["semj.lost"].as_u64() {
                Some(lost) => *held.lost.last_mut().unwrap() += lost,
                None => held.unknown += 1,
            },
            Some("semj.gap_filled") => {
                *held.lost.last_mut().unwrap() -= 1;
                held.filled += 1;
            }
            Some("semj.certificate" | "semj.coverage" | "semj.resync" | "semj.lag" | "semj.clock_step") => {}
            _ => {
                let sequence = number(&event, "global_sequence");
                let life = held.lives.last_mut().unwrap();
                assert_eq!(life.insert(sequence, number(&event, "event_id")), None, "{sequence} came twice");
                held.out_of_order += u64::from(sequence < greatest);
                greatest = greatest.max(sequence);
            }
        }
    }
    held
}

fn held_by(journal: &Journal, source: &str) -> Held {
    held(journal.query().source(source).run().unwrap().map(Result::unwrap))
}

fn status(journal: &Journal) -> SourceStatus {
    journal.sync_status().remove(0)
}

fn assert_true(held: &Held, truth: &Truth, what: &str) {
    assert_eq!(held.lives.len(), truth.lives.len(), "{what}: lives");
    for (n, (held, truth)) in held.lives.iter().zip(&truth.lives).enumerate() {
        assert!(held == truth, "{what}: life {n} holds {} records, expected {}", held.len(), truth.len());
    }
    assert_eq!(held.lost, truth.dropped, "{what}: what the gaps say");
}

#[test]
fn what_a_faulty_kernel_lost_is_what_the_gaps_say() {
    for n in 0..6 {
        let seed = seed(n);
        let world = World::new();
        let stream = world.path("kernel.semj");
        File::create(&stream).unwrap();
        let plan = Plan {
            seed,
            events: 1_500,
            drop: [0, 3, 20][n as usize % 3],
            duplicate: 5,
            reorder: [0, 10][n as usize % 2],
            restart_every: [0, 400, 90][n as usize % 3],
        };
        let journal = Journal::options().source(SemjTail::new(&stream)).open(world.journal()).unwrap();
        // It is followed while it writes.
        assert!(kernel(&stream, &plan).wait().unwrap().success());
        journal.sync_now(PATIENCE).unwrap();
        let (truth, held) = (truth(&plan), held_by(&journal, "kernel:kernel.semj"));
        assert_true(&held, &truth, &format!("{plan:?}"));
        let status = status(&journal);
        assert_eq!(status.duplicates, truth.duplicates, "{plan:?}");
        assert_eq!(held.out_of_order, held.filled, "only what was waited for in vain is out of order");
        assert_eq!((status.lag_events, status.unknown_gaps), (Some(0), 0));
        journal.close(PATIENCE).unwrap();
        // Reading it all again adds nothing.
        let journal = Journal::options().source(SemjTail::new(&stream)).open(world.journal()).unwrap();
        journal.sync_now(PATIENCE).unwrap();
        assert_true(&held_by(&journal, "kernel:kernel.semj"), &truth, "again");
    }
}

#[test]
fn a_reader_that_is_killed_again_and_again_repeats_and_misses_nothing() {
    let seed = seed(11);
    let world = World::new();
    let stream = world.path("kernel.semj");
    File::create(&stream).unwrap();
    let plan = Plan { seed, events: 4_000, drop: 3, duplicate: 3, reorder: 5, restart_every: 1_500 };
    let mut random = Random::new();
    let mut writer = kernel(&stream, &plan);
    let mut kills = 0;
    while writer.try_wait().unwrap().is_none() || kills < 20 {
        let mut reader = world.spawn(&["kernel", "sync", "--follow", "kernel.semj"]);
        let until = Instant::now() + Duration::from_millis(5 + random.below(60));
        while Instant::now() < until {
            std::thread::yield_now();
        }
        reader.kill().unwrap();
        reader.wait().unwrap();
        kills += 1;
        if kills > 500 {
            break;
        }
    }
    writer.wait().unwrap();
    let out = world.run(&["kernel", "sync", "kernel.semj"], b"");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    println!("{kills} kills; {}", String::from_utf8_lossy(&out.stdout).trim());
    let journal = Journal::open(world.journal()).unwrap();
    assert_true(&held_by(&journal, "kernel:kernel.semj"), &truth(&plan), "after kills");
}

fn records(kernel: &mut Kernel, count: usize) -> Vec<Vec<u8>> {
    let mut dice = Dice(1);
    (0..count).map(|_| kernel.event(&mut dice).2).collect()
}

fn sequences(journal: &Journal, source: &str) -> Vec<Vec<u64>> {
    held_by(journal, source).lives.iter().map(|l| l.keys().copied().collect()).collect()
}

#[test]
fn a_torn_record_is_waited_for_and_damage_is_passed() {
    let world = World::new();
    let stream = world.path("k");
    let all = records(&mut Kernel::loaded_at(1_000_000_000), 6);
    let mut file = File::create(&stream).unwrap();
    let journal = Journal::options().source(SemjTail::new(&stream)).open(world.journal()).unwrap();
    let (head, tail) = all[1].split_at(3_000);
    file.write_all(&[&all[0], head].concat()).unwrap();
    journal.sync_now(PATIENCE).unwrap();
    assert_eq!(sequences(&journal, "kernel:k"), [[1]]);
    file.write_all(tail).unwrap();
    journal.sync_now(PATIENCE).unwrap();
    assert_eq!(sequences(&journal, "kernel:k"), [[1, 2]]);
    // The writer died within the third record; the next one began behind it.
    file.write_all(&[&all[2][..2_000], &all[3], &all[4]].concat()).unwrap();
    journal.sync_now(PATIENCE).unwrap();
    let held = held_by(&journal, "kernel:k");
    assert_eq!((held.lives[0].len(), held.lost[0], held.unknown), (4, 1, 1));
    // And one whose bytes were changed.
    let mut bad = all[5].clone();
    bad[200] ^= 1;
    file.write_all(&bad).unwrap();
    journal.sync_now(PATIENCE).unwrap();
    assert_eq!(sequences(&journal, "kernel:k"), [[1, 2, 4, 5]]);
    assert_eq!(status(&journal).incarnation, 1);
}

#[test]
fn a_file_that_is_rewritten_or_cut_off_begins_a_new_life() {
    let world = World::new();
    let stream = world.path("k");
    let all = records(&mut Kernel::loaded_at(1_000_000_000), 5).concat();
    let new = records(&mut Kernel::loaded_at(9_000_000_000), 3).concat();
    std::fs::write(&stream, &all).unwrap();
    let open = || Journal::options().source(SemjTail::new(&stream)).open(world.journal()).unwrap();
    let journal = open();
    journal.sync_now(PATIENCE).unwrap();
    // Cut off and written anew, while it is followed.
    let head = semj::kernel::UserspaceHeader::new(0, 1, 80).encode();
    std::fs::write(&stream, head).unwrap();
    for _ in 0..3 {
        journal.sync_now(PATIENCE).unwrap();
    }
    OpenOptions::new().append(true).open(&stream).unwrap().write_all(&new).unwrap();
    journal.sync_now(PATIENCE).unwrap();
    let first: Vec<u64> = (1..=5).collect();
    assert_eq!(sequences(&journal, "kernel:k"), [first.clone(), vec![1, 2, 3]]);
    journal.close(PATIENCE).unwrap();
    // Replaced by a longer one while nobody looked.
    std::fs::write(world.path("other"), records(&mut Kernel::loaded_at(20_000_000_000), 7).concat()).unwrap();
    std::fs::rename(world.path("other"), &stream).unwrap();
    let journal = open();
    journal.sync_now(PATIENCE).unwrap();
    let last: Vec<u64> = (1..=7).collect();
    assert_eq!(sequences(&journal, "kernel:k"), [first, vec![1, 2, 3], last]);
    assert_eq!(held_by(&journal, "kernel:k").unknown, 2);
}

#[test]
fn what_is_not_committed_by_its_length_is_not_read() {
    let world = World::new();
    let stream = world.path("k");
    let all = records(&mut Kernel::loaded_at(1_000_000_000), 4);
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&stream).unwrap();
    file.set_len(1 << 20).unwrap();
    let commit = |records: usize| {
        let length: usize = all.iter().take(records).map(Vec::len).sum();
        file.write_all_at(&(length as u64).to_le_bytes(), 0).unwrap();
    };
    file.write_all_at(&all.concat(), semj::sources::DATA_AT).unwrap();
    commit(1);
    let tail = || SemjTail::new(&stream).form(TailForm::CommittedLength);
    let journal = Journal::options().source(tail()).open(world.journal()).unwrap();
    journal.sync_now(PATIENCE).unwrap();
    assert_eq!(sequences(&journal, "kernel:k"), [[1]]);
    commit(3);
    journal.sync_now(PATIENCE).unwrap();
    assert_eq!(sequences(&journal, "kernel:k"), [[1, 2, 3]]);
    journal.close(PATIENCE).unwrap();
    commit(4);
    let journal = Journal::options().source(tail()).open(world.journal()).unwrap();
    journal.sync_now(PATIENCE).unwrap();
    assert_eq!(sequences(&journal, "kernel:k"), [[1, 2, 3, 4]]);
}

#[test]
fn a_pipe_is_followed() {
    let world = World::new();
    let pipe = world.path("k");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    let journal = Journal::options().source(SemjTail::new(&pipe)).open(world.journal()).unwrap();
    let mut writer = OpenOptions::new().write(true).open(&pipe).unwrap();
    for record in records(&mut Kernel::loaded_at(1_000_000_000), 40) {
        writer.write_all(&record).unwrap();
    }
    journal.sync_now(PATIENCE).unwrap();
    let want: Vec<u64> = (1..=40).collect();
    assert_eq!(sequences(&journal, "kernel:k"), [want]);
}

#[test]
fn records_leave_the_journal_byte_for_byte() {
    let world = World::new();
    let all = records(&mut Kernel::loaded_at(1_000_000_000), 20);
    let mut file = File::create(world.path("k")).unwrap();
    file.write_all(&all.concat()).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let out = world.run(&["kernel", "sync", "k", "--json"], b"");
    assert!(out.status.success());
    let answer: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((&answer["records"], &answer["lost"]), (&20.into(), &0.into()));
    let out = world.run(
        &[
            "export",
            "--format",
            "semj",
            "--type",
            "filesystem.create",
            "--type",
            "agent.decision",
            "--category",
            "filesystem",
        ],
        b"",
    );
    let exported = out.stdout;
    let found = all.iter().filter(|r| exported.windows(r.len()).any(|w| w == r.as_slice())).count();
    assert!(found > 0, "none of {} bytes", exported.len());
    let missing = world.run(&["kernel", "sync", "nowhere"], b"");
    assert_eq!(missing.status.code(), Some(4));
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(said.contains("nowhere") && said.contains("needs"), "{said}");
}

/// One JSON object of what a command says.
fn said(world: &World, arguments: &[&str]) -> serde_json::Value {
    let out = world.run(arguments, b"");
    assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

#[test]
fn the_command_line_says_where_a_record_is_and_where_a_source_stands() {
    let world = World::new();
    let kernel = |count| records(&mut Kernel::loaded_at(1_000_000_000), count);
    // The third record is lost; then the kernel is loaded again.
    let mut first = kernel(6);
    first.remove(2);
    let second = records(&mut Kernel::loaded_at(9_000_000_000_000), 4);
    std::fs::write(world.path("k"), [first.concat(), second.concat()].concat()).unwrap();
    let synced = said(&world, &["kernel", "sync", "k", "--json"]);
    assert!(
        synced["sync_now_us"].as_u64().is_some() && synced["certificates"].as_u64() >= Some(1),
        "{synced}"
    );
    for (life, sequences) in [("1", vec![1, 2, 4, 5, 6]), ("2", vec![1, 2, 3, 4])] {
        for n in sequences {
            let sequence = n.to_string();
            let there = said(&world, &["kernel", "where", "--life", life, "kernel:k", &sequence, "--json"]);
            let event = there["sequence"].to_string();
            let shown = said(&world, &["show", "--json", &event]);
            assert_eq!(shown["metadata"]["semj.kernel.global_sequence"], n, "{shown}");
            assert_eq!(said(&world, &["kernel", "where", &event, "--json"]), there);
        }
    }
    assert_eq!(said(&world, &["kernel", "where", "kernel:k", "4", "--json"])["life"], 2, "the newest life");
    let missing = world.run(&["kernel", "where", "--life", "1", "kernel:k", "3"], b"");
    assert_eq!(missing.status.code(), Some(1), "{}", String::from_utf8_lossy(&missing.stderr));
    {
        // Beside an owner that follows it.
        let journal =
            Journal::options().source(SemjTail::new(world.path("k"))).open(world.journal()).unwrap();
        journal.sync_now(PATIENCE).unwrap();
        assert_eq!(said(&world, &["kernel", "status", "--json"])["coverage"], "watching");
        journal.close(PATIENCE).unwrap();
    }
    let stand = said(&world, &["kernel", "status", "--json"]);
    let figures = ["source", "coverage", "life", "records", "last_sequence", "lost_records", "unknown_gaps"];
    let figures: Vec<String> = figures.iter().map(|key| stand[*key].to_string()).collect();
    assert_eq!(figures, ["\"kernel:k\"", "\"closed\"", "2", "4", "4", "0", "0"]);
    assert!(
        stand["complete_boot_ns"].as_i64() > Some(0) && stand["complete_ago_ms"].as_u64().is_some(),
        "{stand}"
    );
    assert_eq!(said(&world, &["status", "--json"])["sources"][0]["source"], "kernel:k");
    let words = world.run(&["kernel", "status"], b"");
    let words = String::from_utf8_lossy(&words.stdout).into_owned();
    assert!(
        words.starts_with("kernel:k: closed; life 2, 4 records up to 4; 0 lost") && words.contains(" ms ago"),
        "{words}"
    );
}
