//! Sleepers on the watermark: no commit is missed, a deadline and a failure tell the truth.

use crate::common::check;
use semj_actors::watermark::{Level, Watermark};
use semj_actors::{CommitError, PoisonCause};
use shuttle::thread::{JoinHandle, spawn, yield_now};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

fn watermark() -> Arc<Watermark> {
    Arc::new(Watermark::new(0, crossbeam_channel::unbounded().0))
}

fn poisoned() -> CommitError {
    CommitError::Poisoned(PoisonCause("the disk failed".into()))
}

fn sleep(watermark: &Arc<Watermark>, sequence: u64, level: Level) -> JoinHandle<Result<(), CommitError>> {
    let watermark = watermark.clone();
    spawn(move || {
        let woken = watermark.wait(sequence, level, None);
        let at = match level {
            Level::Written => watermark.written(),
            Level::Durable => watermark.durable(),
        };
        assert!(woken.is_err() || at >= sequence, "woken at {at} for {sequence}");
        woken
    })
}

#[test]
fn sleepers_never_miss_a_commit() {
    check(|| {
        let watermark = watermark();
        let sleepers = [(1, Level::Written), (2, Level::Durable), (3, Level::Durable), (4, Level::Written)]
            .map(|(sequence, level)| sleep(&watermark, sequence, level));
        for sequence in [2, 3] {
            watermark.set_written(sequence);
            watermark.set_durable(sequence);
        }
        watermark.set_written(4);
        for sleeper in sleepers {
            assert!(sleeper.join().unwrap().is_ok());
        }
        assert_eq!(watermark.waiting(), 0);
    });
}

#[test]
fn a_deadline_ends_in_timeout_only_while_the_event_is_not_durable() {
    check(|| {
        let watermark = watermark();
        // A plain atomic: looking at it is no step of the schedule, so it tells what was true when the wait ended.
        let committed = Arc::new(AtomicBool::new(false));
        let sleepers: Vec<_> = (0..2)
            .map(|_| {
                let (watermark, committed) = (watermark.clone(), committed.clone());
                spawn(move || {
                    let woken = watermark.wait(2, Level::Durable, Some(Instant::now()));
                    let committed = committed.load(Ordering::SeqCst);
                    match woken {
                        Ok(()) => assert_eq!(watermark.durable(), 2),
                        Err(CommitError::Timeout) => assert!(!committed, "it was durable by then"),
                        Err(other) => panic!("{other}"),
                    }
                })
            })
            .collect();
        watermark.set_durable(1);
        watermark.set_durable(2);
        committed.store(true, Ordering::SeqCst);
        for sleeper in sleepers {
            sleeper.join().unwrap();
        }
        assert_eq!(watermark.waiting(), 0);
    });
}

#[test]
fn a_deadline_ends_a_wait_that_nothing_else_would_end() {
    check(|| {
        let watermark = watermark();
        let other = sleep(&watermark, 1, Level::Durable);
        let late = watermark.wait(2, Level::Durable, Some(Instant::now()));
        assert!(matches!(late, Err(CommitError::Timeout)));
        watermark.set_durable(1);
        assert!(other.join().unwrap().is_ok());
    });
}

#[test]
fn a_full_disk_passes_and_poison_stays() {
    check(|| {
        let watermark = watermark();
        let sleepers: Vec<_> = (1..=3u64)
            .map(|sequence| {
                let watermark = watermark.clone();
                spawn(move || {
                    loop {
                        match watermark.wait(sequence, Level::Durable, None) {
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
        watermark.set_durable(1);
        watermark.fail(CommitError::StorageFull);
        watermark.recovered();
        assert!(watermark.outcome(2, Level::Durable).is_none(), "nothing is in the way of it");
        watermark.set_durable(2);
        watermark.fail(poisoned());
        // Poison is final, whatever comes behind it.
        watermark.fail(CommitError::StorageFull);
        watermark.recovered();
        watermark.fail(CommitError::Closed);
        for sleeper in sleepers {
            sleeper.join().unwrap();
        }
        assert!(watermark.poison().is_some());
        assert!(matches!(watermark.wait(3, Level::Durable, None), Err(CommitError::Poisoned(_))));
        assert!(matches!(watermark.outcome(2, Level::Durable), Some(Ok(()))));
        assert_eq!(watermark.waiting(), 0);
    });
}

#[test]
fn closing_stays_although_a_full_disk_recovers() {
    check(|| {
        let watermark = watermark();
        let sleeper = sleep(&watermark, 1, Level::Durable);
        let disk = {
            let watermark = watermark.clone();
            spawn(move || {
                watermark.fail(CommitError::StorageFull);
                watermark.recovered();
            })
        };
        watermark.fail(CommitError::Closed);
        disk.join().unwrap();
        assert!(sleeper.join().unwrap().is_err());
        assert!(matches!(watermark.outcome(1, Level::Durable), Some(Err(CommitError::Closed))));
        assert!(matches!(watermark.wait(1, Level::Durable, None), Err(CommitError::Closed)));
    });
}

#[test]
fn a_look_never_tells_a_failure_that_came_behind_the_commit() {
    check(|| {
        let watermark = watermark();
        let looker = {
            let watermark = watermark.clone();
            spawn(move || {
                for _ in 0..3 {
                    if let Some(outcome) = watermark.outcome(1, Level::Durable) {
                        assert!(outcome.is_ok(), "it was durable before the poison");
                    }
                }
            })
        };
        watermark.set_durable(1);
        watermark.fail(poisoned());
        looker.join().unwrap();
    });
}

#[test]
fn it_never_goes_back_and_durable_is_never_ahead_of_written() {
    check(|| {
        let watermark = watermark();
        let lookers: Vec<_> = (0..2)
            .map(|_| {
                let watermark = watermark.clone();
                spawn(move || {
                    let mut before = (0, 0);
                    for _ in 0..4 {
                        // In this order: the other way round a commit may come between the two.
                        let durable = watermark.durable();
                        let written = watermark.written();
                        assert!(durable <= written, "durable {durable}, written {written}");
                        assert!(before.0 <= written && before.1 <= durable, "it went back");
                        before = (written, durable);
                    }
                })
            })
            .collect();
        // Late with what it has written.
        let again = {
            let watermark = watermark.clone();
            spawn(move || watermark.set_written(1))
        };
        watermark.set_written(2);
        watermark.set_durable(2);
        watermark.set_durable(3);
        again.join().unwrap();
        for looker in lookers {
            looker.join().unwrap();
        }
        assert_eq!((watermark.written(), watermark.durable()), (3, 3));
    });
}
