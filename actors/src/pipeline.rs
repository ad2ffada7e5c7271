//! What all lanes share and what outlives every actor: ledger, watermark, the current run, bells.

use crate::clock::Clock;
use crate::cores::{BatcherCore, CauseSource, IngestCore, Isolation, LogicalClock, Span, Stamp};
use crate::error::{CommitError, PoisonCause, StageError};
use crate::ledger::{Chunk, Gate, Ledger, Prepared};
use crate::mail::Bell;
use crate::messages::{BatchRange, CommitBatch};
use crate::refusals::Refusals;
use crate::restart::RefusalRate;
use crate::run::Run;
use crate::sealer::Sealer;
use crate::shed::Shed;
use crate::supervision::{Progress, Role};
use crate::sync::{Mutex, RwLock};
use crate::watermark::Watermark;
use semj_storage::error::{Damage, ReadError};
use semj_storage::event::{Event, ResolvedCause, Timestamp};
use semj_storage::log::entry::{UnitInfo, derived_sequence};
use semj_storage::log::{
    AppendError, Codec, LockFile, LogWriter, OwnerState, Place, Prealloc, PreparedBlock, Segments,
    SummaryBuilder, UnitBuilder, WriterOptions, control,
};
use std::ops::ControlFlow;
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
    logical: Mutex<LogicalClock>,
    pub(crate) damage: Mutex<Vec<Damage>>,
    cutting: Cutting,
    info: UnitInfo,
    opened_at: u64,
    shed: Shed,
    pub(crate) sealer: Sealer,
    /// The doorbells.
    pub bells: Bells,
    /// The process that opened the journal.
    pub pid: u32,
}

