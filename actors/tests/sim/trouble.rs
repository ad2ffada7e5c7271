//! What goes wrong, and what may come of it.

use super::chance::SimClock;
use super::model::Model;
use super::world::{ROOT, World};
use semj_actors::chaos::Injected;
use semj_actors::simulation::ROLES;
use semj_actors::supervision::{Exit, LaneName, Role};
use semj_storage::backend::{Backend, CrashMode, Fault, FaultClass, MemoryBackend, OpenMode, OperationKind};
use semj_storage::log::{LockFile, Place, Segments, recover};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use uuid::Uuid;

/// Points at which a lane may stand still: whatever is locked there, nobody waits for it.
pub const STANDS: [&str; 16] = [
    "ingest:message",
    "ingest:timer",
    "ingest:recover",
    "ingest:before_cut",
    "ingest:resolve",
    "ingest:after_cut",
    "batcher:recover",
    "batcher:message",
    "batcher:before_pack",
    "batcher:pack",
    "batcher:after_pack",
    "persister:recover",
    "persister:message",
    "persister:timer",
    "persister:after_sync",
    "indexer:message",
];
/// Standing still for longer would be taken for a hang, ns.
const STAND_NS: i64 = 8_000_000;
/// Turns within turns.
const DEPTH_MAX: u32 = 3;
/// A batch that was in hand in three hangs is refused, rightly.
const HANGS_MAX: u64 = 2;

/// The end of a process in the middle of something; what is left of its disk.
#[derive(Debug)]
pub struct Cut(pub MemoryBackend, pub bool);

/// What is to happen at the points that actors pass.
#[derive(Default)]
pub struct Hook {
    turns: RefCell<Vec<Role>>,
    /// Passes left until it panics; 0 is never.
    pub bomb: Cell<u64>,
    /// Passes left until the lane stands still.
    pub stand: Cell<u64>,
    /// Whether it stands until it is replaced.
    pub hangs: Cell<bool>,
    /// Turns of each role.
    pub turns_of: RefCell<BTreeMap<Role, u64>>,
    /// Points passed in each turn, where somebody wants to know.
    pub passes: RefCell<Option<BTreeMap<(Role, u64), u64>>>,
    /// For runs that crash at one place: whose turn, which one, and at which point in it; at 0 before it.
    pub script: Cell<Option<(Role, u64, u64)>>,
    /// For runs that hang at one point: which, and the passes of it that are left.
    pub hang_at: Cell<Option<(&'static str, u64)>>,
    /// Who hangs comes back only when all sleep.
    pub returns_late: Cell<bool>,
    /// The persister is to crash when the disk is full.
    pub crash_when_full: Cell<bool>,
    /// Points passed in the turn that the script is about.
    pub passed: Cell<u64>,
}

impl Hook {
    pub fn begin(&self, role: Role) {
        *self.turns_of.borrow_mut().entry(role).or_default() += 1;
        self.turns.borrow_mut().push(role);
    }

    pub fn end(&self) {
        self.turns.borrow_mut().pop();
    }

    fn role(&self) -> Option<Role> {
        self.turns.borrow().last().copied()
    }

    fn counts_down(counter: &Cell<u64>) -> bool {
        let left = counter.get();
        counter.set(left.saturating_sub(1));
        left == 1
    }

    /// Whether the script wants a crash before the next turn.
    pub fn is_scripted_before(&self, role: Role) -> bool {
        let next = self.turns_of.borrow().get(&role).copied().unwrap_or(0) + 1;
        self.script.get() == Some((role, next, 0))
    }

