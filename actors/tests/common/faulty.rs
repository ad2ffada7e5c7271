//! A standard run of the engine on a disk that fails, and what must be there afterwards.
#![allow(dead_code, unreachable_pub, reason = "every test binary uses its own part of it")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests are tests")]

use super::{SOON, contents, until};
use parking_lot::Mutex;
use semj_actors::clock::SystemClock;
use semj_actors::{CommitError, EmitError, Emitter, Engine, EngineOptions, OpenError, Ticket};
use semj_storage::backend::{Backend, CrashMode, DirectoryRule, MemoryBackend, OpenMode, OperationKind};
use semj_storage::event::Event;
use semj_storage::log::LockFile;
use semj_storage::query::EventSource;
use semj_storage::verify::{VerifyLevel, VerifyReport, verify};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

/// How often a failing read may keep one event from being admitted.
const UNREADABLE_MAX: u32 = 8;

pub const ROOT: &str = "/data/j";
/// So small that every run changes segments and seals some.
pub const SEGMENT_BYTES: u64 = 4_000;
/// How often a wait is told of a full disk before room is made.
const FULL_HEARD: u32 = 2;

/// Events by number in their order, and how many of them are acknowledged.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub emitted: Vec<u64>,
    pub acknowledged: usize,
}

pub fn options() -> EngineOptions {
    EngineOptions { segment_bytes: SEGMENT_BYTES, batch_events: 16, ..EngineOptions::default() }
}

pub fn try_open(disk: &MemoryBackend, options: EngineOptions) -> Result<Engine, OpenError> {
    let backend: Arc<dyn Backend> = Arc::new(disk.clone());
    Engine::open_on(backend, Arc::new(SystemClock::new()), Path::new(ROOT), options)
}

/// Panics from now on, in words. No error of a disk is a reason for one.
pub fn no_panics() -> Arc<Mutex<Vec<String>>> {
    let panics = Arc::new(Mutex::new(Vec::new()));
    let (noted, before) = (panics.clone(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |info| {
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        if thread.starts_with("semj") {
            noted.lock().push(format!("{thread}: {info}"));
        }
        before(info);
    }));
    panics
}

/// A journal with sealed segments, whose owner was killed with a block that was written and never synced.
pub fn origin(rule: DirectoryRule) -> (MemoryBackend, Model) {
    let disk = MemoryBackend::new(rule);
    let mut run = Run::new(&disk, Model::default(), "origin");
    run.live();
    assert!(run.error.is_none(), "{:?}", run.error);
    let mut model = run.model;
    let engine = try_open(&disk, options()).unwrap();
    let emitter = engine.emitter(Some("a"));
    let image = Arc::new(Mutex::new(None));
    let taken = image.clone();
    disk.set_observer(move |disk, operation| {
        let is_block = operation.kind == OperationKind::Write
            && operation.path.starts_with(Path::new(ROOT).join("segments"));
        if is_block && taken.lock().is_none() {
            *taken.lock() = Some(disk.kill_image());
        }
    });
    let number = model.emitted.len() as u64;
    model.emitted.push(number);
    emitter.emit_blocking(event(number)).unwrap().wait_timeout(SOON).unwrap();
    disk.clear_observer();
    (image.lock().take().unwrap(), model)
}

fn id(number: u64) -> Uuid {
    Uuid::from_u128(0x4000 << 64 | 0x8000 << 48 | u128::from(number))
}

fn event(number: u64) -> Event<'static> {
    Event::decision("d").tag("x".repeat(100)).payload(json!(number))
}

/// One in four has an id.
fn is_keyed(number: u64) -> bool {
    number % 4 == 1
}

/// Two owners one after the other, on a disk that may fail.
pub struct Run<'a> {
    disk: &'a MemoryBackend,
    context: &'a str,
    pub model: Model,
    /// What ended it early.
    pub error: Option<String>,
    /// How often it was told of a full disk.
    pub full: u32,
}

impl<'a> Run<'a> {
    pub fn new(disk: &'a MemoryBackend, model: Model, context: &'a str) -> Self {
        Run { disk, context, model, error: None, full: 0 }
    }

