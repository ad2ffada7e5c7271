//! What KernelSync says of its sources beside their records: whether somebody looks, up to when nothing is missing, who is
//! behind, and how a source's state is established anew.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;
#[path = "common/script.rs"]
mod script;

use common::{SOON, disk, until};
use script::{Control, Found, Script, Step, found, record, record_at};
use semj_actors::clock::Clock;
use semj_actors::sources::{Gap, GapCause, Item, KernelRecord, Lost, Op, Phase};
use semj_actors::{Engine, EngineOptions};
use semj_storage::backend::Backend;
use semj_storage::log::control::{CLOCK_ANCHOR, ClockAnchor};
use semj_storage::query::EventSource;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

const MS: i64 = 1_000_000;
const HOUR: i64 = 3_600_000 * MS;

/// Clocks that go on when they are told to.
#[derive(Debug)]
struct Hands {
    boot: AtomicI64,
    /// How far the wall clock is ahead: both go on at once.
    ahead: AtomicI64,
}

impl Hands {
    fn go_on(&self, ns: i64) {
        self.jump(ns, 0);
    }

    /// The wall clock is set, and time passes: whoever sees that a period is over sees both.
    fn jump(&self, passes: i64, moves: i64) {
        self.ahead.fetch_add(moves, Ordering::SeqCst);
        self.boot.fetch_add(passes, Ordering::SeqCst);
    }
}

impl Clock for Hands {
    fn boot_ns(&self) -> i64 {
        self.boot.load(Ordering::SeqCst)
    }
    fn wall_ns(&self) -> i64 {
        self.boot_ns() + self.ahead.load(Ordering::SeqCst)
    }
    fn boot_id(&self) -> uuid::Uuid {
        uuid::Uuid::from_u128(3)
    }
}

/// A journal whose time is the test's, with one source.
struct World {
    engine: Engine,
    clock: Arc<Hands>,
    control: Control,
}

impl World {
    fn new(steps: Vec<Step>) -> Self {
        Self::on(&disk(), steps, EngineOptions::default())
    }

    fn on(disk: &Arc<dyn Backend>, steps: Vec<Step>, options: EngineOptions) -> Self {
        let clock =
            Arc::new(Hands { boot: AtomicI64::new(1_000 * MS), ahead: AtomicI64::new(HOUR - 1_000 * MS) });
        let engine = Engine::open_on(disk.clone(), clock.clone(), Path::new("/data/j"), options).unwrap();
        let script = Script::new("k", steps);
        let control = script.control();
        control.hold_back_after(0);
        engine.attach(script.boxed()).unwrap();
        World { engine, clock, control }
    }

    fn until(&self, what: &str, mut so: impl FnMut() -> bool) {
        until(what, || {
            self.engine.poke_sync();
            so()
        });
    }

    /// Lets it read up to a step, and waits until it did.
    fn read(&self, steps: usize) -> Found {
        self.control.hold_back_after(steps);
        self.found()
    }

    /// What is there, all of it durable.
    fn found(&self) -> Found {
        self.engine.sync_now(SOON).unwrap();
        self.durable()
    }

    fn durable(&self) -> Found {
        if let Some(ticket) = self.engine.last_admitted() {
            ticket.wait_timeout(SOON).unwrap();
        }
        found(&self.engine, "k")
    }

    fn certificates(&self) -> u64 {
        self.engine.sync_status()[0].certificates
    }

    fn resyncs(&self) -> u64 {
        self.engine.sync_status()[0].resyncs
    }
}

fn items(sequences: impl IntoIterator<Item = u64>) -> Step {
    Step::Items(sequences.into_iter().map(|s| Item::Record(Box::new(record(s)))).collect())
}

fn gap() -> Item {
    Item::Gap(Gap { after: None, lost: Lost::Unknown, from_ns: 1, to_ns: 2, cause: GapCause::Overflow })
}

/// The event of the first thing said under a name.
fn event_of(found: &Found, name: &str) -> u64 {
    found.told.iter().find(|(n, ..)| n == name).unwrap_or_else(|| panic!("no {name}")).2
}

