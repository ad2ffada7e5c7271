//! What one incarnation of KernelSync does for a source that is its own: opens it, reads it, brings what it hands out into
//! the ledger, answers who waits, certifies, and establishes its state anew where it was broken.

use super::admit::{Admission, admit, settle_doubt};
use super::health::Coverage;
use super::slot::{Batch, Goal, Machine, Slot, State, Target};
use super::status::Condition;
use crate::clock::anchor;
use crate::cores::kernel::{
    Account, Covered, Group, LagWatch, Mark, Rescan, SourceCore, SyncLimits, Told, Trigger, Why,
};
use crate::metrics::Synced;
use crate::pipeline::Pipeline;
use crate::sources::{Barrier, Item, NotSupported, Progress as Read, Resume, ResumeKind};
use crate::supervision::Progress;
use semj_storage::error::ReadError;
use std::sync::Arc;

/// Items taken from a source in one call.
const ITEMS: usize = 512;
/// Until a source that failed, or cannot be had, is tried again, ns.
pub(crate) const RETRY_NS: i64 = 200_000_000;
/// Until the ledger is asked again for room, ns.
const ROOM_NS: i64 = 1_000_000;
/// An idle source gets a certificate, and with it its resume point, when so many events of others lie behind the last.
const CARRY_EVENTS: u64 = 65_536;

/// What a keeper works with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tools<'a> {
    pub(crate) pipeline: &'a Pipeline,
    pub(crate) progress: &'a Progress,
    pub(crate) limits: &'a SyncLimits,
    /// How often somebody set the wall clock.
    pub(crate) clock_sets: u64,
}

impl Tools<'_> {
    /// The boot-time clock, ns.
    pub(crate) fn now(&self) -> i64 {
        self.pipeline.clock().boot_ns()
    }

    fn wall_offset(&self) -> i64 {
        let clock = self.pipeline.clock();
        clock.wall_ns().saturating_sub(clock.boot_ns())
    }

    fn knows(&self) -> impl Fn(&uuid::Uuid) -> Result<bool, ReadError> + '_ {
        |id| Ok(self.pipeline.ledger().find_id(id, self.pipeline.watermark().durable())?.is_some())
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Keeper {
    slot: Arc<Slot>,
    core: SourceCore,
    /// The ledger had no room for it.
    stuck: Option<Group>,
    /// Not to be tried before, ns.
    retry_at: i64,
    coverage: Coverage,
    lag: LagWatch,
    /// Figures were looked at then, ns.
    looked_at: i64,
    /// What had been admitted for the source by then, or by a certificate since.
    last_event: u64,
    /// The same, whatever was certified: behind it nothing has happened since the clocks were read.
    anchored_event: u64,
    clock_sets: u64,
    /// Its state was established anew then, ns.
    resynced_at: Option<i64>,
}

/// What is to be done next for a source.
#[derive(Debug, Default)]
pub(crate) struct Next {
    /// There is more at once.
    pub(crate) more: bool,
    /// Look again then, ns.
    pub(crate) at: Option<i64>,
}

impl Next {
    fn at(at: i64) -> Self {
        Next { more: false, at: Some(at) }
    }

    fn by(&mut self, at: Option<i64>) {
        self.at = [self.at, at].into_iter().flatten().min();
    }
}

/// A core for a source: from the account behind what was admitted, and what was taken and not admitted.
fn core_of(slot: &Slot, tools: &Tools<'_>) -> Result<SourceCore, ReadError> {
    let pipeline = tools.pipeline;
    settle_doubt(pipeline, slot)?;
    if slot.state.lock().account.is_none() {
        let _slow = tools.progress.slow();
        let found = pipeline.segments().resume_point(&slot.name, pipeline.watermark().durable())?;
        let mut state = slot.state.lock();
        let (found, is_hidden) = match found {
            Ok(found) => (Some(found.point), found.damaged > 0),
            Err(damaged) => (None, damaged > 0),
        };
        if is_hidden {
            state.counts.reasons.add(Trigger::HiddenPoint);
        }
        state.caught_up_ns = tools.now();
        state.resume = found.as_ref().map(|p| Resume(p.resume.clone()));
        state.account = Some(found.map_or_else(Account::default, |p| p.account));
    }
    let (account, items, counts) = {
        let mut state = slot.state.lock();
        if let Some(target) = &mut state.target {
            // Whether its certificate was admitted is not known; another one does no harm.
            target.is_certified = false;
        }
        let left = |b: &Batch| {
            let items = b.items.iter().zip(0u32..);
            let items =
                items.filter_map(|(item, n)| Some(((b.number, n), item.clone()?))).collect::<Vec<_>>();
            (b.number, items)
        };
        (
            state.account.clone().unwrap_or_default(),
            state.inbox.iter().map(left).collect::<Vec<_>>(),
            state.counts,
        )
    };
    let mut core = SourceCore::new(&slot.name, account, counts);
    for (number, items) in items {
        for (place, item) in items {
            core.take(place, item, tools.now(), &tools.knows())?;
        }
        core.end_batch(number);
    }
    Ok(core)
}