    pub fn live(&mut self) {
        for _ in 0..2 {
            let engine = match try_open(self.disk, options()) {
                Ok(engine) => engine,
                Err(e) => return self.end(&e),
            };
            let last = engine.view().last_sequence() as usize;
            assert!(self.model.acknowledged <= last, "{}: {last} opened, {:?}", self.context, self.model);
            assert!(engine.status().damage.is_empty(), "{}: {:?}", self.context, engine.status().damage);
            self.model.emitted.truncate(last);
            self.model.acknowledged = last;
            let worked = self.work(&engine);
            self.close(&engine);
            if worked.is_none() || self.error.is_some() {
                return;
            }
        }
    }

    fn end(&mut self, error: &dyn std::fmt::Debug) {
        self.error.get_or_insert(format!("{error:?}"));
    }

    /// Singles, groups, repetitions whose ids lie in the record, causes in the record, changes of segments.
    fn work(&mut self, engine: &Engine) -> Option<()> {
        let emitter = engine.emitter(Some("a"));
        for _ in 0..5 {
            let ticket = self.emit(&emitter, engine)?;
            self.wait(engine, &ticket)?;
        }
        self.group(&emitter, engine)?;
        let mut last = None;
        for _ in 0..20 {
            last = Some(self.emit(&emitter, engine)?);
        }
        self.wait(engine, &last?)?;
        if let Some(number) = self.model.emitted.iter().copied().find(|n| is_keyed(*n)) {
            self.again(&emitter, engine, number)?;
            let place = self.model.emitted.len() as u64;
            let cause = id(number);
            let ticket = self.admit(engine, || {
                emitter.try_emit(
                    event(place + 1_000_000).parent(1u64).link(semj_storage::event::Link::new(cause, "uses")),
                )
            })?;
            self.model.emitted.push(place + 1_000_000);
            self.wait(engine, &ticket)?;
        }
        Some(())
    }

    fn emit(&mut self, emitter: &Emitter, engine: &Engine) -> Option<Ticket> {
        let number = self.model.emitted.len() as u64;
        let ticket = self.admit(engine, || {
            let event = event(number);
            emitter.try_emit(if is_keyed(number) { event.id(id(number)) } else { event })
        })?;
        assert_eq!(ticket.sequence(), number + 1, "{}", self.context);
        self.model.emitted.push(number);
        Some(ticket)
    }

    fn group(&mut self, emitter: &Emitter, engine: &Engine) -> Option<()> {
        let first = self.model.emitted.len() as u64;
        let numbers: Vec<u64> = (first..first + 3).map(|n| n + 2_000_000).collect();
        let group = self.admit(engine, || emitter.emit_all(numbers.iter().map(|n| event(*n)).collect()))?;
        assert_eq!(*group.sequences().start(), first + 1, "{}", self.context);
        self.model.emitted.extend(&numbers);
        self.wait(engine, group.ticket())
    }

    /// The same event once more: it is there already, and nowhere else.
    fn again(&mut self, emitter: &Emitter, engine: &Engine, number: u64) -> Option<()> {
        let place = self.model.emitted.iter().position(|n| *n == number)? as u64 + 1;
        let ticket = self.admit(engine, || emitter.try_emit(event(number).id(id(number))))?;
        assert_eq!((ticket.sequence(), ticket.is_duplicate()), (place, true), "{}", self.context);
        self.wait(engine, &ticket)
    }

    /// Emits until there is room, and what must be read is read.
    fn admit<T>(&mut self, engine: &Engine, mut emit: impl FnMut() -> Result<T, EmitError>) -> Option<T> {
        let mut unreadable = 0;
        loop {
            match emit() {
                Ok(admitted) => return Some(admitted),
                Err(EmitError::StorageFull(_)) => {
                    if let Some(last) = engine.last_admitted() {
                        self.wait(engine, &last)?;
                    }
                }
                // Nothing was admitted, and nothing is poisoned: it is said to be emitted again.
                Err(EmitError::Unreadable(_)) if unreadable < UNREADABLE_MAX => unreadable += 1,
                Err(e @ (EmitError::Unreadable(_) | EmitError::Poisoned(_))) => {
                    self.end(&e);
                    return None;
                }
                Err(other) => panic!("{}: {other}", self.context),
            }
        }
    }

