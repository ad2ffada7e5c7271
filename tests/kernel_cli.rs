//! The kernel's bytes through the real binary: decode, encode, check, import and export.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::{World, complaint, lines};
use semj::kernel::{
    CausalityLink, Context, EventHeader, Kind, Padded, Record, Stream, UserspaceHeader, encode_block, show,
};
use serde_json::{Value, json};

/// The records of a small kernel: plain ones, one with everything odd, and a second boot that counts anew.
fn records() -> Vec<Vec<u8>> {
    let record = |event_id: u64, event_type, payload: &[u8]| Record {
        header: EventHeader {
            event_id,
            event_type,
            ktime: 1_000 * event_id as i64,
            sequence: event_id - 1,
            global_sequence: event_id - 1,
            local_sequence: event_id - 1,
            event_priority: 3,
            root_cause_event_id: event_id,
            agent_visibility_mask: u64::MAX,
            agent_relevance_score: 50,
            replay_priority: 3,
            ..EventHeader::default()
        },
        payload: payload.to_vec().into(),
        ..Record::default()
    };
    let mut odd = record(4, 0x0701, b"\xFF\0");
    odd.header.event_flags = u32::MAX;
    odd.header.encryption_type = 9;
    odd.context = Context {
        path: Padded::exact(b"/a\0hidden".to_vec()).unwrap(),
        agent_id: Padded::exact(vec![b'i'; 64]).unwrap(),
        semantic_confidence: 1000,
        ..Context::default()
    };
    odd.metadata = b"{\"a\": 1}".to_vec().into();
    odd.links = [(2, 4), (4, 3), (0, 0)]
        .map(|(cause, effect)| CausalityLink {
            cause_event_id: cause,
            effect_event_id: effect,
            causality_strength: 300,
            ..CausalityLink::default()
        })
        .to_vec();
    let mut linked = record(5, 0x0402, b"{\"z\": 1}");
    linked.header.parent_event_id = 2;
    linked.links = vec![CausalityLink {
        cause_event_id: 3,
        effect_event_id: 5,
        causality_strength: 80,
        ..CausalityLink::default()
    }];
    let mut second_boot = record(2, 0x0102, b"");
    second_boot.header.ktime = 7;
    [record(2, 0x0101, b""), record(3, 0x0104, &[7; 65_536]), odd, linked, second_boot]
        .iter()
        .map(|r| r.to_bytes().unwrap())
        .collect()
}

/// The stream that an export of these records must be.
fn stream(records: &[Vec<u8>], next_event_id: u64) -> Vec<u8> {
    let body = records.concat();
    let head = UserspaceHeader::new(records.len() as u64, next_event_id, 80 + body.len() as u64);
    [&head.encode()[..], &body].concat()
}

fn summary(world: &World, args: &[&str], code: i32) -> Value {
    let output = world.run(&[&["--json", "import"], args].concat(), b"");
    assert_eq!(output.status.code(), Some(code), "{}", complaint(&output));
    lines(&output).remove(0)
}

#[test]
fn what_was_imported_is_exported_byte_for_byte_and_only_once() {
    let world = World::new();
    let bytes = stream(&records(), 6);
    std::fs::write(world.path("in.semj"), &bytes).unwrap();
    let first = summary(&world, &["--format", "semj", "in.semj"], 0);
    assert_eq!(
        (&first["records"], &first["events"], &first["duplicates"]),
        (&json!(5), &json!(5), &json!(0))
    );
    assert_eq!(first["losses"], json!([]));
    // Again, and by its looks.
    let again = summary(&world, &["in.semj"], 0);
    assert_eq!((&again["format"], &again["duplicates"]), (&json!("semj"), &json!(5)));
    let out = world.run(&["export", "--format", "semj"], b"");
    assert_eq!(out.status.code(), Some(0));
    assert!(out.stdout == bytes);
    // Two boots are in it, and that is said.
    assert!(complaint(&out).contains("2 origins"), "{}", complaint(&out));
    // The same by way of another journal's JSON lines.
    let lines = world.run(&["export", "--format", "jsonl"], b"").stdout;
    let copy = World::new();
    assert_eq!(copy.run(&["append"], &lines).status.code(), Some(0));
    assert!(copy.run(&["export", "--format", "semj"], b"").stdout == bytes);
    assert_eq!(summary(&copy, &[world.path("in.semj").to_str().unwrap()], 0)["duplicates"], 5);
}

