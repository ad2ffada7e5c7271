//! Reading beside the owner, or without one: the record only, no lock taken, nothing changed.

use crate::report::{Health, Owner, Status, Verification, measure, state_of_owner};
use crate::view::{Events, View};
use crate::{Error, OpenError};
use semj_actors::Layout;
use semj_storage::backend::{Backend, OpenMode, RealBackend};
use semj_storage::blobs::Blobs;
use semj_storage::error::{Damage, ReadError};
use semj_storage::event::{BlobRef, Cause, Recorded, Timestamp};
use semj_storage::limits::CHUNK_EVENTS;
use semj_storage::log::{LockFile, LockInfo, LogView, Origin, Segments, Standing, inspect};
use semj_storage::query::{EventSource, Graph, Query, WalkLimits};
use semj_storage::verify::{VerifyLevel, verify};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use uuid::Uuid;

/// A journal open for reading. With a live owner it shows what is durable; without one, what the next owner would find.
#[derive(Clone, Debug)]
pub struct Reader {
    backend: Arc<dyn Backend>,
    layout: Arc<Layout>,
    known: Arc<Mutex<Option<Known>>>,
}

/// Looks at a journal that is being opened before it is given up.
const LOOKS_MAX: u32 = 10;

/// What was found at the last look, and what that look depended on.
#[derive(Clone, Debug)]
struct Known {
    stamp: Stamp,
    segments: Option<Arc<Segments>>,
    last: u64,
    damage: Vec<Damage>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stamp {
    owned: bool,
    lock: Option<LockInfo>,
    /// Number and size of the segments, where no owner tells.
    size: (u64, u64),
}

impl Reader {
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let layout = Layout { root: path.to_owned() };
        let backend: Arc<dyn Backend> = Arc::new(RealBackend::new());
        let io = |path: &Path, action| {
            let path = path.to_owned();
            move |source: std::io::Error| match source.kind() {
                std::io::ErrorKind::NotFound => OpenError::Missing { path: layout_root(&path) },
                _ => OpenError::Io { path, action, source },
            }
        };
        let names = backend.list(path).map_err(io(&path.join("LOCK"), "read"))?;
        if !names.iter().any(|n| n == "LOCK" || n == "segments") {
            return Err(OpenError::Missing { path: path.to_owned() });
        }
        let reader = Reader { backend, layout: Arc::new(layout), known: Arc::default() };
        reader.look().map_err(|e| match e {
            Error::Open(e) => e,
            Error::Read(e) => OpenError::Read(e),
            other => OpenError::Io {
                path: path.to_owned(),
                action: "read",
                source: std::io::Error::other(other.to_string()),
            },
        })?;
        Ok(reader)
    }

