//! Keeps the trees, off the commit path, and fills empty space ahead of the record's tail.
//! Receives: `IndexDoorbell`. Emits: how far the trees are.
//! Owns: nothing. Survives its crash: the index and its cursor.
//! Limits: one slice of events per message.

use crate::messages::IndexDoorbell;
use crate::pipeline::Pipeline;
use crate::supervision::{Recover, Role};
use actix::{Actor, Context, Handler, Supervised};
use std::sync::Arc;

/// What outlives an incarnation.
#[derive(Clone, Debug)]
pub struct IndexerSeed {
    /// The shared state.
    pub pipeline: Arc<Pipeline>,
}

/// See the module.
#[derive(Debug)]
pub struct IndexerActor {
    seed: IndexerSeed,
}

impl Recover for IndexerActor {
    type Seed = IndexerSeed;
    const ROLE: Role = Role::Indexer;
    fn recover(seed: IndexerSeed) -> Self {
        IndexerActor { seed }
    }
}

impl Actor for IndexerActor {
    type Context = Context<Self>;
    fn started(&mut self, _: &mut Context<Self>) {
        self.seed.pipeline.bells.index.heard();
    }
}

impl Supervised for IndexerActor {
    fn restarting(&mut self, _: &mut Context<Self>) {
        *self = Self::recover(self.seed.clone());
    }
}

impl Handler<IndexDoorbell> for IndexerActor {
    type Result = ();
    fn handle(&mut self, _: IndexDoorbell, _: &mut Context<Self>) {
        self.seed.pipeline.bells.index.heard();
        let prealloc = self.seed.pipeline.prealloc();
        if prealloc.wants_fill() {
            prealloc.fill();
        }
    }
}
