//! Two sources that look at the same: one sees only the call's own processes, but those well; the other, the *witness*,
//! sees everything in the watched folders.
//!
//! What the witness saw is held back until the first source, the *primary*, has handed out all up to that moment, and,
//! where that does not settle it, for [`HOLD_BACK_NS`] more: the primary may tell a call when it returns, while the witness
//! tells its effect before. Then it is
//! - folded, where the primary has told the same;
//! - told as the call's, where its process belongs to the call, or where the primary may have missed it;
//! - told as somebody else's.
//!
//! Pure: whose process it is, what time it is and how far the primary has come are told from outside.

use super::judge::{Evidence, Verdict};
use super::told::{Explained, Lost, Resolve, Told, WINDOW_NS, earliest_ns, name};
use crate::sources::{Gap, KernelRecord, Op, Phase};
use std::collections::{HashMap, VecDeque};

/// How long a view is held back for what may explain it, ns.
pub(super) const HOLD_BACK_NS: i64 = WINDOW_NS;
/// Views held back; beyond it the oldest are told with the evidence that there is.
const HELD_MAX: usize = 1 << 18;
/// Losses kept apart; later ones extend the last.
const LOSSES_MAX: usize = 1_000;

/// A view that is not settled.
#[derive(Debug)]
struct Held {
    record: Box<KernelRecord>,
    /// When it was read: it happened before.
    read_ns: i64,
}

/// Why a view is settled for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Last {
    /// What explains it would have been told by now.
    Due,
    /// No more views can be held back.
    TooMany,
    /// All ends, while a call may be under way that explains it.
    UnderWay,
}

/// Joins the two.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    told: Told,
    /// Waits until the primary has told all that had returned when it was read.
    fresh: VecDeque<Held>,
    /// Waits for [`HOLD_BACK_NS`] more.
    waiting: VecDeque<Held>,
    /// How many views of each name wait: who comes later must not take what explains them.
    names: HashMap<Box<[u8]>, usize>,
    /// When the primary lost something, BOOTTIME in ns.
    losses: Vec<(i64, i64)>,
}

/// What is asked of the world outside.
pub(super) struct Ask<'a, 'r> {
    /// Whose doing it would be if there were no primary.
    pub(super) verdict: &'a mut dyn FnMut(&KernelRecord) -> Verdict,
    /// Where a folder really is.
    pub(super) resolve: &'a mut Resolve<'r>,
}

/// A view that is told, and whose doing it is.
pub(super) type Settled = (Box<KernelRecord>, Verdict);

impl Joiner {
    /// The primary told an effect of the call.
    pub(super) fn told(&mut self, record: &KernelRecord) {
        self.told.add(record);
    }

    /// The primary lost something.
    pub(super) fn lost(&mut self, gap: &Gap) {
        let to = if gap.to_ns == 0 { i64::MAX } else { gap.to_ns };
        let from = if gap.from_ns == 0 { i64::MIN } else { gap.from_ns };
        let is_full = self.losses.len() >= LOSSES_MAX;
        match self.losses.last_mut().filter(|_| is_full) {
            Some(last) => last.1 = last.1.max(to),
            None => self.losses.push((from, to)),
        }
    }

    /// The witness saw something, read at `read_ns`.
    pub(super) fn hold(&mut self, record: Box<KernelRecord>, read_ns: i64) {
        self.fresh.push_back(Held { record, read_ns });
    }

