//! Packs a range of events into one batch: entries, table, digest, compression.
//! Receives: `BatchRange`. Emits: `CommitBatch` to the persister.
//! Owns: nothing. Survives its crash: the chunk, which stays in the ledger and is cut again.
//! Limits: one batch per message, of at most 8,192 events or 4 MiB.

use super::PersisterActor;
use crate::messages::{BatchRange, CommitBatch};
use crate::pipeline::Pipeline;
use crate::supervision::{Recover, Role};
use actix::{Actor, Addr, Context, Handler, Supervised};
use std::sync::Arc;

/// What outlives an incarnation.
#[derive(Clone, Debug)]
pub struct BatcherSeed {
    /// The shared state.
    pub pipeline: Arc<Pipeline>,
    /// The next stage.
    pub persister: Addr<PersisterActor>,
}

/// See the module.
#[derive(Debug)]
pub struct BatcherActor {
    seed: BatcherSeed,
}

impl Recover for BatcherActor {
    type Seed = BatcherSeed;
    const ROLE: Role = Role::Batcher;
    fn recover(seed: BatcherSeed) -> Self {
        BatcherActor { seed }
    }
}

impl Actor for BatcherActor {
    type Context = Context<Self>;
}

impl Supervised for BatcherActor {
    fn restarting(&mut self, _: &mut Context<Self>) {
        *self = Self::recover(self.seed.clone());
        self.seed.pipeline.restart_run();
    }
}

impl Handler<BatchRange> for BatcherActor {
    type Result = ();
    fn handle(&mut self, range: BatchRange, _: &mut Context<Self>) {
        crate::chaos::point("batcher:before_pack");
        if let Some(block) = self.seed.pipeline.pack(&range) {
            crate::chaos::point("batcher:after_pack");
            self.seed.persister.do_send(CommitBatch { generation: range.generation, block });
        }
    }
}
