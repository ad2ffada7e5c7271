//! inotify on folders, one watch each: for everybody, without any privilege, and without the process.
//!
//! A folder that is made while somebody watches is watched too, a moment later. What was put into it in that moment is
//! found by looking, and told as [`Phase::Synthetic`]; what was also removed from it in that moment is never seen. The
//! kernel's queue is limited; when it was full, all folders are compared with what is known.

use super::known::{Folders, Known, is_within};
use super::ready::{Ready, hand_out};
use super::sentinel::Sentinel;
use super::writes::Writes;
use super::{
    Barrier, Caps, Gap, GapCause, Item, KernelRecord, KernelSource, Lost, NotSupported, ObjectId, Op,
    PathInfo, Phase, Pid, Progress, Resume, Unavailable, boot_ns, wall_ns,
};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// What it does not see, or cannot tell.
pub(super) const MISSES: &str =
    "the process, other folders, results, failed calls, links, stores through mappings";
/// Bytes read at once; an event takes about 48.
const READ_BYTES: usize = 64 << 10;
/// An event takes no more, its name and what fills it up counted.
const EVENT_BYTES_MAX: usize = 16 + 256 + 16;
/// Most folders watched.
const FOLDERS_MAX: usize = 1 << 16;

fn wanted() -> WatchFlags {
    WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::MODIFY
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::ATTRIB
        | WatchFlags::MOVED_FROM
        | WatchFlags::MOVED_TO
        | WatchFlags::ONLYDIR
        | WatchFlags::DONT_FOLLOW
        | WatchFlags::EXCL_UNLINK
}

/// One event, copied out of the buffer.
#[derive(Debug)]
struct Raw {
    watch: i32,
    mask: ReadFlags,
    cookie: u32,
    name: Vec<u8>,
}

impl Raw {
    /// How much of the buffer it took at most.
    fn bytes_max(&self) -> usize {
        16 + self.name.len() + 16
    }
}

/// The source.
#[derive(Debug)]
pub struct Inotify {
    fd: OwnedFd,
    folders: Folders,
    watches: HashMap<i32, Vec<u8>>,
    known: Known,
    sentinel: Sentinel,
    sentinel_watch: i32,
    /// A folder or file that was moved away from a watched folder; its other half may follow.
    leaving: Option<(u32, Vec<u8>, bool)>,
    writes: Writes<Vec<u8>>,
    ready: VecDeque<Ready>,
    passed: u64,
    /// Nothing that happened before waits to be read, BOOTTIME in ns.
    read_ns: i64,
    refused: Vec<(PathBuf, String)>,
}

impl Inotify {
    /// Watches these folders with all that is below them but `left_out`; the refused ones are told by [`Inotify::refused`].
    ///
    /// # Errors
    /// [`Unavailable`], found by trying.
    pub fn open(folders: &[PathBuf], left_out: &[PathBuf]) -> Result<Self, Unavailable> {
        let unavailable = |need: &str, remedy: &str, e: &io::Error| Unavailable::new(need, remedy).because(e);
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(|e| {
            unavailable("one more inotify instance", "raise fs.inotify.max_user_instances", &e.into())
        })?;
        let places = [std::env::temp_dir(), PathBuf::from("/dev/shm"), PathBuf::from(".")];
        let sentinel = Sentinel::new(&places)
            .map_err(|e| unavailable("a place for temporary files", "set TMPDIR to one", &e))?;
        let sentinel_watch = inotify::add_watch(&fd, sentinel.folder(), WatchFlags::DELETE).map_err(|e| {
            unavailable("one more inotify watch", "raise fs.inotify.max_user_watches", &e.into())
        })?;
        let mut source = Inotify {
            fd,
            folders: Folders::new(&[], left_out),
            watches: HashMap::new(),
            known: Known::new(wall_ns()),
            sentinel,
            sentinel_watch,
            leaving: None,
            writes: Writes::default(),
            ready: VecDeque::new(),
            passed: 0,
            read_ns: boot_ns().cast_signed(),
            refused: Vec::new(),
        };
        let mut last = io::Error::from(Errno::NOENT);
        for folder in folders {
            match fs::canonicalize(folder) {
                Ok(path) => {
                    let path = path.into_os_string().into_vec();
                    source.learn(&path, &mut |_, _, _| {});
                    source.folders.roots.push(path);
                }
                Err(e) => {
                    source.refused.push((folder.clone(), e.to_string()));
                    last = e;
                }
            }
        }
        if source.watches.is_empty() && !folders.is_empty() {
            return Err(unavailable(
                "folders that can be read, and inotify watches for them",
                "name folders with --watch; raise fs.inotify.max_user_watches",
                &last,
            ));
        }
        Ok(source)
    }

    /// How many folders are watched.
    pub fn watched(&self) -> usize {
        self.watches.len()
    }

    /// The folders that could not be watched, and why.
    pub fn refused(&self) -> &[(PathBuf, String)] {
        &self.refused
    }

