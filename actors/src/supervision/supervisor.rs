//! The supervisor: a plain thread, so that no actor and no arbiter can take it down. It reads obituaries, looks at
//! progress words, replaces lanes and escalates.

use super::policy::{Escalation, Exit, Strategy, Verdict};
use super::progress::Zone;
use super::role::{LaneName, Role};
use super::ward::{Command, Life, Obituary, Ward};
use super::watch::{Finding, Watch, WatchLimits};
use crate::clock::Clock;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, select};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Threads that hang and were left behind. More would only hide what is wrong.
const LEFT_BEHIND_MAX: u64 = 4;
/// While nobody does anything, looks may be this much rarer.
const IDLE_FACTOR: u32 = 4;

/// What the supervisor lets be done.
pub trait Hands: Send {
    /// Starts a lane anew, with all its roles; what is left of the old one is abandoned.
    ///
    /// # Errors
    /// When the thread cannot be made.
    fn replace(&self, lane: LaneName) -> io::Result<()>;
    /// The persister hangs and was fenced: its run is over, and its writer stays with its thread.
    fn abandon_writer(&self);
    /// A function is lost, or everything.
    fn escalate(&self, role: Role, how: Escalation, reason: &str);
    /// Something happened to an actor, or to a thread.
    fn tell_health(&self) {}
    /// Threads that hang and were left behind, and have not ended since.
    fn left_behind(&self) -> u64 {
        0
    }
    /// A call on the record has not returned since (ns of the boot-time clock), or all have.
    fn stalled(&self, since_ns: Option<i64>);
}

/// One of each role.
pub type Wards = [Arc<Ward>; Role::ALL.len()];

/// The supervisor's thread.
#[derive(Debug)]
pub struct Supervisor {
    thread: JoinHandle<()>,
    stop: Sender<()>,
}

impl Supervisor {
    /// Starts it.
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub fn start(
        obituaries: Receiver<Obituary>,
        wards: Wards,
        clock: Arc<dyn Clock>,
        limits: WatchLimits,
        hands: impl Hands + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = bounded(0);
        let mut duty = Duty::new(wards, clock, limits, hands);
        let watch = move || duty.serve(&obituaries, &stopped);
        let thread = std::thread::Builder::new().name("semj-supervisor".into()).spawn(watch)?;
        Ok(Supervisor { thread, stop })
    }

    /// Ends it: from now on nobody is restarted.
    pub fn stop(self) {
        drop(self.stop);
        let _ = self.thread.join();
    }
}

/// What the supervisor does, without its thread.
pub(crate) struct Duty<H> {
    wards: Wards,
    clock: Arc<dyn Clock>,
    limits: WatchLimits,
    hands: H,
    watches: [Watch; Role::ALL.len()],
    /// Lanes to be replaced, and when.
    due: BTreeMap<LaneName, i64>,
    is_stalled: bool,
}

impl<H: Hands> Duty<H> {
    pub(crate) fn new(wards: Wards, clock: Arc<dyn Clock>, limits: WatchLimits, hands: H) -> Self {
        let (watches, due) = Default::default();
        Duty { wards, clock, limits, hands, watches, due, is_stalled: false }
    }

    /// One turn: hears of a death, or just looks; `true` when no actor does anything.
    pub(crate) fn turn(&mut self, obituary: Option<&Obituary>) -> bool {
        if let Some(obituary) = obituary {
            self.hear(obituary);
        }
        let is_idle = self.look();
        self.replace_due();
        is_idle
    }

    fn serve(&mut self, obituaries: &Receiver<Obituary>, stopped: &Receiver<()>) {
        if cfg!(feature = "unsupervised") {
            let _ = stopped.recv();
            return;
        }
        let period = Duration::from_nanos(self.limits.period_ns() as u64);
        let mut wait = period;
        loop {
            let heard = select! {
                recv(stopped) -> _ => return,
                recv(obituaries) -> obituary => obituary.map_err(|_| RecvTimeoutError::Disconnected),
                default(wait) => Err(RecvTimeoutError::Timeout),
            };
            let is_idle = match heard {
                Ok(obituary) => self.turn(Some(&obituary)),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => self.turn(None),
            };
            wait = if is_idle { period * IDLE_FACTOR } else { period };
            if let Some(next) = self.due.values().min() {
                let left = next.saturating_sub(self.clock.boot_ns()).max(0);
                wait = wait.min(Duration::from_nanos(left as u64));
            }
        }
    }