    fn lock(&self) -> Result<(Option<LockInfo>, bool), Error> {
        let path = self.layout.lock();
        match self.backend.open(&path, OpenMode::Read) {
            Ok(file) => {
                let owned =
                    file.is_locked_elsewhere().map_err(|e| ReadError::io(&path, "look at the lock", e))?;
                let info = LockFile::new(file).read().map_err(|e| ReadError::io(&path, "read", e))?;
                Ok((info, owned))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok((None, false)),
            Err(e) => Err(ReadError::io(&path, "open", e).into()),
        }
    }

    /// How far it may be read now.
    fn look(&self) -> Result<Known, Error> {
        for _ in 1..LOOKS_MAX {
            let found = self.look_once();
            // Without an owner nothing moves, and beside one only what is durable is looked at; between the two an
            // owner's recovery takes away what was about to be read.
            let is_sound = found.as_ref().is_ok_and(|known| known.damage.is_empty());
            if is_sound || !self.lock().is_ok_and(|(_, owned)| owned) {
                return found;
            }
        }
        self.look_once()
    }

    fn look_once(&self) -> Result<Known, Error> {
        let (lock, owned) = self.lock()?;
        let folder = self.layout.segments();
        let size = if owned { (0, 0) } else { measure(&folder) };
        let stamp = Stamp { owned, lock, size };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.as_ref().filter(|k| k.stamp == stamp) {
            return Ok(found.clone());
        }
        let watermark = lock.filter(|_| owned).and_then(|l| l.watermark);
        let (journal, last, damage) = match (lock, watermark) {
            (Some(lock), Some(w)) => (Some(lock.journal), w.durable, Vec::new()),
            _ => {
                let found = inspect(self.backend.as_ref(), &folder, lock.as_ref())?;
                (found.journal, found.last_sequence, found.damage)
            }
        };
        let before = known.as_ref().filter(|k| k.stamp.owned && owned).and_then(|k| k.segments.clone());
        let segments = match (before, journal) {
            // While the same owner writes, what is remembered of the segments stays true.
            (Some(segments), Some(journal)) if segments.journal() == journal => {
                let newest = segments.firsts().last().copied().unwrap_or(0);
                if watermark.is_some_and(|w| w.segment > newest) {
                    segments.refresh()?;
                }
                Some(segments)
            }
            (_, Some(journal)) if last > 0 => {
                Some(Arc::new(Segments::open(self.backend.clone(), folder, journal)?))
            }
            _ => None,
        };
        let found = Known { stamp, segments, last, damage };
        *known = Some(found.clone());
        Ok(found)
    }

    fn view(&self) -> Result<View, Error> {
        let known = self.look()?;
        let source: Arc<dyn EventSource> = match known.segments {
            Some(segments) => Arc::new(LogView::new(segments, known.last)),
            None => Arc::new(Nothing),
        };
        Ok(View { source, index: None })
    }

    /// The last event that may be read.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn durable_sequence(&self) -> Result<u64, Error> {
        Ok(self.look()?.last)
    }

