//! The thread that reads sources while a call runs; what it makes of what they tell is in `tell`.

use super::judge::Judge;
use super::rung::{self, Coverage, Plan, Rung};
use super::touched::Touched;
use super::tree::Tree;
use super::witness::Beside;
use super::{Call, boot_ns};
use crate::emitter::Emitter;
use crate::sources::lineage::Change;
use crate::sources::seccomp::Listener;
use crate::sources::{Barrier, Item, Unavailable, procfs, wall_ns};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Items taken at once: few, so that a source is emptied often.
const BATCH: usize = 512;
/// How often the witness is read in a row.
const BATCHES: usize = 64;
/// How often `/proc` is looked at where nothing tells of processes.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long the end waits for the last effects before it says that some may be missing.
const SETTLE_WITHIN_NS: i64 = 5_000_000_000;

/// A source that is open and sees nothing yet that matters.
pub struct Observer {
    rung: Rung,
    plan: Plan,
}

impl Observer {
    /// Opens the best source there is, or the one that is wanted.
    ///
    /// # Errors
    /// Why the wanted source is not there.
    pub fn open(plan: Plan) -> Result<Self, Unavailable> {
        let rung = rung::open(&plan)?;
        Ok(Observer { rung, plan })
    }

    /// What is observed, and what is not.
    pub fn coverage(&self) -> &Coverage {
        &self.rung.coverage
    }

    /// Whether it still needs the listener of a process that came under its filter: [`Observer::listen`] gets that.
    pub fn needs_listener(&self) -> bool {
        self.rung.listen.is_some()
    }

    /// Takes the listener of the process that is to be followed, and a socket to the process that lets its calls go when this
    /// one is gone; without such a keeper they fail then. Where no listener is needed, both are closed.
    ///
    /// # Errors
    /// When the operating system refuses memory, a descriptor or a thread, or the keeper does not answer.
    pub fn listen(&mut self, listener: Listener, keeper: Option<OwnedFd>) -> io::Result<()> {
        self.rung.listen.take().map_or(Ok(()), |listen| listen(listener, keeper))
    }

    /// Follows process `root`, a child of this process that waits, on a thread of its own.
    ///
    /// # Errors
    /// When the operating system refuses a thread or a tag, or a listener is needed and was not given.
    pub fn start(mut self, emitter: Emitter, call: Call, root: u32, cwd: &Path) -> io::Result<Running> {
        if self.needs_listener() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "nobody listens to the calls of the process",
            ));
        }
        // Made of the call's random id, so that it is nobody else's.
        let tag = call.id.as_u64_pair().0 | 1;
        if let Some(adopt) = &self.rung.adopt {
            adopt(root, tag)?;
        }
        let folders = self.plan.folders.iter().filter_map(|f| std::fs::canonicalize(f).ok());
        let folders = folders.map(|f| f.as_os_str().as_bytes().to_vec()).collect();
        // A source that hands down tags tells every fork itself.
        let exact = self.rung.lineage.as_ref().map_or(self.rung.adopt.is_some(), |l| l.exact());
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let mut work = Work {
            // Only where forks are not told is an unknown child of this process taken for an orphan of the tree.
            tree: Tree::new((!exact).then(std::process::id), root, procfs::start_ns(root).unwrap_or(0)),
            judge: Judge::new(folders, &call.arguments, cwd, tag, exact),
            source: self.rung.coverage.source,
            beside: self.rung.witness.take().map(Beside::new),
            rung: self.rung,
            emitter,
            call,
            root,
            wake: wake.clone(),
            changes: Vec::new(),
            items: Vec::new(),
            finished: Finished::default(),
        };
        // What happened before the process was let go is no effect of it.
        work.pump(false);
        let thread = std::thread::Builder::new().name("semj-observe".into()).spawn(move || work.run())?;
        Ok(Running { thread, wake })
    }
}

/// An observation under way.
#[derive(Debug)]
pub struct Running {
    thread: JoinHandle<Finished>,
    wake: Arc<OwnedFd>,
}

impl Running {
    /// Reads all that happened up to now and ends the observation.
    pub fn finish(self) -> Finished {
        let _ = rustix::io::write(&*self.wake, &[1, 0, 0, 0, 0, 0, 0, 0]);
        self.thread.join().unwrap_or_else(|_| Finished {
            failed: Some("the observing thread panicked".to_owned()),
            ..Finished::default()
        })
    }
}

