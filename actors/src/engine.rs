//! Opening and closing: everything that is shared, put together and taken apart.

use crate::clock::{Clock, SystemClock};
use crate::emitter::Emitter;
use crate::error::{CommitError, EmitError, PoisonCause, Unfinished};
use crate::kernel_sync::{AttachError, Desk, SourceStatus, SyncError};
use crate::lanes::start_waker;
use crate::ledger::{Gate, IdIndex, Ledger, Streams};
use crate::options::EngineOptions;
use crate::pipeline::{Cutting, Pipeline, Record};
use crate::running::Running;
use crate::sources::OpenSource;
use crate::stages::IndexerSeed;
use crate::supervision::{Command, Role, Ward, Wards};
use crate::ticket::Ticket;
use crate::trees::TreeKeeper;
use crate::watermark::{Level, Watermark, deadline};
use parking_lot::Mutex;
use semj_storage::backend::{Backend, File, OpenMode, RealBackend};
use semj_storage::error::{Damage, ErrorKind, ReadError};
use semj_storage::event::{Event, Recorded};
use semj_storage::log::{LockFile, LockInfo, LogView, LogWriter, Place, Segments, WriterOptions, recover};
use semj_storage::trees::Index;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How often an opener that found the lock taken looks again at least: a reader's look at the lock may be in its way.
const LOCK_GRACE: Duration = Duration::from_millis(100);
const LOCK_POLL: Duration = Duration::from_millis(5);

/// How long closing waits at most for the trees, which can always be made again.
const TREES_AT_CLOSE: Duration = Duration::from_secs(1);
const TREES_POLL: Duration = Duration::from_millis(1);
/// What closing always gives the threads to end.
const END_GRACE: Duration = Duration::from_millis(500);

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

/// What emitters, queries and the engine share.
#[derive(Debug)]
pub struct Shared {
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) options: EngineOptions,
}

impl Shared {
    /// Whether `event`, given again with a known id, is what event `sequence` holds.
    pub(crate) fn same_content(&self, event: &Event<'_>, sequence: u64) -> Result<bool, EmitError> {
        let mut same = false;
        let read = self.pipeline.segments().read(sequence, sequence, &mut |entry| {
            same = entry.event().is_some_and(|stored| entry.recorded(stored).is_same_content(event));
            ControlFlow::Continue(())
        });
        read.map_err(|e| self.unreadable(&e)).map(|()| same)
    }

    /// The record must be readable to tell a repetition from a conflict; where it is not, nothing can be promised.
    pub(crate) fn unreadable(&self, e: &ReadError) -> EmitError {
        EmitError::Poisoned(crate::error::PoisonCause(format!("the record cannot be read: {e}").into()))
    }
}

/// A journal that is open for writing.
#[derive(Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    layout: Layout,
    running: Mutex<Option<Running>>,
    wards: Wards,
    lock: LockFile,
    keeper: Arc<TreeKeeper>,
    desk: Arc<Desk>,
}

