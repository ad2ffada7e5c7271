//! One opening of the journal, and who runs in it.

use super::actor::{Actor, Input, Living, Mail};
use super::chance::SimClock;
use super::hosts::Hosts;
use super::saga::Saga;
use super::trouble::{Disturbed, Hook, Operations, Trouble};
use crossbeam_channel::Receiver;
use semj_actors::chaos::Injected;
use semj_actors::ledger::Gate;
use semj_actors::simulation::ROLES;
use semj_actors::simulation::{Journal, abandon_writer, panic_text};
use semj_actors::stages::{Birth, Effect};
use semj_actors::supervision::{
    Command, Escalation, Exit, Hands, LaneName, Life, RestartLimits, Role, Verdict, WatchLimits,
};
use semj_actors::{EngineOptions, Pipeline};
use semj_storage::backend::{Backend, MemoryBackend};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;
use uuid::Uuid;

pub const ROOT: &str = "/data/j";
/// How often the supervisor looks, ns.
const LOOK_NS: i64 = 2_000_000;
/// So much rarer while nobody does anything.
const IDLE_FACTOR: i64 = 4;

/// What the supervisor wants done.
#[derive(Clone, Debug)]
pub enum Deed {
    Replace(LaneName),
    AbandonWriter,
    Escalate(Role, Escalation, String),
}

#[derive(Clone, Default)]
pub struct Deeds(Arc<parking_lot::Mutex<Vec<Deed>>>);

impl Hands for Deeds {
    fn replace(&self, lane: LaneName) -> std::io::Result<()> {
        self.0.lock().push(Deed::Replace(lane));
        Ok(())
    }
    fn abandon_writer(&self) {
        self.0.lock().push(Deed::AbandonWriter);
    }
    fn escalate(&self, role: Role, how: Escalation, reason: &str) {
        self.0.lock().push(Deed::Escalate(role, how, reason.to_owned()));
    }
    fn stalled(&self, _: Option<i64>) {}
}

pub struct World {
    pub saga: Rc<Saga>,
    pub memory: MemoryBackend,
    pub clock: Arc<SimClock>,
    pub operations: Arc<Operations>,
    pub pipeline: Arc<Pipeline>,
    pub journal: RefCell<Journal<Deeds>>,
    deeds: Deeds,
    /// Bells that rang.
    rings: Arc<parking_lot::Mutex<Vec<Role>>>,
    wakers: Receiver<Vec<Waker>>,
    pub hosts: Hosts,
    pub actors: RefCell<Vec<Actor>>,
    pub hook: Hook,
    pub trouble: Trouble,
    /// The last event there was when it was opened.
    pub opened_at: u64,
    /// Shed since.
    pub shed: Cell<u64>,
    next_look_ns: Cell<i64>,
    lives: Cell<u64>,
}

impl World {
    /// Opens the journal on this disk; what it holds must be what the model says.
    pub fn open(saga: Rc<Saga>, memory: MemoryBackend, clock: Arc<SimClock>) -> Rc<Self> {
        let settings = &saga.settings;
        let restarts = if settings.is_strict { 5 } else { 1_000_000 };
        let options = EngineOptions {
            restarts: RestartLimits { restarts, ..RestartLimits::default() },
            watch: WatchLimits { hang_ns: 20_000_000, slow_ns: 60_000_000_000, stall_ns: 10_000_000 },
            segment_bytes: settings.segment_bytes,
            preallocate: settings.preallocate,
            batch_events: 12,
            max_age: Duration::from_millis(20),
            ..EngineOptions::default()
        };
        let operations = Operations::watch(&memory, clock.clone());
        let (wake, wakers) = crossbeam_channel::unbounded();
        let backend: Arc<dyn Backend> = Arc::new(memory.clone());
        let (deeds, nonce) = (Deeds::default(), saga.random.borrow_mut().next() >> 8);
        let journal = Journal::open(
            backend,
            clock.clone(),
            Path::new(ROOT),
            options,
            (Uuid::from_u128(0x1D), nonce),
            wake,
            deeds.clone(),
        );
        let journal = journal.unwrap_or_else(|e| panic!("the journal does not open: {e}"));
        let pipeline = journal.pipeline().clone();
        let rings: Arc<parking_lot::Mutex<Vec<Role>>> = Arc::default();
        let bells = &pipeline.bells;
        for (bell, role) in
            [(&bells.ingest, Role::Ingest), (&bells.persist, Role::Persister), (&bells.index, Role::Indexer)]
        {
            let rings = rings.clone();
            bell.connect(move || rings.lock().push(role));
        }
        let hosts = Hosts::new(["a", "b", "c"].map(|name| journal.emitter(name)).to_vec());
        let actors = ROLES.iter().zip(1..).map(|(role, n)| Actor::new(journal.begin_life(*role), n));
        let actors = actors.collect::<Vec<_>>();
        let world = World {
            trouble: Trouble::new(settings.is_strict),
            lives: Cell::new(actors.len() as u64 + 1),
            actors: RefCell::new(actors),
            journal: RefCell::new(journal),
            next_look_ns: Cell::new(clock.now()),
            hook: Hook::default(),
            opened_at: pipeline.watermark().durable(),
            shed: Cell::new(0),
            saga,
            memory,
            clock,
            operations,
            pipeline,
            deeds,
            rings,
            wakers,
            hosts,
        };
        world.note("disk", "opened at event", world.pipeline.watermark().durable());
        Rc::new(world)
    }

