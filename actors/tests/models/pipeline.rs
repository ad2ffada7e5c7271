//! The whole way of an event, with threads that play the lanes: from admission to a ticket that resolves.

use crate::common::{World, check, try_admit};
use semj_actors::ledger::Refused;
use semj_actors::model::Commit;
use semj_actors::{CommitError, EmitError};
use semj_storage::event::Event;
use semj_storage::log::PreparedBlock;
use shuttle::future::block_on;
use shuttle::sync::mpsc::{Receiver, Sender, channel};
use shuttle::thread::{JoinHandle, spawn};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

enum ToControl {
    Bell,
    Crash,
    Stop,
}

enum ToPersist {
    Bell,
    Batch(u64, Box<PreparedBlock>),
    Crash,
    Stop,
}

/// The control lane: cuts and packs.
fn control(world: &World, mail: &Receiver<ToControl>, persist: &Sender<ToPersist>) {
    let pipeline = &world.pipeline;
    for message in mail.iter() {
        match message {
            ToControl::Bell => {}
            ToControl::Crash => pipeline.restart_run(),
            ToControl::Stop => return,
        }
        pipeline.bells.ingest.heard();
        while let Some(range) = pipeline.next_range().unwrap() {
            if let Some(block) = pipeline.pack(&range) {
                let _ = persist.send(ToPersist::Batch(range.generation, block));
            }
        }
    }
}

/// How many commits ended well, and how many belonged to another run.
#[derive(Default)]
struct Commits {
    done: AtomicUsize,
    void: AtomicUsize,
}

/// The persist lane: commits, and takes the short way.
fn persist(world: &World, mail: &Receiver<ToPersist>, commits: &Commits) {
    let pipeline = &world.pipeline;
    let commit = |generation, block: Box<PreparedBlock>| {
        let done = pipeline.commit(generation, block);
        assert!(!matches!(done, Commit::Full(_)), "the disk has room");
        world.wake_tasks();
        if matches!(done, Commit::Void) {
            commits.void.fetch_add(1, Ordering::SeqCst);
        } else {
            commits.done.fetch_add(1, Ordering::SeqCst);
            if pipeline.ledger().pending().events > 0 {
                pipeline.bells.ingest.ring();
            }
        }
    };
    for message in mail.iter() {
        match message {
            ToPersist::Bell => pipeline.bells.persist.heard(),
            ToPersist::Batch(generation, block) => commit(generation, block),
            ToPersist::Crash => {
                // With a batch in hand.
                drop(pipeline.take_short_way().unwrap());
                pipeline.restart_run();
                pipeline.bells.persist.heard();
            }
            ToPersist::Stop => return,
        }
        while let Some((generation, block)) = pipeline.take_short_way().unwrap() {
            commit(generation, block);
        }
        let pending = pipeline.ledger().pending();
        if pending.sealed > 0 || (pending.open_events > 0 && pipeline.ledger().wanted() >= pending.open_first)
        {
            pipeline.bells.ingest.ring();
        }
    }
}

/// The lanes at work.
struct Lanes {
    control: Sender<ToControl>,
    persist: Sender<ToPersist>,
    threads: [JoinHandle<()>; 2],
    commits: Arc<Commits>,
}

impl Lanes {
    fn start(world: &World) -> Self {
        let ((to_control, control_mail), (to_persist, persist_mail)) = (channel(), channel());
        let (bell_control, bell_persist) = (to_control.clone(), to_persist.clone());
        let bells = &world.pipeline.bells;
        bells.ingest.connect(move || drop(bell_control.send(ToControl::Bell)));
        bells.persist.connect(move || drop(bell_persist.send(ToPersist::Bell)));
        let commits = Arc::new(Commits::default());
        let threads = [
            spawn({
                let (world, to_persist) = (world.clone(), to_persist.clone());
                move || control(&world, &control_mail, &to_persist)
            }),
            spawn({
                let (world, commits) = (world.clone(), commits.clone());
                move || persist(&world, &persist_mail, &commits)
            }),
        ];
        Lanes { control: to_control, persist: to_persist, threads, commits }
    }

    fn stop(self) -> Arc<Commits> {
        self.control.send(ToControl::Stop).unwrap();
        self.persist.send(ToPersist::Stop).unwrap();
        for thread in self.threads {
            thread.join().unwrap();
        }
        self.commits
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
    let commits = lanes.stop();
    emitted.sort_unstable();
    assert_eq!(emitted, [1, 2, 3, 4]);
    assert_eq!((world.watermark().written(), world.watermark().durable()), (4, 4));
    assert_eq!((pipeline.ledger().pending().events, world.watermark().waiting()), (0, 0));
    assert!(commits.done.load(Ordering::SeqCst) <= 4, "an event was committed twice");
    assert!(crashes > 0 || commits.void.load(Ordering::SeqCst) == 0, "a batch came out of order");
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
