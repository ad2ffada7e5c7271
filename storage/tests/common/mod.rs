//! A journal without actors: opened, written, synced and closed as the engine does it, beside a model of what it holds.

#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test binary uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

use semj_storage::backend::{Backend, MemoryBackend, OpenMode};
use semj_storage::error::{Damage, ReadError};
use semj_storage::event::{Event, Timestamp, encode_body};
use semj_storage::log::entry::{EntryRef, FLAG_KEYED, UnitInfo, put_envelope};
use semj_storage::log::{
    AppendError, Codec, LockFile, LockInfo, LogView, LogWriter, Place, Prealloc, PreparedBlock, Segments,
    SummaryBuilder, UnitBuilder, WriterOptions, recover,
};
use semj_storage::query::EventSource;
use semj_storage::verify::{VerifyLevel, VerifyReport, verify};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;

/// The journal's folder; its parent is not the root, so that it must be synced too.
pub const ROOT: &str = "/data/j";
const BOOT: Uuid = Uuid::from_u128(0xB007);

/// The folder of the record.
pub fn segments_folder() -> PathBuf {
    Path::new(ROOT).join("segments")
}

/// The seed of this run: from SEMJ_SEED, or `default`. Printed, so that a failure tells it.
pub fn seed(default: u64) -> u64 {
    let seed = std::env::var("SEMJ_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(default);
    println!("SEMJ_SEED={seed}");
    seed
}

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// What one event holds: the tag makes it unique, also among events that got the same sequence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Content {
    pub tag: u64,
    pub filler: usize,
}

impl Content {
    fn body(self) -> Vec<u8> {
        let mut random = Random(self.tag);
        let noise: String = (0..self.filler).map(|_| char::from(b'a' + random.below(8) as u8)).collect();
        let mut out = Vec::new();
        encode_body(&Event::decision(format!("event {} {noise}", self.tag)), &mut out).unwrap();
        out
    }

    fn id(self) -> Option<Uuid> {
        self.tag.is_multiple_of(3).then(|| Uuid::from_u128(u128::from(self.tag) << 64 | 7))
    }

    fn put(self, sequence: u64, out: &mut Vec<u8>) {
        let body = self.body();
        let key = self.id().map(|id| (id, [9; 16]));
        let flags = if key.is_some() { FLAG_KEYED } else { 0 };
        put_envelope(out, flags, 0, body.len() as u32, sequence + 1000, self.tag as i64, key);
        out.extend_from_slice(&body);
    }

    /// Whether `entry` is this, with all that its unit says.
    pub fn is(self, entry: &EntryRef<'_>) -> bool {
        entry.body == self.body()
            && entry.given_id == self.id()
            && entry.local_sequence == entry.sequence + 1000
            && entry.boot_ns == self.tag as i64
            && entry.unit == unit_info()
            && entry.references.is_empty()
    }
}

fn unit_info() -> UnitInfo {
    UnitInfo { id_nonce: 0xABCD_EF01_2345_6789, recorded: Timestamp(77), wall_offset_ns: 5, boot_id: BOOT }
}

/// A block of these events.
pub fn block(first: u64, contents: &[Content], codec: Codec) -> PreparedBlock {
    let mut unit = UnitBuilder::with_capacity(contents.len(), 64);
    let mut summary = SummaryBuilder::new(first);
    for (sequence, content) in (first..).zip(contents) {
        unit.entry(|out| content.put(sequence, out));
        let type_bit = Event::decision("").event_type().summary_bit();
        summary.add(type_bit, Some(content.tag as i64 + unit_info().wall_offset_ns));
    }
    let mut bytes = vec![0; PreparedBlock::header_room()];
    unit.finish(first, &unit_info(), (0, 0), &mut bytes);
    PreparedBlock::new(bytes, codec, summary.finish())
}

/// Why a journal did not open.
#[derive(Debug)]
pub enum OpenFailure {
    Io(io::Error),
    Read(ReadError),
}

impl From<io::Error> for OpenFailure {
    fn from(e: io::Error) -> Self {
        OpenFailure::Io(e)
    }
}

impl From<ReadError> for OpenFailure {
    fn from(e: ReadError) -> Self {
        OpenFailure::Read(e)
    }
}

/// How a journal is set up.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub segment_bytes: u64,
    pub preallocate: bool,
}

/// An open journal.
#[derive(Debug)]
pub struct TestLog {
    pub writer: LogWriter,
    pub segments: Arc<Segments>,
    pub damage: Vec<Damage>,
    pub unclean: bool,
    /// The last event there was when it was opened.
    pub opened_at: u64,
    lock: LockFile,
}

