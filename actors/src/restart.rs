//! What a restart does to the pipeline: a new run behind what is written, in a newer epoch. Where the last incarnation
//! left a writer that can be trusted it goes on with it; else the record is recovered from disk as at any opening.

use crate::cores::{IngestCore, Judgement};
use crate::error::StageError;
use crate::pipeline::Pipeline;
use crate::run::Run;
use crate::supervision::{Blame, Exit, Intensity, Progress, Role};
use semj_storage::log::{LogWriter, recover};
use semj_storage::plant::{Bug, planted};
use std::sync::Arc;
use std::time::Duration;

/// How long a recovery waits for a segment that is being sealed.
const SEALING_WAIT: Duration = Duration::from_secs(10);
/// Refused units within [`REFUSALS_WINDOW_NS`] that are still taken for single bad events.
const REFUSALS_MAX: usize = 16;
const REFUSALS_WINDOW_NS: i64 = 10_000_000_000;

/// Counts refused units: a stage that crashes on everything must not refuse everything.
#[derive(Debug)]
pub(crate) struct RefusalRate(Intensity);

impl Default for RefusalRate {
    fn default() -> Self {
        RefusalRate(Intensity::new(REFUSALS_MAX, REFUSALS_WINDOW_NS))
    }
}

impl RefusalRate {
    fn is_too_high(&mut self, now_ns: i64) -> bool {
        self.0.count(now_ns).is_none()
    }
}

impl Pipeline {
    /// Starts a new run: all messages under way are void, and the ledger is read again from behind what is written.
    ///
    /// # Errors
    /// When the record cannot be recovered; the actor that asked crashes again.
    pub(crate) fn begin_run(&self, progress: &Progress) -> Result<(), StageError> {
        // Waiting for a commit under way, or for the disk, is no hang.
        let Some(_zone) = progress.disk() else { return Err(StageError("it was replaced".into())) };
        let _one = self.restarting.lock();
        let old = self.run();
        let is_poisoned = self.watermark.poison().is_some();
        let left = if old.is_fenced() { None } else { old.writer.lock().take() };
        let writer = match left {
            Some(writer) if is_poisoned => writer,
            Some(mut writer) if writer.is_whole() => {
                // What the last incarnation wrote may lack its sync, and what it synced may lack its publication; its last
                // append may have begun a segment.
                if !planted(Bug::SegmentUnknown) {
                    self.note_segment(&writer);
                }
                match writer.sync() {
                    Ok(_) if planted(Bug::SkipPublishAtRestart) => {}
                    Ok(durable) => self.publish(durable),
                    Err(e) => {
                        let last = writer.written();
                        *old.writer.lock() = Some(writer);
                        self.poison(&format!("making events up to {last} durable failed: {e}"));
                        return Ok(());
                    }
                }
                writer.advance_epoch(old.epoch + 1);
                writer
            }
            _ if is_poisoned => return Ok(()),
            _ => self.reopen(&old)?,
        };
        let run = Run::new(writer);
        if planted(Bug::ResumeBehindLost) {
            *run.ingest.lock() = IngestCore::new(self.ledger.admitted());
        }
        if planted(Bug::KeepInFlight) {
            (0..old.in_flight()).for_each(|_| run.sent());
        }
        *self.run.write() = Arc::new(run);
        self.bells.ingest.ring();
        Ok(())
    }

    /// Recovers the record from disk and goes on in a new segment.
    fn reopen(&self, old: &Run) -> Result<LogWriter, StageError> {
        let failed = |e: &dyn std::fmt::Display| StageError(format!("recovering the record: {e}"));
        let sealing = self.sealer.pause(SEALING_WAIT);
        let _sealing = sealing.ok_or_else(|| failed(&"a segment has been being sealed for too long"))?;
        old.prealloc.stop();
        let record = &self.record;
        let info = record.lock.read().map_err(|e| failed(&e))?;
        let journal = self.segments.journal();
        let recovered =
            recover(&record.place, info.as_ref(), journal, self.clock.boot_id(), self.clock.wall_ns())
                .map_err(|e| failed(&e))?;
        let (last, durable) = (recovered.last_sequence, self.watermark.durable());
        if last < durable {
            return Err(failed(&format!("it ends at event {last}, {durable} were durable")));
        }
        self.segments.reload_end().map_err(|e| failed(&e))?;
        self.damage.lock().extend(recovered.damage.iter().cloned());
        let place = &record.place;
        let mut writer = LogWriter::new(
            place.backend.clone(),
            place.segments.clone(),
            record.lock.clone(),
            &recovered,
            record.writer.clone(),
        )
        .map_err(|e| failed(&e))?;
        writer.advance_epoch(old.epoch + 1);
        self.note_segment(&writer);
        self.watermark.set_written(last);
        self.publish(last);
        Ok(writer)
    }

    /// Who is to blame for a death: the role, or the batch it had in hand.
    pub(crate) fn blame(&self, role: Role, exit: Exit, words: &str) -> Blame {
        let Some(span) = self.take_from_hand(role) else { return Blame::Role };
        if !matches!(exit, Exit::Panicked { injected: false } | Exit::Hung)
            || span.last <= self.watermark.durable()
        {
            return Blame::Role;
        }
        let middle = |span: crate::cores::Span| self.ledger.middle(span.first, span.last);
        match self.isolation.lock().crashed(span, words, middle) {
            Judgement::Again => Blame::Batch,
            Judgement::Hopeless => {
                Blame::Hopeless(format!("even without its events the batch crashes: {words}"))
            }
            Judgement::Refuse => {
                if self.refusal_rate.lock().is_too_high(self.clock.boot_ns()) {
                    Blame::Hopeless(format!("it crashes on too many events; its last words: {words}"))
                } else {
                    Blame::Batch
                }
            }
        }
    }
}
