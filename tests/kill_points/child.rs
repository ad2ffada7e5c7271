//! The process that is killed: it opens the journal, emits from two threads, tells of what was acknowledged, and closes.

use semj::{Event, event::Recorded};
use semj_actors::clock::SystemClock;
use semj_actors::{Emitter, Engine, EngineOptions};
use semj_storage::backend::{Backend, Call, Hooked, RealBackend, Request};
use semj_storage::blobs::Blobs;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use uuid::Uuid;

/// The environment variable that makes a child: its plan, as JSON.
pub const PLAN: &str = "SEMJ_KILL_PLAN";
const SOON: Duration = Duration::from_secs(30);
/// Numbers of one thread in one run.
pub const NUMBERS: u64 = 1 << 16;

/// What a child does.
#[derive(Clone, Debug)]
pub struct Plan {
    pub journal: PathBuf,
    pub run: u64,
    /// Operations of each thread.
    pub operations: u64,
    /// Operations of earlier runs that are tried again first; they have ids.
    pub again: Vec<u64>,
    /// Whether the disk is full for a moment.
    pub is_full: bool,
}

impl Plan {
    pub fn text(&self) -> String {
        json!({"journal": self.journal, "run": self.run, "operations": self.operations, "again": self.again,
            "full": self.is_full})
        .to_string()
    }

    pub fn from_env() -> Option<Self> {
        let plan: Value = serde_json::from_str(&std::env::var(PLAN).ok()?).unwrap();
        let number = |v: &Value| v.as_u64().unwrap();
        Some(Plan {
            journal: plan["journal"].as_str().unwrap().into(),
            run: number(&plan["run"]),
            operations: number(&plan["operations"]),
            again: plan["again"].as_array().unwrap().iter().map(number).collect(),
            is_full: plan["full"].as_bool().unwrap(),
        })
    }
}

/// What is emitted at once. All of it follows from the number of its first event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operation {
    pub first: u64,
    pub count: u64,
    pub has_id: bool,
}

impl Operation {
    /// The first number of a thread in a run.
    pub fn start(run: u64, thread: u64) -> u64 {
        (run * 2 + thread) * NUMBERS
    }

    pub fn of(first: u64) -> Self {
        let mix = mix(first);
        let count = if mix % 10 < 2 { 2 + (mix >> 8) % 5 } else { 1 };
        Operation { first, count, has_id: (mix >> 16) % 10 < 4 }
    }

    pub fn next(self) -> Self {
        Operation::of(self.first + self.count)
    }

    /// Who emitted it: a run's thread.
    pub fn lane(self) -> u64 {
        self.first / NUMBERS
    }

    fn events(self) -> Vec<Event<'static>> {
        let event = |n: u64| {
            let event =
                Event::decision("work").payload(json!({"n": n, "of": self.first, "pad": "x".repeat(pad(n))}));
            let id = Uuid::from_u128(0x4000 << 64 | 0x8000 << 48 | u128::from(n));
            if self.has_id { event.id(id) } else { event }
        };
        (self.first..self.first + self.count).map(event).collect()
    }

    fn emit(self, emitter: &Emitter) -> Pending {
        loop {
            let pending = if self.count > 1 {
                emitter.emit_all(self.events()).map(|group| Pending {
                    of: self,
                    sequence: *group.sequences().start(),
                    duplicate: group.is_duplicate(),
                    ticket: group.ticket().clone(),
                })
            } else {
                emitter.emit_blocking(self.events().remove(0)).map(|ticket| Pending {
                    of: self,
                    sequence: ticket.sequence(),
                    duplicate: ticket.is_duplicate(),
                    ticket,
                })
            };
            match pending {
                Ok(pending) => return pending,
                Err(e) if e.is_retryable() => std::thread::yield_now(),
                Err(e) => panic!("{e}"),
            }
        }
    }
}

