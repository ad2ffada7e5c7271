//! SIGKILL of a process that writes, at random moments and at every failpoint, many times on one journal: what was
//! acknowledged is there, once, in its place.
//!
//! `cargo test --features chaos --test kill_points`; `SEMJ_WORK=10` works ten times as much, `SEMJ_SEED` repeats a run.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod child;
#[path = "../common/mod.rs"]
mod common;
mod model;

use child::Plan;
use common::{PATIENCE, Random};
use model::Model;
use semj::limits::CHUNK_EVENTS;
use semj::{Journal, Query, Reader, VerifyLevel};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Kills on one journal; then another one is begun, so that looking at all of it stays cheap.
const KILLS_OF_A_JOURNAL: u64 = 40;

fn work() -> u64 {
    std::env::var("SEMJ_WORK").ok().map_or(1, |n| n.parse().expect("SEMJ_WORK is a number"))
}

/// The process that is killed; without a plan there is nothing to do.
#[test]
fn a_child_lives() {
    if let Some(plan) = Plan::from_env() {
        child::live(&plan);
    }
}

/// When a child is killed.
#[derive(Clone, Debug)]
enum When {
    /// So long after its start.
    After(Duration),
    /// After so many lines, then so much later.
    Heard(usize, Duration),
    /// So long after it began to close.
    Closing(Duration),
    /// Where its failpoints say so.
    Points(String),
}

/// In what state a child finds the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Before {
    AsItIs,
    /// A block was written and never synced.
    Unproven,
    /// The last block was cut.
    Torn,
    /// A segment was only begun.
    Stillborn,
    /// The end mark was written, and LOCK does not tell of it.
    HalfClosed,
    /// There are no trees.
    NoTrees,
    /// The trees cannot be read.
    BadTrees,
    /// The last owner closed it.
    Closed,
}

struct World {
    folder: tempfile::TempDir,
    model: Model,
    random: Random,
    run: u64,
    /// Kills since the journal was begun.
    of_journal: u64,
    kills: BTreeMap<String, u64>,
    /// Acknowledged operations and blobs, events and checks of journals that are done with.
    totals: [u64; 4],
}

impl World {
    fn new() -> Self {
        World {
            folder: tempfile::tempdir().unwrap(),
            model: Model::default(),
            random: Random::new(),
            run: 0,
            of_journal: 0,
            kills: BTreeMap::new(),
            totals: [0; 4],
        }
    }

    fn journal(&self) -> PathBuf {
        self.folder.path().join("j")
    }

