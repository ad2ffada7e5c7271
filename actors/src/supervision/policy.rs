//! What is done about a death, in OTP's words. Pure: no clock, no thread, no actor.

use super::intensity::{Backoff, Intensity};
use std::ops::Range;

/// How an incarnation ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Exit {
    /// A panic: in a handler, in a future it spawned, in `started`, or while it recovered.
    Panicked {
        /// A failpoint or a torture test made it.
        injected: bool,
    },
    /// Its core answered with an error.
    Failed,
    /// It was asked to stop while the journal is open.
    Stopped,
    /// The thread of its lane ended.
    LaneEnded,
    /// It made no progress for too long, was fenced and left behind.
    Hung,
}

impl Exit {
    /// One of each kind.
    pub const EVERY: [Exit; 6] = [
        Exit::Panicked { injected: false },
        Exit::Panicked { injected: true },
        Exit::Failed,
        Exit::Stopped,
        Exit::LaneEnded,
        Exit::Hung,
    ];

    /// Whether it ended in a way it should not.
    pub const fn is_abnormal(self) -> bool {
        !matches!(self, Exit::Stopped)
    }
}

/// When an actor is restarted.
///
/// | policy | panic, error, lost lane, hang | stop |
/// |---|---|---|
/// | Permanent | yes | yes |
/// | Transient | yes | no |
/// | Never | no | no |
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RestartPolicy {
    /// Always.
    Permanent,
    /// Only after an abnormal end.
    Transient,
    /// Not at all.
    Never,
}

impl RestartPolicy {
    /// Whether an actor that ended so lives again.
    pub const fn restarts(self, exit: Exit) -> bool {
        match self {
            RestartPolicy::Permanent => true,
            RestartPolicy::Transient => exit.is_abnormal(),
            RestartPolicy::Never => false,
        }
    }
}

/// Who is restarted when one of `0..count` dies.
///
/// | strategy | of five, the third dies |
/// |---|---|
/// | OneForOne | the third |
/// | RestForOne | the third to the fifth |
/// | OneForAll | all |
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Strategy {
    /// It alone.
    OneForOne,
    /// It, and all that follow it in the flow.
    RestForOne,
    /// All of them. So it is with a lane: who shares a thread shares its end.
    OneForAll,
}

impl Strategy {
    /// Whom the death of `dead` concerns.
    pub const fn affected(self, dead: usize, count: usize) -> Range<usize> {
        match self {
            Strategy::OneForOne => dead..dead + 1,
            Strategy::RestForOne => dead..count,
            Strategy::OneForAll => 0..count,
        }
    }
}

/// What exhausted restarts lead to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Escalation {
    /// Nothing is written any more until the journal is opened again.
    Poison,
    /// This function is gone; all others go on.
    Degrade,
}

/// Whether a death counts against the role, or is being dealt with otherwise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Blame {
    /// The role's own: it counts.
    Role,
    /// A batch in hand is suspected and is being isolated, which ends by itself.
    Batch,
    /// No restart can help, for this reason.
    Hopeless(String),
}

/// What is done about a death.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It lives again after this many nanoseconds.
    Restart {
        /// Nanoseconds; 0 is at once.
        after_ns: i64,
    },
    /// It stays dead, as its policy says.
    End,
    /// Too many, or hopeless: escalate.
    GiveUp {
        /// Why.
        reason: String,
    },
}

/// How often and how fast a role may be restarted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RestartLimits {
    /// Deaths of one role within the window that are still answered with a restart.
    pub restarts: usize,
    /// The window, ns.
    pub window_ns: i64,
    /// The pause before the third restart in the window, ns; each further one is twice as long.
    pub backoff_ns: i64,
    /// The longest pause, ns.
    pub backoff_max_ns: i64,
}

impl Default for RestartLimits {
    fn default() -> Self {
        RestartLimits {
            restarts: 5,
            window_ns: 10_000_000_000,
            backoff_ns: 1_000_000,
            backoff_max_ns: 1_000_000_000,
        }
    }
}

/// The history of one role, and what its next death leads to.
#[derive(Clone, Debug)]
pub struct Child {
    policy: RestartPolicy,
    intensity: Intensity,
    backoff: Backoff,
}

impl Child {
    /// A role without history.
    pub fn new(policy: RestartPolicy, limits: RestartLimits) -> Self {
        Child {
            policy,
            intensity: Intensity::new(limits.restarts, limits.window_ns),
            backoff: Backoff { first_ns: limits.backoff_ns, max_ns: limits.backoff_max_ns },
        }
    }

    /// It died at `now_ns`.
    pub fn died(&mut self, exit: Exit, blame: Blame, now_ns: i64) -> Verdict {
        if !self.policy.restarts(exit) {
            return Verdict::End;
        }
        match blame {
            Blame::Hopeless(reason) => Verdict::GiveUp { reason },
            Blame::Batch => Verdict::Restart { after_ns: 0 },
            Blame::Role => match self.intensity.count(now_ns) {
                Some(recent) => Verdict::Restart { after_ns: self.backoff.pause_ns(recent) },
                None => Verdict::GiveUp { reason: self.intensity.describe() },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restart_policies_do_what_their_table_says() {
        let table = |policy: RestartPolicy| Exit::EVERY.map(|exit| policy.restarts(exit));
        assert_eq!(table(RestartPolicy::Permanent), [true; 6]);
        assert_eq!(table(RestartPolicy::Transient), [true, true, true, false, true, true]);
        assert_eq!(table(RestartPolicy::Never), [false; 6]);
    }

    #[test]
    fn strategies_do_what_their_table_says() {
        let table = |strategy: Strategy| [0, 2, 4].map(|dead| strategy.affected(dead, 5));
        assert_eq!(table(Strategy::OneForOne), [0..1, 2..3, 4..5]);
        assert_eq!(table(Strategy::RestForOne), [0..5, 2..5, 4..5]);
        assert_eq!(table(Strategy::OneForAll), [0..5, 0..5, 0..5]);
    }

    #[test]
    fn a_death_is_answered_by_policy_blame_and_history() {
        let limits = RestartLimits { restarts: 4, window_ns: 1_000, backoff_ns: 10, backoff_max_ns: 15 };
        let mut child = Child::new(RestartPolicy::Permanent, limits);
        let crash = Exit::Panicked { injected: false };
        let mut die = |blame: Blame, at| child.died(crash, blame, at);
        let pauses: Vec<_> = (0..4).map(|at| die(Blame::Role, at)).collect();
        assert_eq!(pauses, [0, 0, 10, 15].map(|after_ns| Verdict::Restart { after_ns }));
        assert_eq!(
            die(Blame::Batch, 4),
            Verdict::Restart { after_ns: 0 },
            "a suspected batch does not count"
        );
        assert!(matches!(die(Blame::Role, 5), Verdict::GiveUp { reason } if reason.contains("4 restarts")));
        assert_eq!(die(Blame::Role, 2_000), Verdict::Restart { after_ns: 0 }, "the window has passed");
        let reason = "the tombstone crashes, too".to_string();
        assert_eq!(die(Blame::Hopeless(reason.clone()), 2_001), Verdict::GiveUp { reason });
        let mut never = Child::new(RestartPolicy::Never, limits);
        assert_eq!(never.died(crash, Blame::Role, 0), Verdict::End);
    }
}
