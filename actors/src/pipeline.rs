//! What all lanes share and what outlives every actor: ledger, watermark, the current run, bells.

use crate::clock::Clock;
use crate::cores::{BatcherCore, IngestCore, Isolation, LogicalClock, Span, Stamp};
use crate::error::CommitError;
use crate::ledger::{Chunk, Ledger, Prepared};
use crate::mail::Bell;
use crate::messages::{BatchRange, CommitBatch};
use crate::refusals::Refusals;
use crate::resolver::Resolver;
use crate::restart::RefusalRate;
use crate::run::Run;
use crate::sealer::Sealer;
use crate::shed::Shed;
use crate::supervision::{Progress, Role};
use crate::sync::{Mutex, RwLock};
use crate::watermark::Watermark;
use semj_storage::error::{Damage, ReadError};
use semj_storage::event::{Event, ResolvedCause};
use semj_storage::log::entry::UnitInfo;
use semj_storage::log::{Codec, LockFile, LogWriter, Place, Prealloc, Segments, WriterOptions};
use semj_storage::plant::{Bug, planted};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Batches under way between ingest and the disk. More would only make the one in front wait longer.
const IN_FLIGHT_MAX: usize = 2;
/// What the short way takes at most: larger amounts are packed on the control lane while the disk is busy.
const SHORT_WAY_EVENTS: usize = 1_024;

/// How batches are cut.
#[derive(Clone, Copy, Debug)]
pub struct Cutting {
    /// A batch is cut when its oldest event is this old, ns.
    pub max_age_ns: i64,
    /// A batch is cut at this many bytes.
    pub batch_bytes: usize,
    /// A batch is cut at this many events.
    pub batch_events: usize,
    /// How block bodies are stored.
    pub codec: Codec,
}

/// The doorbells.
#[derive(Debug, Default)]
pub struct Bells {
    /// Look at the ledger.
    pub ingest: Bell,
    /// Somebody waits.
    pub persist: Bell,
    /// More is durable.
    pub index: Bell,
    /// A source may have something.
    pub sync: Bell,
}

/// Where the record lies, for whoever must recover it.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its folders.
    pub place: Place,
    /// Owner and watermark.
    pub lock: LockFile,
    /// How a writer is set up.
    pub writer: WriterOptions,
}

/// See the module.
#[derive(Debug)]
pub struct Pipeline {
    pub(crate) ledger: Ledger,
    pub(crate) watermark: Watermark,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) segments: Arc<Segments>,
    pub(crate) record: Record,
    pub(crate) run: RwLock<Arc<Run>>,
    /// One restart at a time.
    pub(crate) restarting: Mutex<()>,
    /// What each role is working on, for the inquest.
    hands: [Mutex<Option<Span>>; Role::ALL.len()],
    pub(crate) isolation: Mutex<Isolation>,
    pub(crate) refusals: Refusals,
    pub(crate) refusal_rate: Mutex<RefusalRate>,
    /// It outlives every run: a restart must not take it back.
    pub(crate) logical: Mutex<LogicalClock>,
    pub(crate) damage: Mutex<Vec<Damage>>,
    cutting: Cutting,
    pub(crate) info: UnitInfo,
    pub(crate) opened_at: u64,
    shed: Shed,
    pub(crate) sealer: Sealer,
    /// The doorbells.
    pub bells: Bells,
    /// The process that opened the journal.
    pub pid: u32,
}

/// What the ledger gives up next.
struct Cut {
    chunk: Arc<Chunk>,
    causes: Arc<[ResolvedCause]>,
    refused: Option<Arc<str>>,
}

impl Pipeline {
    /// A pipeline that goes on behind the writer's last event.
    pub fn new(
        ledger: Ledger,
        watermark: Watermark,
        clock: Arc<dyn Clock>,
        segments: Arc<Segments>,
        (record, writer): (Record, LogWriter),
        cutting: Cutting,
        id_nonce: u64,
    ) -> Self {
        let last = writer.written();
        let info = UnitInfo { id_nonce, boot_id: clock.boot_id(), ..UnitInfo::default() };
        Pipeline {
            ledger,
            watermark,
            clock,
            segments,
            record,
            run: RwLock::new(Arc::new(Run::new(writer))),
            restarting: Mutex::new(()),
            hands: Default::default(),
            isolation: Mutex::default(),
            refusals: Refusals::default(),
            refusal_rate: Mutex::default(),
            logical: Mutex::default(),
            damage: Mutex::default(),
            cutting,
            info,
            opened_at: last,
            shed: Shed::default(),
            sealer: Sealer::default(),
            bells: Bells::default(),
            pid: std::process::id(),
        }
    }

    /// The logical clock goes on behind what the record shows: it never stamps below an earlier opening.
    pub(crate) fn resume_clock(&self, newest: Option<(u64, u16)>) {
        if let Some(newest) = newest {
            *self.logical.lock() = LogicalClock::after(newest);
        }
    }

    /// The ledger.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The watermark.
    pub fn watermark(&self) -> &Watermark {
        &self.watermark
    }

