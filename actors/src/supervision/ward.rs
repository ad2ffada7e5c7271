//! What is known of one supervised role: its history, its current life, and what it is asked to do.

use super::policy::{Blame, Child, Exit, RestartLimits, Verdict};
use super::progress::Progress;
use super::role::Role;
use crate::clock::Clock;
use crossbeam_channel::Sender;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

/// The report of a death.
#[derive(Clone, Debug)]
pub struct Obituary {
    /// Who.
    pub role: Role,
    /// How it ended.
    pub exit: Exit,
    /// The last words.
    pub words: String,
    /// What is done about it.
    pub verdict: Verdict,
    /// Whose end it is; another life may have begun meanwhile.
    pub life: Arc<Life>,
}

/// What an actor may be asked to do between two messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// Restart without having died, since one before it in the flow did.
    Restart,
    /// Crash, as if it had panicked: for torture tests.
    Crash,
    /// Stop, as if its context had been stopped: for torture tests.
    Stop,
    /// Stand still for this long: for torture tests.
    Hang(Duration),
    /// End the thread of its lane: for torture tests.
    EndLane,
}

/// One stretch on one lane. A lane that is replaced begins a new life for each of its roles.
#[derive(Debug)]
pub struct Life {
    /// The progress word.
    pub progress: Arc<Progress>,
    /// Whether another life came before.
    pub is_restart: bool,
    /// It was fenced inside a slow call, which may change files yet.
    may_still_write: AtomicBool,
    command: Mutex<(Option<Command>, Option<Waker>)>,
    failure: Mutex<Option<String>>,
}

impl Life {
    /// Notes that it was fenced inside a slow call.
    pub(super) fn fenced_in_slow_call(&self) {
        self.may_still_write.store(true, Ordering::SeqCst);
    }

    /// Whether its thread, should it come back, may still change files.
    pub(crate) fn may_still_write(&self) -> bool {
        self.may_still_write.load(Ordering::SeqCst)
    }

    /// Notes with what error its core ended it.
    pub(crate) fn fail(&self, words: String) {
        *self.failure.lock() = Some(words);
    }

    /// The error with which its core ended it.
    pub(super) fn take_failure(&self) -> Option<String> {
        self.failure.lock().take()
    }

    /// Takes what it is asked to do; `waker` is woken by the next request.
    pub(crate) fn take_command(&self, waker: &Waker) -> Option<Command> {
        let mut slot = self.command.lock();
        if slot.1.as_ref().is_none_or(|w| !w.will_wake(waker)) {
            slot.1 = Some(waker.clone());
        }
        slot.0.take()
    }

    /// Asks for something. The newest request stands.
    fn ask(&self, command: Command) {
        let waker = {
            let mut slot = self.command.lock();
            slot.0 = Some(command);
            slot.1.clone()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

type Judge = Box<dyn Fn(Role, Exit, &str) -> Blame + Send + Sync>;

/// See the module.
pub struct Ward {
    role: Role,
    clock: Arc<dyn Clock>,
    child: Mutex<Child>,
    judge: Judge,
    obituaries: Sender<Obituary>,
    life: Mutex<Option<Arc<Life>>>,
    restarts: AtomicU64,
    stopping: AtomicBool,
    gave_up: Mutex<Option<String>>,
}

impl fmt::Debug for Ward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ward({}, {} restarts)", self.role.name(), self.restarts())
    }
}

impl Ward {
    /// A role without history. `judge` tells who is to blame for a death.
    pub fn new(
        role: Role,
        limits: RestartLimits,
        clock: Arc<dyn Clock>,
        obituaries: Sender<Obituary>,
        judge: impl Fn(Role, Exit, &str) -> Blame + Send + Sync + 'static,
    ) -> Self {
        Ward {
            role,
            clock,
            child: Mutex::new(Child::new(role.restart_policy(), limits)),
            judge: Box::new(judge),
            obituaries,
            life: Mutex::new(None),
            restarts: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            gave_up: Mutex::new(None),
        }
    }

    /// The role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Restarts since opening.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// Why it is not restarted any more.
    pub fn gave_up(&self) -> Option<String> {
        self.gave_up.lock().clone()
    }

    /// Begins a life on a new lane.
    pub(crate) fn begin_life(&self) -> Arc<Life> {
        let mut current = self.life.lock();
        let life = Arc::new(Life {
            progress: Arc::default(),
            is_restart: current.is_some(),
            may_still_write: AtomicBool::new(false),
            command: Mutex::default(),
            failure: Mutex::default(),
        });
        *current = Some(life.clone());
        life
    }

    /// The current life.
    pub(crate) fn life(&self) -> Option<Arc<Life>> {
        self.life.lock().clone()
    }

    /// Asks the current incarnation for something; `false` when there is none, or it is being replaced.
    pub fn ask(&self, command: Command) -> bool {
        let life = self.life().filter(|life| !life.progress.is_fenced());
        life.inspect(|life| life.ask(command)).is_some()
    }

    /// From now on deaths are part of closing.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Whether the journal is being closed.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Counts a death, reports it, and tells what is done about it.
    pub(crate) fn died(&self, life: &Arc<Life>, exit: Exit, words: &str) -> Verdict {
        if self.is_stopping() {
            return Verdict::End;
        }
        let blame = (self.judge)(self.role, exit, words);
        let verdict = self.child.lock().died(exit, blame, self.clock.boot_ns());
        match &verdict {
            Verdict::Restart { .. } => {
                self.restarts.fetch_add(1, Ordering::Relaxed);
            }
            Verdict::GiveUp { reason } => *self.gave_up.lock() = Some(format!("{reason}; last: {words}")),
            Verdict::End => *self.gave_up.lock() = Some(words.to_owned()),
        }
        let (role, words, life) = (self.role, words.to_owned(), life.clone());
        let obituary = Obituary { role, exit, words, verdict: verdict.clone(), life };
        let _ = self.obituaries.send(obituary);
        verdict
    }
}