    /// Whether the script wants a crash at this pass.
    fn is_scripted(&self, role: Role) -> bool {
        if let Some(passes) = self.passes.borrow_mut().as_mut() {
            let turn = self.turns_of.borrow().get(&role).copied().unwrap_or(0);
            *passes.entry((role, turn)).or_default() += 1;
        }
        let Some((whose, turn, pass)) = self.script.get() else { return false };
        if whose != role || self.turns_of.borrow().get(&role) != Some(&turn) {
            return false;
        }
        self.passed.set(self.passed.get() + 1);
        pass == self.passed.get()
    }
}

/// What the disk is asked for: each operation takes time, and one of them may be the last.
#[derive(Debug)]
pub struct Operations {
    /// Operations left until the end; 0 is never.
    pub until_cut: AtomicU64,
    /// How the power goes: a mode and a seed; or the process alone is killed.
    how: parking_lot::Mutex<Option<(CrashMode, u64)>>,
}

impl Operations {
    pub fn watch(memory: &MemoryBackend, clock: Arc<SimClock>) -> Arc<Self> {
        let operations = Arc::new(Operations { until_cut: 0.into(), how: Default::default() });
        let watch = operations.clone();
        memory.set_observer(move |memory, operation| {
            let is_sync = matches!(operation.kind, OperationKind::SyncData | OperationKind::SyncDir);
            clock.advance(if is_sync { 100_000 } else { 5_000 });
            let left = watch.until_cut.load(Ordering::Relaxed);
            watch.until_cut.store(left.saturating_sub(1), Ordering::Relaxed);
            if left == 1 {
                let how = *watch.how.lock();
                let image =
                    how.map_or_else(|| memory.kill_image(), |(mode, seed)| memory.crash_image(mode, seed));
                resume_unwind(Box::new(Cut(image, how.is_none())));
            }
        });
        operations
    }

    pub fn cut_after(&self, operations: u64, how: Option<(CrashMode, u64)>) {
        *self.how.lock() = how;
        self.until_cut.store(operations, Ordering::Relaxed);
    }
}

/// What is wrong at the moment, and what that excuses.
pub struct Trouble {
    is_strict: bool,
    calm: Cell<bool>,
    /// The disk failed, or may have: poison is right.
    may_poison: Cell<bool>,
    may_be_full: Cell<bool>,
    may_not_read: Cell<bool>,
    hangs: Cell<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disturbed {
    Yes,
    No,
}

impl Trouble {
    pub fn new(is_strict: bool) -> Self {
        Trouble {
            is_strict,
            calm: false.into(),
            may_poison: false.into(),
            may_be_full: false.into(),
            may_not_read: false.into(),
            hangs: 0.into(),
        }
    }

    pub fn is_calm(&self) -> bool {
        self.calm.get()
    }

    pub fn gave_up(&self, reason: &str) {
        let may = self.is_strict && reason.contains("restarts in") || self.may_poison.get();
        assert!(may, "given up without reason: {reason}");
        self.may_poison.set(true);
    }
}

impl World {
    /// From now on nothing goes wrong any more.
    pub fn calm_down(&self) {
        self.trouble.calm.set(true);
        self.memory.clear_faults();
        self.memory.set_quota(None);
        self.operations.until_cut.store(0, Ordering::Relaxed);
        self.hook.bomb.set(0);
        self.hook.stand.set(0);
    }

    pub fn hears_of_poison(&self, cause: &str) {
        let unread = self.trouble.may_not_read.get() && cause.contains("resolving causes");
        assert!(self.trouble.may_poison.get() || unread, "poisoned without reason: {cause}");
        self.saga.count("heard of poison");
    }

    /// The disk may be full from now on.
    pub fn will_be_full(&self, fault: Fault) {
        self.trouble.may_be_full.set(true);
        self.memory.fail(fault);
    }

    pub fn hears_of_full(&self) {
        assert!(self.trouble.may_be_full.get(), "the disk is not full");
        self.saga.count("heard of a full disk");
    }

    fn how_it_ends(&self) -> Option<(CrashMode, u64)> {
        let seed = self.saga.below(u64::MAX);
        (!self.saga.once_in(3)).then(|| (*self.saga.pick(&CrashMode::EVERY), seed))
    }

