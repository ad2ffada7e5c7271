//! The witness at work: read beside the primary, and told by what the joiner makes of both.

use super::join::{Ask, Joiner, Settled};
use super::judge::Judge;
use super::rung::Witness;
use super::tree::Tree;
use crate::sources::{Barrier, Gap, Item, KernelRecord, KernelSource, Progress};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

/// A witness that is read.
#[derive(Debug)]
pub(super) struct Beside {
    witness: Witness,
    joiner: Joiner,
    items: Vec<Item>,
    /// A point of the primary that it has not passed, and when that was, BOOTTIME in ns.
    point: Option<(Barrier, i64)>,
    /// The primary has handed out all calls that returned before.
    complete_ns: i64,
}

impl Beside {
    pub(super) fn new(witness: Witness) -> Self {
        let joiner = Joiner::default();
        Beside { witness, joiner, items: Vec::new(), point: None, complete_ns: i64::MIN }
    }

    /// Its name in the journal.
    pub(super) fn name(&self) -> &'static str {
        self.witness.name
    }

    pub(super) fn pollable(&self) -> Option<BorrowedFd<'_>> {
        self.witness.source.pollable()
    }

    /// A point behind all that it has seen up to now.
    pub(super) fn barrier(&mut self) -> Barrier {
        self.witness.source.barrier().unwrap_or(Barrier(u64::MAX))
    }

    /// The primary told an effect of the call.
    pub(super) fn told(&mut self, record: &KernelRecord) {
        self.joiner.told(record);
    }

    /// The primary lost something.
    pub(super) fn lost(&mut self, gap: &Gap) {
        self.joiner.lost(gap);
    }

    /// Reads on; what was seen is kept only with `keep`. Gaps of its own go to `gaps`.
    pub(super) fn read(&mut self, max: usize, keep: bool, gaps: &mut Vec<Gap>) -> io::Result<Progress> {
        let progress = self.witness.source.next_batch(max, &mut self.items)?;
        let now = super::boot_ns();
        for item in self.items.drain(..) {
            match item {
                Item::Record(record) if keep => self.joiner.hold(record, now),
                Item::Gap(gap) => gaps.push(gap),
                _ => {}
            }
        }
        Ok(progress)
    }

    /// The primary has come to `passed`.
    pub(super) fn primary_passed(&mut self, primary: &mut dyn KernelSource, passed: u64) {
        if let Some((_, at_ns)) = self.point.take_if(|(point, _)| point.0 <= passed) {
            self.complete_ns = at_ns;
        }
        if self.point.is_none() {
            let now = super::boot_ns();
            match primary.barrier() {
                Ok(point) => self.point = Some((point, now)),
                // It knows no such point: time alone has to do.
                Err(_) => self.complete_ns = now,
            }
        }
    }

    /// What is settled by now; with `is_last` everything.
    pub(super) fn settle(&mut self, judge: &Judge, tree: &Tree, is_last: bool) -> Vec<Settled> {
        let mut settled = Vec::new();
        let mut verdict = |record: &KernelRecord| judge.verdict(tree, record);
        let mut resolve = |folder: &[u8]| {
            let folder = std::fs::canonicalize(std::ffi::OsStr::from_bytes(folder)).ok()?;
            Some(folder.into_os_string().into_vec())
        };
        let mut ask = Ask { verdict: &mut verdict, resolve: &mut resolve };
        self.joiner.settle(self.complete_ns, &mut ask, &mut settled);
        if is_last {
            self.joiner.finish(tree.running().is_empty(), &mut ask, &mut settled);
        }
        settled
    }
}
