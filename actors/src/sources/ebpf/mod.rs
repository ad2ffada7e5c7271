//! eBPF: programs that are assembled when the source opens, against the running kernel's own types, and record calls in the
//! kernel: with result, process, time and one sequence for all. Nothing is needed to build it.
//!
//! A tag is given to one process and handed down in the kernel to all that come from it; processes without a tag are not
//! recorded. A record wakes the reader only where he sleeps; while records come he looks by himself. A record for which there
//! was no room is counted, and its sequence is missing: each loss has a place.
//!
//! Not recorded, but counted: requests to io_uring and 32-bit calls that may have changed files; each count is told as a
//! gap. Not recorded at all: stores through mappings, and writes to an open file after the first one. The folders above a
//! name are read in the kernel when the call returns, up to 16 levels and 62 bytes a name; a name that the caller gave is
//! read from its memory then, which another thread of it may have changed.
//!
//! Numbers of calls, and the registers of their arguments, are those of x86-64. On other machines it builds, and says that
//! it is not available.

mod asm;
mod btf;
mod calls;
mod layout;
mod offsets;
mod programs;
mod read;
mod reader;
mod sequence;
mod snippets;

use super::{
    Barrier, Caps, Item, KernelSource, Loss, NotSupported, Pid, Progress, Resume, ResumeKind, Sequencing,
    Unavailable, mounts,
};
use btf::{Btf, Named};
use offsets::{Offsets, WANTED};
use parking_lot::Mutex;
use reader::{Look, Reader, point};
use rustix::event::{EventfdFlags, eventfd};
use semj_sys::bpf::{self, MapKind};
use semj_sys::ring::{Counters, Ring};
use snippets::Maps;
use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Where the kernel describes its types.
const TYPES: &str = "/sys/kernel/btf/vmlinux";
/// Whether this build knows its machine: numbers of calls, and the registers of their arguments, are those of x86-64. For
/// others it builds all the same, and [`Ebpf::open`] says that it needs one.
pub const IS_KNOWN_MACHINE: bool = cfg!(target_arch = "x86_64");
/// Processes that may have a tag at a time.
const TAGGED_MAX: u32 = 16_384;
/// Open files whose first write is remembered.
const WRITTEN_MAX: u32 = 65_536;
/// How often somebody without a thread of the source's own looks.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// How to open it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EbpfOptions {
    /// Room for records in the kernel, in bytes, a power of two. A record takes 112 and its names: mostly 140 to 200,
    /// at most 1,648.
    pub ring_bytes: u32,
    /// A thread empties the ring, however seldom records are taken.
    pub reads_by_itself: bool,
    /// How often that thread looks while records come; once it has found none it sleeps, and the next record wakes it.
    pub look_every: Duration,
    /// How often it looks while it sleeps, should a wake-up get lost.
    pub asleep_every: Duration,
    /// Calls that would have changed a file and failed are recorded, too.
    pub failed_calls: bool,
    /// Addresses in the kernel are followed by helpers alone, as on kernels before 6.2: for tests.
    #[doc(hidden)]
    pub helpers_only: bool,
}

impl Default for EbpfOptions {
    fn default() -> Self {
        EbpfOptions {
            ring_bytes: 16 << 20,
            reads_by_itself: true,
            look_every: LOOK_EVERY,
            asleep_every: Duration::from_millis(100),
            failed_calls: true,
            helpers_only: false,
        }
    }
}

/// The source.
pub struct Ebpf {
    reader: Arc<Mutex<Reader>>,
    words: Arc<Counters>,
    tags: OwnedFd,
    passed: u64,
    /// Readable while records are ready; `None` where nobody but the caller reads.
    news: Option<OwnedFd>,
    unwoken: Arc<AtomicU64>,
    /// Has the thread look.
    bell: OwnedFd,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// Programs, their attachments and maps: gone when they are closed.
    _held: Vec<OwnedFd>,
}

impl fmt::Debug for Ebpf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ebpf").field("made", &self.made()).field("lost", &self.lost()).finish_non_exhaustive()
    }
}

