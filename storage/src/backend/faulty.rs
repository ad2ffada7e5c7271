//! Another backend's files that fail and dawdle now and then: for torture on real disks.
//!
//! The rates can be changed at any time. Which call fails is decided by a seeded generator, so the same calls in the same
//! order fail in the same way; with several threads the order is theirs.

use super::Backend;
use super::hooked::{Call, Hooked};
use parking_lot::Mutex;
use rustix::io::Errno;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What [`FaultRates`] count in.
pub const MILLION: u32 = 1_000_000;

/// How often calls fail, in calls of a million. All zero: nothing fails.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct FaultRates {
    /// Writes that find the disk full, of those that reach beyond the file's end: what is overwritten has its room. A part
    /// of the bytes may be there all the same.
    pub full: u32,
    /// Writes that end in an I/O error. A part of the bytes may be there all the same.
    pub write_error: u32,
    /// Syncs that end in an I/O error; nothing is synced.
    pub sync_error: u32,
    /// Reads that end in an I/O error.
    pub read_error: u32,
    /// Syncs and reads that take `delay` longer.
    pub slow: u32,
    /// How much longer those take.
    pub delay: Duration,
}

/// How many calls failed so far, by kind.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct FaultCounts {
    /// Writes that found the disk full.
    pub full: u64,
    /// Writes, syncs and reads that ended in an I/O error.
    pub errors: u64,
    /// Syncs and reads that were delayed.
    pub slow: u64,
}

#[derive(Debug)]
struct Dice {
    rates: FaultRates,
    state: u64,
}

/// The switch of a [`faulty`] backend: what fails from now on, and what failed.
#[derive(Debug)]
pub struct Faults {
    dice: Mutex<Dice>,
    full: AtomicU64,
    errors: AtomicU64,
    slow: AtomicU64,
}

impl Faults {
    /// A switch at which nothing fails yet.
    pub fn new(seed: u64) -> Arc<Self> {
        let dice = Mutex::new(Dice { rates: FaultRates::default(), state: seed });
        Arc::new(Faults { dice, full: AtomicU64::new(0), errors: AtomicU64::new(0), slow: AtomicU64::new(0) })
    }

    /// From now on calls fail at these rates.
    pub fn set(&self, rates: FaultRates) {
        self.dice.lock().rates = rates;
    }

    /// The rates of now.
    pub fn rates(&self) -> FaultRates {
        self.dice.lock().rates
    }

    /// What failed so far.
    pub fn counts(&self) -> FaultCounts {
        FaultCounts {
            full: self.full.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            slow: self.slow.load(Ordering::Relaxed),
        }
    }

    /// Whether this call is one of `rate` in a million.
    fn hits(&self, rate: impl Fn(&FaultRates) -> u32) -> bool {
        let mut dice = self.dice.lock();
        let rate = rate(&dice.rates);
        rate > 0 && dice.next() % u64::from(MILLION) < u64::from(rate)
    }

    fn fails(&self, rate: impl Fn(&FaultRates) -> u32) -> io::Result<()> {
        if self.hits(rate) {
            self.errors.fetch_add(1, Ordering::Relaxed);
            return Err(Errno::IO.into());
        }
        Ok(())
    }

    fn is_full(&self, needs_room: impl Fn() -> bool) -> io::Result<()> {
        if self.hits(|rates| rates.full) && needs_room() {
            self.full.fetch_add(1, Ordering::Relaxed);
            return Err(Errno::NOSPC.into());
        }
        Ok(())
    }

    fn dawdle(&self) {
        if self.hits(|rates| rates.slow) {
            self.slow.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(self.rates().delay);
        }
    }
}