impl TestLog {
    /// Opens as the engine does.
    pub fn open(backend: &Arc<dyn Backend>, setup: Setup) -> Result<Self, OpenFailure> {
        let (root, folder) = (Path::new(ROOT), segments_folder());
        let path = root.join("LOCK");
        let file = match backend.open(&path, OpenMode::Write) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                backend.create_dir_all(&folder)?;
                let file = backend.open(&path, OpenMode::CreateOrOpen)?;
                backend.sync_dir(root)?;
                backend.sync_dir(root.parent().unwrap())?;
                file
            }
            Err(e) => return Err(e.into()),
        };
        assert!(file.try_lock()?, "somebody has the lock");
        backend.create_dir_all(&folder)?;
        let lock = LockFile::new(file);
        let info = lock.read()?;
        let place =
            Place { backend: backend.clone(), segments: folder.clone(), quarantine: root.join("quarantine") };
        let recovered = recover(&place, info.as_ref(), Uuid::from_u128(0x1D), BOOT, 1)?;
        lock.write_head(&recovered.journal, 1, 1)?;
        let options = WriterOptions {
            segment_bytes: setup.segment_bytes,
            preallocate: setup.preallocate,
            boot_id: BOOT,
        };
        let writer = LogWriter::new(backend.clone(), folder.clone(), lock.clone(), &recovered, options)?;
        let segments = Arc::new(Segments::open(backend.clone(), folder, recovered.journal)?);
        Ok(TestLog {
            writer,
            segments,
            opened_at: recovered.last_sequence,
            damage: recovered.damage,
            unclean: recovered.unclean,
            lock,
        })
    }

    pub fn prealloc(&self) -> Arc<Prealloc> {
        self.writer.prealloc()
    }

    pub fn append(&mut self, contents: &[Content], codec: Codec) -> Result<(), AppendError> {
        let mut block = block(self.writer.written() + 1, contents, codec);
        let epoch = self.writer.epoch();
        self.writer.append(&mut block, epoch, 1)?;
        if let Some(first) = self.writer.segment() {
            self.segments.add(first);
        }
        Ok(())
    }

    /// Seals all segments but the last, as an owner does beside its work; tells how many had no seal.
    pub fn seal_finished(&self) -> Result<usize, ReadError> {
        let last_segment = self.segments.firsts().last().copied();
        let mut unsealed = self.segments.unsealed(self.writer.durable())?;
        unsealed.retain(|(first, _)| Some(*first) != last_segment);
        for (first, last) in &unsealed {
            self.segments.seal(*first, *last, 2)?;
        }
        Ok(unsealed.len())
    }

    pub fn view(&self) -> LogView {
        LogView::new(self.segments.clone(), self.writer.durable())
    }

    /// Reads all that is durable and compares; panics at the first difference.
    pub fn assert_holds(&self, model: &[Content], context: &dyn std::fmt::Debug) {
        self.try_holds(model, context).unwrap_or_else(|e| panic!("{context:?}: {e}"));
    }

    /// As `assert_holds`, where reading may fail.
    pub fn try_holds(&self, model: &[Content], context: &dyn std::fmt::Debug) -> Result<(), ReadError> {
        let last = self.writer.durable();
        assert!(last as usize <= model.len(), "{context:?}: {last} events, {} were written", model.len());
        let mut next = 1;
        self.view().read(1, last, &mut |entry| {
            assert_eq!(entry.sequence, next, "{context:?}");
            assert!(model[next as usize - 1].is(entry), "{context:?}: event {next} is another");
            next += 1;
            ControlFlow::Continue(())
        })?;
        assert_eq!(next, last + 1, "{context:?}");
        Ok(())
    }
}

/// Shares a disk the way the engine holds it.
pub fn shared(disk: &MemoryBackend) -> Arc<dyn Backend> {
    Arc::new(disk.clone())
}

/// What LOCK says.
pub fn lock_info(disk: &MemoryBackend) -> Option<LockInfo> {
    let file = disk.open(&Path::new(ROOT).join("LOCK"), OpenMode::Read).ok()?;
    LockFile::new(file).read().unwrap()
}

/// The check without an owner.
pub fn verified(disk: &MemoryBackend, level: VerifyLevel) -> Result<VerifyReport, ReadError> {
    verify(disk, &segments_folder(), lock_info(disk).as_ref(), false, level, &mut |_, _| {})
}
