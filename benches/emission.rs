//! What an emission costs its caller: time by percentiles, processor time, allocations; and its pieces alone.

#![allow(unsafe_code, reason = "a counting allocator cannot be written without")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unreachable_pub)]

mod common;

use common::{Args, Runs, Scratch, Table, Workload, percentile, short};
use rustix::time::{ClockId, clock_gettime};
use semj::{Event, Journal};
use semj_actors::clock::{Clock, SystemClock};
use semj_actors::ledger::{IdIndex, Ledger, Prepared, Streams};
use semj_storage::backend::RealBackend;
use semj_storage::log::Segments;
use serde_json::json;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are handed on.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
        // SAFETY: the caller's promises are handed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Emitted before the disk is waited for: far below what the ledger holds.
const BURST: usize = 16_384;

fn cpu_ns(clock: ClockId) -> u64 {
    let t = clock_gettime(clock);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// What one kind of emission costs.
struct Cost {
    nanos: Vec<u64>,
    thread_cpu: f64,
    allocations: f64,
    full: u64,
}

/// Bursts from `producers` threads at once; every emission timed where `each` says so.
fn bursts(
    journal: &Journal,
    work: &Workload,
    producers: usize,
    rounds: usize,
    each: bool,
    make: impl for<'w> Fn(&'w Workload, usize) -> Event<'w> + Sync,
) -> Cost {
    let per_thread = BURST / producers;
    let gate = Barrier::new(producers);
    let costs: Vec<Cost> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..producers)
            .map(|thread| {
                let (gate, make) = (&gate, &make);
                let emitter = journal.emitter(&format!("agent-{thread}"));
                scope.spawn(move || {
                    let mut nanos = Vec::with_capacity(rounds * per_thread);
                    let (mut cpu, mut allocations, mut full) = (0, 0, 0);
                    for round in 0..rounds {
                        gate.wait();
                        let (cpu_before, allocated) =
                            (cpu_ns(ClockId::ThreadCPUTime), ALLOCATIONS.with(Cell::get));
                        let mut last = None;
                        for n in 0..per_thread {
                            let begin = each.then(Instant::now);
                            let ticket = emitter.try_emit(make(work, round * 7 + thread * 1_000 + n));
                            if let Some(begin) = begin {
                                nanos.push(begin.elapsed().as_nanos() as u64);
                            }
                            match ticket {
                                Ok(ticket) => last = Some(ticket),
                                Err(_) => full += 1,
                            }
                        }
                        cpu += cpu_ns(ClockId::ThreadCPUTime) - cpu_before;
                        allocations += ALLOCATIONS.with(Cell::get) - allocated;
                        gate.wait();
                        last.unwrap().wait().unwrap();
                    }
                    let events = (rounds * per_thread) as f64;
                    Cost {
                        nanos,
                        thread_cpu: cpu as f64 / events,
                        allocations: allocations as f64 / events,
                        full,
                    }
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let count = costs.len() as f64;
    let mut all = Cost { nanos: Vec::new(), thread_cpu: 0.0, allocations: 0.0, full: 0 };
    for cost in costs {
        all.nanos.extend(cost.nanos);
        all.thread_cpu += cost.thread_cpu / count;
        all.allocations += cost.allocations / count;
        all.full += cost.full;
    }
    all.nanos.sort_unstable();
    all
}

/// Nanoseconds per turn, several runs.
fn per_turn(runs: usize, turns: usize, mut turn: impl FnMut(usize)) -> Runs {
    let mut found = Runs::default();
    for _ in 0..runs {
        let begin = Instant::now();
        for n in 0..turns {
            turn(n);
        }
        found.push(begin.elapsed().as_nanos() as f64 / turns as f64);
    }
    found
}

fn pieces(table: &Table, work: &Workload, scratch: &Scratch, runs: usize) -> f64 {
    let turns = 50_000;
    let instant = per_turn(runs, turns, |_| {
        black_box(Instant::now());
    });
    table.row("clock: Instant::now, once per timed emission", "", &instant.show(" ns"), "");
    let clock = SystemClock::new();
    let boot = per_turn(runs, turns, |_| {
        black_box(clock.boot_ns());
    });
    table.row("clock: boot-time, in every emission", "", &boot.show(" ns"), "");
    let built = per_turn(runs, turns, |n| {
        black_box(work.at(n).event());
    });
    table.row("building the event (borrowed)", "", &built.show(" ns"), "");
    let mut out = Vec::with_capacity(1 << 20);
    let encoded = per_turn(runs, turns, |n| {
        out.clear();
        semj_storage::event::encode_body(&work.at(n).event(), &mut out).unwrap();
    });
    table.row("building + encode_body", "", &encoded.show(" ns"), "rmp-serde alone 59 ns");
    let json = per_turn(runs, turns, |n| {
        black_box(work.at(n).value.to_string());
    });
    table.row("writing the payload's JSON", "", &json.show(" ns"), "");
    let mut prepared = Prepared::default();
    let prepare = per_turn(runs, turns, |n| {
        prepared.clear();
        prepared.add(&work.at(n).event(), 0).unwrap();
    });
    table.row("building + Prepared::add", "", &prepare.show(" ns"), "");
    let folder = scratch.join("ledger");
    std::fs::create_dir_all(&folder).unwrap();
    let segments = Arc::new(Segments::open(Arc::new(RealBackend::new()), folder, uuid::Uuid::nil()).unwrap());
    let streams = Streams::new(segments.clone(), 0);
    streams.slot(b"agent-0").unwrap();
    let ledger = Ledger::new(0, IdIndex::new(segments, 0), streams);
    let admit = per_turn(runs, turns, |n| {
        let admitted = ledger.admit(&prepared, n as i64, 0, &[]).unwrap();
        if admitted.first.is_multiple_of(4_096) {
            ledger.seal();
            ledger.release(admitted.first);
        }
    });
    table.row("ledger.admit", "enqueue < 100 ns", &admit.show(" ns"), "memcpy of it 27 ns");
    instant.median()
}

fn borrowed(work: &Workload, n: usize) -> Event<'_> {
    work.at(n).event()
}

fn with_json(work: &Workload, n: usize) -> Event<'_> {
    let s = work.at(n);
    Event::new(s.event_type)
        .agent(s.agent.as_str())
        .session(s.session.as_str())
        .path(s.path.as_str())
        .intent(s.intent.as_str())
        .payload(json!({
            "gen_ai.tool.name": "bash",
            "gen_ai.tool.call.id": n,
            "gen_ai.tool.call.result": s.value["gen_ai.tool.call.result"].as_str(),
        }))
}

fn main() {
    let Some(args) = Args::parse() else { return };
    let scratch = Scratch::new();
    let table = Table::new("emission", scratch.path());
    // Small enough for the cache: a host has just made the event it emits.
    let work = Workload::new(1, 256);
    table.row("mean body", "323 B", &format!("{} B", work.body_bytes()), "");
    let (rounds, runs) = if args.quick { (4, 3) } else { (12, 5) };
    let mut clock = 0.0;
    if args.wants("pieces") {
        clock = pieces(&table, &work, &scratch, runs);
    }
    if !args.wants("emit") {
        return;
    }
    for producers in [1, 2, 4] {
        for (name, target) in [("borrowed", "p50<150 p99<600 p99.9<5000"), ("json!", "p50<300")] {
            let journal = Journal::open(scratch.join(&format!("{name}{producers}"))).unwrap();
            let one = |rounds, each| match name {
                "borrowed" => bursts(&journal, &work, producers, rounds, each, borrowed),
                _ => bursts(&journal, &work, producers, rounds, each, with_json),
            };
            one(2, true);
            let mut shares = [Runs::default(), Runs::default(), Runs::default()];
            for _ in 0..runs {
                let cost = one(rounds, true);
                for (runs, share) in shares.iter_mut().zip([0.5, 0.99, 0.999]) {
                    runs.push(percentile(&cost.nanos, share) as f64);
                }
            }
            let [p50, p99, p999] = shares;
            let measured = format!("p50 {} p99 {} p99.9 {}", p50.show(""), p99.show(""), p999.show(""));
            let note = format!("ns, the clock's {} ns included", short(clock));
            table.row(&format!("try_emit, {name}, {producers} producers"), target, &measured, &note);
            // Untimed: what an emission takes off the host's own processor time.
            let (mut cpu, mut all, mut allocations, mut full) = (Runs::default(), Runs::default(), 0.0, 0);
            for _ in 0..runs {
                let before = cpu_ns(ClockId::ProcessCPUTime);
                let cost = one(rounds, false);
                let events = (rounds * (BURST / producers) * producers) as f64;
                all.push((cpu_ns(ClockId::ProcessCPUTime) - before) as f64 / events);
                cpu.push(cost.thread_cpu);
                allocations = cost.allocations;
                full += cost.full;
            }
            let measured = format!("{}; all threads {}", cpu.show(" ns"), all.show(" ns"));
            let note = format!("{allocations:.3} allocations, {full} full");
            table.row("  processor time per event, emitting thread", "host 150-250", &measured, &note);
            let _ = journal.close(Duration::from_secs(30));
            let _ = std::fs::remove_dir_all(scratch.join(&format!("{name}{producers}")));
        }
    }
}
