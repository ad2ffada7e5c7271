//! A run: what an epoch of the pipeline works with, and what is thrown away when one of its actors crashes.

use crate::cores::IngestCore;
use crate::sync::{AtomicBool, AtomicUsize, Mutex, Ordering};
use semj_storage::log::{LogWriter, Prealloc};
use std::sync::Arc;

/// One run. Messages carry its epoch; those of another run are void.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) epoch: u64,
    /// Whoever holds the lock cuts from the ledger. Nobody waits for it: its holder may hang.
    pub(crate) ingest: Mutex<IngestCore>,
    /// Empty once the run is over: its successor took the writer, or opened the record anew.
    pub(crate) writer: Mutex<Option<LogWriter>>,
    pub(crate) prealloc: Arc<Prealloc>,
    in_flight: AtomicUsize,
    fenced: AtomicBool,
}

impl Run {
    /// A run that goes on behind the writer's last event, in the writer's epoch.
    pub(crate) fn new(writer: LogWriter) -> Self {
        Run {
            epoch: writer.epoch(),
            ingest: Mutex::new(IngestCore::new(writer.written())),
            prealloc: writer.prealloc(),
            writer: Mutex::new(Some(writer)),
            in_flight: AtomicUsize::new(0),
            fenced: AtomicBool::new(false),
        }
    }

    /// Batches under way between ingest and the disk.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// One more is under way.
    pub(crate) fn sent(&self) {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
    }

    /// One came through.
    pub(crate) fn arrived(&self) {
        let down = |n: usize| Some(n.saturating_sub(1));
        let _ = self.in_flight.fetch_update(Ordering::SeqCst, Ordering::SeqCst, down);
    }

    /// The persister of this run was fenced: whatever it holds stays with its thread.
    pub(crate) fn fence(&self) {
        self.fenced.store(true, Ordering::SeqCst);
    }

    /// Whether its persister was fenced.
    pub(crate) fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::SeqCst)
    }
}
