//! Packs a range of events into one batch: entries, table, digest, compression.
//! Receives: `BatchRange`. Emits: `CommitBatch` to the persister.
//! Owns: nothing. Survives its crash: the chunk, which stays in the ledger and is cut again.
//! Limits: one batch per message, of at most 8,192 events or 4 MiB.

use super::{Birth, Effect, On, Stage, Timer};
use crate::error::StageError;
use crate::messages::BatchRange;
use crate::pipeline::Pipeline;
use crate::supervision::Role;
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub struct BatcherStage {
    pipeline: Arc<Pipeline>,
}

impl Stage for BatcherStage {
    type Seed = Arc<Pipeline>;
    const ROLE: Role = Role::Batcher;

    fn recover(pipeline: &Arc<Pipeline>, birth: Birth) -> Result<Self, StageError> {
        crate::chaos::point("batcher:recover");
        if birth.is_restart {
            pipeline.begin_run(&birth.progress)?;
        }
        Ok(BatcherStage { pipeline: pipeline.clone() })
    }

    fn start(&mut self, _: &mut Vec<Effect>) -> Result<(), StageError> {
        crate::chaos::point("batcher:start");
        Ok(())
    }

    fn timer(&mut self, _: Timer, _: &mut Vec<Effect>) -> Result<(), StageError> {
        Ok(())
    }
}

impl On<BatchRange> for BatcherStage {
    fn on(&mut self, range: BatchRange, out: &mut Vec<Effect>) -> Result<(), StageError> {
        crate::chaos::point("batcher:message");
        crate::chaos::point("batcher:before_pack");
        if let Some(batch) = self.pipeline.pack(Self::ROLE, &range) {
            crate::chaos::point("batcher:after_pack");
            out.push(Effect::Commit(batch));
        }
        Ok(())
    }
}
