//! The whole way of an event, with threads that play the lanes: from admission to a ticket that resolves.

use crate::common::{World, admit, check};
use semj_actors::model::Commit;
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

/// One waits as a thread, the other as a task.
fn emit(world: &World, as_task: bool) -> JoinHandle<Vec<u64>> {
    let world = world.clone();
    spawn(move || {
        let emit = |critical| {
            let sequence = admit(world.pipeline.ledger(), &[Event::query("q").stream("shared")]);
            world.pipeline.admitted(critical);
            let held = world.pipeline.ledger().id_of(sequence).is_some();
            assert!(held || world.watermark().durable() >= sequence, "released before its commit");
            let ticket = world.ticket(sequence);
            let outcome = if as_task { block_on(ticket.durable()) } else { ticket.wait() };
            assert!(outcome.is_ok(), "event {sequence}: {outcome:?}");
            assert!(world.watermark().durable() >= sequence);
            sequence
        };
        vec![emit(as_task), emit(!as_task)]
    })
}

/// `crashes` is how many lanes crash: control first.
fn run(crashes: usize) {
    let world = World::new();
    let pipeline = world.pipeline.clone();
    let ((to_control, control_mail), (to_persist, persist_mail)) = (channel(), channel());
    let (bell_control, bell_persist) = (to_control.clone(), to_persist.clone());
    pipeline.bells.ingest.connect(move || drop(bell_control.send(ToControl::Bell)));
    pipeline.bells.persist.connect(move || drop(bell_persist.send(ToPersist::Bell)));
    let commits = Arc::new(Commits::default());
    let lanes = [
        spawn({
            let (world, to_persist) = (world.clone(), to_persist.clone());
            move || control(&world, &control_mail, &to_persist)
        }),
        spawn({
            let (world, commits) = (world.clone(), commits.clone());
            move || persist(&world, &persist_mail, &commits)
        }),
    ];
    let emitters = [emit(&world, false), emit(&world, true)];
    if crashes > 0 {
        to_control.send(ToControl::Crash).unwrap();
    }
    if crashes > 1 {
        to_persist.send(ToPersist::Crash).unwrap();
    }
    let mut emitted: Vec<u64> = emitters.into_iter().flat_map(|e| e.join().unwrap()).collect();
    to_control.send(ToControl::Stop).unwrap();
    to_persist.send(ToPersist::Stop).unwrap();
    for lane in lanes {
        lane.join().unwrap();
    }
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