/// What an engine is doing.
#[derive(Clone, Debug)]
pub struct EngineStatus {
    /// Last event admitted.
    pub admitted: u64,
    /// Last durable event.
    pub durable: u64,
    /// Admitted events that are not committed.
    pub pending_events: usize,
    /// Their bytes.
    pub pending_bytes: usize,
    /// Threads and tasks that wait for durability.
    pub waiting: usize,
    /// Restarts by role since opening.
    pub restarts: Vec<(&'static str, u64)>,
    /// Roles that are not restarted any more, and why.
    pub lost_functions: Vec<(&'static str, String)>,
    /// Threads that hang and were left behind.
    pub left_behind: u64,
    /// Events refused since opening because they crashed the engine.
    pub refused: u64,
    /// How long a write or sync of the record has not returned, if one does not.
    pub stalled: Option<Duration>,
    /// Whether a panic can be survived: not in a program built with `panic = "abort"`.
    pub is_supervised: bool,
    /// Why nothing is admitted, if so.
    pub gate: Gate,
    /// Damage found when the journal was opened.
    pub damage: Vec<Damage>,
}

impl Engine {
    /// Opens the journal in `root` on the machine's own files and clocks.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(root: &Path, options: EngineOptions) -> Result<Self, OpenError> {
        Self::open_on(Arc::new(RealBackend::new()), Arc::new(SystemClock::new()), root, options)
    }

    /// Opens the journal in `root` on any files and clocks.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_on(
        backend: Arc<dyn Backend>,
        clock: Arc<dyn Clock>,
        root: &Path,
        options: EngineOptions,
    ) -> Result<Self, OpenError> {
        let layout = Layout { root: root.to_owned() };
        let lock_file = take_lock(backend.as_ref(), &layout, &options)?;
        let lock = LockFile::new(lock_file);
        let io = |action| {
            let path = layout.lock();
            move |source| OpenError::Io { path: path.clone(), action, source }
        };
        let info: Option<LockInfo> = lock.read().map_err(io("read"))?;
        let place =
            Place { backend: backend.clone(), segments: layout.segments(), quarantine: layout.quarantine() };
        let recovered = recover(&place, info.as_ref(), Uuid::new_v4(), clock.boot_id(), clock.wall_ns())?;
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
        let wake = start_waker().map_err(io("start a thread for"))?;
        let ledger = Ledger::new(last, IdIndex::new(segments.clone(), last), streams);
        let cutting = Cutting {
            max_age_ns: options.max_age.as_nanos() as i64,
            batch_bytes: options.batch_bytes,
            batch_events: options.batch_events,
            codec: options.codec,
        };
        let nonce = Uuid::new_v4().as_u64_pair().0;
        let watermark = Watermark::new(last, wake);
        let record = Record { place, lock: lock.clone(), writer: writer_options };
        let pipeline =
            Pipeline::new(ledger, watermark, clock.clone(), segments, (record, writer), cutting, nonce);
        let pipeline = Arc::new(pipeline);
        pipeline.resume_clock(pipeline.segments().newest_clock(last)?);
        pipeline.damage.lock().extend(recovered.damage);
        pipeline.sealer().inherit(unsealed);
        if let Some(tail) = tail {
            pipeline.sealer().writing(tail);
        }
        let keeper = Arc::new(TreeKeeper::new(pipeline.segments().real_path(&layout.trees())));
        let index = IndexerSeed { pipeline: pipeline.clone(), keeper: keeper.clone(), lock: lock.clone() };
        let desk = Arc::<Desk>::default();
        let running =
            Running::start(&pipeline, index, desk.clone(), &options).map_err(io("start a thread for"))?;
        let wards = running.wards.clone();
        let shared = Arc::new(Shared { pipeline, options });
        let sources = shared.options.sources.take();
        let engine = Engine { shared, layout, running: Mutex::new(Some(running)), wards, lock, keeper, desk };
        for source in sources {
            let path = engine.layout.root.clone();
            let attach = |e| OpenError::Io {
                path,
                action: "attach a kernel source to",
                source: std::io::Error::other(e),
            };
            engine.attach(source).map_err(attach)?;
        }
        Ok(engine)
    }

    /// An emitter; events that name neither stream nor agent get `name` for both.
    pub fn emitter(&self, name: Option<&str>) -> Emitter {
        Emitter::new(self.shared.clone(), name)
    }

    /// Attaches a kernel source: from now on what it hands out is journaled, behind what was journaled of it before.
    /// Whether it can be had is told by [`Engine::sync_status`] and [`Engine::sync_now`].
    ///
    /// # Errors
    /// [`AttachError`].
    pub fn attach(&self, source: Box<dyn OpenSource>) -> Result<(), AttachError> {
        let running = self.running.lock();
        running.as_ref().ok_or(AttachError::Closed)?.attach(&self.shared.pipeline, source)
    }

    /// The state of each source.
    pub fn sync_status(&self) -> Vec<SourceStatus> {
        self.desk.status(self.shared.pipeline.clock().boot_ns())
    }

