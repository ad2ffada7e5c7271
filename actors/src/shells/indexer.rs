//! Keeps the trees, off the commit path, and fills empty space ahead of the record's tail.
//! Receives: `IndexDoorbell`. Emits: how far the trees are.
//! Owns: its place in the chunk in progress. Survives its crash: the index, whose cursor it reads again.
//! Limits: one slice of events per turn; sled is opened on a thread of its own, which may be lost.

use crate::messages::IndexDoorbell;
use crate::pipeline::Pipeline;
use crate::supervision::{Recover, Role};
use crate::trees::TreeKeeper;
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Supervised, WrapFuture};
use semj_storage::log::{LockFile, LogView};
use semj_storage::trees::IndexCore;
use std::sync::Arc;
use std::time::Duration;

/// Events taken in before the lane is given back.
const SLICE_EVENTS: u64 = 2_048;
/// How long commits are gathered before the trees take them in: the commit path never pays for waking this lane twice
/// within it, and a lone writer keeps the processor.
const GATHER: Duration = Duration::from_millis(10);
/// With this many events uncommitted the host needs the processor more than the trees do.
const BUSY_EVENTS: usize = 2_048;
/// How long the trees wait then.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// What outlives an incarnation.
#[derive(Clone, Debug)]
pub struct IndexerSeed {
    /// The shared state.
    pub pipeline: Arc<Pipeline>,
    /// The trees, and what opens them.
    pub keeper: Arc<TreeKeeper>,
    /// Where readers see how far the trees are.
    pub lock: LockFile,
}

/// See the module.
#[derive(Debug)]
pub struct IndexerActor {
    seed: IndexerSeed,
    core: IndexCore,
    working: bool,
}

impl Recover for IndexerActor {
    type Seed = IndexerSeed;
    const ROLE: Role = Role::Indexer;
    fn recover(seed: IndexerSeed) -> Self {
        let core = IndexCore::new(seed.keeper.index().clone());
        IndexerActor { seed, core, working: false }
    }
}

impl Actor for IndexerActor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Context<Self>) {
        self.seed.pipeline.bells.index.heard();
        self.work(ctx);
    }
}

impl Supervised for IndexerActor {
    fn restarting(&mut self, _: &mut Context<Self>) {
        *self = Self::recover(self.seed.clone());
    }
}

impl Handler<IndexDoorbell> for IndexerActor {
    type Result = ();
    fn handle(&mut self, _: IndexDoorbell, ctx: &mut Context<Self>) {
        // The bell stays armed meanwhile, so further commits do not ring.
        ctx.run_later(GATHER, |actor, ctx| {
            actor.seed.pipeline.bells.index.heard();
            let prealloc = actor.seed.pipeline.prealloc();
            if prealloc.wants_fill() {
                prealloc.fill();
            }
            if !actor.working {
                actor.work(ctx);
            }
        });
    }
}

impl IndexerActor {
    /// One finished segment gets its seal. Without it everything works, only opening takes longer.
    fn seal(&self, pipeline: &Pipeline) {
        if let Ok(Some(through)) = pipeline.sealer().seal_one(pipeline.segments(), pipeline.clock().wall_ns())
        {
            pipeline.ledger().forget_ids(through);
            if pipeline.sealer().has_work() {
                pipeline.bells.index.ring();
            }
        }
    }

    fn work(&mut self, ctx: &mut Context<Self>) {
        self.working = false;
        crate::chaos::point("indexer:before_step");
        let pipeline = &self.seed.pipeline;
        self.seal(pipeline);
        if !self.seed.keeper.ready(pipeline) {
            return;
        }
        let view = LogView::new(pipeline.segments().clone(), pipeline.watermark().durable());
        let progress = match self.core.step(&view, SLICE_EVENTS) {
            Ok(progress) => progress,
            // The record is unreadable for another reason than damage: the crash is counted, and queries scan.
            Err(e) => panic!("reading the record for the trees: {e}"),
        };
        crate::metrics::index_lag(progress.target.saturating_sub(progress.indexed));
        if progress.is_caught_up() {
            // Display only; readers beside the owner do without it.
            let _ = self.seed.lock.write_indexed(&pipeline.segments().journal(), progress.indexed);
            return;
        }
        self.working = true;
        if pipeline.ledger().pending().events > BUSY_EVENTS {
            ctx.run_later(BUSY_PAUSE, |actor, ctx| actor.work(ctx));
        } else {
            ctx.spawn(tokio::task::yield_now().into_actor(self).map(|(), actor, ctx| actor.work(ctx)));
        }
    }
}
