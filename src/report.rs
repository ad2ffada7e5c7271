//! What status and verification tell.

use semj_actors::EngineStatus;
use semj_actors::clock::{Clock as _, SystemClock};
use semj_actors::ledger::Gate;
use semj_actors::supervision::Role;
use semj_storage::event::Timestamp;
use semj_storage::log::control::Certificate;
use semj_storage::log::{LockInfo, OwnerState};
use semj_storage::verify::VerifyReport;
use std::path::Path;

/// How long ago a certificate's moment was, ms; `None` where it was another boot.
pub fn age_ms(certificate: &Certificate) -> Option<u64> {
    let clock = SystemClock::new();
    let age = clock.boot_ns().saturating_sub(certificate.complete_ns) / 1_000_000;
    (clock.boot_id() == certificate.boot_id).then(|| u64::try_from(age).unwrap_or(0))
}

/// Who has the journal open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// The process.
    pub pid: u32,
    /// Since when.
    pub since: Timestamp,
}

/// How far everything is.
#[derive(Clone, Debug)]
pub struct Status {
    /// Events that are durable and were not removed.
    pub events: u64,
    /// The first of them; 0 when there is none.
    pub first_sequence: u64,
    /// The last of them; 0 when there is none.
    pub durable_sequence: u64,
    /// How far the trees are.
    pub indexed_sequence: u64,
    /// Size of the record on disk.
    pub bytes: u64,
    /// Number of segments.
    pub segments: u64,
    /// `open`, `idle`, `degraded`, `stalled`, `full` or `poisoned`.
    pub state: &'static str,
    /// Who has it open, if anybody.
    pub owner: Option<Owner>,
    /// What the owner went through since it opened the journal.
    pub health: Health,
    /// What only the owner itself knows.
    pub engine: Option<EngineStatus>,
}

/// What the owner went through since it opened the journal.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Health {
    /// Restarts of each actor that had any.
    pub restarts: Vec<(&'static str, u64)>,
    /// Threads that hang and were left behind.
    pub left_behind: u64,
    /// Events refused because they crashed the engine: tombstones have their places.
    pub refused: u64,
}

impl Health {
    pub(crate) fn of_engine(engine: &EngineStatus) -> Self {
        let restarts = engine.restarts.iter().filter(|(_, n)| *n > 0).copied().collect();
        Health { restarts, left_behind: engine.left_behind, refused: engine.refused }
    }

    pub(crate) fn of_lock(lock: &LockInfo) -> Self {
        let health = &lock.health;
        let told = Role::ALL.iter().zip(health.restarts).filter(|(_, n)| *n > 0);
        Health {
            restarts: told.map(|(role, n)| (role.name(), u64::from(n))).collect(),
            left_behind: health.left_behind.into(),
            refused: health.refused.into(),
        }
    }
}

/// The result of a check.
#[derive(Clone, Debug)]
pub struct Verification {
    /// What was found in the record.
    pub record: VerifyReport,
    /// `ok`, `stale` or `missing`: the trees, which can always be made again.
    pub trees: &'static str,
}

/// Number and size of the files in a folder.
pub(crate) fn measure(folder: &Path) -> (u64, u64) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let lengths = entries.filter(|e| e.path().extension().is_some_and(|x| x == "semj"));
    lengths.filter_map(|e| e.metadata().ok()).fold((0, 0), |(n, bytes), m| (n + 1, bytes + m.len()))
}

pub(crate) fn state_of(engine: &EngineStatus) -> &'static str {
    let degraded = !engine.damage.is_empty() || !engine.lost_functions.is_empty();
    match &engine.gate {
        Gate::Poisoned(_) => "poisoned",
        Gate::StorageFull => "full",
        Gate::Closed => "idle",
        Gate::Open if engine.stalled.is_some() => "stalled",
        Gate::Open if degraded => "degraded",
        Gate::Open => "open",
    }
}

pub(crate) fn state_of_owner(state: OwnerState) -> &'static str {
    match state {
        OwnerState::Open | OwnerState::Closed => "open",
        OwnerState::Degraded => "degraded",
        OwnerState::Stalled => "stalled",
        OwnerState::Full => "full",
        OwnerState::Poisoned => "poisoned",
    }
}
