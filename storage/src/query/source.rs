//! What a query reads from: the record, seen as blocks with summaries and as entries.

use crate::error::ReadError;
use crate::log::entry::EntryRef;
use std::ops::ControlFlow;

/// What a block's header tells of its events, enough to skip it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockSummary {
    /// First event.
    pub first_sequence: u64,
    /// Last event.
    pub last_sequence: u64,
    /// One bit for each named type that occurs (`EventType::summary_bit`), bit 63 for all others.
    pub types: u64,
    /// Smallest effective time, ns since 1970; greater than `time_max` when no event has a time.
    pub time_min: i64,
    /// Largest effective time, ns since 1970.
    pub time_max: i64,
    /// A small filter of agents and sessions: the bits of [`agent_bits`] are set for each that occurs.
    pub agents: [u8; 32],
}

/// The bits that an agent or a session has in a block's filter: 256 bits, two of them set.
pub fn agent_bits(text: &[u8]) -> [u8; 32] {
    let hash = u64::from(crc32fast::hash(text));
    let mut bits = [0u8; 32];
    for index in [hash & 0xFF, (hash >> 8) & 0xFF] {
        if let Some(byte) = bits.get_mut((index / 8) as usize) {
            *byte |= 1 << (index % 8);
        }
    }
    bits
}

/// The durable part of a journal, as it was at one moment.
pub trait EventSource: Send + Sync {
    /// The first event that is still there; 1 unless retention removed some.
    fn first_sequence(&self) -> u64;

    /// The last event that may be read; 0 when there is none.
    fn last_sequence(&self) -> u64;

    /// Summaries of the blocks that overlap `first..=last`, in order. Blocks within damage are left out.
    ///
    /// # Errors
    /// When the headers cannot be read.
    fn blocks(&self, first: u64, last: u64) -> Result<Vec<BlockSummary>, ReadError>;

    /// Calls `visit` for each entry of `first..=last` in order, tombstones included, until it breaks.
    ///
    /// # Errors
    /// `Damaged` at the first spot that cannot be trusted; entries before it have been visited. Its
    /// `last_sequence` tells where to go on.
    fn read(
        &self,
        first: u64,
        last: u64,
        visit: &mut dyn FnMut(&EntryRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), ReadError>;

    /// The sequence of the event with this id among those that may be read.
    ///
    /// # Errors
    /// When the index of ids cannot be read.
    fn find_id(&self, id: &uuid::Uuid) -> Result<Option<u64>, ReadError>;
}
