//! Those who emit and wait.

use super::model::{Draft, Verdict, pill};
use super::saga::Saga;
use super::world::World;
use semj_actors::watermark::Level;
use semj_actors::{CommitError, Committed, EmitError, Emitter, Ticket, chaos};
use semj_storage::event::{Cause, Priority};
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use uuid::Uuid;

const STREAMS: [&str; 4] = ["a", "b", "c", "shared"];
const POINTS: [&str; 3] = ["ingest", "batcher", "persister"];
/// How long a host waits before it waits again, ns.
const AGAIN_NS: i64 = 10_000_000;
/// More would be one bug and not some bad events.
const PILLS_MAX: u64 = 3;

#[derive(Debug)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

struct Waiting {
    ticket: Ticket,
    level: Level,
    last: u64,
    /// `None` until its time has come again.
    future: Option<Pin<Box<Committed>>>,
    flag: Arc<Flag>,
    from_ns: i64,
}

#[derive(Default)]
pub struct Hosts {
    emitters: Vec<Emitter>,
    waiting: RefCell<Vec<Waiting>>,
}

impl Hosts {
    pub fn new(emitters: Vec<Emitter>) -> Self {
        Hosts { emitters, waiting: RefCell::default() }
    }

    pub fn are_waiting(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// When somebody will wait again.
    pub fn next_ns(&self) -> Option<i64> {
        self.waiting.borrow().iter().filter(|w| w.future.is_none()).map(|w| w.from_ns).min()
    }

    /// Those that were woken, or whose time has come, look again.
    pub fn look(&self, world: &World) {
        let mut waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        waiting.retain_mut(|w| {
            let now = world.clock.now();
            if w.future.is_none() && w.from_ns <= now {
                let future = if w.level == Level::Written { w.ticket.written() } else { w.ticket.durable() };
                w.future = Some(Box::pin(future));
                w.flag.0.store(true, Ordering::SeqCst);
            }
            let Some(future) = &mut w.future else { return true };
            if !w.flag.0.swap(false, Ordering::SeqCst) {
                return true;
            }
            let waker = Waker::from(w.flag.clone());
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Pending => true,
                Poll::Ready(outcome) => {
                    let again = world.hears(w.last, w.level, outcome, &w.ticket);
                    (w.future, w.from_ns) = (None, now + AGAIN_NS);
                    again
                }
            }
        });
        self.waiting.borrow_mut().extend(waiting);
    }

    fn wait(&self, world: &World, ticket: Ticket, last: u64, level: Level) {
        let flag = Arc::new(Flag(AtomicBool::new(false)));
        self.waiting.borrow_mut().push(Waiting { ticket, level, last, future: None, flag, from_ns: 0 });
        self.look(world);
    }

    /// One emission.
    pub fn emit(&self, world: &World) {
        let saga = &world.saga;
        if saga.settings.is_standard {
            return self.emit_standard(world);
        }
        let repeated = saga.once_in(6) && !saga.keyed.borrow().is_empty();
        let mut drafts = if repeated {
            let keyed = saga.keyed.borrow();
            saga.pick(&keyed).clone()
        } else {
            fresh(saga)
        };
        if repeated && saga.once_in(5) {
            drafts[0].filler += 1;
        }
        let is_unticketed = !repeated && drafts.len() == 1 && drafts[0].id.is_none() && saga.once_in(6);
        let expect = (!repeated && saga.once_in(5))
            .then(|| saga.model.borrow().count(drafts[0].stream) + u64::from(saga.once_in(3)));
        self.emit_these(world, &drafts, expect, is_unticketed);
    }

    /// An event that nobody waits for.
    pub fn probe(&self, world: &World) {
        let tag = world.saga.next_tag.replace(world.saga.next_tag.get() + 1_000);
        let draft = Draft {
            tag,
            stream: "a",
            filler: 0,
            id: None,
            causes: Vec::new(),
            is_critical: false,
            is_pill: false,
        };
        self.emit_these(world, &[draft], None, true);
    }

    fn emit_standard(&self, world: &World) {
        let saga = &world.saga;
        let tag = saga.next_tag.replace(saga.next_tag.get() + 3);
        let draft = |n: u64| Draft {
            tag: tag + n,
            stream: STREAMS[(tag % 4) as usize],
            filler: (tag * 7 % 90) as usize,
            id: tag.is_multiple_of(5).then(|| Uuid::from_u128(u128::from(tag + n))),
            causes: if tag > 9 { vec![Cause::Sequence(tag / 3)] } else { vec![] },
            is_critical: tag.is_multiple_of(4),
            is_pill: saga.settings.pill_tag == Some(tag + n),
        };
        let count = if tag.is_multiple_of(7) { 3 } else { 1 };
        self.emit_these(world, &(0..count).map(draft).collect::<Vec<_>>(), None, false);
    }

