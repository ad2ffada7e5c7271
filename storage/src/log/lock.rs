//! The file LOCK: who owns the journal, and how far it is durable.
//!
//! ```text
//! 0     [8] "SEMJLOCK", u32 version, u32 CRC of bytes 0..64, [16] journal UUID, u32 pid, u32 0, i64 since, 16 x 0
//! 512   slot A    1024  slot B    1536  info slot (how far the trees are)    2048  stall slot
//! 2560  health slot: u32 restarts of each of 8 roles, u32 threads left behind, u32 events refused, u32 0, u32 CRC
//! slot: u64 generation, u64 durable sequence, u64 first sequence of the segment, u64 end offset, u32 state, u32 CRC
//! ```
//! The slots are written in turn after each `fdatasync`, so one of them is always whole, and neither runs ahead of the
//! disk. The stall slot says by its state whether the owner waits for a call on the record, and by its durable sequence
//! since when (ns since 1970); it is for display and may be stale. Whether an owner lives is told by the advisory lock alone; the pid is for display.

use super::bytes::{crc_with_hole, i64_at, put, u32_at, u64_at, uuid_at};
use crate::backend::File;
use std::io;
use std::sync::Arc;
use uuid::Uuid;

const MAGIC: [u8; 8] = *b"SEMJLOCK";
const HEAD_BYTES: usize = 64;
const SLOT_BYTES: usize = 40;
const SLOT_OFFSETS: [u64; 2] = [512, 1024];
const INFO_OFFSET: u64 = 1536;
const STALL_OFFSET: u64 = 2048;
const HEALTH_OFFSET: u64 = 2560;
const HEALTH_BYTES: usize = 48;
/// Roles whose restarts fit into the health slot.
pub const HEALTH_ROLES: usize = 8;

/// What the owner is doing, as far as readers need to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OwnerState {
    /// Working.
    #[default]
    Open,
    /// Closed cleanly: an end mark stands at the end offset.
    Closed,
    /// Working, with damage in the record.
    Degraded,
    /// A write or sync does not return.
    Stalled,
    /// The disk is full.
    Full,
    /// Refusing writes until reopened.
    Poisoned,
}

impl OwnerState {
    fn code(self) -> u32 {
        match self {
            OwnerState::Open => 0,
            OwnerState::Closed => 1,
            OwnerState::Degraded => 2,
            OwnerState::Stalled => 3,
            OwnerState::Full => 4,
            OwnerState::Poisoned => 5,
        }
    }

    fn from_code(code: u32) -> Self {
        match code {
            1 => OwnerState::Closed,
            2 => OwnerState::Degraded,
            3 => OwnerState::Stalled,
            4 => OwnerState::Full,
            5 => OwnerState::Poisoned,
            _ => OwnerState::Open,
        }
    }
}

/// How far the record is durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Watermark {
    /// Last durable event.
    pub durable: u64,
    /// First sequence of the segment it lies in.
    pub segment: u64,
    /// Where that segment's valid part ends.
    pub end_offset: u64,
    /// What the owner is doing.
    pub state: OwnerState,
}

/// What the owner went through since it opened the journal, for display.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Health {
    /// Restarts of each role, in the order of the flow.
    pub restarts: [u32; HEALTH_ROLES],
    /// Threads that hang and were left behind.
    pub left_behind: u32,
    /// Events refused because they crashed the engine.
    pub refused: u32,
}

impl Health {
    fn encode(&self, journal: &Uuid) -> [u8; HEALTH_BYTES] {
        let mut bytes = [0; HEALTH_BYTES];
        let numbers = self.restarts.iter().chain([&self.left_behind, &self.refused]);
        for (at, number) in numbers.enumerate() {
            put(&mut bytes, at * 4, &number.to_le_bytes());
        }
        let crc = crc_with_hole(journal, &bytes, HEALTH_BYTES - 4);
        put(&mut bytes, HEALTH_BYTES - 4, &crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8], journal: &Uuid) -> Option<Self> {
        let bytes = bytes.get(..HEALTH_BYTES)?;
        (u32_at(bytes, HEALTH_BYTES - 4) == crc_with_hole(journal, bytes, HEALTH_BYTES - 4)).then(|| Health {
            restarts: std::array::from_fn(|role| u32_at(bytes, role * 4)),
            left_behind: u32_at(bytes, HEALTH_ROLES * 4),
            refused: u32_at(bytes, HEALTH_ROLES * 4 + 4),
        })
    }
}