    /// Waits until all that the sources had before now is durable; answers the last event of it, 0 where there was none.
    ///
    /// # Errors
    /// [`SyncError`].
    pub fn sync_now(&self, within: Duration) -> Result<u64, SyncError> {
        let pipeline = &self.shared.pipeline;
        let until = Instant::now() + within;
        let last = self.desk.wait_read(|| pipeline.bells.sync.ring(), until)?;
        if last > pipeline.watermark().durable() {
            pipeline.want(last);
            pipeline.watermark().wait(last, Level::Durable, Some(until))?;
        }
        Ok(last)
    }

    /// Lets KernelSync look at its sources, though none of them woke it.
    pub fn poke_sync(&self) {
        self.shared.pipeline.bells.sync.ring();
    }

    /// The hybrid logical clock of the newest durable unit.
    pub fn view_clock(&self) -> Option<(u64, u16)> {
        let pipeline = &self.shared.pipeline;
        pipeline.segments().newest_clock(pipeline.watermark().durable()).ok().flatten()
    }

    /// The newest durable resume point of a source; it reads the record back to it.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn resume_point(
        &self,
        source: &str,
    ) -> Result<Option<semj_storage::log::control::ResumePoint>, ReadError> {
        self.shared.pipeline.resume_point(source)
    }

    /// The event of a source's sequence in its current life, and the sequence of an event; as far as this opening saw them.
    pub fn sequence_of(&self, source: &str, source_sequence: u64) -> Option<u64> {
        let slot = self.desk.slots().into_iter().find(|s| s.name == source)?;
        let state = slot.state.lock();
        state.extents.to_global(source_sequence)
    }

    /// The source's sequence of an event, as far as this opening saw it.
    pub fn source_sequence_of(&self, source: &str, sequence: u64) -> Option<u64> {
        let slot = self.desk.slots().into_iter().find(|s| s.name == source)?;
        let state = slot.state.lock();
        state.extents.to_source(sequence)
    }

    /// Where the parts lie.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// All that is durable by now, for reading.
    pub fn view(&self) -> LogView {
        let pipeline = &self.shared.pipeline;
        LogView::new(pipeline.segments().clone(), pipeline.watermark().durable())
    }

    /// What it is doing.
    pub fn status(&self) -> EngineStatus {
        let pipeline = &self.shared.pipeline;
        let pending = pipeline.ledger().pending();
        let gave_up = |w: &Arc<Ward>| w.gave_up().map(|reason| (w.role().name(), reason));
        EngineStatus {
            admitted: pipeline.ledger().admitted(),
            durable: pipeline.watermark().durable(),
            pending_events: pending.events,
            pending_bytes: pending.bytes,
            waiting: pipeline.watermark().waiting(),
            restarts: self.wards.each_ref().map(|w| (w.role().name(), w.restarts())).to_vec(),
            lost_functions: self.wards.iter().filter_map(gave_up).collect(),
            left_behind: self.running.lock().as_ref().map_or(0, |r| r.supervisor.left_behind()),
            refused: pipeline.refusals.count(),
            stalled: pipeline.watermark().stalled().map(|since| since.elapsed()),
            is_supervised: cfg!(panic = "unwind"),
            gate: pipeline.ledger().gate(),
            damage: pipeline.damage(),
        }
    }

    /// Asks the actor of a role for something that it should survive: for torture tests. `false` after closing.
    pub fn disturb(&self, role: Role, command: Command) -> bool {
        self.wards.get(role.index()).is_some_and(|ward| ward.ask(command))
    }

    /// Commits everything admitted, within `within`; then ends. What was not managed in time is told.
    ///
    /// # Errors
    /// [`CommitError`]; the journal is closed all the same.
    pub fn close(&self, within: Duration) -> Result<(), CommitError> {
        let Some(running) = self.running.lock().take() else { return Ok(()) };
        let pipeline = &self.shared.pipeline;
        let until = Instant::now() + within.max(END_GRACE);
        pipeline.ledger().set_gate(Gate::Closed);
        let last = pipeline.ledger().admitted();
        let flushed = if pipeline.watermark().durable() < last {
            pipeline.want(last);
            pipeline.watermark().wait(last, Level::Durable, deadline(within))
        } else {
            Ok(())
        };
        // A refused event was dealt with: it is no reason not to end cleanly.
        let flushed = flushed.or_else(|e| match e {
            CommitError::Refused { .. } => Ok(()),
            other => Err(other),
        });
        if flushed.is_ok() {
            self.finish_trees(within.min(TREES_AT_CLOSE));
        }
        let left_behind = running.stop(until.max(Instant::now() + END_GRACE));
        let durable = pipeline.watermark().durable();
        let mut cause = flushed.err().or_else(|| pipeline.watermark().poison().map(CommitError::Poisoned));
        if cause.is_none() && left_behind.is_empty() {
            let closed = pipeline.with_writer(END_GRACE, |writer| writer.close(pipeline.clock().wall_ns()));
            cause = match closed {
                Some(Ok(())) => None,
                Some(Err(e)) => {
                    Some(CommitError::Poisoned(PoisonCause(format!("closing failed: {e}").into())))
                }
                None => Some(CommitError::Closed),
            };
        }
        pipeline.watermark().fail(CommitError::Closed);
        if left_behind.is_empty() {
            // Emitters may live on; the journal is free all the same.
            let _ = self.lock.file().unlock();
        } else {
            // What a thread does that was left behind could land under another owner: nobody else may open it.
            std::mem::forget(self.lock.clone());
        }
        match cause {
            None if left_behind.is_empty() => Ok(()),
            Some(cause) if left_behind.is_empty() && durable >= last => Err(cause),
            cause => Err(CommitError::Unfinished(Unfinished {
                not_durable: (durable < last).then_some((durable + 1, last)),
                cause: cause.map(Box::new),
                left_behind,
            })),
        }
    }

    /// A ticket of everything admitted so far; `None` when nothing was.
    pub fn last_admitted(&self) -> Option<Ticket> {
        let pipeline = &self.shared.pipeline;
        let last = pipeline.ledger().admitted();
        let ticket =
            Ticket { pipeline: pipeline.clone(), first: last, last, given_id: None, duplicate: false };
        (last > 0).then_some(ticket)
    }

    /// Copies damaged bytes to quarantine and writes the lost range into the record.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn set_damage_aside(&self, damage: &Damage) -> Result<PathBuf, ReadError> {
        let copy =
            self.shared.pipeline.record.place.set_aside(&damage.segment, damage.offset, damage.length)?;
        self.shared.pipeline.record_damage(damage)?;
        Ok(copy)
    }

    /// The index, as far as it is.
    pub fn index(&self) -> &Arc<Index> {
        self.keeper.index()
    }

    /// Gives the trees a moment to take in what is durable, so that a short-lived owner leaves them complete.
    fn finish_trees(&self, within: Duration) {
        let durable = self.shared.pipeline.watermark().durable();
        let until = Instant::now() + within;
        while self.index().indexed_sequence() < durable && self.keeper.has_hope() && Instant::now() < until {
            self.shared.pipeline.bells.index.ring();
            std::thread::sleep(TREES_POLL);
        }
        let journal = self.shared.pipeline.segments().journal();
        // Display only.
        let _ = self.lock.write_indexed(&journal, self.index().indexed_sequence().min(durable));
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.close(Duration::from_secs(1));
    }
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

/// One stored event, for tests; `None` for a sequence without content.
///
/// # Errors
/// As reading the record.
pub fn read_one(view: &LogView, sequence: u64) -> Result<Option<Recorded>, ReadError> {
    use semj_storage::query::EventSource;
    let mut found = None;
    view.read(sequence, sequence, &mut |entry| {
        found = entry.event().map(|e| entry.recorded(e));
        ControlFlow::Continue(())
    })?;
    Ok(found)
}
