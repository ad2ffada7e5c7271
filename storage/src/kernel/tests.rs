//! Records through events and back, and noise through every decoder.

use super::layout::Padded;
use super::*;
use crate::event::{
    Category, Event, EventType, Payload, Recorded, ResolvedCause, Timestamp, decode_body, encode_body,
    parse_line, to_json,
};
use crate::limits::{EVENT_BYTES_MAX, PAYLOAD_BYTES_MAX as EVENT_PAYLOAD_MAX};
use proptest::prelude::*;
use serde_json::json;
use std::borrow::Cow;
use uuid::Uuid;

fn instance() -> Instance {
    Instance::named("test boot")
}

/// The event as a journal hands it back: settled causes, the body decoded from its bytes.
fn recorded(event: &Event<'static>, sequence: u64) -> Recorded {
    let mut body = Vec::new();
    encode_body(event, &mut body).unwrap();
    let stored = decode_body(&body).unwrap().into_owned();
    let resolve = |cause| match cause {
        crate::event::Cause::Id(id) => ResolvedCause { id, sequence: None },
        crate::event::Cause::Sequence(n) => {
            ResolvedCause { id: Uuid::from_u128(n.into()), sequence: Some(n) }
        }
    };
    Recorded {
        sequence,
        local_sequence: sequence.div_ceil(2),
        id: event.given_id().unwrap_or(Uuid::from_u128(sequence.into())),
        causes: stored.causes().map(resolve).collect(),
        event: stored,
        time: None,
        recorded: Timestamp(1),
        boot_ns: 77_000,
        boot_id: Uuid::nil(),
    }
}

/// Takes a record through an event, the journal's bytes, and the event's JSON, and wants the same bytes back each time.
fn comes_back(bytes: &[u8]) -> Event<'static> {
    let event = event_of(bytes, &instance()).unwrap();
    event.check_limits().unwrap();
    let mut body = Vec::new();
    encode_body(&event, &mut body).unwrap();
    assert!(body.len() <= EVENT_BYTES_MAX);
    let stored = recorded(&event, 9);
    let mut numbering = Numbering::default();
    numbering.learn(&stored);
    let mut out = Vec::new();
    let encoded = numbering.encode(&stored, &mut out).unwrap();
    assert!(out == bytes, "{event:?}");
    assert_eq!((encoded.is_imported, encoded.cuts), (true, vec![]));
    let crate::event::LineInput::Event(line) = parse_line(to_json(&stored).as_bytes()).unwrap() else {
        panic!("no event");
    };
    out.clear();
    assert!(restore(&line, line.given_id().unwrap(), &[], &mut out).is_some() && out == bytes, "{line:?}");
    assert!(stored.is_same_content(&line));
    event
}

fn padded<const N: usize>() -> BoxedStrategy<Padded<'static, N>> {
    let bytes = prop_oneof![
        4 => Just(Vec::new()),
        4 => "[a-z /\"\\\\é]{0,12}".prop_map(String::into_bytes),
        1 => Just(vec![b'x'; N]),
        1 => Just(vec![b'x'; N - 1]),
        1 => proptest::collection::vec(any::<u8>(), N),
        1 => Just(b"seen\0hidden".to_vec()),
    ];
    bytes.prop_map(|b| Padded::exact(b).unwrap()).boxed()
}

fn few() -> BoxedStrategy<u64> {
    prop_oneof![3 => Just(0), 3 => 1u64..10, 1 => Just(u64::MAX), 1 => any::<u64>()].boxed()
}

fn few32() -> BoxedStrategy<u32> {
    few().prop_map(|n| n as u32).boxed()
}

fn code() -> impl Strategy<Value = u32> {
    prop_oneof![4 => (1u32..9, 0u32..14).prop_map(|(c, n)| c << 8 | n), 1 => any::<u32>()]
}

prop_compose! {
    fn header()(
        (event_id, event_type, event_subtype, ktime) in (few(), code(), few32(), any::<i64>()),
        (sequence, cpu_id, process_id, global_sequence, local_sequence) in (few(), few32(), few32(), few(), few()),
        (event_flags, event_priority, compression_type, encryption_type) in (any::<u32>(), few32(), few32(), few32()),
        (parent_event_id, root_cause_event_id, agent_visibility_mask) in (few(), few(), few()),
        (agent_relevance_score, replay_priority) in (few32(), few32()),
    ) -> EventHeader {
        EventHeader {
            event_id, event_type, event_subtype, ktime, sequence, cpu_id, process_id, global_sequence, local_sequence,
            event_flags, event_priority, compression_type, encryption_type, parent_event_id, root_cause_event_id,
            agent_visibility_mask, agent_relevance_score, replay_priority, ..EventHeader::default()
        }
    }
}

