//! eBPF: programs that are assembled when the source opens, against the running kernel's own types, and record calls in the
//! kernel: with result, process, time and one sequence for all. Nothing is needed to build it.
//!
//! A tag is given to one process and handed down in the kernel to all that come from it; processes without a tag are not
//! recorded. A record never wakes the reader, who looks by himself. A record for which there was no room is counted, and its
//! sequence is missing: each loss has a place.
//!
//! Not recorded: calls that failed, calls through io_uring, 32-bit calls, and stores through mappings. Of writes to one open
//! file only the first. The folders above a name are read in the kernel when the call returns, up to 16 levels and 63 bytes
//! a name; a name that the caller gave is read from its memory then, which another thread of it may have changed.

mod asm;
mod btf;
mod programs;
mod read;
mod sequence;

use super::ready::{Ready, hand_out};
use super::{
    Barrier, Caps, Gap, Item, KernelSource, Loss, NotSupported, Pid, Progress, Resume, ResumeKind,
    Sequencing, Unavailable, boot_ns, mounts,
};
use btf::Btf;
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;
use programs::Maps;
use semj_sys::bpf::{self, MapKind};
use semj_sys::ring::{Counters, Ring};
use sequence::Sequences;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// Where the kernel describes its types.
const TYPES: &str = "/sys/kernel/btf/vmlinux";
/// Processes that may have a tag at a time.
const TAGGED_MAX: u32 = 16_384;
/// Open files whose first write is remembered.
const WRITTEN_MAX: u32 = 65_536;
/// The counters: records made, and records for which there was no room.
const MADE: usize = 0;
const LOST: usize = 1;

/// How often the ring is emptied.
const READ_EVERY: Duration = Duration::from_millis(1);
/// Records that may wait in memory for whoever takes them; beyond it they wait in the ring.
const READY_MAX: usize = 500_000;

/// How to open it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EbpfOptions {
    /// Room for records in the kernel, in bytes, a power of two; a record takes 1,648.
    pub ring_bytes: u32,
    /// A thread empties the ring every millisecond, however seldom records are taken.
    pub reads_by_itself: bool,
}

impl Default for EbpfOptions {
    fn default() -> Self {
        EbpfOptions { ring_bytes: 32 << 20, reads_by_itself: true }
    }
}

/// Who empties the ring: a thread of its own, so that whoever makes something of the records may take his time.
struct Reader {
    ring: Ring,
    mounts: read::Mounts,
    sequences: Sequences,
    /// All that was made before is accounted for, BOOTTIME in ns.
    settled_ns: i64,
    ready: VecDeque<Ready>,
    /// So many were made when all of them were accounted for.
    settled: u64,
}

/// The source.
pub struct Ebpf {
    reader: Arc<Mutex<Reader>>,
    counters: Arc<Counters>,
    tags: OwnedFd,
    passed: u64,
    /// The thread ends when this is gone.
    _stop: Sender<()>,
    /// Programs, their attachments and maps: gone when they are closed.
    _held: Vec<OwnedFd>,
}

impl fmt::Debug for Ebpf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ebpf").field("made", &self.made()).field("lost", &self.lost()).finish_non_exhaustive()
    }
}

fn unavailable(need: &str, remedy: &str) -> Unavailable {
    Unavailable::new(need, remedy).or_else("fanotify: merged events without results")
}

