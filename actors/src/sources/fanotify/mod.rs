//! fanotify on whole file systems: every change of files by any process, with the process, for those who may
//! (CAP_SYS_ADMIN, and CAP_DAC_READ_SEARCH to find the paths).
//!
//! It tells neither time nor result and has no sequence; several changes of one object by one process may come as one
//! event. When its queue was full, the folders that matter are compared with what is known. What happens in this very
//! process is left out unless it is asked for.

mod parse;
mod paths;

use super::known::{Folders, Known};
use super::mounts::{self, Mount};
use super::ready::{Ready, hand_out};
use super::sentinel::Sentinel;
use super::writes::Writes;
use super::{
    Barrier, Caps, Gap, GapCause, Item, KernelRecord, KernelSource, Lost, NotSupported, ObjectId, Op,
    PathInfo, Phase, Pid, Progress, Resume, Unavailable, Who, boot_ns, wall_ns,
};
use parse::{Fid, Raw};
use paths::Paths;
use rustix::io::Errno;
use semj_sys::fanotify::{flag, init, mark, mask, scope};
use std::collections::VecDeque;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// What is watched for.
const MASK: u64 = mask::FAN_CREATE
    | mask::FAN_DELETE
    | mask::FAN_MODIFY
    | mask::FAN_CLOSE_WRITE
    | mask::FAN_ATTRIB
    | mask::FAN_RENAME
    | mask::FAN_ONDIR;
/// What it does not see, or cannot tell.
pub(super) const MISSES: &str = "results, failed calls, links, stores through mappings";
/// Bytes read at once; an event takes about 150. Paths of what is gone are found in what was read with it.
const READ_BYTES: usize = 1 << 20;
/// An event takes no more: two names and three handles.
const EVENT_BYTES_MAX: usize = 1 << 10;

/// How to open it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FanotifyOptions {
    /// Let the kernel's queue grow as far as its memory reaches. Otherwise it holds 16,384 events, and what comes then
    /// is lost, with a mark.
    pub unlimited_queue: bool,
    /// Tell what this very process does, too; whoever journals it must leave the journal's own files out.
    pub own_process: bool,
    /// Folders that are compared, after events were lost, with what was there before. Where the queue is unlimited, that
    /// is not remembered: only what was made or changed since is found then.
    pub folders: Vec<PathBuf>,
    /// Folders below them that are left out of that.
    pub left_out: Vec<PathBuf>,
}

/// The source.
#[derive(Debug)]
pub struct Fanotify {
    group: OwnedFd,
    own: u32,
    own_process: bool,
    buffer: Vec<u8>,
    paths: Paths,
    writes: Writes<Box<[u8]>>,
    folders: Folders,
    known: Known,
    sentinel: Sentinel,
    ready: VecDeque<Ready>,
    passed: u64,
    /// Nothing that happened before waits to be read, BOOTTIME in ns.
    read_ns: i64,
    watched: Vec<PathBuf>,
    refused: Vec<(PathBuf, String)>,
}