#[test]
fn imported_records_answer_questions() {
    let world = World::new();
    std::fs::write(world.path("in.semj"), stream(&records(), 6)).unwrap();
    summary(&world, &["--boot", "b1", "in.semj"], 0);
    let found = world.json(&["query", "--json", "--source", "import:semj", "--type", "filesystem.write"]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["metadata"]["semj.kernel.event_id"], 3);
    assert_eq!(world.json(&["query", "--json", "--stream", "kernel:b1"]).len(), 4);
    assert_eq!(world.json(&["query", "--json", "--stream", "kernel:b1#2"]).len(), 1);
    let why = world.json(&["why", "4", "--json"]);
    let causes: Vec<u64> = why[1..].iter().map(|e| e["cause_sequence"].as_u64().unwrap()).collect();
    assert_eq!(causes.len(), 2, "{why:?}");
    assert!(causes.contains(&1) && causes.contains(&2), "{why:?}");
}

#[test]
fn blocks_hold_the_same_records_and_can_be_imported() {
    let world = World::new();
    let (records, blocks) = (records(), {
        let mut blocks = Vec::new();
        encode_block(1, &records().concat(), &mut blocks).unwrap();
        blocks
    });
    let head = UserspaceHeader::new(5, 6, 80 + blocks.len() as u64).encode();
    let bytes = [&head[..], &blocks].concat();
    std::fs::write(world.path("in.semj"), &bytes).unwrap();
    assert_eq!(summary(&world, &["in.semj"], 0)["events"], 5);
    assert!(world.run(&["export", "--format", "semj", "--blocks"], b"").stdout == bytes);
    assert!(world.run(&["export", "--format", "semj"], b"").stdout == stream(&records, 6));
}

