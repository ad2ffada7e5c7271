//! What can be told of a source: three figures with their units, not one word.

use super::slot::{Slot, State};
use crate::sources::{Caps, Unavailable};
use uuid::Uuid;

/// What a source is doing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Condition {
    /// Attached, not opened yet.
    New,
    /// Open.
    Open,
    /// It cannot be had.
    Unavailable(Unavailable),
    /// It failed while it was read, and is opened anew.
    Failed(String),
    /// A call of it does not return.
    Hangs,
    /// The journal takes nothing any more.
    Ended(String),
}

impl Condition {
    /// Why it is of no use now; `None` while it is open, or about to be.
    pub fn cause(&self) -> Option<String> {
        match self {
            Condition::New | Condition::Open => None,
            Condition::Unavailable(why) => Some(why.to_string()),
            Condition::Failed(why) | Condition::Ended(why) => Some(why.clone()),
            Condition::Hangs => Some("a call of the source does not return".into()),
        }
    }
}

/// The state of a source.
#[derive(Clone, PartialEq, Debug)]
pub struct SourceStatus {
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub condition: Condition,
    /// What its records can carry, once it was open.
    pub caps: Option<Caps>,
    /// Which boot its sequences belong to; nil where unknown.
    pub boot_id: Uuid,
    /// Which life of it.
    pub incarnation: u64,
    /// Records journaled in this life.
    pub records: u64,
    /// Every sequence up to this one is journaled, or counted as lost.
    pub last_sequence: u64,
    /// Records that exist in the source and are not accounted for yet; `None` where it does not say.
    pub lag_events: Option<u64>,
    /// Age of the newest journaled record, ms; 0 when nothing is behind.
    pub lag_ms: u64,
    /// Records of this life known to be missing.
    pub lost: u64,
    /// Gaps of this life of unknown length.
    pub unknown_gaps: u64,
    /// Change of wall clock against boot-time clock between the last two anchors, ns.
    pub clock_drift_ns: i64,
    /// How exact that is, ns.
    pub clock_drift_error_ns: u64,
    /// Records that came again since opening, and were dropped.
    pub duplicates: u64,
    /// Records that came after they had been counted as missing.
    pub late: u64,
    /// How often its state was established anew: gap, new life, step of the clock.
    pub resyncs: u64,
    /// How often it was opened.
    pub opened: u64,
}

impl SourceStatus {
    pub(crate) fn of(slot: &Slot, now_boot_ns: i64) -> Self {
        let state: &State = &slot.state.lock();
        let account = state.account.clone().unwrap_or_default();
        let lag_events = state.newest_sequence.map(|n| n.saturating_sub(account.last_sequence));
        let age = now_boot_ns.saturating_sub(account.newest_boot_ns);
        let is_behind = lag_events.is_some_and(|n| n > 0) || !state.inbox.is_empty();
        SourceStatus {
            name: slot.name.clone(),
            condition: state.condition.clone(),
            caps: state.caps,
            boot_id: account.boot_id,
            incarnation: account.incarnation,
            records: account.records,
            last_sequence: account.last_sequence,
            lag_events,
            lag_ms: if is_behind { u64::try_from(age / 1_000_000).unwrap_or(0) } else { 0 },
            lost: account.lost,
            unknown_gaps: account.unknown_gaps,
            clock_drift_ns: state.counts.drift_ns,
            clock_drift_error_ns: state.counts.drift_error_ns,
            duplicates: state.counts.duplicates,
            late: state.counts.late,
            resyncs: state.counts.resyncs,
            opened: state.opened,
        }
    }
}
