//! Opening and closing: everything that is shared, put together and taken apart.

use crate::clock::{Clock, SystemClock};
use crate::emitter::Emitter;
use crate::error::{CommitError, EmitError, PoisonCause, Unfinished};
use crate::kernel_sync::{AttachError, Desk, SourceStatus, SyncError};
use crate::lanes::start_waker;
use crate::ledger::Gate;
use crate::opening::{Layout, OpenError, Parts, io_error};
use crate::options::EngineOptions;
use crate::pipeline::Pipeline;
use crate::running::Running;
use crate::sources::OpenSource;
use crate::supervision::{Command, Role, Ward, Wards};
use crate::ticket::Ticket;
use crate::trees::TreeKeeper;
use crate::watermark::{Level, deadline};
use parking_lot::Mutex;
use semj_storage::backend::{Backend, RealBackend};
use semj_storage::error::{Damage, ReadError};
use semj_storage::event::{Event, Recorded};
use semj_storage::log::control::{CLOCK_ANCHOR, ClockAnchor, ResumePoint};
use semj_storage::log::{ControlRef, LockFile, LogView, Origin};
use semj_storage::trees::Index;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How long closing waits at most for the trees, which can always be made again.
const TREES_AT_CLOSE: Duration = Duration::from_secs(1);
/// Most readings of clocks that are handed out of a journal.
const ANCHORS_MAX: usize = 65_536;
const TREES_POLL: Duration = Duration::from_millis(1);
/// What closing always gives the threads to end.
const END_GRACE: Duration = Duration::from_millis(500);

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
        EmitError::Unreadable(e.to_string().into())
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
    /// Threads that hang, were left behind, and have not ended since.
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
        let fresh = (Uuid::new_v4(), Uuid::new_v4().as_u64_pair().0);
        let parts = Parts::open(backend, clock, root, &options, fresh, |layout| {
            start_waker().map_err(io_error(layout.lock(), "start a thread for"))
        })?;
        let Parts { layout, pipeline, index } = parts;
        let (lock, keeper) = (index.lock.clone(), index.keeper.clone());
        let desk = Arc::<Desk>::default();
        let running = Running::start(&pipeline, index, desk.clone(), &options)
            .map_err(io_error(layout.lock(), "start a thread for"))?;
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
        self.desk.status(self.shared.pipeline.clock())
    }

    /// Waits until all that the sources had before now is durable; answers the last event of it, 0 where there was none.
    ///
    /// # Errors
    /// [`SyncError`].
    pub fn sync_now(&self, within: Duration) -> Result<u64, SyncError> {
        let pipeline = &self.shared.pipeline;
        let begin = Instant::now();
        let until = begin + within;
        let last = self.desk.wait_read(|| pipeline.bells.sync.ring(), until)?;
        if last > pipeline.watermark().durable() {
            pipeline.want(last);
            pipeline.watermark().wait(last, Level::Durable, Some(until))?;
        }
        self.desk.synced_within(begin.elapsed());
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
    pub fn resume_point(&self, source: &str) -> Result<Option<ResumePoint>, ReadError> {
        let pipeline = &self.shared.pipeline;
        let found = pipeline.segments().resume_point(source, pipeline.watermark().durable())?;
        Ok(found.ok().map(|found| found.point))
    }

    /// The readings of the clocks in this boot that are durable, the newest first, at most 65,536; it reads the whole
    /// record.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn clock_anchors(&self, boot_id: Uuid) -> Result<Vec<ClockAnchor>, ReadError> {
        let pipeline = &self.shared.pipeline;
        let mut found = Vec::new();
        pipeline.segments().controls_back(pipeline.watermark().durable(), &mut |control| {
            if control.kind == CLOCK_ANCHOR {
                found.extend(ClockAnchor::decode(control.bytes).filter(|a| a.boot_id == boot_id));
            }
            if found.len() < ANCHORS_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(found)
    }

    /// The event that a source's sequence became: in its newest life, or in the one of this boot and incarnation.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn event_of(
        &self,
        source: &str,
        life: Option<(Uuid, u64)>,
        source_sequence: u64,
    ) -> Result<Option<Origin>, ReadError> {
        let pipeline = &self.shared.pipeline;
        pipeline.segments().event_of(source, life, source_sequence, pipeline.watermark().durable())
    }

    /// Which source a durable event comes from, and its sequence there; `None` where it is no record of a source.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn origin_of(&self, sequence: u64) -> Result<Option<Origin>, ReadError> {
        let pipeline = &self.shared.pipeline;
        match pipeline.watermark().durable() {
            durable if sequence > durable => Ok(None),
            _ => pipeline.segments().origin_of(sequence),
        }
    }

    /// Visits control records, newest first; see [`semj_storage::log::Segments::controls_back`].
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn controls_back(
        &self,
        last: u64,
        visit: &mut dyn FnMut(ControlRef<'_>) -> ControlFlow<()>,
    ) -> Result<u64, ReadError> {
        self.shared.pipeline.segments().controls_back(last, visit)
    }

    /// The event of a source's sequence in its current life, as far as this opening saw it; from memory, durable or not.
    pub fn sequence_of(&self, source: &str, source_sequence: u64) -> Option<u64> {
        let slot = self.desk.slots().into_iter().find(|s| s.name == source)?;
        let state = slot.state.lock();
        state.extents.to_global(source_sequence)
    }

    /// The source's sequence of an event, as far as this opening saw it; from memory, durable or not.
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
            left_behind: self.running.lock().as_ref().map_or(0, Running::left_behind),
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
        let mut left_behind = running.stop(until.max(Instant::now() + END_GRACE));
        let mut cause = flushed.err().or_else(|| pipeline.watermark().poison().map(CommitError::Poisoned));
        // The end mark has its room even on a full disk.
        if matches!(cause, None | Some(CommitError::StorageFull)) && left_behind.is_empty() {
            cause = end_record(pipeline, until, &mut left_behind).err().or(cause);
        }
        let durable = pipeline.watermark().durable();
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

    /// Last durable event.
    pub fn durable(&self) -> u64 {
        self.shared.pipeline.watermark().durable()
    }

    /// Restarts of a role since opening.
    pub fn restarts(&self, role: Role) -> u64 {
        self.wards.get(role.index()).map_or(0, |ward| ward.restarts())
    }

    /// Sleeps until event `sequence` is durable, whoever emits it, and calls for nothing: commits take their own pace.
    ///
    /// # Errors
    /// As [`Ticket::wait_timeout`]; `Timeout` also when there is no such event yet.
    pub fn wait_durable(&self, sequence: u64, within: Duration) -> Result<(), CommitError> {
        self.shared.pipeline.watermark().wait(sequence, Level::Durable, deadline(within))
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

/// Writes the end mark. The disk may not answer: a thread of its own waits for it, and is left behind at `until`.
fn end_record(
    pipeline: &Arc<Pipeline>,
    until: Instant,
    left_behind: &mut Vec<&'static str>,
) -> Result<(), CommitError> {
    const NAME: &str = "semj-close";
    let poisoned =
        |e: &dyn std::fmt::Display| CommitError::Poisoned(PoisonCause(format!("closing failed: {e}").into()));
    let (tell, told) = crossbeam_channel::bounded(1);
    let owner = pipeline.clone();
    let close = move || {
        let closed = owner.with_writer(END_GRACE, |writer| {
            writer.close(owner.clock().wall_ns()).map(|()| owner.watermark().set_durable(writer.durable()))
        });
        let _ = tell.send(closed);
    };
    std::thread::Builder::new().name(NAME.into()).spawn(close).map_err(|e| poisoned(&e))?;
    match told.recv_deadline(until.max(Instant::now() + END_GRACE)) {
        Ok(Some(closed)) => closed.map_err(|e| poisoned(&e)),
        Ok(None) => Err(CommitError::Closed),
        Err(_) => {
            left_behind.push(NAME);
            Err(CommitError::Stalled { since: Instant::now() })
        }
    }
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