#[test]
fn a_loss_is_followed_by_a_rescan_an_anchor_and_a_certificate() {
    let world = World::new(vec![items([1, 2]), Step::Items(vec![gap()]), items([3])]);
    let mut synthetic = KernelRecord::new(Op::Create, Phase::Synthetic, 5);
    synthetic.path.path = b"/f/new".to_vec();
    world.control.finds(vec![Item::Record(Box::new(synthetic))]);
    let before = world.read(1);
    assert!(before.told("semj.resync").is_empty() && before.synthetic.is_empty());
    world.clock.go_on(1_000 * MS);
    world.control.hold_back_after(3);
    let resync_certificate = || {
        let all = world.durable();
        let mine = all.told.iter().find(|(n, p, _)| n == "semj.certificate" && p["semj.why"] == "resync");
        mine.map(|(.., event)| *event)
    };
    world.until("the certificate behind the loss", || resync_certificate().is_some());
    let all = world.durable();
    assert_eq!(all.sequences, [1, 2, 3]);
    let resyncs = all.told("semj.resync");
    assert_eq!(resyncs.len(), 1);
    assert_eq!(
        (&resyncs[0]["semj.reasons"], &resyncs[0]["semj.rescan"]),
        (&json!({"gap": 1}), &json!("asked"))
    );
    assert_eq!(resyncs[0]["semj.boot_ns"], 2_000 * MS);
    let order = [
        event_of(&all, "semj.gap"),
        event_of(&all, "semj.resync"),
        all.synthetic[0],
        resync_certificate().unwrap(),
    ];
    assert!(order.is_sorted(), "gap, resync, what it found, certificate: {order:?}");
    assert_eq!(world.control.rescans.load(Ordering::SeqCst), 1);
    // The anchor is in the record, with the group of the resync.
    let (mut anchor, view) = (None, world.engine.view());
    world
        .engine
        .controls_back(view.last_sequence(), &mut |control| {
            if control.kind == CLOCK_ANCHOR && control.event <= order[1] {
                anchor = anchor.or(ClockAnchor::decode(control.bytes));
            }
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(anchor.map(|a| (a.boot_ns, a.wall_ns)), Some((2_000 * MS, HOUR + 1_000 * MS)));
}

#[test]
fn every_reason_leads_to_a_resync_and_a_first_life_to_none() {
    let life = |incarnation| {
        let boot_id = uuid::Uuid::nil();
        Step::Items(vec![Item::Epoch { boot_id, incarnation, first_sequence: Some(1) }])
    };
    let back = |s: u64| Step::Items(vec![Item::Record(Box::new(record_at(s, HOUR + s as i64)))]);
    let world = World::new(vec![life(1), items([1, 2, 4]), life(2), items([1, 2]), back(1), back(2)]);
    let mut seen = Vec::new();
    for (steps, last, resyncs) in [(1, 0, 0), (2, 4, 1), (4, 2, 2), (6, 2, 3)] {
        world.control.hold_back_after(steps);
        // What is missing is waited for, and a resync of the period before is over.
        world.until("told", || {
            world.clock.go_on(100 * MS);
            let status = world.engine.sync_status().remove(0);
            (status.last_sequence, status.resyncs) == (last, resyncs)
        });
        seen.clone_from(
            &world
                .durable()
                .told("semj.resync")
                .iter()
                .map(|p| p["semj.reasons"].clone())
                .collect::<Vec<_>>(),
        );
        assert_eq!(seen.len() as u64, resyncs, "{seen:?}");
    }
    assert_eq!(seen, [json!({"gap": 1}), json!({"new_life": 1}), json!({"sequence_back": 1})]);
}

#[test]
fn reasons_of_one_period_are_one_resync_and_none_is_forgotten() {
    let mut steps = vec![items([1])];
    steps.extend((0..5).map(|_| Step::Items(vec![gap()])));
    let world = World::new(steps);
    world.read(1);
    world.read(2);
    world.until("the first", || world.resyncs() == 1);
    let all = world.read(6);
    assert_eq!((all.told("semj.gap").len(), all.told("semj.resync").len()), (5, 1), "the period is not over");
    world.clock.go_on(1_000 * MS);
    world.until("the second", || world.resyncs() == 2);
    let all = world.durable();
    let resyncs = all.told("semj.resync");
    assert_eq!(resyncs[1]["semj.reasons"], json!({"gap": 4}));
    assert_eq!(resyncs[1]["semj.rescan"], "not_supported");
}

#[test]
fn a_certificate_stands_behind_all_it_certifies() {
    let world = World::new(vec![items([1, 2, 4])]);
    world.control.hold_back_after(1);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| world.engine.sync_now(SOON).unwrap());
        // 3 is waited for while the clock stands still: 4 is not journaled, so nothing is complete.
        world.until("1 and 2 are there", || world.durable().sequences == [1, 2]);
        for _ in 0..100 {
            world.engine.poke_sync();
            std::thread::yield_now();
        }
        assert_eq!(world.certificates(), 0);
        assert!(!asked.is_finished());
        world.until("it is waited for no longer", || {
            world.clock.go_on(MS);
            asked.is_finished()
        });
        let last = asked.join().unwrap();
        let all = found(&world.engine, "k");
        let mut certificates = all.told("semj.certificate");
        certificates.retain(|c| c["semj.why"] == "sync_now");
        assert_eq!(
            (&certificates[0]["semj.last_sequence"], &certificates[0]["semj.lost"]),
            (&json!(4), &json!(1))
        );
        let event = all.told.iter().find(|(_, payload, _)| payload == certificates[0]).unwrap().2;
        // The resync after the gap may have been told behind it by then.
        assert!(event <= last, "sync_now waits for it");
        assert!(event_of(&all, "semj.gap") < event && all.events.iter().all(|(_, record)| *record < event));
        let status = world.engine.sync_status().remove(0);
        assert!(status.complete_boot_ns >= certificates[0]["semj.complete_boot_ns"].as_i64());
        assert!(status.sync_now.is_some(), "how long it took");
    });
}