    /// The clocks.
    pub fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    /// The segments, for reading.
    pub fn segments(&self) -> &Arc<Segments> {
        &self.segments
    }

    /// The current run.
    pub(crate) fn run(&self) -> Arc<Run> {
        self.run.read().clone()
    }

    /// Looks at the writing end, or closes it; `None` when it cannot be had within `patience`.
    pub(crate) fn with_writer<T>(
        &self,
        patience: Duration,
        look: impl FnOnce(&mut LogWriter) -> T,
    ) -> Option<T> {
        self.run().writer.try_lock_for(patience)?.as_mut().map(look)
    }

    /// The space ahead of the tail.
    pub fn prealloc(&self) -> Arc<Prealloc> {
        self.run().prealloc.clone()
    }

    /// Events shed for want of room.
    pub fn shed(&self) -> &Shed {
        &self.shed
    }

    /// Finished segments that wait for their seal.
    pub fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// Makes events of what the engine has to say itself, as far as there is room for them.
    pub fn tell_own(&self) {
        if let Some(shedding) = self.shed.take()
            && !self.emit_own(&shedding.event(), None)
        {
            self.shed.put_back(shedding);
        }
        if let Some(refusal) = self.refusals.take()
            && !self.emit_own(&refusal.event(), None)
        {
            self.refusals.put_back(refusal);
        }
    }

    /// Admits an event of the engine's own, with a control record where there is one, if there is room.
    pub(crate) fn emit_own(&self, event: &Event<'_>, control: Option<(u16, Vec<u8>)>) -> bool {
        let mut prepared = Prepared::default();
        prepared.set_engine();
        if let Some((kind, bytes)) = control {
            prepared.control(kind, &bytes);
        }
        self.ledger
            .streams()
            .slot(event.stream_or_default())
            .is_ok_and(|slot| prepared.add(event, slot).is_ok())
            && self.ledger.admit(&prepared, self.clock.boot_ns(), self.watermark.durable(), &[]).is_ok()
    }

    /// How batches are cut.
    pub fn cutting(&self) -> &Cutting {
        &self.cutting
    }

    /// The id of an event of this opening whose caller gave none.
    pub fn derived_id(&self, sequence: u64) -> Uuid {
        self.info.derived_id(sequence)
    }

    /// Which run messages must belong to.
    pub fn epoch(&self) -> u64 {
        self.run.read().epoch
    }

    /// Damage found when the record was opened, also anew by a restart.
    pub fn damage(&self) -> Vec<Damage> {
        self.damage.lock().clone()
    }

    /// A fork of the owner has none of its lanes: whoever waits there would wait for ever.
    pub(crate) fn check_fork(&self) -> Result<(), CommitError> {
        if std::process::id() == self.pid { Ok(()) } else { Err(CommitError::Closed) }
    }

    /// Somebody waits for this event.
    pub fn want(&self, sequence: u64) {
        self.ledger.want(sequence);
        self.bells.persist.ring();
    }

    /// An event was admitted: wake the lanes if they sleep, and at once if it is critical.
    #[inline]
    pub fn admitted(&self, critical: bool) {
        if critical {
            self.ledger.set_urgent();
            self.ledger.set_parked(false);
            self.bells.ingest.ring();
        } else if self.ledger.is_parked() && self.ledger.claim_wake() {
            self.bells.ingest.ring();
        }
    }

    /// Notes what a role begins to work on: should it crash, this is the suspect.
    fn take_in_hand(&self, role: Role, chunk: &Chunk) {
        self.hold(role, Some(Span { first: chunk.first_sequence, last: chunk.last_sequence() }));
    }

    pub(crate) fn hold(&self, role: Role, span: Option<Span>) {
        if cfg!(feature = "unsupervised") {
            return;
        }
        if let Some(hand) = self.hands.get(role.index()) {
            *hand.lock() = span;
        }
    }

    /// What a role was working on when it died.
    pub(crate) fn take_from_hand(&self, role: Role) -> Option<Span> {
        self.hands.get(role.index())?.lock().take()
    }

    /// Whether a batch should be cut now.
    fn should_cut(&self, ingest: &IngestCore) -> bool {
        let pending = self.ledger.pending();
        pending.sealed > 0 && ingest.cursor() + 1 < pending.open_first
            || pending.open_events > 0
                && (pending.open_events >= self.cutting.batch_events
                    || pending.open_bytes >= self.cutting.batch_bytes
                    || self.clock.boot_ns() - pending.open_since_ns >= self.cutting.max_age_ns
                    || self.ledger.wanted() >= pending.open_first
                    || self.ledger.take_urgent())
    }

    /// The current run, for an incarnation that was not replaced. One that is replaced later holds a run that is over
    /// then: whatever it takes from it is void, and nothing is missing in its successor's.
    fn run_of(&self, progress: &Progress) -> Option<Arc<Run>> {
        let run = self.run();
        (progress.tick() || planted(Bug::LateIncarnationActs)).then_some(run)
    }

