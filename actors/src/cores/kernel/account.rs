//! What is known of one source: its life, how far it is accounted for, and what is missing.

use super::ranges::Ranges;
use semj_storage::log::control::{ResumePoint, Run};
use uuid::Uuid;

/// See the module. Every sequence up to `last_sequence` is a record of the journal, or counted as lost.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Account {
    /// Which boot; nil where unknown.
    pub boot_id: Uuid,
    /// Which life of the source; 0 before the first.
    pub incarnation: u64,
    /// Records of this life.
    pub records: u64,
    /// Highest sequence accounted for.
    pub last_sequence: u64,
    /// Newest boot-time clock of its records, ns.
    pub newest_boot_ns: i64,
    /// Records known to be missing in this life.
    pub lost: u64,
    /// Gaps of unknown length in this life.
    pub unknown_gaps: u64,
    /// The newest missing sequences.
    pub missing: Ranges,
}

impl Account {
    /// As it was committed.
    pub fn of(point: &ResumePoint) -> Self {
        Account {
            boot_id: point.boot_id,
            incarnation: point.incarnation,
            records: point.records,
            last_sequence: point.last_sequence,
            newest_boot_ns: point.newest_boot_ns,
            lost: point.lost,
            unknown_gaps: point.unknown_gaps,
            missing: Ranges::from_pairs(&point.missing),
        }
    }

    /// The control record that commits it, with the place the source is to go on from.
    pub fn point(&self, source: &str, extents: Vec<Run>, resume: Vec<u8>) -> ResumePoint {
        ResumePoint {
            source: source.to_owned(),
            boot_id: self.boot_id,
            incarnation: self.incarnation,
            records: self.records,
            last_sequence: self.last_sequence,
            newest_boot_ns: self.newest_boot_ns,
            lost: self.lost,
            unknown_gaps: self.unknown_gaps,
            missing: self.missing.pairs(),
            extents,
            resume,
        }
    }
}
