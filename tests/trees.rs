//! The log is the only truth: with trees, without them, with broken or foreign ones, every answer is the same.
//!
//! What is expected is computed from the list of events that was emitted, not by the engine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::{Random, World, complaint, until};
use semj::event::{Link, Timestamp};
use semj::{Event, EventType, Journal, Priority, Query, Reader, Recorded};
use serde_json::json;
use std::path::Path;
use std::time::Duration;
use uuid::Uuid;

const EVENTS: u64 = 12_345;
/// All complete chunks of 4,096.
const INDEXED: u64 = 12_288;
const TYPES: [&str; 5] =
    ["agent.decision", "agent.query", "filesystem.write", "filesystem.read", "observability.error_reported"];

/// What is known of an emitted event.
#[derive(Clone)]
struct Known {
    sequence: u64,
    kind: usize,
    agent: String,
    stream: Option<String>,
    session: Option<String>,
    path: Option<String>,
    tags: Vec<String>,
    transaction: Option<String>,
    name: Option<String>,
    priority: Priority,
    intent: String,
    time: i64,
    parent: Option<u64>,
    link: Option<u64>,
    id: Option<Uuid>,
}

fn known(random: &mut Random, sequence: u64) -> Known {
    let at = |percent: u64, random: &mut Random| random.percent(percent);
    Known {
        sequence,
        kind: if random.below(300) == 0 { 4 } else { random.below(4) as usize },
        agent: format!("agent{}", random.below(7)),
        stream: at(30, random).then(|| format!("stream{}", random.below(3))),
        session: at(80, random).then(|| format!("session{}", random.below(400))),
        path: at(50, random).then(|| format!("/src/d{}/f{}.rs", random.below(20), random.below(500))),
        tags: (0..random.below(4)).map(|t| format!("tag{}:{t}", random.below(60))).collect(),
        transaction: at(10, random).then(|| format!("tx{}", random.below(30))),
        name: at(5, random).then(|| format!("my.kind{}", random.below(4))),
        priority: [Priority::NORMAL, Priority::LOW, Priority::HIGH][random.below(3) as usize],
        intent: format!("step {sequence} {}", if at(1, random) { "NeeDLe" } else { "hay" }),
        // Out of order on purpose.
        time: 1_700_000_000_000_000_000 + (sequence as i64 + random.below(500) as i64) * 1_000_000_000,
        parent: (sequence > 1 && at(60, random)).then(|| 1 + random.below(sequence - 1)),
        link: (sequence > 1 && at(10, random)).then(|| 1 + random.below(sequence - 1)),
        id: at(20, random).then(|| Uuid::from_u128(u128::from(sequence) << 64 | 7)),
    }
}

impl Known {
    fn event(&self) -> Event<'static> {
        let mut event = Event::named(TYPES[self.kind])
            .unwrap()
            .agent(self.agent.clone())
            .priority(self.priority)
            .intent(self.intent.clone())
            .time(Timestamp(self.time))
            .payload(json!({"n": self.sequence}));
        for tag in &self.tags {
            event = event.tag(tag.clone());
        }
        let set = |event: Event<'static>,
                   text: &Option<String>,
                   f: fn(Event<'static>, String) -> Event<'static>| {
            text.clone().map_or(event.clone(), |t| f(event, t))
        };
        event = set(event, &self.stream, |e, t| e.stream(t));
        event = set(event, &self.session, |e, t| e.session(t));
        event = set(event, &self.path, |e, t| e.path(t));
        event = set(event, &self.transaction, |e, t| e.transaction(t));
        event = set(event, &self.name, |e, t| e.name(t));
        if let Some(parent) = self.parent {
            event = event.parent(parent);
        }
        if let Some(link) = self.link {
            event = event.link(Link::new(link, "informed_by"));
        }
        self.id.map_or(event.clone(), |id| event.id(id))
    }

    fn stream(&self) -> &str {
        self.stream.as_deref().unwrap_or(&self.agent)
    }
}

type Case = (Query, Box<dyn Fn(&Known) -> bool>);

fn case(query: Query, wanted: impl Fn(&Known) -> bool + 'static) -> Case {
    (query, Box::new(wanted))
}

fn ty(at: usize) -> EventType {
    EventType::parse(TYPES[at]).unwrap()
}

