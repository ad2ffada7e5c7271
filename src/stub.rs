//! A thin facade over the engine for trying the command line. Throw away.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use semj_actors::{Engine, EngineOptions};
use semj_storage::backend::{Backend, OpenMode, RealBackend};
use semj_storage::event::*;
use semj_storage::log::*;
use semj_storage::query::{self as q, EventSource, QueryRun};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

pub use semj_actors::{CommitError, EmitError, Emitter, GroupTicket, OpenError, Ticket};
pub use semj_storage::error::{Damage, ErrorKind, ReadError};
pub use semj_storage::log::{OwnerState, TornTail};
pub use semj_storage::query::{Edge, Graph, Query, WalkLimits};
pub use semj_storage::verify::VerifyLevel;

#[derive(Clone)]
pub struct Journal(Arc<Engine>);

pub struct Options(EngineOptions);
impl Options {
    pub fn create(mut self, yes: bool) -> Self {
        self.0.create = yes;
        self
    }
    pub fn lock_wait(mut self, d: Duration) -> Self {
        self.0.lock_wait = d;
        self
    }
    pub fn config_file(self, path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref().to_owned();
        match std::fs::read(&path) {
            Ok(_) => Ok(self),
            Err(source) => Err(OpenError::Io { path, action: "read", source }),
        }
    }
    pub fn open(self, path: impl AsRef<Path>) -> Result<Journal, OpenError> {
        Engine::open(path.as_ref(), self.0).map(|e| Journal(Arc::new(e)))
    }
}

impl Journal {
    pub fn options() -> Options {
        Options(EngineOptions::default())
    }
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Reader, OpenError> {
        let path = path.as_ref().to_owned();
        let backend: Arc<dyn Backend> = Arc::new(RealBackend::new());
        let file =
            backend.open(&path.join("LOCK"), OpenMode::Read).map_err(|source| match source.kind() {
                std::io::ErrorKind::NotFound => OpenError::Missing { path: path.clone() },
                _ => OpenError::Io { path: path.clone(), action: "open", source },
            })?;
        let lock = LockFile::new(file);
        let info = lock.read().unwrap();
        let Some(info) = info else { return Err(OpenError::Missing { path }) };
        let segments = Arc::new(Segments::open(backend.clone(), path.join("segments"), info.journal)?);
        Ok(Reader { path, backend, lock, segments })
    }
    pub fn emitter_default(&self) -> Emitter {
        self.0.emitter(None)
    }
    pub fn close(self, within: Duration) -> Result<(), CommitError> {
        self.0.close(within)
    }
}

#[derive(Clone)]
pub struct Reader {
    path: PathBuf,
    backend: Arc<dyn Backend>,
    lock: LockFile,
    segments: Arc<Segments>,
}

impl Reader {
    fn info(&self) -> LockInfo {
        self.lock.read().unwrap().unwrap()
    }
    fn owned(&self) -> bool {
        self.lock.file().is_locked_elsewhere().unwrap()
    }
    fn view(&self) -> Result<LogView, ReadError> {
        let durable = self.durable_sequence()?;
        self.segments.refresh()?;
        Ok(LogView::new(self.segments.clone(), durable))
    }
    pub fn durable_sequence(&self) -> Result<u64, ReadError> {
        if self.owned() {
            return Ok(self.info().watermark.map_or(0, |w| w.durable));
        }
        Ok(inspect(self.backend.as_ref(), &self.path.join("segments"), Some(&self.info()))?.last_sequence)
    }
    pub fn run(&self, query: Query) -> Result<QueryRun, ReadError> {
        Ok(QueryRun::new(Arc::new(self.view()?), None, query))
    }
    pub fn count(&self, query: Query) -> Result<u64, ReadError> {
        self.run(query)?.count_matches()
    }
    pub fn get(&self, cause: Cause) -> Result<Option<Recorded>, ReadError> {
        let view = self.view()?;
        let sequence = match cause {
            Cause::Sequence(n) => Some(n),
            Cause::Id(id) => view.find_id(&id)?,
        };
        match sequence {
            Some(n) if n > 0 && n <= view.last_sequence() => semj_actors::read_one(&view, n),
            _ => Ok(None),
        }
    }
    pub fn why(&self, sequence: u64, limits: WalkLimits) -> Result<Option<Graph>, ReadError> {
        q::why(&self.view()?, None, sequence, limits)
    }
    pub fn impact(&self, sequence: u64, limits: WalkLimits) -> Result<Option<Graph>, ReadError> {
        q::impact(&self.view()?, None, sequence, limits)
    }
    pub fn status(&self) -> Result<Status, ReadError> {
        let view = self.view()?;
        let (info, owned) = (self.info(), self.owned());
        let state = info.watermark.map(|w| w.state).unwrap_or_default();
        let files = segment_files(self.backend.as_ref(), &self.path.join("segments"))?;
        Ok(Status {
            events: view.last_sequence() + 1 - view.first_sequence().min(view.last_sequence() + 1),
            first_sequence: if view.last_sequence() == 0 { 0 } else { view.first_sequence() },
            durable_sequence: view.last_sequence(),
            indexed_sequence: info.indexed,
            bytes: files.iter().filter_map(|(_, p)| p.metadata().ok()).map(|m| m.len()).sum(),
            segments: files.len() as u64,
            state: if owned { format!("{state:?}").to_lowercase() } else { "idle".into() },
            owner: owned.then_some(Owner { pid: info.pid, since: Timestamp(info.since_ns) }),
        })
    }
    pub fn verify(
        &self,
        level: VerifyLevel,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<VerifyReport, ReadError> {
        let info = self.info();
        let segments = self.path.join("segments");
        let report = semj_storage::verify::verify(
            self.backend.as_ref(),
            &segments,
            Some(&info),
            self.owned(),
            level,
            progress,
        )?;
        let trees = if info.indexed == report.head_sequence { "ok" } else { "stale" };
        Ok(VerifyReport { record: report, trees: trees.into() })
    }
}

pub struct Owner {
    pub pid: u32,
    pub since: Timestamp,
}
pub struct Status {
    pub events: u64,
    pub first_sequence: u64,
    pub durable_sequence: u64,
    pub indexed_sequence: u64,
    pub bytes: u64,
    pub segments: u64,
    pub state: String,
    pub owner: Option<Owner>,
}
pub struct VerifyReport {
    pub record: semj_storage::verify::VerifyReport,
    pub trees: String,
}

/// What a repair did, one step each.
pub fn repair(_path: &Path) -> Result<Vec<String>, OpenError> {
    Ok(Vec::new())
}

pub const _UNUSED: Uuid = Uuid::nil();
