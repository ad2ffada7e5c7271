//! Opening: the lock is taken, the record recovered, and all that is shared put together. Nothing runs yet.

use crate::clock::Clock;
use crate::ledger::{IdIndex, Ledger, Streams};
use crate::options::EngineOptions;
use crate::pipeline::{Cutting, Pipeline, Record};
use crate::stages::IndexerSeed;
use crate::trees::TreeKeeper;
use crate::watermark::Watermark;
use crossbeam_channel::Sender;
use semj_storage::backend::{Backend, File, OpenMode};
use semj_storage::error::{ErrorKind, ReadError};
use semj_storage::log::{LockFile, LockInfo, LogWriter, Place, Segments, WriterOptions, recover};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How often an opener that found the lock taken looks again at least: a reader's look at the lock may be in its way.
const LOCK_GRACE: Duration = Duration::from_millis(100);
const LOCK_POLL: Duration = Duration::from_millis(5);

/// Why a journal could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no journal, and none was to be made.
    #[error("{}: there is no journal here", path.display())]
    Missing {
        /// The folder.
        path: PathBuf,
    },
    /// Another owner has it open.
    #[error("{}: the journal is open in process {pid}; wait for it, or read beside it", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
        /// The owner's process.
        pid: u32,
    },
    /// The record cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The disk or the system refused.
    #[error("{}: {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl OpenError {
    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        match self {
            OpenError::Missing { .. } => ErrorKind::Missing,
            OpenError::Locked { .. } => ErrorKind::Locked,
            OpenError::Read(e) => e.kind(),
            OpenError::Io { .. } => ErrorKind::Unreadable,
        }
    }
}

/// Where the parts of a journal lie.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The folder.
    pub root: PathBuf,
}

impl Layout {
    /// The record.
    pub fn segments(&self) -> PathBuf {
        self.root.join("segments")
    }
    /// The projections.
    pub fn trees(&self) -> PathBuf {
        self.root.join("trees")
    }
    /// Large content.
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }
    /// What was set aside.
    pub fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }
    /// Owner and watermark.
    pub fn lock(&self) -> PathBuf {
        self.root.join("LOCK")
    }
}

/// What an open journal consists of before anything runs.
pub(crate) struct Parts {
    pub(crate) layout: Layout,
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) index: IndexerSeed,
}

