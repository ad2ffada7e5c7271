//! A source that does what a script says.
#![allow(dead_code, unreachable_pub, reason = "every test binary uses its own part of it")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests are tests")]

use semj_actors::Engine;
use semj_actors::sources::{
    Barrier, Caps, Item, KernelRecord, KernelSource, Loss, NotSupported, Op, OpenSource, Phase, Pid,
    Progress, Resume, ResumeKind, Sequencing, Unavailable,
};
use semj_storage::event::Text;
use semj_storage::query::EventSource;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// What one call of the source does.
#[derive(Clone, Debug)]
pub enum Step {
    Items(Vec<Item>),
    /// Once.
    Panic,
    /// Once.
    Fail,
    AlwaysPanic,
}

/// A record whose path says its sequence.
pub fn record(sequence: u64) -> KernelRecord {
    record_at(sequence, sequence as i64 * 1_000)
}

pub fn record_at(sequence: u64, boot_ns: i64) -> KernelRecord {
    let mut record = KernelRecord::new(Op::Write, Phase::Done, boot_ns);
    record.sequence = Some(sequence);
    record.path.path = format!("/f/{sequence}").into_bytes();
    record
}

/// What the test may change while the source is read.
#[derive(Clone, Debug)]
pub struct Control {
    limit: Arc<AtomicUsize>,
    /// Steps that panicked or failed once already.
    spent: Arc<parking_lot::Mutex<Vec<usize>>>,
    /// How far it was read by any opening: what a source without resume has lost.
    at: Arc<AtomicUsize>,
    /// Whether it can be had, hands out what it has, and knows a barrier.
    is_away: Arc<AtomicBool>,
    is_stuck: Arc<AtomicBool>,
    has_no_barrier: Arc<AtomicBool>,
    /// What a rescan finds; `None`: it cannot look.
    found: Arc<parking_lot::Mutex<Option<Vec<Item>>>>,
    /// How often it was asked to look.
    pub rescans: Arc<AtomicUsize>,
}

impl Control {
    /// Only so many steps are there yet.
    pub fn hold_back_after(&self, steps: usize) {
        self.limit.store(steps, Ordering::SeqCst);
    }
    /// From now on it cannot be opened, and what is open fails; or it can again.
    pub fn go_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::SeqCst);
    }
    /// From now on it hands out nothing of what it has; or it does again.
    pub fn stick(&self, is_stuck: bool) {
        self.is_stuck.store(is_stuck, Ordering::SeqCst);
    }
    pub fn know_no_barrier(&self) {
        self.has_no_barrier.store(true, Ordering::SeqCst);
    }
    /// A rescan finds these.
    pub fn finds(&self, items: Vec<Item>) {
        *self.found.lock() = Some(items);
    }
    pub fn let_go(&self) {
        self.limit.store(usize::MAX, Ordering::SeqCst);
    }
}

#[derive(Debug)]
pub struct Script {
    name: String,
    steps: Arc<Vec<Step>>,
    control: Control,
    resume: ResumeKind,
    is_unavailable: bool,
}

impl Script {
    pub fn new(name: &str, steps: Vec<Step>) -> Self {
        let control = Control {
            limit: Arc::new(AtomicUsize::new(usize::MAX)),
            spent: Arc::default(),
            at: Arc::default(),
            is_away: Arc::default(),
            is_stuck: Arc::default(),
            has_no_barrier: Arc::default(),
            found: Arc::default(),
            rescans: Arc::default(),
        };
        Script {
            name: name.into(),
            steps: Arc::new(steps),
            control,
            resume: ResumeKind::Durable,
            is_unavailable: false,
        }
    }
    pub fn resumes(mut self, resume: ResumeKind) -> Self {
        self.resume = resume;
        self
    }
    pub fn unavailable(mut self) -> Self {
        self.is_unavailable = true;
        self
    }
    pub fn control(&self) -> Control {
        self.control.clone()
    }
    pub fn hold_back_after(&self, steps: usize) {
        self.control.hold_back_after(steps);
    }
    pub fn boxed(self) -> Box<dyn OpenSource> {
        Box::new(self)
    }
}

impl OpenSource for Script {
    fn name(&self) -> &str {
        &self.name
    }
    fn open(&mut self, from: Option<&Resume>) -> Result<Box<dyn KernelSource>, Unavailable> {
        if self.is_unavailable || self.control.is_away.load(Ordering::SeqCst) {
            let error = io::Error::from_raw_os_error(1);
            return Err(Unavailable::new("a miracle", "pray").because(&error).or_else("inotify"));
        }
        let at = match (self.resume, from) {
            (ResumeKind::None, _) => self.control.at.load(Ordering::SeqCst),
            (_, Some(resume)) => u64::from_le_bytes(resume.0[..8].try_into().unwrap()) as usize,
            (_, None) => 0,
        };
        Ok(Box::new(Reading {
            at,
            steps: self.steps.clone(),
            control: self.control.clone(),
            resume: self.resume,
            synthetic: Vec::new(),
        }))
    }
}

#[derive(Debug)]
struct Reading {
    at: usize,
    steps: Arc<Vec<Step>>,
    control: Control,
    resume: ResumeKind,
    /// What a rescan found.
    synthetic: Vec<Item>,
}

impl Reading {
    fn end(&self) -> usize {
        self.steps.len().min(self.control.limit.load(Ordering::SeqCst))
    }
    fn spend(&mut self) -> bool {
        let mut spent = self.control.spent.lock();
        let is_new = !spent.contains(&self.at);
        spent.push(self.at);
        is_new
    }
}