impl Ebpf {
    /// Loads and attaches the programs.
    ///
    /// # Errors
    /// [`Unavailable`], found by trying.
    pub fn open(options: EbpfOptions) -> Result<Self, Unavailable> {
        if !cfg!(target_arch = "x86_64") {
            return Err(unavailable("an x86-64 machine", "its system calls are the only ones known so far"));
        }
        let capable = |e: &io::Error| {
            unavailable(
                "CAP_BPF and CAP_PERFMON, and a kernel that is not locked down for confidentiality",
                "run as root, or give the binary the capabilities: setcap cap_bpf,cap_perfmon+ep",
            )
            .because(e)
        };
        let map = |kind, key, value, entries, flags| {
            bpf::map(kind, key, value, entries, flags).map_err(|e| capable(&e))
        };
        // First what costs nothing and is refused first.
        let counters = map(MapKind::Array, 4, 64, 1, bpf::MAPPABLE)?;
        let ring = map(MapKind::Ring, 0, 0, options.ring_bytes, 0)?;
        let tags = map(MapKind::Hash, 4, 8, TAGGED_MAX, 0)?;
        let written = map(MapKind::LruHash, 8, 8, WRITTEN_MAX, 0)?;
        let described = "a kernel that describes its types (CONFIG_DEBUG_INFO_BTF)";
        let bytes = std::fs::read(TYPES)
            .map_err(|e| unavailable(described, "use a distribution's kernel").because(&e))?;
        let maps = Maps {
            ring: ring.as_raw_fd(),
            counters: counters.as_raw_fd(),
            tags: tags.as_raw_fd(),
            written: written.as_raw_fd(),
        };
        let strange = || unavailable("a kernel whose structures have the known fields", "report its version");
        let btf = Btf::parse(bytes).ok_or_else(strange)?;
        let mut held = Vec::new();
        for (tracepoint, program) in programs::all(&btf, &maps).ok_or_else(strange)? {
            let number = btf.tracepoint(tracepoint).ok_or_else(strange)?;
            let (program, link) = bpf::attach(&program, number).map_err(|(e, said)| {
                let mut why = capable(&e);
                if !said.is_empty() {
                    why.remedy = format!("{}; the kernel says of {tracepoint}: {said}", why.remedy);
                }
                why
            })?;
            held.extend([program, link]);
        }
        let page = rustix::param::page_size();
        let reader = Arc::new(Mutex::new(Reader {
            ring: Ring::map(ring.as_fd(), options.ring_bytes as usize, page).map_err(|e| capable(&e))?,
            mounts: mounts::by_device(),
            sequences: Sequences::default(),
            settled_ns: boot_ns().cast_signed(),
            ready: VecDeque::new(),
            settled: 0,
        }));
        let mapped = Arc::new(Counters::map(counters.as_fd()).map_err(|e| capable(&e))?);
        let (stop, stopped) = bounded(0);
        if options.reads_by_itself {
            let (reader, counters) = (reader.clone(), mapped.clone());
            let read = move || {
                while stopped.recv_timeout(READ_EVERY) == Err(RecvTimeoutError::Timeout) {
                    reader.lock().read(&counters);
                }
            };
            let thread = std::thread::Builder::new().name("semj-ring".into()).spawn(read);
            thread.map_err(|e| unavailable("one more thread", "raise the limit of processes").because(&e))?;
        }
        let source = Ebpf {
            reader,
            counters: mapped,
            tags,
            passed: 0,
            _stop: stop,
            _held: {
                held.extend([ring, counters, written]);
                held
            },
        };
        Ok(source)
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
        self.counters.get(MADE)
    }

    /// How many records found no room, counted by the kernel.
    pub fn lost(&self) -> u64 {
        self.counters.get(LOST)
    }
}

impl Reader {
    /// Empties the ring, whoever waits for what: it is small, and what finds no room in it is lost.
    fn read(&mut self, counters: &Counters) {
        let before = boot_ns().cast_signed();
        // The counters first: what they count is in the ring, lost, or on its way from another processor.
        let (made, lost) = (counters.get(MADE), counters.get(LOST));
        let now = boot_ns().cast_signed();
        let (sequences, mounts, ready) = (&mut self.sequences, &self.mounts, &mut self.ready);
        let room = READY_MAX.saturating_sub(ready.len());
        let more = self.ring.read(room, |bytes| {
            let Some((sequence, record)) = read::record(bytes, mounts) else { return };
            sequences.take(sequence);
            ready.extend(record.map(|r| Ready::Item(Item::Record(Box::new(r)))));
        });
        if !more && made > self.settled && self.sequences.is_settled(made, lost) {
            let gaps: Vec<Gap> = self.sequences.gaps(made, (self.settled_ns, now));
            self.ready.extend(gaps.into_iter().map(|g| Ready::Item(Item::Gap(g))));
            self.ready.push_back(Ready::Passed(made));
            self.settled = made;
        }
        if made == self.settled {
            self.settled_ns = before;
        }
    }
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
        None
    }

    fn poll_every(&self) -> Duration {
        READ_EVERY
    }

    fn next_batch(&mut self, max: usize, out: &mut Vec<Item>) -> io::Result<Progress> {
        let mut reader = self.reader.lock();
        reader.read(&self.counters);
        hand_out(&mut reader.ready, &mut self.passed, max, out);
        Ok(Progress { more: !reader.ready.is_empty(), passed: self.passed })
    }

    fn barrier(&mut self) -> Result<Barrier, NotSupported> {
        Ok(Barrier(self.made()))
    }

    fn resume_point(&self) -> Resume {
        Resume::default()
    }

    fn newest_sequence(&self) -> Option<u64> {
        Some(self.made())
    }
}
