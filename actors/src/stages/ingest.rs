//! Cuts chunks from the ledger and has their causes resolved.
//! Receives: `LedgerDoorbell`. Emits: `BatchRange` to the batcher.
//! Owns: nothing but its timer. Survives its crash: ledger and cursor, which starts again behind what is written.
//! Limits: two batches under way; one slice per message.

use super::{Birth, Effect, On, Stage, Timer};
use crate::error::StageError;
use crate::messages::LedgerDoorbell;
use crate::pipeline::Pipeline;
use crate::supervision::{Progress, Role};
use semj_storage::plant::{Bug, planted};
use std::sync::Arc;
use std::time::Duration;

/// After this long without traffic the lane sleeps, and the next emission pays for waking it.
const IDLE_NS: i64 = 1_000_000_000;
/// Shortest time between two looks without a bell.
const TICK_NS_MIN: i64 = 500_000;

/// See the module.
#[derive(Debug)]
pub struct IngestStage {
    pipeline: Arc<Pipeline>,
    progress: Arc<Progress>,
    ticking: bool,
    busy_until_ns: i64,
}

impl Stage for IngestStage {
    type Seed = Arc<Pipeline>;
    const ROLE: Role = Role::Ingest;

    fn recover(pipeline: &Arc<Pipeline>, birth: Birth) -> Result<Self, StageError> {
        crate::chaos::point("ingest:recover");
        if birth.is_restart {
            pipeline.begin_run(&birth.progress)?;
        }
        let (pipeline, progress) = (pipeline.clone(), birth.progress);
        Ok(IngestStage { pipeline, progress, ticking: false, busy_until_ns: 0 })
    }

    fn start(&mut self, out: &mut Vec<Effect>) -> Result<(), StageError> {
        crate::chaos::point("ingest:start");
        if planted(Bug::ForgetRearm) {
            return self.work(out);
        }
        // A ring that died with the last incarnation must not keep the bell silent.
        self.on(LedgerDoorbell, out)
    }

    fn timer(&mut self, _: Timer, out: &mut Vec<Effect>) -> Result<(), StageError> {
        crate::chaos::point("ingest:timer");
        self.ticking = false;
        self.work(out)
    }
}

impl On<LedgerDoorbell> for IngestStage {
    fn on(&mut self, _: LedgerDoorbell, out: &mut Vec<Effect>) -> Result<(), StageError> {
        crate::chaos::point("ingest:message");
        self.pipeline.bells.ingest.heard();
        self.work(out)
    }
}

impl IngestStage {
    fn work(&mut self, out: &mut Vec<Effect>) -> Result<(), StageError> {
        crate::chaos::point("ingest:before_cut");
        let pipeline = self.pipeline.clone();
        pipeline.tell_own();
        while let Some(range) =
            pipeline.next_range(Self::ROLE, &self.progress).map_err(|e| Pipeline::unresolved(&e))?
        {
            out.push(Effect::Batch(range));
        }
        crate::chaos::point("ingest:after_cut");
        // An incarnation that was replaced must not tell emitters that the lane is awake: its timers are gone.
        if !self.progress.tick() && !planted(Bug::LateIncarnationActs) {
            return Ok(());
        }
        let now = pipeline.clock().boot_ns();
        let idle = pipeline.ledger().pending().events == 0;
        if !idle {
            self.busy_until_ns = now + IDLE_NS;
        }
        if idle && now >= self.busy_until_ns {
            pipeline.ledger().set_parked(true);
            // An event admitted before the flag was seen has rung no bell.
            if pipeline.ledger().pending().events == 0 || !pipeline.ledger().claim_wake() {
                return Ok(());
            }
        }
        pipeline.ledger().set_parked(false);
        if !std::mem::replace(&mut self.ticking, true) {
            let grain = (pipeline.cutting().max_age_ns / 2).max(TICK_NS_MIN);
            out.push(Effect::After(Duration::from_nanos(grain as u64), Timer::Tick));
        }
        Ok(())
    }
}
