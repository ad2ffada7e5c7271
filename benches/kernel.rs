//! What the kernel's records cost: encoding and decoding, beside the bare checksum and copy of the same bytes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unreachable_pub)]

mod common;
#[path = "../examples/kernel_sim/sim.rs"]
mod sim;

use common::{Args, Bare, Runs, Scratch, Table, percentile};
use semj::event::{Cause, ResolvedCause, Timestamp};
use semj::kernel::{
    Context, EventHeader, Instance, Kind, Numbering, Padded, Record, event_of, restore, show,
};
use semj::sources::{CommittedWriter, DATA_AT, KernelSource, OpenSource as _, SemjTail, TailForm};
use semj::{Event, Journal, Recorded};
use std::fs::File;
use std::hint::black_box;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// Nanoseconds of one call, several times over.
fn each(runs: usize, calls: u32, mut call: impl FnMut()) -> Runs {
    let mut all = Runs::default();
    for _ in 0..=runs {
        let begin = Instant::now();
        for _ in 0..calls {
            call();
        }
        all.push(begin.elapsed().as_nanos() as f64 / f64::from(calls));
    }
    // The first one warms up.
    all.0.remove(0);
    all
}

/// What an agent's producer writes: an id, an intent, fixed tags and a short payload.
fn typical() -> Record<'static> {
    let text = |t: &'static str| t.as_bytes();
    Record {
        header: EventHeader {
            event_id: 9,
            event_type: 0x0402,
            ktime: 1_726_000_131_456_813,
            sequence: 8,
            cpu_id: 11,
            process_id: 4250,
            global_sequence: 8,
            local_sequence: 8,
            event_flags: 11,
            event_priority: 3,
            root_cause_event_id: 9,
            agent_visibility_mask: u64::MAX,
            agent_relevance_score: 50,
            replay_priority: 3,
            ..EventHeader::default()
        },
        context: Context {
            session_id: 4250,
            agent_id: Padded::cut(text("planner-7")),
            agent_intent: Padded::cut(text("summarise the quarterly notes")),
            agent_confidence: 75,
            semantic_tags: Padded::cut(text(r#"{"operation":"agent","agent_id":"planner-7"}"#)),
            semantic_intent: Padded::cut(text("summarise the quarterly notes")),
            semantic_confidence: 80,
            ..Context::default()
        },
        payload: text(r#"{"model":"local","tokens":512}"#).into(),
        ..Record::default()
    }
}

/// An event as a journal hands it back.
fn recorded(event: &Event<'static>) -> Recorded {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(folder.path().join("journal")).unwrap();
    journal.emitter("bench").emit_blocking(event.clone()).unwrap().wait().unwrap();
    let found = journal.query().run().unwrap().next().unwrap().unwrap();
    journal.close(std::time::Duration::from_secs(10)).unwrap();
    found
}

fn main() {
    let Some(args) = Args::parse() else { return };
    let (runs, calls) = if args.quick { (5, 20_000) } else { (11, 100_000) };
    let table = Table::new("kernel", &std::env::current_dir().unwrap());
    let record = typical();
    let bytes = record.to_bytes().unwrap();
    let mut out = Vec::with_capacity(1 << 16);
    let mut copy = bytes.clone();

    let crc = each(runs, calls, || {
        let mut hasher = crc32fast::Hasher::new_with_initial(u32::MAX);
        hasher.update(black_box(&bytes));
        black_box(hasher.finalize());
    });
    let fill = each(runs, calls, || black_box(&mut copy).fill(0));
    let copied = each(runs, calls, || black_box(&mut copy).copy_from_slice(black_box(&bytes)));
    let rival = format!("crc {}, memset {}, memcpy {}", crc.show(""), fill.show(""), copied.show(""));

    let encode = each(runs, calls, || {
        out.clear();
        black_box(&record).encode(&mut out).unwrap();
        black_box(&out);
    });
    table.row("encode a record of 5,442 bytes, ns", "1,000", &encode.show(""), &rival);
    let decode = each(runs, calls, || {
        black_box(Record::decode(black_box(&bytes)).unwrap());
    });
    table.row("decode it, borrowing, ns", "1,000", &decode.show(""), "");

    let instance = Instance::named("bench");
    let event = event_of(&bytes, &instance).unwrap();
    let id = event.given_id().unwrap();
    let import = each(runs, calls / 10, || {
        black_box(event_of(black_box(&bytes), &instance).unwrap());
    });
    table.row("record to event of the journal, ns", "10,000", &import.show(""), "");
    let causes: Vec<ResolvedCause> = event
        .causes()
        .filter_map(|c| if let Cause::Id(id) = c { Some(ResolvedCause { id, sequence: None }) } else { None })
        .collect();
    let export = each(runs, calls / 10, || {
        out.clear();
        black_box(restore(black_box(&event), id, &causes, &mut out).unwrap());
    });
    assert_eq!(out, bytes);
    table.row("that event to the same record, ns", "10,000", &export.show(""), "");

    let own = Event::decision("summarise the quarterly notes")
        .agent("planner-7")
        .pid(4250)
        .time(Timestamp(1))
        .payload(serde_json::json!({"model": "local", "tokens": 512}));
    let own = recorded(&own);
    let numbering = Numbering::default();
    let export = each(runs, calls, || {
        out.clear();
        black_box(numbering.encode(black_box(&own), &mut out).unwrap());
    });
    table.row("own event to a record, ns", "1,000", &export.show(""), "");
    let shown = each(runs, calls / 10, || {
        black_box(show(Kind::Event, black_box(&bytes), false, false).unwrap());
    });
    table.row("record to JSON, ns", "", &shown.show(""), "");
    let kept = event.metadata_json().map_or(0, |m| m.as_str().len());
    let mut body = Vec::new();
    semj_storage::event::encode_body(&event, &mut body).unwrap();
    let measured = format!("{} B, of which {kept} beside the fields", body.len());
    table.row("an imported record in the journal", "", &measured, &format!("{} B as a record", bytes.len()));
    follow(&table, args.quick);
    wakes(&table, args.quick);
}

/// How a record gets to a reader that sleeps.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// The writer wakes it, in the head page.
    Woken,
    /// The writer writes, and inotify tells.
    Inotify,
    /// The writer stores the length into a mapping and tells nobody.
    Poll,
}

/// From the writer's commit to the record in the reader's hands, and what one record costs the writer: us.
fn wakes(table: &Table, quick: bool) {
    let folder = Path::new("/dev/shm");
    let folder = if folder.is_dir() { tempfile::tempdir_in(folder) } else { tempfile::tempdir() }.unwrap();
    for (way, name, count) in [
        (Way::Woken, "commit to the reader: woken by the writer, us", 2_000),
        (Way::Inotify, "commit to the reader: inotify, us", 2_000),
        (Way::Poll, "commit to the reader: slow poll alone, us", 100),
    ] {
        let (mut latencies, mut costs) = (Vec::new(), Vec::new());
        let path = folder.path().join(format!("{}", way as u8));
        wake(way, &path, if quick { count / 4 } else { count }, &mut latencies, &mut costs);
        let us = |times: &mut Vec<u64>, share| {
            times.sort_unstable();
            percentile(times, share) as f64 / 1e3
        };
        let measured = format!("p50 {:.1}, p90 {:.1}", us(&mut latencies, 0.5), us(&mut latencies, 0.9));
        table.row(name, "", &measured, &format!("writer p50 {:.1}", us(&mut costs, 0.5)));
    }
}

fn wake(way: Way, path: &Path, count: u64, latencies: &mut Vec<u64>, costs: &mut Vec<u64>) {
    let (mut kernel, mut dice) = (sim::Kernel::loaded_at(1), sim::Dice(1));
    let mut writer = CommittedWriter::create(path, 64 << 20).unwrap();
    let file = File::options().write(true).open(path).unwrap();
    if way != Way::Woken {
        file.write_all_at(&[0; 4], 12).unwrap();
    }
    let mut source = SemjTail::new(path).form(TailForm::CommittedLength).open(None).unwrap();
    let (told, seen) = channel();
    let reader = std::thread::spawn(move || {
        let mut found = 0;
        while found < count {
            found += look(source.as_mut());
            told.send((Instant::now(), found)).unwrap();
        }
    });
    let mut length = 0;
    for n in 1..=count {
        let record = kernel.event(&mut dice).2;
        fall_asleep();
        let begin;
        if way == Way::Inotify {
            file.write_all_at(&record, DATA_AT + length).unwrap();
            length += record.len() as u64;
            begin = Instant::now();
            file.write_all_at(&length.to_le_bytes(), 0).unwrap();
        } else {
            writer.write(&record).unwrap();
            if way == Way::Poll {
                // inotify tells that the bytes are written; the length stored into the mapping is what nobody tells.
                fall_asleep();
            }
            begin = Instant::now();
            writer.commit().unwrap();
        }
        costs.push(begin.elapsed().as_nanos() as u64);
        let at = loop {
            match seen.recv().unwrap() {
                (at, found) if found >= n => break at,
                _ => {}
            }
        };
        latencies.push(at.saturating_duration_since(begin).as_nanos() as u64);
    }
    reader.join().unwrap();
}

/// Long enough for the reader to sleep again.
fn fall_asleep() {
    let asleep = Instant::now() + Duration::from_millis(1);
    while Instant::now() < asleep {
        std::thread::yield_now();
    }
}

/// Sleeps as the engine's thread does, then reads; answers how many records came.
fn look(source: &mut dyn KernelSource) -> u64 {
    let mut items = Vec::new();
    if !source.next_batch(1_000, &mut items).unwrap().more && items.is_empty() {
        let every = source.poll_every();
        let fd = source.pollable().unwrap();
        let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: i64::from(every.subsec_nanos()) };
        let poll = rustix::event::PollFd::from_borrowed_fd(fd, rustix::event::PollFlags::IN);
        rustix::event::poll(&mut [poll], Some(&timeout)).unwrap();
        source.next_batch(1_000, &mut items).unwrap();
    }
    items.iter().filter(|i| matches!(i, semj::sources::Item::Record(_))).count() as u64
}

