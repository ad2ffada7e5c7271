//! The torturer: starts lives of the process, kills them, and checks what they leave; each beside an undisturbed one.

use super::check::{Ack, Checker, look_up};
use super::report::{IoFaults, Recovery, Report, Times, is_in_place, is_on_the_way};
use super::tag::{KEYED, Rng};
use super::wire::{Life, Line, Told, Vitals};
use super::{Failure, Plan, Plant, Progress};
use crate::{Journal, VerifyLevel};
use semj_actors::supervision::Role;
use semj_actors::{Engine, EngineOptions};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const SIGKILL: i32 = 9;
/// A life that does not come to its end hangs.
const PATIENCE: Duration = Duration::from_secs(60);
const CLOSE_WITHIN: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(10);

/// What a life left behind.
#[derive(Default)]
struct Lived {
    acks: Vec<Ack>,
    told: Vec<Told>,
    vitals: Vitals,
    alive: Duration,
    memory: u64,
    was_killed: bool,
    problem: Option<String>,
}

/// How a life is to end.
#[derive(Clone, Copy)]
enum End {
    /// By itself.
    Itself,
    /// By SIGKILL, this long after the journal was opened.
    Killed(Duration),
    /// By SIGKILL, this long after the process was started.
    KilledEarly(Duration),
}

/// See the module.
pub(super) struct Torture<'a> {
    plan: &'a Plan,
    rng: Rng,
    checker: Checker,
    lives: u64,
    kills: u64,
    sums: Vitals,
    recovery: BTreeMap<(String, String), Times>,
    undisturbed_commits: Times,
    reopened: Times,
    opened: Times,
    tortured: Side,
    undisturbed: Side,
}

/// One of the two journals.
#[derive(Default)]
struct Side {
    alive: Duration,
    acknowledged: u64,
    memory: u64,
    /// How far each producer that gives ids has come.
    keyed: Vec<u64>,
}

impl Side {
    fn lived(&mut self, lived: &Lived) {
        self.alive += lived.alive;
        self.acknowledged += lived.acks.len() as u64;
        self.memory = lived.memory.max(self.memory);
        for ack in lived.acks.iter().filter(|ack| ack.tag.source >= KEYED) {
            let producer = usize::try_from(ack.tag.source - KEYED).unwrap_or(usize::MAX);
            if let Some(next) = self.keyed.get_mut(producer) {
                *next = (*next).max(ack.tag.item + 1);
            }
        }
    }

    fn per_second(&self) -> f64 {
        self.acknowledged as f64 / self.alive.as_secs_f64().max(1e-9)
    }
}

impl<'a> Torture<'a> {
    pub(super) fn new(plan: &'a Plan) -> Self {
        let side = || Side { keyed: vec![0; plan.producers as usize], ..Side::default() };
        Torture {
            plan,
            rng: Rng(plan.seed),
            checker: Checker::default(),
            lives: 0,
            kills: 0,
            sums: Vitals::default(),
            recovery: BTreeMap::new(),
            undisturbed_commits: Times::default(),
            reopened: Times::default(),
            opened: Times::default(),
            tortured: side(),
            undisturbed: side(),
        }
    }

    fn path(&self, is_tortured: bool) -> PathBuf {
        self.plan.folder.join(if is_tortured { "tortured" } else { "undisturbed" })
    }

    /// Lives until the time is used up or `go_on` says no.
    pub(super) fn run(mut self, go_on: &mut dyn FnMut(&Progress) -> bool) -> Result<Report, Failure> {
        let mut interrupted = false;
        while self.tortured.alive < self.plan.time && self.checker.findings.is_clean() && !interrupted {
            let left = (self.plan.time - self.tortured.alive).as_millis() as u64;
            let millis = self.rng.between(400, 1_600).min(left.max(50));
            let end = match self.rng.below(8) {
                _ if !self.plan.sigkill => End::Itself,
                0 => End::Itself,
                1 => End::KilledEarly(Duration::from_millis(self.rng.below(40))),
                _ => End::Killed(Duration::from_millis(millis)),
            };
            interrupted =
                self.live(millis, end, true, go_on)? || self.live(millis, End::Itself, false, go_on)?;
        }
        self.report(interrupted)
    }