    /// Waits, however often the disk is told to be full; room is made, and then it goes on by itself.
    fn wait(&mut self, engine: &Engine, ticket: &Ticket) -> Option<()> {
        let mut heard = 0;
        let mut outcome = ticket.wait_timeout(SOON);
        while let Err(CommitError::StorageFull) = outcome {
            heard += 1;
            self.full += 1;
            if heard == FULL_HEARD {
                self.disk.clear_faults();
            }
            if heard >= FULL_HEARD {
                let is_open = || !matches!(engine.status().gate, semj_actors::ledger::Gate::StorageFull);
                until(&format!("{}: it goes on by itself", self.context), is_open);
            }
            outcome = ticket.wait_timeout(SOON);
        }
        match outcome {
            Ok(()) => {
                self.model.acknowledged = self.model.acknowledged.max(ticket.sequence() as usize);
                Some(())
            }
            Err(CommitError::Poisoned(cause)) => {
                self.end(&cause);
                None
            }
            // A timeout is a wait that nobody ended.
            Err(other) => panic!("{}: {other:?}", self.context),
        }
    }

    fn close(&mut self, engine: &Engine) {
        let all = self.model.emitted.len();
        match engine.close(SOON) {
            Ok(()) => self.model.acknowledged = all,
            Err(CommitError::Unfinished(unfinished)) => {
                assert!(unfinished.left_behind.is_empty(), "{}: {unfinished}", self.context);
                let cause = unfinished.cause.as_deref();
                let is_told = matches!(cause, Some(CommitError::Poisoned(_) | CommitError::StorageFull));
                assert!(is_told, "{}: {cause:?}", self.context);
                self.end(&unfinished);
            }
            Err(e @ (CommitError::Poisoned(_) | CommitError::StorageFull)) => self.end(&e),
            Err(other) => panic!("{}: {other:?}", self.context),
        }
    }
}

pub fn verified(disk: &MemoryBackend) -> VerifyReport {
    let root = Path::new(ROOT);
    let lock = disk.open(&root.join("LOCK"), OpenMode::Read).ok();
    let lock = lock.and_then(|file| LockFile::new(file).read().unwrap());
    verify(disk, &root.join("segments"), lock.as_ref(), false, VerifyLevel::Full, &mut |_, _| {}).unwrap()
}

/// Whichever way the process ended: everything acknowledged is there, in its place, and the journal goes on.
pub fn settled(disk: &MemoryBackend, model: &Model, seed: u64, context: &str) -> u64 {
    let mode = CrashMode::EVERY[seed as usize % CrashMode::EVERY.len()];
    let images = [disk.kill_image(), disk.crash_image(CrashMode::Drop, 0), disk.crash_image(mode, seed)];
    let count = images.len() as u64;
    for image in images {
        if image.files().iter().any(|path| path.to_string_lossy().contains("segments")) {
            let report = verified(&image);
            assert_eq!(report.damage, [], "{context}: a fault of the disk is no damage");
        }
        let engine = try_open(&image, options()).unwrap_or_else(|e| panic!("{context}: {e}"));
        let found = contents(&engine);
        assert!(found.len() >= model.acknowledged, "{context}: {} of {model:?}", found.len());
        assert_eq!(found, model.emitted[..found.len()], "{context}");
        let ticket = engine.emitter(Some("a")).emit_blocking(event(77)).unwrap();
        ticket.wait_timeout(SOON).unwrap_or_else(|e| panic!("{context}: {e}"));
        engine.close(SOON).unwrap_or_else(|e| panic!("{context}: {e}"));
        let report = verified(&image);
        assert!(report.intact && report.events as usize == found.len() + 1, "{context}: {report:?}");
    }
    count
}
