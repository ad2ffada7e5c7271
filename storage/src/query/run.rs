//! Running a query: a stream of events that holds little at a time and stops at damage.

use super::windows::{Window, Windows, unreadable};
use super::{EventSource, Query};
use crate::error::{Damage, ReadError};
use crate::event::{Event, Recorded};
use crate::log::entry::EntryRef;
use crate::trees::Index;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Most events held ready.
pub(super) const READY_EVENTS_MAX: usize = 1_024;
/// Bytes of events from which on no more are held ready.
pub(super) const READY_BYTES_MAX: usize = 1 << 20;
/// Most spots of damage that are remembered.
const PASSED_MAX: usize = 64;
/// How many sequences a reverse query reads at first, and at most, before it delivers.
const REVERSE_FIRST: u64 = 64;
const REVERSE_MAX: u64 = 1_024;

/// What an event costs while it is held ready.
fn cost(entry: &EntryRef<'_>) -> usize {
    size_of::<Recorded>() + entry.body.len() + entry.references.len()
}

/// The answer to a query, event by event.
///
/// It covers what the source held when the query began. At damage it yields the error once and ends, unless the
/// query goes on past damage; damage where index or summaries rule out a match is not met. It holds at most 1,024
/// events, and stops gathering at 1 MiB of them.
pub struct QueryRun {
    windows: Windows,
    window: Window,
    ready: VecDeque<Recorded>,
    failed: Option<ReadError>,
    /// How many more the limit allows.
    left: u64,
    reverse_span: u64,
    damage_skipped: u64,
    /// The first spots of damage that were passed over, each once.
    passed: Vec<Damage>,
}

impl std::fmt::Debug for QueryRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueryRun").field("query", &self.windows.query).finish_non_exhaustive()
    }
}

impl QueryRun {
    /// Begins to answer `query` from `source`, with the help of an index where there is one.
    pub fn new(source: Arc<dyn EventSource>, index: Option<Arc<Index>>, query: Query) -> Self {
        let left = query.limit.unwrap_or(u64::MAX);
        Self {
            windows: Windows::new(source, index, query),
            window: Window::default(),
            ready: VecDeque::new(),
            failed: None,
            left,
            reverse_span: REVERSE_FIRST,
            damage_skipped: 0,
            passed: Vec::new(),
        }
    }

    /// How many sequences were passed over so far because they could not be read.
    pub fn damage_skipped(&self) -> u64 {
        self.damage_skipped
    }

    /// The spots that were passed over so far: the first 64 of them.
    pub fn damage_passed(&self) -> &[Damage] {
        &self.passed
    }

    fn pass(&mut self, damage: Damage, sequences: u64) {
        self.damage_skipped += sequences;
        let is_known = self.passed.iter().any(|d| d.segment == damage.segment && d.offset == damage.offset);
        if !is_known && self.passed.len() < PASSED_MAX {
            self.passed.push(damage);
        }
    }

    /// What is held ready, in bytes of payload.
    #[cfg(test)]
    pub(super) fn ready_bytes(&self) -> usize {
        self.ready.iter().map(|e| e.event.payload_value().as_json().map_or(0, |v| v.to_string().len())).sum()
    }

    /// How many events match, whatever the limit; nothing is kept of them.
    ///
    /// # Errors
    /// Damage, unless the query goes on past it, or a record that cannot be read.
    pub fn count_matches(&mut self) -> Result<u64, ReadError> {
        let Windows { source, index, query, .. } = &self.windows;
        let forward = Query { reverse: false, ..query.clone() };
        let mut run = Self::new(Arc::clone(source), index.clone(), forward);
        let mut count = 0;
        while let Some(window) = run.windows.next_window() {
            run.window = window?;
            while let Some((first, last)) = run.window.ranges.pop_front() {
                let read = run.read_forward(first, last, &mut |_, _| {
                    count += 1;
                    ControlFlow::Continue(())
                });
                read?;
            }
        }
        (self.damage_skipped, self.passed) = (run.damage_skipped, run.passed);
        Ok(count)
    }

    /// Reads until there is something to deliver or nothing more to read.
    fn fill(&mut self) {
        while self.ready.is_empty() && self.failed.is_none() {
            let reverse = self.windows.query.reverse;
            let ranges = &mut self.window.ranges;
            let range = if reverse { ranges.pop_back() } else { ranges.pop_front() };
            let read = match range {
                Some((first, last)) if reverse => self.gather_reverse(first, last),
                Some((first, last)) => self.gather(first, last),
                None => match self.windows.next_window() {
                    Some(window) => window.map(|w| self.window = w),
                    None => return,
                },
            };
            if let Err(error) = read {
                self.failed = Some(error);
                self.windows.finish();
                self.window = Window::default();
            }
        }
    }