    /// One life and its check; `true` when it was interrupted.
    fn live(
        &mut self,
        millis: u64,
        end: End,
        is_tortured: bool,
        go_on: &mut dyn FnMut(&Progress) -> bool,
    ) -> Result<bool, Failure> {
        let life = Life {
            number: self.lives,
            journal: self.path(is_tortured),
            // Who is to be killed must not be faster.
            millis: if matches!(end, End::Itself) { millis } else { millis + 60_000 },
            seed: if is_tortured { self.rng.next() } else { self.plan.seed },
            content: self.plan.seed,
            producers: self.plan.producers,
            kill_rate: if is_tortured { self.plan.kill_rate } else { 0.0 },
            io_faults: is_tortured && self.plan.io_faults,
            failpoints: is_tortured && self.plan.failpoints,
            keyed: if is_tortured { &self.tortured } else { &self.undisturbed }.keyed.clone(),
        };
        let progress = self.progress();
        let mut interrupted = false;
        let mut ask = || {
            interrupted |= !go_on(&progress);
            interrupted
        };
        let lived = spawn(self.plan, &life, end, &mut ask)?;
        if is_tortured { &mut self.tortured } else { &mut self.undisturbed }.lived(&lived);
        let is_silent = lived.told.is_empty() && !lived.was_killed && !interrupted;
        if let Some(problem) = lived.problem.clone().or(is_silent.then(|| "a life told nothing".into())) {
            self.checker.findings.tell(problem);
        }
        for told in &lived.told {
            self.hear(told, is_tortured);
        }
        if is_tortured {
            self.lives += 1;
            self.kills += u64::from(lived.was_killed);
            self.sums.full += lived.vitals.full;
            self.sums.errors += lived.vitals.errors;
            self.sums.slow += lived.vitals.slow;
            self.sums.left_behind += lived.vitals.left_behind;
            self.sums.asked += lived.vitals.asked;
            self.sums.restarts.iter_mut().zip(lived.vitals.restarts).for_each(|(sum, n)| *sum += n);
            self.check(lived.acks);
        }
        Ok(interrupted)
    }

    fn hear(&mut self, told: &Told, is_tortured: bool) {
        match told {
            Told::Commit { role, command, nanos } if is_tortured => {
                self.recovery.entry((role.clone(), command.clone())).or_default().push(*nanos);
            }
            Told::Commit { nanos, .. } => self.undisturbed_commits.push(*nanos),
            Told::Reopened { nanos, .. } => self.reopened.push(*nanos),
            Told::Problem { words } => self.checker.findings.tell(words.clone()),
            Told::Ready | Told::Vitals(_) | Told::End => {}
        }
    }

    /// Opens the tortured journal as its next owner would, and looks for everything that was acknowledged.
    fn check(&mut self, mut acks: Vec<Ack>) {
        self.plant(&mut acks);
        let path = self.path(true);
        if acks.is_empty() && !path.exists() {
            return;
        }
        let begun = Instant::now();
        let options = EngineOptions { lock_wait: CLOSE_WITHIN, ..EngineOptions::default() };
        let engine = match Engine::open(&path, options) {
            Ok(engine) => engine,
            Err(e) => return self.checker.findings.tell(format!("after a life: {e}")),
        };
        self.opened.push(begun.elapsed().as_nanos() as u64);
        let view = engine.view();
        if let Err(e) = self.checker.walk(&view) {
            self.checker.findings.tell(format!("after a life: {e}"));
        }
        self.checker.settle(&acks, |sequence| look_up(&view, sequence));
        for damage in engine.status().damage {
            self.checker.findings.tell(format!("after a life: {damage}"));
        }
        if let Err(e) = engine.close(CLOSE_WITHIN) {
            self.checker.findings.tell(format!("closing after a life: {e}"));
        }
    }

    /// A lie for the check to notice.
    fn plant(&self, acks: &mut Vec<Ack>) {
        let Some(plant) = self.plan.plant else { return };
        let (Some(first), Some(last)) = (acks.first().copied(), acks.last().copied()) else { return };
        match plant {
            Plant::Lost => {
                let mut never = last;
                never.tag.item += 1_000_000;
                acks.push(never);
            }
            Plant::Reordered => {
                if let [a, .., b] = acks.as_mut_slice() {
                    (a.sequence, b.sequence) = (last.sequence, first.sequence);
                }
            }
        }
    }

    fn progress(&self) -> Progress {
        Progress {
            done: self.tortured.alive,
            lives: self.lives,
            restarts: self.sums.restarts.iter().sum(),
            acknowledged: self.tortured.acknowledged,
        }
    }

    fn report(mut self, interrupted: bool) -> Result<Report, Failure> {
        let intact = self.check_all();
        let mut on_the_way = Times::default();
        let mut recovery = Vec::new();
        for ((role, command), times) in &self.recovery {
            if is_on_the_way(role) && is_in_place(command) {
                on_the_way.extend(times);
            }
            recovery.push(Recovery { role: role.clone(), command: command.clone(), time: times.figures() });
        }
        let (per_second, undisturbed_per_second) =
            (self.tortured.per_second(), self.undisturbed.per_second());
        let Vitals { full, errors, slow, left_behind, asked, restarts } = self.sums;
        Ok(Report {
            seed: self.plan.seed,
            seconds: self.tortured.alive.as_secs_f64(),
            lives: self.lives,
            sigkills: self.kills,
            events: self.checker.last(),
            intact,
            findings: self.checker.findings,
            disturbances: asked,
            restarts: Role::ALL.iter().map(|role| role.name()).zip(restarts).collect(),
            left_behind,
            io_faults: IoFaults { full, errors, slow },
            reopened: self.reopened.figures(),
            opened_after_life: self.opened.figures(),
            crash_to_commit: on_the_way.figures(),
            undisturbed_to_commit: self.undisturbed_commits.figures(),
            recovery,
            per_second,
            undisturbed_per_second,
            ratio: if undisturbed_per_second > 0.0 { per_second / undisturbed_per_second } else { 0.0 },
            memory_bytes: self.tortured.memory,
            undisturbed_memory_bytes: self.undisturbed.memory,
            interrupted,
        })
    }

