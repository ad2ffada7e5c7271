//! Who is supervised, and what is done about each.

use super::policy::{Escalation, RestartPolicy, Strategy};

/// Which actor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// Cuts chunks from the ledger and resolves causes.
    Ingest,
    /// Packs batches.
    Batcher,
    /// Writes and syncs.
    Persister,
    /// Keeps the trees.
    Indexer,
    /// Reads kernel sources.
    KernelSync,
}

/// The threads that actors share.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LaneName {
    /// Ingest and Batcher.
    Control,
    /// Persister, alone: its calls block.
    Persist,
    /// Indexer.
    Derive,
    /// KernelSync, alone: a source may be slow. The lane is there once a source is attached.
    Sync,
}

impl LaneName {
    /// All lanes, in the order in which they are stopped.
    pub const ALL: [LaneName; 4] = [LaneName::Control, LaneName::Persist, LaneName::Derive, LaneName::Sync];

    /// The name of its thread.
    pub const fn thread(self) -> &'static str {
        match self {
            LaneName::Control => "semj-control",
            LaneName::Persist => "semj-persist",
            LaneName::Derive => "semj-derive",
            LaneName::Sync => "semj-sync",
        }
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

impl Role {
    /// All roles in the order of the flow: what a role gives work to stands behind it.
    pub const ALL: [Role; 5] =
        [Role::Ingest, Role::Batcher, Role::Persister, Role::Indexer, Role::KernelSync];

    /// The role's name in messages and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Ingest => "ingest",
            Role::Batcher => "batcher",
            Role::Persister => "persister",
            Role::Indexer => "indexer",
            Role::KernelSync => "kernel_sync",
        }
    }

    /// The role with this name.
    pub fn parse(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|r| r.name() == name)
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    /// The lane it runs on.
    pub const fn lane(self) -> LaneName {
        match self {
            Role::Ingest | Role::Batcher => LaneName::Control,
            Role::Persister => LaneName::Persist,
            Role::Indexer => LaneName::Derive,
            Role::KernelSync => LaneName::Sync,
        }
    }

    /// When it is restarted. All are permanent: a journal that is open needs each of them.
    pub const fn restart_policy(self) -> RestartPolicy {
        RestartPolicy::Permanent
    }

    /// Who is restarted with it. What follows the persister reads its cursor again; the others stand alone.
    pub const fn strategy(self) -> Strategy {
        match self {
            Role::Persister => Strategy::RestForOne,
            Role::Ingest | Role::Batcher | Role::Indexer | Role::KernelSync => Strategy::OneForOne,
        }
    }

    /// What becomes of the journal when its restarts are exhausted.
    pub const fn escalation(self) -> Escalation {
        match self {
            Role::Ingest | Role::Batcher | Role::Persister => Escalation::Poison,
            Role::Indexer | Role::KernelSync => Escalation::Degrade,
        }
    }
}