/// What LOCK tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LockInfo {
    /// The journal's identity.
    pub journal: Uuid,
    /// The owner's process, for display.
    pub pid: u32,
    /// When the owner opened it, ns since 1970, for display.
    pub since_ns: i64,
    /// The newest valid slot.
    pub watermark: Option<Watermark>,
    /// How far the trees are, if told.
    pub indexed: u64,
    /// What the owner went through, for display.
    pub health: Health,
    /// Since when a call on the record has not returned to its owner, ns since 1970, for display.
    pub stalled_since_ns: Option<i64>,
}

/// LOCK, open.
#[derive(Clone, Debug)]
pub struct LockFile {
    file: Arc<dyn File>,
}

impl LockFile {
    /// LOCK from its open file.
    pub fn new(file: Arc<dyn File>) -> Self {
        LockFile { file }
    }

    /// The file.
    pub fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// Reads it; `None` when there is no valid head (a new or damaged file).
    ///
    /// # Errors
    /// The operating system's.
    pub fn read(&self) -> io::Result<Option<LockInfo>> {
        let mut bytes = vec![0; HEALTH_OFFSET as usize + HEALTH_BYTES];
        let n = self.file.read_at(&mut bytes, 0)?;
        bytes.truncate(n);
        let head = bytes.get(..HEAD_BYTES).unwrap_or_default();
        if !head.starts_with(&MAGIC) || u32_at(head, 12) != crc_with_hole(&Uuid::nil(), head, 12) {
            return Ok(None);
        }
        let journal = uuid_at(head, 16);
        let slot = |offset: u64| decode_slot(bytes.get(offset as usize..)?, &journal);
        let newest = SLOT_OFFSETS.into_iter().filter_map(slot).max_by_key(|(generation, _)| *generation);
        Ok(Some(LockInfo {
            journal,
            pid: u32_at(head, 32),
            since_ns: i64_at(head, 40),
            watermark: newest.map(|(_, w)| w),
            indexed: slot(INFO_OFFSET).map_or(0, |(_, w)| w.durable),
            health: bytes
                .get(HEALTH_OFFSET as usize..)
                .and_then(|slot| Health::decode(slot, &journal))
                .unwrap_or_default(),
            stalled_since_ns: slot(STALL_OFFSET)
                .filter(|(_, w)| w.state == OwnerState::Stalled)
                .and_then(|(_, w)| i64::try_from(w.durable).ok())
                // An earlier owner's stall is over.
                .filter(|since| *since >= i64_at(head, 40)),
        }))
    }

    /// Writes the head: the owner has changed.
    ///
    /// # Errors
    /// The operating system's.
    pub fn write_head(&self, journal: &Uuid, pid: u32, since_ns: i64) -> io::Result<()> {
        let mut head = [0; HEAD_BYTES];
        put(&mut head, 0, &MAGIC);
        put(&mut head, 8, &1u32.to_le_bytes());
        put(&mut head, 16, journal.as_bytes());
        put(&mut head, 32, &pid.to_le_bytes());
        put(&mut head, 40, &since_ns.to_le_bytes());
        let crc = crc_with_hole(&Uuid::nil(), &head, 12);
        put(&mut head, 12, &crc.to_le_bytes());
        crate::chaos::point("lock:head");
        self.file.write_at(&head, 0)
    }

    /// Publishes how far the record is durable. Call only after the `fdatasync` that made it so.
    ///
    /// # Errors
    /// The operating system's.
    pub fn write_slot(&self, journal: &Uuid, generation: u64, watermark: &Watermark) -> io::Result<()> {
        let offset = if generation.is_multiple_of(2) { SLOT_OFFSETS[0] } else { SLOT_OFFSETS[1] };
        self.file.write_at(&encode_slot(journal, generation, watermark), offset)
    }

