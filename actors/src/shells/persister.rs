//! Commits batches: one write and one `fdatasync` each, on a lane of its own because these calls block.
//! Receives: `CommitBatch`, `DurableDoorbell`. Emits: the watermark; doorbells to ingest and indexer.
//! Owns: the batches that wait for room on a full disk. Survives its crash: the writer, and all uncommitted events in
//! the ledger.
//! Limits: one batch per message.

use crate::messages::{CommitBatch, DurableDoorbell};
use crate::pipeline::{Commit, Pipeline};
use crate::supervision::{Recover, Role};
use actix::{Actor, AsyncContext, Context, Handler, Supervised};
use semj_storage::log::PreparedBlock;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// How often a full disk is tried again.
const FULL_RETRY: Duration = Duration::from_millis(50);

/// What outlives an incarnation.
#[derive(Clone, Debug)]
pub struct PersisterSeed {
    /// The shared state.
    pub pipeline: Arc<Pipeline>,
}

/// At most this part of a mean commit is spent waiting for emitters that the last commit released.
const GATHER_PART: i64 = 4;
/// Commits over which the mean is taken.
const MEAN_OVER: i64 = 16;

/// See the module.
#[derive(Debug)]
pub struct PersisterActor {
    seed: PersisterSeed,
    /// Mean time of a commit, ns.
    commit_ns: i64,
    /// How many waited for the last commit.
    released: usize,
    /// Empty but for a full disk: its first batch found no room, the others came behind it.
    held: VecDeque<(u64, Box<PreparedBlock>)>,
}

impl Recover for PersisterActor {
    type Seed = PersisterSeed;
    const ROLE: Role = Role::Persister;
    fn recover(seed: PersisterSeed) -> Self {
        PersisterActor { seed, commit_ns: 0, released: 0, held: VecDeque::new() }
    }
}

impl Actor for PersisterActor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Context<Self>) {
        self.seed.pipeline.bells.persist.heard();
        self.short_way(ctx);
    }
}

impl Supervised for PersisterActor {
    fn restarting(&mut self, _: &mut Context<Self>) {
        let full = !self.held.is_empty();
        *self = Self::recover(self.seed.clone());
        self.seed.pipeline.restart_run();
        if full {
            self.seed.pipeline.storage_full(false);
        }
    }
}

impl Handler<CommitBatch> for PersisterActor {
    type Result = ();
    fn handle(&mut self, batch: CommitBatch, ctx: &mut Context<Self>) {
        self.commit(batch.generation, batch.block, ctx);
        self.short_way(ctx);
    }
}

impl Handler<DurableDoorbell> for PersisterActor {
    type Result = ();
    fn handle(&mut self, _: DurableDoorbell, ctx: &mut Context<Self>) {
        self.seed.pipeline.bells.persist.heard();
        self.short_way(ctx);
    }
}

impl PersisterActor {
    fn commit(&mut self, generation: u64, block: Box<PreparedBlock>, ctx: &mut Context<Self>) {
        if generation != self.seed.pipeline.generation() {
            return;
        }
        if !self.held.is_empty() {
            // Overtaking the batch that waits for room would be out of order.
            self.held.push_back((generation, block));
            return;
        }
        if let Commit::Full(block) = self.write(generation, block) {
            self.seed.pipeline.storage_full(true);
            self.held.push_back((generation, block));
            ctx.run_later(FULL_RETRY, Self::retry);
        }
    }

    fn write(&mut self, generation: u64, block: Box<PreparedBlock>) -> Commit {
        let pipeline = &self.seed.pipeline;
        let (first, last, bytes) = (block.first_sequence(), block.last_sequence(), block.disk_bytes());
        let begun = pipeline.clock().boot_ns();
        self.released = pipeline.watermark().waiting();
        let commit = pipeline.commit(generation, block);
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

    /// The same batches at the same place: what a full disk took of the first is overwritten.
    fn retry(&mut self, ctx: &mut Context<Self>) {
        while let Some((generation, block)) = self.held.pop_front() {
            if generation != self.seed.pipeline.generation() {
                // The ledger is read again from there: this batch comes back in another one.
                continue;
            }
            match self.write(generation, block) {
                Commit::Full(block) => {
                    self.held.push_front((generation, block));
                    ctx.run_later(FULL_RETRY, Self::retry);
                    return;
                }
                Commit::Done => {}
                // There is nothing more to do with any of them.
                Commit::Void if self.seed.pipeline.watermark().poison().is_some() => {
                    return self.held.clear();
                }
                Commit::Void => {}
            }
        }
        self.seed.pipeline.storage_full(false);
        self.seed.pipeline.bells.ingest.ring();
        self.short_way(ctx);
    }

    /// Emitters that the last commit released come back in a moment: one sync for all of them beats one for the first.
    fn gather(&mut self) {
        let expected = std::mem::take(&mut self.released);
        if expected < 2 {
            return;
        }
        let pipeline = &self.seed.pipeline;
        let until = pipeline.clock().boot_ns() + self.commit_ns / GATHER_PART;
        while pipeline.ledger().pending().open_events < expected && pipeline.clock().boot_ns() < until {
            std::thread::yield_now();
        }
    }

    /// While somebody waits for the little that is pending, this lane packs and commits it without waking another.
    fn short_way(&mut self, ctx: &mut Context<Self>) {
        let pipeline = self.seed.pipeline.clone();
        while self.held.is_empty() {
            self.gather();
            match pipeline.take_short_way() {
                Ok(Some((generation, block))) => self.commit(generation, block, ctx),
                Ok(None) => break,
                Err(e) => panic!("resolving causes: {e}"),
            }
        }
        // What is too much for the short way, or was sealed before, is the control lane's.
        let pending = pipeline.ledger().pending();
        if pending.sealed > 0 || (pending.open_events > 0 && pipeline.ledger().wanted() >= pending.open_first)
        {
            pipeline.bells.ingest.ring();
        }
    }
}
