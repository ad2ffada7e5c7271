//! What all lanes share and what outlives every actor: ledger, watermark, writer, cores, bells.

use crate::clock::Clock;
use crate::cores::{BatcherCore, CauseSource, IngestCore, Stamp};
use crate::error::{CommitError, PoisonCause};
use crate::ledger::{Chunk, Gate, Ledger, Prepared};
use crate::mail::Bell;
use crate::messages::BatchRange;
use crate::sealer::Sealer;
use crate::shed::Shed;
use crate::sync::{AtomicU64, AtomicUsize, Mutex, Ordering};
use crate::watermark::Watermark;
use semj_storage::error::{Damage, ReadError};
use semj_storage::event::{ResolvedCause, Timestamp};
use semj_storage::log::entry::{UnitInfo, derived_sequence};
use semj_storage::log::{
    AppendError, Codec, LogWriter, OwnerState, Prealloc, PreparedBlock, Segments, SummaryBuilder,
    UnitBuilder, control,
};
use std::ops::ControlFlow;
use std::sync::Arc;
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
}

/// The disposable logic of the control lane; whoever holds the lock runs it.
#[derive(Debug)]
struct Cores {
    ingest: IngestCore,
    batcher: BatcherCore,
}

/// A sealed chunk and what its causes stand for.
type Resolved = (Arc<Chunk>, Arc<[ResolvedCause]>);

/// See the module.
#[derive(Debug)]
pub struct Pipeline {
    ledger: Ledger,
    watermark: Watermark,
    clock: Arc<dyn Clock>,
    segments: Arc<Segments>,
    writer: Mutex<LogWriter>,
    prealloc: Arc<Prealloc>,
    cores: Mutex<Cores>,
    cutting: Cutting,
    info: UnitInfo,
    opened_at: u64,
    generation: AtomicU64,
    in_flight: AtomicUsize,
    shed: Shed,
    sealer: Sealer,
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
    /// No room; the same block is to be tried again.
    Full(Box<PreparedBlock>),
    /// The journal is poisoned, or the block belongs to another run: nothing more to do with it.
    Void,
}

