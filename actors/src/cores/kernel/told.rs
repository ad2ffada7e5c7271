//! What KernelSync itself has to say of a source: that it looks, that it is complete, that it is behind, that it began anew.

use super::events::{ALERT, STATUS, own};
use super::lag::{Lag, SyncLimits};
use super::triggers::Triggers;
use crate::sources::{Caps, Loss, Pid, ResumeKind, Unavailable};
use semj_storage::event::{Event, Priority, Timestamp};
use semj_storage::log::Account;
use semj_storage::log::control::{CERTIFICATE, COVERAGE, Certificate, ClockAnchor, Coverage};
use serde_json::{Value, json};
use uuid::Uuid;

/// Why a certificate was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// Somebody asked for it.
    SyncNow,
    /// The state of the source was established anew.
    Resync,
    /// Something happened since the last one.
    Period,
}

impl Why {
    /// The reason in one word, as it stands in events.
    pub const fn name(self) -> &'static str {
        match self {
            Why::SyncNow => "sync_now",
            Why::Resync => "resync",
            Why::Period => "period",
        }
    }
}

/// Whether somebody looks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Covered {
    /// The source is open; what it can carry, and what it says that it does not see.
    Watching(Caps, &'static str),
    /// It cannot be had.
    Unavailable(Unavailable),
    /// It failed while it was read.
    Failed(String),
    /// A call of it does not return.
    Hangs,
}

impl Covered {
    /// The state in one word, as it stands in events.
    pub const fn name(&self) -> &'static str {
        match self {
            Covered::Watching(..) => "watching",
            Covered::Unavailable(_) => "unavailable",
            Covered::Failed(_) => "failed",
            Covered::Hangs => "hangs",
        }
    }
}

/// How a source answered when it was asked to look again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rescan {
    /// It looks at its scope; what it finds comes as synthetic records.
    Asked,
    /// It cannot: what was lost stays unknown.
    NotSupported,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told {
    /// Every effect that the source saw up to this moment of this boot is journaled, or counted as lost.
    Certificate {
        /// Why it was written.
        why: Why,
        /// Which boot.
        boot_id: Uuid,
        /// The moment, ns of the boot-time clock.
        complete_ns: i64,
    },
    /// Whether somebody looks has changed.
    Coverage {
        /// How it is now.
        covered: Covered,
        /// How often it changed since it was told last.
        changes: u64,
    },
    /// The state of the source was established anew.
    Resync {
        /// Why.
        reasons: Triggers,
        /// What the source did about it.
        rescan: Rescan,
        /// What the clocks said.
        anchor: ClockAnchor,
    },
    /// It has been behind for too long, or is no longer.
    Lag {
        /// Which of them.
        is_over: bool,
        /// How far.
        lag: Lag,
        /// What was too far.
        limits: SyncLimits,
    },
}

impl Told {
    /// Whether it wants somebody's attention.
    pub fn is_alert(&self) -> bool {
        match self {
            Told::Certificate { .. } | Told::Resync { .. } => false,
            Told::Coverage { covered, .. } => !matches!(covered, Covered::Watching(..)),
            Told::Lag { is_over, .. } => *is_over,
        }
    }

    /// The control record by which readers find it without reading events.
    pub(crate) fn control(&self, source: &str) -> Option<(u16, Vec<u8>)> {
        let source = source.to_owned();
        match self {
            Told::Certificate { boot_id, complete_ns, .. } => {
                let (boot_id, complete_ns) = (*boot_id, *complete_ns);
                Some((CERTIFICATE, Certificate { source, boot_id, complete_ns }.encode()))
            }
            Told::Coverage { covered, .. } => {
                Some((COVERAGE, Coverage { source, state: covered.name().to_owned() }.encode()))
            }
            Told::Resync { .. } | Told::Lag { .. } => None,
        }
    }

