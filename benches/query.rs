//! What asking costs, with a million events in the journal.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unreachable_pub)]

mod common;

use common::{
    Args, Rng, Runs, Scratch, Table, Workload, disk_bytes, evict, percentile, rss_mib, short, timed,
};
use semj::event::EventType;
use semj::{Journal, Query};
use std::path::Path;
use std::time::{Duration, Instant};

/// Waits until the trees cover everything; how long that took, `None` when it took too long.
fn wait_for_index(journal: &Journal, at_most: Duration) -> Option<Duration> {
    let begin = Instant::now();
    loop {
        let status = journal.status();
        if status.indexed_sequence >= status.durable_sequence {
            return Some(begin.elapsed());
        }
        if begin.elapsed() > at_most {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn fill(table: &Table, work: &Workload, path: &Path, events: u64) {
    let journal = Journal::open(path).unwrap();
    let before = rss_mib();
    let emitter = journal.emitter("agent");
    let mut rng = Rng(7);
    let (_, took) = timed(|| {
        let mut last = None;
        for n in 1..=events {
            let mut event = work.at(n as usize).event();
            if n > 64 && rng.below(4) == 0 {
                event = event.parent(n - 1 - rng.below(60) as u64);
            }
            last = Some(emitter.emit_blocking(event).unwrap());
        }
        last.unwrap().wait().unwrap();
    });
    let lag = journal.status();
    let behind = lag.durable_sequence - lag.indexed_sequence.min(lag.durable_sequence);
    let measured = format!("{}/s", short(events as f64 / took.as_secs_f64()));
    table.row("filling, one producer, a quarter with parents", "", &measured, "");
    let caught_up = wait_for_index(&journal, Duration::from_secs(60));
    let caught_up = caught_up.map_or("> 60 s".to_owned(), |d| format!("{:.2} s", d.as_secs_f64()));
    table.row("trees behind at the end; until caught up", "", &format!("{behind} events; {caught_up}"), "");
    let record = disk_bytes(&path.join("segments")) as f64 / (1 << 20) as f64;
    let trees = disk_bytes(&path.join("trees")) as f64 / (1 << 20) as f64;
    let measured = format!("record {} MiB, trees {} MiB", short(record), short(trees));
    table.row("on disk", "", &measured, "");
    let grown = format!("{} MiB", short(rss_mib() - before));
    table.row("memory grown while filling and indexing", "< 50 MiB of index", &grown, "");
    journal.close(Duration::from_secs(30)).unwrap();
}

/// Several runs of a query: milliseconds, and how many events it found.
fn asked(runs: usize, mut before: impl FnMut(), mut ask: impl FnMut() -> u64) -> (Runs, u64) {
    let (mut millis, mut found) = (Runs::default(), 0);
    for _ in 0..runs {
        before();
        let (n, took) = timed(&mut ask);
        found = n;
        millis.push(took.as_secs_f64() * 1e3);
    }
    (millis, found)
}

fn count_of(journal: &Journal, query: Query) -> u64 {
    let events = journal.query().matching(query).run().unwrap();
    events.inspect(|e| assert!(e.is_ok())).count() as u64
}

fn points(table: &Table, journal: &Journal, path: &Path, events: u64, quick: bool) {
    let mut rng = Rng(11);
    let mut times = |reads: usize, cold: bool| {
        let mut nanos: Vec<u64> = (0..reads)
            .map(|_| {
                let sequence = 1 + rng.next() % events;
                if cold {
                    evict(&path.join("segments"));
                }
                let (event, took) = timed(|| journal.get(sequence).unwrap());
                assert_eq!(event.unwrap().sequence, sequence);
                took.as_nanos() as u64
            })
            .collect();
        nanos.sort_unstable();
        let micros = |share| short(percentile(&nanos, share) as f64 / 1e3);
        format!("p50 {} p99 {} us", micros(0.5), micros(0.99))
    };
    times(20_000, false);
    table.row("point read, hot", "< 2 us", &times(50_000, false), "LMDB 1.6, redb 3.0, SQLite 4.2 us");
    let reads = if quick { 50 } else { 200 };
    table.row("point read, cold", "< 60 us", &times(reads, true), "");
}

fn main() {
    let Some(args) = Args::parse() else { return };
    let events: u64 = if args.quick { 200_000 } else { 1_000_000 };
    let scratch = Scratch::new();
    let path = scratch.join("journal");
    let table = Table::new(&format!("query, {events} events"), scratch.path());
    let work = Workload::new(3, 16_384);
    fill(&table, &work, &path, events);
    let (journal, took) = timed(|| Journal::open(&path).unwrap());
    table.row("open", "", &format!("{} ms", short(took.as_secs_f64() * 1e3)), "");
    wait_for_index(&journal, Duration::from_secs(60));
    points(&table, &journal, &path, events, args.quick);
    let reader = Journal::open_read_only(&path).unwrap();
    let runs = if args.quick { 3 } else { 5 };
    let (millis, n) = asked(runs.min(3), || {}, || count_of(&journal, Query::new()));
    let rate = n as f64 / millis.median() * 1e3;
    table.row("full scan, every event handed out", "> 3 M/s", &format!("{}/s", short(rate)), "LMDB 7 M/s");
    let (millis, n) = asked(runs.min(3), || {}, || journal.query().count().unwrap());
    table.row("count of everything", "", &millis.show(" ms"), &format!("{n} events"));
    let rare = || Query::new().event_type(EventType::parse(Workload::RARE).unwrap());
    let cold = || evict(&path);
    let hot = || {};
    let (millis, n) = asked(runs, hot, || count_of(&journal, rare()));
    table.row(
        "rare type by index, hot",
        "< 6 ms",
        &millis.show(" ms"),
        &format!("{n} events; SQLite 5.9 ms"),
    );
    let (millis, n) = asked(runs, cold, || count_of(&journal, rare()));
    table.row("rare type by index, cold", "< 300 ms", &millis.show(" ms"), &format!("{n} events"));
    let by_summaries = || reader.run(rare()).unwrap().inspect(|e| assert!(e.is_ok())).count() as u64;
    let (millis, n) = asked(2, hot, by_summaries);
    table.row("rare type by summaries (no index), hot", "", &millis.show(" ms"), &format!("{n} events"));
    let (millis, n) = asked(runs, hot, || journal.query().matching(rare()).count().unwrap());
    table.row("rare type, count", "", &millis.show(" ms"), &format!("{n} events"));
    for (name, query) in [
        ("path prefix, one of 60 folders", Query::new().path("/home/user/project/src/module_55/")),
        ("one of 500 sessions", Query::new().session("session-0400")),
        ("one of 40 agents", Query::new().agent("agent-35")),
        ("tag", Query::new().tag("tool:web_search")),
        (
            "session and type",
            Query::new().session("session-0400").event_type(EventType::parse("filesystem.read").unwrap()),
        ),
        ("newest 10 of a session", Query::new().session("session-0400").reverse(true).limit(10)),
        ("newest 10 of all", Query::new().reverse(true).limit(10)),
    ] {
        let (millis, n) = asked(runs, hot, || count_of(&journal, query.clone()));
        table.row(name, "", &millis.show(" ms"), &format!("{n} events"));
    }
    let (millis, n) = asked(1, hot, || count_of(&journal, Query::new().text("White Rabbit with pink eyes")));
    table.row("text, in everything", "", &millis.show(" ms"), &format!("{n} events"));
    let mut rng = Rng(13);
    for (name, why) in [("why, random event", true), ("impact, random event", false)] {
        let (mut micros, mut edges) = (Vec::new(), 0);
        for _ in 0..if args.quick { 20 } else { 100 } {
            let sequence = 1_000 + rng.next() % (events - 2_000);
            let (graph, took) = timed(|| match why {
                true => journal.why(sequence).unwrap(),
                false => journal.impact(sequence).unwrap(),
            });
            edges += graph.edges.len();
            micros.push(took.as_micros() as u64);
        }
        micros.sort_unstable();
        let (p50, p99) = (percentile(&micros, 0.5) as f64, percentile(&micros, 0.99) as f64);
        let measured = format!("p50 {} p99 {} us", short(p50), short(p99));
        table.row(
            name,
            "",
            &measured,
            &format!("{:.1} edges on average", edges as f64 / micros.len() as f64),
        );
    }
    table.row("memory at the end", "", &format!("{} MiB", short(rss_mib())), "");
    journal.close(Duration::from_secs(30)).unwrap();
}
