//! The order of entries: what a call comes to is known later than the call, and is told in its place all the same.

use crate::sources::ready::Ready;
use crate::sources::{Gap, Item, KernelRecord};
use std::collections::VecDeque;

/// A place in the line.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Slot(u64);

/// Calls in the order in which they were entered.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// What each came to; `None`: not known yet.
    slots: VecDeque<Option<Vec<Ready>>>,
    /// How many have left.
    left: u64,
}

impl Line {
    /// Keeps a place for a call.
    pub(super) fn keep(&mut self) -> Slot {
        self.slots.push_back(None);
        Slot(self.left + self.slots.len() as u64 - 1)
    }

    /// Says what the call came to.
    pub(super) fn fill(&mut self, slot: Slot, records: Vec<KernelRecord>) {
        let index = slot.0.checked_sub(self.left).and_then(|i| usize::try_from(i).ok());
        if let Some(place) = index.and_then(|i| self.slots.get_mut(i)) {
            *place = Some(records.into_iter().map(ready).collect());
        }
    }

    /// Puts at the end what is known already.
    pub(super) fn push(&mut self, record: KernelRecord) {
        self.slots.push_back(Some(vec![ready(record)]));
    }

    /// Puts at the end that something is missing here.
    pub(super) fn push_gap(&mut self, gap: Gap) {
        self.slots.push_back(Some(vec![Ready::Item(Item::Gap(gap))]));
    }

    /// Puts a point behind all that was entered so far.
    pub(super) fn mark(&mut self, point: u64) {
        self.slots.push_back(Some(vec![Ready::Passed(point)]));
    }

    /// Hands on all that no unknown call stands before.
    pub(super) fn leave(&mut self, mut to: impl FnMut(Ready)) {
        while let Some(Some(_)) = self.slots.front() {
            self.left += 1;
            self.slots.pop_front().flatten().into_iter().flatten().for_each(&mut to);
        }
    }
}

fn ready(record: KernelRecord) -> Ready {
    Ready::Item(Item::Record(Box::new(record)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::{Op, Phase};

    fn record(at: i64) -> KernelRecord {
        KernelRecord::new(Op::Create, Phase::Done, at)
    }

    #[test]
    fn what_is_known_late_is_told_in_its_place() {
        let mut line = Line::default();
        let (first, second) = (line.keep(), line.keep());
        line.push(record(3));
        line.mark(7);
        line.fill(second, vec![record(2)]);
        let told = |line: &mut Line| {
            let mut told = Vec::new();
            line.leave(|ready| match ready {
                Ready::Item(Item::Record(record)) => told.push(record.boot_ns),
                Ready::Item(_) => {}
                Ready::Passed(point) => told.push(-point.cast_signed()),
            });
            told
        };
        assert_eq!(told(&mut line), [] as [i64; 0]);
        line.fill(first, Vec::new());
        assert_eq!(told(&mut line), [2, 3, -7]);
        let third = line.keep();
        line.fill(third, vec![record(4), record(5)]);
        line.fill(first, vec![record(9)]);
        assert_eq!(told(&mut line), [4, 5]);
    }
}
