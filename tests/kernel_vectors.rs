//! The kernel's bytes against golden vectors, and against records put together by hand.
//!
//! The vectors are not part of the repository; without them that test says so and passes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests are tests")]

use semj_storage::event::Event;
use semj_storage::kernel::{
    Instance, JournalHeader, Kind, Record, StoreBlock, Stream, UserspaceHeader, bytes_of, checksum,
    encode_block, event_of, restore, show,
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

struct Vector {
    name: String,
    kind: Kind,
    bytes: Vec<u8>,
    json: Value,
}

fn vectors() -> Option<Vec<Vector>> {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/kernel/vectors");
    let Ok(index) = std::fs::read(folder.join("index.json")) else {
        eprintln!("skipped: no vectors at {}", folder.display());
        return None;
    };
    let index: Vec<Value> = serde_json::from_slice(&index).unwrap();
    let all = index.iter().map(|entry| {
        let name = entry["name"].as_str().unwrap().to_owned();
        let json: Value =
            serde_json::from_slice(&std::fs::read(folder.join(format!("{name}.json"))).unwrap()).unwrap();
        let kind = Kind::ALL.into_iter().find(|k| json["kind"] == k.name()).unwrap();
        Vector { bytes: std::fs::read(folder.join(format!("{name}.bin"))).unwrap(), name, kind, json }
    });
    Some(all.collect())
}

#[test]
fn whole_vectors_decode_to_their_objects_and_encode_to_their_bytes() {
    let Some(vectors) = vectors() else { return };
    let mut whole = 0;
    for v in vectors.iter().filter(|v| v.json["expect"] == "ok") {
        assert_eq!(Kind::guess(&v.bytes), v.kind, "{}", v.name);
        let (text, used) = show(v.kind, &v.bytes, false, false).unwrap_or_else(|e| panic!("{}: {e}", v.name));
        let shown: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&shown, used), (&v.json["decoded"], v.bytes.len()), "{}", v.name);
        let (full, _) = show(v.kind, &v.bytes, true, true).unwrap();
        let back = bytes_of(&serde_json::from_str(&full).unwrap());
        match v.kind {
            // What is only looked at has its own test below.
            Kind::BlockB => assert!(back.is_err()),
            _ => assert!(back.unwrap() == v.bytes, "{}", v.name),
        }
        // The object of the vector itself, where it names everything.
        let object = &v.json["decoded"];
        let is_short = object.get("links_first_last").is_some()
            || ["payload", "metadata"].iter().any(|k| object[*k]["len"].as_u64() > Some(256));
        if matches!(v.kind, Kind::Event | Kind::Link) && !is_short {
            assert!(bytes_of(object).unwrap() == v.bytes, "{}", v.name);
        }
        whole += 1;
    }
    assert!(whole >= 27, "{whole}");
}

#[test]
fn corrupted_vectors_are_refused_for_their_reason() {
    let Some(vectors) = vectors() else { return };
    let mut refused = 0;
    for v in vectors.iter().filter(|v| v.json["expect"] == "reject") {
        let why = show(v.kind, &v.bytes, false, false).unwrap_err();
        assert_eq!(why.name(), v.json["reject"].as_str().unwrap(), "{}: {why}", v.name);
        // Without a word about the kind the answer is the same, but for a magic number that is no such number at all.
        let guessed = show(Kind::guess(&v.bytes), &v.bytes, false, false).unwrap_err();
        assert_eq!(guessed.name(), why.name(), "{}", v.name);
        refused += 1;
    }
    assert!(refused >= 30, "{refused}");
}

#[test]
fn every_whole_event_comes_back_through_an_event_of_the_journal() {
    let Some(vectors) = vectors() else { return };
    let instance = Instance::named("vectors");
    for v in vectors.iter().filter(|v| v.kind == Kind::Event && v.json["expect"] == "ok") {
        let event = event_of(&v.bytes, &instance).unwrap();
        event.check_limits().unwrap();
        let mut out = Vec::new();
        restore(&event, event.given_id().unwrap(), &[], &mut out).unwrap_or_else(|| panic!("{}", v.name));
        assert!(out == v.bytes, "{}", v.name);
        // What the kernel's producers write is reproduced by the fields alone, but for what they cut.
        let by_other_means = ["ev_agent_overlong_id", "ev_full_context_binary_payload", "ev_max_payload"];
        if v.json["source"] == "kernel_function" && !by_other_means.contains(&v.name.as_str()) {
            let kept = event.metadata_json().unwrap().value();
            let kept: Vec<_> = kept.as_object().unwrap().keys().map(String::as_str).collect();
            let expected = ["boot", "checksum", "event_id", "global_sequence", "ktime", "sequence"];
            assert_eq!(kept, expected.map(|k| format!("semj.kernel.{k}")), "{}", v.name);
        }
    }
}

#[test]
fn block_vectors_are_made_again_of_their_records() {
    let Some(vectors) = vectors() else { return };
    for v in vectors.iter().filter(|v| v.json["expect"] == "ok") {
        match v.kind {
            Kind::BlockA => {
                let records: Vec<u8> =
                    Stream::open(&v.bytes).unwrap().flat_map(|r| r.unwrap().to_vec()).collect();
                let mut out = Vec::new();
                encode_block(v.json["decoded"]["block"]["block_id"].as_u64().unwrap(), &records, &mut out)
                    .unwrap();
                assert!(out == v.bytes, "{}", v.name);
            }
            Kind::BlockB => {
                let block = StoreBlock::decode(&v.bytes).unwrap();
                let mut out = block.header.to_bytes().to_vec();
                for (entry, _) in &block.entries {
                    out.extend(entry.to_bytes());
                }
                out.resize(1608, 0);
                for (_, data) in &block.entries {
                    out.extend_from_slice(data);
                }
                out.resize(4096, 0);
                assert!(out == v.bytes, "{}", v.name);
            }
            _ => {}
        }
    }
}

