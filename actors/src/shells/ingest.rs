//! Cuts chunks from the ledger and has their causes resolved.
//! Receives: `LedgerDoorbell`. Emits: `BatchRange` to the batcher.
//! Owns: nothing but its timer. Survives its crash: ledger and cursor, which starts again behind what is written.
//! Limits: two batches under way; one slice per message.

use super::BatcherActor;
use crate::messages::LedgerDoorbell;
use crate::pipeline::Pipeline;
use crate::supervision::{Recover, Role};
use actix::{Actor, Addr, AsyncContext, Context, Handler, Supervised};
use std::sync::Arc;
use std::time::Duration;

/// After this long without traffic the lane sleeps, and the next emission pays for waking it.
const IDLE_NS: i64 = 1_000_000_000;

/// What outlives an incarnation.
#[derive(Clone, Debug)]
pub struct IngestSeed {
    /// The shared state.
    pub pipeline: Arc<Pipeline>,
    /// The next stage.
    pub batcher: Addr<BatcherActor>,
}

/// See the module.
#[derive(Debug)]
pub struct IngestActor {
    seed: IngestSeed,
    ticking: bool,
    busy_until_ns: i64,
}

impl Recover for IngestActor {
    type Seed = IngestSeed;
    const ROLE: Role = Role::Ingest;
    fn recover(seed: IngestSeed) -> Self {
        IngestActor { seed, ticking: false, busy_until_ns: 0 }
    }
}

impl Actor for IngestActor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Context<Self>) {
        // A ring that died with the last incarnation must not keep the bell silent.
        self.seed.pipeline.bells.ingest.heard();
        self.work(ctx);
    }
}

impl Supervised for IngestActor {
    fn restarting(&mut self, _: &mut Context<Self>) {
        *self = Self::recover(self.seed.clone());
        self.seed.pipeline.restart_run();
    }
}

impl Handler<LedgerDoorbell> for IngestActor {
    type Result = ();
    fn handle(&mut self, _: LedgerDoorbell, ctx: &mut Context<Self>) {
        self.seed.pipeline.bells.ingest.heard();
        self.work(ctx);
    }
}

impl IngestActor {
    fn work(&mut self, ctx: &mut Context<Self>) {
        crate::chaos::point("ingest:before_cut");
        let pipeline = self.seed.pipeline.clone();
        pipeline.tell_shed();
        loop {
            match pipeline.next_range() {
                Ok(Some(range)) => self.seed.batcher.do_send(range),
                Ok(None) => break,
                // Without the record no cause can be told true: the crash is counted, and enough of them poison.
                Err(e) => panic!("resolving causes: {e}"),
            }
        }
        crate::chaos::point("ingest:after_cut");
        let now = pipeline.clock().boot_ns();
        let idle = pipeline.ledger().pending().events == 0;
        if !idle {
            self.busy_until_ns = now + IDLE_NS;
        }
        if idle && now >= self.busy_until_ns {
            pipeline.ledger().set_parked(true);
            // An event admitted before the flag was seen has rung no bell.
            if pipeline.ledger().pending().events == 0 || !pipeline.ledger().claim_wake() {
                return;
            }
        }
        pipeline.ledger().set_parked(false);
        self.tick(ctx);
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.ticking, true) {
            let grain =
                Duration::from_nanos((self.seed.pipeline.cutting().max_age_ns / 2).max(500_000) as u64);
            ctx.run_later(grain, |actor, ctx| {
                actor.ticking = false;
                actor.work(ctx);
            });
        }
    }
}
