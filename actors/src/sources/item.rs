//! What a source hands out.

use super::record::KernelRecord;
use uuid::Uuid;

/// One thing a source has to say.
#[derive(Clone, PartialEq, Debug)]
pub enum Item {
    /// An effect.
    Record(Box<KernelRecord>),
    /// Records are missing that no sequence shows.
    Gap(Gap),
    /// From here on sequences count anew: a reboot, a module loaded again, a ring made anew.
    Epoch {
        /// Which boot; nil where unknown.
        boot_id: Uuid,
        /// Which life of the source in that boot, from 1 on; 0 leaves the numbering to the reader.
        incarnation: u64,
        /// The first sequence of it, where known: what is missing before the first record is a gap then.
        first_sequence: Option<u64>,
    },
    /// What the clocks said at one moment.
    Clock {
        /// Boot-time clock, ns.
        boot_ns: i64,
        /// Wall clock, ns since 1970.
        wall_ns: i64,
        /// Monotonic clock, ns.
        mono_ns: i64,
        /// How far apart the readings may be, ns.
        error_ns: u32,
    },
}

/// Records that are missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gap {
    /// The last sequence before it. A source that has sequences must say it where it counts: what is missing by sequence
    /// is the same loss then, and counted once.
    pub after: Option<u64>,
    /// How many.
    pub lost: Lost,
    /// It began no earlier, ns of the boot-time clock; 0 where unknown.
    pub from_ns: i64,
    /// It ended no later, ns of the boot-time clock; 0 where unknown.
    pub to_ns: i64,
    /// Why.
    pub cause: GapCause,
}

/// How many records are missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lost {
    /// So many.
    Exactly(u64),
    /// So many or more.
    AtLeast(u64),
    /// Nobody counted.
    Unknown,
}

/// Why records are missing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum GapCause {
    /// A buffer of the kernel was full.
    Overflow,
    /// Sequences are missing, and nothing says why.
    Sequence,
    /// What was not read yet was overwritten or cut off.
    Overwritten,
    /// Bytes that are no record.
    Damaged,
    /// Nobody looked: the source was closed, or sees only that there was something.
    NotObserved,
    /// The source started anew, and what its last life still held is gone.
    Restarted,
}

impl GapCause {
    /// The cause in one word, as it stands in events.
    pub const fn name(self) -> &'static str {
        match self {
            GapCause::Overflow => "overflow",
            GapCause::Sequence => "sequence",
            GapCause::Overwritten => "overwritten",
            GapCause::Damaged => "damaged",
            GapCause::NotObserved => "not_observed",
            GapCause::Restarted => "restarted",
        }
    }
}