    /// Its event; `wall_offset_ns` is wall clock minus boot-time clock. `account` is that before it.
    pub(crate) fn event(&self, source: &str, account: &Account, wall_offset_ns: i64) -> Event<'static> {
        let kind = if self.is_alert() { ALERT } else { STATUS };
        let event = match self {
            Told::Certificate { why, boot_id, complete_ns } => {
                let payload = json!({
                    "semj.source": source,
                    "semj.why": why.name(),
                    "semj.boot_id": boot_id.to_string(),
                    "semj.complete_boot_ns": complete_ns,
                    "semj.source_boot_id": account.boot_id.to_string(),
                    "semj.incarnation": account.incarnation,
                    "semj.last_sequence": account.last_sequence,
                    "semj.records": account.records,
                    "semj.lost": account.lost,
                    "semj.unknown_gaps": account.unknown_gaps,
                });
                let words = format!("all that {source} saw up to here is journaled, or counted as lost");
                own(source, kind, "semj.certificate", words, payload)
                    .time(Timestamp(complete_ns.saturating_add(wall_offset_ns)))
            }
            Told::Coverage { covered, changes } => {
                let (words, mut payload) = coverage(source, covered);
                if let Some(map) = payload.as_object_mut() {
                    map.insert("semj.source".into(), source.into());
                    map.insert("semj.state".into(), covered.name().into());
                    map.insert("semj.changes".into(), (*changes).into());
                }
                own(source, kind, "semj.coverage", words, payload)
            }
            Told::Resync { reasons, rescan, anchor } => {
                let words: Vec<String> =
                    reasons.given().map(|(reason, n)| format!("{} {n}", reason.name())).collect();
                let reasons: serde_json::Map<String, Value> =
                    reasons.given().map(|(reason, n)| (reason.name().to_owned(), n.into())).collect();
                let payload = json!({
                    "semj.source": source,
                    "semj.incarnation": account.incarnation,
                    "semj.reasons": reasons,
                    "semj.rescan": match rescan {
                        Rescan::Asked => "asked",
                        Rescan::NotSupported => "not_supported",
                    },
                    "semj.boot_ns": anchor.boot_ns,
                    "semj.wall_ns": anchor.wall_ns,
                    "semj.error_ns": anchor.error_ns,
                });
                own(
                    source,
                    kind,
                    "semj.resync",
                    format!("{source} begins anew: {}", words.join(", ")),
                    payload,
                )
            }
            Told::Lag { is_over, lag, limits } => {
                let payload = json!({
                    "semj.source": source,
                    "semj.over": is_over,
                    "semj.lag_events": lag.events,
                    "semj.lag_ms": lag.ms,
                    "semj.limit_events": limits.lag_events,
                    "semj.limit_ms": limits.lag_ms,
                });
                let words = match is_over {
                    true => format!("{source} is behind: {} ms, {} records", lag.ms, lag.events.unwrap_or(0)),
                    false => format!("{source} is no longer behind"),
                };
                own(source, kind, "semj.lag", words, payload)
            }
        };
        if self.is_alert() { event.priority(Priority::HIGH) } else { event }
    }
}

fn coverage(source: &str, covered: &Covered) -> (String, Value) {
    match covered {
        Covered::Watching(caps, misses) => {
            let mut blind = blind_spots(caps);
            if !misses.is_empty() {
                blind.push(misses);
            }
            let payload = json!({
                "semj.caps": {
                    "sequence": format!("{:?}", caps.sequence),
                    "loss": format!("{:?}", caps.loss),
                    "pid": format!("{:?}", caps.pid),
                    "result": caps.result,
                    "kernel_time": caps.kernel_time,
                    "merges": caps.merges,
                    "gates": caps.gates,
                    "resume": format!("{:?}", caps.resume),
                },
                "semj.not_observed": blind,
            });
            (format!("{source} is watched"), payload)
        }
        Covered::Unavailable(why) => {
            let payload = json!({
                "semj.need": why.need,
                "semj.errno": why.errno,
                "semj.remedy": why.remedy,
                "semj.fallback": why.fallback,
                "semj.not_observed": ["everything"],
            });
            (format!("nobody watches {source}: {why}"), payload)
        }
        Covered::Failed(why) => (
            format!("nobody watches {source}: {why}"),
            json!({ "semj.cause": why, "semj.not_observed": ["everything"] }),
        ),
        Covered::Hangs => (
            format!("nobody watches {source}: a call of it does not return"),
            json!({ "semj.not_observed": ["everything"] }),
        ),
    }
}

/// What the records of a source with these abilities never tell.
fn blind_spots(caps: &Caps) -> Vec<&'static str> {
    let mut found = Vec::new();
    let mut unless = |has: bool, spot: &'static str| {
        if !has {
            found.push(spot);
        }
    };
    unless(!matches!(caps.pid, Pid::None | Pid::OwnOnly), "which process it was");
    unless(caps.result, "results of calls");
    unless(caps.kernel_time, "when it happened: times are those of reading");
    unless(!caps.merges, "how often: several effects may come as one record");
    unless(caps.loss != Loss::Silent, "that records were lost");
    unless(caps.resume != ResumeKind::None, "what happens while the source is closed");
    found
}
