//! Proof that the gates can fail: each planted bug is caught by the gate meant for it, and without a bug all pass.
//!
//! `cargo test -p semj-storage --features planted --test planted_bugs -- --nocapture`

#![allow(clippy::indexing_slicing, reason = "helpers of tests are tests")]

mod common;
mod gates;

use gates::{Work, blobs, crash, damage, faults, layers, order};
use semj_storage::backend::{DirectoryRule, FaultClass};
use semj_storage::plant::{Bug, plant};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A gate and its name.
type Gate = (&'static str, fn());

const CRASHES: Gate = ("crash matrix", || crash::workload(DirectoryRule::Strict, 1, Work::Small));
const RECOVERY: Gate = ("cut recoveries", || crash::recovery_may_be_cut_anywhere(Work::Small));
const SEALING: Gate = ("cut sealing", || crash::sealing_may_be_cut_anywhere(Work::Small));
const FORGOTTEN: Gate = ("failed syncs that forget", crash::what_a_failed_sync_forgot_is_written_again);
const SYNCS: Gate =
    ("every sync fails", || faults::each_operation_fails(FaultClass::Sync, faults::SYNCS, Work::Small));
const FLIPS: Gate = ("flipped bytes", || damage::every_flipped_byte_is_found(Work::Small));
const PROOFS: Gate =
    ("flipped bytes without LOCK", || damage::later_blocks_prove_the_ones_before(Work::Small));
const LAYERS: Gate = ("each checksum alone", || layers::each_checksum_stands_alone(Work::Small));
const SWAPS: Gate = ("swapped events", || layers::events_that_changed_places_are_refused(Work::Small));
const CHAIN: Gate = ("changes with checksums made right", || {
    layers::a_change_with_all_checksums_made_right_breaks_the_chain(Work::Small);
});
const ORDER: Gate = ("refusals of the writer", order::only_the_next_block_of_this_epoch_is_accepted);
const BLOBS: Gate = ("blobs and power cuts", blobs::a_blob_is_whole_or_not_there);
const BLOB_FLIPS: Gate = ("flipped bytes of blobs", blobs::every_flipped_byte_of_a_blob_is_found);

const GATES: [Gate; 13] = [
    CRASHES, RECOVERY, SEALING, FORGOTTEN, SYNCS, FLIPS, PROOFS, LAYERS, SWAPS, CHAIN, ORDER, BLOBS,
    BLOB_FLIPS,
];

/// The gate meant for a bug.
fn gate_for(bug: Bug) -> Gate {
    match bug {
        Bug::SkipSync
        | Bug::PublishBeforeSync
        | Bug::DurableThroughAhead
        | Bug::SkipSyncAtRotation
        | Bug::SkipSegmentDirectorySync
        | Bug::SkipEndMarkSync
        | Bug::KeepTornTail
        | Bug::SkipQuarantine
        | Bug::SkipQuarantineSync => CRASHES,
        Bug::SkipRenameDirectorySync | Bug::SkipRewriteSync | Bug::CutBeforeRewrite => RECOVERY,
        Bug::SkipSealSync => SEALING,
        Bug::TrustPageCache => FORGOTTEN,
        Bug::AcknowledgeBeforeSync | Bug::RetryFailedSync => SYNCS,
        Bug::DamageIsTorn => FLIPS,
        Bug::IgnoreDurableThrough => PROOFS,
        Bug::ShortBodyChecksum => LAYERS,
        Bug::EntryChecksumWithoutIndex => SWAPS,
        Bug::SkipChainCheck => CHAIN,
        Bug::SkipEpochCheck => ORDER,
        Bug::SkipBlobSync => BLOBS,
        Bug::SkipBlobHash => BLOB_FLIPS,
        other => panic!("no gate is meant for {}", other.name()),
    }
}

/// Runs a gate; what it says when it fails.
fn run(gate: Gate) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(gate.1)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
        text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
    })
}

/// The beginning of a text, on one line.
fn short(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(160).collect()
}

// One test: a bug is planted in the whole process.
#[test]
fn every_planted_bug_is_caught_by_the_gate_meant_for_it() {
    for gate in GATES {
        let result = run(gate);
        assert_eq!(result, Ok(()), "{} fails without a bug", gate.0);
    }
    // These panics are meant; their traces would bury everything else.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let outcomes: Vec<_> = Bug::STORAGE
        .iter()
        .map(|bug| {
            let gate = gate_for(*bug);
            plant(Some(*bug));
            let result = run(gate);
            plant(None);
            (bug.name(), gate.0, result)
        })
        .collect();
    std::panic::set_hook(usual);
    println!();
    for (bug, gate, result) in &outcomes {
        match result {
            Err(how) => println!("{bug}: caught by {gate}: {}", short(how)),
            Ok(()) => println!("{bug}: NOT CAUGHT by {gate}"),
        }
    }
    let missed: Vec<_> = outcomes.iter().filter(|(.., result)| result.is_ok()).map(|(bug, ..)| bug).collect();
    println!("{} bugs planted, {} caught", outcomes.len(), outcomes.len() - missed.len());
    assert!(missed.is_empty(), "not caught: {missed:?}");
}
