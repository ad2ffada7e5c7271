//! What the observing thread makes of what sources hand out: whose it is, and the event that says so.

use super::boot_ns;
use super::events;
use super::judge::{Evidence, Verdict};
use super::observer::Work;
use super::tree::Place;
use crate::error::EmitError;
use crate::sources::lineage::Change;
use crate::sources::{Gap, GapCause, Item, KernelRecord, Lost, Op, Phase, procfs};
use semj_storage::event::Event;
use serde_json::{Value, json};

impl Work {
    /// Gives the record its process's time of birth: what makes it one process and no other.
    pub(super) fn know(&self, record: &mut KernelRecord) {
        if let Place::Inside { start_ns } = self.tree.place(record.who.process) {
            record.who.start_boot_ns = start_ns.cast_signed();
        }
    }

    pub(super) fn tell(&mut self, source: &str, record: &KernelRecord, verdict: Verdict, offset: i64) {
        match verdict {
            Verdict::Elsewhere => return,
            Verdict::Call(_) if is_process(record.op) => {}
            // An attempt is no effect, whoever made it.
            _ if record.has_failed() => self.finished.failed_calls += 1,
            Verdict::Call(_) if record.phase == Phase::Intent => self.finished.intents += 1,
            Verdict::Call(_) => self.finished.touched.add(record),
            Verdict::External | Verdict::Unexplained => self.finished.external += 1,
        }
        let event = events::of_record(&self.call, source, record, verdict, offset);
        self.emit(event);
    }

    pub(super) fn take_change(&mut self, change: &Change, tell: bool, offset: i64) {
        if !self.tree.take(change) || !tell {
            return;
        }
        let evidence = if self.judge.exact { Evidence::Tree } else { Evidence::Snapshot };
        let (what, details) = match *change {
            Change::Started { parent, tgid, at_ns, start_ns } => {
                ((Op::Fork, tgid, at_ns), json!({ "semj.parent": parent, "semj.process_start_ns": start_ns }))
            }
            Change::Executed { tgid, at_ns } => {
                ((Op::Exec, tgid, at_ns), json!({ "semj.argv": procfs::arguments(tgid) }))
            }
            Change::Exited { tgid, at_ns, status } => ((Op::Exit, tgid, at_ns), exit_details(status)),
        };
        if what.0 == Op::Exit && what.1 == self.root {
            self.call.ended_ns = Some(what.2.cast_signed());
        }
        let what = (what.0, what.1, what.2.cast_signed());
        let source = self.rung.lineage.as_ref().map_or("none", |l| l.name());
        let event = events::of_process(&self.call, source, what, evidence, details, offset);
        self.emit(event);
    }

    pub(super) fn take_item(&mut self, item: Item, tell: bool, offset: i64) {
        match item {
            Item::Record(mut record) if tell => {
                self.know(&mut record);
                let verdict = self.judge.verdict(&self.tree, &record);
                self.follow(&record);
                // What failed explains nothing that was seen.
                if let (Some(beside), Verdict::Call(_), false) =
                    (&mut self.beside, verdict, record.has_failed())
                {
                    beside.told(&record);
                }
                // That a file was opened to be written explains what the witness saw of it, and is no effect by itself.
                if record.op != Op::Open {
                    self.tell(self.source, &record, verdict, offset);
                }
            }
            Item::Gap(gap) => {
                self.source_lost(&gap);
                self.gap(self.source, &gap);
            }
            _ => {}
        }
    }

    /// Takes in what a source that tells processes itself says of them.
    fn follow(&mut self, record: &KernelRecord) {
        let (tgid, at_ns) = (record.who.process, record.boot_ns.cast_unsigned());
        match record.op {
            Op::Fork => self.tree.join(tgid, at_ns),
            // Its fork was lost.
            op if op != Op::Exit && record.who.tag != 0 && self.tree.place(tgid) == Place::Outside => {
                self.tree.join(tgid, procfs::start_ns(tgid).unwrap_or(at_ns));
            }
            Op::Exit => {
                self.tree.take(&Change::Exited { tgid, at_ns, status: None });
                if tgid == self.root {
                    self.call.ended_ns = Some(record.boot_ns);
                }
            }
            _ => {}
        }
    }