    /// Runs a query over all that is durable now.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn run(&self, query: Query) -> Result<Events, Error> {
        Ok(self.view()?.run(query))
    }

    /// How many events match, whatever the limit.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn count(&self, query: Query) -> Result<u64, Error> {
        self.view()?.count(query)
    }

    /// One event, by sequence or id.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn get(&self, event: impl Into<Cause>) -> Result<Option<Recorded>, Error> {
        self.view()?.get(event.into())
    }

    /// What led to an event.
    ///
    /// # Errors
    /// [`Error::NoSuchEvent`], or what reading can bring.
    pub fn why(&self, event: impl Into<Cause>, limits: WalkLimits) -> Result<Graph, Error> {
        self.view()?.why(event.into(), limits)
    }

    /// What came of an event.
    ///
    /// # Errors
    /// [`Error::NoSuchEvent`], or what reading can bring.
    pub fn impact(&self, event: impl Into<Cause>, limits: WalkLimits) -> Result<Graph, Error> {
        self.view()?.impact(event.into(), limits)
    }

    /// Where each kernel source stands that the journal knows, by name: how far it is accounted for, what was lost, up to
    /// when nothing is missing, and how the clocks moved.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn sources(&self) -> Result<Vec<Standing>, Error> {
        let known = self.look()?;
        Ok(known.segments.map_or_else(|| Ok(Vec::new()), |segments| segments.standings(known.last))?)
    }

    /// The event that a kernel source's sequence became: in its newest life, or in the one of this boot and incarnation.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn event_of(
        &self,
        source: &str,
        life: Option<(Uuid, u64)>,
        source_sequence: u64,
    ) -> Result<Option<Origin>, Error> {
        let known = self.look()?;
        let Some(segments) = known.segments else { return Ok(None) };
        Ok(segments.event_of(source, life, source_sequence, known.last)?)
    }

    /// Which kernel source an event comes from, and its sequence there; `None` where it is no record of one.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn origin_of(&self, sequence: u64) -> Result<Option<Origin>, Error> {
        let known = self.look()?;
        match known.segments.filter(|_| (1..=known.last).contains(&sequence)) {
            Some(segments) => Ok(segments.origin_of(sequence)?),
            None => Ok(None),
        }
    }

    /// Content kept beside the journal, checked against its hash.
    ///
    /// # Errors
    /// [`crate::BlobError`].
    pub fn get_blob(&self, blob: &BlobRef) -> Result<Vec<u8>, Error> {
        Ok(Blobs::new(self.backend.clone(), self.layout.blobs()).get(blob)?)
    }

    /// How far everything is.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn status(&self) -> Result<Status, Error> {
        let known = self.look()?;
        let Stamp { owned, lock, .. } = known.stamp;
        let (segments, bytes) = measure(&self.layout.segments());
        let state = match lock.and_then(|l| l.watermark) {
            Some(_) if owned && lock.is_some_and(|l| l.stalled_since_ns.is_some()) => "stalled",
            Some(w) if owned => state_of_owner(w.state),
            _ if owned => "open",
            _ if !known.damage.is_empty() => "degraded",
            _ => "idle",
        };
        Ok(Status {
            events: known.last,
            first_sequence: known.last.min(1),
            durable_sequence: known.last,
            indexed_sequence: lock.map_or(0, |l| l.indexed.min(known.last)),
            bytes,
            segments,
            state,
            health: lock.filter(|_| owned).map_or_else(Health::default, |l| Health::of_lock(&l)),
            owner: lock.filter(|_| owned).map(|l| Owner { pid: l.pid, since: Timestamp(l.since_ns) }),
            engine: None,
        })
    }

    /// Checks the record.
    ///
    /// # Errors
    /// When files cannot be read at all, or are of a newer format.
    pub fn verify(&self, level: VerifyLevel) -> Result<Verification, Error> {
        self.verify_with(level, &mut |_, _| {})
    }

    /// As [`Reader::verify`]; `progress` is told how many bytes of how many were looked at.
    ///
    /// # Errors
    /// As [`Reader::verify`].
    pub fn verify_with(
        &self,
        level: VerifyLevel,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Verification, Error> {
        let folder = self.layout.segments();
        let mut looks = 1;
        let (lock, report) = loop {
            let (lock, owned) = self.lock()?;
            let report = verify(self.backend.as_ref(), &folder, lock.as_ref(), owned, level, progress);
            let is_sound = report.as_ref().is_ok_and(|report| report.intact);
            // An owner that opened it meanwhile has changed what was being looked at.
            let owner = |lock: Option<LockInfo>, owned| (owned, lock.map(|l| (l.pid, l.since_ns)));
            let (lock_now, owned_now) = self.lock()?;
            if is_sound || looks == LOOKS_MAX || owner(lock_now, owned_now) == owner(lock, owned) {
                break (lock, report?);
            }
            looks += 1;
        };
        // Only whole chunks are in the trees; what lies behind the last one is always scanned.
        let complete = report.head_sequence / CHUNK_EVENTS * CHUNK_EVENTS;
        let trees = if complete == 0 {
            "ok"
        } else if self.backend.list(&self.layout.trees()).is_err() {
            "missing"
        } else if lock.is_some_and(|l| l.indexed >= complete) {
            "ok"
        } else {
            "stale"
        };
        Ok(Verification { record: report, trees })
    }
}

/// The folder of a file in the journal's root.
fn layout_root(path: &Path) -> std::path::PathBuf {
    path.parent().unwrap_or(path).to_owned()
}

/// A journal without any event.
struct Nothing;

impl EventSource for Nothing {
    fn first_sequence(&self) -> u64 {
        1
    }
    fn last_sequence(&self) -> u64 {
        0
    }
    fn blocks(&self, _: u64, _: u64) -> Result<Vec<semj_storage::query::BlockSummary>, ReadError> {
        Ok(Vec::new())
    }
    fn read(
        &self,
        _: u64,
        _: u64,
        _: &mut dyn FnMut(&semj_storage::log::entry::EntryRef<'_>) -> std::ops::ControlFlow<()>,
    ) -> Result<(), ReadError> {
        Ok(())
    }
    fn find_id(&self, _: &Uuid) -> Result<Option<u64>, ReadError> {
        Ok(None)
    }
}
