//! Commits batches: one write and one `fdatasync` each, on a lane of its own because these calls block.
//! Receives: `CommitBatch`, `DurableDoorbell`. Emits: the watermark; doorbells to ingest and indexer.
//! Owns: the batches that wait for room on a full disk. Survives its crash: the writer where it can be trusted, the
//! record where not, and all uncommitted events in the ledger.
//! Limits: one batch per message; on the short way [`TURN_BATCHES`] a turn.

use super::{Birth, Effect, On, Stage, Timer};
use crate::commit::Commit;
use crate::error::StageError;
use crate::ledger::Gate;
use crate::messages::{CommitBatch, DurableDoorbell};
use crate::pipeline::Pipeline;
use crate::supervision::{Progress, Role};
use semj_storage::plant::{Bug, planted};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// How often a full disk is tried again.
const FULL_RETRY: Duration = Duration::from_millis(50);
/// At most this part of a mean commit is spent waiting for emitters that the last commit released.
const GATHER_PART: i64 = 4;
/// Commits over which the mean is taken.
const MEAN_OVER: i64 = 16;

/// Batches that one turn takes on the short way: whoever emits without a pause must not keep the lane to himself, or
/// nothing else would reach the actor.
const TURN_BATCHES: usize = 16;

/// See the module.
#[derive(Debug)]
pub struct PersisterStage {
    pipeline: Arc<Pipeline>,
    progress: Arc<Progress>,
    /// Mean time of a commit, ns.
    commit_ns: i64,
    /// How many waited for the last commit.
    released: usize,
    /// Empty but for a full disk: its first batch found no room, the others came behind it.
    held: VecDeque<CommitBatch>,
    /// Another turn on the short way is to come.
    goes_on: bool,
}

impl Stage for PersisterStage {
    type Seed = Arc<Pipeline>;
    const ROLE: Role = Role::Persister;

    fn recover(pipeline: &Arc<Pipeline>, birth: Birth) -> Result<Self, StageError> {
        crate::chaos::point("persister:recover");
        if birth.is_restart {
            pipeline.begin_run(&birth.progress)?;
            // What was held for want of room comes again from the ledger, and finds out by itself.
            if matches!(pipeline.ledger().gate(), Gate::StorageFull) && !planted(Bug::StayFullAfterCrash) {
                pipeline.storage_full(false, &birth.progress);
            }
        }
        let (pipeline, progress) = (pipeline.clone(), birth.progress);
        let held = VecDeque::new();
        Ok(PersisterStage { pipeline, progress, commit_ns: 0, released: 0, held, goes_on: false })
    }

    fn start(&mut self, out: &mut Vec<Effect>) -> Result<(), StageError> {
        crate::chaos::point("persister:start");
        self.on(DurableDoorbell, out)
    }

    /// The same batches at the same place: what a full disk took of the first is overwritten.
    fn timer(&mut self, timer: Timer, out: &mut Vec<Effect>) -> Result<(), StageError> {
        crate::chaos::point("persister:timer");
        if timer == Timer::Work {
            self.goes_on = false;
            return self.short_way(out);
        }
        while let Some(batch) = self.held.pop_front() {
            if batch.epoch != self.pipeline.epoch() {
                // The ledger is read again from there: this batch comes back in another one.
                continue;
            }
            match self.write(batch) {
                Commit::Full(batch) => {
                    self.held.push_front(batch);
                    out.push(Effect::After(FULL_RETRY, Timer::Retry));
                    return Ok(());
                }
                Commit::Done => {}
                // Poisoned, or over: there is nothing more to do with any of them.
                Commit::Void => self.held.clear(),
            }
        }
        if self.pipeline.watermark().poison().is_some() {
            return Ok(());
        }
        self.pipeline.storage_full(false, &self.progress);
        self.pipeline.bells.ingest.ring();
        self.short_way(out)
    }
}

impl On<CommitBatch> for PersisterStage {
    fn on(&mut self, batch: CommitBatch, out: &mut Vec<Effect>) -> Result<(), StageError> {
        crate::chaos::point("persister:message");
        self.commit(batch, out);
        self.short_way(out)
    }
}

impl On<DurableDoorbell> for PersisterStage {
    fn on(&mut self, _: DurableDoorbell, out: &mut Vec<Effect>) -> Result<(), StageError> {
        crate::chaos::point("persister:message");
        self.pipeline.bells.persist.heard();
        self.short_way(out)
    }
}

impl PersisterStage {
    fn commit(&mut self, batch: CommitBatch, out: &mut Vec<Effect>) {
        if batch.epoch != self.pipeline.epoch() {
            return;
        }
        if !self.held.is_empty() {
            // Overtaking the batch that waits for room would be out of order.
            self.held.push_back(batch);
            return;
        }
        if let Commit::Full(batch) = self.write(batch) {
            self.pipeline.storage_full(true, &self.progress);
            if !planted(Bug::DropHeldOnFull) {
                self.held.push_back(batch);
            }
            out.push(Effect::After(FULL_RETRY, Timer::Retry));
        }
    }

    fn write(&mut self, batch: CommitBatch) -> Commit {
        let pipeline = &self.pipeline;
        let block = &batch.block;
        let (first, last, bytes) = (block.first_sequence(), block.last_sequence(), block.disk_bytes());
        let begun = pipeline.clock().boot_ns();
        self.released = pipeline.watermark().waiting();
        let commit = pipeline.commit(Self::ROLE, batch, &self.progress);
        if matches!(commit, Commit::Done) {
            let took = pipeline.clock().boot_ns() - begun;
            self.commit_ns += (took - self.commit_ns) / MEAN_OVER;
            let seconds = took as f64 / 1e9;
            let pending = pipeline.ledger().pending().events;
            crate::metrics::committed(last + 1 - first, bytes, seconds, pending);
            if pending > 0 {
                pipeline.bells.ingest.ring();
            }
        }
        commit
    }

    /// Emitters that the last commit released come back in a moment: one sync for all of them beats one for the first.
    fn gather(&mut self) {
        let expected = std::mem::take(&mut self.released);
        if expected < 2 {
            return;
        }
        let pipeline = &self.pipeline;
        let until = pipeline.clock().boot_ns() + self.commit_ns / GATHER_PART;
        while pipeline.ledger().pending().open_events < expected && pipeline.clock().boot_ns() < until {
            std::thread::yield_now();
        }
    }

    /// While somebody waits for the little that is pending, this lane packs and commits it without waking another.
    fn short_way(&mut self, out: &mut Vec<Effect>) -> Result<(), StageError> {
        // A turn ends with the mailbox, not with a message: doorbells that came meanwhile must not make it longer.
        if self.goes_on {
            return Ok(());
        }
        let pipeline = self.pipeline.clone();
        let mut left = TURN_BATCHES;
        while self.held.is_empty() && self.progress.tick() {
            if left == 0 {
                self.goes_on = true;
                out.push(Effect::Yield(Timer::Work));
                return Ok(());
            }
            left -= 1;
            self.gather();
            match pipeline.take_short_way(Self::ROLE, &self.progress) {
                Ok(Some(batch)) => self.commit(batch, out),
                Ok(None) => break,
                Err(e) => return Err(Pipeline::unresolved(&e)),
            }
        }
        // What is too much for the short way, or was sealed before, is the control lane's.
        let pending = pipeline.ledger().pending();
        if pending.sealed > 0 || (pending.open_events > 0 && pipeline.ledger().wanted() >= pending.open_first)
        {
            pipeline.bells.ingest.ring();
        }
        Ok(())
    }
}
