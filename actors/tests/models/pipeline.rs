//! The whole way of an event, with threads that play the lanes: from admission to a ticket that resolves.

use crate::common::{World, check, try_admit};
use semj_actors::ledger::Refused;
use semj_actors::messages::{BatchRange, CommitBatch, DurableDoorbell, LedgerDoorbell};
use semj_actors::stages::{BatcherStage, Birth, Effect, IngestStage, On, PersisterStage, Stage};
use semj_actors::supervision::{Progress, Role};
use semj_actors::{CommitError, EmitError};
use semj_storage::event::Event;
use shuttle::future::block_on;
use shuttle::sync::mpsc::{Receiver, Sender, channel};
use shuttle::thread::{JoinHandle, spawn};
use std::ops::ControlFlow;

enum ToControl {
    Bell,
    Batch(BatchRange),
    Crash,
    Stop,
}

enum ToPersist {
    Bell,
    Batch(CommitBatch),
    Crash,
    Stop,
}

/// A stage as its actor has it: brought to life, and again after a crash. Timers are left out: here everybody waits, so
/// nothing may depend on time.
fn born<S: Stage>(seed: &S::Seed, is_restart: bool, out: &mut Vec<Effect>) -> S {
    let mut stage = S::recover(seed, Birth { progress: Default::default(), is_restart }).unwrap();
    stage.start(out).unwrap();
    stage
}

/// The control lane.
fn control(world: &World, mail: &Receiver<ToControl>, own: &Sender<ToControl>, persist: &Sender<ToPersist>) {
    let mut out = Vec::new();
    let mut ingest: IngestStage = born(&world.pipeline, false, &mut out);
    let mut batcher: BatcherStage = born(&world.pipeline, false, &mut out);
    for message in mail.iter() {
        match message {
            ToControl::Bell => ingest.on(LedgerDoorbell, &mut out).unwrap(),
            ToControl::Batch(range) => batcher.on(range, &mut out).unwrap(),
            ToControl::Crash => ingest = born(&world.pipeline, true, &mut out),
            ToControl::Stop => return,
        }
        for effect in out.drain(..) {
            match effect {
                Effect::Batch(range) => drop(own.send(ToControl::Batch(range))),
                Effect::Commit(batch) => drop(persist.send(ToPersist::Batch(batch))),
                Effect::After(..) | Effect::Yield(_) => {}
            }
        }
    }
}

/// The persist lane.
fn persist(world: &World, mail: &Receiver<ToPersist>) {
    let mut out = Vec::new();
    let mut persister: PersisterStage = born(&world.pipeline, false, &mut out);
    for message in mail.iter() {
        match message {
            ToPersist::Bell => persister.on(DurableDoorbell, &mut out).unwrap(),
            ToPersist::Batch(batch) => persister.on(batch, &mut out).unwrap(),
            ToPersist::Crash => {
                // With a batch in hand.
                drop(world.pipeline.take_short_way(Role::Persister, &Progress::default()).unwrap());
                persister = born(&world.pipeline, true, &mut out);
            }
            ToPersist::Stop => return,
        }
        world.wake_tasks();
    }
}

/// The lanes at work.
struct Lanes {
    control: Sender<ToControl>,
    persist: Sender<ToPersist>,
    threads: [JoinHandle<()>; 2],
}

impl Lanes {
    fn start(world: &World) -> Self {
        let ((to_control, control_mail), (to_persist, persist_mail)) = (channel(), channel());
        let (bell_control, bell_persist) = (to_control.clone(), to_persist.clone());
        let bells = &world.pipeline.bells;
        bells.ingest.connect(move || drop(bell_control.send(ToControl::Bell)));
        bells.persist.connect(move || drop(bell_persist.send(ToPersist::Bell)));
        let threads = [
            spawn({
                let (world, own, to_persist) = (world.clone(), to_control.clone(), to_persist.clone());
                move || control(&world, &control_mail, &own, &to_persist)
            }),
            spawn({
                let world = world.clone();
                move || persist(&world, &persist_mail)
            }),
        ];
        Lanes { control: to_control, persist: to_persist, threads }
    }

