//! What durability costs, beside a bare file that gets the same bytes in the same run.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unreachable_pub)]

mod common;

use common::{Args, Bare, Runs, Scratch, Table, Workload, disk_bytes, frame, percentile, short};
use semj::Codec;
use semj_actors::clock::SystemClock;
use semj_actors::{Engine, EngineOptions};
use semj_storage::backend::{Backend, File, OpenMode, RealBackend};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Syncs of the record's files since the start.
static SYNCS: AtomicU64 = AtomicU64::new(0);

/// The machine's own files, every `fdatasync` counted.
#[derive(Debug)]
struct Counted(RealBackend);

#[derive(Debug)]
struct CountedFile(Arc<dyn File>);

impl File for CountedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        SYNCS.fetch_add(1, Ordering::Relaxed);
        self.0.sync_data()
    }
    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.0.try_lock()
    }
    fn unlock(&self) -> io::Result<()> {
        self.0.unlock()
    }
    fn is_locked_elsewhere(&self) -> io::Result<bool> {
        self.0.is_locked_elsewhere()
    }
}

impl Backend for Counted {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(CountedFile(self.0.open(path, mode)?)))
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir_all(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.0.list(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.remove_file(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.sync_dir(path)
    }
    fn real_path(&self, path: &Path) -> Option<PathBuf> {
        self.0.real_path(path)
    }
}

fn open(path: &Path, codec: Codec, preallocate: bool) -> Engine {
    let options = EngineOptions { codec, preallocate, ..EngineOptions::default() };
    let backend = Arc::new(Counted(RealBackend::new()));
    Engine::open_on(backend, Arc::new(SystemClock::new()), path, options).unwrap()
}

fn end(engine: Engine, path: &Path) {
    engine.close(Duration::from_secs(30)).unwrap();
    drop(engine);
    std::fs::remove_dir_all(path).unwrap();
}

/// Measures one event (or batch) after another until the time is over: rate and sorted times in ns.
fn one_by_one(time: Duration, events: usize, mut append: impl FnMut(usize)) -> (f64, Vec<u64>) {
    let (begin, mut nanos, mut n) = (Instant::now(), Vec::new(), 0);
    while begin.elapsed() < time {
        let start = Instant::now();
        append(n);
        nanos.push(start.elapsed().as_nanos() as u64);
        n += events;
    }
    let rate = n as f64 / begin.elapsed().as_secs_f64();
    nanos.sort_unstable();
    (rate, nanos)
}

/// Ours and the rival's runs, taken in turn, and what is printed of them.
#[derive(Default)]
struct Pair {
    ours: Runs,
    file: Runs,
    growing: Runs,
    nanos: Vec<u64>,
    file_nanos: Vec<u64>,
}

impl Pair {
    fn print(mut self, table: &Table, what: &str, target: &str, syncs: f64) {
        self.nanos.sort_unstable();
        self.file_nanos.sort_unstable();
        let ratio = self.ours.median() / self.file.median();
        let mut measured = self.ours.show("/s");
        let mut rival = format!("file {} = {ratio:.2} x", self.file.show("/s"));
        if !self.growing.0.is_empty() {
            rival += &format!("; growing {}", self.growing.show("/s"));
        }
        let micros = |nanos: &[u64], share| short(percentile(nanos, share) as f64 / 1_000.0);
        if !self.nanos.is_empty() {
            measured += &format!(" p50 {} p99 {} us", micros(&self.nanos, 0.5), micros(&self.nanos, 0.99));
        }
        if !self.file_nanos.is_empty() {
            let (p50, p99) = (micros(&self.file_nanos, 0.5), micros(&self.file_nanos, 0.99));
            rival += &format!("; p50 {p50} p99 {p99} us");
        }
        table.row(what, target, &measured, &format!("{rival}; {syncs:.4} syncs/event"));
    }
}

/// One synchronous writer: batches of `batch`, each waited for.
fn synchronous(table: &Table, work: &Workload, scratch: &Scratch, batch: usize, time: Duration, runs: usize) {
    let path = scratch.join("journal");
    let engine = open(&path, Codec::None, true);
    let emitter = engine.emitter(Some("agent"));
    let mut bare = Bare::preallocated(&scratch.join("bare"), 48 << 20);
    let mut growing = Bare::growing(&scratch.join("growing"));
    let ours = |n: usize| {
        if batch == 1 {
            emitter.try_emit(work.at(n).event()).unwrap().wait().unwrap();
        } else {
            let events = (n..n + batch).map(|i| work.at(i).event()).collect();
            emitter.emit_all(events).unwrap().wait().unwrap();
        }
    };
    let mut bytes = Vec::new();
    let mut file = |file: &mut Bare, n: usize| {
        bytes.clear();
        (n..n + batch).for_each(|i| frame(&mut bytes, &work.at(i).event()));
        file.write(&bytes);
        file.sync();
    };
    one_by_one(time / 4, batch, ours);
    let mut pair = Pair::default();
    let (mut syncs, mut events) = (0, 0.0);
    for _ in 0..runs {
        let (rate, nanos) = one_by_one(time, batch, |n| file(&mut bare, n));
        pair.file.push(rate);
        pair.file_nanos.extend(nanos);
        let before = SYNCS.load(Ordering::Relaxed);
        let (rate, nanos) = one_by_one(time, batch, ours);
        syncs += SYNCS.load(Ordering::Relaxed) - before;
        events += (nanos.len() * batch) as f64;
        pair.ours.push(rate);
        pair.nanos.extend(nanos);
        let (rate, _) = one_by_one(time, batch, |n| file(&mut growing, n));
        pair.growing.push(rate);
    }
    let (what, target) = match batch {
        1 => ("lone durable append".to_owned(), ">= 0.95 x"),
        10 => ("one writer, batches of 10".to_owned(), ""),
        100 => ("one writer, batches of 100".to_owned(), ">= 0.9 x"),
        n => (format!("one writer, batches of {n}"), ">= 0.8 x"),
    };
    pair.print(table, &what, target, syncs as f64 / events);
    end(engine, &path);
}

/// Every event ticketed, the last one of each producer waited for. Events a second, syncs per event, bytes per event.
fn pipelined(
    work: &Workload,
    path: &Path,
    codec: Codec,
    preallocate: bool,
    producers: usize,
    count: usize,
) -> (f64, f64, f64) {
    let engine = open(path, codec, preallocate);
    engine.emitter(Some("warm")).try_emit(work.at(0).event()).unwrap().wait().unwrap();
    let syncs = SYNCS.load(Ordering::Relaxed);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for producer in 0..producers {
            let emitter = engine.emitter(Some(&format!("agent-{producer}")));
            scope.spawn(move || {
                let mut last = None;
                for n in 0..count / producers {
                    last = Some(emitter.emit_blocking(work.at(producer * 97 + n).event()).unwrap());
                }
                last.unwrap().wait().unwrap();
            });
        }
    });
    let rate = count as f64 / begin.elapsed().as_secs_f64();
    let syncs = (SYNCS.load(Ordering::Relaxed) - syncs) as f64 / count as f64;
    engine.close(Duration::from_secs(30)).unwrap();
    let bytes = disk_bytes(&path.join("segments")) as f64 / count as f64;
    end(engine, path);
    (rate, syncs, bytes)
}

