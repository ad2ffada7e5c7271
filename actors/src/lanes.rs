//! The engine's threads and which actors run on them. Each lane is a thread with an actix system of its own, so that
//! one can end, or hang and be replaced, without the others.

use crate::mail::Route;
use crate::messages::{DurableDoorbell, IndexDoorbell, LedgerDoorbell, SyncDoorbell};
use crate::pipeline::Pipeline;
use crate::shell::{Routes, StageActor};
use crate::stages::{IndexerSeed, KernelSyncSeed, Stage};
use crate::supervision::{Exit, LaneName, Life, Ward, Wards};
use actix::System;
use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

/// Smallest stack of a thread that runs actors, in bytes.
const STACK_BYTES: usize = 2 << 20;

/// What every lane gets to end, however late it is.
const GRACE: Duration = Duration::from_millis(200);

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

    /// Waits for the thread's end; `false` when it lives on.
    fn ends_within(&self, time: Duration) -> bool {
        matches!(self.ended.recv_timeout(time), Err(crossbeam_channel::RecvTimeoutError::Disconnected))
    }
}

/// An actor that is to be started. A lane that ends before it could do so is reported like one that ends later.
struct Expected {
    ward: Arc<Ward>,
    life: Arc<Life>,
    is_born: bool,
}

impl Drop for Expected {
    fn drop(&mut self) {
        if !self.is_born && !self.life.progress.is_fenced() {
            self.life.progress.fence_dead();
            self.ward.died(&self.life, Exit::LaneEnded, "the thread of its lane ended before it started");
        }
    }
}

/// All lanes.
#[derive(Debug)]
pub(crate) struct Lanes {
    pipeline: Arc<Pipeline>,
    index: IndexerSeed,
    sync: KernelSyncSeed,
    wards: Wards,
    routes: Arc<Routes>,
    slots: [Mutex<Option<Lane>>; LaneName::ALL.len()],
}

impl Lanes {
    /// Starts all lanes but that of KernelSync, from the last stage to the first: each stage finds the next one in place.
    ///
    /// # Errors
    /// When a thread cannot be made.
    pub(crate) fn start(
        pipeline: Arc<Pipeline>,
        index: IndexerSeed,
        sync: KernelSyncSeed,
        wards: Wards,
    ) -> io::Result<Self> {
        let lanes = Lanes { pipeline, index, sync, wards, routes: Arc::default(), slots: Default::default() };
        let bells = &lanes.pipeline.bells;
        let to = lanes.routes.clone();
        bells.ingest.connect(move || to.ingest.send(LedgerDoorbell));
        let to = lanes.routes.clone();
        bells.index.connect(move || to.indexer.send(IndexDoorbell));
        let to = lanes.routes.clone();
        bells.persist.connect(move || to.persister.send(DurableDoorbell));
        let to = lanes.routes.clone();
        bells.sync.connect(move || to.kernel_sync.send(SyncDoorbell));
        for name in LaneName::ALL.into_iter().rev().filter(|name| *name != LaneName::Sync) {
            let born = lanes.begin(name)?;
            // A batch that finds no route is lost, and only a restart would cut it again.
            for _ in 0..2 {
                let _ = born.recv();
            }
        }
        Ok(lanes)
    }

    /// Starts a lane that not every journal needs, unless it is there.
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub(crate) fn need(&self, name: LaneName) -> io::Result<()> {
        let is_there = self.slots.get(name.index()).is_some_and(|slot| slot.lock().is_some());
        if is_there { Ok(()) } else { self.begin(name).map(drop) }
    }

    /// Starts a lane with its actors anew. What is left of the earlier one is told to end; nothing is waited for, since
    /// the new one may hang, too.
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub(crate) fn replace(&self, name: LaneName) -> io::Result<()> {
        self.begin(name).map(drop)
    }

    /// As [`Lanes::replace`]; the answer hears of each actor that was started, and ends with the last.
    fn begin(&self, name: LaneName) -> io::Result<Receiver<()>> {
        let (tell, born) = bounded(2);
        let lane = Lane::start(name.thread())?;
        let pipeline = &self.pipeline;
        match name {
            LaneName::Derive => {
                self.start_stage(&lane, &tell, self.index.clone(), |to| &to.indexer);
            }
            LaneName::Sync => {
                self.start_stage(&lane, &tell, self.sync.clone(), |to| &to.kernel_sync);
            }
            LaneName::Persist => {
                self.start_stage(&lane, &tell, pipeline.clone(), |to| &to.persister);
            }
            LaneName::Control => {
                self.start_stage(&lane, &tell, pipeline.clone(), |to| &to.batcher);
                self.start_stage(&lane, &tell, pipeline.clone(), |to| &to.ingest);
            }
        }
        let old = self.slots.get(name.index()).and_then(|slot| slot.lock().replace(lane));
        if let Some(old) = old {
            old.system.stop();
        }
        Ok(born)
    }

    /// Lets the lane start an actor, and waits for nothing: the lane may hang from its first moment on. The route leads
    /// to the actor before its first turn, which may call for work from the others.
    fn start_stage<S: Stage>(
        &self,
        lane: &Lane,
        tell: &Sender<()>,
        seed: S::Seed,
        route: fn(&Routes) -> &Route<StageActor<S>>,
    ) {
        let Some(ward) = self.wards.get(S::ROLE.index()).cloned() else { return };
        let (routes, life) = (self.routes.clone(), ward.begin_life());
        let tell = tell.clone();
        let birth = Expected { ward, life, is_born: false };
        lane.system.arbiter().spawn_fn(move || {
            // As a whole: a closure that took its parts would leave the rest to be dropped at once.
            let mut birth = birth;
            let (ward, life) = (birth.ward.clone(), birth.life.clone());
            route(&routes).set(StageActor::start(seed, routes.clone(), ward, life));
            birth.is_born = true;
            let _ = tell.send(());
        });
    }

    /// Ends all lanes, in the order of the flow. Whatever must be committed was committed before. Answers with those
    /// that did not end in time.
    pub(crate) fn stop(&self, until: Instant) -> Vec<&'static str> {
        let mut left = Vec::new();
        for name in LaneName::ALL {
            let Some(lane) = self.slots.get(name.index()).and_then(|slot| slot.lock().take()) else {
                continue;
            };
            lane.system.stop();
            if !lane.ends_within(until.saturating_duration_since(Instant::now()).max(GRACE)) {
                left.push(name.thread());
            }
        }
        self.routes.clear();
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
