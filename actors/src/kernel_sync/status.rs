//! What can be told of a source: three figures with their units, not one word.

use super::slot::{Slot, State};
use crate::clock::Clock;
use crate::sources::{Caps, Unavailable};
use std::time::Duration;
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
    /// Age of the newest journaled record, ms; 0 when nothing is behind. Where its records have the clock of another
    /// machine or boot: for how long something was behind.
    pub lag_ms: u64,
    /// It is told to be behind: more than the limits allow, for as long as they say.
    pub is_behind: bool,
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
    /// How often its state was established anew: gap, new life, step of the clock, lag.
    pub resyncs: u64,
    /// Up to this moment of this boot the journal is complete, ns of the boot-time clock: the newest certificate.
    pub complete_boot_ns: Option<i64>,
    /// Certificates written since opening.
    pub certificates: u64,
    /// Alerts written since opening.
    pub alerts: u64,
    /// What was told of whether somebody looks: `watching`, `unavailable`, `failed`, `hangs`; empty before the first.
    pub coverage: &'static str,
    /// How long the last `sync_now` took.
    pub sync_now: Option<Duration>,
    /// How often it was opened.
    pub opened: u64,
    /// How often its figures were looked at: once a period.
    pub looks: u64,
}

impl SourceStatus {
    pub(crate) fn of(slot: &Slot, clock: &dyn Clock) -> Self {
        let state: &State = &slot.state.lock();
        let account = state.account.clone().unwrap_or_default();
        let lag = state.lag(clock.boot_ns(), &clock.boot_id());
        SourceStatus {
            name: slot.name.clone(),
            condition: state.condition.clone(),
            caps: state.caps,
            boot_id: account.boot_id,
            incarnation: account.incarnation,
            records: account.records,
            last_sequence: account.last_sequence,
            lag_events: lag.events,
            lag_ms: lag.ms,
            is_behind: state.is_lag_told,
            lost: account.lost,
            unknown_gaps: account.unknown_gaps,
            clock_drift_ns: state.counts.drift_ns,
            clock_drift_error_ns: state.counts.drift_error_ns,
            duplicates: state.counts.duplicates,
            late: state.counts.late,
            resyncs: state.counts.resyncs,
            complete_boot_ns: state.certificate.map(|(complete, _)| complete),
            certificates: state.certificates,
            alerts: state.alerts,
            coverage: state.covered.map_or("", |(state, _)| state),
            sync_now: state.sync_now,
            opened: state.opened,
            looks: state.looks,
        }
    }
}