#[test]
fn activity_is_certified_once_a_period_and_idleness_is_not() {
    let world = World::new(vec![items([1]), items([2]), items([3])]);
    world.read(1);
    let first = world.certificates();
    for (steps, expected) in [(2, first + 1), (3, first + 2)] {
        world.control.hold_back_after(steps);
        world.until("read", || world.engine.sync_status()[0].last_sequence == steps as u64);
        assert_eq!(world.certificates(), expected - 1, "the period is not over");
        world.clock.go_on(1_000 * MS);
        world.until("certified", || world.certificates() == expected);
    }
    let all = world.durable();
    let last = all.told("semj.certificate").last().unwrap().to_owned().clone();
    assert_eq!((&last["semj.why"], &last["semj.last_sequence"]), (&json!("period"), &json!(3)));
    for _ in 0..50 {
        world.clock.go_on(1_000 * MS);
        world.engine.poke_sync();
        std::thread::yield_now();
    }
    world.found();
    assert_eq!(world.certificates(), first + 3, "only the one that was asked for");
}

#[test]
fn a_source_without_barriers_is_certified_by_its_newest_sequence() {
    let world = World::new(vec![items([1, 2]), items([3])]);
    world.control.know_no_barrier();
    let all = world.read(2);
    assert_eq!(all.sequences, [1, 2, 3]);
    assert_eq!(all.told("semj.certificate").last().unwrap()["semj.last_sequence"], 3);
}

#[test]
fn who_looks_and_what_is_not_seen_is_told_when_it_changes() {
    // So long that whatever a slow machine needs lies within one.
    let mut options = EngineOptions::default();
    options.sync.period_ns = HOUR;
    let world = World::on(&disk(), vec![items([1]), items([2])], options);
    let all = world.read(1);
    let coverage = all.told("semj.coverage");
    assert_eq!(coverage.len(), 1);
    assert_eq!(coverage[0]["semj.state"], "watching");
    assert_eq!(coverage[0]["semj.caps"]["loss"], "Counted");
    assert_eq!(coverage[0]["semj.not_observed"], json!(["what the script leaves out"]));
    assert!(event_of(&all, "semj.coverage") < all.events[0].1, "before the first record");
    let state = || world.engine.sync_status()[0].coverage;
    let told = || world.durable().told("semj.coverage").len();
    // It goes away and comes back within a period: what was told is not told again, and changes are counted.
    world.clock.go_on(2 * HOUR);
    world.control.go_away(true);
    world.until("it is told", || state() == "failed");
    for _ in 0..3 {
        world.control.go_away(false);
        world.until("it is back", || {
            world.clock.go_on(10 * MS);
            world.engine.sync_now(SOON).is_ok()
        });
        world.control.go_away(true);
        world.until("it is away", || {
            world.engine.poke_sync();
            world.engine.sync_status()[0].condition.cause().is_some()
        });
    }
    assert_eq!(told(), 2, "within a period only once");
    world.clock.go_on(2 * HOUR);
    world.until("it is told that it cannot be had", || state() == "unavailable");
    world.control.go_away(false);
    world.clock.go_on(2 * HOUR);
    world.until("it is told that it is back", || state() == "watching");
    let all = world.durable();
    let last = &all.told("semj.coverage")[2..];
    assert_eq!(last.iter().map(|p| &p["semj.state"]).collect::<Vec<_>>(), ["unavailable", "watching"]);
    assert!(last[0]["semj.changes"].as_u64().unwrap() >= 6, "{}", last[0]);
    assert_eq!(
        (&last[0]["semj.need"], &last[0]["semj.not_observed"]),
        (&json!("a miracle"), &json!(["everything"]))
    );
}