    pub fn note(&self, who: &'static str, what: &'static str, n: u64) {
        self.saga.trace.borrow_mut().push((self.clock.now(), who, what, n));
    }

    fn lane_is_free(&self, lane: LaneName) -> bool {
        let actors = self.actors.borrow();
        !ROLES.iter().any(|r| r.lane() == lane && actors[*r as usize].is_busy)
    }

    /// What may come next.
    fn choices(&self) -> Vec<Choice> {
        let now = self.clock.now();
        let mut choices = Vec::new();
        for role in ROLES {
            let free = self.lane_is_free(role.lane());
            let actors = self.actors.borrow();
            let actor = &actors[role as usize];
            if actor.is_over || !free || actor.pause_until > now {
                continue;
            }
            if actor.stage.is_none() {
                choices.push(Choice::Start(role));
                continue;
            }
            if !actor.mail.is_empty() {
                choices.push(Choice::Mail(role));
            }
            let ready = actor.timers.iter().enumerate().filter(|(_, (at, _))| *at <= now);
            choices.extend(ready.map(|(n, _)| Choice::Timer(role, n)));
        }
        if !self.wakers.is_empty() || self.hosts.next_ns().is_some_and(|at| at <= now) {
            choices.push(Choice::Wake);
        }
        if self.next_look_ns.get() <= now {
            choices.push(Choice::Look);
        }
        choices
    }

    /// Moves on to when something can be done again.
    fn sleep(&self) {
        let actors = self.actors.borrow();
        let living = actors.iter().filter(|a| !a.is_over);
        let times = living.flat_map(|a| a.timers.iter().map(|(at, _)| *at).chain([a.pause_until]));
        let now = self.clock.now();
        let next = times.chain(self.hosts.next_ns()).filter(|at| *at > now).chain([self.next_look_ns.get()]);
        self.clock.advance(next.min().unwrap_or(now) - now);
    }

    /// One thing happens.
    pub fn step(self: &Rc<Self>) {
        self.collect();
        self.clock.advance(1_000 + self.saga.below(40_000) as i64);
        if self.disturb() == Disturbed::Yes {
            return;
        }
        if self.hook.crash_when_full.get() && matches!(self.pipeline.ledger().gate(), Gate::StorageFull) {
            self.hook.crash_when_full.set(false);
            return self.crash(Role::Persister);
        }
        let mut choices = self.choices();
        let may_emit = self.may_emit();
        if may_emit && (choices.is_empty() || self.saga.once_in(3)) {
            self.saga.emissions_left.set(self.saga.emissions_left.get() - 1);
            return self.hosts.emit(self);
        }
        if choices.is_empty() {
            return self.sleep();
        }
        let choice = choices.swap_remove(self.saga.below(choices.len() as u64) as usize);
        if let Choice::Mail(role) | Choice::Timer(role, _) = choice
            && self.hook.is_scripted_before(role)
        {
            self.hook.script.set(None);
            return self.crash(role);
        }
        match choice {
            Choice::Wake => {
                while let Ok(wakers) = self.wakers.try_recv() {
                    wakers.into_iter().for_each(Waker::wake);
                }
                self.hosts.look(self);
            }
            Choice::Look => self.supervise(),
            Choice::Start(role) => self.turn(role, Input::Start),
            Choice::Mail(role) => {
                let mail = self.actors.borrow_mut()[role as usize].mail.pop_front();
                if let Some(mail) = mail {
                    self.turn(role, Input::Mail(mail));
                }
            }
            Choice::Timer(role, n) => {
                let (_, timer) = self.actors.borrow_mut()[role as usize].timers.swap_remove(n);
                self.turn(role, Input::Timer(timer));
            }
        }
    }