    fn emit_these(&self, world: &World, drafts: &[Draft], expect: Option<u64>, is_unticketed: bool) {
        let saga = &world.saga;
        let emitter = saga.pick(&self.emitters);
        saga.see(world.pipeline.ledger());
        for id in drafts.iter().filter_map(|d| d.id) {
            let known = saga.model.borrow().ids.get(&id).copied();
            if let Some(known) = known.filter(|n| world.pipeline.watermark().refusal(*n).is_some()) {
                saga.model.borrow_mut().refuse(known);
            }
        }
        let verdict = saga.model.borrow().judge(drafts, expect);
        let is_standard = saga.settings.is_standard;
        let mut events: Vec<_> = drafts.iter().map(Draft::event).collect();
        if let Some(count) = expect {
            events[0] = events[0].clone().expect(count);
        }
        let last_before = world.pipeline.ledger().admitted();
        let result = if is_unticketed {
            emitter.emit_unticketed(events.remove(0).priority(Priority::LOW)).map(|()| None)
        } else if events.len() == 1 {
            emitter.try_emit(events.remove(0)).map(|t| Some((t.sequence(), t.is_duplicate(), t)))
        } else {
            let group = emitter.emit_all(events);
            group.map(|g| Some((*g.sequences().start(), g.is_duplicate(), g.ticket().clone())))
        };
        let count = drafts.len() as u64;
        world.note("host", if is_unticketed { "emits without ticket" } else { "emits" }, drafts[0].tag);
        let ticket = match (result, verdict) {
            (Ok(None), Verdict::New) => {
                saga.model.borrow_mut().admit(last_before + 1, drafts);
                return;
            }
            (Ok(Some((first, false, ticket))), Verdict::New) => {
                saga.model.borrow_mut().admit(first, drafts);
                if drafts[0].id.is_some() {
                    saga.keyed.borrow_mut().push(drafts.to_vec());
                } else {
                    saga.model.borrow_mut().ids.insert(ticket.id(), first);
                }
                ticket
            }
            (Ok(Some((first, true, ticket))), Verdict::Known(known)) if first == known => {
                saga.count("repetitions");
                ticket
            }
            (Err(EmitError::Conflict { .. } | EmitError::GroupConflict), Verdict::Conflict)
            | (Err(EmitError::Position { .. }), Verdict::Position)
            | (Err(EmitError::Cycle { .. }), Verdict::Cycle) => return saga.count("refused emissions"),
            (Err(EmitError::Poisoned(cause)), _) => return world.hears_of_poison(&cause.to_string()),
            (Err(EmitError::StorageFull(_)), _) => return world.hears_of_full(),
            // A read failed: nothing was admitted, and nothing is poisoned.
            (Err(EmitError::Unreadable(_)), _) => return saga.count("unreadable records"),
            (result, verdict) => panic!("expected {verdict:?}, got {:?}", result.map(|_| ())),
        };
        let wait = if is_standard { !drafts[0].tag.is_multiple_of(3) } else { saga.once_in(2) };
        if wait {
            let level = if !is_standard && saga.once_in(6) { Level::Written } else { Level::Durable };
            let last = ticket.sequence() + count - 1;
            self.wait(world, ticket, last, level);
        }
    }
}

/// Something new to emit.
fn fresh(saga: &Rc<Saga>) -> Vec<Draft> {
    let count = if saga.once_in(6) { 2 + saga.below(4) } else { 1 };
    let is_keyed = saga.once_in(3);
    let model = saga.model.borrow();
    let stream = *saga.pick(&STREAMS);
    let draft = |_| {
        let tag = saga.next_tag.replace(saga.next_tag.get() + 1);
        let mut causes = Vec::new();
        if model.last > 0 && saga.once_in(3) {
            causes.push(Cause::Sequence(1 + saga.below(model.last)));
        }
        if saga.once_in(6) {
            let known: Vec<_> = model.ids.keys().collect();
            let foreign = Uuid::from_u128(u128::from(tag) << 64 | 0xF0);
            let id = if known.is_empty() || saga.once_in(4) { foreign } else { **saga.pick(&known) };
            causes.push(Cause::Id(id));
        }
        let is_pill = saga.pills.get() < PILLS_MAX && saga.once_in(saga.settings.rates.pill);
        if is_pill {
            saga.pills.set(saga.pills.get() + 1);
            chaos::arm_pill(saga.pick::<&str>(&POINTS), pill(tag).as_bytes());
        }
        let filler = if saga.once_in(12) { 1_500 } else { saga.below(80) } as usize;
        let id = is_keyed.then(|| Uuid::from_u128(u128::from(tag) << 64 | 7));
        Draft { tag, stream, filler, id, causes, is_critical: saga.once_in(10), is_pill }
    };
    (0..count).map(draft).collect()
}

impl World {
    /// A wait is over; whether its host waits again.
    fn hears(&self, last: u64, level: Level, outcome: Result<(), CommitError>, ticket: &Ticket) -> bool {
        let saga = &self.saga;
        match outcome {
            Ok(()) if level == Level::Written => {
                let mut model = saga.model.borrow_mut();
                model.written = model.written.max(last);
                false
            }
            Ok(()) => {
                assert!(ticket.is_durable() && !saga.model.borrow().refused.contains(&last));
                saga.model.borrow_mut().acknowledged.insert(last);
                saga.count("acknowledged");
                if saga.once_in(12) && !saga.settings.is_standard {
                    self.audit("an acknowledgement");
                }
                false
            }
            Err(CommitError::Refused { .. }) => {
                saga.model.borrow_mut().refuse(last);
                saga.count("refused by pills");
                false
            }
            Err(CommitError::StorageFull) => {
                self.hears_of_full();
                true
            }
            Err(CommitError::Poisoned(cause)) => {
                self.hears_of_poison(&cause.to_string());
                false
            }
            Err(other) => panic!("event {last}: {other}"),
        }
    }
}