/// The same pipeline on a bare file: encode into buffers of 1,000 events, write up to 8 of them, one `fdatasync`.
fn pipelined_file(work: &Workload, bare: &mut Bare, producers: usize, count: usize) -> f64 {
    let begin = Instant::now();
    let (send, chunks) = sync_channel::<Vec<u8>>(16);
    let (give_back, spare) = std::sync::mpsc::channel::<Vec<u8>>();
    let spare = Mutex::new(spare);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while let Ok(first) = chunks.recv() {
                let mut group = vec![first];
                while group.len() < 8
                    && let Ok(next) = chunks.try_recv()
                {
                    group.push(next);
                }
                group.iter().for_each(|chunk| bare.write(chunk));
                bare.sync();
                group.into_iter().for_each(|chunk| drop(give_back.send(chunk)));
            }
        });
        for producer in 0..producers {
            let (send, spare) = (send.clone(), &spare);
            scope.spawn(move || {
                let events = count / producers;
                for start in (0..events).step_by(1_000) {
                    let mut chunk = spare.lock().unwrap().try_recv().unwrap_or_default();
                    chunk.clear();
                    for n in start..(start + 1_000).min(events) {
                        frame(&mut chunk, &work.at(producer * 97 + n).event());
                    }
                    send.send(chunk).unwrap();
                }
            });
        }
        drop(send);
    });
    count as f64 / begin.elapsed().as_secs_f64()
}

fn pipelines(table: &Table, work: &Workload, scratch: &Scratch, count: usize, runs: usize) {
    let path = scratch.join("journal");
    let mut bare = Bare::preallocated(&scratch.join("bare"), 160 << 20);
    for producers in [1, 2, 4] {
        let mut pair = Pair::default();
        let mut syncs = Runs::default();
        for _ in 0..runs {
            pair.file.push(pipelined_file(work, &mut bare, producers, count));
            let (rate, s, _) = pipelined(work, &path, Codec::None, true, producers, count);
            pair.ours.push(rate);
            syncs.push(s);
            let mut growing = Bare::growing(&scratch.join("growing"));
            pair.growing.push(pipelined_file(work, &mut growing, producers, count));
        }
        pair.print(table, &format!("pipelined, {producers} producers"), ">= 0.8 x", syncs.median());
    }
    for (name, codec, preallocate) in [
        ("pipelined, 2 producers, not preallocated", Codec::None, false),
        ("pipelined, 2 producers, lz4", Codec::Lz4, true),
        ("pipelined, 2 producers, zstd 1", Codec::Zstd(1), true),
    ] {
        let (mut rate, mut bytes) = (Runs::default(), Runs::default());
        for _ in 0..runs {
            let (r, _, b) = pipelined(work, &path, codec, preallocate, 2, count);
            rate.push(r);
            bytes.push(b);
        }
        table.row(name, "", &rate.show("/s"), &format!("{} B/event on disk", short(bytes.median())));
    }
}