#[test]
fn who_is_behind_for_some_periods_is_told_and_so_is_the_end() {
    let mut options = EngineOptions::default();
    (options.sync.lag_events, options.sync.lag_periods) = (3, 3);
    let world = World::on(&disk(), vec![items([1]), items(2..=9)], options);
    world.read(1);
    world.control.stick(true);
    world.control.hold_back_after(2);
    let status = || world.engine.sync_status().remove(0);
    world.until("it is seen to be behind", || status().lag_events == Some(8));
    let alerts = status().alerts;
    // As many turns as you like within a period are one look.
    for look in 1..=3 {
        assert_eq!(status().is_behind, look > 3, "after {} periods", look - 1);
        let figures = status().looks;
        world.clock.go_on(1_000 * MS);
        world.until("a look", || status().looks > figures);
    }
    world.until("it is told", || status().is_behind);
    assert_eq!(status().alerts, alerts + 1);
    world.control.stick(false);
    world.until("it has caught up", || status().lag_events == Some(0));
    world.clock.go_on(1_000 * MS);
    world.until("its end is told", || !status().is_behind);
    let all = world.found();
    let lag = all.told("semj.lag");
    assert_eq!(lag.iter().map(|p| &p["semj.over"]).collect::<Vec<_>>(), [true, false]);
    assert_eq!((&lag[0]["semj.lag_events"], &lag[0]["semj.limit_events"]), (&json!(8), &json!(3)));
    assert!(lag[0]["semj.lag_ms"].as_u64().unwrap() >= 3_000, "{}", lag[0]);
    let resync = all.told("semj.resync");
    assert_eq!(resync.iter().map(|p| &p["semj.reasons"]).collect::<Vec<_>>(), [&json!({"lag": 1})]);
}

#[test]
fn a_clock_that_is_set_is_found_by_the_next_anchor_and_slewing_is_no_step() {
    let world = World::new(vec![items([1]), items([2]), items([3]), items([4])]);
    let step = |steps: usize, passes: i64, moves: i64| {
        // Journaled, not only read: an anchor is taken where something happened.
        world.read(steps);
        let looks = world.engine.sync_status()[0].looks;
        world.clock.jump(passes, moves);
        world.until("a look", || world.engine.sync_status()[0].looks > looks);
        world.found().told("semj.clock_step").len()
    };
    assert_eq!(step(1, 1_000 * MS, 0), 0, "the first anchor");
    assert_eq!(step(2, HOUR, HOUR / 2_500), 0, "400 ppm over an hour is slewing");
    assert_eq!(step(3, 1_000 * MS, 20 * MS), 1, "20 ms within a second is not");
    assert_eq!(step(4, 1_000 * MS, -HOUR), 2);
    let all = world.found();
    assert_eq!(all.told("semj.clock_step")[1]["semj.step_ns"], -HOUR);
    assert_eq!(all.sequences, [1, 2, 3, 4]);
    let resyncs = all.told("semj.resync");
    assert!(resyncs.iter().all(|p| p["semj.reasons"] == json!({"clock_step": 1})), "{resyncs:?}");
}

#[test]
fn a_clock_that_is_set_before_anything_happened_is_told() {
    let world = World::new(vec![items([1])]);
    world.until("it is watched", || world.engine.sync_status()[0].coverage == "watching");
    world.clock.jump(0, HOUR);
    world.read(1);
    let looks = world.engine.sync_status()[0].looks;
    world.clock.go_on(1_000 * MS);
    world.until("a look", || world.engine.sync_status()[0].looks > looks);
    let steps = world.found();
    assert_eq!(steps.told("semj.clock_step")[0]["semj.step_ns"], HOUR);
}