prop_compose! {
    fn context()(
        (transaction_id, session_id, causality_chain_id, path) in (few(), few(), few(), padded()),
        (inode_number, file_type, graph_node_id, graph_edge_id) in (few(), few32(), few(), few()),
        (graph_operation_type, vector_id, vector_dimensions) in (few32(), few(), few32()),
        (vector_element_type, agent_id, agent_intent, agent_confidence) in (few32(), padded(), padded(), few32()),
        (system_load, memory_usage, io_pressure) in (few32(), few(), few32()),
        (semantic_tags, semantic_intent, semantic_confidence) in (padded(), padded(), few32()),
    ) -> Context<'static> {
        Context {
            transaction_id, session_id, causality_chain_id, path, inode_number, file_type, graph_node_id,
            graph_edge_id, graph_operation_type, vector_id, vector_dimensions, vector_element_type, agent_id,
            agent_intent, agent_confidence, system_load, memory_usage, io_pressure, semantic_tags, semantic_intent,
            semantic_confidence,
        }
    }
}

prop_compose! {
    fn link()(
        (cause_event_id, effect_event_id, causality_type) in (few(), few(), few32()),
        (causality_strength, causality_delay, causality_description) in (few32(), any::<i64>(), padded()),
    ) -> CausalityLink<'static> {
        CausalityLink {
            cause_event_id, effect_event_id, causality_type, causality_strength, causality_delay, causality_description,
        }
    }
}

