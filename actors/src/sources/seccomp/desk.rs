//! Where waiting calls are looked at and let go, one after the other, by a thread that does nothing else.
//!
//! 1. A call goes on as soon as what is at its places is known; what became of it is found out later.
//! 2. What became of it is known when its thread calls again, is gone or sleeps in another call, or when the effect is there.
//! 3. A call that meets an unknown one at the same place waits for a moment until that one is known, so that what is seen
//!    before the second is what the first has left.
//! 4. Nothing is told before what was entered before it.

use super::aim::{self, Judgement, Looks};
use super::caller::{Callers, has_left};
use super::calls;
use super::follow::{Follows, written};
use super::line::{Line, Slot};
use super::place::{Look, State, Walk, gives_privileges};
use super::plan::{Opening, Plan, Planned, Reading};
use super::shared::Shared;
use crate::sources::{
    Gap, GapCause, KernelRecord, Lost, ObjectId, Op, PathInfo, Phase, Who, boot_ns, wall_ns,
};
use rustix::fs::{Access, AtFlags, CWD, FileType, accessat, statat};
use semj_sys::seccomp::Waiting;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// When an unknown call is looked at first, in nanoseconds; each time after twice as long.
const FIRST_LOOK_NS: i64 = 1_000_000;
/// An unknown call that nothing was found out about for so long stays unknown, in nanoseconds.
const UNKNOWN_AFTER_NS: i64 = 1_000_000_000;
/// A call that changes an object changes size and times one after the other; so long after its entry all of them are what they will
/// be, in nanoseconds.
const WHOLE_AFTER_NS: i64 = 20_000_000;
/// How often, and how far apart, a call that is met at its place is looked at while the other waits.
const MEETS_LOOKS: u32 = 40;
/// For each file that is followed, all of them are looked at so much more seldom, in nanoseconds: a twentieth of the time.
const MARK_NS_PER_FILE: i64 = 20_000;
const MEETS_EVERY: Duration = Duration::from_micros(50);

/// A call that went on and may have had an effect.
#[derive(Debug)]
struct Unknown {
    slot: Slot,
    waiting: Waiting,
    plan: Plan,
    before: Looks,
    is_fresh: bool,
    who: Who,
    entered_ns: i64,
    look_ns: i64,
    wait_ns: i64,
}

/// The desk.
#[derive(Debug)]
pub(super) struct Desk {
    shared: Arc<Shared>,
    callers: Callers,
    line: Line,
    unknown: Vec<Unknown>,
    follows: Follows,
    /// See [`Desk::next_mark_ns`].
    mark_ns: i64,
    /// Devices of file systems without files.
    no_files: HashSet<u64>,
    /// The kernel gives each change that is looked at a time of its own.
    has_fine_times: bool,
}

/// What is left to do about a call when it has been let go.
#[derive(Debug)]
pub(super) struct Taken(Option<Box<Unknown>>, After);

#[derive(Debug, PartialEq, Eq)]
enum After {
    Nothing,
    ForgetThread,
    ForgetAll,
}

impl Desk {
    pub(super) fn new(shared: Arc<Shared>, no_files: HashSet<u64>, has_fine_times: bool) -> Self {
        Desk {
            shared,
            callers: Callers::new(),
            line: Line::default(),
            unknown: Vec::new(),
            follows: Follows::default(),
            mark_ns: 0,
            no_files,
            has_fine_times,
        }
    }

    /// Looks at a call that waits. It has to be let go then, and [`Desk::gone_on`] be told.
    pub(super) fn take(&mut self, waiting: Waiting) -> Taken {
        let now_ns = boot_ns().cast_signed();
        self.settle_thread(waiting.thread);
        let nothing = Taken(None, After::Nothing);
        let Some(call) = calls::call(waiting.number) else { return nothing };
        let Some(caller) = self.callers.of(waiting.thread) else { return nothing };
        let walk =
            Walk { thread: waiting.thread, process: caller.process, has_other_root: caller.has_other_root };
        let who = Who {
            process: caller.process,
            thread: waiting.thread,
            tag: self.shared.tag(),
            command: caller.command.clone(),
            ..Who::default()
        };
        match (Reading { waiting: &waiting, walk }).plan(call) {
            Planned::Plan(plan) => Taken(self.consider(waiting, plan, who, now_ns), After::Nothing),
            Planned::Futile => {
                self.shared.had_no_effect();
                nothing
            }
            Planned::Hidden(op, path) => {
                let mut record = KernelRecord::new(op, Phase::Intent, now_ns);
                (record.who, record.path.path, record.path.is_cut) = (who, path, true);
                self.line.push(record);
                nothing
            }
            Planned::Exec(place) => {
                if let Some(place) = place
                    && let Look::There(state) = place.look()
                    && gives_privileges(&place, &state)
                {
                    self.shared.wanted_privileges(place.path());
                }
                Taken(None, After::ForgetThread)
            }
            Planned::Moves => Taken(None, After::ForgetAll),
            Planned::Other => nothing,
        }
    }

