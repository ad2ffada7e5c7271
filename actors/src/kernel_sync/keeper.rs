//! What one incarnation of KernelSync does for a source that is its own.

use super::admit::{Admission, admit, settle_doubt};
use super::slot::{Batch, Machine, Slot, State, Target};
use super::status::Condition;
use crate::cores::kernel::{Account, Group, SourceCore};
use crate::pipeline::Pipeline;
use crate::sources::{Barrier, Item, NotSupported, Progress as Read, Resume, ResumeKind};
use crate::supervision::Progress;
use semj_storage::error::ReadError;
use semj_storage::log::control::{RESUME_POINT, ResumePoint};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Items taken from a source in one call.
const ITEMS: usize = 512;
/// Until a source that failed, or cannot be had, is tried again, ns.
pub(crate) const RETRY_NS: i64 = 200_000_000;
/// Until the ledger is asked again for room, ns.
const ROOM_NS: i64 = 1_000_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Keeper {
    slot: Arc<Slot>,
    core: SourceCore,
    /// The ledger had no room for it.
    stuck: Option<Group>,
    /// Not to be tried before, ns.
    retry_at: i64,
}

/// What is to be done next for a source.
#[derive(Debug, Default)]
pub(crate) struct Next {
    /// There is more at once.
    pub(crate) more: bool,
    /// Look again then, ns.
    pub(crate) at: Option<i64>,
}

/// A core for a source: from the account behind what was admitted, and what was taken and not admitted.
fn core_of(pipeline: &Pipeline, slot: &Slot, progress: &Progress) -> Result<SourceCore, ReadError> {
    settle_doubt(pipeline, slot)?;
    if slot.state.lock().account.is_none() {
        let _slow = progress.slow();
        let point = pipeline.resume_point(&slot.name)?;
        let mut state = slot.state.lock();
        state.resume = point.as_ref().map(|p| Resume(p.resume.clone()));
        state.account = Some(point.map_or_else(Account::default, |p| Account::of(&p)));
    }
    let (account, items, counts) = {
        let state = slot.state.lock();
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
            core.take(place, item, pipeline.clock().boot_ns(), &knows(pipeline))?;
        }
        core.end_batch(number);
    }
    Ok(core)
}

fn knows(pipeline: &Pipeline) -> impl Fn(&uuid::Uuid) -> Result<bool, ReadError> + '_ {
    |id| Ok(pipeline.ledger().find_id(id, pipeline.watermark().durable())?.is_some())
}

