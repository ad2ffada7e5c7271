//! Gates: what must hold whatever happens. Tests named after them run them in full, and `planted_bugs` runs them small,
//! with a mechanism taken away, to see that they notice.

use super::boundary::{standard, sweep};
use super::chance::SimClock;
use super::model::pill;
use super::run::{told, try_run};
use super::saga::{Saga, Settings};
use super::trouble::STANDS;
use super::world::World;
use semj_actors::stages::{BatcherStage, Birth, IndexerSeed, IndexerStage, On, PersisterStage, Stage};
use semj_actors::supervision::{Progress, Role};
use semj_actors::{TreeKeeper, chaos};
use semj_storage::backend::{DirectoryRule, Fault, FaultClass, MemoryBackend};
use semj_storage::event::{Event, Priority};
use semj_storage::limits::{BATCH_EVENTS_MAX, LEDGER_EVENTS_MAX};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// So many seeds.
pub fn seeds(seeds: impl IntoIterator<Item = u64>) {
    for seed in seeds {
        try_run(seed, Settings::from_seed(seed)).unwrap_or_else(|words| panic!("{words}"));
    }
}

/// Crashes at every boundary and at some points of a short run.
pub fn boundaries() {
    sweep(80, 1, 3).unwrap_or_else(|words| panic!("{words}"));
}

/// A lane that hangs at any point is replaced; when it comes back it changes nothing.
pub fn hangs(every: usize) -> u64 {
    const EMISSIONS: u64 = 60;
    let settings = || Settings { is_probed: true, ..Settings::calm(EMISSIONS) };
    let (undisturbed, _) = standard(settings(), |_| {}).unwrap();
    let mut hung = 0;
    for point in STANDS {
        for nth in (1..=100).step_by(every) {
            let (disturbed, _) = standard(settings(), |world| world.hook.hang_at.set(Some((point, nth))))
                .unwrap_or_else(|words| panic!("{point} {nth}: {words}"));
            assert!(disturbed.journal == undisturbed.journal, "{point} {nth}: another journal");
            let came = disturbed.counts.get("replaced lanes").copied().unwrap_or(0);
            if came == 0 {
                break;
            }
            hung += came;
        }
    }
    assert!(hung > 20, "{hung} hangs: are the points still passed?");
    hung
}

/// Inside a call on the record nobody is replaced, however long it takes.
pub fn nobody_is_replaced_inside_a_write() {
    for point in ["persister:before_append", "persister:before_sync", "writer:before_sync"] {
        for nth in [1, 2, 5, 11] {
            let (report, _) =
                standard(Settings::calm(40), |world| world.hook.hang_at.set(Some((point, nth))))
                    .unwrap_or_else(|words| panic!("{point} {nth}: {words}"));
            assert!(
                report.trace.iter().any(|line| line.1 == "hang" && line.2 == point),
                "{point} was passed"
            );
            assert_eq!(report.counts.get("replaced lanes"), None, "{point} {nth}: replaced inside a write");
        }
    }
}

fn quiet_world(emissions: u64) -> Rc<World> {
    let saga = Saga::new(5, Settings::calm(emissions));
    World::open(saga, MemoryBackend::new(DirectoryRule::Journal), Arc::new(SimClock::new()))
}

fn to_rest(world: &Rc<World>) {
    for _ in 0..20_000 {
        if world.saga.emissions_left.get() == 0 && world.is_at_rest() {
            return;
        }
        world.step();
    }
    panic!("it does not come to rest: {}", world.unrest());
}

/// What is shed for want of room becomes an event.
pub fn what_is_shed_is_told() {
    const SHED: u64 = 10;
    let world = quiet_world(0);
    to_rest(&world);
    let emitter = world.journal.borrow().emitter("a");
    for _ in 0..LEDGER_EVENTS_MAX / BATCH_EVENTS_MAX {
        emitter.emit_all(vec![Event::query("q"); BATCH_EVENTS_MAX]).unwrap();
    }
    for _ in 0..SHED {
        emitter.emit_unticketed(Event::query("q").priority(Priority::LOW)).unwrap();
    }
    to_rest(&world);
    assert_eq!(told(&world).0, SHED, "what was shed is told");
}

