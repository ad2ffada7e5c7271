//! What the models share: a ledger and a whole pipeline on files in memory, with a clock that stands still.

use crossbeam_channel::Receiver;
use semj_actors::clock::Clock;
use semj_actors::ledger::{IdIndex, Ledger, Prepared, Refused, Streams};
use semj_actors::model::ticket;
use semj_actors::watermark::Watermark;
use semj_actors::{Cutting, Pipeline, Record, Ticket};
use semj_storage::backend::{Backend, DirectoryRule, MemoryBackend, OpenMode};
use semj_storage::event::Event;
use semj_storage::log::{Codec, LockFile, LogWriter, Place, Segments, WriterOptions, recover};
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Waker;
use uuid::Uuid;

/// How many interleavings each model sees, twice; `SEMJ_SCHEDULES` in the environment asks for more.
const SCHEDULES: usize = 2_000;
/// At how many steps a thread that would run on is stopped.
const STOPS: usize = 3;

/// Runs a model: with every step left to chance, then with threads that run on and are stopped at a few steps only,
/// which reaches deeper. What fails is printed as a schedule for `shuttle::replay`.
pub fn check(model: fn()) {
    let schedules = std::env::var("SEMJ_SCHEDULES").ok().and_then(|n| n.parse().ok()).unwrap_or(SCHEDULES);
    shuttle::check_random(model, schedules);
    shuttle::check_pct(model, schedules, STOPS);
}

/// A ledger over an empty record.
pub fn ledger() -> Arc<Ledger> {
    let backend: Arc<dyn Backend> = Arc::new(MemoryBackend::new(DirectoryRule::Strict));
    backend.create_dir_all("segments".as_ref()).unwrap();
    let segments = Arc::new(Segments::open(backend, "segments".into(), Uuid::nil()).unwrap());
    Arc::new(Ledger::new(0, IdIndex::new(segments.clone(), 0), Streams::new(segments, 0)))
}

/// Admits a group; its first sequence.
pub fn admit(ledger: &Ledger, events: &[Event<'_>]) -> u64 {
    try_admit(ledger, events).unwrap()
}

/// Admits a group, or tells why not.
pub fn try_admit(ledger: &Ledger, events: &[Event<'_>]) -> Result<u64, Refused> {
    let mut prepared = Prepared::default();
    for event in events {
        let slot = ledger.streams().slot(event.stream_or_default()).unwrap();
        prepared.add(event, slot).unwrap();
    }
    ledger.admit(&prepared, 1, 0, &[]).map(|admitted| admitted.first)
}

/// Nothing is ever old enough to be cut for its age alone.
#[derive(Debug)]
struct StandingClock;

impl Clock for StandingClock {
    fn boot_ns(&self) -> i64 {
        1
    }
    fn wall_ns(&self) -> i64 {
        1
    }
    fn boot_id(&self) -> Uuid {
        Uuid::from_u128(0xB0)
    }
}

/// A pipeline without lanes.
#[derive(Clone)]
pub struct World {
    pub pipeline: Arc<Pipeline>,
    wakers: Receiver<Vec<Waker>>,
}

impl World {
    pub fn new() -> Self {
        let backend: Arc<dyn Backend> = Arc::new(MemoryBackend::new(DirectoryRule::Strict));
        let (root, folder) = (PathBuf::from("/journal"), PathBuf::from("/journal/segments"));
        backend.create_dir_all(&folder).unwrap();
        let lock = LockFile::new(backend.open(&root.join("LOCK"), OpenMode::CreateOrOpen).unwrap());
        let place =
            Place { backend: backend.clone(), segments: folder.clone(), quarantine: root.join("quarantine") };
        let clock = StandingClock;
        let recovered = recover(&place, None, Uuid::from_u128(1), clock.boot_id(), clock.wall_ns()).unwrap();
        lock.write_head(&recovered.journal, 1, clock.wall_ns()).unwrap();
        let options = WriterOptions { segment_bytes: 1 << 20, preallocate: false, boot_id: clock.boot_id() };
        let writer =
            LogWriter::new(backend.clone(), folder.clone(), lock.clone(), &recovered, options.clone())
                .unwrap();
        let record = Record { place, lock, writer: options };
        let segments = Arc::new(Segments::open(backend, folder, recovered.journal).unwrap());
        let ledger = Ledger::new(0, IdIndex::new(segments.clone(), 0), Streams::new(segments.clone(), 0));
        let (wake, wakers) = crossbeam_channel::unbounded();
        let cutting = Cutting {
            max_age_ns: i64::MAX,
            batch_bytes: usize::MAX,
            batch_events: usize::MAX,
            codec: Codec::None,
        };
        let watermark = Watermark::new(0, wake);
        let pipeline =
            Pipeline::new(ledger, watermark, Arc::new(clock), segments, (record, writer), cutting, 7);
        World { pipeline: Arc::new(pipeline), wakers }
    }

    pub fn watermark(&self) -> &Watermark {
        self.pipeline.watermark()
    }

    /// A ticket of one event, whether it was admitted or not.
    pub fn ticket(&self, sequence: u64) -> Ticket {
        ticket(&self.pipeline, sequence, sequence)
    }

    /// Has the tasks woken that were handed out so far: by another thread and some time later, as in the engine.
    pub fn wake_tasks(&self) {
        let wakers = self.wakers.clone();
        shuttle::thread::spawn(move || wakers.try_iter().flatten().for_each(Waker::wake));
    }
}
