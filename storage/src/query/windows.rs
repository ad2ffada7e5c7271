//! A query's way through the record: chunk by chunk, and in each the ranges worth reading.

use super::{EventSource, Plan, Query};
use crate::error::{Damage, ReadError};
use crate::limits::CHUNK_EVENTS;
use crate::trees::{Bits, Index, chunk_first, chunk_of, offset_of};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

/// Places with at most so many others between them are read together: passing over an entry is cheaper than seeking.
const GAP: u16 = 8;

/// The part of one chunk that is worth reading.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// What to read, in ascending order.
    pub(super) ranges: VecDeque<(u64, u64)>,
    /// What to look at among what is read.
    wanted: Bits,
}

impl Window {
    /// Whether an entry that was read is to be looked at.
    pub(super) fn wants(&self, sequence: u64) -> bool {
        self.wanted.contains(offset_of(sequence))
    }
}

/// What is left of a query's range of sequences.
pub(super) struct Windows {
    pub(super) source: Arc<dyn EventSource>,
    pub(super) index: Option<Arc<Index>>,
    pub(super) query: Query,
    plan: Plan,
    /// `low..=high` was not planned yet.
    low: u64,
    high: u64,
}

impl Windows {
    /// All that `query` covers of what the source holds now.
    pub(super) fn new(source: Arc<dyn EventSource>, index: Option<Arc<Index>>, query: Query) -> Self {
        let plan = Plan::of(&query);
        let low = source.first_sequence().max(1).max(query.after.map_or(1, |a| a.saturating_add(1)));
        let high = source.last_sequence().min(query.before.map_or(u64::MAX, |b| b.saturating_sub(1)));
        let index = index.filter(|_| plan.uses_index());
        Self { source, index, query, plan, low, high }
    }

    /// Nothing is left.
    pub(super) fn finish(&mut self) {
        (self.low, self.high) = (1, 0);
    }

    /// The next chunk in the query's direction; `None` at the end.
    pub(super) fn next_window(&mut self) -> Option<Result<Window, ReadError>> {
        if self.low > self.high {
            return None;
        }
        let chunk = chunk_of(if self.query.reverse { self.high } else { self.low });
        let first = self.low.max(chunk_first(chunk));
        let last = self.high.min(chunk_first(chunk) + CHUNK_EVENTS - 1);
        if self.query.reverse {
            self.high = first - 1;
        } else {
            self.low = last + 1;
        }
        Some(self.plan_window(chunk, first, last))
    }

    fn plan_window(&self, chunk: u64, first: u64, last: u64) -> Result<Window, ReadError> {
        let mut wanted = Bits::EMPTY;
        match self.index.as_ref().and_then(|index| self.plan.candidates(index, chunk)) {
            None => self.scan(first, last, &mut wanted)?,
            Some(candidates) => {
                let mut span = Bits::EMPTY;
                span.insert_range(offset_of(first), offset_of(last));
                wanted = candidates.matching;
                let mut unread = candidates.unread;
                unread.intersect(&span);
                for (a, b) in unread.runs(GAP) {
                    let start = chunk_first(chunk);
                    self.scan(start + u64::from(a), start + u64::from(b), &mut wanted)?;
                }
                if candidates.through < last {
                    self.scan(first.max(candidates.through + 1), last, &mut wanted)?;
                }
                wanted.intersect(&span);
            }
        }
        let start = chunk_first(chunk);
        let ranges = wanted.runs(GAP).into_iter().map(|(a, b)| (start + u64::from(a), start + u64::from(b)));
        Ok(Window { ranges: ranges.collect(), wanted })
    }

    /// Marks what an index says nothing of: all but the blocks whose summary rules them out.
    fn scan(&self, first: u64, last: u64, wanted: &mut Bits) -> Result<(), ReadError> {
        let mut mark = |a: u64, b: u64| {
            let (a, b) = (a.max(first), b.min(last));
            if a <= b {
                wanted.insert_range(offset_of(a), offset_of(b));
            }
        };
        if !self.plan.uses_summaries() {
            mark(first, last);
            return Ok(());
        }
        let blocks = match self.source.blocks(first, last) {
            // Reading will say where.
            Err(ReadError::Damaged(_)) => Vec::new(),
            other => other?,
        };
        let mut next = first;
        for block in blocks {
            // Between blocks there is damage, which only reading can report.
            mark(next, block.first_sequence.saturating_sub(1));
            if self.plan.may_match(&block) {
                mark(block.first_sequence.max(next), block.last_sequence);
            }
            next = next.max(block.last_sequence + 1);
        }
        mark(next, last);
        Ok(())
    }
}

/// The error for an intact entry whose content makes no sense.
pub(super) fn unreadable(sequence: u64) -> Damage {
    Damage {
        segment: PathBuf::from("segments"),
        offset: 0,
        length: 0,
        first_sequence: sequence,
        last_sequence: sequence,
        reason: "the event's body does not decode".into(),
    }
}