impl Keeper {
    /// Takes a source over from whoever kept it before.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub(crate) fn begin(slot: &Arc<Slot>, tools: &Tools<'_>) -> Result<Self, ReadError> {
        let core = core_of(slot, tools)?;
        let last_event = slot.state.lock().last_event;
        Ok(Keeper {
            slot: slot.clone(),
            core,
            stuck: None,
            retry_at: 0,
            coverage: Coverage::default(),
            lag: LagWatch::default(),
            looked_at: tools.now(),
            last_event,
            anchored_event: last_event,
            clock_sets: tools.clock_sets,
            resynced_at: None,
        })
    }

    /// One turn: what is in hand into the ledger, one call of the source, and what came of it.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub(crate) fn tend(&mut self, machine: &mut Machine, tools: &Tools<'_>) -> Result<Next, ReadError> {
        let now = tools.now();
        // First what is in hand: while the ledger has no room nothing more is taken.
        if !self.admit_all(tools)? {
            return Ok(Next::at(now + ROOM_NS));
        }
        if now < self.retry_at {
            return self.wait(tools);
        }
        if !self.open(machine, tools)? {
            self.retry_at = now + RETRY_NS;
            return self.wait(tools);
        }
        let mut next = Next { more: false, at: self.coverage.tell(&self.slot, &mut self.core, tools) };
        self.look(tools);
        if !self.admit_all(tools)? {
            return Ok(Next::at(now + ROOM_NS));
        }
        crate::chaos::point("kernel_sync:before_read");
        let Some(read) = self.read(machine, tools)? else {
            self.retry_at = tools.now() + RETRY_NS;
            return self.wait(tools);
        };
        crate::chaos::point("kernel_sync:after_read");
        next.more = read.more;
        let now = tools.now();
        next.by(self.core.wait_no_longer(now));
        if !self.admit_all(tools)? {
            return Ok(Next::at(now + ROOM_NS));
        }
        next.more |= self.resync(machine, tools, &mut next.at);
        if !self.admit_all(tools)? || !self.answer(tools)? {
            return Ok(Next::at(now + ROOM_NS));
        }
        Ok(next)
    }

    /// The source is of no use now: says so, and comes again.
    fn wait(&mut self, tools: &Tools<'_>) -> Result<Next, ReadError> {
        let mut next = Next::at(self.retry_at);
        next.by(self.coverage.tell(&self.slot, &mut self.core, tools));
        if !self.admit_all(tools)? {
            next.by(Some(tools.now() + ROOM_NS));
        }
        Ok(next)
    }

    /// Opens the source if it is not; `false` when it cannot be had now.
    fn open(&mut self, machine: &mut Machine, tools: &Tools<'_>) -> Result<bool, ReadError> {
        if std::mem::take(&mut machine.in_call) {
            machine.source = None;
        }
        if let Some(source) = &machine.source {
            self.coverage.is(Covered::Watching(source.caps(), source.misses()));
            self.slot.state.lock().condition = Condition::Open;
            return Ok(true);
        }
        let from = self.slot.state.lock().resume.clone();
        let opened = {
            let Some(_slow) = tools.progress.slow() else { return Ok(false) };
            machine.opener.open(from.as_ref())
        };
        let source = match opened {
            Ok(source) => source,
            Err(why) => {
                self.coverage.is(Covered::Unavailable(why.clone()));
                self.slot.fail(Condition::Unavailable(why));
                return Ok(false);
            }
        };
        let mut state = self.slot.state.lock();
        let caps = source.caps();
        if caps.resume != ResumeKind::None && !state.inbox.is_empty() {
            // It hands out again what was taken and not admitted.
            state.inbox.clear();
            let account = state.account.clone().unwrap_or_default();
            self.core = SourceCore::new(&self.slot.name, account, state.counts);
            self.stuck = None;
        }
        state.condition = Condition::Open;
        state.caps = Some(caps);
        state.opened += 1;
        state.target = None;
        state.passed = 0;
        state.fd = source.pollable().and_then(|fd| fd.try_clone_to_owned().ok()).map(Arc::new);
        state.poll_every = source.poll_every();
        if state.resume.is_none() {
            // Of its first call, too, only a part may be admitted: then this is where it goes on.
            state.resume = Some(source.resume_point());
        }
        drop(state);
        self.coverage.is(Covered::Watching(caps, source.misses()));
        // What the clocks say now is what a clock that is set is found by, though nothing has happened yet.
        self.core.anchor(anchor(tools.pipeline.clock()));
        machine.source = Some(source);
        Ok(true)
    }

    /// Once a period: the figures, a clock anchor and the wish for a certificate where something happened, and whether it
    /// is behind. An anchor at once, where somebody set the clock.
    fn look(&mut self, tools: &Tools<'_>) {
        let (clock, limits) = (tools.pipeline.clock(), tools.limits);
        let now = clock.boot_ns();
        if std::mem::replace(&mut self.clock_sets, tools.clock_sets) != tools.clock_sets {
            self.core.anchor(anchor(clock));
        }
        if now < self.looked_at.saturating_add(limits.period_ns) {
            return;
        }
        self.looked_at = now;
        let mut state = self.slot.state.lock();
        state.looks += 1;
        let lag = state.lag(now, &clock.boot_id());
        let told = self.lag.look(lag, state.is_lag_told, limits);
        let is_active = std::mem::replace(&mut self.last_event, state.last_event) != state.last_event;
        let has_news = std::mem::replace(&mut self.anchored_event, state.last_event) != state.last_event;
        let carried = state.certificate.map_or(0, |(_, event)| event);
        if is_active || tools.pipeline.ledger().admitted() > carried.saturating_add(CARRY_EVENTS) {
            state.certify.get_or_insert(Why::Period);
        }
        drop(state);
        if has_news {
            self.core.anchor(anchor(clock));
        }
        if let Some(is_over) = told {
            self.core.tell(Told::Lag { is_over, lag, limits: *limits }, now);
            if is_over {
                self.core.trigger(Trigger::Lag);
            }
        }
        crate::metrics::sync_figures(&self.slot.name, lag, self.core.counts().drift_ns);
    }

    /// One call of the source; `None` when it failed or this incarnation was replaced meanwhile.
    fn read(&mut self, machine: &mut Machine, tools: &Tools<'_>) -> Result<Option<Read>, ReadError> {
        let Some(source) = machine.source.as_mut() else { return Ok(None) };
        let asks = self.slot.state.lock().asks();
        let mut items = Vec::new();
        machine.in_call = true;
        let asked_ns = tools.now();
        let (barrier, read) = {
            let Some(_slow) = tools.progress.slow() else { return Ok(None) };
            let barrier = asks.map(|asks| (asks, source.barrier(), source.newest_sequence()));
            (barrier, source.next_batch(ITEMS, &mut items))
        };
        if !tools.progress.tick() {
            return Ok(None);
        }
        let (resume, newest) = (source.resume_point(), source.newest_sequence());
        machine.in_call = false;
        let read = match read {
            Ok(read) => read,
            Err(e) => {
                machine.source = None;
                self.coverage.is(Covered::Failed(e.to_string()));
                self.slot.fail(Condition::Failed(e.to_string()));
                return Ok(None);
            }
        };
        let number = {
            let mut state = self.slot.state.lock();
            state.newest_sequence = newest;
            if let Some((asks, barrier, newest)) = barrier {
                state.set_target(asks, barrier, newest, asked_ns);
            }
            state.batches += 1;
            let number = state.batches;
            let kept = items.iter().cloned().map(Some).collect();
            state.inbox.push_back(Batch { number, items: kept, resume, passed: read.passed });
            number
        };
        crate::chaos::point("kernel_sync:taken");
        self.take(number, items, tools)?;
        Ok(Some(read))
    }

    fn take(&mut self, number: u64, items: Vec<Item>, tools: &Tools<'_>) -> Result<(), ReadError> {
        let now = tools.now();
        for (item, index) in items.into_iter().zip(0u32..) {
            self.core.take((number, index), item, now, &tools.knows())?;
        }
        self.core.end_batch(number);
        Ok(())
    }

    /// Admits every group that is ready; `false` when there is no room for one.
    fn admit_all(&mut self, tools: &Tools<'_>) -> Result<bool, ReadError> {
        let offset = tools.wall_offset();
        while let Some(mut group) = self.stuck.take().or_else(|| self.core.next_group(offset)) {
            match admit(tools.pipeline, &self.slot, &mut group)? {
                Admission::Done(known) => {
                    self.core.dropped_duplicates(known);
                    crate::metrics::synced(&self.slot.name, &synced(&group));
                }
                Admission::Full => {
                    self.stuck = Some(group);
                    return Ok(false);
                }
                Admission::Ended(why) => {
                    self.slot.fail(Condition::Ended(why));
                    return Ok(true);
                }
            }
        }
        let mut state = self.slot.state.lock();
        state.counts = self.core.counts();
        if !self.core.is_waiting() {
            // What was dropped as a repetition is done with, too.
            let all = state.batches;
            state.trim(all);
        }
        Ok(true)
    }

    /// Establishes the state anew where there is a reason to, no more often than once a period: the source compares its
    /// scope with what it knows, the clocks are read afresh, and a certificate is to follow. `true` when it did.
    fn resync(&mut self, machine: &mut Machine, tools: &Tools<'_>, at: &mut Option<i64>) -> bool {
        if self.core.counts().reasons.is_empty() {
            return false;
        }
        let due = self.resynced_at.map(|then| then.saturating_add(tools.limits.period_ns));
        if let Some(due) = due.filter(|due| *due > tools.now()) {
            *at = [*at, Some(due)].into_iter().flatten().min();
            return false;
        }
        let Some(source) = machine.source.as_mut() else { return false };
        machine.in_call = true;
        let rescan = {
            let Some(_slow) = tools.progress.slow() else { return false };
            source.rescan()
        };
        if !tools.progress.tick() {
            return false;
        }
        machine.in_call = false;
        let rescan = if rescan.is_ok() { Rescan::Asked } else { Rescan::NotSupported };
        let anchor = anchor(tools.pipeline.clock());
        self.core.anchor(anchor);
        let reasons = self.core.resynced();
        self.core.tell(Told::Resync { reasons, rescan, anchor }, tools.now());
        self.slot.state.lock().certify = Some(Why::Resync);
        self.resynced_at = Some(tools.now());
        crate::metrics::resynced(&self.slot.name);
        true
    }

    /// Where the point that is waited for was passed and admitted: writes the certificate, then answers. `false` when
    /// there is no room for it.
    fn answer(&mut self, tools: &Tools<'_>) -> Result<bool, ReadError> {
        let now = tools.now();
        let reached = {
            let mut state = self.slot.state.lock();
            if state.inbox.is_empty()
                && state.lag(now, &tools.pipeline.clock().boot_id()).events.unwrap_or(0) == 0
            {
                state.caught_up_ns = now;
            }
            if state.unsupported.is_some() {
                self.slot.answered.notify_all();
            }
            let reached = state.target.filter(|t| t.is_certified || state.is_reached(t.goal));
            let is_new = reached.is_some_and(|t| !t.is_certified);
            if let Some(target) = state.target.as_mut().filter(|_| is_new) {
                target.is_certified = true;
            }
            reached
        };
        let Some(target) = reached else { return Ok(true) };
        if !target.is_certified {
            let (why, complete_ns) = (target.why, target.asked_ns);
            let boot_id = tools.pipeline.clock().boot_id();
            self.core.tell(Told::Certificate { why, boot_id, complete_ns }, complete_ns);
        }
        if !self.admit_all(tools)? {
            return Ok(false);
        }
        let mut state = self.slot.state.lock();
        state.target = None;
        self.last_event = state.last_event;
        if let Some(request) = target.request.filter(|_| !matches!(state.condition, Condition::Ended(_))) {
            state.replied = request;
            self.slot.answered.notify_all();
        }
        if state.asked > state.replied {
            tools.pipeline.bells.sync.ring();
        }
        Ok(true)
    }
}