    /// The call that was taken was let go; or nobody waited any more, and it was not made.
    pub(super) fn gone_on(&mut self, taken: Taken, thread: u32, was_made: bool) {
        let Taken(unknown, after) = taken;
        match unknown {
            Some(unknown) if was_made => self.unknown.push(*unknown),
            Some(unknown) => self.line.fill(unknown.slot, Vec::new()),
            None => {}
        }
        match after {
            After::Nothing => {}
            After::ForgetThread => self.callers.forget(thread),
            After::ForgetAll => self.callers = Callers::new(),
        }
    }

    /// So many calls went on unlooked at, since this time.
    pub(super) fn missed(&mut self, calls: u64, from_ns: i64) {
        self.line.push_gap(Gap {
            after: None,
            lost: Lost::Exactly(calls),
            from_ns,
            to_ns: boot_ns().cast_signed(),
            cause: GapCause::NotObserved,
        });
    }

    /// A call with places: what is there before, and whether there is anything to find out later.
    fn consider(&mut self, waiting: Waiting, mut plan: Plan, who: Who, now_ns: i64) -> Option<Box<Unknown>> {
        let mut before = plan.looks();
        if self.settle_met(&plan, before) {
            before = plan.looks();
        }
        if self.is_without_files(&plan, before) {
            return None;
        }
        for look in &before {
            if let Look::There(state) = look
                && let Some(write) = self.follows.seen(state, now_ns)
            {
                self.line.push(write);
            }
        }
        if let Some(opening) = plan.opening {
            match self.open(&mut plan, opening, before, &who, now_ns) {
                Opened::Later => {}
                Opened::Futile => {
                    self.shared.had_no_effect();
                    return None;
                }
                Opened::Other => return None,
            }
        }
        let slot = self.line.keep();
        let is_fresh = match before {
            [Look::There(state), _] => !self.has_fine_times && aim::is_fresh(&state, wall_ns()),
            _ => false,
        };
        let (look_ns, wait_ns) = (now_ns + FIRST_LOOK_NS, FIRST_LOOK_NS);
        let unknown =
            Unknown { slot, waiting, plan, before, is_fresh, who, entered_ns: now_ns, look_ns, wait_ns };
        match aim::at_entry(unknown.plan.aim, before) {
            None => Some(Box::new(unknown)),
            Some(judgement) => {
                self.conclude(unknown, judgement, before);
                None
            }
        }
    }

    /// Opening a file: which effect it may have, if any.
    fn open(&mut self, plan: &mut Plan, opening: Opening, before: Looks, who: &Who, now_ns: i64) -> Opened {
        match before {
            [Look::Absent, _] if opening.makes => {
                (plan.op, plan.aim) = (Op::Create, aim::Aim::Make);
                Opened::Later
            }
            [Look::Absent, _] => Opened::Futile,
            [Look::There(_), _] if opening.is_new => Opened::Futile,
            [Look::There(state), _] if state.kind() != FileType::RegularFile => Opened::Other,
            [Look::There(_), _] if !may_write(plan) => Opened::Futile,
            [Look::There(_), _] if opening.cuts => {
                (plan.op, plan.aim) = (Op::Truncate, aim::Aim::Cut);
                Opened::Later
            }
            [Look::There(state), _] => {
                if opening.writes {
                    let mut record = KernelRecord::new(Op::Open, Phase::Intent, now_ns);
                    record.path.path = plan.paths().0;
                    record.who = who.clone();
                    self.line.push(record);
                    self.follows.opened(plan.paths().0, &state, who.clone(), now_ns);
                }
                Opened::Other
            }
            [Look::Hidden, _] if opening.makes || opening.cuts => Opened::Later,
            [Look::Hidden, _] => Opened::Other,
        }
    }

