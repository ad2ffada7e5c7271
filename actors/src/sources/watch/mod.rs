//! Folders, watched for the journal: whatever anybody changes in them becomes events, in one order with what is said.
//!
//! fanotify where this user may have it, else inotify. What happened while nobody watched is a gap, and what still shows
//! of it is told as [`Phase::Synthetic`](super::Phase::Synthetic); at the first opening there is no gap, since nothing was
//! promised before. The journal's own folder is left out.

mod missed;

use super::fanotify::{Fanotify, FanotifyOptions};
use super::inotify::Inotify;
use super::known::{Folders, TICK_NS};
use super::{
    Barrier, Caps, Gap, GapCause, Item, KernelRecord, KernelSource, Lost, NotSupported, OpenSource, Progress,
    Resume, Unavailable, boot_ns, wall_ns,
};
use missed::{Missed, missed};
use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use uuid::Uuid;

/// Reads of the source in one call, so that whoever changes files without end does not keep it.
const READS_MAX: usize = 8;

/// Which source watches.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WatchWith {
    /// The best there is.
    #[default]
    Best,
    /// Marks on file systems: with the process.
    Fanotify,
    /// Watches on folders: without the process.
    Inotify,
}

/// Opens the source.
#[derive(Clone, Debug)]
pub struct Watch {
    name: String,
    folders: Vec<PathBuf>,
    left_out: Vec<PathBuf>,
    with: WatchWith,
}

impl Watch {
    /// These folders with all that is below them, under the name `watch`.
    pub fn new<P: Into<PathBuf>>(folders: impl IntoIterator<Item = P>) -> Self {
        let folders = folders.into_iter().map(Into::into).collect();
        Watch { name: "watch".to_owned(), folders, left_out: Vec::new(), with: WatchWith::Best }
    }

    /// Under another name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// With this source only.
    #[must_use]
    pub fn with(mut self, with: WatchWith) -> Self {
        self.with = with;
        self
    }

    /// Without this folder and what is below it.
    #[must_use]
    pub fn without(mut self, folder: impl Into<PathBuf>) -> Self {
        self.left_out.push(folder.into());
        self
    }

    fn source(&self) -> Result<Box<dyn KernelSource>, Unavailable> {
        let inotify = || Inotify::open(&self.folders, &self.left_out);
        let (folders, left_out) = (self.folders.clone(), self.left_out.clone());
        let options = FanotifyOptions { unlimited_queue: true, own_process: true, folders, left_out };
        match self.with {
            WatchWith::Fanotify => Ok(Box::new(Fanotify::open(options)?)),
            WatchWith::Inotify => Ok(Box::new(inotify()?)),
            WatchWith::Best => match Fanotify::open(options) {
                Ok(source) => Ok(Box::new(source)),
                Err(_) => Ok(Box::new(inotify()?)),
            },
        }
    }
}

impl OpenSource for Watch {
    fn name(&self) -> &str {
        &self.name
    }

    fn leave_out(&mut self, folder: &Path) {
        self.left_out.push(folder.to_owned());
    }

    fn open(&mut self, from: Option<&Resume>) -> Result<Box<dyn KernelSource>, Unavailable> {
        for folder in &self.folders {
            std::fs::canonicalize(folder).map_err(|e| {
                Unavailable::new(format!("the folder {}", folder.display()), "make it, or name another one")
                    .because(&e)
            })?;
        }
        let folders = Folders::new(&self.folders, &self.left_out);
        let source = self.source()?;
        let boot_id = super::boot_id();
        let now = boot_ns().cast_signed();
        let mut first = vec![Item::Epoch { boot_id, incarnation: 0, first_sequence: None }];
        let mut old = VecDeque::new();
        if let Some(from) = from {
            let before = Seen::of(from);
            let from_ns = before.filter(|seen| seen.boot_id == boot_id).map_or(0, |seen| seen.boot_ns);
            let cause = GapCause::NotObserved;
            first.push(Item::Gap(Gap { after: None, lost: Lost::Unknown, from_ns, to_ns: now, cause }));
            // It watches by now: what is changed from here on may be told twice rather than never.
            old.extend(before.map(|seen| missed(&folders, seen.wall_ns)).unwrap_or_default());
        }
        let seen = Seen { boot_id, boot_ns: now, wall_ns: wall_ns() };
        Ok(Box::new(Watching { source, folders, first, old, seen }))
    }
}

