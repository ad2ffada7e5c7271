//! The decoders of kernel records under random changes of whole inputs: what the fuzz targets check, a bounded number of
//! times. `SEMJ_SEED=7` makes a run happen again, `SEMJ_WORK=10` makes it ten times as long.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../fuzz/src/lib.rs"]
#[allow(dead_code, missing_docs, unreachable_pub)]
mod checks;
mod common;

use common::Random;
use semj::kernel::{Block, JournalHeader, Record, StoreBlock, Stream, UserspaceHeader, encode_block};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

const ROUNDS: u64 = 300;

/// Our own inputs, and the golden vectors where they are.
fn inputs() -> Vec<Vec<u8>> {
    let mut all = checks::seeds::all();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/kernel/vectors");
    match std::fs::read_dir(&folder) {
        Ok(files) => {
            let mut paths: Vec<_> = files.map(|f| f.unwrap().path()).collect();
            paths.sort();
            all.extend(
                paths
                    .iter()
                    .filter(|p| p.extension().is_some_and(|e| e == "bin"))
                    .map(|p| std::fs::read(p).unwrap()),
            );
        }
        Err(_) => eprintln!("skipped: no vectors at {}", folder.display()),
    }
    all
}

/// Sizes, counts and versions stand at these places of records, blocks and heads.
const PLACES: [usize; 16] = [0, 4, 8, 16, 20, 24, 28, 32, 36, 48, 52, 64, 68, 72, 76, 96];

fn mutate(random: &mut Random, input: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(4) {
        let length = bytes.len() as u64;
        let at = random.below(length + 1) as usize;
        match random.below(6) {
            0 if length > 0 => bytes[random.below(length) as usize] ^= 1 << random.below(8),
            1 => bytes.truncate(at),
            2 => bytes = [&bytes[..at], &other[random.below(other.len() as u64 + 1) as usize..]].concat(),
            3 => drop(bytes.drain(at..(at + random.below(200) as usize).min(bytes.len()))),
            4 => drop(bytes.splice(at..at, (0..random.below(40)).map(|n| n as u8))),
            _ => {
                let hostile = [0, 1, 5_280, 5_412, 65_536, 65_537, 1 << 31, u32::MAX, random.next() as u32];
                let value = hostile[random.below(hostile.len() as u64) as usize];
                let at = PLACES[random.below(PLACES.len() as u64) as usize];
                if let Some(place) = bytes.get_mut(at..at + 4) {
                    place.copy_from_slice(&value.to_le_bytes());
                }
            }
        }
    }
    bytes
}

#[test]
fn whatever_is_changed_the_decoders_refuse_it_or_give_it_back() {
    let mut random = Random::new();
    let inputs = inputs();
    let work: u64 = std::env::var("SEMJ_WORK").map_or(1, |w| w.parse().unwrap());
    for round in 0..ROUNDS * work {
        let any = |random: &mut Random| &inputs[random.below(inputs.len() as u64) as usize];
        let (input, other) = (any(&mut random), any(&mut random));
        let bytes = mutate(&mut random, input, other);
        for (name, check) in [
            ("record", checks::record::check as fn(&[u8])),
            ("stream", checks::stream::check),
            ("blocks", checks::blocks::check),
            ("event", checks::event::check),
        ] {
            if catch_unwind(AssertUnwindSafe(|| check(&bytes))).is_err() {
                let file = std::env::temp_dir().join(format!("semj-{name}-{}.bin", std::process::id()));
                std::fs::write(&file, &bytes).unwrap();
                panic!("round {round}: {name}: `fuzz/run {name} {}` runs it alone", file.display());
            }
        }
    }
}

#[test]
fn inputs_that_are_not_changed_pass_every_check() {
    for bytes in inputs() {
        checks::record::check(&bytes);
        checks::stream::check(&bytes);
        checks::blocks::check(&bytes);
        checks::event::check(&bytes);
    }
}

/// What a call allocates at most, in bytes.
fn allocated(call: impl FnOnce() -> bool) -> u64 {
    let mut is_refused = false;
    let info = allocation_counter::measure(|| is_refused = call());
    assert!(is_refused);
    info.bytes_max
}

#[test]
fn a_size_that_lies_allocates_nothing() {
    let record = Record::default().to_bytes().unwrap();
    let mut block = Vec::new();
    encode_block(1, &record, &mut block).unwrap();
    let mut page = vec![0u8; 4_096];
    page[..8].copy_from_slice(b"ROTS\x01\0\0\0");
    for value in [65_537, 1 << 24, 1 << 31, u32::MAX - 5_411, u32::MAX] {
        let with = |bytes: &[u8], at: usize| {
            let mut bytes = bytes.to_vec();
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            bytes
        };
        for at in [64, 68, 72, 76, 80, 96] {
            let bytes = with(&record, at);
            assert_eq!(allocated(|| Record::decode(&bytes).is_err()), 0, "record: {value} at {at}");
            let stream =
                allocated(|| Stream::open(&bytes).is_ok_and(|s| s.last().is_some_and(|r| r.is_err())));
            assert_eq!(stream, 0, "stream: {value} at {at}");
        }
        for at in [16, 28, 32] {
            let bytes = with(&block, at);
            assert_eq!(allocated(|| Block::decode(&bytes).is_err()), 0, "block A: {value} at {at}");
        }
        for at in [16, 20] {
            let bytes = with(&page, at);
            assert_eq!(allocated(|| StoreBlock::decode(&bytes).is_err()), 0, "block B: {value} at {at}");
        }
        for at in [12, 28] {
            let head = [&with(&UserspaceHeader::new(1, 2, 3).encode(), at)[..], &record].concat();
            assert_eq!(allocated(|| UserspaceHeader::decode(&head).is_err()), 0);
            // A head that is true to itself promises more than there is: it is not believed.
            let head = JournalHeader::new(value.into(), 2, u64::MAX).encode();
            let bytes = [&head[..], &record].concat();
            assert_eq!(allocated(|| Stream::open(&bytes).is_ok_and(|s| s.count() == 1)), 0);
        }
    }
}