/// Following a stream that another writes: how long `sync_now` takes behind a record, and how many records a second.
fn follow(table: &Table, quick: bool) {
    const SOON: Duration = Duration::from_secs(60);
    let scratch = Scratch::new();
    // Five kilobytes a record: on the journal's disk the writer would be all that is measured.
    let memory = std::path::Path::new("/dev/shm");
    let apart = memory.is_dir().then(|| tempfile::tempdir_in(memory).unwrap());
    let stream = apart.as_ref().map_or_else(|| scratch.join("k"), |folder| folder.path().join("k"));
    let mut file = File::create(&stream).unwrap();
    let (mut kernel, mut dice) = (sim::Kernel::loaded_at(1), sim::Dice(1));
    let journal = Journal::options().source(SemjTail::new(&stream)).open(scratch.join("j")).unwrap();
    let mut times = Vec::new();
    for _ in 0..if quick { 200 } else { 1_000 } {
        file.write_all(&kernel.event(&mut dice).2).unwrap();
        let begin = Instant::now();
        journal.sync_now(SOON).unwrap();
        times.push(begin.elapsed().as_nanos() as u64);
    }
    times.sort_unstable();
    let mut bare = Bare::preallocated(&scratch.join("bare"), 16 << 20);
    let mut syncs: Vec<u64> = (0..times.len())
        .map(|_| {
            let begin = Instant::now();
            bare.write(&[7; 900]);
            bare.sync();
            begin.elapsed().as_nanos() as u64
        })
        .collect();
    syncs.sort_unstable();
    let show = |t: &[u64]| {
        let us = |share| percentile(t, share) as f64 / 1e3;
        format!("p50 {:.0}, p90 {:.0}, p99 {:.0}", us(0.5), us(0.9), us(0.99))
    };
    let rival = format!("write and fdatasync alone: {}", show(&syncs));
    table.row("sync_now behind one record, us", "< 1,000", &show(&times), &rival);
    let count: u32 = if quick { 20_000 } else { 100_000 };
    let more: Vec<u8> = (0..count).flat_map(|_| kernel.event(&mut dice).2).collect();
    let begin = Instant::now();
    file.write_all(&more).unwrap();
    journal.sync_now(SOON).unwrap();
    let rate = f64::from(count) / begin.elapsed().as_secs_f64();
    let measured = format!("{rate:.0}");
    table.row("records followed a second, durable", "> 80,000", &measured, "");
    journal.close(SOON).unwrap();

    // The same through a file with a committed length, which wakes the journal.
    let stream = stream.with_extension("committed");
    let mut writer = CommittedWriter::create(&stream, 6_000 * (u64::from(count) + 1)).unwrap();
    let tail = SemjTail::new(&stream).form(TailForm::CommittedLength);
    let journal = Journal::options().source(tail).open(scratch.join("c")).unwrap();
    let mut kernel = sim::Kernel::loaded_at(1);
    let records: Vec<Vec<u8>> = (0..count).map(|_| kernel.event(&mut dice).2).collect();
    let begin = Instant::now();
    for record in &records {
        writer.append(record).unwrap();
    }
    let written = begin.elapsed().as_secs_f64();
    journal.sync_now(SOON).unwrap();
    let rate = f64::from(count) / begin.elapsed().as_secs_f64();
    let alone = format!("the writer alone: {:.0}", f64::from(count) / written);
    table.row("the same with a committed length", "> 80,000", &format!("{rate:.0}"), &alone);
    journal.close(SOON).unwrap();
}