    /// Settles what can be settled. `complete_ns`: the primary has handed out all calls that returned before.
    pub(super) fn settle(&mut self, complete_ns: i64, ask: &mut Ask<'_, '_>, out: &mut Vec<Settled>) {
        while let Some(held) = self.fresh.pop_front_if(|h| h.read_ns <= complete_ns) {
            match (ask.verdict)(&held.record) {
                Verdict::Elsewhere => {}
                Verdict::Call(evidence) => {
                    let (ours, lost) = (is_known(evidence), self.lost_about(&held.record));
                    if self.is_next(&held.record)
                        && self.told.explain(&held.record, ours, lost, None) == Explained::Same
                    {
                        continue;
                    }
                    *self.names.entry(name(held.record.path.any()).into()).or_default() += 1;
                    self.waiting.push_back(held);
                }
                other => out.push((held.record, other)),
            }
        }
        let is_due = |held: &mut Held| held.read_ns.saturating_add(HOLD_BACK_NS) <= complete_ns;
        while let Some(held) = self.waiting.pop_front_if(is_due) {
            self.waits_no_more(&held);
            self.last(held, Last::Due, ask, out);
        }
        while self.fresh.len() + self.waiting.len() > HELD_MAX
            && let Some(held) = self.oldest()
        {
            self.last(held, Last::TooMany, ask, out);
        }
    }

    /// Settles all that is left: nothing more will be told. `is_over`: the call has no process left that could be in the
    /// middle of a call that the primary tells when it returns.
    pub(super) fn finish(&mut self, is_over: bool, ask: &mut Ask<'_, '_>, out: &mut Vec<Settled>) {
        let why = if is_over { Last::Due } else { Last::UnderWay };
        while let Some(held) = self.oldest() {
            self.last(held, why, ask, out);
        }
    }

    fn oldest(&mut self) -> Option<Held> {
        let Some(held) = self.waiting.pop_front() else { return self.fresh.pop_front() };
        self.waits_no_more(&held);
        Some(held)
    }

    /// No earlier view of the same name waits.
    fn is_next(&self, view: &KernelRecord) -> bool {
        !self.names.contains_key(name(view.path.any()))
    }

    fn waits_no_more(&mut self, held: &Held) {
        let name = name(held.record.path.any());
        if let Some(number) = self.names.get_mut(name) {
            *number -= 1;
            if *number == 0 {
                self.names.remove(name);
            }
        }
    }

    fn last(&mut self, held: Held, why: Last, ask: &mut Ask<'_, '_>, out: &mut Vec<Settled>) {
        let record = held.record;
        let settled = match (ask.verdict)(&record) {
            Verdict::Elsewhere => return,
            Verdict::Call(evidence) => {
                let (ours, lost) = (is_known(evidence), self.lost_about(&record));
                match self.told.explain(&record, ours, lost, Some(&mut *ask.resolve)) {
                    Explained::Same => return,
                    // The primary has told it, or will.
                    Explained::Forgotten if ours && lost != Lost::Then => return,
                    _ if ours && why == Last::TooMany && lost != Lost::Then => return,
                    _ if ours => Verdict::Call(evidence),
                    Explained::Opened => Verdict::Call(Evidence::Opened),
                    Explained::No if why == Last::Due && lost != Lost::Then => Verdict::Unexplained,
                    Explained::No | Explained::MayBe | Explained::Forgotten => Verdict::Call(evidence),
                }
            }
            other => other,
        };
        out.push((record, settled));
    }

    /// Whether the primary may have lost its view of this.
    fn lost_about(&self, view: &KernelRecord) -> Lost {
        let (earliest, latest) = (earliest_ns(view), view.boot_ns.saturating_add(WINDOW_NS));
        // A file may be written long after it was opened, and a comparison knows no time.
        let any_time = view.phase == Phase::Synthetic || matches!(view.op, Op::Write | Op::Truncate);
        let before = self.losses.iter().filter(|(from, _)| *from <= latest);
        before.fold(Lost::No, |lost, (_, to)| match lost {
            Lost::Then => Lost::Then,
            _ if any_time || *to >= earliest => Lost::Then,
            _ => Lost::Earlier,
        })
    }
}

/// Whether the process itself is known to belong to the call.
fn is_known(evidence: Evidence) -> bool {
    matches!(evidence, Evidence::Tag | Evidence::Tree | Evidence::Snapshot)
}

#[cfg(test)]
#[path = "join_tests.rs"]
mod tests;