impl Dice {
    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// `inner`, failing as `faults` says. Opening, names, locks and lengths asked for never fail.
pub fn faulty(inner: Arc<dyn Backend>, faults: Arc<Faults>) -> Hooked {
    Hooked::new(inner, move |request| match request.call {
        Call::Read => {
            faults.dawdle();
            faults.fails(|rates| rates.read_error)
        }
        Call::Write(write) => {
            let needs_room = || write.file.len().is_ok_and(|length| write.end() > length);
            let room = faults.is_full(needs_room).and_then(|()| faults.fails(|rates| rates.write_error));
            // As a failing disk does it: some of the bytes arrive.
            room.inspect_err(|_| write.part(write.bytes.len() / 2))
        }
        Call::Sync => {
            faults.dawdle();
            faults.fails(|rates| rates.sync_error)
        }
        Call::SetLen | Call::Names => Ok(()),
    })
}

#[cfg(test)]
mod tests {
    use super::super::{File, OpenMode, RealBackend};
    use super::*;

    fn file(faults: &Arc<Faults>) -> (tempfile::TempDir, Arc<dyn File>) {
        let folder = tempfile::tempdir().unwrap();
        let backend = faulty(Arc::new(RealBackend::new()), faults.clone());
        let file = backend.open(&folder.path().join("a"), OpenMode::CreateNew).unwrap();
        assert_eq!(backend.real_path(folder.path()).as_deref(), Some(folder.path()));
        (folder, file)
    }

    #[test]
    fn each_rate_fails_its_own_calls_and_none_fails_nothing() {
        let faults = Faults::new(1);
        let (_folder, file) = file(&faults);
        file.write_at(b"abcdefgh", 0).unwrap();
        let mut buffer = [0; 8];
        let mut all = |rates: FaultRates| {
            file.set_len(8).unwrap();
            faults.set(rates);
            let kind = |r: io::Result<()>| r.err().and_then(|e| e.raw_os_error());
            let read = file.read_at(&mut buffer, 0).map(drop);
            let over = file.write_at(b"ABCDEFGH", 0);
            [kind(file.write_at(b"ABCDEFGH", 1)), kind(file.sync_data()), kind(read), kind(over)]
        };
        let always = MILLION;
        let (full, io) = (Some(Errno::NOSPC.raw_os_error()), Some(Errno::IO.raw_os_error()));
        assert_eq!(all(FaultRates { full: always, ..FaultRates::default() }), [full, None, None, None]);
        assert_eq!(all(FaultRates { write_error: always, ..FaultRates::default() }), [io, None, None, io]);
        assert_eq!(all(FaultRates { sync_error: always, ..FaultRates::default() }), [None, io, None, None]);
        assert_eq!(all(FaultRates { read_error: always, ..FaultRates::default() }), [None, None, io, None]);
        assert_eq!(all(FaultRates { slow: always, ..FaultRates::default() }), [None; 4]);
        assert_eq!(all(FaultRates::default()), [None; 4]);
        assert_eq!(faults.counts(), FaultCounts { full: 1, errors: 4, slow: 2 });
    }

    #[test]
    fn a_failing_write_leaves_a_part() {
        let faults = Faults::new(1);
        let (_folder, file) = file(&faults);
        file.write_at(b"abcdefgh", 0).unwrap();
        faults.set(FaultRates { write_error: MILLION, ..FaultRates::default() });
        file.write_at(b"ABCDEFGH", 0).unwrap_err();
        let mut buffer = [0; 8];
        file.read_at(&mut buffer, 0).unwrap();
        assert_eq!(&buffer, b"ABCDefgh");
    }

    #[test]
    fn the_seed_decides_which_calls_fail() {
        let run = |seed: u64| {
            let faults = Faults::new(seed);
            let (_folder, file) = file(&faults);
            faults.set(FaultRates { sync_error: MILLION / 4, ..FaultRates::default() });
            (0..64).map(|_| file.sync_data().is_err()).collect::<Vec<_>>()
        };
        let first = run(7);
        assert_eq!(first, run(7));
        assert_ne!(first, run(8));
        assert!(first.contains(&true) && first.contains(&false));
    }
}