    fn stop(self) {
        self.control.send(ToControl::Stop).unwrap();
        self.persist.send(ToPersist::Stop).unwrap();
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

/// Emits one event and waits for it.
fn emit_one(world: &World, as_task: bool, critical: bool) -> Result<(u64, Result<(), CommitError>), Refused> {
    let sequence = try_admit(world.pipeline.ledger(), &[Event::query("q").stream("shared")])?;
    world.pipeline.admitted(critical);
    let held = world.pipeline.ledger().id_of(sequence).is_some();
    assert!(held || world.watermark().durable() >= sequence, "released before its commit");
    let ticket = world.ticket(sequence);
    let outcome = if as_task { block_on(ticket.durable()) } else { ticket.wait() };
    assert!(outcome.is_err() || world.watermark().durable() >= sequence, "event {sequence} is not durable");
    Ok((sequence, outcome))
}

/// One waits as a thread, the other as a task.
fn emit(world: &World, as_task: bool) -> JoinHandle<Vec<u64>> {
    let world = world.clone();
    spawn(move || {
        let emit = |critical| {
            let (sequence, outcome) = emit_one(&world, as_task, critical).unwrap();
            assert!(outcome.is_ok(), "event {sequence}: {outcome:?}");
            sequence
        };
        vec![emit(as_task), emit(!as_task)]
    })
}

/// `crashes` is how many lanes crash: control first.
fn run(crashes: usize) {
    let world = World::new();
    let pipeline = world.pipeline.clone();
    let lanes = Lanes::start(&world);
    let emitters = [emit(&world, false), emit(&world, true)];
    if crashes > 0 {
        lanes.control.send(ToControl::Crash).unwrap();
    }
    if crashes > 1 {
        lanes.persist.send(ToPersist::Crash).unwrap();
    }
    let mut emitted: Vec<u64> = emitters.into_iter().flat_map(|e| e.join().unwrap()).collect();
    lanes.stop();
    emitted.sort_unstable();
    assert_eq!(emitted, [1, 2, 3, 4]);
    assert_eq!((world.watermark().written(), world.watermark().durable()), (4, 4));
    assert_eq!((pipeline.ledger().pending().events, world.watermark().waiting()), (0, 0));
    let mut read = Vec::new();
    let mut visit = |entry: &semj_storage::log::entry::EntryRef<'_>| {
        read.push(entry.sequence);
        ControlFlow::Continue(())
    };
    pipeline.segments().read(1, 4, &mut visit).unwrap();
    assert_eq!(read, emitted, "the record holds them in order");
}

#[test]
fn every_ticket_resolves_and_the_record_is_in_order() {
    check(|| run(0));
}

#[test]
fn every_ticket_resolves_although_the_control_lane_crashes() {
    check(|| run(1));
}

#[test]
fn every_ticket_resolves_although_both_lanes_crash() {
    check(|| run(2));
}

fn poison(lanes: bool) {
    let world = World::new();
    let lanes = lanes.then(|| Lanes::start(&world));
    let emitters = [false, true].map(|as_task| {
        let world = world.clone();
        spawn(move || {
            for critical in [as_task, !as_task] {
                match emit_one(&world, as_task, critical) {
                    Ok((_, Ok(()) | Err(CommitError::Poisoned(_)))) => {}
                    Err(Refused::Error(EmitError::Poisoned(_))) => return,
                    other => panic!("{other:?}"),
                }
            }
        })
    });
    // As a supervisor does that has seen too many crashes.
    world.pipeline.poison("too many crashes");
    world.wake_tasks();
    for emitter in emitters {
        emitter.join().unwrap();
    }
    if let Some(lanes) = lanes {
        lanes.stop();
    }
    let refused = try_admit(world.pipeline.ledger(), &[Event::query("q")]);
    assert!(matches!(refused, Err(Refused::Error(EmitError::Poisoned(_)))));
    assert!(world.watermark().poison().is_some());
    assert_eq!(world.watermark().waiting(), 0);
}

#[test]
fn poison_in_the_middle_of_commits_leaves_nobody_waiting() {
    check(|| poison(true));
}

#[test]
fn poison_ends_waits_that_no_lane_would_end() {
    check(|| poison(false));
}
