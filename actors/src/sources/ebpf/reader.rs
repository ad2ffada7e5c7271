//! Who empties the ring: a thread of its own, so that whoever makes something of the records may take his time.

use super::layout::word;
use super::read::{self, Mounts};
use super::sequence::Sequences;
use crate::sources::ready::{Ready, hand_out};
use crate::sources::ring_sleep::{Sleeper, Words};
use crate::sources::{Gap, GapCause, Item, Lost, boot_ns};
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use semj_sys::ring::{Counters, Ring};
use std::collections::VecDeque;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Records that may wait in memory for whoever takes them; beyond it they wait in the ring.
const READY_MAX: usize = 500_000;
/// How often calls that are only counted are told, while there is no end to them.
const COUNTED_EVERY_NS: i64 = 1_000_000_000;

impl Words for Counters {
    fn made(&self) -> u64 {
        self.get(word::MADE)
    }
    fn lost(&self) -> u64 {
        self.get(word::LOST)
    }
    fn set_sleep(&self, sleep: u64) {
        self.set(word::SLEEPS, sleep);
    }
}

/// Everything up to now, as a point that only grows: records, and calls that are only counted.
pub(super) fn point(words: &Counters) -> u64 {
    [word::MADE, word::FOREIGN, word::QUEUED].iter().map(|w| words.get(*w)).sum()
}

/// What was read and not handed out yet.
pub(super) struct Reader {
    ring: Ring,
    mounts: Mounts,
    sequences: Sequences,
    /// All that was made before is accounted for, ns of the boot-time clock.
    settled_ns: i64,
    ready: VecDeque<Ready>,
    /// The point up to which everything is accounted for.
    settled: u64,
    /// Calls that were counted, as far as they were told, and when.
    counted: u64,
    counted_ns: i64,
    /// A point that somebody waits for.
    awaited: u64,
    /// Readable while something is ready.
    news: OwnedFd,
    has_news: bool,
}

impl Reader {
    pub(super) fn new(ring: Ring, mounts: Mounts, news: OwnedFd) -> Self {
        Reader {
            ring,
            mounts,
            sequences: Sequences::default(),
            settled_ns: boot_ns().cast_signed(),
            ready: VecDeque::new(),
            settled: 0,
            counted: 0,
            counted_ns: 0,
            awaited: 0,
            news,
            has_news: false,
        }
    }

    /// Empties the ring, whoever waits for what: it is small, and what finds no room in it is lost. Returns the time of
    /// the oldest record that was in it.
    pub(super) fn read(&mut self, words: &Counters) -> Option<i64> {
        let before = boot_ns().cast_signed();
        let counted = words.get(word::FOREIGN) + words.get(word::QUEUED);
        // Losses before records, as `is_settled` asks for; and both before the ring: what they count is in it, lost, or
        // on its way from another processor.
        let lost = words.lost();
        let made = words.made();
        let now = boot_ns().cast_signed();
        let (sequences, mounts, ready) = (&mut self.sequences, &self.mounts, &mut self.ready);
        let mut oldest_ns: Option<i64> = None;
        let room = READY_MAX.saturating_sub(ready.len());
        let more = self.ring.read(room, |bytes| {
            let Some((sequence, record)) = read::record(bytes, mounts) else { return };
            sequences.take(sequence);
            let time_ns = record.as_ref().map(|r| r.boot_ns);
            oldest_ns = oldest_ns.into_iter().chain(time_ns).min();
            ready.extend(record.map(|r| Ready::Item(Item::Record(Box::new(r)))));
        });
        let is_due = self.awaited > self.settled || now >= self.counted_ns + COUNTED_EVERY_NS;
        if counted > self.counted && is_due {
            let (lost, cause) = (Lost::Exactly(counted - self.counted), GapCause::NotObserved);
            let gap = Gap { after: None, lost, from_ns: self.counted_ns, to_ns: now, cause };
            self.ready.push_back(Ready::Item(Item::Gap(gap)));
            (self.counted, self.counted_ns) = (counted, now);
        }
        let point = made + self.counted;
        if !more && point > self.settled && self.sequences.is_settled(made, lost) {
            let gaps = self.sequences.gaps(made, (self.settled_ns, now));
            self.ready.extend(gaps.into_iter().map(|g| Ready::Item(Item::Gap(g))));
            self.ready.push_back(Ready::Passed(point));
            self.settled = point;
        }
        if made + self.counted == self.settled {
            self.settled_ns = before;
        }
        if !self.ready.is_empty() && !self.has_news {
            self.has_news = rustix::io::write(&self.news, &[1, 0, 0, 0, 0, 0, 0, 0]).is_ok();
        }
        oldest_ns
    }

