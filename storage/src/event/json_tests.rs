//! Input and output of events as JSON, tested together.

use super::*;
use crate::limits::NESTING_MAX;
use proptest::prelude::*;
use serde_json::{Value, json};

fn one(line: &str) -> Result<Event<'static>, InputError> {
    match parse_line(line.as_bytes())? {
        LineInput::Event(event) => Ok(*event),
        other => panic!("no event: {other:?}"),
    }
}

/// Kind and key of the refusal of a decision with these further members.
fn refusal(members: &str) -> (String, String) {
    let e = one(&format!("{{\"type\":\"agent.decision\",{members}}}")).expect_err(members);
    (e.kind.to_string(), e.key.unwrap_or_default())
}

#[test]
fn every_key_is_taken() {
    let event = one(
        r#"{"type":"agent.decision","subtype":7,"name":"n","id":"00000000-0000-0000-0000-000000000007","stream":"s",
        "expect":3,"agent":"a","session":"se","path":{"$base64":"/2E="},"intent":"why \u00e9 \ud83d\ude00","confidence":100,
        "agent_intent":"ai","agent_confidence":0,"priority":"critical","flags":["causal",2147483648],"tags":["t","u"],
        "parent":9,"root":"00000000-0000-0000-0000-000000000005","transaction":"tx","chain":"ch",
        "links":[{"cause":3,"kind":"k","code":4,"strength":100,"delay_ns":"-9223372036854775808","description":"d","effect":12}],
        "visibility":"0xFFfffffffffffffe","relevance":50,"replay_priority":9,"graph":{"node":1,"operation":2},
        "vector":{"id":"18446744073709551615","element":1},"system":{"memory":2},"inode":4,"file_type":32768,"cpu":1,
        "pid":2,"time":"1969-12-31T23:59:59.999999995Z","payload":{"b":[1,2.5,null],"a":"x"},"metadata":{"m":1},
        "sequence":"anything","recorded":[1e999],"source":{"a":1,"a":2},"code":null}"#
            .replace('\n', "")
            .as_str(),
    )
    .unwrap();
    let expected = Event::decision("why é \u{1F600}")
        .subtype(7)
        .name("n")
        .id(Uuid::from_u128(7))
        .stream("s")
        .expect(3)
        .agent("a")
        .session("se")
        .path(Text::from_bytes(vec![0xFF, b'a']))
        .confidence(100)
        .agent_intent("ai")
        .agent_confidence(0)
        .priority(Priority::CRITICAL)
        .flags(Flags::from_bits(0x8000_0004))
        .tag("t")
        .tag("u")
        .parent(9u64)
        .root(Uuid::from_u128(5))
        .link(Link {
            code: Some(4),
            strength: Some(100),
            delay_ns: Some(i64::MIN),
            description: Some("d".into()),
            effect: Some(Cause::Sequence(12)),
            ..Link::new(3u64, "k")
        })
        .transaction("tx")
        .chain("ch")
        .visibility(u64::MAX - 1)
        .relevance(50)
        .replay_priority(Priority::from_code(9))
        .graph(GraphContext { node: Some(1), edge: None, operation: Some(2) })
        .vector(VectorContext { id: Some(u64::MAX), dimensions: None, element: Some(1) })
        .system(SystemContext { load: None, memory: Some(2), io_pressure: None })
        .inode(4)
        .file_type(0o100_000)
        .cpu(1)
        .pid(2)
        .time(Timestamp(-5))
        .metadata(&json!({"m": 1}))
        .payload(json!({"a": "x", "b": [1, 2.5, null]}));
    assert_eq!(event, expected);
}