    /// The generation after the newest slot's.
    ///
    /// # Errors
    /// The operating system's.
    pub fn next_generation(&self, journal: &Uuid) -> io::Result<u64> {
        let mut newest = 0;
        for offset in SLOT_OFFSETS {
            let mut bytes = [0; SLOT_BYTES];
            let n = self.file.read_at(&mut bytes, offset)?;
            if let Some((generation, _)) = decode_slot(bytes.get(..n).unwrap_or_default(), journal) {
                newest = newest.max(generation + 1);
            }
        }
        Ok(newest)
    }

    /// Tells readers since when a call on the record has not returned (ns since 1970), or that it has.
    ///
    /// # Errors
    /// The operating system's.
    pub fn write_stall(&self, journal: &Uuid, since_ns: Option<i64>) -> io::Result<()> {
        let state = if since_ns.is_some() { OwnerState::Stalled } else { OwnerState::Open };
        let durable = since_ns.and_then(|ns| u64::try_from(ns).ok()).unwrap_or(0);
        let note = Watermark { durable, state, ..Watermark::default() };
        self.file.write_at(&encode_slot(journal, 0, &note), STALL_OFFSET)
    }

    /// Tells readers what the owner went through.
    ///
    /// # Errors
    /// The operating system's.
    pub fn write_health(&self, journal: &Uuid, health: &Health) -> io::Result<()> {
        self.file.write_at(&health.encode(journal), HEALTH_OFFSET)
    }

    /// Publishes how far the trees are.
    ///
    /// # Errors
    /// The operating system's.
    pub fn write_indexed(&self, journal: &Uuid, indexed: u64) -> io::Result<()> {
        crate::chaos::point("lock:indexed");
        let watermark = Watermark { durable: indexed, ..Watermark::default() };
        self.file.write_at(&encode_slot(journal, 0, &watermark), INFO_OFFSET)
    }
}

fn encode_slot(journal: &Uuid, generation: u64, w: &Watermark) -> [u8; SLOT_BYTES] {
    let mut s = [0; SLOT_BYTES];
    put(&mut s, 0, &generation.to_le_bytes());
    put(&mut s, 8, &w.durable.to_le_bytes());
    put(&mut s, 16, &w.segment.to_le_bytes());
    put(&mut s, 24, &w.end_offset.to_le_bytes());
    put(&mut s, 32, &w.state.code().to_le_bytes());
    let crc = crc_with_hole(journal, &s, 36);
    put(&mut s, 36, &crc.to_le_bytes());
    s
}

fn decode_slot(s: &[u8], journal: &Uuid) -> Option<(u64, Watermark)> {
    let s = s.get(..SLOT_BYTES)?;
    (u32_at(s, 36) == crc_with_hole(journal, s, 36)).then(|| {
        let state = OwnerState::from_code(u32_at(s, 32));
        let watermark =
            Watermark { durable: u64_at(s, 8), segment: u64_at(s, 16), end_offset: u64_at(s, 24), state };
        (u64_at(s, 0), watermark)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Backend, MemoryBackend, OpenMode};

    #[test]
    fn what_an_owner_went_through_is_read_back_and_damage_tells_nothing() {
        let disk = MemoryBackend::default();
        let file = disk.open("LOCK".as_ref(), OpenMode::CreateNew).unwrap();
        let (lock, journal) = (LockFile::new(file.clone()), Uuid::from_u128(9));
        lock.write_head(&journal, 7, 1_000).unwrap();
        let told = || lock.read().unwrap().unwrap();
        assert_eq!((told().health, told().stalled_since_ns), (Health::default(), None));
        let health = Health { restarts: [1, 2, 3, 4, 0, 0, 0, 9], left_behind: 5, refused: 6 };
        lock.write_health(&journal, &health).unwrap();
        lock.write_stall(&journal, Some(2_000)).unwrap();
        assert_eq!((told().health, told().stalled_since_ns), (health, Some(2_000)));
        lock.write_stall(&journal, None).unwrap();
        assert_eq!(told().stalled_since_ns, None);
        lock.write_stall(&journal, Some(500)).unwrap();
        assert_eq!(told().stalled_since_ns, None, "an earlier owner's");
        file.write_at(&[0xFF], HEALTH_OFFSET).unwrap();
        assert_eq!(told().health, Health::default());
    }
}
