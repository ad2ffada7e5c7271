//! Where kernel events come from: one trait, and plain values that a source hands out.
//!
//! A source only reads and hands on; it resolves nothing, joins nothing, and is driven from one thread. Whoever drives it
//! (the KernelSync stage) orders, counts what is missing, and commits records together with the [`Resume`] behind them.
//!
//! 1. What a source hands out comes in the order in which it read it. A sequence that is missing need not be told by the
//!    source; a loss that no sequence shows must be ([`Item::Gap`]).
//! 2. A source never waits inside a call: [`KernelSource::pollable`] and [`KernelSource::poll_every`] say when to call
//!    again.
//! 3. A new [`Item::Epoch`] comes before the first record of it, and as the first item of a call: the resume point before
//!    it lies between two epochs. A source that can resume numbers its incarnations, so that one that comes again is
//!    known.
//! 4. A call hands out about 1 MiB at most.

mod committed;
pub mod connector;
#[cfg(feature = "ebpf")]
pub mod ebpf;
pub mod fanotify;
mod head_page;
pub mod inotify;
mod item;
mod known;
pub mod lineage;
mod mounts;
mod native;
mod offers;
pub(crate) mod payload;
pub mod procfs;
mod ready;
mod record;
#[cfg(any(feature = "ebpf", feature = "model"))]
pub(crate) mod ring_sleep;
pub mod seccomp;
mod semj_tail;
mod sentinel;
mod tail_file;
mod tail_wakes;
mod unavailable;
mod watch;
mod writes;

pub use committed::CommittedWriter;
pub use head_page::DATA_AT;
pub use item::{Gap, GapCause, Item, Lost};
pub use offers::{Offer, offers};
pub use record::{KernelRecord, ObjectId, Op, PathInfo, Phase, Who};
pub use semj_storage::log::control::ClockAnchor;
pub use semj_tail::{SemjTail, TailForm, is_followable};
pub use unavailable::{NotSupported, Unavailable};
pub use watch::{Watch, WatchWith};

use std::fmt::Debug;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;
use uuid::Uuid;

/// Longest resume point, in bytes.
pub const RESUME_BYTES_MAX: usize = 4_096;

/// A kernel source that is open.
pub trait KernelSource: Send + Debug {
    /// What its records can carry.
    fn caps(&self) -> Caps;

    /// What becomes readable when there is something to read; `None`: it is called every [`KernelSource::poll_every`].
    fn pollable(&self) -> Option<BorrowedFd<'_>>;

    /// How long it may go without a call though nothing became readable: for wake-ups that get lost.
    fn poll_every(&self) -> Duration {
        Duration::from_millis(100)
    }

    /// Appends at most `max` items to `out`, without waiting for any.
    ///
    /// # Errors
    /// When it cannot be read any more; it is opened anew behind what was committed.
    fn next_batch(&mut self, max: usize, out: &mut Vec<Item>) -> io::Result<Progress>;

    /// A point behind all effects up to now. It is passed when a [`Progress::passed`] is not smaller.
    ///
    /// # Errors
    /// [`NotSupported`] where the source knows no such point.
    fn barrier(&mut self) -> Result<Barrier, NotSupported>;

    /// The place behind all that was handed out so far, committed together with it.
    fn resume_point(&self) -> Resume;

    /// What people should know when the source has been used, a sentence each, whatever they wanted to see.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }

    /// The newest sequence that exists in the source, read or not; `None` where it does not say.
    fn newest_sequence(&self) -> Option<u64> {
        None
    }

    /// Compares its scope with what it knows, after something was lost: what it finds comes with the next calls, as
    /// records of [`Phase::Synthetic`], before anything that a later [`KernelSource::barrier`] stands behind.
    ///
    /// # Errors
    /// [`NotSupported`] where the source knows no state to compare with.
    fn rescan(&mut self) -> Result<(), NotSupported> {
        Err(NotSupported)
    }

    /// What it does not see, beside what its [`Caps`] tell; empty where there is no more to say.
    fn misses(&self) -> &'static str {
        ""
    }
}

/// Opens a source, at first and again after a crash. It outlives the actor: what must survive a restart (the fd of a
/// ring, a listener) belongs here.
pub trait OpenSource: Send + Debug {
    /// The name: its events carry it as their `source`, and its resume points are found by it.
    fn name(&self) -> &str;

