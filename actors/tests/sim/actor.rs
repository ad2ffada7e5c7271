//! An actor without actix: a stage, its mailbox and its timers.

use semj_actors::Pipeline;
use semj_actors::StageError;
use semj_actors::messages::{BatchRange, CommitBatch, DurableDoorbell, IndexDoorbell, LedgerDoorbell};
use semj_actors::stages::{
    BatcherStage, Birth, Effect, IndexerSeed, IndexerStage, IngestStage, On, PersisterStage, Stage, Timer,
};
use semj_actors::supervision::{Life, Role};
use std::collections::VecDeque;
use std::sync::Arc;

/// What lies in a mailbox.
#[derive(Debug)]
pub enum Mail {
    Ledger,
    Batch(BatchRange),
    Commit(CommitBatch),
    Durable,
    Index,
}

impl Mail {
    pub fn name(&self) -> &'static str {
        match self {
            Mail::Ledger => "LedgerDoorbell",
            Mail::Batch(_) => "BatchRange",
            Mail::Commit(_) => "CommitBatch",
            Mail::Durable => "DurableDoorbell",
            Mail::Index => "IndexDoorbell",
        }
    }
}

/// What an actor is given a turn for.
#[derive(Debug)]
pub enum Input {
    Start,
    Mail(Mail),
    Timer(Timer),
}

impl Input {
    pub fn name(&self) -> &'static str {
        match self {
            Input::Start => "start",
            Input::Mail(mail) => mail.name(),
            Input::Timer(_) => "timer",
        }
    }
}

/// A stage of any role.
#[derive(Debug)]
pub enum Living {
    Ingest(IngestStage),
    Batcher(BatcherStage),
    Persister(PersisterStage),
    Indexer(IndexerStage),
}

impl Living {
    pub fn recover(
        role: Role,
        pipeline: &Arc<Pipeline>,
        index: &IndexerSeed,
        birth: Birth,
    ) -> Result<Self, StageError> {
        Ok(match role {
            Role::Ingest => Living::Ingest(IngestStage::recover(pipeline, birth)?),
            Role::Batcher => Living::Batcher(BatcherStage::recover(pipeline, birth)?),
            Role::Persister => Living::Persister(PersisterStage::recover(pipeline, birth)?),
            Role::Indexer => Living::Indexer(IndexerStage::recover(index, birth)?),
            Role::KernelSync => unreachable!("it is not played"),
        })
    }

    pub fn take(&mut self, input: Input, out: &mut Vec<Effect>) -> Result<(), StageError> {
        match (self, input) {
            (Living::Ingest(s), Input::Start) => s.start(out),
            (Living::Batcher(s), Input::Start) => s.start(out),
            (Living::Persister(s), Input::Start) => s.start(out),
            (Living::Indexer(s), Input::Start) => s.start(out),
            (Living::Ingest(s), Input::Timer(t)) => s.timer(t, out),
            (Living::Batcher(s), Input::Timer(t)) => s.timer(t, out),
            (Living::Persister(s), Input::Timer(t)) => s.timer(t, out),
            (Living::Indexer(s), Input::Timer(t)) => s.timer(t, out),
            (Living::Ingest(s), Input::Mail(Mail::Ledger)) => s.on(LedgerDoorbell, out),
            (Living::Batcher(s), Input::Mail(Mail::Batch(range))) => s.on(range, out),
            (Living::Persister(s), Input::Mail(Mail::Commit(batch))) => s.on(batch, out),
            (Living::Persister(s), Input::Mail(Mail::Durable)) => s.on(DurableDoorbell, out),
            (Living::Indexer(s), Input::Mail(Mail::Index)) => s.on(IndexDoorbell, out),
            (stage, input) => panic!("{stage:?} does not take {input:?}"),
        }
    }
}

/// One stretch of an actor on one lane.
#[derive(Debug)]
pub struct Actor {
    pub life: Arc<Life>,
    /// Tells lives of one role apart.
    pub number: u64,
    pub stage: Option<Living>,
    pub is_restart: bool,
    pub mail: VecDeque<Mail>,
    /// When, and what; those without a place in time come with the next turn.
    pub timers: Vec<(i64, Timer)>,
    /// A restart, or a lane that gets no processor, waits until then.
    pub pause_until: i64,
    /// A turn of it is under way and stands still.
    pub is_busy: bool,
    pub is_over: bool,
}

impl Actor {
    pub fn new(life: Arc<Life>, number: u64) -> Self {
        Actor {
            is_restart: life.is_restart,
            life,
            number,
            stage: None,
            mail: VecDeque::new(),
            timers: Vec::new(),
            pause_until: 0,
            is_busy: false,
            is_over: false,
        }
    }

    /// As the cell does: mailbox and addresses stay, all else is forgotten.
    pub fn restart(&mut self) {
        self.stage = None;
        self.timers.clear();
    }

    /// Its lane is gone, or it is not brought back.
    pub fn end(&mut self) {
        self.is_over = true;
        self.life.progress.fence_dead();
        self.stage = None;
        self.timers.clear();
        self.mail.clear();
    }
}