fn cases() -> Vec<Case> {
    let q = Query::new;
    let is = |o: &Option<String>, s: &str| o.as_deref() == Some(s);
    let time = |n: i64| 1_700_000_000_000_000_000 + n * 1_000_000_000;
    vec![
        case(q(), |_| true),
        case(q().event_type(ty(4)), |k| k.kind == 4),
        case(q().event_type(ty(0)).event_type(ty(4)), |k| k.kind == 0 || k.kind == 4),
        case(q().category("filesystem".parse_category()), |k| k.kind == 2 || k.kind == 3),
        case(q().agent("agent3"), |k| k.agent == "agent3"),
        case(q().agent("agent3").agent("agent5"), |k| k.agent == "agent3" || k.agent == "agent5"),
        case(q().agent("agent3").event_type(ty(1)), |k| k.agent == "agent3" && k.kind == 1),
        case(q().agent("nobody"), |_| false),
        case(q().session("session17"), move |k| is(&k.session, "session17")),
        case(q().session("session17").session("session300"), move |k| {
            is(&k.session, "session17") || is(&k.session, "session300")
        }),
        case(q().stream("stream1"), |k| k.stream() == "stream1"),
        case(q().stream("agent2"), |k| k.stream() == "agent2"),
        case(q().path("/src/d1/f7.rs"), |k| k.path.as_ref().is_some_and(|p| p.starts_with("/src/d1/f7.rs"))),
        case(q().path("/src/d1"), |k| k.path.as_ref().is_some_and(|p| p.starts_with("/src/d1"))),
        case(q().path("/src/d1").path("/src/d7/"), |k| {
            k.path.as_ref().is_some_and(|p| p.starts_with("/src/d1") || p.starts_with("/src/d7/"))
        }),
        case(q().tag("tag7:0"), |k| k.tags.iter().any(|t| t == "tag7:0")),
        case(q().tag("tag7:0").tag("tag8:1").agent("agent1"), |k| {
            k.agent == "agent1" && k.tags.iter().any(|t| t == "tag7:0" || t == "tag8:1")
        }),
        case(q().transaction("tx9"), move |k| is(&k.transaction, "tx9")),
        case(q().name("my.kind2"), move |k| is(&k.name, "my.kind2")),
        case(q().priority(Priority::HIGH).event_type(ty(4)), |k| k.priority == Priority::HIGH && k.kind == 4),
        case(q().source("user").agent("agent0"), |k| k.agent == "agent0"),
        case(q().source("import:pi"), |_| false),
        case(q().after(4_000).before(4_200), |k| k.sequence > 4_000 && k.sequence < 4_200),
        case(q().after(4_090).before(8_200).session("session9"), move |k| {
            k.sequence > 4_090 && k.sequence < 8_200 && is(&k.session, "session9")
        }),
        case(q().after(12_280).agent("agent4"), |k| k.sequence > 12_280 && k.agent == "agent4"),
        case(q().since(Timestamp(time(6_000))).until(Timestamp(time(6_100))), move |k| {
            k.time >= time(6_000) && k.time < time(6_100)
        }),
        case(q().since(Timestamp(time(12_700))), move |k| k.time >= time(12_700)),
        case(q().until(Timestamp(time(300))).agent("agent6"), move |k| {
            k.time < time(300) && k.agent == "agent6"
        }),
        case(q().text("needle"), |k| k.intent.contains("NeeDLe")),
        case(q().text("needle").agent("agent1").event_type(ty(2)), |k| {
            k.intent.contains("NeeDLe") && k.agent == "agent1" && k.kind == 2
        }),
        case(q().visible_to(1).session("session1"), move |k| is(&k.session, "session1")),
        case(q().transaction("tx1").stream("stream0").path("/src/"), move |k| {
            is(&k.transaction, "tx1") && k.stream() == "stream0" && k.path.is_some()
        }),
    ]
}

trait ParseCategory {
    fn parse_category(&self) -> semj::Category;
}

impl ParseCategory for str {
    fn parse_category(&self) -> semj::Category {
        semj::Category::parse(self).unwrap()
    }
}

/// The same questions to an owner and to a reader.
enum Asked<'a> {
    Owner(&'a Journal),
    Reader(&'a Reader),
}

impl Asked<'_> {
    fn run(&self, query: Query) -> Vec<Recorded> {
        let events = match self {
            Asked::Owner(journal) => journal.query().matching(query).run().unwrap(),
            Asked::Reader(reader) => reader.run(query).unwrap(),
        };
        events.map(|e| e.unwrap()).collect()
    }

    fn count(&self, query: Query) -> u64 {
        match self {
            Asked::Owner(journal) => journal.query().matching(query).count().unwrap(),
            Asked::Reader(reader) => reader.count(query).unwrap(),
        }
    }

    fn graph(&self, sequence: u64, causes: bool) -> Vec<(u64, u64, String)> {
        let limits = semj::WalkLimits::default;
        let graph = match (self, causes) {
            (Asked::Owner(j), true) => j.why(sequence),
            (Asked::Owner(j), false) => j.impact(sequence),
            (Asked::Reader(r), true) => r.why(sequence, limits()),
            (Asked::Reader(r), false) => r.impact(sequence, limits()),
        }
        .unwrap();
        assert!(!graph.truncated);
        let edge = |e: &semj::Edge| (e.cause_sequence.unwrap(), e.effect_sequence.unwrap(), e.kind.clone());
        let mut edges: Vec<_> = graph.edges.iter().map(edge).collect();
        edges.sort();
        edges
    }

    fn find(&self, id: Uuid) -> Option<u64> {
        match self {
            Asked::Owner(journal) => journal.get(id).unwrap().map(|e| e.sequence),
            Asked::Reader(reader) => reader.get(id).unwrap().map(|e| e.sequence),
        }
    }
}