    /// Something may go wrong.
    pub fn disturb(self: &Rc<Self>) -> Disturbed {
        if self.trouble.is_calm() || self.saga.settings.is_standard {
            return Disturbed::No;
        }
        let rates = &self.saga.settings.rates;
        let saga = &self.saga;
        if saga.once_in(rates.bomb) {
            self.hook.bomb.set(1 + saga.below(25));
        }
        if saga.once_in(rates.stand) {
            self.hook.hangs.set(false);
            self.hook.stand.set(1 + saga.below(10));
        }
        if saga.once_in(rates.hang) && self.trouble.hangs.get() < HANGS_MAX {
            self.hook.hangs.set(true);
            self.hook.stand.set(1 + saga.below(10));
        }
        if saga.once_in(rates.cut) {
            let (after, how) = (1 + saga.below(12), self.how_it_ends());
            self.operations.cut_after(after, how);
        }
        if saga.once_in(rates.wall) {
            self.clock.step_wall(if saga.once_in(3) { 3_600_000_000_000 } else { -3_600_000_000_000 });
            self.note("clock", "steps", 0);
        }
        if saga.once_in(rates.shed) && !self.pipeline.ledger().is_parked() {
            self.shed.set(self.shed.get() + 1);
            self.pipeline.shed().count(self.clock.now());
            saga.count("shed");
        }
        self.break_disk();
        if saga.once_in(rates.end) {
            let how = self.how_it_ends();
            let image =
                how.map_or_else(|| self.memory.kill_image(), |(mode, s)| self.memory.crash_image(mode, s));
            resume_unwind(Box::new(Cut(image, how.is_none())));
        }
        self.hurt_actors()
    }

    fn break_disk(&self) {
        let (rates, saga) = (&self.saga.settings.rates, &self.saga);
        let nth = 1 + saga.below(6);
        let mut fault = None;
        if saga.once_in(rates.sync_fault) {
            fault = Some(Fault::on(FaultClass::Sync).nth(nth).forget());
            self.trouble.may_poison.set(true);
        } else if saga.once_in(rates.write_fault) {
            let of_write = Fault::on(FaultClass::Write).nth(nth).path("segments/");
            fault = Some(if saga.once_in(2) { of_write.short() } else { of_write });
            self.trouble.may_poison.set(true);
        } else if saga.once_in(rates.full) {
            let full =
                Fault::on(FaultClass::Write).nth(nth).times(1 + saga.below(4)).full().path("segments/");
            fault = Some(if saga.once_in(2) { full.short() } else { full });
            self.trouble.may_be_full.set(true);
        } else if saga.once_in(rates.read_fault) {
            fault = Some(Fault::on(FaultClass::Read).nth(nth).times(1 + saga.below(3)).path("segments/"));
            self.trouble.may_not_read.set(true);
        }
        if let Some(fault) = fault {
            self.note("disk", "will fail", nth);
            self.memory.fail(fault);
        }
        if saga.once_in(rates.quota) {
            self.trouble.may_be_full.set(true);
            let is_set = saga.once_in(2);
            self.memory.set_quota(is_set.then(|| self.memory.used_bytes() + saga.below(600)));
            self.note("disk", "quota", u64::from(is_set));
        }
    }

    fn hurt_actors(self: &Rc<Self>) -> Disturbed {
        let (rates, saga) = (&self.saga.settings.rates, &self.saga);
        let role = *saga.pick(&ROLES);
        let (life, number, is_hurt) = {
            let mut actors = self.actors.borrow_mut();
            let actor = &mut actors[role as usize];
            if saga.once_in(rates.delay) {
                actor.pause_until = actor.pause_until.max(self.clock.now() + saga.below(30_000_000) as i64);
            }
            (actor.life.clone(), actor.number, actor.is_busy || actor.is_over || actor.stage.is_none())
        };
        if is_hurt {
            return Disturbed::No;
        }
        if saga.once_in(rates.crash) {
            self.died_as(&life, role, number, Exit::Panicked { injected: true }, "it was asked to crash");
            return Disturbed::Yes;
        }
        if saga.once_in(rates.stop) {
            self.died_as(&life, role, number, Exit::Stopped, "it was asked to stop");
            return Disturbed::Yes;
        }
        let lane = role.lane();
        let is_standing =
            ROLES.into_iter().any(|r| r.lane() == lane && self.actors.borrow()[r as usize].is_busy);
        if !is_standing && saga.once_in(rates.lane) {
            self.note(lane.thread(), "ends", 0);
            self.end_lane(lane);
            return Disturbed::Yes;
        }
        Disturbed::No
    }

