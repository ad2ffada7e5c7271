//! Whether somebody looks at a source: what is so, against what was told. Told at once when it changes, but no more often
//! than once a period; in between changes are counted.

use super::keeper::Tools;
use super::slot::Slot;
use crate::cores::kernel::{Account, Covered, SourceCore, Told};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    now: Option<Covered>,
    changes: u64,
}

impl Coverage {
    /// So it is.
    pub(super) fn is(&mut self, covered: Covered) {
        if self.now.as_ref().map(Covered::name) != Some(covered.name()) {
            self.changes += 1;
        }
        self.now = Some(covered);
    }

    /// Tells what is not told yet, through the source's core; answers when to come again for it, ns.
    pub(super) fn tell(&mut self, slot: &Slot, core: &mut SourceCore, tools: &Tools<'_>) -> Option<i64> {
        let covered = self.now.as_ref()?;
        let told = slot.state.lock().covered;
        if told.is_some_and(|(state, _)| state == covered.name()) {
            return None;
        }
        let now = tools.now();
        let due = told.map_or(now, |(_, at)| at.saturating_add(tools.limits.period_ns));
        if due > now {
            return Some(due);
        }
        let changes = std::mem::take(&mut self.changes);
        core.tell(Told::Coverage { covered: covered.clone(), changes }, now);
        None
    }
}

/// Tells that a call of a source does not return. Whoever makes the call holds all else of the source, so this stands alone.
pub(crate) fn tell_hang(slot: &Slot, tools: &Tools<'_>) {
    let (now, hangs) = (tools.now(), Covered::Hangs);
    let told = slot.state.lock().covered;
    let is_due =
        |(state, at): (&str, i64)| state != hangs.name() && at.saturating_add(tools.limits.period_ns) <= now;
    if told.is_none_or(is_due) {
        let clock = tools.pipeline.clock();
        let offset = clock.wall_ns().saturating_sub(clock.boot_ns());
        let name = hangs.name();
        let told = Told::Coverage { covered: hangs, changes: 1 };
        let event = told.event(&slot.name, &Account::default(), offset);
        if tools.pipeline.emit_own(&event, told.control(&slot.name)) {
            let mut state = slot.state.lock();
            state.covered = Some((name, now));
            state.alerts += 1;
        }
    }
}