impl Drop for Ebpf {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        self.ring_bell();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn unavailable(need: &str, remedy: &str) -> Unavailable {
    Unavailable::new(need, remedy).or_else("fanotify: merged events without results")
}

/// What a call that was refused lacks. Maps are refused without CAP_BPF, programs like these without CAP_PERFMON.
fn refused(missing: &str, e: &io::Error) -> Unavailable {
    let need = format!("{missing}, and a kernel that is not locked down for confidentiality");
    let remedy = "run as root, or give the binary the capabilities: setcap cap_bpf,cap_perfmon+ep";
    unavailable(&need, remedy).because(e)
}

fn crowded(e: impl Into<io::Error>) -> Unavailable {
    unavailable("more open files and threads", "raise the limits of this user (ulimit -n, ulimit -u)")
        .because(&e.into())
}

impl Ebpf {
    /// Loads and attaches the programs.
    ///
    /// # Errors
    /// [`Unavailable`], found by trying.
    pub fn open(options: EbpfOptions) -> Result<Self, Unavailable> {
        if !IS_KNOWN_MACHINE {
            return Err(unavailable("an x86-64 machine", "its system calls are the only ones known so far"));
        }
        let map = |kind, key, value, entries, flags| {
            bpf::map(kind, key, value, entries, flags).map_err(|e| refused("CAP_BPF and CAP_PERFMON", &e))
        };
        // First what costs nothing and is refused first.
        let words = map(MapKind::Array, 4, 64, 1, bpf::MAPPABLE)?;
        let ring = map(MapKind::Ring, 0, 0, options.ring_bytes, 0)?;
        let tags = map(MapKind::Hash, 4, 8, TAGGED_MAX, 0)?;
        let written = map(MapKind::LruHash, 8, 8, WRITTEN_MAX, 0)?;
        let room = u32::try_from(layout::SCRATCH).unwrap_or(u32::MAX);
        let scratch = map(MapKind::ArrayPerProcessor, 4, room, programs::PROGRAMS, 0)?;
        let maps = Maps {
            ring: ring.as_raw_fd(),
            words: words.as_raw_fd(),
            tags: tags.as_raw_fd(),
            written: written.as_raw_fd(),
            scratch: scratch.as_raw_fd(),
        };
        let mut held = load(&maps, &options)?;
        let page = rustix::param::page_size();
        let mapped = Ring::map(ring.as_fd(), options.ring_bytes as usize, page).map_err(crowded)?;
        let shared = Arc::new(Counters::map(words.as_fd()).map_err(crowded)?);
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let (news, bell) = (eventfd(0, flags).map_err(crowded)?, eventfd(0, flags).map_err(crowded)?);
        let for_caller = news.try_clone().map_err(crowded)?;
        let reader = Arc::new(Mutex::new(Reader::new(mapped, mounts::by_device(), news)));
        let mut source = Ebpf {
            reader,
            words: shared,
            tags,
            passed: 0,
            news: options.reads_by_itself.then_some(for_caller),
            unwoken: Arc::default(),
            bell,
            is_over: Arc::default(),
            thread: None,
            _held: Vec::new(),
        };
        if options.reads_by_itself {
            source.thread = Some(source.start(&options, ring.try_clone()).map_err(crowded)?);
        }
        held.extend([ring, words, written, scratch]);
        source._held = held;
        Ok(source)
    }

    fn start(&self, options: &EbpfOptions, ring: io::Result<OwnedFd>) -> io::Result<JoinHandle<()>> {
        let ring = ring?;
        let (reader, words, unwoken) = (self.reader.clone(), self.words.clone(), self.unwoken.clone());
        let look = Look {
            bell: self.bell.try_clone()?,
            is_over: self.is_over.clone(),
            every: options.look_every,
            asleep_every: options.asleep_every,
        };
        let run = move || look.run(&reader, &words, ring.as_fd(), &unwoken);
        std::thread::Builder::new().name("semj-ring".into()).spawn(run)
    }

    fn ring_bell(&self) {
        let _ = rustix::io::write(&self.bell, &[1, 0, 0, 0, 0, 0, 0, 0]);
    }

