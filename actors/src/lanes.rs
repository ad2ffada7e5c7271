//! The engine's threads: control, persist and derive lanes, started from the last stage to the first.

use crate::messages::{DurableDoorbell, IndexDoorbell, LedgerDoorbell};
use crate::pipeline::Pipeline;
use crate::shells::{
    BatcherActor, BatcherSeed, IndexerActor, IndexerSeed, IngestActor, IngestSeed, PersisterActor,
    PersisterSeed,
};
use crate::supervision::{Cell, Obituary, Recover};
use actix::{Addr, Arbiter, System};
use crossbeam_channel::{Sender, bounded};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;
use std::thread::JoinHandle;

/// The running lanes.
#[derive(Debug)]
pub(crate) struct Lanes {
    control: JoinHandle<()>,
    system: System,
}

/// Starts an actor on another lane and waits for its address.
fn start_on<A: Recover>(lane: &Arbiter, seed: A::Seed, obituaries: Sender<Obituary>) -> io::Result<Addr<A>> {
    let (tell, told) = bounded(1);
    lane.spawn_fn(move || {
        let _ = tell.send(Cell::<A>::start(seed, obituaries));
    });
    told.recv().map_err(|_| io::Error::other("a lane ended before its actor started"))
}

/// All actors, wired backwards: each stage is built with the address of the next.
fn start_actors(
    pipeline: &Arc<Pipeline>,
    index: IndexerSeed,
    obituaries: &Sender<Obituary>,
) -> io::Result<[Arbiter; 2]> {
    let (persist_lane, derive_lane) = (Arbiter::new(), Arbiter::new());
    let indexer = start_on::<IndexerActor>(&derive_lane, index, obituaries.clone())?;
    pipeline.bells.index.connect(move || indexer.do_send(IndexDoorbell));
    let seed = PersisterSeed { pipeline: pipeline.clone() };
    let persister = start_on::<PersisterActor>(&persist_lane, seed, obituaries.clone())?;
    let bell = persister.clone();
    pipeline.bells.persist.connect(move || bell.do_send(DurableDoorbell));
    let seed = BatcherSeed { pipeline: pipeline.clone(), persister };
    let batcher = Cell::<BatcherActor>::start(seed, obituaries.clone());
    let seed = IngestSeed { pipeline: pipeline.clone(), batcher };
    let ingest = Cell::<IngestActor>::start(seed, obituaries.clone());
    pipeline.bells.ingest.connect(move || ingest.do_send(LedgerDoorbell));
    // Rings from before the bells were connected went nowhere.
    for bell in [&pipeline.bells.index, &pipeline.bells.persist, &pipeline.bells.ingest] {
        bell.heard();
        bell.ring();
    }
    Ok([persist_lane, derive_lane])
}

impl Lanes {
    /// Starts all lanes and actors.
    ///
    /// # Errors
    /// When a thread cannot be made.
    pub(crate) fn start(
        pipeline: Arc<Pipeline>,
        index: IndexerSeed,
        obituaries: Sender<Obituary>,
    ) -> io::Result<Self> {
        let (tell, told) = bounded(1);
        let control =
            std::thread::Builder::new().name("semj-control".into()).stack_size(2 << 20).spawn(move || {
                let runner = System::new();
                let started = runner.block_on(async { start_actors(&pipeline, index, &obituaries) });
                drop((pipeline, obituaries));
                let lanes = match started {
                    Ok(lanes) => lanes,
                    Err(e) => {
                        let _ = tell.send(Err(e));
                        return;
                    }
                };
                let _ = tell.send(Ok(System::current()));
                let _ = runner.run();
                for lane in lanes {
                    lane.stop();
                    let _ = lane.join();
                }
            })?;
        let system =
            told.recv().map_err(|_| io::Error::other("the control lane ended while it started"))??;
        Ok(Lanes { control, system })
    }

    /// Ends all lanes. Whatever must be committed was committed before.
    pub(crate) fn stop(self) {
        self.system.stop();
        let _ = self.control.join();
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
