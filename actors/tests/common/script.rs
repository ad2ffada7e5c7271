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
use std::sync::atomic::{AtomicUsize, Ordering};
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
}

impl Control {
    /// Only so many steps are there yet.
    pub fn hold_back_after(&self, steps: usize) {
        self.limit.store(steps, Ordering::SeqCst);
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
        if self.is_unavailable {
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
        }))
    }
}

#[derive(Debug)]
struct Reading {
    at: usize,
    steps: Arc<Vec<Step>>,
    control: Control,
    resume: ResumeKind,
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
        Ok(Barrier(self.end() as u64))
    }
    fn resume_point(&self) -> Resume {
        Resume((self.at as u64).to_le_bytes().to_vec())
    }
    fn newest_sequence(&self) -> Option<u64> {
        let sequences = self.steps[..self.end()].iter().flat_map(|step| match step {
            Step::Items(items) => items.as_slice(),
            _ => &[],
        });
        sequences.filter_map(|item| if let Item::Record(r) = item { r.sequence } else { None }).last()
    }
}

/// What a journal holds of a source.
#[derive(Debug, Default)]
pub struct Found {
    /// Source sequences of its records, in the journal's order.
    pub sequences: Vec<u64>,
    /// The same, with the journal's sequences.
    pub events: Vec<(u64, u64)>,
    /// Names of what is told about it, in order.
    pub names: Vec<String>,
    /// The sum of its gaps, without what came late.
    pub lost: u64,
}

pub fn found(engine: &Engine, source: &str) -> Found {
    let view = engine.view();
    let mut found = Found::default();
    view.read(1, view.last_sequence(), &mut |entry| {
        let event = entry.event().unwrap();
        if event.source_text().and_then(Text::as_str) != Some(source) {
            return ControlFlow::Continue(());
        }
        let payload = event.payload_value().as_json().unwrap_or_default();
        if event.stream_or_default() == b"semj" {
            let name = event.name_text().unwrap().as_str().unwrap().to_owned();
            match name.as_str() {
                "semj.gap" => found.lost += payload["semj.lost"].as_u64().unwrap_or(0),
                "semj.gap_filled" => found.lost -= 1,
                _ => {}
            }
            found.names.push(name);
        } else {
            let sequence = payload["semj.source_sequence"].as_u64().unwrap();
            found.sequences.push(sequence);
            found.events.push((sequence, entry.sequence));
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    found
}
