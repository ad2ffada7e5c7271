//! Tasks that wait on a ticket: each is woken, and none leaves anything behind.

use crate::common::{World, check};
use semj_actors::{CommitError, PoisonCause};
use shuttle::future::block_on;
use shuttle::thread::{spawn, yield_now};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// Counts how often it was woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn tasks_are_always_woken() {
    check(|| {
        let world = World::new();
        let tasks = [1, 2, 3].map(|sequence| {
            let ticket = world.ticket(sequence);
            spawn(move || block_on(async move { ticket.durable().await }))
        });
        let written = world.ticket(4);
        let written = spawn(move || block_on(async move { written.written().await }));
        for sequence in [2, 3] {
            world.watermark().set_written(sequence);
            world.watermark().set_durable(sequence);
            world.wake_tasks();
        }
        world.watermark().set_written(4);
        world.wake_tasks();
        for task in tasks {
            assert!(task.join().unwrap().is_ok());
        }
        assert!(written.join().unwrap().is_ok());
        assert_eq!(world.watermark().waiting(), 0);
    });
}

#[test]
fn a_dropped_task_leaves_nothing_behind() {
    check(|| {
        let world = World::new();
        let droppers = [1, 2].map(|sequence| {
            let ticket = world.ticket(sequence);
            spawn(move || {
                let mut future = Box::pin(ticket.durable());
                let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                assert!(sequence == 1 || polled.is_pending(), "nobody committed it");
            })
        });
        world.watermark().set_durable(1);
        for dropper in droppers {
            dropper.join().unwrap();
        }
        assert_eq!(world.watermark().waiting(), 0);
    });
}

#[test]
fn the_last_waker_is_the_one_that_counts() {
    check(|| {
        let world = World::new();
        let other = Arc::new(Count::default());
        let task = {
            let (world, other) = (world.clone(), other.clone());
            spawn(move || {
                let mut future = pin!(world.ticket(1).durable());
                let waker = Waker::from(other);
                if let Poll::Ready(outcome) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    return outcome;
                }
                // Polled from elsewhere now, as after a move between tasks.
                block_on(async {
                    std::future::poll_fn(|cx| {
                        let polled = future.as_mut().poll(cx);
                        assert!(world.watermark().waiting() <= 1, "registered twice");
                        polled
                    })
                    .await
                })
            })
        };
        world.watermark().set_durable(1);
        world.wake_tasks();
        assert!(task.join().unwrap().is_ok());
        assert!(other.0.load(Ordering::SeqCst) <= 1);
        assert_eq!(world.watermark().waiting(), 0);
    });
}

#[test]
fn tasks_are_told_of_failures_unless_their_event_was_durable_before() {
    check(|| {
        let world = World::new();
        let tasks: Vec<_> = (1..=3u64)
            .map(|sequence| {
                let ticket = world.ticket(sequence);
                spawn(move || {
                    loop {
                        match block_on(ticket.durable()) {
                            Err(CommitError::StorageFull) => {
                                assert_ne!(sequence, 1, "durable before the disk was full");
                                yield_now();
                            }
                            Err(CommitError::Poisoned(_)) => {
                                assert_eq!(sequence, 3, "durable before the poison");
                                return;
                            }
                            Err(other) => panic!("{other}"),
                            Ok(()) => {
                                assert!(sequence < 3, "nobody committed it");
                                return;
                            }
                        }
                    }
                })
            })
            .collect();
        let watermark = world.watermark();
        watermark.set_durable(1);
        watermark.fail(CommitError::StorageFull);
        world.wake_tasks();
        watermark.recovered();
        watermark.set_durable(2);
        world.wake_tasks();
        watermark.fail(CommitError::Poisoned(PoisonCause("the disk failed".into())));
        world.wake_tasks();
        for task in tasks {
            task.join().unwrap();
        }
        assert_eq!(watermark.waiting(), 0);
    });
}