    /// Rings become messages; commands are obeyed.
    fn collect(&self) {
        for role in std::mem::take(&mut *self.rings.lock()) {
            let mail = match role {
                Role::Ingest => Mail::Ledger,
                Role::Persister => Mail::Durable,
                _ => Mail::Index,
            };
            self.send(role, mail);
        }
        for role in ROLES {
            if !self.lane_is_free(role.lane()) {
                continue;
            }
            let life = self.actors.borrow()[role as usize].life.clone();
            if self.journal.borrow().take_command(&life) == Some(Command::Restart) {
                self.note(role.name(), "is asked to restart", 0);
                self.actors.borrow_mut()[role as usize].restart();
            }
        }
    }

    fn send(&self, role: Role, mail: Mail) {
        let mut actors = self.actors.borrow_mut();
        if !actors[role as usize].is_over {
            actors[role as usize].mail.push_back(mail);
        }
    }

    /// An actor has its turn, as its cell gives it.
    fn turn(self: &Rc<Self>, role: Role, input: Input) {
        let (life, stage, number, is_restart) = {
            let mut actors = self.actors.borrow_mut();
            let actor = &mut actors[role as usize];
            let is_restart = actor.is_restart;
            actor.is_restart |= matches!(input, Input::Start);
            actor.is_busy = true;
            (actor.life.clone(), actor.stage.take(), actor.number, is_restart)
        };
        let what = input.name();
        self.note(role.name(), what, number);
        self.hook.begin(role);
        let mut out = Vec::new();
        let take = || {
            let mut stage = stage;
            if !life.progress.begin() || !life.progress.tick() {
                return (stage, Ok(()));
            }
            if stage.is_none() {
                let birth = Birth { progress: life.progress.clone(), is_restart };
                let index = self.journal.borrow().index().clone();
                match Living::recover(role, &self.pipeline, &index, birth) {
                    Ok(born) => stage = Some(born),
                    Err(e) => return (None, Err(e)),
                }
            }
            let taken = match &mut stage {
                Some(stage) if life.progress.tick() => stage.take(input, &mut out),
                _ => Ok(()),
            };
            (stage, taken)
        };
        let taken = catch_unwind(AssertUnwindSafe(take));
        self.hook.end();
        life.progress.end();
        self.saga.see(self.pipeline.ledger());
        let rest = match taken {
            Ok((stage, result)) => {
                self.collect();
                self.carry_out(role, number, out);
                result.map(|()| stage).map_err(|e| (Exit::Failed, e.0))
            }
            Err(payload) => {
                let (injected, words) = (payload.is::<Injected>(), panic_text(payload.as_ref()));
                if !injected && !words.starts_with("a pill at") {
                    resume_unwind(payload);
                }
                Err((Exit::Panicked { injected }, words))
            }
        };
        let is_current = self.actors.borrow()[role as usize].number == number;
        let died = rest.as_ref().err().cloned();
        if is_current {
            let mut actors = self.actors.borrow_mut();
            actors[role as usize].is_busy = false;
            actors[role as usize].stage = rest.unwrap_or_default();
            if life.progress.is_fenced() {
                actors[role as usize].end();
            }
        }
        if let Some((exit, words)) = died {
            self.died_as(&life, role, number, exit, &words);
        }
    }

    /// The supervisor looks as soon as it can.
    pub fn look_soon(&self) {
        self.next_look_ns.set(0);
    }

    /// An actor crashes between two turns.
    fn crash(&self, role: Role) {
        let (life, number) = {
            let actor = &self.actors.borrow()[role as usize];
            (actor.life.clone(), actor.number)
        };
        self.died_as(&life, role, number, Exit::Panicked { injected: true }, "it was asked to crash");
    }

    /// Counts a death, and does what its cell does about it.
    pub fn died_as(&self, life: &Arc<Life>, role: Role, number: u64, exit: Exit, words: &str) {
        self.saga.count(match exit {
            Exit::Panicked { injected: true } => "injected panics",
            Exit::Panicked { injected: false } => "panics",
            Exit::Failed => "failures",
            Exit::Stopped => "stops",
            Exit::LaneEnded => "lost lanes",
            Exit::Hung => "hangs",
        });
        self.note(role.name(), "died", number);
        let verdict = self.journal.borrow().died(life, role, exit, words);
        self.next_look_ns.set(0);
        let mut actors = self.actors.borrow_mut();
        let actor = &mut actors[role as usize];
        if actor.number != number || actor.is_over {
            return;
        }
        match verdict {
            Verdict::Restart { after_ns } => {
                actor.restart();
                actor.pause_until = self.clock.now() + after_ns;
            }
            Verdict::End | Verdict::GiveUp { .. } => actor.end(),
        }
    }

