//! One attached source.
//!
//! 1. What was taken from the source stays in `inbox` until the group that holds it is admitted to the ledger.
//! 2. `state` is never locked during a call of the source, so that status and waiters never wait for one.
//! 3. A source that crashed or hung inside a call is not called again: it is opened anew, behind what was admitted.

use super::status::Condition;
use crate::cores::kernel::{Account, Counts, ExtentMap, Lag, Mark, Why};
use crate::sources::{Barrier, Caps, Item, KernelSource, NotSupported, OpenSource, Resume};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// See the module.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) name: String,
    pub(crate) state: Mutex<State>,
    /// Somebody's request was answered, or nobody will.
    pub(crate) answered: Condvar,
    /// Held by whoever keeps the source, for all of its turn and however long a call of the source takes.
    pub(crate) machine: Mutex<Machine>,
}

/// The source itself.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) opener: Box<dyn OpenSource>,
    pub(crate) source: Option<Box<dyn KernelSource>>,
    /// A call of it is under way, or did not come to its end.
    pub(crate) in_call: bool,
}

/// What was taken from a source in one call.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) number: u64,
    /// Empty where an item is done with.
    pub(crate) items: Vec<Option<Item>>,
    /// The place behind it.
    pub(crate) resume: Resume,
    /// What was passed with it.
    pub(crate) passed: u64,
}

/// A group that is being admitted: should the actor crash now, the ledger tells whether it was.
#[derive(Clone, Debug)]
pub(crate) struct Doubt {
    pub(crate) first_id: Uuid,
    /// The last event that was admitted before; an id that is known from earlier proves nothing.
    pub(crate) behind: u64,
    pub(crate) events: u64,
    pub(crate) note: Note,
}

/// What an admitted group changes.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    pub(crate) account: Account,
    pub(crate) begins_life: bool,
    /// Source sequence, offset in the group, length.
    pub(crate) extents: Vec<(u64, u32, u32)>,
    pub(crate) done: Vec<(u64, u32)>,
    pub(crate) batch: u64,
    pub(crate) alerts: u64,
    pub(crate) marks: Vec<Mark>,
}

/// A point at which the journal is complete.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// Who waits for it; `None`: nobody, it is for the certificate.
    pub(crate) request: Option<u64>,
    pub(crate) why: Why,
    /// Every effect before then is in front of it, ns of the boot-time clock.
    pub(crate) asked_ns: i64,
    pub(crate) goal: Goal,
    /// The certificate is written; who waits is answered when it is admitted.
    pub(crate) is_certified: bool,
}

/// When a target is reached.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// The source has passed this.
    Passed(Barrier),
    /// This sequence of this life is accounted for.
    Sequence(u64, u64),
}

/// What is known of a source.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) condition: Condition,
    pub(crate) caps: Option<Caps>,
    /// Behind the last admitted group; `None` until the record was asked.
    pub(crate) account: Option<Account>,
    pub(crate) extents: ExtentMap,
    /// Where a new opening goes on.
    pub(crate) resume: Option<Resume>,
    pub(crate) inbox: VecDeque<Batch>,
    pub(crate) batches: u64,
    pub(crate) doubt: Option<Doubt>,
    pub(crate) counts: Counts,
    /// Passed, and admitted.
    pub(crate) passed: u64,
    /// The last event that was admitted for it.
    pub(crate) last_event: u64,
    pub(crate) newest_sequence: Option<u64>,
    pub(crate) records: u64,
    pub(crate) opened: u64,
    pub(crate) looks: u64,
    /// Requests made, and those answered.
    pub(crate) asked: u64,
    pub(crate) replied: u64,
    pub(crate) target: Option<Target>,
    /// A certificate is to be written, for this reason.
    pub(crate) certify: Option<Why>,
    /// The newest one: the moment up to which the journal is complete, ns of the boot-time clock, and its event.
    pub(crate) certificate: Option<(i64, u64)>,
    pub(crate) certificates: u64,
    pub(crate) alerts: u64,
    /// What was told of whether somebody looks, and when.
    pub(crate) covered: Option<(&'static str, i64)>,
    pub(crate) is_lag_told: bool,
    /// When nothing was left to be journaled, ns of the boot-time clock.
    pub(crate) caught_up_ns: i64,
    /// How long the last `sync_now` took.
    pub(crate) sync_now: Option<Duration>,
    pub(crate) unsupported: Option<NotSupported>,
    /// What the watcher looks at.
    pub(crate) fd: Option<Arc<OwnedFd>>,
    pub(crate) poll_every: Duration,
}