/// A record put together byte by byte, by the tables of the format alone.
fn by_hand() -> Vec<u8> {
    let mut bytes = vec![0u8; 5412 + 4 + 2 + 160];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &7u64.to_le_bytes());
    put(8, &0x0402u32.to_le_bytes());
    put(16, &(-5i64).to_le_bytes());
    put(24, &3u64.to_le_bytes());
    put(36, &42u32.to_le_bytes());
    put(56, &0x8000_0008u32.to_le_bytes());
    put(60, &9u32.to_le_bytes());
    put(64, &5578u32.to_le_bytes());
    put(68, &5280u32.to_le_bytes());
    put(72, &4u32.to_le_bytes());
    put(76, &2u32.to_le_bytes());
    put(80, &1u32.to_le_bytes());
    put(96, &1u32.to_le_bytes());
    put(100, &6u64.to_le_bytes());
    put(132 + 24, b"/a\0hidden");
    put(132 + 4168, &[b'i'; 64]);
    put(132 + 5276, &200u32.to_le_bytes());
    put(5412, b"\xFF\x00ab");
    put(5416, b"{}");
    put(5418, &6u64.to_le_bytes());
    put(5418 + 8, &7u64.to_le_bytes());
    put(5418 + 20, &90u32.to_le_bytes());
    put(5418 + 32, "причина".as_bytes());
    // The reference: one bit at a time, started at 0 and not inverted.
    let crc = bytes.iter().fold(0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { c >> 1 ^ 0xEDB8_8320 } else { c >> 1 })
    });
    assert_eq!(checksum(&bytes), crc);
    bytes[84..88].copy_from_slice(&crc.to_le_bytes());
    bytes
}

#[test]
fn a_record_made_by_hand_is_read_as_it_was_meant() {
    let bytes = by_hand();
    assert_eq!(bytes[84..88], 0x8022_E7BDu32.to_le_bytes());
    let (record, used) = Record::decode(&bytes).unwrap();
    assert_eq!((used, record.header.event_id, record.header.ktime), (5578, 7, -5));
    assert_eq!((record.header.parent_event_id, record.header.event_flags), (6, 0x8000_0008));
    assert_eq!((record.context.path.text(), record.context.path.behind()), (&b"/a"[..], &b"hidden"[..]));
    assert_eq!(
        (record.context.agent_id.text(), record.context.agent_id.is_terminated()),
        (&[b'i'; 64][..], false)
    );
    assert_eq!((record.payload.as_ref(), record.metadata.as_ref()), (&b"\xFF\x00ab"[..], &b"{}"[..]));
    assert_eq!((record.links.len(), record.links[0].causality_strength), (1, 90));
    assert!(record.to_bytes().unwrap() == bytes);
    let event: Event<'_> = event_of(&bytes, &Instance::named("hand")).unwrap();
    let mut out = Vec::new();
    assert_eq!(restore(&event, event.given_id().unwrap(), &[], &mut out), Some(7));
    assert!(out == bytes);
    let shown: Value = serde_json::from_str(&show(Kind::Event, &bytes, false, false).unwrap().0).unwrap();
    assert_eq!(
        shown["context"]["path"],
        json!({"hex": "2f61", "utf8": "/a", "nul_terminated": true, "bytes_after_nul": true})
    );
}

#[test]
fn every_flipped_bit_of_a_record_is_refused() {
    let bytes = by_hand();
    for at in (0..bytes.len()).filter(|at| *at < 140 || *at > 5400 || at % 97 == 0) {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            assert!(Record::decode(&changed).is_err(), "byte {at}, bit {bit}");
        }
    }
}

/// The bytes that hexadecimal digits stand for.
fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u32> = digits.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

#[test]
fn heads_and_blocks_have_known_bytes() {
    let short = hex(
        "4a4d4553 01000000 00000000 0300000000000000 0500000000000000 5a00000000000000 0000000000000000 00000000 9984003f",
    );
    let long = hex(
        "4a4d4553 01000000 00000000 0300000000000000 0500000000000000 5a00000000000000 0000000000000000 00000000 3312bd27
         53525355 000000000000000000000000000000000000000000000000",
    );
    assert_eq!(JournalHeader::new(3, 5, 90).encode().as_slice(), short);
    assert_eq!(UserspaceHeader::new(3, 5, 90).encode().as_slice(), long);
    let block = hex(
        "524f5453 01000000 0400000000000000 32160000 01000000 00000000 ca150000 ca150000 2a54c1fd
         fbffffffffffffff 0300000000000000 00000000 2a000000 fbffffffffffffff 0300000000000000 00000000 2a000000
         0700000000000000 0700000000000000",
    );
    let mut made = Vec::new();
    encode_block(4, &by_hand(), &mut made).unwrap();
    assert_eq!((&made[..104], &made[104..]), (block.as_slice(), by_hand().as_slice()));
}
