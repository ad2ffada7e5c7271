//! A run of admitted events in one buffer: sealed as a whole, it becomes one batch.

use semj_storage::event::Cause;
use uuid::Uuid;

/// Stands for "no time" in [`Entry::time`].
pub const TIME_UNKNOWN: i64 = i64::MIN;

/// Where an admitted event lies in its chunk, and what its block's summary needs.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Start of envelope, key and body in the chunk's bytes.
    pub start: u32,
    /// End of the body.
    pub end: u32,
    /// How many causes it has in the chunk's list.
    pub causes: u16,
    /// `EventType::summary_bit`.
    pub type_bit: u8,
    /// Effective time, ns since 1970; [`TIME_UNKNOWN`] where its log knew none; `i64::MAX` for the emission's own.
    pub time: i64,
    /// Boot-time clock at emission, ns.
    pub boot_ns: i64,
    /// The id, where the caller gave one.
    pub id: Option<Uuid>,
}

/// Admitted events in order.
#[derive(Debug, Default)]
pub struct Chunk {
    /// Sequence of the first entry.
    pub first_sequence: u64,
    /// The entries.
    pub entries: Vec<Entry>,
    /// Envelope, key and body of each entry, back to back.
    pub bytes: Vec<u8>,
    /// The causes of all entries, back to back, in the order of `Event::causes`.
    pub causes: Vec<Cause>,
    /// Filter bits of all agents and sessions.
    pub agents: [u8; 32],
}

impl Chunk {
    /// Sequence of the last entry; one less than the first when empty.
    pub fn last_sequence(&self) -> u64 {
        self.first_sequence + self.entries.len() as u64 - 1
    }

    /// Ready to be filled again, keeping its memory.
    pub fn reset(&mut self, first_sequence: u64) {
        self.first_sequence = first_sequence;
        self.entries.clear();
        self.bytes.clear();
        self.causes.clear();
        self.agents = [0; 32];
    }
}