/// Number and operation of a stored event.
pub fn numbers(event: &Recorded) -> (u64, u64) {
    let payload = event.event.payload_value().as_json().unwrap();
    let (n, of) = (payload["n"].as_u64().unwrap(), payload["of"].as_u64().unwrap());
    assert_eq!(payload["pad"].as_str().unwrap().len(), pad(n), "event {n} has other content");
    (n, of)
}

fn mix(n: u64) -> u64 {
    let n = (n ^ n >> 31).wrapping_mul(0x7fb5_d329_728e_a185);
    (n ^ n >> 27).wrapping_mul(0x81da_def4_bc2d_d44d) >> 8
}

fn pad(n: u64) -> usize {
    let mix = mix(n ^ 0x77);
    if mix.is_multiple_of(40) { 8_000 } else { (mix >> 8) as usize % 300 }
}

struct Pending {
    of: Operation,
    ticket: semj::Ticket,
    sequence: u64,
    duplicate: bool,
}

impl Pending {
    fn settle(self) {
        loop {
            match self.ticket.wait_timeout(SOON) {
                Ok(()) => break,
                Err(semj::CommitError::StorageFull) => std::thread::yield_now(),
                Err(e) => return say(&format!("error {e}")),
            }
        }
        say(&format!("ack {} {} {}", self.of.first, self.sequence, self.duplicate));
    }
}

/// One line, in one piece: a pipe takes it whole or not at all.
fn say(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Segments and batches are small, so that every part of a segment's life comes often.
pub fn options() -> EngineOptions {
    EngineOptions { segment_bytes: 32 << 10, batch_events: 64, ..EngineOptions::default() }
}

fn work(engine: &Engine, plan: &Plan, thread: u64) {
    let emitter = engine.emitter(Some(&format!("thread-{thread}")));
    let blobs = Blobs::new(Arc::new(RealBackend::new()), engine.layout().blobs());
    let mut pending = VecDeque::new();
    if thread == 0 {
        pending.extend(plan.again.iter().map(|first| Operation::of(*first).emit(&emitter)));
    }
    let mut operation = Operation::of(Operation::start(plan.run, thread));
    for number in 0..plan.operations {
        pending.push_back(operation.emit(&emitter));
        operation = operation.next();
        let depth = mix(operation.first) as usize % 6;
        while pending.len() > depth {
            pending.pop_front().unwrap().settle();
        }
        if thread == 0 && number % 32 == 5 {
            blobs.put(blob(plan.run, number).as_bytes()).unwrap();
            say(&format!("blob {number}"));
        }
    }
    pending.into_iter().for_each(Pending::settle);
}

/// What blob `number` of a run holds.
pub fn blob(run: u64, number: u64) -> String {
    format!("blob {run} {number}").repeat(40)
}

pub fn live(plan: &Plan) {
    say("started");
    let writes = AtomicU64::new(0);
    // By then all is durable, and the end mark has its room on a disk that is really full.
    let is_closing = Arc::new(AtomicBool::new(false));
    let over = is_closing.clone();
    let full = move |request: Request<'_>| {
        let is_hit = matches!(request.call, Call::Write(_))
            && !over.load(Ordering::Relaxed)
            && request.path.to_string_lossy().contains("segments/")
            && (20..23).contains(&writes.fetch_add(1, Ordering::Relaxed));
        if is_hit { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    };
    let real: Arc<dyn Backend> = Arc::new(RealBackend::new());
    let backend = if plan.is_full { Arc::new(Hooked::new(real, full)) } else { real };
    let engine = match Engine::open_on(backend, Arc::new(SystemClock::new()), &plan.journal, options()) {
        Ok(engine) => engine,
        Err(e) => return say(&format!("error opening: {e}")),
    };
    say(&format!("opened {}", engine.status().durable));
    std::thread::scope(|scope| {
        (0..2).for_each(|thread| {
            drop(scope.spawn({
                let engine = &engine;
                move || work(engine, plan, thread)
            }))
        });
    });
    say("closing");
    is_closing.store(true, Ordering::Relaxed);
    match engine.close(SOON) {
        Ok(()) => say("closed"),
        Err(e) => say(&format!("error closing: {e}")),
    }
}
