//! Keeps the trees, off the commit path, and fills empty space ahead of the record's tail.
//! Receives: `IndexDoorbell`. Emits: how far the trees are.
//! Owns: its place in the chunk in progress. Survives its crash: the index, whose cursor it reads again.
//! Limits: one slice of events per turn; sled is opened on a thread of its own, which may be lost.

use super::{Birth, Effect, On, Stage, Timer};
use crate::error::StageError;
use crate::messages::IndexDoorbell;
use crate::pipeline::Pipeline;
use crate::supervision::{Progress, Role};
use crate::trees::TreeKeeper;
use semj_storage::log::{LockFile, LogView};
use semj_storage::plant::{Bug, planted};
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
pub struct IndexerStage {
    seed: IndexerSeed,
    progress: Arc<Progress>,
    core: IndexCore,
    gathering: bool,
    working: bool,
}

impl Stage for IndexerStage {
    type Seed = IndexerSeed;
    const ROLE: Role = Role::Indexer;

    fn recover(seed: &IndexerSeed, birth: Birth) -> Result<Self, StageError> {
        crate::chaos::point("indexer:recover");
        let core = IndexCore::new(seed.keeper.index().clone());
        let (seed, progress) = (seed.clone(), birth.progress);
        Ok(IndexerStage { seed, progress, core, gathering: false, working: false })
    }

    fn start(&mut self, out: &mut Vec<Effect>) -> Result<(), StageError> {
        crate::chaos::point("indexer:start");
        self.seed.pipeline.bells.index.heard();
        self.work(out)
    }

    fn timer(&mut self, timer: Timer, out: &mut Vec<Effect>) -> Result<(), StageError> {
        crate::chaos::point("indexer:timer");
        if timer == Timer::Work {
            return self.work(out);
        }
        self.gathering = false;
        self.seed.pipeline.bells.index.heard();
        let prealloc = self.seed.pipeline.prealloc();
        if prealloc.wants_fill() {
            let Some(_slow) = self.progress.slow() else { return Ok(()) };
            prealloc.fill();
        }
        if self.working { Ok(()) } else { self.work(out) }
    }
}

impl On<IndexDoorbell> for IndexerStage {
    fn on(&mut self, _: IndexDoorbell, out: &mut Vec<Effect>) -> Result<(), StageError> {
        crate::chaos::point("indexer:message");
        // The bell stays armed meanwhile, so further commits do not ring.
        if !std::mem::replace(&mut self.gathering, true) {
            out.push(Effect::After(GATHER, Timer::Gathered));
        }
        Ok(())
    }
}

impl IndexerStage {
    /// One finished segment gets its seal. Without it everything works, only opening takes longer.
    fn seal(&self, pipeline: &Pipeline) {
        let Some(_slow) = self.progress.slow() else { return };
        if let Ok(Some(through)) = pipeline.sealer().seal_one(pipeline.segments(), pipeline.clock().wall_ns())
        {
            pipeline.ledger().forget_ids(through);
            if pipeline.sealer().has_work() {
                pipeline.bells.index.ring();
            }
        }
    }

    fn work(&mut self, out: &mut Vec<Effect>) -> Result<(), StageError> {
        self.working = false;
        crate::chaos::point("indexer:before_step");
        let pipeline = &self.seed.pipeline;
        self.seal(pipeline);
        if !self.progress.tick() || !self.seed.keeper.ready(pipeline) {
            return Ok(());
        }
        let watermark = pipeline.watermark();
        let last = if planted(Bug::TreesAheadOfCommit) { watermark.written() } else { watermark.durable() };
        let view = LogView::new(pipeline.segments().clone(), last);
        // The record is unreadable for another reason than damage: the crash is counted, and queries scan.
        let read = |e| StageError(format!("reading the record for the trees: {e}"));
        let progress = self.core.step(&view, SLICE_EVENTS).map_err(read)?;
        crate::chaos::point("indexer:after_step");
        crate::metrics::index_lag(progress.target.saturating_sub(progress.indexed));
        if progress.is_caught_up() {
            // Display only; readers beside the owner do without it.
            let _ = self.seed.lock.write_indexed(&pipeline.segments().journal(), progress.indexed);
            return Ok(());
        }
        self.working = true;
        if pipeline.ledger().pending().events > BUSY_EVENTS {
            out.push(Effect::After(BUSY_PAUSE, Timer::Work));
        } else {
            out.push(Effect::Yield(Timer::Work));
        }
        Ok(())
    }
}
