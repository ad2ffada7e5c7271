//! The journal as its owner has it.

use crate::import::KernelClock;
use crate::report::{Health, Owner, Status, Verification};
use crate::view::View;
use crate::{
    AttachError, CommitError, Damage, Emitter, Error, OpenError, Options, Origin, QueryBuilder, Reader,
    SourceStatus, SyncError, Ticket,
};
use semj_actors::Engine;
use semj_actors::sources::OpenSource;
use semj_storage::backend::RealBackend;
use semj_storage::blobs::{BlobError, Blobs};
use semj_storage::event::{BlobRef, Cause, Recorded, Timestamp};
use semj_storage::query::{EventSource, Graph, WalkLimits};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// An open journal. One process owns it; clones are handles on the same one, usable from any thread.
#[derive(Clone, Debug)]
pub struct Journal(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: Engine,
    blobs: Blobs,
    since: Timestamp,
}

impl Journal {
    /// Opens the journal in `path`, or makes it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Options::default().open(path)
    }

    /// Options to open with.
    pub fn options() -> Options {
        Options::default()
    }

    /// Opens the journal in `path` for reading, beside an owner or without one.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Reader, OpenError> {
        Reader::open(path.as_ref())
    }

    pub(crate) fn open_with(path: &Path, options: Options) -> Result<Self, OpenError> {
        let engine = Engine::open(path, options.0)?;
        let blobs = Blobs::new(Arc::new(RealBackend::new()), engine.layout().blobs());
        let since = Timestamp(jiff::Timestamp::now().as_nanosecond() as i64);
        Ok(Journal(Arc::new(Inner { engine, blobs, since })))
    }

    /// An emitter; events that name neither stream nor agent get `name` for both.
    pub fn emitter(&self, name: &str) -> Emitter {
        self.0.engine.emitter(Some(name))
    }

    /// An emitter that leaves events as they are; those that name neither stream nor agent go to stream `default`.
    pub fn emitter_default(&self) -> Emitter {
        self.0.engine.emitter(None)
    }

    /// Keeps content too large for an event beside the journal, durably. Give the answer to an event as its payload.
    ///
    /// # Errors
    /// [`BlobError`].
    pub fn put_blob(&self, content: &[u8]) -> Result<BlobRef, BlobError> {
        self.0.blobs.put(content)
    }

    /// Content kept beside the journal, checked against its hash.
    ///
    /// # Errors
    /// [`BlobError`].
    pub fn get_blob(&self, blob: &BlobRef) -> Result<Vec<u8>, BlobError> {
        self.0.blobs.get(blob)
    }

    pub(crate) fn view(&self) -> View {
        View { source: Arc::new(self.0.engine.view()), index: Some(self.0.engine.index().clone()) }
    }

    /// A query, to be narrowed down.
    pub fn query(&self) -> QueryBuilder {
        QueryBuilder::new(self.clone())
    }

    /// One event, by sequence or id; `None` when no durable event is it.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn get(&self, event: impl Into<Cause>) -> Result<Option<Recorded>, Error> {
        self.view().get(event.into())
    }

    /// What led to an event: its causes, their causes, and so on.
    ///
    /// # Errors
    /// [`Error::NoSuchEvent`], or what reading can bring.
    pub fn why(&self, event: impl Into<Cause>) -> Result<Graph, Error> {
        self.view().why(event.into(), WalkLimits::default())
    }

    /// What came of an event: its consequences, their consequences, and so on.
    ///
    /// # Errors
    /// [`Error::NoSuchEvent`], or what reading can bring.
    pub fn impact(&self, event: impl Into<Cause>) -> Result<Graph, Error> {
        self.view().impact(event.into(), WalkLimits::default())
    }

    /// A ticket of everything admitted so far; `None` when nothing was.
    pub(crate) fn last_admitted(&self) -> Option<Ticket> {
        self.0.engine.last_admitted()
    }

    /// Copies damaged bytes to quarantine and writes the lost range into the record.
    pub(crate) fn set_damage_aside(&self, damage: &Damage) -> Result<PathBuf, Error> {
        Ok(self.0.engine.set_damage_aside(damage)?)
    }

    /// Attaches a kernel source: from now on its records are journaled, each once, behind what was journaled of it before.
    /// They carry the source's name as their `source`. Whether it can be had is told by [`Journal::sync_status`].
    ///
    /// # Errors
    /// [`AttachError`].
    pub fn attach(&self, source: impl OpenSource + 'static) -> Result<(), AttachError> {
        self.0.engine.attach(Box::new(source))
    }

    /// The state of each kernel source: how far it is behind, what was lost, how the clocks drift.
    pub fn sync_status(&self) -> Vec<SourceStatus> {
        self.0.engine.sync_status()
    }

    /// Waits until all that the kernel sources had before now is durable; answers the last event of it, 0 where there was
    /// none.
    ///
    /// # Errors
    /// [`SyncError`]; whatever it is, events are written all the same.
    pub fn sync_now(&self, within: Duration) -> Result<u64, SyncError> {
        self.0.engine.sync_now(within)
    }

    /// The clock of a boot, by the readings that kernel sources brought of it: for [`crate::import::KernelEvents`]. It reads
    /// the whole record.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn kernel_clock(&self, boot_id: Uuid) -> Result<KernelClock, Error> {
        Ok(KernelClock::of_anchors(&self.0.engine.clock_anchors(boot_id)?))
    }

    /// The event that a kernel source's sequence became: in its newest life, or in the one of this boot and incarnation.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn event_of(
        &self,
        source: &str,
        life: Option<(Uuid, u64)>,
        source_sequence: u64,
    ) -> Result<Option<Origin>, Error> {
        Ok(self.0.engine.event_of(source, life, source_sequence)?)
    }

    /// Which kernel source a durable event comes from, and its sequence there; `None` where it is no record of one.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn origin_of(&self, sequence: u64) -> Result<Option<Origin>, Error> {
        Ok(self.0.engine.origin_of(sequence)?)
    }

    /// How far everything is.
    pub fn status(&self) -> Status {
        let engine = self.0.engine.status();
        let view = self.0.engine.view();
        let layout = self.0.engine.layout();
        let (segments, bytes) = crate::report::measure(&layout.segments());
        Status {
            events: (view.last_sequence() + 1).saturating_sub(view.first_sequence()),
            first_sequence: if view.last_sequence() == 0 { 0 } else { view.first_sequence() },
            durable_sequence: view.last_sequence(),
            indexed_sequence: self.0.engine.index().indexed_sequence().min(view.last_sequence()),
            bytes,
            segments,
            state: crate::report::state_of(&engine),
            health: Health::of_engine(&engine),
            owner: Some(Owner { pid: std::process::id(), since: self.0.since }),
            engine: Some(engine),
        }
    }

    /// Checks every byte of the durable record.
    ///
    /// # Errors
    /// When files cannot be read at all.
    pub fn verify(&self) -> Result<Verification, Error> {
        let reader = Reader::open(&self.0.engine.layout().root)?;
        reader.verify(crate::VerifyLevel::Full)
    }

    /// Commits everything admitted within `within` and ends cleanly. Other handles are closed with it.
    ///
    /// # Errors
    /// [`CommitError`] tells what was not managed; the journal is closed all the same.
    pub fn close(&self, within: Duration) -> Result<(), CommitError> {
        self.0.engine.close(within)
    }
}