#[test]
fn an_event_of_our_own_is_cut_with_a_note_or_refused() {
    let world = World::new();
    world.append(&[
        json!({"type": "filesystem.write", "path": "/a", "pid": 42}),
        json!({"type": "agent.decision", "agent": "planner", "intent": "go", "parent": 1, "session": "s1",
            "tags": ["t"], "payload": "x".repeat(70_000)}),
    ]);
    let out = world.run(&["export", "--format", "semj"], b"");
    assert_eq!(out.status.code(), Some(0));
    let said = complaint(&out);
    for part in ["payload shortened: 1 events", "session replaced", "tags dropped", "1 of 2 events were cut"]
    {
        assert!(said.contains(part), "{said}");
    }
    let records: Vec<_> = Stream::open(&out.stdout).unwrap().map(|r| r.unwrap().to_vec()).collect();
    let (first, _) = Record::decode(&records[0]).unwrap();
    assert_eq!((first.header.event_id, first.context.path.text()), (1, &b"/a"[..]));
    assert_eq!(first.context.semantic_tags.text(), br#"{"operation":"filesystem","type":"write"}"#);
    let (second, _) = Record::decode(&records[1]).unwrap();
    assert_eq!((second.header.parent_event_id, second.payload.len()), (1, 65_536));
    let head = UserspaceHeader::decode(&out.stdout).unwrap().journal;
    assert_eq!((head.total_events, head.next_event_id, head.journal_size), (2, 3, out.stdout.len() as u64));
    let strict = world.run(&["export", "--format", "semj", "--strict"], b"");
    assert_eq!((strict.status.code(), strict.stdout.len()), (Some(3), 0));
    assert!(complaint(&strict).contains("event 2 does not fit"), "{}", complaint(&strict));
    let fits = world.run(&["export", "--format", "semj", "--strict", "--category", "filesystem"], b"");
    assert_eq!((fits.status.code(), fits.stdout.len()), (Some(0), 80 + 5412));
    assert_eq!(world.run(&["export", "--strict"], b"").status.code(), Some(2));
    // What was exported comes in elsewhere, and leaves again as it is.
    std::fs::write(world.path("out.semj"), &out.stdout).unwrap();
    let other = World::new();
    summary(&other, &[world.path("out.semj").to_str().unwrap()], 0);
    assert!(other.run(&["export", "--format", "semj"], b"").stdout == out.stdout);
}

#[test]
fn damage_and_other_versions_are_refused_by_name() {
    let world = World::new();
    let records = records();
    let mut bytes = stream(&records, 6);
    bytes[80 + 5412 + 6000] ^= 1;
    std::fs::write(world.path("bad.semj"), &bytes).unwrap();
    let told = summary(&world, &["--format", "semj", "bad.semj"], 3);
    assert_eq!((&told["events"], told["losses"].as_array().unwrap().len()), (&json!(4), 1));
    assert_eq!(told["losses"][0]["line"], 2);
    assert!(told["losses"][0]["reason"].as_str().unwrap().starts_with("at byte 5492: bad_checksum: "));
    let mut head = UserspaceHeader::new(0, 1, 80);
    head.journal.version_major = 2;
    std::fs::write(world.path("new.semj"), head.encode()).unwrap();
    let output = world.run(&["import", "--format", "semj", "new.semj"], b"");
    assert_eq!(output.status.code(), Some(3));
    assert!(complaint(&output).contains("reads version 1, found version 2"), "{}", complaint(&output));
}

#[test]
fn bytes_are_shown_written_and_checked() {
    let world = World::new();
    let bytes = stream(&records(), 6);
    std::fs::write(world.path("in.semj"), &bytes).unwrap();
    let shown = world.json(&["kernel", "decode", "--json", "in.semj"]);
    assert_eq!(
        (shown.len(), &shown[0]["total_events"], &shown[1]["header"]["event_id"]),
        (6, &json!(5), &json!(2))
    );
    let expected: Value =
        serde_json::from_str(&show(Kind::Event, &records()[0], false, false).unwrap().0).unwrap();
    assert_eq!(shown[1], expected);
    let full = world.run(&["kernel", "decode", "--full", "--json", "-"], &bytes).stdout;
    let encoded = world.run(&["kernel", "encode"], &full);
    assert!(encoded.status.code() == Some(0) && encoded.stdout == bytes);
    // Pretty output is JSON too.
    let pretty = world.run(&["kernel", "decode", "--full", "in.semj"], b"").stdout;
    assert!(world.run(&["kernel", "encode", "-"], &pretty).stdout == bytes);
    // Without --full the long payload is only named; what came before it is written.
    let short = world.run(&["kernel", "decode", "--json", "in.semj"], b"").stdout;
    let refused = world.run(&["kernel", "encode"], &short);
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(3), 80 + 5412));
    assert!(complaint(&refused).contains("object 3: payload.hex: 65536 bytes"), "{}", complaint(&refused));

    let sound = world.one(&["kernel", "check", "--json", "in.semj"]);
    assert_eq!((&sound["valid"], &sound["items"]), (&json!(true), &json!(6)));
    for (name, bytes, reason, offset) in [
        ("zeros", vec![0; 5412], "bad_version", 0),
        ("torn", bytes[..bytes.len() - 1].to_vec(), "truncated_body", bytes.len() - 5412),
        ("empty", vec![], "truncated_header", 0),
    ] {
        let checked = world.run(&["kernel", "check", "--json", "-"], &bytes);
        let answer = &lines(&checked)[0];
        assert_eq!(checked.status.code(), Some(1), "{name}");
        assert_eq!((&answer["valid"], &answer["reason"]), (&json!(false), &json!(reason)), "{name}");
        assert_eq!(answer["offset"], offset, "{name}");
        let decoded = world.run(&["kernel", "decode", "-"], &bytes);
        assert_eq!(decoded.status.code(), Some(3), "{name}");
        assert!(complaint(&decoded).contains(reason), "{}", complaint(&decoded));
    }
    assert_eq!(world.run(&["kernel", "check", "nowhere"], b"").status.code(), Some(2));
}