/// All edges that lead to `start` (or from it), by hand.
fn edges(all: &[Known], start: u64, causes: bool) -> Vec<(u64, u64, String)> {
    let own = |k: &Known| {
        let parent = k.parent.map(|p| (p, k.sequence, "parent".to_owned()));
        let link = k.link.map(|l| (l, k.sequence, "informed_by".to_owned()));
        parent.into_iter().chain(link)
    };
    let mut found = Vec::new();
    let mut reached = std::collections::BTreeSet::from([start]);
    // Causes come before effects, so one pass in the right direction finds everything.
    let order: Vec<&Known> = if causes { all.iter().rev().collect() } else { all.iter().collect() };
    for edge in order.into_iter().flat_map(own) {
        let (from, to) = if causes { (edge.1, edge.0) } else { (edge.0, edge.1) };
        if reached.contains(&from) {
            reached.insert(to);
            found.push(edge);
        }
    }
    found.sort();
    found
}

/// Answers of all kinds against the list; `what` tells in which state the trees are.
fn check(what: &str, asked: &Asked<'_>, all: &[Known]) {
    for (at, (query, wanted)) in cases().into_iter().enumerate() {
        let expected: Vec<u64> = all.iter().filter(|k| wanted(k)).map(|k| k.sequence).collect();
        let label = format!("{what}, query {at}: {query:?}");
        let found = asked.run(query.clone());
        assert_eq!(found.iter().map(|e| e.sequence).collect::<Vec<_>>(), expected, "{label}");
        for event in &found {
            let known = &all[event.sequence as usize - 1];
            assert_eq!(event.event.payload_value().as_json(), Some(json!({"n": event.sequence})), "{label}");
            assert!(known.id.is_none_or(|id| id == event.id), "{label}");
        }
        if !what.starts_with("with trees") && at % 4 != 1 {
            continue;
        }
        assert_eq!(asked.count(query.clone()), expected.len() as u64, "{label}");
        let newest: Vec<u64> =
            asked.run(query.clone().reverse(true).limit(9)).iter().map(|e| e.sequence).collect();
        assert_eq!(newest, expected.iter().rev().take(9).copied().collect::<Vec<_>>(), "{label}, newest");
        let oldest: Vec<u64> = asked.run(query.limit(5)).iter().map(|e| e.sequence).collect();
        assert_eq!(oldest, expected.iter().take(5).copied().collect::<Vec<_>>(), "{label}, oldest");
    }
    for start in [12_340, 9_000, 77] {
        assert_eq!(asked.graph(start, true), edges(all, start, true), "{what}: why {start}");
    }
    for start in [12_200, 11_000] {
        assert_eq!(asked.graph(start, false), edges(all, start, false), "{what}: impact {start}");
    }
    for known in all.iter().filter(|k| k.id.is_some()).step_by(401) {
        assert_eq!(asked.find(known.id.unwrap()), Some(known.sequence), "{what}");
    }
    assert_eq!(asked.find(Uuid::from_u128(99)), None, "{what}");
}

fn close(journal: Journal) {
    journal.close(Duration::from_secs(10)).unwrap();
}

/// Makes the journal, and waits for its trees.
fn filled(path: &Path, all: &[Known]) {
    let journal = Journal::open(path).unwrap();
    let emitter = journal.emitter_default();
    let mut last = None;
    for known in all {
        let ticket = emitter.emit_blocking(known.event()).unwrap();
        assert_eq!(ticket.sequence(), known.sequence);
        last = Some(ticket);
    }
    last.unwrap().wait().unwrap();
    until("the trees", || journal.status().indexed_sequence >= INDEXED);
    check("with trees", &Asked::Owner(&journal), all);
    let reader = Journal::open_read_only(path).unwrap();
    check("reader beside the owner", &Asked::Reader(&reader), all);
    close(journal);
}

/// What is done to the trees, in words and in deed.
type Spoiling<'a> = (&'a str, &'a dyn Fn(&Path));

/// Where sled keeps its log.
fn database(trees: &Path) -> std::path::PathBuf {
    assert!(trees.join("db").is_file(), "sled's file has another name now");
    trees.join("db")
}

