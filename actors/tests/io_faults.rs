//! Every write, sync, read and change of names of a run fails once, or from then on, beneath the real actors: no panic,
//! no wait without an end, nothing acknowledged that is not there after opening again.
//!
//! `cargo test -p semj-actors --test io_faults`; `SEMJ_WORK=4` tries every operation where usually one in so many is
//! tried, `SEMJ_SEED` repeats the power cuts of a run.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use common::faulty::{Run, SEGMENT_BYTES, no_panics, origin, settled};
use semj_storage::backend::{DirectoryRule, Fault, FaultClass};

/// What a fault is called, and how it is made.
type Named = (&'static str, fn(Fault) -> Fault);

const WRITES: &[Named] = &[
    ("EIO", |f| f),
    ("EIO short", |f| f.short()),
    ("EIO for good", |f| f.forever()),
    ("ENOSPC short", |f| f.full().short()),
    ("ENOSPC until there is room", |f| f.full().forever()),
];
const SYNCS: &[Named] = &[
    ("EIO", |f| f),
    ("EIO, forgotten", |f| f.forget()),
    ("ENOSPC, forgotten", |f| f.full().forget()),
    ("EIO for good", |f| f.forget().forever()),
];
const READS: &[Named] = &[("EIO", |f| f), ("EIO short", |f| f.short()), ("EIO for good", |f| f.forever())];
const OTHERS: &[Named] =
    &[("EIO", |f| f), ("ENOSPC", |f| f.full()), ("ENOSPC until there is room", |f| f.full().forever())];

/// Of how many operations one is tried; `SEMJ_WORK` makes it fewer.
fn stride(usual: u64) -> u64 {
    let work: u64 = std::env::var("SEMJ_WORK").ok().map_or(1, |n| n.parse().unwrap());
    (usual / work).max(1)
}

fn each_operation_fails(class: FaultClass, faults: &[Named], usual: u64) {
    let seed: u64 = std::env::var("SEMJ_SEED").ok().map_or(17, |s| s.parse().unwrap());
    let stride = stride(usual);
    let panics = no_panics();
    let (mut struck, mut ended, mut waited, mut images) = (0, 0, 0, 0);
    for rule in [DirectoryRule::Strict, DirectoryRule::Journal] {
        let (origin, model) = origin(rule);
        for (number, (name, shape)) in faults.iter().enumerate() {
            // Other shapes meet other operations.
            for nth in (1 + (seed + number as u64) % stride..).step_by(stride as usize) {
                let context = format!("SEMJ_SEED={seed}, {rule:?}, {class:?} {nth} {name}");
                let disk = origin.kill_image();
                disk.fail(shape(Fault::on(class).nth(nth)));
                let mut run = Run::new(&disk, model.clone(), &context);
                run.live();
                if disk.faults_struck() == 0 {
                    assert!(run.error.is_none(), "{context}: {:?}", run.error);
                    break;
                }
                struck += 1;
                ended += u64::from(run.error.is_some());
                waited += u64::from(run.full > 0);
                disk.clear_faults();
                images += settled(&disk, &run.model, seed + nth, &context);
                assert_eq!(*panics.lock(), Vec::<String>::new(), "{context}");
            }
        }
    }
    println!(
        "{class:?}: {struck} faults, {ended} runs ended by them, {waited} waited for room, {images} images"
    );
    // Threads are at work: whether a run comes to an operation that is rare, say a removal, is a matter of timing.
    assert!(struck > 0 && SEGMENT_BYTES > 0, "no operation of this kind");
}

#[test]
fn every_write_fails() {
    each_operation_fails(FaultClass::Write, WRITES, 4);
}

#[test]
fn every_sync_fails() {
    each_operation_fails(FaultClass::Sync, SYNCS, 2);
}

#[test]
fn every_read_fails() {
    each_operation_fails(FaultClass::Read, READS, 8);
}

#[test]
fn every_cut_fails() {
    each_operation_fails(FaultClass::Truncate, OTHERS, 1);
}

#[test]
fn every_opening_of_a_file_fails() {
    each_operation_fails(FaultClass::Open, OTHERS, 4);
}

#[test]
fn every_renaming_and_removal_fails() {
    each_operation_fails(FaultClass::Rename, OTHERS, 1);
    each_operation_fails(FaultClass::Remove, OTHERS, 1);
}

#[test]
fn every_sync_of_a_folder_fails() {
    each_operation_fails(FaultClass::SyncDir, OTHERS, 1);
}
