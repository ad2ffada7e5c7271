//! Planted bugs: each one is a mechanism taken away, so that a test can show that the gate meant for it notices.
//!
//! Without the feature `planted` no bug can be planted and none of this costs anything. Never build a release with it.

/// Makes the bugs and the lists of them: one line of documentation and one name each.
macro_rules! bugs {
    (
        storage { $($(#[$of_storage:meta])* $storage:ident,)* }
        actors { $($(#[$of_actors:meta])* $actors:ident,)* }
    ) => {
        /// A mechanism that can be taken away.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[non_exhaustive]
        pub enum Bug {
            $($(#[$of_storage])* $storage,)*
            $($(#[$of_actors])* $actors,)*
        }

        impl Bug {
            /// All bugs.
            pub const ALL: &[Bug] = &[$(Bug::$storage,)* $(Bug::$actors,)*];
            /// Those of this package.
            pub const STORAGE: &[Bug] = &[$(Bug::$storage,)*];
            /// Those of the actors.
            pub const ACTORS: &[Bug] = &[$(Bug::$actors,)*];

            /// Its name, as in the sources.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Bug::$storage => stringify!($storage),)*
                    $(Bug::$actors => stringify!($actors),)*
                }
            }
        }
    };
}

bugs! {
    storage {
        /// A segment is never synced.
        SkipSync,
        /// Events count as durable before the sync.
        AcknowledgeBeforeSync,
        /// LOCK tells the new watermark before the sync.
        PublishBeforeSync,
        /// A block's header tells that all written before it is durable.
        DurableThroughAhead,
        /// A full segment is left without a sync.
        SkipSyncAtRotation,
        /// The folder is not synced after a segment was created.
        SkipSegmentDirectorySync,
        /// A failed sync is tried again, and the second answer is believed.
        RetryFailedSync,
        /// An append is accepted whatever its epoch.
        SkipEpochCheck,
        /// Closing does not sync its end mark.
        SkipEndMarkSync,
        /// The checksum of a block's body leaves out its last bytes, in writing and in reading.
        ShortBodyChecksum,
        /// The checksum of an entry does not cover its index.
        EntryChecksumWithoutIndex,
        /// A body is not checked against the hash chain.
        SkipChainCheck,
        /// Blocks that nothing proves are kept without a look at their bodies.
        KeepTornTail,
        /// Damage is taken for a torn tail whatever proves the contrary.
        DamageIsTorn,
        /// `durable_through` of later blocks proves nothing.
        IgnoreDurableThrough,
        /// Recovery believes the page cache: unproven blocks are not written again.
        TrustPageCache,
        /// Recovery does not sync the folder after it renamed the rewritten segment.
        SkipRenameDirectorySync,
        /// Recovery does not sync the rewritten segment before it gets its name.
        SkipRewriteSync,
        /// Recovery cuts the old segment before the rewritten one is in place.
        CutBeforeRewrite,
        /// Recovery cuts torn bytes without setting them aside.
        SkipQuarantine,
        /// What is set aside is not synced.
        SkipQuarantineSync,
        /// A segment's totals tell that it is sealed before the seal is synced.
        SkipSealSync,
        /// A blob gets its name before its content is synced.
        SkipBlobSync,
        /// A blob's hash is not compared when it is read.
        SkipBlobHash,
    }
    actors {
        /// Events leave the ledger before they are committed.
        ReleaseBeforeCommit,
        /// The watermark passes a batch before its sync.
        AcknowledgeEarly,
        /// Batches of a run that is over are taken for those of the run that is on.
        IgnoreRun,
        /// A commit does not show that it is inside a call on the record.
        SkipDiskZone,
        /// A run goes on behind what is admitted instead of what is written.
        ResumeBehindLost,
        /// A run inherits the count of batches under way.
        KeepInFlight,
        /// What a restart syncs is not published.
        SkipPublishAtRestart,
        /// A segment that a crashed append began is not made known to readers.
        SegmentUnknown,
        /// An incarnation that comes back after it was replaced goes on.
        LateIncarnationActs,
        /// A new ingest does not take note of a ring that died with the last one.
        ForgetRearm,
        /// Of a batch that is halved the second half is passed over.
        HalvingDropsRest,
        /// A batch is halved inside a group.
        HalvingSplitsGroups,
        /// A batch that crashes is refused as a whole, at once.
        RefuseWithoutHalving,
        /// A refused event is stored as if nothing were the matter.
        PillWithoutTombstone,
        /// Who waits for a refused event is not told.
        RefuseWithoutNotice,
        /// The id of a refused event stays taken.
        RefusedIdStaysTaken,
        /// A refusal is noted only behind the sync of its tombstone.
        RefusalNotedLate,
        /// A refusal is not made an event of.
        RefuseSilently,
        /// A batch that finds no room is dropped.
        DropHeldOnFull,
        /// A persister that crashed while the disk was full leaves emission closed.
        StayFullAfterCrash,
        /// A failure does not wake the tasks that wait.
        FailWithoutWaking,
        /// What is shed is not counted.
        ShedSilently,
        /// The trees take in what is not durable.
        TreesAheadOfCommit,
    }
}

/// Whether this bug is planted.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn planted(_: Bug) -> bool {
    false
}

/// Does what `step` does, but nothing when this bug is planted.
#[inline(always)]
pub(crate) fn unless<T: Default, E>(bug: Bug, step: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    if planted(bug) { Ok(T::default()) } else { step() }
}

#[cfg(feature = "planted")]
pub use switch::{plant, planted};

#[cfg(feature = "planted")]
mod switch {
    use super::Bug;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// The planted bug's number plus one; 0 is none.
    static PLANTED: AtomicUsize = AtomicUsize::new(0);

    /// Plants one bug in the whole process in place of the one before, or takes it away.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.store(bug.map_or(0, |bug| bug as usize + 1), Ordering::SeqCst);
    }

    /// Whether this bug is planted.
    #[inline(always)]
    pub fn planted(bug: Bug) -> bool {
        PLANTED.load(Ordering::SeqCst) == bug as usize + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_the_order_of_the_numbers() {
        for (number, bug) in Bug::ALL.iter().enumerate() {
            assert_eq!(*bug as usize, number, "{}", bug.name());
        }
        assert_eq!(Bug::ALL.len(), Bug::STORAGE.len() + Bug::ACTORS.len());
        assert_eq!(Bug::SkipSync.name(), "SkipSync");
    }
}