/// How a commit ended.
#[derive(Debug)]
pub enum Commit {
    /// Durable.
    Done,
    /// No room; the same batch is to be tried again.
    Full(CommitBatch),
    /// The journal is poisoned, or the batch belongs to another run: nothing more to do with it.
    Void,
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
            && !self.emit_own(&shedding.event())
        {
            self.shed.put_back(shedding);
        }
        if let Some(refusal) = self.refusals.take()
            && !self.emit_own(&refusal.event())
        {
            self.refusals.put_back(refusal);
        }
    }

    fn emit_own(&self, event: &Event<'_>) -> bool {
        let mut prepared = Prepared::default();
        prepared.set_engine();
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

    fn hold(&self, role: Role, span: Option<Span>) {
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

    /// The next range for the batcher, when one should be cut and there is room behind it.
    ///
    /// # Errors
    /// When the record cannot be read to resolve a cause.
    pub fn next_range(&self, role: Role) -> Result<Option<BatchRange>, ReadError> {
        let run = self.run();
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
        self.hold(role, None);
        Ok(Some(Cut { chunk, causes: causes.into(), refused }))
    }

    /// Packs a range; `None` when it belongs to another run.
    pub fn pack(&self, role: Role, range: &BatchRange) -> Option<CommitBatch> {
        (range.epoch == self.epoch()).then(|| self.batch(role, range))
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
    pub fn take_short_way(&self, role: Role) -> Result<Option<CommitBatch>, ReadError> {
        let run = self.run();
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

    /// Commits a batch: one write, one `fdatasync`, then the watermark. A fenced incarnation commits nothing.
    pub fn commit(&self, role: Role, mut batch: CommitBatch, progress: &Progress) -> Commit {
        let (first, last) = (batch.block.first_sequence(), batch.block.last_sequence());
        let run = self.run();
        if batch.epoch != run.epoch {
            return Commit::Void;
        }
        let Some(zone) = progress.disk() else { return Commit::Void };
        let mut slot = run.writer.lock();
        let Some(writer) = slot.as_mut() else { return Commit::Void };
        self.hold(role, Some(Span { first, last }));
        crate::chaos::point("persister:before_append");
        crate::chaos::swallow("persister", batch.block.stored());
        let appended = match &batch.refused {
            Some((chunk, _)) => self.set_refused_aside(chunk).map_err(AppendError::from),
            None => Ok(()),
        };
        let appended =
            appended.and_then(|()| writer.append(&mut batch.block, batch.epoch, self.clock.wall_ns()));
        match appended {
            Ok(()) => {}
            Err(AppendError::Full(_)) => {
                self.hold(role, None);
                return Commit::Full(batch);
            }
            Err(AppendError::Disk(e)) => {
                drop(slot);
                self.poison(&format!("writing events {first} to {last} failed: {e}"));
                return Commit::Void;
            }
            // It belongs to a run that is over; whatever it held comes again, from behind what is written.
            Err(AppendError::OutOfOrder { .. } | AppendError::Fenced { .. }) => return Commit::Void,
            Err(other) => {
                drop(slot);
                self.poison(&other.to_string());
                return Commit::Void;
            }
        }
        if let Some((_, reason)) = &batch.refused {
            self.watermark.refuse(first, last, reason);
        }
        self.watermark.set_written(last);
        crate::chaos::point("persister:before_sync");
        if let Some(segment) = writer.segment() {
            self.segments.add(segment);
            self.sealer.writing(segment);
        }
        let synced = writer.sync();
        drop(slot);
        match synced {
            Ok(durable) => {
                drop(zone);
                crate::chaos::point("persister:after_sync");
                if let Some((chunk, reason)) = &batch.refused {
                    self.ledger.forget_refused(chunk);
                    self.refusals.note(chunk, reason);
                }
                self.publish(durable);
                run.arrived();
                self.hold(role, None);
                Commit::Done
            }
            Err(e) => {
                self.poison(&format!("making events up to {last} durable failed: {e}"));
                Commit::Void
            }
        }
    }

    /// Writes a control record that names a range as lost. It takes no sequence.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn record_damage(&self, damage: &Damage) -> Result<(), ReadError> {
        let disk = |e: std::io::Error| ReadError::io(&damage.segment, "write the damage record", e);
        let mut record = Vec::new();
        record.extend_from_slice(&damage.first_sequence.to_le_bytes());
        record.extend_from_slice(&damage.last_sequence.to_le_bytes());
        record.extend_from_slice(damage.to_string().as_bytes());
        let mut unit = UnitBuilder::default();
        unit.control(control::DAMAGE, 0, &record);
        let run = self.run();
        let mut slot = run.writer.lock();
        let writer =
            slot.as_mut().ok_or_else(|| disk(std::io::Error::other("the journal is being restarted")))?;
        let first = writer.written() + 1;
        let wall_ns = self.clock.wall_ns();
        let info = UnitInfo { recorded: Timestamp(wall_ns), ..self.info };
        let mut bytes = vec![0; PreparedBlock::header_room()];
        unit.finish(first, &info, self.logical.lock().tick(wall_ns).parts(), &mut bytes);
        let mut block = PreparedBlock::new(bytes, Codec::None, SummaryBuilder::new(first).finish());
        writer
            .append(&mut block, run.epoch, wall_ns)
            .map_err(|e| disk(std::io::Error::other(e.to_string())))?;
        writer.sync().map(drop).map_err(|e| {
            self.watermark.fail(CommitError::Poisoned(PoisonCause(e.to_string().into())));
            disk(e)
        })
    }

    pub(crate) fn publish(&self, durable: u64) {
        self.watermark.set_durable(durable);
        self.ledger.release(durable);
        self.isolation.lock().committed(durable);
        self.bells.index.ring();
    }

    /// Nothing is written any more until the journal is opened again.
    pub fn poison(&self, cause: &str) {
        let cause = PoisonCause(cause.into());
        self.ledger.set_gate(Gate::Poisoned(cause.clone()));
        self.watermark.fail(CommitError::Poisoned(cause));
        // Readers beside the owner are told where that is still possible; the poison itself stands without it.
        self.with_writer(Duration::ZERO, |writer| {
            let _ = writer.set_state(OwnerState::Poisoned);
        });
    }

    /// The disk is full, or has room again.
    pub fn storage_full(&self, full: bool, progress: &Progress) {
        let zone = progress.disk();
        if let Some(writer) = self.run().writer.lock().as_mut() {
            // Readers beside the owner are told first: whoever sees the gate may ask them next.
            let _ = if full { writer.set_state(OwnerState::Full) } else { writer.resume() };
        }
        drop(zone);
        if full {
            self.ledger.set_gate(Gate::StorageFull);
            self.watermark.fail(CommitError::StorageFull);
        } else {
            self.ledger.set_gate(Gate::Open);
            self.watermark.recovered();
        }
    }

    /// What a core's error on the record means for its actor.
    pub(crate) fn unresolved(e: &ReadError) -> StageError {
        // Without the record no cause can be told true: the crash is counted, and enough of them poison.
        StageError(format!("resolving causes: {e}"))
    }
}

/// Looks causes up in the ledger first, then in the record.
struct Resolver<'a>(&'a Pipeline);

impl CauseSource for Resolver<'_> {
    fn id_of(&self, sequence: u64) -> Result<Option<Uuid>, ReadError> {
        if let Some(given) = self.0.ledger.id_of(sequence) {
            return Ok(Some(given.unwrap_or_else(|| self.0.derived_id(sequence))));
        }
        let mut id = None;
        let read = self.0.segments.read(sequence, sequence, &mut |entry| {
            id = Some(entry.id());
            ControlFlow::Continue(())
        });
        match read {
            Err(e) if !e.is_damage() => Err(e),
            _ => Ok(id),
        }
    }

    fn find(&self, id: &Uuid) -> Result<Option<u64>, ReadError> {
        // An id that this run derived is answered by arithmetic.
        if let Some(sequence) = derived_sequence(id)
            && sequence > self.0.opened_at
            && self.0.derived_id(sequence) == *id
        {
            return Ok(Some(sequence));
        }
        Ok(self.0.ledger.find_id(id, self.0.watermark.durable())?.map(|known| known.sequence))
    }
}