/// The trees take in nothing that a power cut could take back.
pub fn trees_never_run_ahead() {
    let world = quiet_world(30);
    let folder = tempfile::tempdir().unwrap();
    let keeper = Arc::new(TreeKeeper::new(Some(folder.path().join("trees"))));
    let seed = IndexerSeed { keeper: keeper.clone(), ..world.journal.borrow().index().clone() };
    let mut indexer =
        IndexerStage::recover(&seed, Birth { progress: Arc::default(), is_restart: false }).unwrap();
    while !keeper.index().has_trees() {
        indexer.start(&mut Vec::new()).unwrap();
        assert!(keeper.has_hope(), "the trees can be opened");
        std::thread::yield_now();
    }
    let (indexer, looks) = (std::cell::RefCell::new(indexer), Rc::new(Cell::new(0)));
    let (seen, pipeline) = (looks.clone(), world.pipeline.clone());
    chaos::on_pass(Some(Rc::new(move |point| {
        if point == "persister:before_sync" {
            seen.set(seen.get() + 1);
            indexer.borrow_mut().start(&mut Vec::new()).unwrap();
            let (indexed, durable) = (keeper.index().indexed_sequence(), pipeline.watermark().durable());
            assert!(indexed <= durable, "{indexed} is in the trees, {durable} is durable");
            assert!(pipeline.watermark().written() > durable, "there is something to run ahead to");
        }
    })));
    to_rest(&world);
    chaos::on_pass(None);
    assert!(looks.get() > 3, "{} looks", looks.get());
}

/// Messages of a run that is over are void.
pub fn messages_of_an_earlier_run_are_void() {
    let world = quiet_world(0);
    let pipeline = &world.pipeline;
    let emitter = world.journal.borrow().emitter("a");
    let last = emitter.emit_all(vec![Event::query("q"); 3]).unwrap().ticket().sequence() + 2;
    pipeline.want(last);
    let birth = |is_restart| Birth { progress: Arc::default(), is_restart };
    let range = pipeline.next_range(Role::Ingest, &Progress::default()).unwrap().unwrap();
    let batch = pipeline.pack(Role::Batcher, &range).unwrap();
    let mut persister = PersisterStage::recover(pipeline, birth(false)).unwrap();
    let mut out = Vec::new();
    BatcherStage::recover(pipeline, birth(true)).unwrap();
    assert!(pipeline.pack(Role::Batcher, &range).is_none(), "a range of an earlier run is packed");
    persister.on(batch, &mut out).unwrap();
    let range = pipeline.next_range(Role::Ingest, &Progress::default()).unwrap();
    assert!(range.is_some(), "the earlier run's batch is committed beside the new run's");
}

/// Who hung, was replaced and comes back while all sleep leaves them asleep, and wakeable.
pub fn who_comes_back_late_leaves_all_as_it_is() {
    for point in ["ingest:timer", "ingest:before_cut", "ingest:after_cut"] {
        let world = quiet_world(0);
        let at_points = world.clone();
        chaos::on_pass(Some(Rc::new(move |point| at_points.pass(point))));
        world.hosts.probe(&world);
        to_rest(&world);
        world.hook.returns_late.set(true);
        world.hook.hang_at.set(Some((point, 1)));
        for _ in 0..700 {
            world.step();
        }
        assert_eq!(world.saga.counts.borrow().get("replaced lanes"), Some(&1), "{point}");
        world.hosts.probe(&world);
        to_rest(&world);
        chaos::on_pass(None);
    }
}

/// A persister that crashes while the disk is full comes back as if it were not.
pub fn a_crash_while_the_disk_is_full_closes_nothing() {
    for nth in [1, 2, 5, 9] {
        let full = Fault::on(FaultClass::Write).nth(nth).full().path("segments/");
        let (report, _) = standard(Settings::calm(40), |world| {
            world.will_be_full(full.clone());
            world.hook.crash_when_full.set(true);
        })
        .unwrap_or_else(|words| panic!("{nth}: {words}"));
        assert_eq!(report.counts.get("injected panics"), Some(&1), "write {nth}");
    }
}

/// A persister that crashes anywhere while a pill is isolated: the pill alone is refused, and that is told.
pub fn crashes_while_a_pill_is_isolated(every: usize) -> u64 {
    const PILL: u64 = 31;
    let settings = || Settings { pill_tag: Some(PILL), ..Settings::calm(20) };
    chaos::arm_pill("persister", pill(PILL).as_bytes());
    let (undisturbed, turns) =
        standard(settings(), |world| *world.hook.passes.borrow_mut() = Some(BTreeMap::new())).unwrap();
    let panics = undisturbed.counts.get("panics").copied().unwrap_or(0);
    assert!((3..12).contains(&panics), "{panics} panics until the pill stands alone and is refused");
    let mut crashes = 0;
    let places = turns.iter().filter(|((role, _), _)| *role == Role::Persister);
    let places = places.flat_map(|((_, turn), passes)| (0..=*passes).map(move |pass| (*turn, pass)));
    for (turn, pass) in places.step_by(every) {
        let (report, _) =
            standard(settings(), |world| world.hook.script.set(Some((Role::Persister, turn, pass))))
                .unwrap_or_else(|words| panic!("{turn} {pass}: {words}"));
        crashes += report.counts.get("injected panics").copied().unwrap_or(0);
    }
    chaos::disarm_pills();
    crashes
}