impl Parts {
    /// Takes the lock, recovers the record and puts everything together. `fresh` is the identity of a new journal, and
    /// what tells the derived ids of this opening from others; `wake` makes the way to the tasks that wait.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(crate) fn open(
        backend: Arc<dyn Backend>,
        clock: Arc<dyn Clock>,
        root: &Path,
        options: &EngineOptions,
        fresh: (Uuid, u64),
        wake: impl FnOnce(&Layout) -> Result<Sender<Vec<Waker>>, OpenError>,
    ) -> Result<Self, OpenError> {
        let layout = Layout { root: root.to_owned() };
        let lock_file = take_lock(backend.as_ref(), &layout, options)?;
        let lock = LockFile::new(lock_file);
        let io = |action| io_error(layout.lock(), action);
        let info: Option<LockInfo> = lock.read().map_err(io("read"))?;
        let place =
            Place { backend: backend.clone(), segments: layout.segments(), quarantine: layout.quarantine() };
        let recovered = recover(&place, info.as_ref(), fresh.0, clock.boot_id(), clock.wall_ns())?;
        lock.write_head(&recovered.journal, std::process::id(), clock.wall_ns()).map_err(io("write"))?;
        let writer_options = WriterOptions {
            segment_bytes: options.segment_bytes,
            preallocate: options.preallocate,
            boot_id: clock.boot_id(),
        };
        let writer = LogWriter::new(
            backend.clone(),
            layout.segments(),
            lock.clone(),
            &recovered,
            writer_options.clone(),
        )
        .map_err(io("publish the watermark"))?;
        let last = recovered.last_sequence;
        let segments = Arc::new(Segments::open(backend, layout.segments(), recovered.journal)?);
        let streams = Streams::new(segments.clone(), last);
        let tail = recovered.tail.as_ref().map(|t| t.first);
        let mut unsealed = segments.unsealed(last)?;
        segments.collect_unsealed(&unsealed)?;
        unsealed.retain(|(first, _)| Some(*first) != tail);
        let wake = wake(&layout)?;
        let ledger = Ledger::new(last, IdIndex::new(segments.clone(), last), streams);
        let cutting = Cutting {
            max_age_ns: options.max_age.as_nanos() as i64,
            batch_bytes: options.batch_bytes,
            batch_events: options.batch_events,
            codec: options.codec,
        };
        let watermark = Watermark::new(last, wake);
        let record = Record { place, lock: lock.clone(), writer: writer_options };
        let pipeline =
            Pipeline::new(ledger, watermark, clock.clone(), segments, (record, writer), cutting, fresh.1);
        let pipeline = Arc::new(pipeline);
        pipeline.resume_clock(pipeline.segments().newest_clock(last)?);
        pipeline.damage.lock().extend(recovered.damage);
        pipeline.sealer().inherit(unsealed);
        if let Some(tail) = tail {
            pipeline.sealer().writing(tail);
        }
        let keeper = Arc::new(TreeKeeper::new(pipeline.segments().real_path(&layout.trees())));
        let index = IndexerSeed { pipeline: pipeline.clone(), keeper, lock };
        Ok(Parts { layout, pipeline, index })
    }
}

pub(crate) fn io_error(path: PathBuf, action: &'static str) -> impl FnOnce(std::io::Error) -> OpenError {
    move |source| OpenError::Io { path, action, source }
}

fn take_lock(
    backend: &dyn Backend,
    layout: &Layout,
    options: &EngineOptions,
) -> Result<Arc<dyn File>, OpenError> {
    let path = layout.lock();
    let io = |action| {
        let path = path.clone();
        move |source| OpenError::Io { path: path.clone(), action, source }
    };
    let existing = backend.open(&path, OpenMode::Write);
    let file = match existing {
        Ok(file) => file,
        Err(e)
            if e.kind() == std::io::ErrorKind::NotFound || e.kind() == std::io::ErrorKind::NotADirectory =>
        {
            if !options.create && backend.list(&layout.segments()).is_err() {
                return Err(OpenError::Missing { path: layout.root.clone() });
            }
            if backend
                .list(&layout.root)
                .is_ok_and(|names| !names.is_empty() && !names.iter().any(|n| n == "segments"))
            {
                let reason =
                    "the folder holds other files and no journal; name an empty or a new folder".into();
                return Err(ReadError::NotAJournal { path: layout.root.clone(), reason }.into());
            }
            backend.create_dir_all(&layout.segments()).map_err(io("create the journal's folder"))?;
            let file = backend.open(&path, OpenMode::CreateOrOpen).map_err(io("create"))?;
            backend.sync_dir(&layout.root).map_err(io("sync the folder of"))?;
            if let Some(parent) = layout.root.parent().filter(|p| !p.as_os_str().is_empty()) {
                backend.sync_dir(parent).map_err(io("sync the folder of"))?;
            }
            file
        }
        Err(e) => return Err(io("open")(e)),
    };
    let until = Instant::now() + options.lock_wait.max(LOCK_GRACE);
    while !file.try_lock().map_err(io("lock"))? {
        if Instant::now() >= until {
            let pid = LockFile::new(file).read().ok().flatten().map_or(0, |i| i.pid);
            return Err(OpenError::Locked { path: layout.root.clone(), pid });
        }
        std::thread::sleep(LOCK_POLL);
    }
    backend.create_dir_all(&layout.segments()).map_err(io("create the segments folder beside"))?;
    Ok(file)
}