    /// Lets a child live until it is killed or ends; whether it was killed.
    fn live(&mut self, when: &When, is_full: bool) -> bool {
        self.run += 1;
        let run = self.run;
        let again =
            if run > 1 && self.of_journal > 0 { self.model.choose_again(run - 1) } else { Vec::new() };
        let operations = match when {
            // Trees take in whole chunks.
            When::Points(points) if FULL_CHUNK.iter().any(|p| points.starts_with(p)) => CHUNK_EVENTS / 2,
            _ => 20 + self.random.below(60),
        };
        let plan = Plan { journal: self.journal(), run, operations, again, is_full };
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "a_child_lives", "--nocapture"]).env(child::PLAN, plan.text());
        if let When::Points(points) = when {
            command.env(semj_storage::chaos::VARIABLE, points);
        }
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = lines_of(child.stderr.take().unwrap());
        let acknowledged = AtomicU64::new(0);
        let ended = AtomicBool::new(false);
        let (path, reads) = (self.journal(), run.is_multiple_of(4));
        let status = std::thread::scope(|scope| {
            let beside = reads.then(|| scope.spawn(|| read_beside(&path, &acknowledged, &ended)));
            let mut hear = |line: String| {
                self.model.hear(run, &line);
                let words: Vec<&str> = line.split(' ').collect();
                if let ["opened", place] | ["ack", _, place, _] = words[..] {
                    acknowledged.fetch_max(place.parse().unwrap(), Ordering::SeqCst);
                }
            };
            wait_for(when, &lines, &mut hear);
            if !matches!(when, When::Points(_)) {
                child.kill().unwrap();
            }
            let status = child.wait().unwrap();
            lines.iter().for_each(hear);
            ended.store(true, Ordering::SeqCst);
            if let Some(beside) = beside {
                beside.join().unwrap();
            }
            status
        });
        let killed = status.signal() == Some(9);
        assert!(killed || status.success(), "{when:?}, run {run}: {status}");
        self.of_journal += 1;
        if killed {
            let name = match when {
                When::After(_) => "at start".into(),
                When::Heard(..) => "at work".into(),
                When::Closing(_) => "while closing".into(),
                When::Points(points) => points.split('=').next().unwrap().to_owned(),
            };
            *self.kills.entry(name).or_default() += 1;
        }
        killed
    }

    /// Brings the journal into a state; what a reader sees from now on must stay.
    fn bring_about(&mut self, before: Before) {
        let nth = 1 + self.random.below(5);
        let unproven = When::Points(format!("writer:after_write=kill@{nth}"));
        match before {
            Before::AsItIs => {}
            Before::Unproven => drop(self.live(&unproven, false)),
            Before::Torn => {
                self.live(&unproven, false);
                self.change_last_segment(|bytes| {
                    let last = bytes.iter().rposition(|b| *b != 0).unwrap();
                    bytes.truncate(last - 30);
                });
            }
            Before::Stillborn => {
                self.live(&unproven, false);
                let next = self.reader().durable_sequence().unwrap() + 1;
                std::fs::write(self.journal().join(format!("segments/{next:020}.semj")), "begun").unwrap();
            }
            Before::HalfClosed => drop(self.live(&When::Points("writer:close_cut=kill@1".into()), false)),
            Before::NoTrees => drop(std::fs::remove_dir_all(self.journal().join("trees"))),
            Before::BadTrees => {
                for entry in std::fs::read_dir(self.journal().join("trees")).into_iter().flatten().flatten() {
                    if entry.path().is_file() {
                        std::fs::write(entry.path(), [7; 3_000]).unwrap();
                    }
                }
            }
            Before::Closed => self.open_and_close(),
        }
    }

    fn change_last_segment(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let entries = std::fs::read_dir(self.journal().join("segments")).unwrap();
        let path = entries.map(|e| e.unwrap().path()).max().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        change(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
    }

    fn reader(&self) -> Reader {
        Journal::open_read_only(self.journal()).unwrap()
    }

    /// Looks without changing anything; sometimes this process is the next owner, else the next child is.
    fn check(&mut self, context: &str) {
        if !self.journal().join("segments").exists() {
            // Killed before the journal was there.
            return;
        }
        let all = self.of_journal % 8 == 7;
        let context = format!("run {}, {context}", self.run);
        self.model.check(&self.reader(), all, &context);
        if self.random.percent(25) {
            self.open_and_close();
            self.model.check(&self.reader(), false, &format!("{context}, reopened"));
        }
        if self.of_journal >= KILLS_OF_A_JOURNAL {
            self.begin_another();
        }
    }

    /// An owner finds what was there, the trees agree with the record, and it ends cleanly.
    fn open_and_close(&mut self) {
        let journal = Journal::open(self.journal()).unwrap();
        assert_eq!(journal.status().engine.unwrap().damage, []);
        for stream in ["thread-0", "thread-1"] {
            let by_trees = journal.query().agent(stream).count().unwrap();
            let by_scan = self.reader().count(Query::new().agent(stream)).unwrap();
            assert_eq!(by_trees, by_scan, "run {}: {stream}", self.run);
        }
        journal.close(PATIENCE).unwrap();
        let report = self.reader().verify(VerifyLevel::Full).unwrap().record;
        assert!(report.intact && report.torn_tail.is_none(), "run {}: {report:?}", self.run);
    }

    /// Lets a child be killed at a pass of a point. Most passes are a matter of timing; a first one is waited for.
    fn kill_at(&mut self, point: &str, nth: u64) -> bool {
        let states = [Before::AsItIs, Before::Closed, Before::Unproven, Before::NoTrees];
        for _ in 0..if nth == 1 { 5 } else { 1 } {
            let before = state_for(point).unwrap_or(states[self.random.below(4) as usize]);
            if self.of_journal > 0 || state_for(point).is_some() {
                self.bring_about(before);
            }
            let when = When::Points(format!("{point}=kill@{nth}"));
            let killed = self.live(&when, point == "persister:timer");
            self.check(&format!("{before:?}, {point}, pass {nth}"));
            if killed {
                return true;
            }
        }
        false
    }

    fn begin_another(&mut self) {
        self.model.check(&self.reader(), true, "the end of a journal");
        self.open_and_close();
        let (operations, blobs) = self.model.acknowledged();
        let (events, checks) = (self.model.events() as u64, self.model.checks);
        for (total, more) in self.totals.iter_mut().zip([operations as u64, blobs as u64, events, checks]) {
            *total += more;
        }
        self.model = Model::default();
        self.of_journal = 0;
        std::fs::remove_dir_all(self.journal()).unwrap();
    }

    /// The figures, after a last look at everything.
    fn finish(mut self) -> BTreeMap<String, u64> {
        if self.of_journal > 0 {
            self.begin_another();
        }
        let [operations, blobs, events, checks] = self.totals;
        println!(
            "{} kills, {checks} checks, {events} events, {operations} operations and {blobs} blobs acknowledged, 0 lost",
            self.kills.values().sum::<u64>()
        );
        for (name, kills) in &self.kills {
            println!("  {name}: {kills}");
        }
        self.kills
    }
}

