//! Every option of the engine, with default, unit and limit.

use crate::cores::kernel::SyncLimits;
use crate::sources::OpenSource;
use crate::supervision::{RestartLimits, WatchLimits};
use parking_lot::Mutex;
use semj_storage::event::Event;
use semj_storage::limits::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX, SEGMENT_BYTES};
use semj_storage::log::Codec;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Looks at every event before it is admitted, e.g. to take secrets out.
pub type Scrub = Arc<dyn Fn(&mut Event<'_>) + Send + Sync>;

/// How an engine is set up.
#[derive(Clone)]
pub struct EngineOptions {
    /// Make the journal when there is none. Default: yes.
    pub create: bool,
    /// How long to wait for another owner to close it. Default: not at all.
    pub lock_wait: Duration,
    /// Longest time an event waits before it is committed, even if nobody waits for it: 1 ms to 10 s. Default: 5 ms.
    pub max_age: Duration,
    /// A batch is cut at this many bytes: 4 KiB to 4 MiB. Default: 1 MiB.
    pub batch_bytes: usize,
    /// A batch is cut at this many events: 1 to 8,192. Default: 4,096.
    pub batch_events: usize,
    /// Size of a segment, in bytes: 1 MiB to 1 GiB. Default: 64 MiB.
    pub segment_bytes: u64,
    /// Zero-fill space ahead of the tail. Default: yes.
    pub preallocate: bool,
    /// How block bodies are stored. Default: plain.
    pub codec: Codec,
    /// How often actors may be restarted. Default: 5 in 10 s.
    pub restarts: RestartLimits,
    /// When an actor counts as hanging. Default: after 5 s; the disk as stalled after 1 s.
    pub watch: WatchLimits,
    /// Looks at every event before it is admitted. Default: nothing does.
    pub scrub: Option<Scrub>,
    /// When a kernel source is behind, and how often it is looked at. Default: 100,000 records or 10 s, for 3 s.
    pub sync: SyncLimits,
    /// Kernel sources to attach. Default: none.
    pub sources: Sources,
}

/// Kernel sources that are attached when the journal is opened: by the first that is opened with these options.
#[derive(Clone, Debug, Default)]
pub struct Sources(Arc<Mutex<Vec<Box<dyn OpenSource>>>>);

impl Sources {
    /// Adds one.
    pub fn add(&self, source: Box<dyn OpenSource>) {
        self.0.lock().push(source);
    }

    pub(crate) fn take(&self) -> Vec<Box<dyn OpenSource>> {
        std::mem::take(&mut *self.0.lock())
    }
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            create: true,
            lock_wait: Duration::ZERO,
            max_age: Duration::from_millis(5),
            batch_bytes: 1 << 20,
            batch_events: 4_096,
            segment_bytes: SEGMENT_BYTES,
            preallocate: true,
            codec: Codec::None,
            restarts: RestartLimits::default(),
            watch: WatchLimits::default(),
            scrub: None,
            sync: SyncLimits::default(),
            sources: Sources::default(),
        }
    }
}

const _: () = assert!(1 << 20 <= BATCH_BYTES_MAX && 4_096 <= BATCH_EVENTS_MAX);

impl fmt::Debug for EngineOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineOptions")
            .field("max_age", &self.max_age)
            .field("batch_bytes", &self.batch_bytes)
            .field("segment_bytes", &self.segment_bytes)
            .field("codec", &self.codec)
            .finish_non_exhaustive()
    }
}
