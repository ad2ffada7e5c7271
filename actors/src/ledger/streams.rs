//! How many events each stream holds: the source of local sequences.

use super::prepare::Prepared;
use super::{EmitError, Refused};
use crate::sync::{Mutex, MutexGuard, RwLock};
use semj_storage::error::ReadError;
use semj_storage::log::Segments;
use std::collections::HashMap;
use std::sync::Arc;

/// All streams by name: those met in this process's life in memory, the rest in the record.
#[derive(Debug)]
pub struct Streams {
    slots: RwLock<HashMap<Box<[u8]>, u32>>,
    counts: Mutex<Counts>,
    segments: Arc<Segments>,
    /// Events up to here are looked up in the record when a name is new.
    in_record: u64,
}

/// The counters, locked.
#[derive(Debug, Default)]
pub(super) struct Counts(Vec<(Box<[u8]>, u64)>);

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
    /// Streams over the record up to `in_record`, and nothing admitted yet.
    pub fn new(segments: Arc<Segments>, in_record: u64) -> Self {
        Streams { slots: RwLock::default(), counts: Mutex::default(), segments, in_record }
    }

    /// The slot of a stream; a name met for the first time is looked up in the record.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn slot(&self, name: &[u8]) -> Result<u32, ReadError> {
        if let Some(slot) = self.slots.read().get(name) {
            return Ok(*slot);
        }
        let count = self.segments.stream_count(name, self.in_record)?;
        let mut slots = self.slots.write();
        let mut counts = self.counts.lock();
        Ok(*slots.entry(name.into()).or_insert_with(|| {
            counts.0.push((name.into(), count));
            counts.0.len() as u32 - 1
        }))
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
