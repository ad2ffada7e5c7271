//! How the reader of a ring goes to sleep without missing the record that comes just then.
//!
//! Who puts a record into the ring (1) counts it, (2) reads the word of sleep, (3) puts it in, and wakes the reader if the
//! word was not 0; then, (4) where the word still says the same, he sets it to 0. The reader (a) sets the word, (b) reads
//! the count, and (c) sleeps only if all that was counted has been read or is known to be lost.
//!
//! No wake-up is lost: 1 and a are full barriers, so of 2 and b at least one sees what the other side wrote before. Where
//! b sees the count, the reader does not sleep. Where 2 sees the word, the wake-up of 3 comes after the record is in the
//! ring, and the reader either hears it, or finds the ring not empty when he lies down. Where there is no room for the
//! record there is no wake-up either: but the ring was empty at c, so one that was put in after it has woken him.
//! Each sleep has its own number, so that 4, however late, ends no sleep but the one that it saw. Nobody else may read the
//! ring: a sleeper whose record is gone when he is woken sleeps on, and nobody would wake him again.
#![allow(unreachable_pub, reason = "the models of the feature `model` reach it, and nobody else")]

/// The words that reader and writers share.
pub trait Words {
    /// How many records were made so far.
    fn made(&self) -> u64;
    /// How many of them found no room.
    fn lost(&self) -> u64;
    /// Sets the word of sleep, as a full barrier.
    fn set_sleep(&self, sleep: u64);
}

/// The reader's side.
#[derive(Debug, Default)]
pub struct Sleeper {
    sleeps: u64,
}

impl Sleeper {
    /// Says that the reader sleeps, unless something is on its way. `is_settled(made, lost)` tells whether all that was
    /// made is accounted for.
    pub fn may_sleep(&mut self, words: &impl Words, is_settled: impl FnOnce(u64, u64) -> bool) -> bool {
        self.sleeps += 1;
        words.set_sleep(self.sleeps);
        // What is lost is counted later than it is made: read the other way round, a loss might hide one on its way.
        let lost = words.lost();
        let settled = is_settled(words.made(), lost);
        if !settled {
            words.set_sleep(0);
        }
        settled
    }

    /// Says that the reader is awake.
    pub fn is_awake(&self, words: &impl Words) {
        words.set_sleep(0);
    }
}
