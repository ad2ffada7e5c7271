//! The reader of a ring goes to sleep and is woken: by programs that do what `ebpf/snippets.rs` writes in their own code.

use crate::common::check;
use semj_actors::model::{Sleeper, Words};
use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::sync::{Condvar, Mutex};
use shuttle::thread::{spawn, yield_now};
use std::sync::Arc;

/// Two processors, two records each.
const WORK: u64 = 4;

/// What is mapped into both sides.
#[derive(Default)]
struct Shared {
    made: AtomicU64,
    lost: AtomicU64,
    sleep: AtomicU64,
    /// Records that were not read yet, and who waits for some.
    ring: Mutex<u64>,
    waiting: Condvar,
}

impl Words for Shared {
    fn made(&self) -> u64 {
        self.made.load(Ordering::SeqCst)
    }
    fn lost(&self) -> u64 {
        self.lost.load(Ordering::SeqCst)
    }
    fn set_sleep(&self, sleep: u64) {
        self.sleep.store(sleep, Ordering::SeqCst);
    }
}

impl Shared {
    /// One record, into a ring with room for so many.
    fn publish(&self, room: u64) {
        self.made.fetch_add(1, Ordering::SeqCst);
        let sleep = self.sleep.load(Ordering::SeqCst);
        {
            let mut ring = self.ring.lock().unwrap();
            if *ring == room {
                drop(ring);
                self.lost.fetch_add(1, Ordering::SeqCst);
                return;
            }
            *ring += 1;
        }
        if sleep != 0 {
            self.waiting.notify_all();
            let _ = self.sleep.compare_exchange(sleep, 0, Ordering::SeqCst, Ordering::SeqCst);
        }
    }

    /// Reads until all are accounted for. Whoever is not woken stays here for ever.
    fn read(&self) {
        let (mut sleeper, mut came) = (Sleeper::default(), 0);
        while came + self.lost() < WORK {
            let some = std::mem::take(&mut *self.ring.lock().unwrap());
            came += some;
            if some > 0 {
                continue;
            }
            if sleeper.may_sleep(self, |made, lost| came + lost == made) {
                // As `poll(2)`: it looks, and then waits for a wake-up and looks again.
                let mut ring = self.ring.lock().unwrap();
                while *ring == 0 && came + self.lost() < WORK {
                    ring = self.waiting.wait(ring).unwrap();
                }
                drop(ring);
                sleeper.is_awake(self);
            } else {
                yield_now();
            }
        }
    }
}

fn run(room: u64) {
    let shared = Arc::new(Shared::default());
    let programs: Vec<_> = (0..2)
        .map(|_| {
            let shared = shared.clone();
            spawn(move || (0..WORK / 2).for_each(|_| shared.publish(room)))
        })
        .collect();
    shared.read();
    for program in programs {
        program.join().unwrap();
    }
    assert_eq!(shared.made(), WORK);
}

#[test]
fn a_record_that_comes_while_the_reader_lies_down_wakes_him() {
    check(|| run(u64::MAX));
}

#[test]
fn records_without_room_leave_nobody_asleep() {
    check(|| run(1));
}
