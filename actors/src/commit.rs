//! Committing: the one write and the one sync of a batch, what is published then, and what a disk that fails leads to.

use crate::cores::Span;
use crate::error::{CommitError, PoisonCause, StageError};
use crate::ledger::Gate;
use crate::messages::CommitBatch;
use crate::pipeline::Pipeline;
use crate::supervision::{Progress, Role};
use semj_storage::error::{Damage, ReadError};
use semj_storage::event::Timestamp;
use semj_storage::log::entry::UnitInfo;
use semj_storage::log::{
    AppendError, Codec, LogWriter, OwnerState, PreparedBlock, SummaryBuilder, UnitBuilder, control,
};
use semj_storage::plant::{Bug, planted};
use std::time::Duration;

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

impl Pipeline {
    /// Commits a batch: one write, one `fdatasync`, then the watermark. A fenced incarnation commits nothing.
    pub fn commit(&self, role: Role, mut batch: CommitBatch, progress: &Progress) -> Commit {
        let (first, last) = (batch.block.first_sequence(), batch.block.last_sequence());
        let run = self.run();
        if planted(Bug::IgnoreRun) {
            batch.epoch = run.epoch;
        }
        if batch.epoch != run.epoch {
            return Commit::Void;
        }
        let zone = progress.disk().filter(|_| !planted(Bug::SkipDiskZone));
        if zone.is_none() && !planted(Bug::SkipDiskZone) {
            return Commit::Void;
        }
        let mut slot = run.writer.lock();
        let Some(writer) = slot.as_mut() else { return Commit::Void };
        self.hold(role, Some(Span { first, last }));
        match self.append(writer, &mut batch) {
            Ok(()) => {}
            Err(AppendError::Full(_)) => {
                self.hold(role, None);
                return Commit::Full(batch);
            }
            // It belongs to a run that is over; whatever it held comes again, from behind what is written.
            Err(AppendError::OutOfOrder { .. } | AppendError::Fenced { .. }) => return Commit::Void,
            Err(e) => {
                drop(slot);
                self.poison(&format!("writing events {first} to {last} failed: {e}"));
                return Commit::Void;
            }
        }
        self.note_appended(writer, &batch);
        crate::chaos::point("persister:before_sync");
        if planted(Bug::SegmentUnknown) {
            self.note_segment(writer);
        }
        if planted(Bug::AcknowledgeEarly) {
            self.watermark.set_durable(last);
        }
        let synced = writer.sync();
        drop(slot);
        match synced {
            Ok(durable) => {
                drop(zone);
                crate::chaos::point("persister:after_sync");
                if let Some((chunk, reason)) = batch.refused.filter(|_| planted(Bug::RefusalNotedLate)) {
                    self.refusals.note(&chunk, &reason);
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

    /// The one write; what it refuses is set aside before.
    fn append(&self, writer: &mut LogWriter, batch: &mut CommitBatch) -> Result<(), AppendError> {
        if planted(Bug::ReleaseBeforeCommit) {
            self.ledger.release(batch.block.last_sequence());
        }
        crate::chaos::point("persister:before_append");
        crate::chaos::swallow("persister", batch.block.stored());
        if let Some((chunk, _)) = &batch.refused {
            self.set_refused_aside(chunk)?;
        }
        writer.append(&mut batch.block, batch.epoch, self.clock.wall_ns())
    }

    /// Whatever crashes after the write, the next run goes on behind this batch: all that must be known of it is noted.
    fn note_appended(&self, writer: &LogWriter, batch: &CommitBatch) {
        let (first, last) = (batch.block.first_sequence(), batch.block.last_sequence());
        if !planted(Bug::SegmentUnknown) {
            self.note_segment(writer);
        }
        if let Some((chunk, reason)) = &batch.refused {
            if !planted(Bug::RefuseWithoutNotice) {
                self.watermark.refuse(first, last, reason);
            }
            if !planted(Bug::RefusedIdStaysTaken) {
                self.ledger.forget_refused(chunk);
            }
            if !planted(Bug::RefuseSilently) && !planted(Bug::RefusalNotedLate) {
                self.refusals.note(chunk, reason);
            }
        }
        self.watermark.set_written(last);
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

    /// Readers must know the segment that is being written before anything in it counts as durable.
    pub(crate) fn note_segment(&self, writer: &LogWriter) {
        if let Some(segment) = writer.segment() {
            self.segments.add(segment);
            self.sealer.writing(segment);
        }
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
