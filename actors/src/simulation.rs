//! What a simulation of the engine needs and no host does: a journal whose parts are all there and of which nothing
//! runs by itself. Who holds it lets the stages take their turns, and the supervisor.

use crate::clock::Clock;
use crate::emitter::Emitter;
use crate::engine::Shared;
use crate::opening::{OpenError, Parts};
use crate::options::EngineOptions;
use crate::pipeline::Pipeline;
use crate::stages::IndexerSeed;
use crate::supervision::{Command, Duty, Exit, Hands, Life, Obituary, Role, Verdict, Ward, Wards};
use crossbeam_channel::{Receiver, Sender};
use semj_storage::backend::Backend;
use semj_storage::log::LogView;
use std::any::Any;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::task::Waker;
use uuid::Uuid;

/// A journal of which nothing runs by itself.
pub struct Journal<H> {
    shared: Arc<Shared>,
    index: IndexerSeed,
    wards: Wards,
    reports: Receiver<Obituary>,
    duty: Duty<H>,
}

impl<H: Hands> Journal<H> {
    /// Opens the journal in `root`. `fresh` is the identity of a new one, and what tells derived ids of this opening
    /// from others; wakers of tasks go out through `wake`; `hands` do what the supervisor wants.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(
        backend: Arc<dyn Backend>,
        clock: Arc<dyn Clock>,
        root: &Path,
        options: EngineOptions,
        fresh: (Uuid, u64),
        wake: Sender<Vec<Waker>>,
        hands: H,
    ) -> Result<Self, OpenError> {
        let Parts { pipeline, index, .. } =
            Parts::open(backend, clock.clone(), root, &options, fresh, |_| Ok(wake))?;
        let (obituaries, reports) = crossbeam_channel::unbounded();
        let wards: Wards = Role::ALL.map(|role| {
            let judge = pipeline.clone();
            let judge = move |role, exit, words: &str| judge.blame(role, exit, words);
            Arc::new(Ward::new(role, options.restarts, clock.clone(), obituaries.clone(), judge))
        });
        let duty = Duty::new(wards.clone(), clock, options.watch, hands);
        Ok(Journal { shared: Arc::new(Shared { pipeline, options }), index, wards, reports, duty })
    }

    /// The shared state.
    pub fn pipeline(&self) -> &Arc<Pipeline> {
        &self.shared.pipeline
    }

    /// What the indexer is made of.
    pub fn index(&self) -> &IndexerSeed {
        &self.index
    }

    /// As the engine's.
    pub fn emitter(&self, name: &str) -> Emitter {
        Emitter::new(self.shared.clone(), Some(name))
    }

    /// All that is durable by now, for reading.
    pub fn view(&self) -> LogView {
        LogView::new(self.pipeline().segments().clone(), self.pipeline().watermark().durable())
    }

    fn ward(&self, role: Role) -> &Arc<Ward> {
        let [ingest, batcher, persister, indexer, kernel_sync] = &self.wards;
        match role {
            Role::Ingest => ingest,
            Role::Batcher => batcher,
            Role::Persister => persister,
            Role::Indexer => indexer,
            Role::KernelSync => kernel_sync,
        }
    }

    /// Begins a life on a new lane.
    pub fn begin_life(&self, role: Role) -> Arc<Life> {
        self.ward(role).begin_life()
    }

    /// Counts and reports a death; what is done about it.
    pub fn died(&self, life: &Arc<Life>, role: Role, exit: Exit, words: &str) -> Verdict {
        self.ward(role).died(life, exit, words)
    }

    /// What the actor of this life is asked to do.
    pub fn take_command(&self, life: &Life) -> Option<Command> {
        life.take_command(Waker::noop())
    }

    /// One turn of the supervisor; it hears of one death at most.
    pub fn supervise(&mut self) -> bool {
        let obituary = self.reports.try_recv().ok();
        self.duty.turn(obituary.as_ref());
        obituary.is_some()
    }

    /// Ends the record cleanly.
    ///
    /// # Errors
    /// The disk's.
    pub fn close(&self) -> io::Result<()> {
        let pipeline = self.pipeline();
        let now = pipeline.clock().wall_ns();
        let closed = pipeline.with_writer(std::time::Duration::ZERO, |writer| writer.close(now));
        closed.unwrap_or_else(|| Err(io::Error::other("there is no writer")))
    }
}

/// The roles that a simulation plays: kernel sources have tests of their own.
pub const ROLES: [Role; 4] = [Role::Ingest, Role::Batcher, Role::Persister, Role::Indexer];

/// The persister of the current run was fenced: its writer stays where it is.
pub fn abandon_writer(pipeline: &Pipeline) {
    pipeline.run().fence();
}

/// The words of a panic, as they are told.
pub fn panic_text(payload: &(dyn Any + Send)) -> String {
    crate::supervision::panic_text(payload)
}