fn part(most: usize) -> BoxedStrategy<Cow<'static, [u8]>> {
    let bytes = prop_oneof![
        3 => Just(Vec::new()),
        2 => Just(br#"{"model":"local","tokens":512}"#.to_vec()),
        1 => Just(br#"{"z": 1, "a": 2}"#.to_vec()),
        1 => Just(br#"{"$base64":"aGk="}"#.to_vec()),
        1 => Just(br#"{"semj.kernel.text":"x"}"#.to_vec()),
        1 => Just(b"null".to_vec()),
        1 => Just(b"plain text\0".to_vec()),
        1 => Just(vec![b'"'; most]),
        1 => proptest::collection::vec(any::<u8>(), 1..most.min(3000)),
    ];
    bytes.prop_map(Cow::Owned).boxed()
}

prop_compose! {
    fn record()(
        (header, context) in (header().boxed(), context().boxed()),
        (payload, metadata) in (part(PAYLOAD_BYTES_MAX), part(METADATA_BYTES_MAX)),
        links in prop_oneof![
            4 => Just(Vec::new()),
            3 => proptest::collection::vec(link(), 1..4),
            1 => Just(vec![CausalityLink { cause_event_id: 1, ..CausalityLink::default() }; LINKS_MAX]),
        ],
    ) -> Record<'static> {
        Record { header, context, payload, metadata, links }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_record_comes_back_through_an_event(record in record()) {
        let bytes = record.to_bytes().unwrap();
        let (back, used) = Record::decode(&bytes).unwrap();
        prop_assert_eq!(used, bytes.len());
        prop_assert_eq!(&back.context, &record.context);
        prop_assert!(back.to_bytes().unwrap() == bytes);
        comes_back(&bytes);
    }

    #[test]
    fn every_record_comes_back_from_its_full_json(record in record()) {
        let bytes = record.to_bytes().unwrap();
        let (text, used) = show(Kind::Event, &bytes, true, false).unwrap();
        prop_assert_eq!(used, bytes.len());
        prop_assert!(bytes_of(&serde_json::from_str(&text).unwrap()).unwrap() == bytes);
    }

    #[test]
    fn noise_and_mutations_are_refused_or_come_back(
        record in record(),
        changes in proptest::collection::vec((0usize..6000, any::<u8>()), 0..8),
        repaired: bool,
        cut in 0usize..200,
    ) {
        let mut bytes = record.to_bytes().unwrap();
        for (at, value) in changes {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        bytes.truncate(bytes.len() - cut / 20);
        if repaired {
            super::record::seal(&mut bytes);
        }
        for kind in Kind::ALL {
            let _ = show(kind, &bytes, false, false);
        }
        if let Ok((record, used)) = Record::decode(&bytes) {
            prop_assert!(record.to_bytes().unwrap() == bytes[..used]);
            comes_back(&bytes[..used]);
        }
        if let Ok(stream) = Stream::open(&bytes) {
            prop_assert!(stream.count() <= 2);
        }
    }

    #[test]
    fn noise_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400), magic in 0usize..4) {
        let head: &[u8] = [&[][..], b"JMES", b"ROTS\x01\0\0\0", b"JMES\x01\0\0\0"][magic];
        let bytes = [head, &bytes].concat();
        for kind in Kind::ALL {
            if let Ok((_, used)) = show(kind, &bytes, true, true) {
                prop_assert!(kind == Kind::Link && used == LINK_BYTES);
            }
        }
        let _ = Stream::open(&bytes).map(Iterator::count);
        let _ = Stream::is_one(&bytes);
    }

    #[test]
    fn hostile_sizes_are_refused_before_anything_depends_on_them(sizes: [u32; 5], count: u32) {
        let mut bytes = Record::default().to_bytes().unwrap();
        for (at, size) in [64, 68, 72, 76, 96].into_iter().zip(sizes) {
            bytes[at..at + 4].copy_from_slice(&size.to_le_bytes());
        }
        prop_assert!(Record::decode(&bytes).is_err());
        let mut block = Vec::new();
        encode_block(1, &[], &mut block).unwrap();
        block[20..24].copy_from_slice(&count.max(1).to_le_bytes());
        let checksum = super::checksum::with_hole(&block, BLOCK_A_CHECKSUM_AT);
        block[36..40].copy_from_slice(&checksum.to_le_bytes());
        prop_assert_eq!(Block::decode(&block).unwrap_err().name(), "bad_event:truncated_header");
    }
}

fn made(event: &Event<'static>) -> (Vec<u8>, Vec<Cut>) {
    let mut out = Vec::new();
    let encoded = Numbering::default().encode(&recorded(event, 7), &mut out).unwrap();
    assert_eq!((encoded.event_id, encoded.is_imported), (7, false));
    (out, encoded.cuts)
}

fn text<const N: usize>(field: &Padded<'_, N>) -> String {
    assert!(field.is_terminated());
    String::from_utf8(field.text().to_vec()).unwrap()
}

#[test]
fn producers_write_their_fixed_texts() {
    let graph = crate::event::GraphContext { node: Some(77), edge: Some(9001), operation: None };
    let vector = crate::event::VectorContext { id: Some(5150), dimensions: Some(8), element: None };
    for (event, tags, intent, confidence, agent_confidence) in [
        (
            Event::named("filesystem.write").unwrap().path("/a").pid(42),
            r#"{"operation":"filesystem","type":"write"}"#,
            "Filesystem operation",
            95,
            0,
        ),
        (
            Event::named("filesystem.mkdir").unwrap().path("/a").pid(42),
            r#"{"operation":"filesystem","type":"unknown"}"#,
            "Filesystem operation",
            95,
            0,
        ),
        (
            Event::named("graph.traverse").unwrap().graph(graph).pid(42),
            r#"{"operation":"graph","node_id":77,"edge_id":9001}"#,
            "Graph operation",
            90,
            0,
        ),
        (
            Event::named("vector.create").unwrap().vector(vector).pid(42),
            r#"{"operation":"vector","vector_id":5150,"dimensions":8}"#,
            "Vector operation",
            85,
            0,
        ),
        (
            Event::named("agent.learning").unwrap().agent(r#"a"b\c"#).pid(42),
            r#"{"operation":"agent","agent_id":"a"b\c"}"#,
            "AI agent operation",
            80,
            75,
        ),
        (
            Event::named("agent.decision").unwrap().intent("go").pid(42),
            r#"{"operation":"agent","agent_id":""}"#,
            "go",
            80,
            75,
        ),
        (Event::named("system.sync").unwrap().tag("a").tag("b\"").session("42"), r#"["a","b\""]"#, "", 0, 0),
    ] {
        let (bytes, cuts) = made(&event);
        let (record, _) = Record::decode(&bytes).unwrap();
        let (h, c) = (&record.header, &record.context);
        assert_eq!((text(&c.semantic_tags), text(&c.semantic_intent)), (tags.to_owned(), intent.to_owned()));
        assert_eq!(
            (c.semantic_confidence, c.agent_confidence, c.session_id),
            (confidence, agent_confidence, 42)
        );
        assert_eq!((h.event_id, h.global_sequence, h.local_sequence, h.ktime), (7, 7, 4, 77_000));
        assert_eq!((h.root_cause_event_id, h.event_priority, h.replay_priority), (7, 3, 3));
        assert_eq!((h.agent_visibility_mask, h.agent_relevance_score), (u64::MAX, 50));
        let is_graph = event.event_type().category() == Category::Graph;
        assert_eq!(c.graph_operation_type, if is_graph { 0x0209 } else { 0 });
        assert_eq!(c.vector_element_type, u32::from(event.event_type().category() == Category::Vector));
        let is_agent_intent = intent == "go";
        assert_eq!(text(&c.agent_intent), if is_agent_intent { "go" } else { "" });
        assert_eq!(cuts, []);
    }
}

#[test]
fn what_does_not_fit_is_cut_and_every_cut_is_noted() {
    let long = |n: usize| "é".repeat(n);
    let event = Event::named("agent.decision")
        .unwrap()
        .name("n")
        .agent(long(50))
        .session("session-1")
        .path(long(2048))
        .intent(long(200))
        .tag("t")
        .transaction("18446744073709551615")
        .chain("007")
        .parent(Uuid::from_u128(1))
        .link(crate::event::Link::new(Uuid::from_u128(2), "because"))
        .payload(json!("p".repeat(70_000)));
    let (bytes, cuts) = made(&event);
    let (record, _) = Record::decode(&bytes).unwrap();
    let cuts: Vec<String> = cuts.iter().map(ToString::to_string).collect();
    assert_eq!(
        cuts,
        [
            "parent dropped",
            "links dropped",
            "payload shortened from 70002 to 65536",
            "session replaced by 64 bits of its hash",
            "chain replaced by 64 bits of its hash",
            "path shortened from 4096 to 4095",
            "agent shortened from 100 to 63",
            "agent_intent shortened from 400 to 255",
            "intent shortened from 400 to 255",
            "tags dropped",
            "name dropped",
        ]
    );
    assert_eq!(record.context.agent_id.text(), &long(50).as_bytes()[..63]);
    assert_eq!((record.context.transaction_id, record.payload.len()), (u64::MAX, 65_536));
    // The producer's tag takes the agent's name before it is cut.
    assert!(record.context.semantic_tags.text().ends_with(format!("{}\"}}", long(50)).as_bytes()));
}

#[test]
fn references_carry_the_numbers_that_records_have() {
    let other = event_of(&Record::default().to_bytes().unwrap(), &Instance::named("elsewhere")).unwrap();
    let mut numbering = Numbering::default();
    numbering.learn(&recorded(&other, 3));
    let kernel = Instance::named("elsewhere").event_id(500);
    let event = Event::decision("x")
        .parent(6)
        .root(kernel)
        .link(crate::event::Link::new(kernel, "effect of").strength(90))
        .link(crate::event::Link { kind: None, ..crate::event::Link::new(5, "") });
    let mut out = Vec::new();
    assert_eq!(numbering.encode(&recorded(&event, 8), &mut out).unwrap().cuts, []);
    let (record, _) = Record::decode(&out).unwrap();
    assert_eq!((record.header.parent_event_id, record.header.root_cause_event_id), (6, 500));
    let links: Vec<_> = record
        .links
        .iter()
        .map(|l| (l.cause_event_id, l.effect_event_id, l.causality_strength, text(&l.causality_description)))
        .collect();
    assert_eq!(links, [(500, 8, 90, "effect of".to_owned()), (5, 8, 0, "Causal link: 5 -> 8".to_owned())]);
}

#[test]
fn an_event_of_a_record_can_be_asked_for_and_keeps_little_beside_its_fields() {
    let mut record = Record {
        header: EventHeader {
            event_id: 4,
            event_type: 0x0402,
            ktime: 5,
            sequence: 1,
            global_sequence: 3,
            local_sequence: 3,
            process_id: 42,
            event_priority: 3,
            parent_event_id: 3,
            root_cause_event_id: 4,
            agent_visibility_mask: u64::MAX,
            agent_relevance_score: 50,
            replay_priority: 3,
            ..EventHeader::default()
        },
        payload: br#"{"model":"local"}"#[..].into(),
        ..Record::default()
    };
    record.context.session_id = 42;
    record.context.agent_id = Padded::exact(&b"planner"[..]).unwrap();
    record.context.agent_intent = Padded::exact(&b"read it"[..]).unwrap();
    record.context.semantic_intent = Padded::exact(&b"read it"[..]).unwrap();
    record.context.semantic_tags =
        Padded::exact(&br#"{"operation":"agent","agent_id":"planner"}"#[..]).unwrap();
    (record.context.semantic_confidence, record.context.agent_confidence) = (80, 75);
    let bytes = record.to_bytes().unwrap();
    let event = comes_back(&bytes);
    assert_eq!(event.event_type(), EventType::parse("agent.reasoning").unwrap());
    let as_text = |t: Option<&crate::event::Text<'_>>| t.map(|t| t.to_string());
    assert_eq!(as_text(event.intent_text()).as_deref(), Some("read it"));
    assert_eq!(as_text(event.agent_text()).as_deref(), Some("planner"));
    assert_eq!(as_text(event.session_text()).as_deref(), Some("42"));
    assert_eq!(event.agent_intent_text(), None);
    assert_eq!(event.parent_cause(), Some(instance().event_id(3).into()));
    assert_eq!(event.payload_value().as_json(), Some(json!({"model": "local"})));
    let checksum = u32::from_le_bytes(bytes[84..88].try_into().unwrap());
    let metadata = event.metadata_json().unwrap().value();
    assert_eq!(
        metadata,
        json!({"semj.kernel.boot": "test boot", "semj.kernel.checksum": checksum, "semj.kernel.event_id": 4,
            "semj.kernel.global_sequence": 3, "semj.kernel.ktime": 5, "semj.kernel.sequence": 1})
    );
}

#[test]
fn what_was_kept_and_then_changed_is_told_and_never_passed_off() {
    let mut record = Record::default();
    record.context.path = Padded::exact(b"/a\0b".to_vec()).unwrap();
    let event = event_of(&record.to_bytes().unwrap(), &instance()).unwrap();
    let metadata = event.metadata_json().unwrap().value();
    for (key, value) in [
        ("semj.kernel.checksum", json!(1)),
        ("semj.kernel.patch", json!("////")),
        ("semj.kernel.patch", json!("?")),
        ("semj.kernel.ktime", json!("x")),
        ("semj.kernel.wrapped", json!(true)),
    ] {
        let mut metadata = metadata.clone();
        metadata[key] = value;
        let changed = event.clone().metadata(&metadata);
        let mut out = Vec::new();
        let encoded = Numbering::default().encode(&recorded(&changed, 7), &mut out).unwrap();
        assert_eq!(encoded.cuts.first().map(|c| c.how), Some(How::Altered), "{key}");
        assert_eq!((encoded.event_id, Record::decode(&out).unwrap().1), (7, out.len()));
    }
}

#[test]
fn an_event_may_hold_the_largest_record() {
    let links = |i: u64| CausalityLink { cause_event_id: i, effect_event_id: i, ..CausalityLink::default() };
    let mut record = Record {
        payload: vec![0xFF; PAYLOAD_BYTES_MAX].into(),
        metadata: vec![0xFE; METADATA_BYTES_MAX].into(),
        links: (0..LINKS_MAX as u64).map(links).collect(),
        ..Record::default()
    };
    record.context.path = Padded::exact([0, 1, 1, 1, 1].repeat(819)).unwrap();
    let bytes = record.to_bytes().unwrap();
    assert_eq!(bytes.len(), RECORD_BYTES_MAX);
    let event = comes_back(&bytes);
    let Payload::Json(json) = event.payload_value() else { panic!("not wrapped") };
    assert!(json.as_str().len() < EVENT_PAYLOAD_MAX / 2);
}

/// Found by the fuzz target `event`: the mark of a payload around the payload was not counted in.
#[test]
fn what_is_kept_fits_the_metadata_of_an_event_whatever_its_length() {
    for length in 1_500..=super::METADATA_BYTES_MAX {
        let record = Record {
            payload: b"text that is no JSON"[..].into(),
            metadata: vec![b'm'; length].into(),
            ..Record::default()
        };
        comes_back(&record.to_bytes().unwrap()).check_limits().unwrap_or_else(|e| panic!("{length}: {e:?}"));
    }
}