    /// Watches a folder and all below it, then looks what is in it; tells what was not known.
    fn learn(&mut self, folder: &[u8], found: &mut dyn FnMut(&[u8], bool, &fs::Metadata)) {
        let mut open = vec![folder.to_vec()];
        while let Some(folder) = open.pop() {
            let path = Path::new(std::ffi::OsStr::from_bytes(&folder));
            if self.folders.is_left_out(&folder) {
                continue;
            }
            if self.watches.len() >= FOLDERS_MAX {
                self.refused.push((path.to_owned(), format!("more than {FOLDERS_MAX} folders")));
                return;
            }
            // First the watch, then the look: what comes between is seen twice rather than never.
            match inotify::add_watch(&self.fd, path, wanted()) {
                Ok(watch) => {
                    self.watches.insert(watch, folder.clone());
                }
                // It is gone again, or was never a folder.
                Err(Errno::NOENT | Errno::NOTDIR) => continue,
                Err(e) => {
                    self.refused.push((path.to_owned(), io::Error::from(e).to_string()));
                    continue;
                }
            }
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                let Ok(meta) = entry.metadata() else { continue };
                let path = entry.path().into_os_string().into_vec();
                if meta.is_dir() {
                    open.push(path.clone());
                }
                if self.known.add(&path, meta.is_dir()) {
                    found(&path, meta.is_dir(), &meta);
                }
            }
        }
    }

    /// As [`Inotify::learn`], and what was not known is told as made.
    fn learn_and_tell(&mut self, folder: &[u8], now: i64) {
        let mut made = Vec::new();
        self.learn(folder, &mut |path, is_folder, meta| made.push((path.to_vec(), is_folder, meta.len())));
        for (path, is_folder, bytes) in made {
            let op = if is_folder { Op::Mkdir } else { Op::Create };
            self.tell(op, Phase::Synthetic, path.clone(), now);
            if !is_folder && bytes > 0 {
                self.tell(Op::Write, Phase::Synthetic, path, now);
            }
        }
    }

    /// Compares all folders with what is known, after events were lost.
    fn compare(&mut self, now: i64) {
        self.watches.clear();
        self.leaving = None;
        // First the watches, then the comparison: nothing may be known of what it has to find.
        let known = std::mem::replace(&mut self.known, Known::new(0));
        for root in self.folders.roots.clone() {
            self.learn(&root, &mut |_, _, _| {});
        }
        self.known = known;
        for found in self.known.compare(&self.folders, wall_ns()) {
            self.tell(found.op, Phase::Synthetic, found.path, now);
        }
    }

    fn read(&mut self) -> io::Result<bool> {
        let (wall, before) = (wall_ns(), boot_ns().cast_signed());
        let mut raws = Vec::new();
        {
            let mut buffer = [MaybeUninit::<u8>::uninit(); READ_BYTES];
            let mut reader = Reader::new(&self.fd, &mut buffer);
            loop {
                match reader.next() {
                    Ok(event) => raws.push(Raw {
                        watch: event.wd(),
                        mask: event.events(),
                        cookie: event.cookie(),
                        name: event.file_name().map(|n| n.to_bytes().to_vec()).unwrap_or_default(),
                    }),
                    Err(Errno::AGAIN) => break,
                    Err(Errno::INTR) => continue,
                    Err(e) => return Err(e.into()),
                }
                if reader.is_buffer_empty() {
                    break;
                }
            }
        }
        let now = boot_ns().cast_signed();
        for raw in &raws {
            self.take(raw, now);
        }
        if raws.is_empty() {
            self.known.complete(wall);
            self.left(now);
        }
        if raws.iter().map(Raw::bytes_max).sum::<usize>() + EVENT_BYTES_MAX < READ_BYTES {
            self.read_ns = before;
        }
        Ok(!raws.is_empty())
    }

    fn take(&mut self, raw: &Raw, now: i64) {
        if raw.mask.contains(ReadFlags::QUEUE_OVERFLOW) {
            let (from_ns, to_ns) = (self.read_ns, now);
            let gap = Gap { after: None, lost: Lost::AtLeast(1), from_ns, to_ns, cause: GapCause::Overflow };
            self.ready.push_back(Ready::Item(Item::Gap(gap)));
            return self.compare(now);
        }
        if raw.watch == self.sentinel_watch {
            if let Some(number) = self.sentinel.number_of(&raw.name) {
                self.left(now);
                self.flush_writes(i64::MAX);
                self.ready.push_back(Ready::Passed(number));
            }
            return;
        }
        if raw.mask.contains(ReadFlags::IGNORED) {
            self.watches.remove(&raw.watch);
            return;
        }
        let Some(folder) = self.watches.get(&raw.watch).filter(|_| !raw.name.is_empty()) else { return };
        let mut path = folder.clone();
        if path.last() != Some(&b'/') {
            path.push(b'/');
        }
        path.extend_from_slice(&raw.name);
        let is_folder = raw.mask.contains(ReadFlags::ISDIR);
        if !raw.mask.contains(ReadFlags::MOVED_TO) {
            self.left(now);
        }
        if raw.mask.contains(ReadFlags::CREATE) {
            if self.known.add(&path, is_folder) {
                self.tell(if is_folder { Op::Mkdir } else { Op::Create }, Phase::Observed, path.clone(), now);
            }
            if is_folder {
                self.learn_and_tell(&path, now);
            }
        } else if raw.mask.contains(ReadFlags::DELETE) {
            self.known.remove(&path);
            self.writes.closed(&path, |write| self.ready.push_back(Ready::Item(write)));
            self.tell(if is_folder { Op::Rmdir } else { Op::Delete }, Phase::Observed, path, now);
        } else if raw.mask.contains(ReadFlags::MOVED_FROM) {
            self.leaving = Some((raw.cookie, path, is_folder));
        } else if raw.mask.contains(ReadFlags::MOVED_TO) {
            self.arrived(raw.cookie, path, is_folder, now);
        } else if raw.mask.contains(ReadFlags::MODIFY) && is_folder {
            // Nobody writes to a folder; somebody set its time.
            self.tell(Op::Attribute, Phase::Observed, path, now);
        } else if raw.mask.contains(ReadFlags::MODIFY) {
            let write = record(Op::Write, Phase::Observed, path.clone(), now, self.read_ns);
            if self.is_news(&write) {
                self.writes.modified(path, write);
            }
        } else if raw.mask.contains(ReadFlags::CLOSE_WRITE) {
            self.writes.closed(&path, |write| self.ready.push_back(Ready::Item(write)));
        } else if raw.mask.contains(ReadFlags::ATTRIB) {
            self.tell(Op::Attribute, Phase::Observed, path, now);
        }
    }

    /// The second half of a rename, or something that comes from outside.
    fn arrived(&mut self, cookie: u32, path: Vec<u8>, is_folder: bool, now: i64) {
        let Some((_, old, _)) = self.leaving.take_if(|(c, _, _)| *c == cookie) else {
            self.left(now);
            self.known.add(&path, is_folder);
            let mut arrival = record(Op::Rename, Phase::Observed, Vec::new(), now, self.read_ns);
            arrival.path.target.clone_from(&path);
            self.tell_record(arrival);
            return self.learn(&path, &mut |_, _, _| {});
        };
        self.writes.closed(&old, |write| self.ready.push_back(Ready::Item(write)));
        let mut rename = record(Op::Rename, Phase::Observed, old.clone(), now, self.read_ns);
        rename.path.target.clone_from(&path);
        let is_repeat = self.known.is_repeat(&rename);
        self.known.moved(&old, &path);
        if is_folder {
            for folder in self.watches.values_mut().filter(|f| is_within(f, &old)) {
                *folder = [path.as_slice(), folder.get(old.len()..).unwrap_or_default()].concat();
            }
        }
        if !is_repeat {
            self.tell_record(rename);
        }
    }

    /// Whatever was leaving has left the watched folders.
    fn left(&mut self, now: i64) {
        let Some((_, path, _)) = self.leaving.take() else { return };
        for (path, _) in self.known.within(&path) {
            self.known.remove(&path);
        }
        let gone = self.watches.extract_if(|_, folder| is_within(folder, &path));
        for (watch, _) in gone {
            let _ = inotify::remove_watch(&self.fd, watch);
        }
        self.tell(Op::Rename, Phase::Observed, path, now);
    }

    /// Whether no comparison has told the same; it is told then.
    fn is_news(&mut self, record: &KernelRecord) -> bool {
        let is_news = record.phase == Phase::Synthetic || !self.known.is_repeat(record);
        let wall = wall_ns();
        let paths = [&record.path.path, &record.path.target];
        paths.into_iter().filter(|p| !p.is_empty()).for_each(|p| self.known.told(p, wall));
        is_news
    }

    fn tell(&mut self, op: Op, phase: Phase, path: Vec<u8>, now: i64) {
        self.tell_record(record(op, phase, path, now, self.read_ns));
    }

    fn tell_record(&mut self, record: KernelRecord) {
        if self.is_news(&record) {
            self.ready.push_back(Ready::Item(Item::Record(Box::new(record))));
        }
    }

    fn flush_writes(&mut self, up_to_ns: i64) {
        self.writes.flush(up_to_ns, |write| self.ready.push_back(Ready::Item(write)));
    }
}

fn record(op: Op, phase: Phase, path: Vec<u8>, now: i64, read_ns: i64) -> KernelRecord {
    let mut record = KernelRecord::new(op, phase, now);
    record.time_error_ns = u32::try_from(now - read_ns).unwrap_or(u32::MAX);
    record.path = PathInfo { path, ..PathInfo::default() };
    record.object = None::<ObjectId>;
    record
}

impl KernelSource for Inotify {
    fn caps(&self) -> Caps {
        Caps::of_notifications(Pid::None)
    }

    fn pollable(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd.as_fd())
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