impl Keeper {
    /// Takes a source over from whoever kept it before.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub(crate) fn begin(
        pipeline: &Pipeline,
        slot: &Arc<Slot>,
        progress: &Progress,
    ) -> Result<Self, ReadError> {
        let core = core_of(pipeline, slot, progress)?;
        Ok(Keeper { slot: slot.clone(), core, stuck: None, retry_at: 0 })
    }

    /// One turn: what is in hand into the ledger, one call of the source, and what came of it.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub(crate) fn tend(
        &mut self,
        machine: &mut Machine,
        pipeline: &Pipeline,
        progress: &Progress,
    ) -> Result<Next, ReadError> {
        let mut next = Next::default();
        let now = pipeline.clock().boot_ns();
        // First what is in hand: while the ledger has no room nothing more is taken.
        if !self.admit_all(pipeline)? {
            next.at = Some(now + ROOM_NS);
            return Ok(next);
        }
        if now < self.retry_at {
            next.at = Some(self.retry_at);
            return Ok(next);
        }
        if !self.open(machine, progress)? {
            self.retry_at = now + RETRY_NS;
            next.at = Some(self.retry_at);
            return Ok(next);
        }
        crate::chaos::point("kernel_sync:before_read");
        let Some(read) = self.read(machine, pipeline, progress)? else {
            self.retry_at = pipeline.clock().boot_ns() + RETRY_NS;
            next.at = Some(self.retry_at);
            return Ok(next);
        };
        crate::chaos::point("kernel_sync:after_read");
        next.more = read.more;
        let now = pipeline.clock().boot_ns();
        next.at = self.core.wait_no_longer(now);
        if !self.admit_all(pipeline)? {
            next = Next { more: false, at: Some(now + ROOM_NS) };
        }
        self.answer(pipeline);
        Ok(next)
    }

    /// Opens the source if it is not; `false` when it cannot be had now.
    fn open(&mut self, machine: &mut Machine, progress: &Progress) -> Result<bool, ReadError> {
        if std::mem::take(&mut machine.in_call) {
            machine.source = None;
        }
        if machine.source.is_some() {
            self.slot.state.lock().condition = Condition::Open;
            return Ok(true);
        }
        let from = self.slot.state.lock().resume.clone();
        let opened = {
            let Some(_slow) = progress.slow() else { return Ok(false) };
            machine.opener.open(from.as_ref())
        };
        let source = match opened {
            Ok(source) => source,
            Err(why) => {
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
        machine.source = Some(source);
        Ok(true)
    }

    /// One call of the source; `None` when it failed or this incarnation was replaced meanwhile.
    fn read(
        &mut self,
        machine: &mut Machine,
        pipeline: &Pipeline,
        progress: &Progress,
    ) -> Result<Option<Read>, ReadError> {
        let Some(source) = machine.source.as_mut() else { return Ok(None) };
        let asks = {
            let state = self.slot.state.lock();
            (state.target.is_none() && state.asked > state.replied).then_some(state.asked)
        };
        let mut items = Vec::new();
        machine.in_call = true;
        let (barrier, read) = {
            let Some(_slow) = progress.slow() else { return Ok(None) };
            (asks.map(|request| (request, source.barrier())), source.next_batch(ITEMS, &mut items))
        };
        if !progress.tick() {
            return Ok(None);
        }
        let (resume, newest) = (source.resume_point(), source.newest_sequence());
        machine.in_call = false;
        let read = match read {
            Ok(read) => read,
            Err(e) => {
                machine.source = None;
                self.slot.fail(Condition::Failed(e.to_string()));
                return Ok(None);
            }
        };
        let number = {
            let mut state = self.slot.state.lock();
            state.newest_sequence = newest;
            state.set_target(barrier);
            state.batches += 1;
            let number = state.batches;
            let kept = items.iter().cloned().map(Some).collect();
            state.inbox.push_back(Batch { number, items: kept, resume, passed: read.passed });
            number
        };
        crate::chaos::point("kernel_sync:taken");
        self.take(pipeline, number, items)?;
        Ok(Some(read))
    }

    fn take(&mut self, pipeline: &Pipeline, number: u64, items: Vec<Item>) -> Result<(), ReadError> {
        let now = pipeline.clock().boot_ns();
        for (item, index) in items.into_iter().zip(0u32..) {
            self.core.take((number, index), item, now, &knows(pipeline))?;
        }
        self.core.end_batch(number);
        Ok(())
    }

    /// Admits every group that is ready; `false` when there is no room for one.
    fn admit_all(&mut self, pipeline: &Pipeline) -> Result<bool, ReadError> {
        let clock = pipeline.clock();
        let offset = clock.wall_ns().saturating_sub(clock.boot_ns());
        while let Some(mut group) = self.stuck.take().or_else(|| self.core.next_group(offset)) {
            let gaps = group.events.len() as u64 - group.records.min(group.events.len() as u64);
            match admit(pipeline, &self.slot, &mut group)? {
                Admission::Done => crate::metrics::synced(&self.slot.name, group.records, gaps),
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

    /// Answers a request whose point was passed and admitted.
    fn answer(&self, pipeline: &Pipeline) {
        let mut state = self.slot.state.lock();
        let lag = state.newest_sequence.zip(state.account.as_ref());
        let lag = lag.map_or(0, |(newest, account)| newest.saturating_sub(account.last_sequence));
        crate::metrics::sync_lag(&self.slot.name, lag);
        if let Some(target) = state.target.filter(|t| state.passed >= t.barrier.0 && !self.core.is_waiting())
        {
            state.replied = target.request;
            state.target = None;
            self.slot.answered.notify_all();
            if state.asked > state.replied {
                pipeline.bells.sync.ring();
            }
        } else if state.unsupported.is_some() {
            self.slot.answered.notify_all();
        }
    }
}

impl State {
    fn set_target(&mut self, barrier: Option<(u64, Result<Barrier, NotSupported>)>) {
        match barrier {
            Some((request, Ok(barrier))) => self.target = Some(Target { request, barrier }),
            Some((_, Err(why))) => self.unsupported = Some(why),
            None => {}
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

impl Pipeline {
    /// The newest resume point of a source that is durable.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn resume_point(&self, source: &str) -> Result<Option<ResumePoint>, ReadError> {
        let mut found = None;
        self.segments().controls_back(self.watermark().durable(), &mut |control| {
            if control.kind == RESUME_POINT {
                found = ResumePoint::decode(control.bytes).filter(|point| point.source == source);
            }
            if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(found)
    }
}