    fn is_without_files(&self, plan: &Plan, before: Looks) -> bool {
        let first = plan.places.iter().flatten().next();
        let device = first.and_then(|p| p.device()).or(match before {
            [Look::There(state), _] => Some(state.device),
            _ => None,
        });
        device.is_some_and(|d| self.no_files.contains(&d))
    }

    /// The thread is here, so it has left all calls before, and has perhaps written what it opened.
    fn settle_thread(&mut self, thread: u32) {
        if let Some((object, path)) = self.follows.last_of(thread) {
            self.look_at_followed(object, &path);
        }
        while let Some(at) = self.unknown.iter().position(|u| u.waiting.thread == thread) {
            let unknown = self.unknown.remove(at);
            self.settle(unknown, true);
        }
    }

    /// Waits for a moment until calls at the same places are known. True when there were any.
    fn settle_met(&mut self, plan: &Plan, before: Looks) -> bool {
        let mut has_met = false;
        for look in 0..MEETS_LOOKS {
            let met = self.unknown.iter().position(|u| plan.meets(before, &u.plan, u.before));
            let Some(at) = met else { break };
            has_met = true;
            if look > 0 {
                std::thread::sleep(MEETS_EVERY);
            }
            let unknown = self.unknown.remove(at);
            if let Some(unknown) = self.look_at(unknown) {
                self.unknown.insert(at, unknown);
            }
        }
        has_met
    }

    /// Looks whether an unknown call is known by now; gives it back if it is not.
    fn look_at(&mut self, unknown: Unknown) -> Option<Unknown> {
        // First whether it has left, then what it has left behind: never the other way round.
        let left = has_left(unknown.waiting.thread, unknown.waiting.number, &unknown.waiting.arguments);
        self.settle(unknown, left)
    }

    fn settle(&mut self, unknown: Unknown, has_left: bool) -> Option<Unknown> {
        let after = unknown.plan.looks();
        let judgement = aim::judge(unknown.plan.aim, unknown.before, after, unknown.is_fresh);
        let is_whole = match unknown.plan.aim {
            aim::Aim::Cut | aim::Aim::Change(_) => {
                boot_ns().cast_signed() - unknown.entered_ns > WHOLE_AFTER_NS
            }
            _ => true,
        };
        let is_known = has_left || (is_whole && judgement == Judgement::Done);
        if !is_known {
            return Some(unknown);
        }
        self.conclude(unknown, judgement, after);
        None
    }

    /// Puts into the line what a call came to.
    fn conclude(&mut self, unknown: Unknown, judgement: Judgement, after: Looks) {
        let Unknown { slot, waiting, plan, before, who, entered_ns, .. } = unknown;
        let (path, target) = plan.paths();
        let mut records = Vec::new();
        let there = match (after, before) {
            ([Look::There(state), _], _) | (_, [Look::There(state), _]) => Some(state),
            _ => None,
        };
        let is_told = match judgement {
            // A file that is cut to the length it has is touched, and no more.
            Judgement::Done => match plan.aim {
                aim::Aim::Cut => !was_empty(before),
                aim::Aim::Change(Op::Truncate) => first(before).map(|s| s.size) != length(&waiting),
                _ => true,
            },
            Judgement::Nothing => false,
            Judgement::Unclear => true,
        };
        if is_told {
            let is_done = judgement == Judgement::Done;
            let phase = if is_done { Phase::Done } else { Phase::Intent };
            let mut record = KernelRecord::new(plan.op, phase, entered_ns);
            record.who = who.clone();
            record.path = PathInfo { path: path.clone(), target: target.clone(), is_cut: false };
            let object = if plan.aim == aim::Aim::Remove || plan.aim == aim::Aim::Rename {
                first(before)
            } else {
                there
            };
            record.object = object.map(|s| ObjectId { device: s.device, inode: s.inode, handle: Vec::new() });
            records.push(record);
        } else if judgement == Judgement::Nothing {
            self.shared.had_no_effect();
        }
        if judgement == Judgement::Done {
            self.keep_up(&plan, before, after, (&path, &target));
        }
        let is_open = match judgement {
            Judgement::Done => true,
            Judgement::Nothing => was_empty(before),
            Judgement::Unclear => false,
        };
        if let (Some(opening), Some(state), true) = (plan.opening, first(after), is_open)
            && opening.writes
            && state.kind() == FileType::RegularFile
        {
            let now_ns = boot_ns().cast_signed();
            // Whoever had it open before may have written, too; of writes only the first is told.
            self.follows.give_up(state.object());
            if state.size > 0 {
                records.push(written(path, &state, who, (entered_ns, now_ns)));
            } else {
                self.follows.opened(path, &state, who, now_ns);
            }
        }
        self.line.fill(slot, records);
    }