impl Fanotify {
    /// Watches every file system that is mounted and keeps files; the refused ones are told by [`Fanotify::refused`].
    ///
    /// # Errors
    /// [`Unavailable`], found by trying.
    pub fn open(options: FanotifyOptions) -> Result<Self, Unavailable> {
        let unavailable = |e: &io::Error| {
            Unavailable::new(
                "CAP_SYS_ADMIN and CAP_DAC_READ_SEARCH, and a kernel of 5.17 or newer",
                "run as root, or give the binary the capabilities: setcap cap_sys_admin,cap_dac_read_search+ep",
            )
            .because(e)
            .or_else("inotify: no process, and folders are watched one by one")
        };
        let mut flags = flag::FAN_CLASS_NOTIF
            | flag::FAN_CLOEXEC
            | flag::FAN_NONBLOCK
            | flag::FAN_REPORT_FID
            | flag::FAN_REPORT_DIR_FID
            | flag::FAN_REPORT_NAME
            | flag::FAN_REPORT_TARGET_FID;
        if options.unlimited_queue {
            flags |= flag::FAN_UNLIMITED_QUEUE;
        }
        let group = init(flags).map_err(|e| unavailable(&e))?;
        let (mut watched, mut refused, mut paths) = (Vec::new(), Vec::new(), Paths::default());
        let mut last = io::Error::from(Errno::NODEV);
        for Mount { path, id } in mounts::of_files() {
            match watch(group.as_fd(), &path) {
                Ok(folder) => {
                    paths.add_mount(id, folder);
                    watched.push(path);
                }
                Err(e) => {
                    refused.push((path, e.to_string()));
                    last = e;
                }
            }
        }
        if watched.is_empty() {
            return Err(unavailable(&last));
        }
        // One place for the sentinel must be on a watched file system.
        let places = [std::env::temp_dir(), PathBuf::from("/dev/shm"), PathBuf::from(".")];
        let mut sentinels = places.into_iter().filter_map(|p| Sentinel::new(&[p]).ok());
        let nowhere = io::Error::from(Errno::NOENT);
        let folders = Folders::new(&options.folders, &options.left_out);
        let mut known =
            if options.unlimited_queue { Known::nothing(wall_ns()) } else { Known::new(wall_ns()) };
        folders.roots.iter().for_each(|root| known.look(root, &folders));
        let mut source = Fanotify {
            group,
            own: std::process::id(),
            own_process: options.own_process,
            buffer: vec![0; READ_BYTES],
            paths,
            writes: Writes::default(),
            folders,
            known,
            sentinel: sentinels.next().ok_or_else(|| unavailable(&nowhere))?,
            ready: VecDeque::new(),
            passed: 0,
            read_ns: boot_ns().cast_signed(),
            watched,
            refused,
        };
        loop {
            match (source.can_find_paths(), sentinels.next()) {
                (Ok(()), _) => return Ok(source),
                (Err(e), None) => return Err(unavailable(&e)),
                (Err(_), Some(next)) => source.sentinel = next,
            }
        }
    }

    /// The file systems it watches, each by one place where it is mounted.
    pub fn watched(&self) -> &[PathBuf] {
        &self.watched
    }

    /// The file systems that could not be watched, and why.
    pub fn refused(&self) -> &[(PathBuf, String)] {
        &self.refused
    }

    /// Asks for the path of the sentinel's own folder: whether handles may be opened shows only when it is tried.
    fn can_find_paths(&mut self) -> io::Result<()> {
        let name = self.sentinel.touch()?;
        let mut bytes = vec![0; 1 << 16];
        let found = loop {
            let length = rustix::io::read(&self.group, bytes.as_mut_slice())?;
            let mut rest = bytes.get(..length).unwrap_or_default();
            let mut found = None;
            while let Some((raw, length)) = parse::first(rest) {
                rest = rest.get(length..).unwrap_or_default();
                if let Some((folder, of)) = raw.place.filter(|p| p.1 == name.as_bytes()) {
                    found = Some(self.paths.path(folder, of));
                }
            }
            if let Some(found) = found {
                break found;
            }
        };
        found.map(drop).ok_or_else(|| io::Error::from(Errno::PERM))
    }