    /// From now on process `tgid` is recorded with this tag, and all that come from it.
    ///
    /// # Errors
    /// `E2BIG` when too many processes have one.
    pub fn adopt(&self, tgid: u32, tag: u64) -> io::Result<()> {
        bpf::set(self.tags.as_fd(), tgid, tag)
    }

    /// The map of tags, for a holder that outlives the borrow of the source.
    ///
    /// # Errors
    /// When there are no more descriptors.
    pub fn tags(&self) -> io::Result<Tags> {
        self.tags.try_clone().map(Tags)
    }

    /// How many records were made, read or not.
    pub fn made(&self) -> u64 {
        self.words.get(layout::word::MADE)
    }

    /// How many records found no room, counted by the kernel.
    pub fn lost(&self) -> u64 {
        self.words.get(layout::word::LOST)
    }

    /// How often records lay in the ring and nobody had woken the thread: none should ever.
    pub fn unwoken(&self) -> u64 {
        self.unwoken.load(Ordering::Relaxed)
    }
}

/// Loads the programs and attaches them; they stay as long as what is returned.
fn load(maps: &Maps, options: &EbpfOptions) -> Result<Vec<OwnedFd>, Unavailable> {
    let described = "a kernel that describes its types (CONFIG_DEBUG_INFO_BTF)";
    let bytes = std::fs::read(TYPES)
        .map_err(|e| unavailable(described, "use a distribution's kernel").because(&e))?;
    let strange = || unavailable("a kernel whose structures have the known fields", "report its version");
    let btf = Btf::parse(bytes, &WANTED).ok_or_else(strange)?;
    let mut offsets = Offsets::find(&btf).ok_or_else(strange)?;
    offsets.cast = offsets.cast.filter(|_| !options.helpers_only);
    let mut held = Vec::new();
    for (tracepoint, program) in programs::all(&offsets, maps, options.failed_calls).ok_or_else(strange)? {
        let number = btf.number(Named::Tracepoint(tracepoint)).ok_or_else(strange)?;
        let (program, link) = bpf::attach(&program, number).map_err(|(e, said)| {
            let mut why = refused("CAP_PERFMON beside CAP_BPF", &e);
            if !said.is_empty() {
                why.remedy = format!("{}; the kernel says of {tracepoint}: {said}", why.remedy);
            }
            why
        })?;
        held.extend([program, link]);
    }
    Ok(held)
}

/// Gives tags to processes.
#[derive(Debug)]
pub struct Tags(OwnedFd);

impl Tags {
    /// As [`Ebpf::adopt`].
    ///
    /// # Errors
    /// `E2BIG` when too many processes have one.
    pub fn adopt(&self, tgid: u32, tag: u64) -> io::Result<()> {
        bpf::set(self.0.as_fd(), tgid, tag)
    }
}

impl KernelSource for Ebpf {
    fn caps(&self) -> Caps {
        Caps {
            sequence: Sequencing::Global,
            loss: Loss::Counted,
            pid: Pid::Thread,
            result: true,
            kernel_time: true,
            merges: false,
            gates: false,
            resume: ResumeKind::None,
        }
    }

    fn pollable(&self) -> Option<BorrowedFd<'_>> {
        self.news.as_ref().map(|news| news.as_fd())
    }

    fn poll_every(&self) -> Duration {
        if self.news.is_some() { Duration::from_millis(100) } else { LOOK_EVERY }
    }

    fn next_batch(&mut self, max: usize, out: &mut Vec<Item>) -> io::Result<Progress> {
        let mut reader = self.reader.lock();
        // Where a thread reads nobody else may.
        if self.thread.is_none() {
            reader.read(&self.words);
        }
        let more = reader.hand_out(&mut self.passed, max, out);
        Ok(Progress { more, passed: self.passed })
    }

    fn barrier(&mut self) -> Result<Barrier, NotSupported> {
        let mut reader = self.reader.lock();
        let point = point(&self.words);
        reader.awaits(point);
        self.ring_bell();
        Ok(Barrier(point))
    }

    fn resume_point(&self) -> Resume {
        Resume::default()
    }

    fn newest_sequence(&self) -> Option<u64> {
        Some(self.made())
    }
}