    fn ward(&self, role: Role) -> Option<&Arc<Ward>> {
        self.wards.get(role.index())
    }

    fn hear(&mut self, obituary: &Obituary) {
        crate::metrics::restarted(obituary.role);
        self.hands.tell_health();
        match &obituary.verdict {
            Verdict::Restart { after_ns } => {
                // Who shares a thread dies with it, and is brought back with the first of them.
                let is_current = self
                    .ward(obituary.role)
                    .and_then(|w| w.life())
                    .is_some_and(|l| Arc::ptr_eq(&l, &obituary.life));
                if is_current && matches!(obituary.exit, Exit::LaneEnded | Exit::Hung) {
                    let at = self.clock.boot_ns().saturating_add(*after_ns);
                    let due = self.due.entry(obituary.role.lane()).or_insert(at);
                    *due = (*due).max(at);
                }
                self.restart_rest(obituary.role);
            }
            Verdict::GiveUp { reason } => {
                let reason = format!("{reason}; its last words: {}", obituary.words);
                self.hands.escalate(obituary.role, obituary.role.escalation(), &reason);
            }
            Verdict::End => {}
        }
    }

    /// Those that follow in the flow read their cursors again.
    fn restart_rest(&self, dead: Role) {
        let affected = dead.strategy().affected(dead.index(), Role::ALL.len());
        for role in affected.filter_map(|i| Role::ALL.get(i)).filter(|r| **r != dead) {
            if let Some(ward) = self.ward(*role) {
                ward.ask(Command::Restart);
            }
        }
    }

    /// Looks at every progress word; `true` when none of them does anything.
    fn look(&mut self) -> bool {
        let now = self.clock.boot_ns();
        let (mut is_idle, mut stalled_since) = (true, None::<i64>);
        for role in Role::ALL {
            let Some(life) = self.ward(role).and_then(|w| w.life()) else { continue };
            let word = life.progress.look();
            is_idle &= word.zone() == Zone::Idle;
            let Some(watch) = self.watches.get_mut(role.index()) else { continue };
            match watch.look(word, now, self.limits) {
                Finding::Moves => {}
                Finding::Stalls { since_ns } => {
                    stalled_since = Some(stalled_since.map_or(since_ns, |s| s.min(since_ns)));
                }
                Finding::Hangs(word) => {
                    if life.progress.fence(word) {
                        if word.zone() == Zone::Slow {
                            life.fenced_in_slow_call();
                        }
                        self.abandon(role, &life);
                    }
                }
            }
        }
        if self.is_stalled || stalled_since.is_some() {
            self.is_stalled = stalled_since.is_some();
            self.hands.stalled(stalled_since);
        }
        is_idle
    }

    /// A role hangs and was fenced: who shares its thread is lost with it.
    fn abandon(&mut self, role: Role, life: &Arc<Life>) {
        let others: Vec<Role> = Role::ALL.into_iter().filter(|r| r.lane() == role.lane()).collect();
        for index in Strategy::OneForAll.affected(0, others.len()) {
            if let Some(other) = others.get(index).and_then(|r| self.ward(*r)).and_then(|w| w.life()) {
                other.progress.fence_dead();
            }
        }
        if role == Role::Persister {
            self.hands.abandon_writer();
        }
        let left = self.hands.left_behind() + 1;
        if left > LEFT_BEHIND_MAX {
            let reason = format!("{left} threads hang and were left behind");
            self.hands.escalate(role, role.escalation(), &reason);
            return;
        }
        if let Some(ward) = self.ward(role) {
            // Its obituary arrives here like any other.
            ward.died(life, Exit::Hung, "it made no progress and was left behind");
        }
    }

    fn replace_due(&mut self) {
        let now = self.clock.boot_ns();
        let ready: Vec<LaneName> =
            self.due.iter().filter(|(_, at)| **at <= now).map(|(lane, _)| *lane).collect();
        for lane in ready {
            self.due.remove(&lane);
            if let Err(e) = self.hands.replace(lane) {
                // The thread died while it started, or there is none to be had: a death like any other.
                let first = Role::ALL.into_iter().find(|r| r.lane() == lane);
                if let Some((ward, life)) =
                    first.and_then(|r| self.ward(r)).and_then(|w| Some((w, w.life()?)))
                {
                    ward.died(&life, Exit::LaneEnded, &format!("{} cannot be started: {e}", lane.thread()));
                }
            }
        }
    }
}