    /// Reads what there is, at most one buffer full. False when there was nothing.
    fn read(&mut self) -> io::Result<bool> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let (before, wall) = (boot_ns().cast_signed(), wall_ns());
        let length = match rustix::io::read(&self.group, buffer.as_mut_slice()) {
            Ok(length) => length,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(e) => {
                self.buffer = buffer;
                return Err(e.into());
            }
        };
        let now = boot_ns().cast_signed();
        let bytes = buffer.get(..length).unwrap_or_default();
        self.foresee(bytes);
        let mut rest = bytes;
        while let Some((raw, length)) = parse::first(rest) {
            rest = rest.get(length..).unwrap_or_default();
            if raw.mask & mask::FAN_Q_OVERFLOW != 0 {
                self.lost(now);
                self.foresee(rest);
            } else {
                self.take(&raw, now);
            }
        }
        if length + EVENT_BYTES_MAX < buffer.len() {
            self.read_ns = before;
            self.known.complete(wall);
        }
        self.buffer = buffer;
        Ok(length > 0)
    }

    /// Learns of folders what events further behind tell: a folder that is gone by now is named when it is removed.
    fn foresee(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((raw, length)) = parse::first(rest) {
            rest = rest.get(length..).unwrap_or_default();
            if raw.mask & mask::FAN_ONDIR == 0 || raw.mask & (mask::FAN_DELETE | mask::FAN_RENAME) == 0 {
                continue;
            }
            if let (Some(object), Some((parent, name))) = (raw.object, raw.old.or(raw.place))
                && name != b"."
                && !self.paths.knows(object)
            {
                self.paths.learn(object, parent, name);
            }
        }
    }

    /// Events were lost: says so, and what is different in the folders.
    fn lost(&mut self, now: i64) {
        let (from_ns, cause) = (self.read_ns, GapCause::Overflow);
        let gap = Gap { after: None, lost: Lost::AtLeast(1), from_ns, to_ns: now, cause };
        self.ready.push_back(Ready::Item(Item::Gap(gap)));
        self.paths.forget();
        self.compare(now);
    }

    /// Tells what is different in the folders.
    fn compare(&mut self, now: i64) {
        let from_ns = self.read_ns;
        for found in self.known.compare(&self.folders, wall_ns()) {
            let mut record = KernelRecord::new(found.op, Phase::Synthetic, now);
            record.time_error_ns = u32::try_from(now - from_ns).unwrap_or(u32::MAX);
            record.path.path = found.path;
            self.ready.push_back(Ready::Item(Item::Record(Box::new(record))));
        }
    }

    /// Keeps up what is known of the folders. False when a comparison has told the same.
    fn is_news(&mut self, record: &KernelRecord) -> bool {
        let (path, target) = (&record.path.path, &record.path.target);
        let (here, there) = (self.folders.contain(path), self.folders.contain(target));
        if !here && !there {
            return true;
        }
        let is_news = !self.known.is_repeat(record);
        match record.op {
            Op::Create | Op::Mkdir => drop(self.known.add(path, record.op == Op::Mkdir)),
            Op::Delete | Op::Rmdir => self.known.remove(path),
            Op::Rename if here && there => self.known.moved(path, target),
            Op::Rename if here => {
                self.known.within(path).iter().for_each(|(gone, _)| self.known.remove(gone));
            }
            Op::Rename => {
                let is_folder =
                    std::fs::symlink_metadata(std::ffi::OsStr::from_bytes(target)).is_ok_and(|m| m.is_dir());
                self.known.add(target, is_folder);
                self.known.look(target, &self.folders);
            }
            _ => {}
        }
        let wall = wall_ns();
        [path, target].into_iter().filter(|p| !p.is_empty()).for_each(|p| self.known.told(p, wall));
        is_news
    }

    fn take(&mut self, raw: &Raw<'_>, now: i64) {
        if raw.pid == self.own && (self.passes(raw) || !self.own_process) {
            return;
        }
        let folder = raw.mask & mask::FAN_ONDIR != 0;
        let has = |bit: u64| raw.mask & bit != 0;
        let (made, gone) = (has(mask::FAN_CREATE), has(mask::FAN_DELETE));
        let written = has(mask::FAN_MODIFY) && !folder;
        let merged = [made, gone, written, has(mask::FAN_ATTRIB)].iter().filter(|b| **b).count() > 1;
        if has(mask::FAN_RENAME) {
            return self.renamed(raw, now, folder);
        }
        let Some((parent, name)) = raw.place else { return };
        if made
            && folder
            && let Some(object) = raw.object
        {
            self.paths.learn(object, parent, name);
        }
        let path = self.paths.path(parent, name).unwrap_or_default();
        let mut record = self.record(Op::Create, raw, now);
        record.path.path = path;
        record.merged = merged;
        if made {
            self.push(KernelRecord { op: if folder { Op::Mkdir } else { Op::Create }, ..record.clone() });
        }
        if has(mask::FAN_ATTRIB) && !made && !gone {
            self.push(KernelRecord { op: Op::Attribute, ..record.clone() });
        }
        if let Some(object) = raw.object {
            let closed = has(mask::FAN_CLOSE_WRITE);
            if written {
                let write = KernelRecord { op: Op::Write, ..record.clone() };
                if self.is_news(&write) {
                    self.writes.modified(object.into(), write);
                }
            }
            if closed || gone {
                self.writes.closed(object, |write| self.ready.push_back(Ready::Item(write)));
            }
        }
        if gone {
            self.push(KernelRecord { op: if folder { Op::Rmdir } else { Op::Delete }, ..record });
        }
    }

    /// Whether it is the sentinel's: everything before it was read then.
    fn passes(&mut self, raw: &Raw<'_>) -> bool {
        let Some((_, name)) = raw.place.filter(|(_, name)| self.sentinel.is_own(name)) else { return false };
        if let Some(number) = self.sentinel.number_of(name)
            && raw.mask & mask::FAN_DELETE != 0
        {
            self.flush_writes(i64::MAX);
            self.ready.push_back(Ready::Passed(number));
        }
        true
    }

    fn renamed(&mut self, raw: &Raw<'_>, now: i64, folder: bool) {
        let (Some(old), Some(new)) = (raw.old, raw.new) else { return };
        // What was written under the old name is told under the old name.
        if let Some(object) = raw.object {
            self.writes.closed(object, |write| self.ready.push_back(Ready::Item(write)));
        }
        let from = self.paths.path(old.0, old.1).unwrap_or_default();
        let to = self.paths.path(new.0, new.1).unwrap_or_default();
        if folder && let Some(object) = raw.object {
            self.paths.learn(object, new.0, new.1);
            if !from.is_empty() && !to.is_empty() {
                self.paths.moved(&from, &to);
            }
        }
        let mut record = self.record(Op::Rename, raw, now);
        record.path = PathInfo { path: from, target: to, is_cut: false };
        self.push(record);
    }

    fn record(&self, op: Op, raw: &Raw<'_>, now: i64) -> KernelRecord {
        let mut record = KernelRecord::new(op, Phase::Observed, now);
        record.time_error_ns = u32::try_from(now - self.read_ns).unwrap_or(u32::MAX);
        record.who = Who { process: raw.pid, ..Who::default() };
        record.object = raw.object.map(object_of);
        record
    }

    fn push(&mut self, record: KernelRecord) {
        if self.is_news(&record) {
            self.ready.push_back(Ready::Item(Item::Record(Box::new(record))));
        }
    }

    fn flush_writes(&mut self, up_to_ns: i64) {
        self.writes.flush(up_to_ns, |write| self.ready.push_back(Ready::Item(write)));
    }
}