    /// The journal keeps its files in this folder: what happens there is no event. Called before the first opening.
    fn leave_out(&mut self, folder: &Path) {
        let _ = folder;
    }

    /// Opens it behind `from`; `None`: from where it begins. Where it cannot go on there, it hands out an [`Item::Epoch`]
    /// and, where something may be missing, an [`Item::Gap`] first.
    ///
    /// # Errors
    /// [`Unavailable`], found by trying, never guessed from a version or a user id.
    fn open(&mut self, from: Option<&Resume>) -> Result<Box<dyn KernelSource>, Unavailable>;
}

/// What a call of [`KernelSource::next_batch`] came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// There is more to be had at once.
    pub more: bool,
    /// All effects up to this point of the source's own measure were handed out.
    pub passed: u64,
}

/// A point in the source's own measure: a length, a counter, the number of a sentinel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Barrier(pub u64);

/// Where to go on: bytes that only the source understands, at most [`RESUME_BYTES_MAX`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Resume(pub Vec<u8>);

/// What the records of a source can carry, and what can go wrong with them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caps {
    /// What its sequences mean.
    pub sequence: Sequencing,
    /// How records get lost.
    pub loss: Loss,
    /// What it knows of the process.
    pub pid: Pid,
    /// Records carry the call's result.
    pub result: bool,
    /// Times are the kernel's own, not those of reading.
    pub kernel_time: bool,
    /// Several effects may come as one record.
    pub merges: bool,
    /// It can hold a call back until somebody decides.
    pub gates: bool,
    /// How long a resume point is good.
    pub resume: ResumeKind,
}

impl Caps {
    /// Those of a source that is told of changes, not of calls.
    const fn of_notifications(pid: Pid) -> Self {
        Caps {
            sequence: Sequencing::None,
            loss: Loss::Marked,
            pid,
            result: false,
            kernel_time: false,
            merges: true,
            gates: false,
            resume: ResumeKind::None,
        }
    }
}

/// What the sequences of a source mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sequencing {
    /// There are none; the order is that of reading.
    None,
    /// One per processor: dense in each, meaningless between them.
    PerCpu,
    /// One for all: a missing number is a lost record.
    Global,
    /// There are none, but each call waits until its record is taken.
    BySynchrony,
}

/// How records of a source get lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// They do not.
    Impossible,
    /// With a count.
    Counted,
    /// With a mark, but no count.
    Marked,
    /// Unnoticed: it needs a rescan now and then.
    Silent,
}

/// What a source knows of the process behind an effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pid {
    /// Nothing.
    None,
    /// Only when it is the own process.
    OwnOnly,
    /// The process.
    Process,
    /// Process and thread.
    Thread,
}

/// How long a resume point is good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResumeKind {
    /// Not at all: what is not read when the source closes is gone.
    None,
    /// Until the machine or the source starts anew.
    ThisBoot,
    /// For ever.
    Durable,
}

/// This boot; nil where the kernel does not tell.
pub(crate) fn boot_id() -> Uuid {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Uuid::parse_str(text.trim()).unwrap_or_default()
}

/// The boot-time clock, ns.
pub(crate) fn boot_ns() -> u64 {
    nanoseconds(rustix::time::ClockId::Boottime)
}

/// The wall clock, ns since 1970.
pub(crate) fn wall_ns() -> i64 {
    nanoseconds(rustix::time::ClockId::Realtime).cast_signed()
}

/// How far the boot-time clock is ahead of the monotonic one, ns: the time that the machine slept.
fn boot_ahead_of_mono() -> u64 {
    boot_ns().saturating_sub(nanoseconds(rustix::time::ClockId::Monotonic))
}

fn nanoseconds(clock: rustix::time::ClockId) -> u64 {
    let t = rustix::time::clock_gettime(clock);
    t.tv_sec.saturating_mul(1_000_000_000).saturating_add(t.tv_nsec).cast_unsigned()
}

/// What a build without eBPF says of it.
#[cfg(not(feature = "ebpf"))]
pub(crate) fn no_ebpf() -> Unavailable {
    Unavailable::new("a build with the feature `ebpf`", "cargo install --path . --features ebpf")
        .or_else("fanotify: merged events without results")
}
