//! How many events each stream holds: the source of local sequences.

use super::prepare::Prepared;
use super::{EmitError, Refused};
use parking_lot::{Mutex, MutexGuard, RwLock};
use std::collections::HashMap;

/// All streams by name.
#[derive(Debug, Default)]
pub struct Streams {
    slots: RwLock<HashMap<Box<[u8]>, u32>>,
    counts: Mutex<Counts>,
}

/// The counters, locked.
#[derive(Debug, Default)]
pub struct Counts(Vec<(Box<[u8]>, u64)>);

impl Counts {
    /// Takes the next local sequence of a stream.
    #[inline]
    pub(super) fn next(&mut self, slot: u32) -> u64 {
        match self.0.get_mut(slot as usize) {
            Some((_, count)) => {
                *count += 1;
                *count
            }
            None => 0,
        }
    }
}

impl Streams {
    /// The slot of a stream; a new one starts with no event.
    pub fn slot(&self, name: &[u8]) -> u32 {
        if let Some(slot) = self.slots.read().get(name) {
            return *slot;
        }
        let mut slots = self.slots.write();
        let mut counts = self.counts.lock();
        *slots.entry(name.into()).or_insert_with(|| {
            counts.0.push((name.into(), 0));
            counts.0.len() as u32 - 1
        })
    }

    /// Notes that a stream holds at least so many events, as found in the record.
    pub fn seen(&self, name: &[u8], local_sequence: u64) {
        let slot = self.slot(name);
        if let Some((_, count)) = self.counts.lock().0.get_mut(slot as usize) {
            *count = (*count).max(local_sequence);
        }
    }

    /// How many events a stream holds, admitted ones included.
    pub fn count(&self, name: &[u8]) -> u64 {
        let slot = self.slots.read().get(name).copied();
        slot.and_then(|s| self.counts.lock().0.get(s as usize).map(|(_, c)| *c)).unwrap_or(0)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock()
    }

    /// Checks `expect` of every event against its stream, those before it in the same group counted in.
    pub(super) fn check_expected(&self, prepared: &Prepared) -> Result<(), Refused> {
        if prepared.items.iter().all(|i| i.expect.is_none()) {
            return Ok(());
        }
        let counts = self.counts.lock();
        for (index, item) in prepared.items.iter().enumerate() {
            let Some(expected) = item.expect else { continue };
            let earlier =
                prepared.items.iter().take(index).filter(|i| i.stream == item.stream).count() as u64;
            let (name, actual) =
                counts.0.get(item.stream as usize).map_or((&[][..], 0), |(n, c)| (n, c + earlier));
            if expected != actual {
                let stream = String::from_utf8_lossy(name).into_owned();
                return Err(Refused::Error(EmitError::Position { stream, expected, actual }));
            }
        }
        Ok(())
    }
}