    /// Every checksum, and everything that any life has left, once more from the start.
    fn check_all(&mut self) -> bool {
        let path = self.path(true);
        if !path.exists() {
            return true;
        }
        match again(&path) {
            Ok((last, digest, intact)) => {
                if (last, digest) != (self.checker.last(), self.checker.digest()) {
                    let words = "what an earlier check has seen is not what is there in the end".to_owned();
                    self.checker.findings.tell(words);
                }
                intact
            }
            Err(e) => {
                self.checker.findings.tell(format!("in the end: {e}"));
                false
            }
        }
    }
}

fn again(path: &Path) -> Result<(u64, u64, bool), Failure> {
    let reader = Journal::open_read_only(path).map_err(|e| Failure(e.to_string()))?;
    let intact = reader.verify(VerifyLevel::Full).map_err(|e| Failure(e.to_string()))?.record.intact;
    let engine = Engine::open(path, EngineOptions::default()).map_err(|e| Failure(e.to_string()))?;
    let mut checker = Checker::default();
    checker.walk(&engine.view()).map_err(|e| Failure(e.to_string()))?;
    let found = (checker.last(), checker.digest(), intact);
    engine.close(CLOSE_WITHIN).map_err(|e| Failure(e.to_string()))?;
    Ok(found)
}

/// Resident memory of a process, in bytes.
fn memory_of(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib << 10)
}

/// Ends with the torturer, whatever happens to that.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a process, lets it live, and collects what it tells.
fn spawn(
    plan: &Plan,
    life: &Life,
    end: End,
    interrupted: &mut dyn FnMut() -> bool,
) -> Result<Lived, Failure> {
    let text = serde_json::to_string(life).map_err(|e| Failure(e.to_string()))?;
    let mut child = Command::new(&plan.program)
        .args(&plan.arguments)
        .arg(text)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // A Ctrl-C is the torturer's.
        .process_group(0)
        .spawn()
        .map_err(|e| Failure(format!("{}: {e}", plan.program.display())))?;
    let Some(output) = child.stdout.take() else { return Err(Failure("the life has no output".into())) };
    let mut child = Running(child);
    let is_ready = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let listening = scope.spawn(|| listen(output, &is_ready));
        let started = Instant::now();
        let (mut opened, mut memory, mut was_killed, mut problem) = (None, 0, false, None);
        let status = loop {
            if let Some(status) = child.0.try_wait().map_err(|e| Failure(e.to_string()))? {
                break status;
            }
            memory = memory_of(child.0.id()).max(memory);
            if is_ready.load(Ordering::Relaxed) {
                opened.get_or_insert_with(Instant::now);
            }
            let is_due = match end {
                End::Killed(after) => opened.is_some_and(|opened| opened.elapsed() >= after),
                End::KilledEarly(after) => started.elapsed() >= after,
                End::Itself => false,
            };
            let is_late = started.elapsed() > Duration::from_millis(life.millis.min(600_000)) + PATIENCE;
            if is_late {
                problem = Some("a life did not come to its end".to_owned());
            }
            if is_due || is_late || interrupted() {
                let _ = child.0.kill();
                was_killed = true;
            }
            std::thread::sleep(LOOK);
        };
        let alive = opened.map_or(Duration::ZERO, |opened| opened.elapsed());
        let (acks, told) = listening.join().map_err(|_| Failure("the listener panicked".into()))?;
        let has_ended =
            status.success() && told.iter().any(|t| matches!(t, Told::End | Told::Problem { .. }));
        let was_killed = was_killed && status.signal() == Some(SIGKILL);
        if !has_ended && !was_killed {
            problem.get_or_insert_with(|| format!("a life ended by itself: {status}"));
        }
        let vitals = told.iter().rev().find_map(|t| match t {
            Told::Vitals(vitals) => Some(*vitals),
            _ => None,
        });
        let vitals = vitals.unwrap_or_default();
        Ok(Lived { acks, told, vitals, alive, memory, was_killed, problem })
    })
}

/// Hears everything until the process is gone.
fn listen(output: ChildStdout, is_ready: &AtomicBool) -> (Vec<Ack>, Vec<Told>) {
    let (mut acks, mut told) = (Vec::new(), Vec::new());
    let mut lines = BufReader::with_capacity(1 << 16, output);
    let mut line = String::new();
    // A line without an end was cut by the kill: nobody was told.
    while lines.read_line(&mut line).is_ok_and(|n| n > 0) && line.ends_with('\n') {
        match Line::parse(line.trim_end()) {
            Some(Line::Ack(ack)) => acks.push(ack),
            Some(Line::Told(word)) => {
                if word == Told::Ready {
                    is_ready.store(true, Ordering::Relaxed);
                }
                told.push(word);
            }
            None => told.push(Told::Problem { words: format!("a life said {:?}", line.trim_end()) }),
        }
        line.clear();
    }
    (acks, told)
}
