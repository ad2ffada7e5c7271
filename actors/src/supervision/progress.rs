//! The progress word: one atomic by which an actor shows that it moves, and by which it is fenced when it does not.
//!
//! 1. Fencing and entering the disk zone are decided on one word: who is fenced never writes, who writes is not fenced.
//! 2. A fenced word stays so: the incarnation behind it is over, whatever its thread still does.

use std::sync::atomic::{AtomicU64, Ordering};

/// What an actor is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Zone {
    /// Nothing.
    Idle,
    /// Handling something that should be short.
    Busy,
    /// Doing what is known to be slow.
    Slow,
    /// Inside a call that may change the record. It cannot be replaced there: the call could take effect later.
    Disk,
    /// Replaced.
    Fenced,
}

/// A look at a progress word: equal looks mean that nothing moved in between.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Word(u64);

impl Word {
    /// What it was doing.
    pub fn zone(self) -> Zone {
        match self.0 & 0xFF {
            0 => Zone::Idle,
            1 => Zone::Busy,
            2 => Zone::Slow,
            3 => Zone::Disk,
            _ => Zone::Fenced,
        }
    }

    fn next(self, zone: Zone) -> u64 {
        ((self.0 >> 8).wrapping_add(1) << 8) | zone as u64
    }
}

/// See the module. One per incarnation that may be replaced.
#[derive(Debug, Default)]
pub struct Progress(AtomicU64);

impl Progress {
    /// What it shows now.
    pub fn look(&self) -> Word {
        Word(self.0.load(Ordering::SeqCst))
    }

    /// Moves to `zone`; `false` when it is fenced.
    fn enter(&self, zone: Zone) -> bool {
        if cfg!(feature = "unsupervised") {
            return true;
        }
        let moved = |word| {
            let word = Word(word);
            (word.zone() != Zone::Fenced).then(|| word.next(zone))
        };
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, moved).is_ok()
    }

    /// Begins to work; `false` when it is fenced and must do nothing.
    #[must_use]
    pub fn begin(&self) -> bool {
        self.enter(Zone::Busy)
    }

    /// Shows that it moved on to the next thing; `false` when it is fenced and must do nothing more.
    #[must_use]
    pub fn tick(&self) -> bool {
        self.enter(Zone::Busy)
    }

    /// Has nothing to do.
    pub fn end(&self) {
        self.enter(Zone::Idle);
    }

    fn protect(&self, zone: Zone) -> Option<Protected<'_>> {
        let before = self.look().zone();
        self.enter(zone).then_some(Protected { progress: self, before })
    }

    /// A span in which slowness is expected; `None` when it is fenced.
    #[must_use]
    pub fn slow(&self) -> Option<Protected<'_>> {
        self.protect(Zone::Slow)
    }

    /// A span in which the record may be changed; `None` when it is fenced and must not.
    #[must_use]
    pub fn disk(&self) -> Option<Protected<'_>> {
        self.protect(Zone::Disk)
    }

    /// Fences the incarnation, if nothing moved since `seen` and it is not inside a call on the record.
    pub fn fence(&self, seen: Word) -> bool {
        seen.zone() != Zone::Disk
            && seen.zone() != Zone::Fenced
            && self
                .0
                .compare_exchange(seen.0, seen.next(Zone::Fenced), Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
    }

    /// Fences it wherever it is, for who knows that no thread runs it.
    pub fn fence_dead(&self) {
        let fence = |word| Some(Word(word).next(Zone::Fenced));
        let _ = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fence);
    }

    /// Whether it was replaced.
    pub fn is_fenced(&self) -> bool {
        self.look().zone() == Zone::Fenced
    }
}

/// A span; the zone before it comes back when it is dropped.
#[derive(Debug)]
pub struct Protected<'a> {
    progress: &'a Progress,
    before: Zone,
}

impl Drop for Protected<'_> {
    fn drop(&mut self) {
        self.progress.enter(self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_nest_and_come_back() {
        let progress = Progress::default();
        assert!(progress.begin());
        let slow = progress.slow().unwrap();
        let disk = progress.disk().unwrap();
        assert_eq!(progress.look().zone(), Zone::Disk);
        drop(disk);
        assert_eq!(progress.look().zone(), Zone::Slow);
        drop(slow);
        assert_eq!(progress.look().zone(), Zone::Busy);
        progress.end();
        assert_eq!(progress.look().zone(), Zone::Idle);
    }

    #[test]
    fn who_moved_or_writes_is_not_fenced_and_who_is_fenced_does_not_write() {
        let progress = Progress::default();
        assert!(progress.begin());
        let seen = progress.look();
        assert!(progress.tick(), "it moved");
        assert!(!progress.fence(seen));
        let disk = progress.disk().unwrap();
        assert!(!progress.fence(progress.look()), "inside a write");
        drop(disk);
        assert!(progress.fence(progress.look()));
        assert!(progress.disk().is_none() && progress.slow().is_none());
        assert!(!progress.begin() && !progress.tick());
        progress.end();
        assert!(progress.is_fenced(), "for good");
    }
}