    /// Some actor passes a failpoint.
    pub fn pass(self: &Rc<Self>, point: &'static str) {
        let Some(role) = self.hook.role() else { return };
        if Hook::counts_down(&self.hook.bomb) || self.hook.is_scripted(role) {
            self.note("bomb", point, 0);
            self.saga.count("bombs");
            resume_unwind(Box::new(Injected { point }));
        }
        if let Some((_, left)) = self.hook.hang_at.get().filter(|(at, _)| *at == point) {
            self.hook.hang_at.set((left > 1).then(|| (point, left - 1)));
            if left == 1 {
                self.hook.hangs.set(true);
                return self.stand(role, point);
            }
        }
        if STANDS.contains(&point) && Hook::counts_down(&self.hook.stand) {
            self.stand(role, point);
        }
    }

    /// The lane stands still here, and all others go on.
    fn stand(self: &Rc<Self>, role: Role, point: &'static str) {
        if self.hook.turns.borrow().len() as u32 >= DEPTH_MAX {
            return;
        }
        let number = self.actors.borrow()[role as usize].number;
        self.look_soon();
        if self.hook.hangs.get() {
            self.note("hang", point, number);
            self.trouble.hangs.set(self.trouble.hangs.get() + 1);
            for _ in 0..200 {
                self.step();
                self.clock.advance(1_000_000);
                if self.actors.borrow()[role as usize].number != number {
                    break;
                }
            }
        } else {
            self.note("stand", point, number);
            self.saga.count("stands");
        }
        for _ in 0..if self.hook.returns_late.get() { 2_000 } else { 0 } {
            let lives = self.actors.borrow()[role as usize].stage.is_some();
            if lives && self.pipeline.ledger().is_parked() {
                break;
            }
            self.step();
        }
        let until = self.clock.now() + STAND_NS;
        for _ in 0..self.saga.below(30) {
            if self.clock.now() < until {
                self.step();
            }
        }
        self.note("goes on", point, number);
    }

    /// If the power went now: everything that was told to be durable would be there.
    pub fn audit(&self, why: &'static str) {
        self.note("audit", why, 0);
        self.saga.count("audits");
        let mode = *self.saga.pick(&CrashMode::EVERY);
        let image = self.memory.crash_image(mode, self.saga.below(u64::MAX));
        let durable = self.pipeline.watermark().durable();
        let checked = look_at(&image, &self.saga.model.borrow());
        match checked {
            Ok(last) => assert!(last >= durable, "{durable} is durable, {mode:?} leaves {last}"),
            Err(words) => panic!("after a power cut ({mode:?}): {words}"),
        }
    }
}

/// What a later owner finds on this disk.
fn look_at(disk: &MemoryBackend, model: &Model) -> Result<u64, String> {
    let backend: Arc<dyn Backend> = Arc::new(disk.clone());
    let root = Path::new(ROOT);
    let lock = backend.open(&root.join("LOCK"), OpenMode::Write).map_err(|e| e.to_string())?;
    let info = LockFile::new(lock).read().map_err(|e| e.to_string())?;
    let (segments, quarantine) = (root.join("segments"), root.join("quarantine"));
    let place = Place { backend: backend.clone(), segments: segments.clone(), quarantine };
    let found =
        recover(&place, info.as_ref(), Uuid::from_u128(0x1D), Uuid::nil(), 1).map_err(|e| e.to_string())?;
    if let Some(damage) = found.damage.first() {
        return Err(damage.to_string());
    }
    let segments = Segments::open(backend, segments, found.journal).map_err(|e| e.to_string())?;
    model.check(&segments, found.last_sequence).map(|_| found.last_sequence)
}

/// Lanes by name, for whoever wants one to end.
pub const LANES: [LaneName; 3] = [LaneName::Control, LaneName::Persist, LaneName::Derive];