/// Leader and followers: whoever finds no sync under way writes and syncs for all who came meanwhile.
struct GroupFile {
    state: Mutex<Group>,
    changed: Condvar,
}

struct Group {
    bare: Option<Bare>,
    buffer: Vec<u8>,
    spare: Vec<u8>,
    appended: u64,
    durable: u64,
}

impl GroupFile {
    fn append(&self, work: &Workload, n: usize) {
        let mut state = self.state.lock().unwrap();
        frame(&mut state.buffer, &work.at(n).event());
        state.appended += 1;
        let mine = state.appended;
        while state.durable < mine {
            let Some(mut bare) = state.bare.take() else {
                state = self.changed.wait(state).unwrap();
                continue;
            };
            let spare = std::mem::take(&mut state.spare);
            let mut bytes = std::mem::replace(&mut state.buffer, spare);
            let through = state.appended;
            drop(state);
            bare.write(&bytes);
            bare.sync();
            bytes.clear();
            state = self.state.lock().unwrap();
            state.durable = through;
            state.spare = bytes;
            state.bare = Some(bare);
            self.changed.notify_all();
        }
    }
}

/// `threads` producers, each waiting for its own event before the next.
fn closed_loop(threads: usize, time: Duration, append: impl Fn(usize, usize) + Sync) -> (f64, Vec<u64>) {
    let stop = AtomicBool::new(false);
    let begin = Instant::now();
    let nanos: Vec<Vec<u64>> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                let (stop, append) = (&stop, &append);
                scope.spawn(move || {
                    let mut nanos = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let start = Instant::now();
                        append(thread, nanos.len());
                        nanos.push(start.elapsed().as_nanos() as u64);
                    }
                    nanos
                })
            })
            .collect();
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        running.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let elapsed = begin.elapsed().as_secs_f64();
    let all: Vec<u64> = nanos.into_iter().flatten().collect();
    (all.len() as f64 / elapsed, all)
}

fn closed_loops(table: &Table, work: &Workload, scratch: &Scratch, time: Duration, runs: usize) {
    let path = scratch.join("journal");
    let engine = open(&path, Codec::None, true);
    for threads in [8, 32, 128] {
        let group = GroupFile {
            state: Mutex::new(Group {
                bare: Some(Bare::preallocated(&scratch.join("bare"), 48 << 20)),
                buffer: Vec::new(),
                spare: Vec::new(),
                appended: 0,
                durable: 0,
            }),
            changed: Condvar::new(),
        };
        let emitters: Vec<_> = (0..threads).map(|t| engine.emitter(Some(&format!("agent-{t}")))).collect();
        let ours = |thread: usize, n: usize| {
            let event = work.at(thread * 61 + n).event();
            emitters[thread].try_emit(event).unwrap().wait().unwrap();
        };
        closed_loop(threads, time / 4, ours);
        let mut pair = Pair::default();
        let (mut syncs, mut events) = (0, 0);
        for _ in 0..runs {
            let (rate, nanos) = closed_loop(threads, time, |thread, n| group.append(work, thread * 61 + n));
            pair.file.push(rate);
            pair.file_nanos.extend(nanos);
            let before = SYNCS.load(Ordering::Relaxed);
            let (rate, nanos) = closed_loop(threads, time, ours);
            syncs += SYNCS.load(Ordering::Relaxed) - before;
            events += nanos.len();
            pair.ours.push(rate);
            pair.nanos.extend(nanos);
        }
        let what = format!("{threads} closed-loop durable producers");
        pair.print(table, &what, "first; >= 1.3 x peers", syncs as f64 / events as f64);
    }
    end(engine, &path);
}

fn main() {
    let Some(args) = Args::parse() else { return };
    let scratch = Scratch::new();
    let table = Table::new("commit", scratch.path());
    let work = Workload::new(2, 1_024);
    let (time, runs, count) = if args.quick {
        (Duration::from_millis(100), 3, 100_000)
    } else {
        (Duration::from_millis(600), 5, 300_000)
    };
    for batch in [1, 10, 100, 1_000] {
        if args.wants(&format!("batch{batch}")) || args.wants("sync") {
            synchronous(&table, &work, &scratch, batch, time, runs);
        }
    }
    if args.wants("pipelined") {
        pipelines(&table, &work, &scratch, count, runs);
    }
    if args.wants("loop") {
        closed_loops(&table, &work, &scratch, time, runs);
    }
}