#[test]
fn whatever_is_done_to_the_trees_changes_no_answer() {
    let mut random = Random::new();
    let world = World::new();
    let all: Vec<Known> = (1..=EVENTS).map(|n| known(&mut random, n)).collect();
    let path = world.journal();
    filled(&path, &all);
    let trees = path.join("trees");
    let other = world.path("other");
    let others: Vec<Known> = (1..=EVENTS).map(|n| known(&mut random, n)).collect();
    {
        let journal = Journal::open(&other).unwrap();
        let emitter = journal.emitter_default();
        let mut last = None;
        for known in &others {
            last = Some(emitter.emit_blocking(known.event()).unwrap());
        }
        last.unwrap().wait().unwrap();
        until("the other trees", || journal.status().indexed_sequence >= INDEXED);
        close(journal);
    }
    let journal = Journal::open(&path).unwrap();
    check("trees of the run before", &Asked::Owner(&journal), &all);
    close(journal);

    let deleted = |trees: &Path| std::fs::remove_dir_all(trees).unwrap();
    let garbage = |trees: &Path| {
        let length = std::fs::metadata(database(trees)).unwrap().len();
        std::fs::write(database(trees), vec![0xA5; length as usize]).unwrap();
    };
    let half = |trees: &Path| {
        let file = std::fs::File::options().write(true).open(database(trees)).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    };
    let flipped = |trees: &Path| {
        let mut bytes = std::fs::read(database(trees)).unwrap();
        for at in (64..bytes.len()).step_by(1_000) {
            bytes[at] ^= 0x10;
        }
        std::fs::write(database(trees), bytes).unwrap();
    };
    let emptied = |trees: &Path| std::fs::write(database(trees), b"").unwrap();
    let file = |trees: &Path| {
        std::fs::remove_dir_all(trees).unwrap();
        std::fs::write(trees, b"no folder at all").unwrap();
    };
    let foreign = |trees: &Path| {
        std::fs::remove_dir_all(trees).unwrap();
        std::fs::create_dir(trees).unwrap();
        for entry in std::fs::read_dir(other.join("trees")).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                std::fs::copy(entry.path(), trees.join(entry.file_name())).unwrap();
            }
        }
    };
    let spoilings: [Spoiling<'_>; 7] = [
        ("deleted", &deleted),
        ("garbage", &garbage),
        ("cut in half", &half),
        ("flipped bits", &flipped),
        ("emptied", &emptied),
        ("a file in place of the folder", &file),
        ("trees of another journal", &foreign),
    ];
    for (what, spoil) in spoilings {
        spoil(&trees);
        let journal = Journal::open(&path).unwrap();
        check(what, &Asked::Owner(&journal), &all);
        // Emission takes no notice either. An id that is known stays known, whoever keeps the index.
        let emitter = journal.emitter_default();
        let repeated = all.iter().find(|k| k.id.is_some()).unwrap();
        let ticket = emitter.try_emit(repeated.event()).unwrap();
        assert!(ticket.is_duplicate() && ticket.sequence() == repeated.sequence, "{what}");
        // And they are made again.
        until(what, || journal.status().indexed_sequence >= INDEXED);
        if matches!(what, "garbage" | "trees of another journal") {
            check(&format!("{what}, made again"), &Asked::Owner(&journal), &all);
        }
        close(journal);
    }
}

#[test]
fn the_command_line_takes_broken_trees_without_a_word() {
    let world = World::new();
    let input = "{\"type\":\"agent.query\",\"agent\":\"a\"}\n".repeat(5_000);
    assert_eq!(world.run(&["append"], input.as_bytes()).status.code(), Some(0));
    let trees = world.journal().join("trees");
    let _ = std::fs::remove_dir_all(&trees);
    std::fs::create_dir(&trees).unwrap();
    for name in ["db", "conf"] {
        std::fs::write(trees.join(name), [0xA5; 4_096]).unwrap();
    }
    let mut talk = common::Talk::start(&world, &["append"]);
    talk.say("{\"type\":\"agent.query\",\"agent\":\"b\"}\n");
    assert_eq!(talk.hear()["sequence"], json!(5_001));
    until("the trees", || world.one(&["verify", "--quick", "--json"])["trees"] == json!("ok"));
    assert_eq!(world.one(&["query", "--agent", "b", "--count", "--json"]), json!({"count": 1}));
    let mut stderr = talk.child.stderr.take().unwrap();
    assert_eq!(talk.end(), Some(0));
    let mut told = String::new();
    std::io::Read::read_to_string(&mut stderr, &mut told).unwrap();
    assert_eq!(told, "", "a broken projection is nobody's business");
    let verified = world.run(&["verify"], b"");
    assert_eq!(verified.status.code(), Some(0), "{}", complaint(&verified));
}