impl Slot {
    pub(crate) fn new(opener: Box<dyn OpenSource>) -> Self {
        let state = State {
            condition: Condition::New,
            caps: None,
            account: None,
            extents: ExtentMap::default(),
            resume: None,
            inbox: VecDeque::new(),
            batches: 0,
            doubt: None,
            counts: Counts::default(),
            passed: 0,
            last_event: 0,
            newest_sequence: None,
            records: 0,
            opened: 0,
            looks: 0,
            asked: 0,
            replied: 0,
            target: None,
            certify: None,
            certificate: None,
            certificates: 0,
            alerts: 0,
            covered: None,
            is_lag_told: false,
            caught_up_ns: 0,
            sync_now: None,
            unsupported: None,
            fd: None,
            poll_every: Duration::from_millis(100),
        };
        Slot {
            name: opener.name().to_owned(),
            state: Mutex::new(state),
            answered: Condvar::new(),
            machine: Mutex::new(Machine { opener, source: None, in_call: false }),
        }
    }
}

impl State {
    /// A group was admitted, its first event as `first`.
    pub(crate) fn note(&mut self, note: Note, first: u64, events: u64) {
        if note.begins_life {
            self.extents.clear();
        }
        for (source, offset, length) in note.extents {
            self.extents.push(source, first + u64::from(offset), length.into());
            self.records += u64::from(length);
        }
        for (number, index) in note.done {
            let batch = self.inbox.iter_mut().find(|b| b.number == number);
            if let Some(item) = batch.and_then(|b| b.items.get_mut(index as usize)) {
                *item = None;
            }
        }
        self.alerts += note.alerts;
        for mark in note.marks {
            match mark {
                Mark::Certificate(complete_ns) => {
                    self.certificate = Some((complete_ns, first + events.max(1) - 1));
                    self.certificates += 1;
                }
                Mark::Coverage(state, at) => self.covered = Some((state, at)),
                Mark::Lag(is_over) => self.is_lag_told = is_over,
            }
        }
        self.account = Some(note.account);
        self.last_event = self.last_event.max(first + events.max(1) - 1);
        self.trim(note.batch);
        self.doubt = None;
    }

    /// All items of batches up to this one are done with.
    pub(crate) fn trim(&mut self, batch: u64) {
        while let Some(done) = self.inbox.pop_front_if(|b| b.number <= batch) {
            self.passed = self.passed.max(done.passed);
            self.resume = Some(done.resume);
        }
    }

    /// Whether a target is reached: all that was taken up to there is admitted.
    pub(crate) fn is_reached(&self, goal: Goal) -> bool {
        match goal {
            Goal::Passed(barrier) => self.passed >= barrier.0,
            // What comes of an earlier life is over; before the first one there was none.
            Goal::Sequence(life, sequence) => self.account.as_ref().is_some_and(|account| {
                let is_over = life != 0 && account.incarnation != life;
                is_over || account.last_sequence >= sequence
            }),
        }
    }

    /// How far it is behind. `boot_id` is this machine's boot: times of records of another one say nothing here.
    pub(crate) fn lag(&self, now_ns: i64, boot_id: &Uuid) -> Lag {
        let account = self.account.as_ref();
        let last = account.map_or(0, |a| a.last_sequence);
        let events = self.newest_sequence.map(|newest| newest.saturating_sub(last));
        let since = match account {
            Some(account) if account.boot_id == *boot_id && account.newest_boot_ns > 0 => {
                account.newest_boot_ns
            }
            _ => self.caught_up_ns,
        };
        let is_behind = events.is_some_and(|n| n > 0) || !self.inbox.is_empty();
        let age = if is_behind { now_ns.saturating_sub(since) } else { 0 };
        Lag { events, ms: u64::try_from(age / 1_000_000).unwrap_or(0) }
    }

    /// The place behind everything up to a batch.
    pub(crate) fn resume_behind(&self, batch: u64) -> Option<&Resume> {
        let taken = self.inbox.iter().take_while(|b| b.number <= batch).last();
        taken.map(|b| &b.resume).or(self.resume.as_ref())
    }
}