#[test]
fn golden_vectors_go_through_the_journal_and_are_judged_by_check() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/kernel/vectors");
    let Ok(index) = std::fs::read(folder.join("index.json")) else {
        eprintln!("skipped: no vectors at {}", folder.display());
        return;
    };
    let index: Vec<Value> = serde_json::from_slice(&index).unwrap();
    let world = World::new();
    let mut all = Vec::new();
    for entry in &index {
        let name = entry["name"].as_str().unwrap();
        let bytes = std::fs::read(folder.join(format!("{name}.bin"))).unwrap();
        let checked = world.run(&["kernel", "check", "--json"], &bytes);
        let answer = &lines(&checked)[0];
        let reason = answer.get("reason").cloned().unwrap_or(Value::Null);
        assert_eq!(reason, entry.get("reject").cloned().unwrap_or(Value::Null), "{name}");
        assert_eq!(checked.status.code(), Some(i32::from(entry["expect"] == "reject")), "{name}");
        if entry["expect"] == "ok" && entry["kind"] == "event" {
            all.push(bytes);
        }
    }
    // One id stands for several records here, as after several boots; the greatest one is the greatest there is.
    let bytes = stream(&all, u64::MAX);
    std::fs::write(world.path("all.semj"), &bytes).unwrap();
    let told = summary(&world, &["all.semj"], 0);
    assert_eq!((&told["events"], &told["losses"]), (&json!(all.len()), &json!([])));
    assert_eq!(summary(&world, &["all.semj"], 0)["duplicates"], all.len());
    assert!(world.run(&["export", "--format", "semj"], b"").stdout == bytes);
}

#[test]
fn an_event_of_our_own_has_the_context_that_the_kernel_would_write() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/kernel/vectors");
    if !folder.is_dir() {
        eprintln!("skipped: no vectors at {}", folder.display());
        return;
    }
    let (from, to) = (World::new(), World::new());
    let names = [
        "ev_fs_create",
        "ev_fs_mkdir_no_inode",
        "ev_fs_write_unicode_path",
        "ev_graph_node_create",
        "ev_graph_traverse_no_payload",
        "ev_vector_create",
        "ev_agent_reasoning",
        "ev_agent_no_intent",
    ];
    let kernel: Vec<Vec<u8>> =
        names.iter().map(|n| std::fs::read(folder.join(format!("{n}.bin"))).unwrap()).collect();
    std::fs::write(from.path("k.semj"), kernel.concat()).unwrap();
    summary(&from, &["k.semj"], 0);
    // What a host would emit that saw the same: nothing of the kernel's own numbers and texts.
    let own: Vec<Value> = from
        .json(&["export"])
        .into_iter()
        .map(|mut event| {
            let fields = event.as_object_mut().unwrap();
            for key in ["id", "stream", "metadata", "tags", "confidence", "agent_confidence", "session"] {
                fields.remove(key);
            }
            let graph = fields.get_mut("graph").and_then(Value::as_object_mut);
            graph.map(|g| g.remove("operation"));
            let vector = fields.get_mut("vector").and_then(Value::as_object_mut);
            vector.map(|v| v.remove("element"));
            event
        })
        .collect();
    to.append(&own);
    let out = to.run(&["export", "--format", "semj", "--strict"], b"").stdout;
    for ((record, expected), name) in Stream::open(&out).unwrap().zip(&kernel).zip(names) {
        let record = record.unwrap();
        assert!(record[132..] == expected[132..], "{name}");
        // The rest of the head: kind, cpu, thread, flags, priority, sizes; visibility, relevance, replay priority.
        for part in [8..16, 32..40, 56..84, 88..108, 116..132] {
            assert_eq!(record[part.clone()], expected[part.clone()], "{name}: {part:?}");
        }
    }
    assert_eq!(Stream::open(&out).unwrap().count(), names.len());
}