    pub(super) fn gap(&mut self, source: &'static str, gap: &Gap) {
        self.finished.gaps += 1;
        if let Lost::Exactly(n) | Lost::AtLeast(n) = gap.lost {
            self.finished.lost += n;
        }
        let event = events::of_gap(&self.call, source, gap);
        self.emit(event);
    }

    /// The source lost something, forks perhaps: whoever of the tree is still there is looked for, and others may be of it.
    fn source_lost(&mut self, gap: &Gap) {
        let Some(beside) = &mut self.beside else { return };
        beside.lost(gap);
        self.judge.exact = false;
        for (_, tgid) in procfs::descendants(std::process::id()) {
            if self.tree.place(tgid) == Place::Outside {
                self.tree.join(tgid, procfs::start_ns(tgid).unwrap_or(0));
            }
        }
    }

    /// Forks were lost: from now on a process that is not known may be one of the tree all the same.
    pub(super) fn lineage_lost(&mut self, changes: &mut Vec<Change>) {
        self.judge.exact = false;
        let now = boot_ns();
        let name = self.rung.lineage.as_ref().map_or("none", |l| l.name());
        let (from_ns, to_ns) = (self.call.started_ns, now);
        self.gap(
            name,
            &Gap { after: None, lost: Lost::AtLeast(1), from_ns, to_ns, cause: GapCause::Overflow },
        );
        for (parent, tgid) in procfs::descendants(std::process::id()) {
            let start_ns = procfs::start_ns(tgid).unwrap_or(0);
            changes.push(Change::Started { parent, tgid, at_ns: now.cast_unsigned(), start_ns });
        }
    }

    /// From then on nobody knows what a source would have told.
    pub(super) fn not_observed(&mut self, source: &'static str, from_ns: i64) {
        let (to_ns, cause) = (boot_ns(), GapCause::NotObserved);
        self.gap(source, &Gap { after: None, lost: Lost::Unknown, from_ns, to_ns, cause });
    }

    /// Tells what the source has to remark.
    pub(super) fn remarks(&mut self) {
        self.finished.remarks = self.rung.source.as_ref().map(|s| s.remarks()).unwrap_or_default();
        for remark in self.finished.remarks.clone() {
            let event = events::of_remark(&self.call, self.source, remark);
            self.emit(event);
        }
    }

    pub(super) fn orphans(&mut self) {
        let running = self.tree.running().into_iter().filter(|tgid| *tgid != self.root);
        let named = running.filter_map(|tgid| {
            let name = std::fs::read_to_string(format!("/proc/{tgid}/comm")).ok()?;
            let state = std::fs::read_to_string(format!("/proc/{tgid}/stat")).ok()?;
            // A process that has ended and waits for its parent runs no more.
            let ended =
                state.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']));
            (!ended).then(|| (tgid, name.trim_end().to_owned()))
        });
        self.finished.orphans = named.collect();
        if !self.finished.orphans.is_empty() {
            let event = events::of_orphans(&self.call, self.source, &self.finished.orphans);
            self.emit(event);
        }
    }

    fn emit(&mut self, event: Event<'static>) {
        let emitted = self.emitter.emit_blocking(event).map(drop);
        match emitted {
            Ok(()) => self.finished.events += 1,
            Err(EmitError::StorageFull(_)) => self.fail("the disk is full".to_owned()),
            Err(e) => self.fail(format!("cannot journal an effect: {e}")),
        }
    }

    pub(super) fn fail(&mut self, why: String) {
        self.finished.failed.get_or_insert(why);
    }
}

fn is_process(op: Op) -> bool {
    matches!(op, Op::Fork | Op::Exec | Op::Exit)
}

/// A status as `wait(2)` gives it, in words.
fn exit_details(status: Option<u32>) -> Value {
    match status {
        None => json!({}),
        Some(status) if status & 0x7F == 0 => json!({ "semj.exit_code": (status >> 8) & 0xFF }),
        Some(status) => json!({ "semj.signal": status & 0x7F }),
    }
}
