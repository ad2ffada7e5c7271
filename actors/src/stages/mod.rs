//! What each actor does, without the actor: a stage takes messages and timers and answers with effects. The actor is a
//! shell around it; the simulator drives the same stages without one.

mod batcher;
mod indexer;
mod ingest;
mod kernel_sync;
mod persister;

pub use batcher::BatcherStage;
pub use indexer::{IndexerSeed, IndexerStage};
pub use ingest::IngestStage;
pub use kernel_sync::{KernelSyncSeed, KernelSyncStage};
pub use persister::PersisterStage;

use crate::error::StageError;
use crate::messages::{BatchRange, CommitBatch};
use crate::supervision::{Progress, Role};
use std::sync::Arc;
use std::time::Duration;

/// Why a stage is told that time has passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timer {
    /// Ingest: look at the ledger again.
    Tick,
    /// Persister: try the full disk again.
    Retry,
    /// Indexer: commits were gathered.
    Gathered,
    /// Indexer, KernelSync: the next slice.
    Work,
    /// KernelSync: something was waited for long enough.
    Wait,
}

/// What a stage wants done.
#[derive(Debug)]
pub enum Effect {
    /// Send to the batcher.
    Batch(BatchRange),
    /// Send to the persister.
    Commit(CommitBatch),
    /// Call back after this long. A restart cancels it.
    After(Duration, Timer),
    /// Call back when the lane's other work had its turn. A restart cancels it.
    Yield(Timer),
}

/// How an incarnation comes to life.
#[derive(Clone, Debug)]
pub struct Birth {
    /// Its progress word.
    pub progress: Arc<Progress>,
    /// Whether another came before it: its run is to be started anew.
    pub is_restart: bool,
}

/// The logic of an actor and its place among the others.
pub trait Stage: Sized + Unpin + 'static {
    /// What outlives an incarnation.
    type Seed: Clone + Send + Unpin + 'static;
    /// Its role.
    const ROLE: Role;

    /// A new incarnation: the same at opening, after a crash and on a new lane.
    ///
    /// # Errors
    /// When it cannot be brought back; it crashes again.
    fn recover(seed: &Self::Seed, birth: Birth) -> Result<Self, StageError>;

    /// Begins to work.
    ///
    /// # Errors
    /// The actor crashes with it.
    fn start(&mut self, out: &mut Vec<Effect>) -> Result<(), StageError>;

    /// Time has passed.
    ///
    /// # Errors
    /// The actor crashes with it.
    fn timer(&mut self, timer: Timer, out: &mut Vec<Effect>) -> Result<(), StageError>;
}

/// A message that a stage takes.
pub trait On<M>: Stage {
    /// Takes it.
    ///
    /// # Errors
    /// The actor crashes with it.
    fn on(&mut self, message: M, out: &mut Vec<Effect>) -> Result<(), StageError>;
}