fn synced(group: &Group) -> Synced {
    let certificates = group.marks.iter().filter(|mark| matches!(mark, Mark::Certificate(_))).count();
    Synced {
        records: group.records,
        notes: (group.events.len() as u64).saturating_sub(group.records),
        lost: group.lost,
        alerts: group.alerts,
        certificates: certificates as u64,
    }
}

/// What a barrier is wanted for: who waits, if anybody, and why.
type Asks = (Option<u64>, Why);

impl State {
    /// Whether a point is to be asked for. Who waits comes before what only is to be certified.
    fn asks(&self) -> Option<Asks> {
        let is_free = self.target.as_ref().is_none_or(|t| t.request.is_none() && !t.is_certified);
        if is_free && self.asked > self.replied {
            return Some((Some(self.asked), Why::SyncNow));
        }
        self.certify.filter(|_| self.target.is_none()).map(|why| (None, why))
    }

    fn set_target(
        &mut self,
        (request, why): Asks,
        barrier: Result<Barrier, NotSupported>,
        newest: Option<u64>,
        asked_ns: i64,
    ) {
        let life = self.account.as_ref().map_or(0, |a| a.incarnation);
        let goal = match (barrier, newest) {
            (Ok(barrier), _) => Some(Goal::Passed(barrier)),
            (Err(_), Some(newest)) => Some(Goal::Sequence(life, newest)),
            (Err(why), None) => {
                if request.is_some() {
                    self.unsupported = Some(why);
                }
                None
            }
        };
        self.certify = None;
        if let Some(goal) = goal {
            self.target = Some(Target { request, why, asked_ns, goal, is_certified: false });
        }
    }
}

impl Slot {
    /// It is of no use now; who waits is told.
    pub(crate) fn fail(&self, condition: Condition) {
        let mut state = self.state.lock();
        state.condition = condition;
        state.target = None;
        self.answered.notify_all();
    }
}
