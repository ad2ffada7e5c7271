//! One batch of a chunk: entries with their references, table, digest, summary, compression.

use crate::ledger::{Chunk, TIME_UNKNOWN};
use semj_storage::event::ResolvedCause;
use semj_storage::event::Timestamp;
use semj_storage::log::entry::{
    ENVELOPE_BYTES, FLAG_TOMBSTONE, REFERENCE_BYTES, UnitInfo, put_envelope, put_reference,
};
use semj_storage::log::{Codec, PreparedBlock, SummaryBuilder, UnitBuilder};

/// What the clocks say when a batch is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// Wall clock, ns since 1970.
    pub wall_ns: i64,
    /// Boot-time clock, ns.
    pub boot_ns: i64,
}

/// The hybrid logical clock: it never goes back, whatever the wall clock does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LogicalClock {
    physical: u64,
    counter: u16,
}

impl LogicalClock {
    /// Moves on: with the wall clock where that is ahead, by one where it is not.
    pub fn tick(&mut self, wall_ns: i64) -> LogicalClock {
        let wall = u64::try_from(wall_ns).unwrap_or(0);
        if wall > self.physical {
            (self.physical, self.counter) = (wall, 0);
        } else if self.counter == u16::MAX {
            (self.physical, self.counter) = (self.physical + 1, 0);
        } else {
            self.counter += 1;
        }
        *self
    }

    /// A clock that has shown this already: what it shows next is greater.
    pub fn after((physical, counter): (u64, u16)) -> Self {
        LogicalClock { physical, counter }
    }

    /// Physical part, ns, and counter.
    pub fn parts(self) -> (u64, u16) {
        (self.physical, self.counter)
    }
}

/// The logic of the batcher: it packs, and remembers nothing.
#[derive(Clone, Copy, Debug)]
pub struct BatcherCore {
    /// What the clocks say.
    pub stamp: Stamp,
    /// The logical clock, moved on for this batch.
    pub logical: LogicalClock,
    /// How block bodies are stored.
    pub codec: Codec,
}

impl BatcherCore {
    /// Makes a batch of tombstones: sequences and places in their streams stay; content, ids and control records are gone.
    pub fn refuse(&self, chunk: &Chunk, info: UnitInfo) -> PreparedBlock {
        let info = at(info, self.stamp);
        let mut unit = UnitBuilder::with_capacity(chunk.entries.len(), chunk.entries.len() * ENVELOPE_BYTES);
        let mut summary = SummaryBuilder::new(chunk.first_sequence);
        for entry in &chunk.entries {
            let local = chunk.bytes_of(entry).get(8..16).and_then(|b| b.try_into().ok());
            let local = local.map_or(0, u64::from_le_bytes);
            unit.entry(|out| put_envelope(out, FLAG_TOMBSTONE, 0, 0, local, entry.boot_ns, None));
            summary.add_tombstone();
        }
        let mut bytes = vec![0; PreparedBlock::header_room()];
        unit.finish(chunk.first_sequence, &info, self.logical.parts(), &mut bytes);
        PreparedBlock::new(bytes, self.codec, summary.finish())
    }

    /// Makes a batch. `info` carries the nonce and the boot; times are filled in from the clocks.
    pub fn step(&self, chunk: &Chunk, causes: &[ResolvedCause], info: UnitInfo) -> PreparedBlock {
        assert_eq!(causes.len(), chunk.causes.len(), "every cause is resolved");
        let info = at(info, self.stamp);
        // Without references the chunk's bytes are the unit's entries already, and are copied once.
        let in_place = causes.is_empty();
        let room = if in_place { 0 } else { chunk.bytes.len() + causes.len() * REFERENCE_BYTES };
        let mut unit = UnitBuilder::with_capacity(chunk.entries.len(), room);
        let mut summary = SummaryBuilder::new(chunk.first_sequence);
        let mut causes = causes.iter();
        for entry in &chunk.entries {
            let bytes = chunk.bytes_of(entry);
            if in_place {
                unit.entry_over(entry.start, bytes);
            } else {
                unit.entry(|out| {
                    out.extend_from_slice(bytes);
                    causes.by_ref().take(usize::from(entry.causes)).for_each(|c| put_reference(out, *c));
                });
            }
            let time = match entry.time {
                TIME_UNKNOWN => None,
                i64::MAX => Some(entry.boot_ns.saturating_add(info.wall_offset_ns)),
                given => Some(given),
            };
            summary.add(u32::from(entry.type_bit), time);
        }
        for control in &chunk.controls {
            unit.control(control.kind, control.index as u16, chunk.bytes_of_control(control));
        }
        summary.add_agents(&chunk.agents);
        let mut bytes =
            Vec::with_capacity(PreparedBlock::room_for(chunk.entries.len(), chunk.bytes.len().max(room)));
        bytes.resize(PreparedBlock::header_room(), 0);
        let (first, hlc) = (chunk.first_sequence, self.logical.parts());
        if in_place {
            unit.finish_over(&chunk.bytes, first, &info, hlc, &mut bytes);
        } else {
            unit.finish(first, &info, hlc, &mut bytes);
        }
        PreparedBlock::new(bytes, self.codec, summary.finish())
    }
}

/// What a unit made at `stamp` says of its time.
fn at(info: UnitInfo, stamp: Stamp) -> UnitInfo {
    UnitInfo {
        recorded: Timestamp(stamp.wall_ns),
        wall_offset_ns: stamp.wall_ns.saturating_sub(stamp.boot_ns),
        ..info
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logical_clock_never_goes_back() {
        let mut clock = LogicalClock::default();
        let parts: Vec<_> = [5, 5, 3, -1, 9].map(|wall| clock.tick(wall).parts()).to_vec();
        assert_eq!(parts, [(5, 0), (5, 1), (5, 2), (5, 3), (9, 0)]);
        clock.counter = u16::MAX;
        assert_eq!(clock.tick(0).parts(), (10, 0));
    }
}