    /// Makes events of a range ready, and puts back what it did not come to.
    fn gather(&mut self, first: u64, last: u64) -> Result<(), ReadError> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(READY_EVENTS_MAX);
        let mut ready = std::mem::take(&mut self.ready);
        let mut bytes = 0;
        let read = self.read_forward(first, last, &mut |entry, event| {
            bytes += cost(entry);
            ready.push_back(entry.recorded(event));
            match ready.len() >= most || bytes >= READY_BYTES_MAX {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        self.left -= ready.len() as u64;
        self.ready = ready;
        read
    }

    /// Shows `take` each match of a range in order. Where it breaks, the rest of the range is put back.
    fn read_forward(&mut self, first: u64, last: u64, take: &mut Take<'_>) -> Result<(), ReadError> {
        let mut next = first;
        while next <= last {
            let Windows { source, query, .. } = &self.windows;
            let mut met = Met::End;
            let read = source.read(next, last, &mut |entry| {
                next = entry.sequence + 1;
                if entry.is_tombstone() || !self.window.wants(entry.sequence) {
                    return ControlFlow::Continue(());
                }
                let Some(event) = entry.event() else {
                    met = Met::Unreadable(entry.sequence);
                    return ControlFlow::Break(());
                };
                if !query.matches(entry, &event) {
                    return ControlFlow::Continue(());
                }
                let flow = take(entry, event);
                if flow.is_break() {
                    met = Met::Full;
                }
                flow
            });
            let damage = match (read, met) {
                (Err(ReadError::Damaged(damage)), _) => *damage,
                (Err(other), _) => return Err(other),
                (Ok(()), Met::Unreadable(sequence)) => unreadable(sequence),
                (Ok(()), met) => {
                    if matches!(met, Met::Full) && next <= last {
                        self.window.ranges.push_front((next, last));
                    }
                    return Ok(());
                }
            };
            if !query.past_damage {
                return Err(damage.into());
            }
            let (a, b) = lost(&damage, next, last);
            self.pass(damage, b - a + 1);
            next = b + 1;
        }
        Ok(())
    }

    /// Makes the last events of a range ready, newest first, and puts back the rest of the range.
    ///
    /// The range is read forward; what is too much to hold is let go and read again later.
    fn gather_reverse(&mut self, first: u64, last: u64) -> Result<(), ReadError> {
        let start = first.max(last.saturating_sub(self.reverse_span - 1));
        self.reverse_span = (self.reverse_span * 2).min(REVERSE_MAX);
        if first < start {
            self.window.ranges.push_back((first, start - 1));
        }
        let Windows { source, query, .. } = &self.windows;
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(READY_EVENTS_MAX);
        let mut kept: VecDeque<(usize, Recorded)> = VecDeque::new();
        let (mut bytes, mut let_go) = (0, None);
        let (mut skipped, mut stop) = (Vec::new(), None);
        let mut next = start;
        while next <= last {
            let mut met = Met::End;
            let read = source.read(next, last, &mut |entry| {
                next = entry.sequence + 1;
                if entry.is_tombstone() || !self.window.wants(entry.sequence) {
                    return ControlFlow::Continue(());
                }
                let Some(event) = entry.event() else {
                    met = Met::Unreadable(entry.sequence);
                    return ControlFlow::Break(());
                };
                if query.matches(entry, &event) {
                    bytes += cost(entry);
                    kept.push_back((cost(entry), entry.recorded(event)));
                    while kept.len() > most || (bytes > READY_BYTES_MAX && kept.len() > 1) {
                        if let Some((cost, event)) = kept.pop_front() {
                            bytes -= cost;
                            let_go = Some(event.sequence);
                        }
                    }
                }
                ControlFlow::Continue(())
            });
            let damage = match (read, met) {
                (Err(ReadError::Damaged(damage)), _) => *damage,
                (Err(other), _) => return Err(other),
                (Ok(()), Met::Unreadable(sequence)) => unreadable(sequence),
                (Ok(()), _) => break,
            };
            let (a, b) = lost(&damage, next, last);
            if query.past_damage {
                skipped.push((a, b, damage));
            } else {
                // Only what is behind the last damage is delivered, then that damage.
                kept.clear();
                (bytes, let_go) = (0, None);
                stop = Some(damage);
            }
            next = b + 1;
        }
        self.left -= kept.len() as u64;
        self.ready = kept.into_iter().rev().map(|(_, event)| event).collect();
        if let Some(sequence) = let_go {
            // What is read again reports its damage again.
            skipped.retain(|(a, ..)| *a > sequence);
            stop = None;
            self.window.ranges.push_back((start, sequence));
        }
        for (a, b, damage) in skipped {
            self.pass(damage, b - a + 1);
        }
        stop.map_or(Ok(()), |damage| Err(damage.into()))
    }
}

const _: () = {
    const fn is_shareable<T: Send + Sync + 'static>() {}
    is_shareable::<QueryRun>();
    is_shareable::<Index>();
};

type Take<'a> = dyn FnMut(&EntryRef<'_>, Event<'_>) -> ControlFlow<()> + 'a;

/// Why reading a range ended without an error.
#[derive(Clone, Copy)]
enum Met {
    End,
    Full,
    Unreadable(u64),
}

/// What of `next..=last` is lost at a damaged spot. Damage that names no place to go on from takes all of it.
fn lost(damage: &Damage, next: u64, last: u64) -> (u64, u64) {
    // An event that does not decode has been passed already.
    if damage.first_sequence != 0 && damage.last_sequence + 1 == next {
        return (damage.last_sequence, damage.last_sequence);
    }
    let end = if damage.last_sequence < next { last } else { damage.last_sequence.min(last) };
    (damage.first_sequence.clamp(next, end), end)
}

impl Iterator for QueryRun {
    type Item = Result<Recorded, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty() && self.left > 0 {
            self.fill();
        }
        if let Some(event) = self.ready.pop_front() {
            return Some(Ok(event));
        }
        // Damage beyond the limit is no concern of this query.
        let failed = self.failed.take().filter(|_| self.left > 0);
        failed.map(Err)
    }
}