impl KernelSource for Reading {
    fn caps(&self) -> Caps {
        Caps {
            sequence: Sequencing::Global,
            loss: Loss::Counted,
            pid: Pid::Thread,
            result: true,
            kernel_time: true,
            merges: false,
            gates: false,
            resume: self.resume,
        }
    }
    fn pollable(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    fn poll_every(&self) -> Duration {
        Duration::from_millis(1)
    }
    fn next_batch(&mut self, _: usize, out: &mut Vec<Item>) -> io::Result<Progress> {
        if self.control.is_away.load(Ordering::SeqCst) {
            return Err(io::Error::other("it went away"));
        }
        if self.control.is_stuck.load(Ordering::SeqCst) {
            return Ok(Progress { more: false, passed: self.at as u64 });
        }
        if !self.synthetic.is_empty() {
            out.append(&mut self.synthetic);
            return Ok(Progress { more: true, passed: 0 });
        }
        if self.at < self.end() {
            match self.steps[self.at].clone() {
                Step::Items(items) => out.extend(items),
                Step::AlwaysPanic => {
                    std::panic::panic_any(semj_storage::chaos::Injected { point: "the source" })
                }
                Step::Panic => {
                    if self.spend() {
                        std::panic::panic_any(semj_storage::chaos::Injected { point: "the source" });
                    }
                }
                Step::Fail => {
                    if self.spend() {
                        return Err(io::Error::other("it failed"));
                    }
                }
            }
            self.at += 1;
            self.control.at.store(self.at, Ordering::SeqCst);
        }
        Ok(Progress { more: self.at < self.end(), passed: self.at as u64 })
    }
    fn barrier(&mut self) -> Result<Barrier, NotSupported> {
        let has_none = self.control.has_no_barrier.load(Ordering::SeqCst);
        if has_none { Err(NotSupported) } else { Ok(Barrier(self.end() as u64)) }
    }
    fn rescan(&mut self) -> Result<(), NotSupported> {
        let found = self.control.found.lock().clone().ok_or(NotSupported)?;
        self.control.rescans.fetch_add(1, Ordering::SeqCst);
        self.synthetic.extend(found);
        Ok(())
    }
    fn misses(&self) -> &'static str {
        "what the script leaves out"
    }
    fn resume_point(&self) -> Resume {
        Resume((self.at as u64).to_le_bytes().to_vec())
    }
    fn newest_sequence(&self) -> Option<u64> {
        let sequences = self.steps[..self.end()].iter().flat_map(|step| match step {
            Step::Items(items) => items.as_slice(),
            _ => &[],
        });
        sequences.filter_map(|item| if let Item::Record(r) = item { r.sequence } else { None }).next_back()
    }
}

/// What a journal holds of a source.
#[derive(Debug, Default)]
pub struct Found {
    /// Source sequences of its records, in the journal's order.
    pub sequences: Vec<u64>,
    /// The same, with the journal's sequences.
    pub events: Vec<(u64, u64)>,
    /// Events of records that a rescan made up.
    pub synthetic: Vec<u64>,
    /// Names of what its account tells, in order.
    pub names: Vec<String>,
    /// What is said of it beside: name, payload and sequence of the event.
    pub told: Vec<(String, serde_json::Value, u64)>,
    /// The sum of its gaps, without what came late.
    pub lost: u64,
}

impl Found {
    /// What was said under a name, in order.
    pub fn told(&self, name: &str) -> Vec<&serde_json::Value> {
        self.told.iter().filter(|(n, ..)| n == name).map(|(_, payload, _)| payload).collect()
    }
}

pub fn found(engine: &Engine, source: &str) -> Found {
    let view = engine.view();
    let mut found = Found::default();
    // Records and losses of the life so far.
    let mut account = (0u64, 0u64);
    view.read(1, view.last_sequence(), &mut |entry| {
        let event = entry.event().unwrap();
        if event.source_text().and_then(Text::as_str) != Some(source) {
            return ControlFlow::Continue(());
        }
        let payload = event.payload_value().as_json().unwrap_or_default();
        if event.stream_or_default() == b"semj" {
            let name = event.name_text().unwrap().as_str().unwrap().to_owned();
            match name.as_str() {
                "semj.certificate" => {
                    let figure = |key: &str| payload[key].as_u64().unwrap();
                    let told = (figure("semj.records"), figure("semj.lost"));
                    assert_eq!(told, account, "certificate {}: what stands before it", entry.sequence);
                }
                "semj.epoch" => account = (0, 0),
                "semj.gap" => account.1 += payload["semj.lost"].as_u64().unwrap_or(0),
                "semj.gap_filled" => account.1 -= 1,
                _ => {}
            }
            match name.as_str() {
                "semj.certificate" | "semj.coverage" | "semj.resync" | "semj.lag" => {
                    found.told.push((name, payload, entry.sequence));
                    return ControlFlow::Continue(());
                }
                "semj.gap" => found.lost += payload["semj.lost"].as_u64().unwrap_or(0),
                "semj.gap_filled" => found.lost -= 1,
                _ => {}
            }
            found.told.push((name.clone(), payload, entry.sequence));
            found.names.push(name);
        } else {
            account.0 += 1;
            if payload["semj.phase"] == "synthetic" {
                found.synthetic.push(entry.sequence);
                return ControlFlow::Continue(());
            }
            let sequence = payload["semj.source_sequence"].as_u64().unwrap();
            found.sequences.push(sequence);
            found.events.push((sequence, entry.sequence));
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    found
}