#[test]
fn refusals_name_kind_and_key() {
    for (members, kind, key) in [
        (r#""colour":1"#, "unknown_key", "colour"),
        (r#""colour":null"#, "unknown_key", "colour"),
        (r#""agent":"a","agent":"a""#, "bad_value", "agent"),
        (r#""sequence":1,"sequence":1"#, "bad_value", "sequence"),
        (r#""type":1"#, "bad_value", "type"),
        (r#""agent":1"#, "bad_value", "agent"),
        (r#""agent":{"$base64":"?"}"#, "bad_value", "agent.$base64"),
        (r#""agent":{"$base64":"AA==","x":1}"#, "bad_value", "agent"),
        (r#""session":5"#, "bad_value", "session"),
        (r#""name":"\udc00""#, "bad_value", "name"),
        (r#""confidence":101"#, "bad_value", "confidence"),
        (r#""agent_confidence":-1"#, "bad_value", "agent_confidence"),
        (r#""priority":"urgent""#, "bad_value", "priority"),
        (r#""priority":-1"#, "bad_value", "priority"),
        (r#""flags":["shiny"]"#, "bad_value", "flags"),
        (r#""flags":"causal""#, "bad_value", "flags"),
        (r#""tags":["a",null]"#, "bad_value", "tags"),
        (r#""parent":0"#, "bad_value", "parent"),
        (r#""parent":"7""#, "bad_value", "parent"),
        (r#""root":1.5"#, "bad_value", "root"),
        (r#""id":"7""#, "bad_value", "id"),
        (r#""expect":-1"#, "bad_value", "expect"),
        (r#""time":"yesterday""#, "bad_value", "time"),
        (r#""time":"9999-01-01T00:00:00Z""#, "bad_value", "time"),
        (r#""links":{}"#, "bad_value", "links"),
        (r#""links":[{"kind":"k"}]"#, "bad_value", "links.cause"),
        (r#""links":[{"cause":1,"strength":101}]"#, "bad_value", "links.strength"),
        (r#""links":[{"cause":1,"weight":1}]"#, "unknown_key", "links.weight"),
        (r#""links":[{"cause":1,"cause":1}]"#, "bad_value", "links.cause"),
        (r#""graph":{"foo":1}"#, "unknown_key", "graph.foo"),
        (r#""graph":{"node":1,"node":2}"#, "bad_value", "graph.node"),
        (r#""vector":{"id":"1x"}"#, "bad_value", "vector.id"),
        (r#""system":[]"#, "bad_value", "system"),
        (r#""inode":18446744073709551616"#, "bad_value", "inode"),
        (r#""inode":"+1""#, "bad_value", "inode"),
        (r#""visibility":"0x1ffffffffffffffff""#, "bad_value", "visibility"),
        (r#""visibility":"0x""#, "bad_value", "visibility"),
        (r#""pid":4294967296"#, "bad_value", "pid"),
        (r#""pid":1e3"#, "bad_value", "pid"),
        (r#""metadata":[]"#, "bad_value", "metadata"),
        (r#""metadata":{"a":1,"a":1}"#, "bad_value", "metadata.a"),
        (r#""payload":{"a":{"b":1e999}}"#, "bad_value", "payload.a.b"),
        (r#""payload":[18446744073709551616]"#, "bad_value", "payload"),
        (r#""payload":{"$base64":"====="}"#, "bad_value", "payload.$base64"),
        (r#""payload":{"$blob":{"sha256":"00","bytes":1,"head":""}}"#, "bad_value", "payload.$blob.sha256"),
        (r#""payload":{"$blob":{"bytes":1,"head":""}}"#, "bad_value", "payload.$blob.sha256"),
        (r#""payload":{"$blob":{"sha":1}}"#, "unknown_key", "payload.$blob.sha"),
    ] {
        assert_eq!(refusal(members), (kind.into(), key.into()), "{members}");
    }
    let name = "n".repeat(129);
    assert_eq!(refusal(&format!("\"name\":{name:?}")), ("limit".into(), "name".into()));
    let e = one("{}").unwrap_err();
    assert_eq!((e.kind, e.key.as_deref()), (InputErrorKind::BadValue, Some("type")));
    let e = one(r#"{"type":"agent.decisoin"}"#).unwrap_err();
    assert_eq!((e.kind, e.key.as_deref()), (InputErrorKind::BadValue, Some("type")));
    assert!(e.message.contains("agent.decisoin"), "{e}");
}

#[test]
fn lines_that_are_no_events() {
    let kind = |line: &[u8]| parse_line(line).unwrap_err().kind;
    for blank in ["", " ", "\t\r\n", "\r"] {
        assert!(matches!(parse_line(blank.as_bytes()), Ok(LineInput::Blank)));
    }
    for syntax in
        ["{", "nope", r#"{"type":1}x"#, r#"{"a":01}"#, "{'a':1}", "\u{FEFF}{}", "{\"a\":\"\t\"}", "[{},]"]
    {
        assert_eq!(kind(syntax.as_bytes()), InputErrorKind::Syntax, "{syntax}");
    }
    assert_eq!(kind(b"{\"type\":1,\"agent\":\"\xFF\"}"), InputErrorKind::Syntax);
    for other in ["5", "null", "\"x\"", "[]", "[[]]", "[1]", "[null]"] {
        assert_eq!(kind(other.as_bytes()), InputErrorKind::BadValue, "{other}");
    }
    let long = vec![b' '; crate::limits::LINE_BYTES_MAX + 1];
    assert_eq!(kind(&long), InputErrorKind::Limit);
}

#[test]
fn groups_name_the_event_that_was_refused() {
    match parse_line(b" [ {\"type\":1027} ,{\"type\":\"agent.query\"}]\n") {
        Ok(LineInput::Group(events)) => assert_eq!(
            events,
            [Event::new(EventType::from_code(0x0403)), Event::named("agent.query").unwrap()]
        ),
        other => panic!("{other:?}"),
    }
    let e = parse_line(br#"[{"type":1},{"type":1,"pid":"x"}]"#).unwrap_err();
    assert_eq!((e.kind, e.key.as_deref()), (InputErrorKind::BadValue, Some("pid")));
    assert!(e.message.starts_with("event 2 of the group: "), "{e}");
    let many = format!("[{}{{\"type\":1}}]", "{\"type\":1},".repeat(crate::limits::BATCH_EVENTS_MAX));
    assert_eq!(parse_line(many.as_bytes()).unwrap_err().kind, InputErrorKind::Limit);
}

#[test]
fn nesting_ends_at_the_limit_whatever_the_depth() {
    let deep = |n: usize| format!("\"payload\":{}{}", "[".repeat(n), "]".repeat(n));
    assert!(one(&format!("{{\"type\":1,{}}}", deep(NESTING_MAX - 1))).is_ok());
    for n in [NESTING_MAX, 100_000] {
        let e = one(&format!("{{\"type\":1,{}}}", deep(n))).unwrap_err();
        assert_eq!((e.kind, e.key.as_deref()), (InputErrorKind::Limit, Some("payload")));
        assert_eq!(e.message, format!("nesting levels is {}, the limit is 128", n + 1));
    }
    let group = format!("[{{\"type\":1,{}}}]", deep(NESTING_MAX - 1));
    assert!(parse_line(group.as_bytes()).is_ok(), "a group's brackets are no level");
    assert_eq!(parse_line("[".repeat(1_000_000).as_bytes()).unwrap_err().kind, InputErrorKind::Syntax);
}

fn recorded(event: Event<'static>) -> Recorded {
    let causes = event
        .causes()
        .map(|cause| match cause {
            Cause::Sequence(n) => ResolvedCause { id: Uuid::from_u128(u128::from(n)), sequence: Some(n) },
            Cause::Id(id) => ResolvedCause { id, sequence: None },
        })
        .collect();
    let time = Recorded::time_of(&event, Timestamp(77));
    Recorded {
        sequence: 5,
        local_sequence: 2,
        id: event.id.unwrap_or(Uuid::from_u128(99)),
        event,
        time,
        recorded: Timestamp(1_770_624_631_821_000_001),
        boot_ns: 3,
        boot_id: Uuid::nil(),
        causes,
    }
}

#[test]
fn output_has_the_documented_keys() {
    let event = Event::decision("run \u{1B}[2J \u{9B}1m \u{202E} \u{2028}")
        .agent("planner")
        .parent(4u64)
        .root(Uuid::from_u128(5))
        .link(Link { effect: Some(Cause::Sequence(3)), ..Link::new(2u64, "informed_by") })
        .visibility(1 << 60)
        .inode(1 << 53)
        .source("import:codex")
        .payload(json!({"a": "\u{85}"}));
    let line = to_json(&recorded(event));
    assert!(line.starts_with(r#"{"sequence":5,"id":"00000000-0000-0000-0000-000000000063","type":"agent.decision","code":1027,"#), "{line}");
    assert!(!line.contains(|c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{202E}')), "{line}");
    let v: Value = serde_json::from_str(&line).unwrap();
    let uuid = |n| Value::from(Uuid::from_u128(n).to_string());
    for (key, expected) in [
        ("stream", json!("planner")),
        ("local_sequence", json!(2)),
        ("priority", json!("normal")),
        ("intent", json!("run \u{1B}[2J \u{9B}1m \u{202E} \u{2028}")),
        ("parent", uuid(4)),
        ("parent_sequence", json!(4)),
        ("root", uuid(5)),
        (
            "links",
            json!([{"cause": uuid(2), "cause_sequence": 2, "kind": "informed_by", "effect": uuid(3), "effect_sequence": 3}]),
        ),
        ("visibility", json!("0x1000000000000000")),
        ("inode", json!("9007199254740992")),
        ("source", json!("import:codex")),
        ("time", json!("1970-01-01T00:00:00.000000077Z")),
        ("recorded", json!("2026-02-09T08:10:31.821000001Z")),
        ("boot_ns", json!(3)),
        ("boot_id", uuid(0)),
        ("payload", json!({"a": "\u{85}"})),
    ] {
        assert_eq!(v.get(key), Some(&expected), "{key}");
    }
    assert_eq!(v.get("root_sequence"), None);
}

#[test]
fn unknown_times_and_forged_payloads_stay_one_valid_line() {
    let mut event = recorded(Event::decision("x").tag(TAG_TIME_UNKNOWN));
    event.event.payload = Payload::Json(JsonText("{\"a\":1}\n{\"b\":2}".into()));
    let line = to_json(&event);
    assert!(!line.contains("\"time\":") && !line.contains('\n'), "{line}");
    assert!(one(&line).is_ok());
}

fn text() -> impl Strategy<Value = Text<'static>> {
    prop_oneof![
        any::<String>().prop_map(Text::from),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(Text::from_bytes),
    ]
}

fn short_text() -> impl Strategy<Value = Text<'static>> {
    "\\PC{0,20}".prop_map(Text::from)
}

fn reference() -> impl Strategy<Value = Cause> {
    prop_oneof![
        (1..=u64::MAX).prop_map(Cause::Sequence),
        any::<u128>().prop_map(|n| Cause::Id(Uuid::from_u128(n)))
    ]
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..100u64, (1u64 << 53) - 2..(1 << 53) + 2, any::<u64>(), Just(u64::MAX)]
}

fn link() -> impl Strategy<Value = Link<'static>> {
    use proptest::option::of;
    let words = (of(short_text()), of(text()));
    (reference(), words, of(any::<u32>()), of(0..=100u32), of(any::<i64>()), of(reference())).prop_map(
        |(cause, (kind, description), code, strength, delay_ns, effect)| Link {
            cause,
            kind,
            code,
            strength,
            delay_ns,
            description,
            effect,
        },
    )
}

fn payload() -> impl Strategy<Value = Payload<'static>> {
    prop_oneof![
        Just(Payload::None),
        any::<String>()
            .prop_map(|s| Payload::from(json!({"text": s, "list": [1, -1, 0.1, u64::MAX, i64::MIN, null]}))),
        any::<f64>().prop_map(|f| Payload::from(json!([f]))),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(|b| Payload::Bytes(b.into())),
        (any::<[u8; 32]>(), number(), any::<String>()).prop_map(|(sha256, bytes, head)| BlobRef {
            sha256,
            bytes,
            head
        }
        .into()),
    ]
}

prop_compose! {
    fn extra()(
        percents in (proptest::option::of(0..=100u32), proptest::option::of(0..=100u32)),
        words in proptest::array::uniform3(proptest::option::of(text())),
        root in proptest::option::of(reference()),
        links in proptest::collection::vec(link().boxed(), 0..4),
        wides in proptest::array::uniform5(proptest::option::of(number())),
        narrows in proptest::array::uniform10(proptest::option::of(any::<u32>())),
        visibility in proptest::option::of(any::<u64>()),
        groups in any::<[bool; 3]>(),
        metadata in proptest::option::of(any::<String>()),
    ) -> Extra<'static> {
        let [agent_intent, transaction, chain] = words;
        let [node, edge, id, memory, inode] = wides;
        let [operation, dimensions, element, load, io_pressure, relevance, replay, file_type, cpu, pid] = narrows;
        Extra {
            confidence: percents.0,
            agent_intent,
            agent_confidence: percents.1,
            root,
            links,
            transaction,
            chain,
            visibility,
            relevance,
            replay_priority: replay.map(Priority::from_code),
            graph: groups[0].then_some(GraphContext { node, edge, operation }),
            vector: groups[1].then_some(VectorContext { id, dimensions, element }),
            system: groups[2].then_some(SystemContext { load, memory, io_pressure }),
            inode,
            file_type,
            cpu,
            pid,
            metadata: metadata.map(|m| JsonText(json!({"m": m}).to_string().into())),
            source: None,
        }
    }
}

prop_compose! {
    fn event()(
        codes in prop_oneof![
            (0..60usize).prop_map(|i| EventType::all().nth(i).unwrap().code()),
            any::<u32>(),
        ],
        subtype in proptest::option::of(any::<u32>()),
        priority in prop_oneof![1..=5u32, any::<u32>()],
        flags in any::<u32>(),
        time in proptest::option::of(any::<i64>()),
        words in proptest::array::uniform5(proptest::option::of(text())),
        name in proptest::option::of(short_text()),
        tags in proptest::collection::vec(text(), 0..4),
        parent in proptest::option::of(reference()),
        payload in payload().boxed(),
        extra in proptest::option::of(extra().boxed()),
    ) -> Event<'static> {
        let [stream, agent, session, path, intent] = words;
        Event {
            event_type: EventType::from_code(codes),
            subtype,
            priority: Priority::from_code(priority),
            flags: Flags::from_bits(flags),
            id: None,
            expect: None,
            time: time.map(Timestamp),
            name,
            stream,
            agent,
            session,
            path,
            intent,
            tags,
            parent,
            payload,
            extra: extra.filter(|x| *x != Extra::default()).map(Box::new),
        }
    }
}

proptest! {
    #[test]
    fn output_is_input_again(event in event().boxed()) {
        let recorded = recorded(event);
        let line = to_json(&recorded);
        prop_assert!(serde_json::from_str::<Value>(&line).is_ok(), "{}", line);
        let back = one(&line);
        // What the journal settled is given explicitly the second time: id, stream, time, references by id.
        let mut expected = recorded.event.clone();
        expected.id = Some(recorded.id);
        expected.stream = Some(Text::from_bytes(recorded.event.stream_or_default().to_vec()));
        expected.time = recorded.time;
        expected.parent = recorded.parent().map(|c| Cause::Id(c.id));
        let root = recorded.root().map(|c| Cause::Id(c.id));
        let links: Vec<_> = recorded.links().map(|(link, cause, effect)| Link {
            cause: Cause::Id(cause.unwrap().id),
            effect: effect.map(|c| Cause::Id(c.id)),
            ..link.clone()
        }).collect();
        if let Some(x) = expected.extra.as_deref_mut() {
            x.root = root;
            x.links = links;
        }
        prop_assert_eq!(back, Ok(expected), "{}", line);
    }

    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = parse_line(&bytes);
    }

    #[test]
    fn any_text_near_json_is_answered(text in r#"\[?\{("type"|"links"|"payload"|"graph"):[\[\]{},:"\\u0-9a-eE.+\- ]{0,30}\}\]?"#) {
        let _ = parse_line(text.as_bytes());
    }
}
