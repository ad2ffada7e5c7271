//! A whole run: openings until all is emitted and at rest.

use super::chance::SimClock;
use super::saga::{Line, Saga, Settings};
use super::trouble::Cut;
use super::world::World;
use semj_actors::chaos;
use semj_actors::ledger::Gate;
use semj_actors::simulation::panic_text;
use semj_storage::backend::{CrashMode, DirectoryRule, MemoryBackend};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;

/// Openings after which nothing goes wrong any more.
const OPENINGS_MAX: usize = 8;
const STEPS_MAX: u64 = 1_500;
/// Everything must come to rest within so many steps, and within so much time.
const REST_STEPS: u64 = 20_000;
const REST_NS: i64 = 120_000_000_000;

/// What a run came to.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    pub trace: Vec<Line>,
    pub counts: BTreeMap<&'static str, u64>,
    /// Sequence and tag of every event of a host that is in the record.
    pub journal: Vec<(u64, u64)>,
}

/// Runs a seed.
///
/// # Panics
/// With the seed and the end of the trace, when something is not as it must be.
pub fn run(seed: u64, settings: Settings) -> Report {
    match try_run(seed, settings) {
        Ok(report) => report,
        Err(words) => panic!("{words}"),
    }
}

/// Runs a seed; what was wrong.
pub fn try_run(seed: u64, settings: Settings) -> Result<Report, String> {
    let saga = Saga::new(seed, settings);
    chaos::disarm_pills();
    let all = catch_unwind(AssertUnwindSafe(|| all_openings(&saga, &|_| {})));
    chaos::on_pass(None);
    match all {
        Ok(_) => Ok(report(&saga)),
        Err(payload) => {
            let words = panic_text(payload.as_ref());
            Err(format!("SEMJ_SEED={seed}: {words}\n{}", saga.tail(60)))
        }
    }
}

pub fn report(saga: &Saga) -> Report {
    let model = saga.model.borrow();
    let journal = model.events.keys().filter_map(|n| Some((*n, model.host(*n)?.draft.tag))).collect();
    Report { trace: saga.trace.borrow().clone(), counts: saga.counts.borrow().clone(), journal }
}

/// Opens again and again, until all was emitted.
pub fn all_openings(saga: &Rc<Saga>, prepare: &dyn Fn(&World)) -> Rc<World> {
    let rule = if saga.once_in(2) { DirectoryRule::Strict } else { DirectoryRule::Journal };
    let clock = Arc::new(SimClock::new());
    let mut memory = MemoryBackend::new(rule);
    let mut is_killed = false;
    for opening in 0.. {
        let opened = catch_unwind(AssertUnwindSafe(|| open(saga, &memory, &clock, is_killed)));
        let lived = match opened {
            Ok(world) => {
                let at_points = world.clone();
                prepare(&world);
                chaos::on_pass(Some(Rc::new(move |point| at_points.pass(point))));
                let lived = catch_unwind(AssertUnwindSafe(|| live(&world, opening >= OPENINGS_MAX)));
                chaos::on_pass(None);
                lived.map(|next| (world, next))
            }
            Err(payload) => Err(payload),
        };
        match lived {
            Ok((world, None)) => return world,
            Ok((_, Some(next))) => (memory, is_killed) = (next, true),
            Err(payload) => match payload.downcast::<Cut>() {
                Ok(cut) => {
                    saga.count("ends");
                    (memory, is_killed) = (cut.0, cut.1);
                }
                Err(payload) => resume_unwind(payload),
            },
        }
    }
    unreachable!("openings come to an end")
}

fn open(saga: &Rc<Saga>, memory: &MemoryBackend, clock: &Arc<SimClock>, is_killed: bool) -> Rc<World> {
    let world = World::open(saga.clone(), memory.clone(), clock.clone());
    saga.count("openings");
    let last = world.pipeline.watermark().durable();
    assert!(world.pipeline.damage().is_empty(), "damage: {:?}", world.pipeline.damage());
    let mut model = saga.model.borrow_mut();
    assert!(!is_killed || last >= model.written, "{} was with the system, {last} is left", model.written);
    let tombstones = model.check(world.pipeline.segments(), last).unwrap_or_else(|e| panic!("reopened: {e}"));
    model.reopened(last, &tombstones);
    drop(model);
    world
}

/// One opening; the disk for the next one, where there must be another.
fn live(world: &Rc<World>, is_last: bool) -> Option<MemoryBackend> {
    let mut steps = 0;
    let is_poisoned = || world.pipeline.watermark().poison().is_some();
    while !is_last && world.saga.emissions_left.get() > 0 && steps < STEPS_MAX && !is_poisoned() {
        world.step();
        steps += 1;
    }
    for _ in 0..if is_last || world.saga.settings.is_standard { 0 } else { world.saga.below(60) } {
        world.step();
    }
    world.calm_down();
    rest(world);
    if world.saga.settings.is_probed && !is_poisoned() {
        world.hosts.probe(world);
        rest(world);
    }
    let (saga, watermark) = (&world.saga, world.pipeline.watermark());
    world.audit("the end");
    if let Some(cause) = watermark.poison() {
        world.hears_of_poison(&cause.to_string());
        return Some(world.memory.kill_image());
    }
    let (admitted, gate) = (world.pipeline.ledger().admitted(), world.pipeline.ledger().gate());
    assert!(matches!(gate, Gate::Open), "nothing is wrong, and the gate is {gate:?}");
    assert_eq!(watermark.durable(), admitted, "all is durable");
    let tombstones =
        saga.model.borrow().check(world.pipeline.segments(), admitted).unwrap_or_else(|e| panic!("{e}"));
    let (shed, refused) = told(world);
    assert_eq!(shed, world.shed.get(), "what was shed is told");
    let untold = tombstones.iter().find(|n| **n > world.opened_at && !refused.contains(n));
    assert_eq!(untold, None, "a refusal that nobody tells of");
    saga.model.borrow_mut().refused.extend(tombstones);
    if !is_last && saga.emissions_left.get() > 0 {
        return Some(world.memory.crash_image(CrashMode::Drop, 0));
    }
    let _ = world.journal.borrow().close();
    None
}

/// Everything comes to rest.
fn rest(world: &Rc<World>) {
    let until = world.clock.now() + REST_NS;
    for step in 0.. {
        if world.is_at_rest() {
            return;
        }
        let in_time = step < REST_STEPS && world.clock.now() < until;
        assert!(in_time, "it does not come to rest: {}", world.unrest());
        world.step();
    }
}

/// How many events the engine says were shed since the opening, and which were refused.
pub fn told(world: &World) -> (u64, BTreeSet<u64>) {
    let (mut shed, mut refused) = (0, BTreeSet::new());
    let last = world.pipeline.watermark().durable();
    let read = world.pipeline.segments().read(world.opened_at + 1, last, &mut |entry| {
        let own = entry.event().filter(|e| e.stream_or_default() == b"semj");
        if let Some(payload) = own.and_then(|e| e.payload_value().as_json()) {
            let number = |key: &str| payload.get(key).and_then(serde_json::Value::as_u64);
            shed += number("semj.shed_events").unwrap_or(0);
            if let (Some(first), Some(last)) = (number("semj.refused_first"), number("semj.refused_last")) {
                refused.extend(first..=last);
            }
        }
        std::ops::ControlFlow::Continue(())
    });
    read.unwrap_or_else(|e| panic!("{e}"));
    (shed, refused)
}