/// What an observation came to.
#[derive(Clone, Debug, Default)]
pub struct Finished {
    /// What the call touched.
    pub touched: Touched,
    /// How many effects in the watched folders were somebody else's.
    pub external: u64,
    /// How many calls would have changed a file and failed, where the source tells them.
    pub failed_calls: u64,
    /// How many calls may have had an effect, or not: that could not be found out.
    pub intents: u64,
    /// How many processes there were.
    pub processes: u64,
    /// Processes that still ran when the call had returned, with their names.
    pub orphans: Vec<(u32, String)>,
    /// Records that are missing, where they were counted.
    pub lost: u64,
    /// How many gaps there were.
    pub gaps: u64,
    /// Everything up to the end of the call was read.
    pub is_complete: bool,
    /// How many events were emitted.
    pub events: u64,
    /// What people should know, whatever they wanted to see.
    pub remarks: Vec<String>,
    /// Why something could not be journaled or read.
    pub failed: Option<String>,
}

/// Which points were passed.
#[derive(Clone, Copy)]
struct Passed {
    source: u64,
    witness: u64,
}

pub(super) struct Work {
    pub(super) rung: Rung,
    pub(super) source: &'static str,
    pub(super) beside: Option<Beside>,
    pub(super) emitter: Emitter,
    pub(super) call: Call,
    pub(super) root: u32,
    pub(super) tree: Tree,
    pub(super) judge: Judge,
    pub(super) wake: Arc<OwnedFd>,
    pub(super) changes: Vec<Change>,
    pub(super) items: Vec<Item>,
    pub(super) finished: Finished,
}

impl Work {
    fn run(mut self) -> Finished {
        loop {
            let more = self.pump(true).0;
            if !more && self.wait() {
                break;
            }
        }
        self.settle();
        self.finished.processes = self.tree.count() as u64;
        self.finished
    }

