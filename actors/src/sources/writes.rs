//! Many modifications of one file are one write: told when the file is closed, or when it stays open for long.

use super::{Item, KernelRecord};
use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// How long a file may stay open before its modification is told, in nanoseconds.
const OPEN_FOR_NS: i64 = 1_000_000_000;

/// Modifications before this time are told although the file is open.
pub(super) fn open_until(now_ns: u64) -> i64 {
    now_ns.cast_signed() - OPEN_FOR_NS
}

/// Modified files that have not been closed yet.
#[derive(Debug)]
pub(super) struct Writes<K> {
    open: HashMap<K, Vec<KernelRecord>>,
}

impl<K> Default for Writes<K> {
    fn default() -> Self {
        Writes { open: HashMap::new() }
    }
}

impl<K: Eq + Hash> Writes<K> {
    /// A file was modified; each process that does so is told once.
    pub(super) fn modified(&mut self, file: K, write: KernelRecord) {
        let writes = self.open.entry(file).or_default();
        if !writes.iter().any(|w| w.who.process == write.who.process) {
            writes.push(write);
        }
    }

    /// A file was closed by somebody who might have written.
    pub(super) fn closed<Q: ?Sized + Eq + Hash>(&mut self, file: &Q, tell: impl FnMut(Item))
    where
        K: Borrow<Q>,
    {
        if let Some(writes) = self.open.remove(file) {
            writes.into_iter().map(|w| Item::Record(Box::new(w))).for_each(tell);
        }
    }

    /// Tells what was modified before `up_to_ns`, in the order of time.
    pub(super) fn flush(&mut self, up_to_ns: i64, tell: impl FnMut(Item)) {
        if self.open.is_empty() {
            return;
        }
        let old = self.open.extract_if(|_, writes| writes.iter().all(|w| w.boot_ns < up_to_ns));
        let mut old: Vec<KernelRecord> = old.flat_map(|(_, writes)| writes).collect();
        old.sort_by_key(|w| w.boot_ns);
        old.into_iter().map(|w| Item::Record(Box::new(w))).for_each(tell);
    }
}