    /// The next range for the batcher, when one should be cut and there is room behind it.
    ///
    /// # Errors
    /// When the record cannot be read to resolve a cause.
    pub fn next_range(&self, role: Role, progress: &Progress) -> Result<Option<BatchRange>, ReadError> {
        let Some(run) = self.run_of(progress) else { return Ok(None) };
        if run.in_flight() >= IN_FLIGHT_MAX || self.watermark.poison().is_some() {
            return Ok(None);
        }
        // Whoever holds it is at it already, and rings when it is done.
        let Some(mut ingest) = run.ingest.try_lock() else { return Ok(None) };
        if !self.should_cut(&ingest) {
            return Ok(None);
        }
        let Some(Cut { chunk, causes, refused }) = self.cut(role, &mut ingest)? else { return Ok(None) };
        run.sent();
        Ok(Some(BatchRange { epoch: run.epoch, chunk, causes, refused }))
    }

    fn cut(&self, role: Role, ingest: &mut IngestCore) -> Result<Option<Cut>, ReadError> {
        let next = ingest.cursor() + 1;
        let chunk = match self.ledger.sealed_after(next - 1) {
            Some(chunk) => chunk,
            None => {
                self.ledger.seal();
                let Some(chunk) = self.ledger.sealed_after(next - 1) else { return Ok(None) };
                chunk
            }
        };
        let (limit, refused) = {
            let isolation = self.isolation.lock();
            (isolation.limit(), isolation.refused(next).map(Arc::from))
        };
        let last = match limit {
            // The suspect goes alone: what is behind it waits for its end.
            Some(limit) if limit < next => return Ok(None),
            Some(limit) => limit.min(chunk.last_sequence()),
            None => chunk.last_sequence(),
        };
        let whole_last = chunk.last_sequence();
        let chunk = if chunk.first_sequence == next && chunk.last_sequence() == last {
            chunk
        } else {
            Arc::new(chunk.part(next..=last))
        };
        let chunk = match &refused {
            Some(_) => Arc::new(chunk.as_ref().clone().without_causes()),
            None => chunk,
        };
        self.take_in_hand(role, &chunk);
        crate::chaos::point("ingest:resolve");
        crate::chaos::swallow("ingest", if refused.is_some() { &[] } else { &chunk.bytes });
        let causes = ingest.step(&chunk, &Resolver(self))?;
        if planted(Bug::HalvingDropsRest) {
            *ingest = IngestCore::new(whole_last);
        }
        self.hold(role, None);
        Ok(Some(Cut { chunk, causes: causes.into(), refused }))
    }

    /// Packs a range; `None` when it belongs to another run.
    pub fn pack(&self, role: Role, range: &BatchRange) -> Option<CommitBatch> {
        (range.epoch == self.epoch() || planted(Bug::IgnoreRun)).then(|| self.batch(role, range))
    }

    fn batch(&self, role: Role, range: &BatchRange) -> CommitBatch {
        self.take_in_hand(role, &range.chunk);
        crate::chaos::point("batcher:pack");
        crate::chaos::swallow("batcher", if range.refused.is_some() { &[] } else { &range.chunk.bytes });
        let stamp = Stamp { wall_ns: self.clock.wall_ns(), boot_ns: self.clock.boot_ns() };
        let logical = self.logical.lock().tick(stamp.wall_ns);
        let (chunk, core) = (&range.chunk, BatcherCore { stamp, logical, codec: self.cutting.codec });
        let block = match &range.refused {
            None => core.step(chunk, &range.causes, self.info),
            Some(_) if planted(Bug::PillWithoutTombstone) => core.step(chunk, &range.causes, self.info),
            Some(_) => core.refuse(chunk, self.info),
        };
        self.hold(role, None);
        let refused = range.refused.clone().map(|reason| (chunk.clone(), reason));
        CommitBatch { epoch: range.epoch, block: Box::new(block), refused }
    }

    /// The short way: when somebody waits, little is pending and nothing is under way, the persist lane does it all.
    ///
    /// # Errors
    /// When the record cannot be read to resolve a cause.
    pub fn take_short_way(&self, role: Role, progress: &Progress) -> Result<Option<CommitBatch>, ReadError> {
        let Some(run) = self.run_of(progress) else { return Ok(None) };
        let pending = self.ledger.pending();
        if run.in_flight() > 0
            || pending.sealed > 0
            || pending.open_events == 0
            || pending.open_events > SHORT_WAY_EVENTS
            || self.ledger.wanted() < pending.open_first
            || self.watermark.poison().is_some()
        {
            return Ok(None);
        }
        let Some(mut ingest) = run.ingest.try_lock() else { return Ok(None) };
        if run.in_flight() > 0 {
            return Ok(None);
        }
        let Some(Cut { chunk, causes, refused }) = self.cut(role, &mut ingest)? else { return Ok(None) };
        run.sent();
        let range = BatchRange { epoch: run.epoch, chunk, causes, refused };
        drop(ingest);
        Ok(Some(self.batch(role, &range)))
    }
}