    /// Waits for something to read. True when the call has returned.
    fn wait(&self) -> bool {
        let mut watched = vec![PollFd::new(&*self.wake, PollFlags::IN)];
        let source = self.rung.source.as_ref().and_then(|s| s.pollable());
        let lineage = self.rung.lineage.as_ref().and_then(|l| l.pollable());
        let beside = self.beside.as_ref().and_then(Beside::pollable);
        watched.extend(source.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
        watched.extend(lineage.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
        watched.extend(beside.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
        let mut every = self.rung.source.as_ref().map_or(Duration::from_millis(100), |s| s.poll_every());
        if self.rung.lineage.is_some() && lineage.is_none() {
            every = every.min(LOOK_EVERY);
        }
        let every = Timespec { tv_sec: 0, tv_nsec: i64::from(every.subsec_nanos()) };
        let _ = poll(&mut watched, Some(&every));
        watched.first().is_some_and(|w| w.revents().contains(PollFlags::IN))
    }

    /// Reads effects first and processes second, so that every process an effect names is known; tells processes that
    /// began, then effects, then processes that ended, then what the witness adds. Returns whether there is more, and which
    /// points source and witness have passed.
    fn pump(&mut self, tell: bool) -> (bool, Passed) {
        let (mut more, mut passed) = (false, 0);
        let mut items = std::mem::take(&mut self.items);
        let mut changes = std::mem::take(&mut self.changes);
        if let Some(source) = &mut self.rung.source {
            match source.next_batch(BATCH, &mut items) {
                Ok(progress) => (more, passed) = (progress.more, progress.passed),
                Err(e) => self.fail(format!("cannot read {}: {e}", self.source)),
            }
        }
        if let Some(lineage) = &mut self.rung.lineage {
            match lineage.drain(&mut changes) {
                Ok(drained) if drained.lost => self.lineage_lost(&mut changes),
                Ok(_) => {}
                Err(e) => self.fail(format!("cannot follow processes: {e}")),
            }
        }
        let offset = wall_ns().saturating_sub(boot_ns());
        let (ends, begins): (Vec<Change>, Vec<Change>) =
            changes.drain(..).partition(|c| matches!(c, Change::Exited { .. }));
        // Ids go round: an end that comes before a beginning of the same id is told before it.
        let early = |end: &Change| {
            let of = |c: &Change| match *c {
                Change::Started { tgid, .. } => Some(tgid),
                _ => None,
            };
            let Change::Exited { tgid, at_ns, .. } = *end else { return false };
            begins.iter().any(|b| of(b) == Some(tgid) && start_of(b) > at_ns)
        };
        let (early, late): (Vec<Change>, Vec<Change>) = ends.into_iter().partition(early);
        for change in early.iter().chain(&begins) {
            self.take_change(change, tell, offset);
        }
        for item in items.drain(..) {
            self.take_item(item, tell, offset);
        }
        for change in &late {
            self.take_change(change, tell, offset);
        }
        (self.items, self.changes) = (items, changes);
        let mut passed = Passed { source: passed, witness: 0 };
        if let Some(beside) = self.beside.take() {
            more |= self.pump_beside(beside, &mut passed, tell, offset);
        }
        (more, passed)
    }

    /// Reads the witness, and tells what is settled. Returns whether there is more.
    fn pump_beside(&mut self, mut beside: Beside, passed: &mut Passed, tell: bool, offset: i64) -> bool {
        let mut gaps = Vec::new();
        let mut read = beside.read(BATCH, tell, &mut gaps);
        // It is emptied before it loses anything: what is held back takes no more room here than there.
        for _ in 0..BATCHES {
            if !matches!(read, Ok(progress) if progress.more) {
                break;
            }
            read = beside.read(BATCH, tell, &mut gaps);
        }
        for gap in &gaps {
            self.gap(beside.name(), gap);
        }
        let progress = match read {
            Ok(progress) => progress,
            Err(e) => {
                // What it still held is told, and that it is gone.
                self.fail(format!("cannot read {}: {e}", beside.name()));
                self.settle_beside(&mut beside, true, offset);
                self.not_observed(beside.name(), boot_ns());
                return false;
            }
        };
        passed.witness = progress.passed;
        if let Some(source) = &mut self.rung.source {
            beside.primary_passed(source.as_mut(), passed.source);
        }
        self.settle_beside(&mut beside, false, offset);
        self.beside = Some(beside);
        progress.more
    }

    fn settle_beside(&mut self, beside: &mut Beside, is_last: bool, offset: i64) {
        for (mut record, verdict) in beside.settle(&self.judge, &self.tree, is_last) {
            self.know(&mut record);
            self.tell(beside.name(), &record, verdict, offset);
        }
    }

    /// Reads everything up to now: the witness first, since the source has to explain all that it saw.
    fn settle(&mut self) {
        let ended = *self.call.ended_ns.get_or_insert_with(boot_ns);
        let barrier = self.beside.as_mut().map_or(Barrier(0), Beside::barrier);
        if !self.read_until(|passed| passed.witness >= barrier.0, barrier.0 == u64::MAX)
            && let Some(name) = self.beside.as_ref().map(Beside::name)
        {
            self.not_observed(name, ended);
        }
        let barrier = match self.rung.source.as_mut().map(|s| s.barrier()) {
            Some(Ok(barrier)) => barrier,
            Some(Err(_)) => Barrier(u64::MAX),
            None => Barrier(0),
        };
        if self.read_until(|passed| passed.source >= barrier.0, barrier.0 == u64::MAX) {
            self.finished.is_complete = self.rung.source.is_some() && self.finished.gaps == 0;
        } else {
            self.not_observed(self.source, ended);
        }
        if let Some(mut beside) = self.beside.take() {
            let offset = wall_ns().saturating_sub(boot_ns());
            self.settle_beside(&mut beside, true, offset);
        }
        self.orphans();
        self.remarks();
    }

    /// Reads until a point is passed; false when that took too long. With `has_no_point`, until there is nothing, and false.
    fn read_until(&mut self, is_passed: impl Fn(Passed) -> bool, has_no_point: bool) -> bool {
        let until = boot_ns() + SETTLE_WITHIN_NS;
        loop {
            let (more, passed) = self.pump(true);
            if is_passed(passed) {
                return true;
            }
            if boot_ns() > until || (has_no_point && !more) {
                return false;
            }
            if !more {
                self.wait_shortly();
            }
        }
    }

    /// Waits for the sources alone; that the call has returned is known by now.
    fn wait_shortly(&self) {
        let fd = self.rung.source.as_ref().and_then(|s| s.pollable());
        let mut watched: Vec<PollFd<'_>> =
            fd.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        let shortly = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        let _ = poll(&mut watched, Some(&shortly));
    }
}

fn start_of(change: &Change) -> u64 {
    match *change {
        Change::Started { at_ns, .. } | Change::Executed { at_ns, .. } | Change::Exited { at_ns, .. } => {
            at_ns
        }
    }
}