    /// What an effect means for files that are followed.
    fn keep_up(&mut self, plan: &Plan, before: Looks, after: Looks, (path, target): (&[u8], &[u8])) {
        match (plan.aim, first(before)) {
            (aim::Aim::Remove, Some(state)) if state.links <= 1 => self.follows.removed(&state, path),
            (aim::Aim::Rename, Some(state)) => self.follows.moved(&state, path, target),
            (aim::Aim::Change(_), _) => {
                if let Some(state) = first(after) {
                    self.follows.changed_otherwise(&state);
                }
            }
            _ => {}
        }
    }

    /// When there is something to look at without anybody calling.
    pub(super) fn next_look_ns(&self) -> Option<i64> {
        let unknown = self.unknown.iter().map(|u| u.look_ns).min();
        unknown.into_iter().chain(self.follows.next_due_ns()).min()
    }

    /// Looks at what is due.
    pub(super) fn look(&mut self) {
        let now_ns = boot_ns().cast_signed();
        for mut unknown in std::mem::take(&mut self.unknown) {
            if unknown.look_ns > now_ns {
                self.unknown.push(unknown);
                continue;
            }
            unknown.wait_ns = unknown.wait_ns.saturating_mul(2);
            unknown.look_ns = now_ns + unknown.wait_ns;
            let is_old = now_ns - unknown.entered_ns > UNKNOWN_AFTER_NS;
            match self.look_at(unknown) {
                Some(unknown) if is_old => self.conclude_unclear(unknown),
                Some(unknown) => self.unknown.push(unknown),
                None => {}
            }
        }
        while let Some((object, path)) = self.follows.due(now_ns) {
            self.look_at_followed(object, &path);
        }
    }

    fn conclude_unclear(&mut self, unknown: Unknown) {
        let before = unknown.before;
        self.conclude(unknown, Judgement::Unclear, before);
    }

    fn look_at_followed(&mut self, object: (u64, u64), path: &[u8]) {
        // What is changed by a call that is not known yet may be no write.
        if self.unknown.iter().any(|u| first(u.before).is_some_and(|s| s.object() == object)) {
            return;
        }
        let state = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).map(|stat| State::of(&stat));
        match state {
            Ok(state) if state.object() == object => {
                let write = self.follows.seen(&state, boot_ns().cast_signed());
                write.into_iter().for_each(|write| self.line.push(write));
            }
            _ => self.follows.give_up(object),
        }
    }

    /// When all files that are followed may be looked at again.
    pub(super) fn next_mark_ns(&self) -> i64 {
        self.mark_ns
    }

    /// Puts a point behind all that happened up to now, and looks at each file that is followed before. False when that was done so
    /// shortly before that it would take too much of this thread's time.
    pub(super) fn mark(&mut self, point: u64) -> bool {
        let now_ns = boot_ns().cast_signed();
        if now_ns < self.mark_ns {
            return false;
        }
        let followed = self.follows.all();
        self.mark_ns = now_ns + MARK_NS_PER_FILE * followed.len() as i64;
        for (object, path) in followed {
            self.look_at_followed(object, &path);
        }
        self.line.mark(point);
        true
    }

    /// Hands on what is known up to now.
    pub(super) fn publish(&mut self) {
        self.shared.publish(&mut self.line);
    }
}

/// Whether opening a file has an effect.
enum Opened {
    /// It may have, later.
    Later,
    /// It cannot be opened so.
    Futile,
    /// It is open, or no file; there is nothing to find out.
    Other,
}

fn first(looks: Looks) -> Option<State> {
    match looks {
        [Look::There(state), _] => Some(state),
        _ => None,
    }
}

/// The length that a call cuts a file to.
fn length(waiting: &Waiting) -> Option<u64> {
    waiting.arguments.get(1).copied()
}

fn was_empty(before: Looks) -> bool {
    first(before).is_some_and(|s| s.size == 0)
}

/// Whether this user may write the file, as the caller's user may as a rule.
fn may_write(plan: &Plan) -> bool {
    use super::place::Place;
    match plan.places.iter().flatten().next() {
        Some(Place::Name { folder, name, .. }) => {
            accessat(folder, name.as_slice(), Access::WRITE_OK, AtFlags::empty()).is_ok()
        }
        _ => true,
    }
}