/// Passed only with a full chunk of events.
const FULL_CHUNK: [&str; 3] = ["trees:apply", "trees:rows", "trees:cursor"];

/// What a child says, line by line; a line without its end was cut off by the kill.
fn lines_of(stderr: std::process::ChildStderr) -> Receiver<String> {
    let (to, lines) = channel();
    std::thread::spawn(move || {
        let mut stderr = BufReader::new(stderr);
        let mut line = String::new();
        while stderr.read_line(&mut line).is_ok_and(|_| line.ends_with('\n')) {
            let _ = to.send(std::mem::take(&mut line).trim_end().to_owned());
        }
    });
    lines
}

/// Hears the child until it is to be killed, or has ended.
fn wait_for(when: &When, lines: &Receiver<String>, hear: &mut dyn FnMut(String)) {
    let (mut heard, mut until) = (0, None);
    if let When::After(time) = when {
        until = Some(Instant::now() + *time);
    }
    loop {
        let deadline = until.unwrap_or(Instant::now() + PATIENCE);
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                heard += 1;
                match when {
                    When::Heard(count, later) if heard == *count => until = Some(Instant::now() + *later),
                    When::Closing(later) if line == "closing" => until = Some(Instant::now() + *later),
                    _ => {}
                }
                hear(line);
            }
            Err(RecvTimeoutError::Timeout) => {
                assert!(until.is_some(), "{when:?}: the child hangs");
                return;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Reads beside the child as long as it lives: always a prefix, never without what was acknowledged before, and from the
/// first acknowledgement on never a shorter one. (Between two owners a reader also sees what the next owner has yet to
/// make durable.)
fn read_beside(path: &std::path::Path, acknowledged: &AtomicU64, ended: &AtomicBool) {
    let mut known: BTreeMap<u64, u64> = BTreeMap::new();
    let mut last_before = 0;
    while !ended.load(Ordering::SeqCst) {
        let must = acknowledged.load(Ordering::SeqCst);
        let Ok(reader) = Journal::open_read_only(path) else {
            assert_eq!(must, 0, "it was there already");
            continue;
        };
        let last = reader.durable_sequence().unwrap();
        assert!(last >= must && last >= last_before, "sees {last}, {must} acknowledged, {last_before} seen");
        let mut place = last.saturating_sub(100);
        for event in reader.run(Query::new().after(place).before(last + 1)).unwrap() {
            // An owner that is opening it may just have moved what is being read.
            let Ok(event) = event.map_err(|e| assert!(must == 0, "{e}")) else { break };
            place += 1;
            assert_eq!(event.sequence, place, "dense");
            let (n, _) = child::numbers(&event);
            assert!(known.insert(place, n).is_none_or(|before| before == n), "place {place} changed");
        }
        assert!(place == last || must == 0, "{place} of {last}");
        let report = reader.verify(VerifyLevel::Quick).unwrap().record;
        assert!(report.intact, "{must} acknowledged: {report:?}");
        last_before = if must > 0 { last } else { 0 };
    }
}

#[test]
fn kills_at_random_moments_lose_nothing() {
    let mut world = World::new();
    let states =
        [Before::AsItIs, Before::AsItIs, Before::AsItIs, Before::NoTrees, Before::BadTrees, Before::Closed];
    for _ in 0..40 * work() {
        let before = states[world.random.below(states.len() as u64) as usize];
        if world.of_journal > 0 {
            world.bring_about(before);
        }
        let later = Duration::from_micros(world.random.below(20_000));
        let when = match world.random.below(10) {
            0..3 => When::After(later * 2),
            3..8 => When::Heard(1 + world.random.below(100) as usize, later / 8),
            _ => When::Closing(later),
        };
        world.live(&when, false);
        world.check(&format!("{before:?}, {when:?}"));
    }
    let kills = world.finish();
    assert_eq!(kills.len(), 3, "each kind of moment was met: {kills:?}");
}

/// Passed only where a damaged segment holds two blocks that were never synced, which no kill leaves behind: the
/// storage's own tests make one.
const ONLY_AFTER_DAMAGE: &str = "recover:removed";

/// The state in which a point is passed for sure.
fn state_for(point: &str) -> Option<Before> {
    Some(match point {
        "recover:set_aside" | "quarantine:written" => Before::Torn,
        "recover:stillborn" => Before::Stillborn,
        "recover:rewritten" | "recover:renamed" | "recover:cut" => Before::Unproven,
        "recover:marked" => Before::HalfClosed,
        "trees:set_aside" => Before::BadTrees,
        _ => return None,
    })
}

#[test]
fn a_kill_at_every_point_loses_nothing() {
    let mut world = World::new();
    let all = semj_storage::chaos::POINTS.iter().chain(semj_actors::chaos::STAGE_POINTS).copied();
    // No kernel source is attached here; `kernel_sync` has kills of its own.
    let is_met = |point: &&str| *point != ONLY_AFTER_DAMAGE && !point.starts_with("kernel_sync:");
    let points: Vec<&str> = all.filter(is_met).collect();
    let passes = match work() {
        1 => &[1, 3][..],
        _ => &[1, 2, 3, 7, 15, 40],
    };
    for _ in 0..work().div_ceil(4) {
        for point in &points {
            for nth in passes {
                if !world.kill_at(point, *nth) {
                    break;
                }
            }
        }
    }
    let kills = world.finish();
    let missed: Vec<_> = points.iter().filter(|p| !kills.contains_key(**p)).collect();
    assert!(missed.is_empty(), "nobody was killed at {missed:?}");
    println!("{} points", points.len());
}

#[test]
fn a_recovery_that_is_killed_again_and_again_loses_nothing() {
    let mut world = World::new();
    let states = [Before::Unproven, Before::Torn, Before::Stillborn];
    let points: Vec<&str> =
        semj_storage::chaos::POINTS.iter().copied().filter(|p| p.starts_with("recover:")).collect();
    for round in 0..12 * work() {
        let before = states[(round % 3) as usize];
        world.bring_about(before);
        let mut killed = Vec::new();
        for _ in 0..3 {
            let point = points[world.random.below(points.len() as u64) as usize];
            if world.live(&When::Points(format!("{point}=kill@1")), false) {
                killed.push(point);
            }
        }
        world.check(&format!("{before:?}, {killed:?}"));
    }
    world.finish();
}