    fn carry_out(&self, role: Role, number: u64, out: Vec<Effect>) {
        for effect in out {
            let at = match &effect {
                Effect::After(time, _) => self.clock.now() + time.as_nanos() as i64,
                _ => 0,
            };
            match effect {
                Effect::Batch(range) => self.send(Role::Batcher, Mail::Batch(range)),
                Effect::Commit(batch) => self.send(Role::Persister, Mail::Commit(batch)),
                Effect::After(_, timer) | Effect::Yield(timer) => {
                    let mut actors = self.actors.borrow_mut();
                    let actor = &mut actors[role as usize];
                    if actor.number == number && !actor.is_over {
                        actor.timers.push((at, timer));
                    }
                }
            }
        }
    }

    /// The supervisor has a turn.
    fn supervise(&self) {
        let heard = self.journal.borrow_mut().supervise();
        let is_busy = self.actors.borrow().iter().any(|a| a.is_busy);
        let wait = if is_busy { LOOK_NS } else { LOOK_NS * IDLE_FACTOR };
        self.next_look_ns.set(self.clock.now() + if heard { 0 } else { wait });
        for deed in std::mem::take(&mut *self.deeds.0.lock()) {
            match deed {
                Deed::AbandonWriter => abandon_writer(&self.pipeline),
                Deed::Replace(lane) => self.replace(lane),
                Deed::Escalate(role, how, reason) => {
                    self.note(role.name(), "is given up", 0);
                    if how == Escalation::Poison {
                        self.trouble.gave_up(&reason);
                        self.pipeline.poison(&format!("the {} actor: {reason}", role.name()));
                    }
                }
            }
        }
    }

    fn replace(&self, lane: LaneName) {
        self.note(lane.thread(), "is replaced", 0);
        self.saga.count("replaced lanes");
        self.end_lane(lane);
        for role in ROLES.into_iter().filter(|r| r.lane() == lane) {
            let life = self.journal.borrow().begin_life(role);
            let number = self.lives.replace(self.lives.get() + 1);
            self.actors.borrow_mut()[role as usize] = Actor::new(life, number);
        }
    }

    /// The thread of a lane ends, with all that it had.
    pub fn end_lane(&self, lane: LaneName) {
        for role in ROLES.into_iter().filter(|r| r.lane() == lane) {
            let (life, number, was_over) = {
                let mut actors = self.actors.borrow_mut();
                let actor = &mut actors[role as usize];
                let was_over = actor.is_over || actor.life.progress.is_fenced();
                actor.end();
                (actor.life.clone(), actor.number, was_over)
            };
            if !was_over {
                self.died_as(&life, role, number, Exit::LaneEnded, "the thread of its lane ended");
            }
        }
    }

    /// Whether nothing is left to be done.
    pub fn is_at_rest(&self) -> bool {
        let is_silent =
            self.hosts.are_waiting() == 0 && self.wakers.is_empty() && self.rings.lock().is_empty();
        if self.pipeline.watermark().poison().is_some() {
            return is_silent;
        }
        let actors = self.actors.borrow();
        let awake = self.saga.settings.is_standard;
        let idle = actors
            .iter()
            .all(|a| a.is_over || (a.stage.is_some() && a.mail.is_empty() && (awake || a.timers.is_empty())));
        let gone = actors.iter().zip(ROLES).any(|(a, r)| a.is_over && r != Role::Indexer);
        is_silent && idle && !gone && self.pipeline.ledger().pending().events == 0
    }

    /// What keeps it from resting.
    pub fn unrest(&self) -> String {
        let actors = self.actors.borrow();
        let actors: Vec<_> = actors
            .iter()
            .map(|a| (a.stage.is_some(), a.is_over, a.mail.len(), a.timers.len(), a.pause_until))
            .collect();
        format!(
            "{} wait; ledger {:?}, gate {:?}; durable {}; actors (alive, over, mail, timers, pause) {actors:?}",
            self.hosts.are_waiting(),
            self.pipeline.ledger().pending(),
            self.pipeline.ledger().gate(),
            self.pipeline.watermark().durable(),
        )
    }

    fn may_emit(&self) -> bool {
        self.saga.emissions_left.get() > 0
            && !self.trouble.is_calm()
            && self.pipeline.watermark().poison().is_none()
    }
}

enum Choice {
    Start(Role),
    Mail(Role),
    Timer(Role, usize),
    Wake,
    Look,
}