    /// Hands out what is ready. True when there is more.
    pub(super) fn hand_out(&mut self, passed: &mut u64, max: usize, out: &mut Vec<Item>) -> bool {
        hand_out(&mut self.ready, passed, max, out);
        let more = !self.ready.is_empty();
        if !more && self.has_news {
            self.has_news = rustix::io::read(&self.news, &mut [0; 8]).is_err();
        }
        more
    }

    /// Somebody waits for everything up to this point.
    pub(super) fn awaits(&mut self, point: u64) {
        self.awaited = point;
    }
}

/// How the thread looks.
pub(super) struct Look {
    /// Readable when the thread is to look, or to end.
    pub(super) bell: OwnedFd,
    pub(super) is_over: Arc<AtomicBool>,
    /// How often while records come.
    pub(super) every: Duration,
    /// How often while it sleeps: for a wake-up that got lost, of which there should be none.
    pub(super) asleep_every: Duration,
}

impl Look {
    /// Empties the ring until it is told to stop: every now and then as long as records come, and when it is woken once
    /// a look has found none. Counts how often a record lay there while the reader slept on.
    pub(super) fn run(
        &self,
        reader: &Mutex<Reader>,
        words: &Counters,
        ring: BorrowedFd<'_>,
        unwoken: &AtomicU64,
    ) {
        let mut sleeper = Sleeper::default();
        let (mut made, mut slept_ns) = (0, i64::MIN);
        loop {
            let mut held = reader.lock();
            // One that came just when the sleep was over anyway may have woken nobody, and does not count.
            if held.read(words).is_some_and(|oldest_ns| oldest_ns < slept_ns) {
                unwoken.fetch_add(1, Ordering::Relaxed);
            }
            let came = words.made() != made;
            made = words.made();
            let sleeps =
                !came && sleeper.may_sleep(words, |made, lost| held.sequences.is_settled(made, lost));
            drop(held);
            slept_ns = i64::MIN;
            let is_over = if sleeps {
                let (from_ns, whole) = (boot_ns(), self.asleep_every.as_nanos());
                let is_over = self.wait(Some(ring), self.asleep_every);
                sleeper.is_awake(words);
                // A sleep that took its whole time found what is in the ring by itself.
                if u128::from(boot_ns().saturating_sub(from_ns)) >= whole {
                    slept_ns = i64::try_from(u128::from(from_ns) + whole / 2).unwrap_or(i64::MAX);
                }
                is_over
            } else {
                self.wait(None, self.every)
            };
            if is_over {
                return;
            }
        }
    }

    /// Waits for the bell, and for the ring if it is given. True when it is the end.
    fn wait(&self, ring: Option<BorrowedFd<'_>>, at_most: Duration) -> bool {
        let mut watched = vec![PollFd::new(&self.bell, PollFlags::IN)];
        watched.extend(ring.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let seconds = i64::try_from(at_most.as_secs()).unwrap_or(i64::MAX);
        let timeout = Timespec { tv_sec: seconds, tv_nsec: at_most.subsec_nanos().into() };
        let _ = poll(&mut watched, Some(&timeout));
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        self.is_over.load(Ordering::Acquire)
    }
}
