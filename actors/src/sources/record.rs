//! One effect that a kernel source saw.

use semj_storage::event::{Event, EventType};

/// One effect.
#[derive(Clone, PartialEq, Debug)]
pub struct KernelRecord {
    /// Its place in the source's own order, where there is one.
    pub sequence: Option<u64>,
    /// When, ns of the boot-time clock.
    pub boot_ns: i64,
    /// How far off that may be, ns.
    pub time_error_ns: u32,
    /// On which processor.
    pub cpu: Option<u32>,
    /// Who did it.
    pub who: Who,
    /// What was done.
    pub op: Op,
    /// Whether it was meant, done, or only seen.
    pub phase: Phase,
    /// What the call returned: 0 or more, or a negative error number.
    pub result: Option<i64>,
    /// To what.
    pub object: Option<ObjectId>,
    /// By which name.
    pub path: PathInfo,
    /// Several effects on the object may have come as this one.
    pub merged: bool,
    /// The event itself, where the source brings whole events; the fields above fill in what it leaves out.
    pub event: Option<Box<Event<'static>>>,
}

impl KernelRecord {
    /// An effect of which nothing but this is known.
    pub fn new(op: Op, phase: Phase, boot_ns: i64) -> Self {
        KernelRecord {
            sequence: None,
            boot_ns,
            time_error_ns: 0,
            cpu: None,
            who: Who::default(),
            op,
            phase,
            result: None,
            object: None,
            path: PathInfo::default(),
            merged: false,
            event: None,
        }
    }
}

impl KernelRecord {
    /// The call failed: nothing was done.
    pub fn has_failed(&self) -> bool {
        !matches!(self.op, Op::Fork | Op::Exec | Op::Exit) && self.result.is_some_and(|r| r < 0)
    }
}

/// Who did it. A process is known by (boot, process id, start time), never by its id alone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Who {
    /// Process id (tgid); 0 where unknown.
    pub process: u32,
    /// Thread id; 0 where unknown.
    pub thread: u32,
    /// When the process started, ns of the boot-time clock; 0 where unknown.
    pub start_boot_ns: i64,
    /// Its cgroup; 0 where unknown.
    pub cgroup: u64,
    /// The tag that the kernel carried along for it; 0 for none.
    pub tag: u64,
    /// Its command name; empty where unknown.
    pub command: Vec<u8>,
}

/// What was done.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each is the call of that name")]
pub enum Op {
    Open,
    Close,
    Read,
    Write,
    Create,
    Delete,
    Rename,
    Chmod,
    Chown,
    Truncate,
    Mkdir,
    Rmdir,
    Symlink,
    Hardlink,
    Mount,
    Unmount,
    Sync,
    Fork,
    Exec,
    Exit,
    /// Another attribute was changed.
    Attribute,
    /// The type is given by the source.
    Event(EventType),
}

impl Op {
    /// The type of its event. What the kernel's taxonomy does not tell apart is told by [`Op::name`].
    pub fn event_type(self) -> EventType {
        EventType::from_code(match self {
            Op::Create => 0x0101,
            Op::Delete => 0x0102,
            Op::Read | Op::Open | Op::Close => 0x0103,
            Op::Write => 0x0104,
            Op::Rename => 0x0105,
            Op::Chmod | Op::Attribute => 0x0106,
            Op::Chown => 0x0107,
            Op::Truncate => 0x0108,
            Op::Mkdir => 0x0109,
            Op::Rmdir => 0x010A,
            Op::Symlink => 0x010B,
            Op::Hardlink => 0x010C,
            Op::Mount => 0x0501,
            Op::Unmount => 0x0502,
            Op::Sync => 0x0503,
            // The taxonomy knows no processes.
            Op::Fork | Op::Exec | Op::Exit => 0x0809,
            Op::Event(kind) => return kind,
        })
    }

    /// The `name` of its event, where the type alone does not say what was done.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Op::Open => Some("file.open"),
            Op::Close => Some("file.close"),
            Op::Attribute => Some("file.attribute"),
            Op::Fork => Some("process.fork"),
            Op::Exec => Some("process.exec"),
            Op::Exit => Some("process.exit"),
            _ => None,
        }
    }
}

/// What the record is evidence of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Phase {
    /// The call was entered; its result is open.
    Intent,
    /// The call returned.
    Done,
    /// The effect was seen, not the call.
    Observed,
    /// Made up from a comparison of what is with what was.
    Synthetic,
}

impl Phase {
    /// The phase in one word, as it stands in events.
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Intent => "intent",
            Phase::Done => "done",
            Phase::Observed => "observed",
            Phase::Synthetic => "synthetic",
        }
    }
}

/// An object of a file system.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct ObjectId {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// File handle; empty where unknown.
    pub handle: Vec<u8>,
}

/// The names of an effect's object.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PathInfo {
    /// Its path, as bytes; empty where unknown.
    pub path: Vec<u8>,
    /// The second path of a rename or a link: the new name, or what is linked to.
    pub target: Vec<u8>,
    /// A path was longer than the source could take.
    pub is_cut: bool,
}

impl PathInfo {
    /// The path, or the second one where only that is known.
    pub fn any(&self) -> &[u8] {
        if self.path.is_empty() { &self.target } else { &self.path }
    }
}
