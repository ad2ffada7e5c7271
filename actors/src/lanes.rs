//! The engine's threads and which actors run on them. Each lane is a thread with an actix system of its own, so that
//! one can end, or hang and be replaced, without the others.

use crate::mail::Route;
use crate::messages::{DurableDoorbell, IndexDoorbell, LedgerDoorbell};
use crate::pipeline::Pipeline;
use crate::shell::{Routes, StageActor};
use crate::stages::{BatcherStage, IndexerSeed, IndexerStage, IngestStage, PersisterStage, Stage};
use crate::supervision::{LaneName, Wards};
use actix::{Addr, System};
use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

/// Smallest stack of a thread that runs actors, in bytes.
const STACK_BYTES: usize = 2 << 20;

/// One thread that runs actors.
#[derive(Debug)]
struct Lane {
    system: System,
    /// Never sends anything; its end is the thread's end.
    ended: Receiver<()>,
}

impl Lane {
    fn start(name: &str) -> io::Result<Self> {
        let (tell, told) = bounded(1);
        let (alive, ended) = bounded::<()>(0);
        std::thread::Builder::new().name(name.into()).stack_size(STACK_BYTES).spawn(move || {
            let _alive = alive;
            let runner = System::new();
            let _ = tell.send(System::current());
            let _ = runner.run();
        })?;
        let system = told.recv().map_err(|_| io::Error::other("the thread ended while it started"))?;
        Ok(Lane { system, ended })
    }

    /// Runs `start` on the lane and waits for its answer; `start` must be quick and must not touch the disk.
    fn start_actor<T: Send + 'static>(&self, start: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        let (tell, told) = bounded(1);
        self.system.arbiter().spawn_fn(move || {
            let _ = tell.send(start());
        });
        told.recv().map_err(|_| io::Error::other("the thread ended before its actor started"))
    }

    /// Waits for the thread's end; `false` when it lives on.
    fn ends_within(&self, time: Duration) -> bool {
        matches!(self.ended.recv_timeout(time), Err(crossbeam_channel::RecvTimeoutError::Disconnected))
    }
}

/// All lanes.
#[derive(Debug)]
pub(crate) struct Lanes {
    pipeline: Arc<Pipeline>,
    index: IndexerSeed,
    wards: Wards,
    routes: Arc<Routes>,
    ingest: Arc<Route<StageActor<IngestStage>>>,
    indexer: Arc<Route<StageActor<IndexerStage>>>,
    slots: [Mutex<Option<Lane>>; LaneName::ALL.len()],
}

impl Lanes {
    /// Starts all lanes, from the last stage to the first: each stage finds the next one in place.
    ///
    /// # Errors
    /// When a thread cannot be made.
    pub(crate) fn start(pipeline: Arc<Pipeline>, index: IndexerSeed, wards: Wards) -> io::Result<Self> {
        let lanes = Lanes {
            pipeline,
            index,
            wards,
            routes: Arc::default(),
            ingest: Arc::default(),
            indexer: Arc::default(),
            slots: Default::default(),
        };
        let bells = &lanes.pipeline.bells;
        let (ingest, indexer, routes) = (lanes.ingest.clone(), lanes.indexer.clone(), lanes.routes.clone());
        bells.ingest.connect(move || ingest.send(LedgerDoorbell));
        bells.index.connect(move || indexer.send(IndexDoorbell));
        bells.persist.connect(move || routes.persister.send(DurableDoorbell));
        for name in LaneName::ALL.into_iter().rev() {
            lanes.replace(name)?;
        }
        Ok(lanes)
    }

    /// Starts a lane with its actors. What is left of an earlier one is told to end and not waited for.
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub(crate) fn replace(&self, name: LaneName) -> io::Result<()> {
        let lane = Lane::start(name.thread())?;
        let pipeline = &self.pipeline;
        let bells = &pipeline.bells;
        match name {
            LaneName::Derive => {
                self.indexer.set(self.start_stage::<IndexerStage>(&lane, self.index.clone())?);
                bells.index.heard();
                bells.index.ring();
            }
            LaneName::Persist => {
                self.routes.persister.set(self.start_stage::<PersisterStage>(&lane, pipeline.clone())?);
                bells.persist.heard();
                bells.persist.ring();
            }
            LaneName::Control => {
                self.routes.batcher.set(self.start_stage::<BatcherStage>(&lane, pipeline.clone())?);
                self.ingest.set(self.start_stage::<IngestStage>(&lane, pipeline.clone())?);
                bells.ingest.heard();
                bells.ingest.ring();
            }
        }
        let old = self.slots.get(name.index()).and_then(|slot| slot.lock().replace(lane));
        if let Some(old) = old {
            old.system.stop();
        }
        Ok(())
    }

    fn start_stage<S: Stage>(&self, lane: &Lane, seed: S::Seed) -> io::Result<Addr<StageActor<S>>> {
        let ward = self.wards.get(S::ROLE.index()).cloned();
        let ward = ward.ok_or_else(|| io::Error::other("a role without a ward"))?;
        let (routes, life) = (self.routes.clone(), ward.begin_life());
        lane.start_actor(move || StageActor::<S>::start(seed, routes, ward, life))
    }

    /// Ends all lanes, in the order of the flow. Whatever must be committed was committed before. Answers with those
    /// that did not end in time.
    pub(crate) fn stop(&self, until: Instant) -> Vec<&'static str> {
        let mut left = Vec::new();
        for name in LaneName::ALL {
            let Some(lane) = self.slots.get(name.index()).and_then(|slot| slot.lock().take()) else { continue };
            lane.system.stop();
            if !lane.ends_within(until.saturating_duration_since(Instant::now())) {
                left.push(name.thread());
            }
        }
        self.ingest.clear();
        self.indexer.clear();
        self.routes.batcher.clear();
        self.routes.persister.clear();
        left
    }
}

/// Starts the thread that wakes tasks, so that no host code runs on a lane. It ends when the sender is gone.
///
/// # Errors
/// When the thread cannot be made.
pub(crate) fn start_waker() -> io::Result<Sender<Vec<Waker>>> {
    let (sender, wakers) = crossbeam_channel::unbounded::<Vec<Waker>>();
    std::thread::Builder::new().name("semj-wake".into()).spawn(move || {
        for waker in wakers.iter().flatten() {
            // A waker is host code: its panic is the host's, not this thread's.
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    })?;
    Ok(sender)
}
