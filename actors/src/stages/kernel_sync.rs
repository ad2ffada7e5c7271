//! Reads kernel sources and brings what they hand out into the ledger, together with the place to go on from.
//! Receives: `SyncDoorbell`. Emits: groups into the ledger.
//! Owns: a [`Keeper`] per source. Survives its crash: sources, what was taken from them, and the accounts behind what was
//! admitted; keepers are made anew from these.
//! Limits: one call of each source per turn, of at most 512 items; a source that does not return costs nobody but itself.

use super::{Birth, Effect, On, Stage, Timer};
use crate::cores::kernel::SyncLimits;
use crate::error::StageError;
use crate::kernel_sync::{Condition, Desk, Keeper, Next, RETRY_NS, Slot, Tools, tell_hang};
use crate::messages::SyncDoorbell;
use crate::pipeline::Pipeline;
use crate::supervision::{Progress, Role};
use semj_storage::error::ReadError;
use std::sync::Arc;
use std::time::Duration;

/// What outlives an incarnation.
#[derive(Clone, Debug)]
pub struct KernelSyncSeed {
    /// The shared state.
    pub pipeline: Arc<Pipeline>,
    pub(crate) desk: Arc<Desk>,
    /// How often sources are looked at, and when one is behind.
    pub limits: SyncLimits,
}

/// A source, and what this incarnation has of it.
#[derive(Debug)]
struct Tended {
    slot: Arc<Slot>,
    /// `None` until the source is this incarnation's.
    keeper: Option<Keeper>,
}

/// See the module.
#[derive(Debug)]
pub struct KernelSyncStage {
    seed: KernelSyncSeed,
    progress: Arc<Progress>,
    tended: Vec<Tended>,
    /// A callback is under way, for then, ns.
    timer_at: Option<i64>,
}

impl Stage for KernelSyncStage {
    type Seed = KernelSyncSeed;
    const ROLE: Role = Role::KernelSync;

    fn recover(seed: &KernelSyncSeed, birth: Birth) -> Result<Self, StageError> {
        crate::chaos::point("kernel_sync:recover");
        let (seed, progress) = (seed.clone(), birth.progress);
        Ok(KernelSyncStage { seed, progress, tended: Vec::new(), timer_at: None })
    }

    fn start(&mut self, out: &mut Vec<Effect>) -> Result<(), StageError> {
        crate::chaos::point("kernel_sync:start");
        self.seed.pipeline.bells.sync.heard();
        self.work(out)
    }

    fn timer(&mut self, timer: Timer, out: &mut Vec<Effect>) -> Result<(), StageError> {
        crate::chaos::point("kernel_sync:timer");
        if timer == Timer::Wait {
            self.timer_at = None;
        }
        self.work(out)
    }
}

impl On<SyncDoorbell> for KernelSyncStage {
    fn on(&mut self, _: SyncDoorbell, out: &mut Vec<Effect>) -> Result<(), StageError> {
        crate::chaos::point("kernel_sync:message");
        self.seed.pipeline.bells.sync.heard();
        self.work(out)
    }
}

impl KernelSyncStage {
    fn work(&mut self, out: &mut Vec<Effect>) -> Result<(), StageError> {
        let KernelSyncStage { seed, progress, tended, .. } = self;
        let unread = |e: ReadError| StageError(format!("reading the record for the sources: {e}"));
        for slot in seed.desk.slots().into_iter().skip(tended.len()) {
            tended.push(Tended { slot, keeper: None });
        }
        let (mut more, mut at) = (false, None::<i64>);
        let clock_sets = seed.desk.clock_sets();
        let tools = Tools { pipeline: &seed.pipeline, progress, limits: &seed.limits, clock_sets };
        for one in tended {
            let next = one.tend(&tools).map_err(unread)?;
            if !progress.tick() {
                return Ok(());
            }
            more |= next.more;
            at = [at, next.at].into_iter().flatten().min();
        }
        if more {
            out.push(Effect::Yield(Timer::Work));
            return Ok(());
        }
        if let Some(at) = at
            && self.timer_at.is_none_or(|set| at < set)
        {
            let wait = at.saturating_sub(self.seed.pipeline.clock().boot_ns()).max(0);
            self.timer_at = Some(at);
            out.push(Effect::After(Duration::from_nanos(wait as u64), Timer::Wait));
        }
        self.seed.desk.watch();
        Ok(())
    }
}

impl Tended {
    /// Does what is to be done, if the source is this incarnation's.
    ///
    /// An incarnation holds the source for all of it: whoever comes after it begins when it is out, and one that was
    /// replaced before it got here does nothing. So an account has one keeper, and what outlives them is changed by one.
    fn tend(&mut self, tools: &Tools<'_>) -> Result<Next, ReadError> {
        let slot = self.slot.clone();
        let Some(mut machine) = slot.machine.try_lock() else {
            slot.fail(Condition::Hangs);
            tell_hang(&slot, tools);
            return Ok(Next { more: false, at: Some(tools.now() + RETRY_NS) });
        };
        if !tools.progress.tick() {
            return Ok(Next::default());
        }
        if matches!(slot.state.lock().condition, Condition::Ended(_)) {
            return Ok(Next::default());
        }
        let keeper = match &mut self.keeper {
            Some(keeper) => keeper,
            none => none.insert(Keeper::begin(&slot, tools)?),
        };
        keeper.tend(&mut machine, tools)
    }
}