/// Up to when somebody watched: the resume point, 16 bytes of boot id, the time on the boot-time clock and the wall clock's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Seen {
    boot_id: Uuid,
    boot_ns: i64,
    wall_ns: i64,
}

impl Seen {
    fn of(resume: &Resume) -> Option<Self> {
        let (id, times) = resume.0.split_first_chunk()?;
        let (boot, wall) = times.split_first_chunk()?;
        Some(Seen {
            boot_id: Uuid::from_bytes(*id),
            boot_ns: i64::from_le_bytes(*boot),
            wall_ns: i64::from_le_bytes(wall.try_into().ok()?),
        })
    }

    fn resume(self) -> Resume {
        let times = [self.boot_ns.to_le_bytes(), self.wall_ns.to_le_bytes()].concat();
        Resume([self.boot_id.as_bytes().as_slice(), &times].concat())
    }
}

/// The open source.
#[derive(Debug)]
struct Watching {
    source: Box<dyn KernelSource>,
    folders: Folders,
    /// To be handed out before anything else.
    first: Vec<Item>,
    /// What was missed, to be handed out next.
    old: VecDeque<Missed>,
    seen: Seen,
}

impl Watching {
    /// fanotify tells of whole file systems.
    fn is_ours(&self, record: &KernelRecord) -> bool {
        [&record.path.path, &record.path.target].into_iter().any(|path| self.folders.contain(path))
    }

    /// At most `max`, and whatever has the same time as the last of them.
    fn hand_out_old(&mut self, max: usize, out: &mut Vec<Item>) {
        let (mut given, mut last) = (0, None);
        while let Some(next) = self.old.pop_front_if(|next| given < max || last == Some(next.wall_ns)) {
            (given, last) = (given + 1, Some(next.wall_ns));
            out.push(Item::Record(Box::new(next.record)));
        }
    }
}

impl KernelSource for Watching {
    fn caps(&self) -> Caps {
        self.source.caps()
    }

    fn pollable(&self) -> Option<BorrowedFd<'_>> {
        self.source.pollable()
    }

    fn poll_every(&self) -> Duration {
        self.source.poll_every()
    }

    fn next_batch(&mut self, max: usize, out: &mut Vec<Item>) -> io::Result<Progress> {
        out.append(&mut self.first);
        if !self.old.is_empty() {
            self.hand_out_old(max, out);
            return Ok(Progress { more: true, passed: 0 });
        }
        let from = out.len();
        let mut progress = Progress { more: true, passed: 0 };
        // Until a call finds nothing more: only then it is known up to when everything was seen, and what is handed out
        // now is committed together with that.
        for _ in 0..READS_MAX {
            let (read_ns, read_wall_ns) = (boot_ns().cast_signed(), wall_ns());
            progress = self.source.next_batch(max.saturating_sub(out.len() - from), out)?;
            if !progress.more {
                (self.seen.boot_ns, self.seen.wall_ns) = (read_ns, read_wall_ns);
            }
            if !progress.more || out.len() - from >= max {
                break;
            }
        }
        let mut at = 0;
        out.retain(|item| {
            at += 1;
            at <= from || !matches!(item, Item::Record(record) if !self.is_ours(record))
        });
        Ok(progress)
    }

    fn barrier(&mut self) -> Result<Barrier, NotSupported> {
        self.source.barrier()
    }

    fn rescan(&mut self) -> Result<(), NotSupported> {
        self.source.rescan()
    }

    fn misses(&self) -> &'static str {
        self.source.misses()
    }

    fn resume_point(&self) -> Resume {
        // Behind a crash the rest of what was missed is looked for again, and nothing that was told.
        let wall_ns = self.old.front().map_or(self.seen.wall_ns, |next| next.wall_ns + TICK_NS);
        Seen { wall_ns, ..self.seen }.resume()
    }
}