impl Pipeline {
    /// A pipeline that goes on behind the writer's last event.
    pub fn new(
        ledger: Ledger,
        watermark: Watermark,
        clock: Arc<dyn Clock>,
        segments: Arc<Segments>,
        writer: LogWriter,
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
            prealloc: writer.prealloc(),
            writer: Mutex::new(writer),
            cores: Mutex::new(Cores { ingest: IngestCore::new(last), batcher: BatcherCore::default() }),
            cutting,
            info,
            opened_at: last,
            generation: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            shed: Shed::default(),
            sealer: Sealer::default(),
            bells: Bells::default(),
            pid: std::process::id(),
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

    /// The writing end, for whoever must look at it or close it.
    pub fn writer(&self) -> &Mutex<LogWriter> {
        &self.writer
    }

    /// The space ahead of the tail.
    pub fn prealloc(&self) -> &Prealloc {
        &self.prealloc
    }

    /// Events shed for want of room.
    pub fn shed(&self) -> &Shed {
        &self.shed
    }

    /// Finished segments that wait for their seal.
    pub fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// Makes an event of the count of shed ones, as soon as there is room for it.
    pub fn tell_shed(&self) {
        let Some(shedding) = self.shed.take() else { return };
        let event = shedding.event();
        let mut prepared = Prepared::default();
        prepared.set_engine();
        let told = self
            .ledger
            .streams()
            .slot(event.stream_or_default())
            .is_ok_and(|slot| prepared.add(&event, slot).is_ok())
            && self.ledger.admit(&prepared, self.clock.boot_ns(), self.watermark.durable(), &[]).is_ok();
        if !told {
            self.shed.put_back(shedding);
        }
    }

    /// How batches are cut.
    pub fn cutting(&self) -> &Cutting {
        &self.cutting
    }

    /// The id of an event of this run whose caller gave none.
    pub fn derived_id(&self, sequence: u64) -> Uuid {
        self.info.derived_id(sequence)
    }

    /// Which run of the pipeline messages must belong to.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Batches under way.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
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

    /// Whether a batch should be cut now.
    fn should_cut(&self) -> bool {
        let pending = self.ledger.pending();
        pending.sealed > 0 && self.cores.lock().ingest.cursor() + 1 < pending.open_first
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
    pub fn next_range(&self) -> Result<Option<BatchRange>, ReadError> {
        if self.in_flight() >= IN_FLIGHT_MAX || self.watermark.poison().is_some() || !self.should_cut() {
            return Ok(None);
        }
        let mut cores = self.cores.lock();
        let generation = self.generation();
        let Some((chunk, causes)) = self.ingest(&mut cores)? else { return Ok(None) };
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        Ok(Some(BatchRange { generation, chunk, causes }))
    }

    fn ingest(&self, cores: &mut Cores) -> Result<Option<Resolved>, ReadError> {
        let cursor = cores.ingest.cursor();
        let chunk = match self.ledger.sealed_after(cursor) {
            Some(chunk) => chunk,
            None => {
                self.ledger.seal();
                let Some(chunk) = self.ledger.sealed_after(cursor) else { return Ok(None) };
                chunk
            }
        };
        let causes = cores.ingest.step(&chunk, &Resolver(self))?;
        Ok(Some((chunk, causes.into())))
    }

    /// Packs a range; `None` when it belongs to another run.
    pub fn pack(&self, range: &BatchRange) -> Option<Box<PreparedBlock>> {
        let mut cores = self.cores.lock();
        (range.generation == self.generation()).then(|| self.batch(&mut cores, &range.chunk, &range.causes))
    }

    fn batch(&self, cores: &mut Cores, chunk: &Chunk, causes: &[ResolvedCause]) -> Box<PreparedBlock> {
        let stamp = Stamp { wall_ns: self.clock.wall_ns(), boot_ns: self.clock.boot_ns() };
        Box::new(cores.batcher.step(chunk, causes, self.info, stamp, self.cutting.codec))
    }

    /// The short way: when somebody waits, little is pending and nothing is under way, the persist lane does it all.
    ///
    /// # Errors
    /// When the record cannot be read to resolve a cause.
    pub fn take_short_way(&self) -> Result<Option<(u64, Box<PreparedBlock>)>, ReadError> {
        let pending = self.ledger.pending();
        if self.in_flight() > 0
            || pending.sealed > 0
            || pending.open_events == 0
            || pending.open_events > SHORT_WAY_EVENTS
            || self.ledger.wanted() < pending.open_first
            || self.watermark.poison().is_some()
        {
            return Ok(None);
        }
        let mut cores = self.cores.lock();
        // Ingest may have taken it while this lane waited for the cores.
        if self.in_flight() > 0 {
            return Ok(None);
        }
        // A restart takes the same lock: this batch belongs to the run in which its cursor moved.
        let generation = self.generation();
        let Some((chunk, causes)) = self.ingest(&mut cores)? else { return Ok(None) };
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        Ok(Some((generation, self.batch(&mut cores, &chunk, &causes))))
    }

    /// Commits a batch of run `generation`: one write, one `fdatasync`, then the watermark.
    pub fn commit(&self, generation: u64, mut block: Box<PreparedBlock>) -> Commit {
        let last = block.last_sequence();
        let mut writer = self.writer.lock();
        // A restart takes the same lock. Its run cuts this batch again, and would wait for ever for events that this
        // commit had taken out of the ledger behind its back.
        if generation != self.generation() {
            return Commit::Void;
        }
        let epoch = writer.epoch();
        crate::chaos::point("persister:before_append");
        match writer.append(&mut block, epoch, self.clock.wall_ns()) {
            Ok(()) => {}
            Err(AppendError::Full(_)) => return Commit::Full(block),
            Err(AppendError::Disk(e)) => {
                drop(writer);
                self.poison(&format!("writing events {} to {last} failed: {e}", block.first_sequence()));
                return Commit::Void;
            }
            Err(AppendError::OutOfOrder { .. } | AppendError::Fenced { .. }) => {
                // It belongs to a run that is over; whatever it held comes again, from behind what is written.
                drop(writer);
                self.restart_run();
                return Commit::Void;
            }
            Err(other) => {
                drop(writer);
                self.poison(&other.to_string());
                return Commit::Void;
            }
        }
        self.watermark.set_written(last);
        crate::chaos::point("persister:before_sync");
        if let Some(segment) = writer.segment() {
            self.segments.add(segment);
            self.sealer.writing(segment);
        }
        let synced = writer.sync();
        drop(writer);
        match synced {
            Ok(durable) => {
                crate::chaos::point("persister:after_sync");
                self.publish(durable);
                self.in_flight
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| Some(n.saturating_sub(1)))
                    .ok();
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
        let mut record = Vec::new();
        record.extend_from_slice(&damage.first_sequence.to_le_bytes());
        record.extend_from_slice(&damage.last_sequence.to_le_bytes());
        record.extend_from_slice(damage.to_string().as_bytes());
        let mut unit = UnitBuilder::default();
        unit.control(control::DAMAGE, &record);
        let mut writer = self.writer.lock();
        let first = writer.written() + 1;
        let wall_ns = self.clock.wall_ns();
        let info = UnitInfo { recorded: Timestamp(wall_ns), ..self.info };
        let mut bytes = vec![0; PreparedBlock::header_room()];
        unit.finish(first, &info, (u64::try_from(wall_ns).unwrap_or(0), 0), &mut bytes);
        let mut block = PreparedBlock::new(bytes, Codec::None, SummaryBuilder::new(first).finish());
        let epoch = writer.epoch();
        let disk = |e: std::io::Error| ReadError::io(&damage.segment, "write the damage record", e);
        writer.append(&mut block, epoch, wall_ns).map_err(|e| disk(std::io::Error::other(e.to_string())))?;
        writer.sync().map(drop).map_err(|e| {
            self.watermark.fail(CommitError::Poisoned(PoisonCause(e.to_string().into())));
            disk(e)
        })
    }

    fn publish(&self, durable: u64) {
        self.watermark.set_durable(durable);
        self.ledger.release(durable);
        self.bells.index.ring();
    }

    /// Starts a new run behind what is written: all messages under way are void, the ledger is read again from there.
    pub fn restart_run(&self) {
        let mut cores = self.cores.lock();
        let mut writer = self.writer.lock();
        if self.watermark.poison().is_none() {
            // What the last incarnation wrote may lack its sync, and what it synced may lack its publication.
            if let Err(e) = writer.sync() {
                let last = writer.written();
                drop(writer);
                self.poison(&format!("making events up to {last} durable failed: {e}"));
                return;
            }
            self.publish(writer.durable());
        }
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.in_flight.store(0, Ordering::SeqCst);
        cores.ingest = IngestCore::new(writer.written());
        cores.batcher = BatcherCore::default();
        drop(writer);
        drop(cores);
        self.bells.ingest.ring();
    }

    /// Nothing is written any more until the journal is opened again.
    pub fn poison(&self, cause: &str) {
        let cause = PoisonCause(cause.into());
        self.ledger.set_gate(Gate::Poisoned(cause.clone()));
        self.watermark.fail(CommitError::Poisoned(cause));
        // Readers beside the owner are told where that is still possible; the poison itself stands without it.
        if let Some(mut writer) = self.writer.try_lock() {
            let _ = writer.set_state(OwnerState::Poisoned);
        }
    }

    /// The disk is full, or has room again.
    pub fn storage_full(&self, full: bool) {
        // Readers beside the owner are told first: whoever sees the gate may ask them next.
        let mut writer = self.writer.lock();
        let _ = if full { writer.set_state(OwnerState::Full) } else { writer.resume() };
        drop(writer);
        if full {
            self.ledger.set_gate(Gate::StorageFull);
            self.watermark.fail(CommitError::StorageFull);
        } else {
            self.ledger.set_gate(Gate::Open);
            self.watermark.recovered();
        }
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
