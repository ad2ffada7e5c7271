//! The threads of an open journal: lanes with their actors, and the supervisor that knows what to do about them.

use crate::kernel_sync::{AttachError, Desk};
use crate::lanes::Lanes;
use crate::options::EngineOptions;
use crate::pipeline::Pipeline;
use crate::sources::OpenSource;
use crate::stages::{IndexerSeed, KernelSyncSeed};
use crate::supervision::{Escalation, Hands, LaneName, Role, Supervisor, Ward, Wards};
use semj_storage::log::{HEALTH_ROLES, Health, LockFile};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

const _: () = assert!(Role::ALL.len() <= HEALTH_ROLES);

/// See the module.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) wards: Wards,
    pub(crate) supervisor: Supervisor,
    lanes: Arc<Lanes>,
    desk: Arc<Desk>,
}

impl Running {
    /// Starts everything.
    ///
    /// # Errors
    /// When a thread cannot be made.
    pub(crate) fn start(
        pipeline: &Arc<Pipeline>,
        index: IndexerSeed,
        desk: Arc<Desk>,
        options: &EngineOptions,
    ) -> io::Result<Self> {
        let (obituaries, reports) = crossbeam_channel::unbounded();
        let wards: Wards = Role::ALL.map(|role| {
            let judge = pipeline.clone();
            let judge = move |role, exit, words: &str| judge.blame(role, exit, words);
            Arc::new(Ward::new(role, options.restarts, pipeline.clock.clone(), obituaries.clone(), judge))
        });
        let sync = KernelSyncSeed { pipeline: pipeline.clone(), desk: desk.clone(), limits: options.sync };
        let lanes = Arc::new(Lanes::start(pipeline.clone(), index.clone(), sync, wards.clone())?);
        let deeds = Deeds {
            pipeline: pipeline.clone(),
            index,
            lanes: lanes.clone(),
            wards: wards.clone(),
            desk: desk.clone(),
        };
        // What an earlier owner went through is not this one's. For display only.
        let _ = pipeline.record.lock.write_health(&pipeline.segments.journal(), &Health::default());
        let supervisor =
            Supervisor::start(reports, wards.clone(), pipeline.clock.clone(), options.watch, deeds)?;
        Ok(Running { wards, supervisor, lanes, desk })
    }

    /// Attaches a source; its lane is started with the first.
    ///
    /// # Errors
    /// [`AttachError`].
    pub(crate) fn attach(
        &self,
        pipeline: &Arc<Pipeline>,
        mut opener: Box<dyn OpenSource>,
    ) -> Result<(), AttachError> {
        let place = &pipeline.record.place;
        if let Some(folder) = place.segments.parent().and_then(|root| place.backend.real_path(root)) {
            opener.leave_out(&folder);
        }
        let ring = Arc::downgrade(pipeline);
        self.desk.attach(opener, move || {
            if let Some(pipeline) = ring.upgrade() {
                pipeline.bells.sync.ring();
            }
        })?;
        self.lanes.need(LaneName::Sync)?;
        pipeline.bells.sync.ring();
        Ok(())
    }

    /// Threads that were replaced and have not ended.
    pub(crate) fn left_behind(&self) -> u64 {
        self.lanes.left_behind()
    }

    /// Ends everything; answers with the threads that did not end in time.
    pub(crate) fn stop(self, until: Instant) -> Vec<&'static str> {
        self.wards.iter().for_each(|ward| ward.stop());
        self.desk.close();
        self.supervisor.stop();
        self.lanes.stop(until)
    }
}

/// What the supervisor lets be done.
struct Deeds {
    pipeline: Arc<Pipeline>,
    index: IndexerSeed,
    lanes: Arc<Lanes>,
    wards: Wards,
    desk: Arc<Desk>,
}

impl Deeds {
    /// Tells readers something through LOCK. It lies on the disk that may not answer: a thread of its own waits for it.
    fn tell(&self, tell: impl FnOnce(&LockFile, &Uuid) -> io::Result<()> + Send + 'static) {
        let (lock, journal) = (self.pipeline.record.lock.clone(), self.pipeline.segments.journal());
        let tell = move || {
            // For display only.
            let _ = tell(&lock, &journal);
        };
        let _ = std::thread::Builder::new().name("semj-tell".into()).spawn(tell);
    }
}

impl Hands for Deeds {
    fn replace(&self, lane: LaneName) -> io::Result<()> {
        if lane == LaneName::Derive {
            // A thread that hangs in the trees holds them: its successor opens them anew.
            self.index.keeper.abandon();
        }
        self.lanes.replace(lane)
    }

    fn abandon_writer(&self) {
        self.pipeline.run().fence();
    }

    fn escalate(&self, role: Role, how: Escalation, reason: &str) {
        match how {
            Escalation::Poison => self.pipeline.poison(&format!("the {} actor: {reason}", role.name())),
            Escalation::Degrade if role == Role::KernelSync => self.desk.give_up(reason),
            // Queries scan instead; nothing that was acknowledged depends on the trees.
            Escalation::Degrade => {}
        }
    }

    fn stalled(&self, since_ns: Option<i64>) {
        let now = self.pipeline.clock.boot_ns();
        let ago = since_ns.map(|since| Duration::from_nanos(u64::try_from(now - since).unwrap_or(0)));
        let since = ago.and_then(|ago| Instant::now().checked_sub(ago));
        let was = self.pipeline.watermark.stalled();
        self.pipeline.watermark.set_stalled(since);
        if was.is_some() == since.is_some() {
            return;
        }
        let since_ns = ago.map(|ago| self.pipeline.clock.wall_ns() - ago.as_nanos() as i64);
        self.tell(move |lock, journal| lock.write_stall(journal, since_ns));
    }

    fn left_behind(&self) -> u64 {
        self.lanes.left_behind()
    }

    fn tell_health(&self) {
        let mut health = Health {
            left_behind: self.lanes.left_behind() as u32,
            refused: self.pipeline.refusals.count() as u32,
            ..Health::default()
        };
        for (slot, ward) in health.restarts.iter_mut().zip(&self.wards) {
            *slot = ward.restarts() as u32;
        }
        self.tell(move |lock, journal| lock.write_health(journal, &health));
    }
}