fn watch(group: BorrowedFd<'_>, path: &Path) -> io::Result<File> {
    let folder = File::open(path)?;
    mark(group, scope::FAN_MARK_FILESYSTEM, MASK, &CString::new(path.as_os_str().as_bytes())?)?;
    Ok(folder)
}

fn object_of(fid: Fid<'_>) -> ObjectId {
    ObjectId { device: 0, inode: 0, handle: fid.to_vec() }
}

impl KernelSource for Fanotify {
    fn caps(&self) -> Caps {
        Caps::of_notifications(Pid::Process)
    }

    fn pollable(&self) -> Option<BorrowedFd<'_>> {
        Some(self.group.as_fd())
    }

    fn next_batch(&mut self, max: usize, out: &mut Vec<Item>) -> io::Result<Progress> {
        let mut read = true;
        if self.ready.is_empty() {
            read = self.read()?;
            if !read {
                self.flush_writes(super::writes::open_until(boot_ns()));
            }
        }
        hand_out(&mut self.ready, &mut self.passed, max, out);
        Ok(Progress { more: read || !self.ready.is_empty(), passed: self.passed })
    }

    fn barrier(&mut self) -> Result<Barrier, NotSupported> {
        self.sentinel.barrier()
    }

    fn resume_point(&self) -> Resume {
        Resume::default()
    }

    fn rescan(&mut self) -> Result<(), NotSupported> {
        self.compare(boot_ns().cast_signed());
        Ok(())
    }

    fn misses(&self) -> &'static str {
        MISSES
    }
}
