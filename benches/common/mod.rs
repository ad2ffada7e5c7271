//! What all benches share: one workload, the machine they ran on, medians, and the table they print.
//!
//! A bench runs with `cargo bench --bench NAME` (under 60 s) or with `-- --quick` behind it (under 10 s). The folder it
//! writes to is `SEMJ_BENCH_DIR`, else one in the current directory; it is removed afterwards.

#![allow(dead_code, reason = "every bench uses its part of it")]

use rustix::fs::{Advice, fadvise};
use semj::Event;
use semj::event::{EncodedJson, EventType};
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How a bench was asked to run.
pub struct Args {
    pub quick: bool,
    pub all: Vec<String>,
}

impl Args {
    /// The arguments; `None` when nobody asked for a measurement (`cargo test --all-targets` runs benches too).
    pub fn parse() -> Option<Self> {
        let all: Vec<String> = std::env::args().skip(1).collect();
        let quick = all.iter().any(|a| a == "--quick");
        (quick || all.iter().any(|a| a == "--bench")).then_some(Args { quick, all })
    }

    /// Whether the part called `name` was asked for: all are, unless some are named behind `--only`.
    pub fn wants(&self, name: &str) -> bool {
        let only = self.all.iter().position(|a| a == "--only").and_then(|i| self.all.get(i + 1));
        only.is_none_or(|names| names.split(',').any(|n| n == name))
    }
}

/// SplitMix64: the same numbers on every machine.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// One of `n`, the first ones far more often.
    pub fn zipf(&mut self, n: usize) -> usize {
        let u = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        ((n as f64 + 1.0).powf(u) as usize - 1).min(n - 1)
    }
}

/// One event of the workload, as a host would hold it.
pub struct Sample {
    pub event_type: EventType,
    pub agent: String,
    pub session: String,
    pub path: String,
    pub intent: String,
    pub tag: Option<String>,
    pub payload: EncodedJson,
    pub value: serde_json::Value,
}

impl Sample {
    /// Borrowed fields, encoded payload.
    pub fn event(&self) -> Event<'_> {
        let mut event = Event::new(self.event_type)
            .agent(self.agent.as_str())
            .session(self.session.as_str())
            .path(self.path.as_str())
            .intent(self.intent.as_str())
            .payload(&self.payload);
        if let Some(tag) = &self.tag {
            event = event.tag(tag.as_str());
        }
        event
    }
}

/// Share of the rare type in 10,000.
const RARE_PER_10_000: usize = 35;

/// A fixed run of events, used round and round. Bodies are about 323 bytes long.
pub struct Workload {
    pub samples: Vec<Sample>,
}

impl Workload {
    pub const RARE: &'static str = "observability.error_reported";

    pub fn new(seed: u64, count: usize) -> Self {
        let mut rng = Rng(seed);
        let words: Vec<&str> = include_str!("prose.txt").split_whitespace().collect();
        // Fragments of a few words in a row: neither noise nor one text repeated.
        let prose = |rng: &mut Rng, bytes: usize| {
            let mut text = String::new();
            while text.len() < bytes {
                let at = rng.below(words.len() - 6);
                for word in &words[at..at + 2 + rng.below(4)] {
                    text.push_str(word);
                    text.push(' ');
                }
            }
            text.truncate(bytes);
            text.trim_end().to_owned()
        };
        let types = [
            "agent.decision",
            "filesystem.write",
            "filesystem.read",
            "agent.reasoning",
            "agent.query",
            "agent.interaction",
        ];
        let samples = (0..count)
            .map(|_| {
                let name = match rng.below(10_000) < RARE_PER_10_000 {
                    true => Self::RARE,
                    false => types[rng.zipf(types.len())],
                };
                let tool = ["bash", "edit", "read", "grep", "web_search"][rng.zipf(5)];
                let text = 50 + rng.below(100);
                let value = serde_json::json!({
                    "gen_ai.tool.name": tool,
                    "gen_ai.tool.call.id": format!("call_{:012x}", rng.next() >> 16),
                    "gen_ai.tool.call.result": prose(&mut rng, text),
                });
                Sample {
                    event_type: EventType::parse(name).unwrap_or_else(|| panic!("no type {name}")),
                    agent: format!("agent-{}", rng.zipf(40)),
                    session: format!("session-{:04}", rng.zipf(500)),
                    path: format!("/home/user/project/src/module_{}/file_{}.rs", rng.zipf(60), rng.zipf(40)),
                    intent: prose(&mut rng, 48),
                    tag: (rng.below(8) == 0).then(|| format!("tool:{tool}")),
                    payload: EncodedJson::new(&value),
                    value,
                }
            })
            .collect();
        Workload { samples }
    }

    pub fn at(&self, n: usize) -> &Sample {
        &self.samples[n % self.samples.len()]
    }

    /// Mean length of an encoded body.
    pub fn body_bytes(&self) -> usize {
        let mut out = Vec::new();
        for sample in &self.samples {
            semj_storage::event::encode_body(&sample.event(), &mut out).unwrap();
        }
        out.len() / self.samples.len()
    }
}

/// A folder of its own, removed in the end.
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    pub fn new() -> Self {
        let base = std::env::var_os("SEMJ_BENCH_DIR")
            .map_or_else(|| std::env::current_dir().unwrap(), PathBuf::from);
        Scratch(tempfile::Builder::new().prefix("semj-bench-").tempdir_in(base).unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The load of the last minute: what else runs here.
pub fn load() -> f64 {
    read("/proc/loadavg").split(' ').next().and_then(|l| l.parse().ok()).unwrap_or(f64::NAN)
}

/// Where and under what load this was measured.
pub fn machine(folder: &Path) -> String {
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find(|l| l.starts_with("model name")).and_then(|l| l.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(0, |n| n.get());
    let folder = folder.canonicalize().unwrap_or_default();
    let mounts = read("/proc/mounts");
    let disk = mounts
        .lines()
        .filter_map(|l| {
            let mut part = l.split(' ');
            Some((part.next()?, part.next()?, part.next()?))
        })
        .filter(|(_, at, _)| folder.starts_with(at))
        .max_by_key(|(_, at, _)| at.len());
    let (device, _, kind) = disk.unwrap_or(("?", "/", "?"));
    let kernel = read("/proc/sys/kernel/osrelease");
    format!(
        "{}, {cores} cores, Linux {}, {kind} on {device}, load {}",
        model.unwrap_or("unknown processor"),
        kernel.trim(),
        load()
    )
}

/// The value at this share of the sorted values.
pub fn percentile(sorted: &[u64], share: f64) -> u64 {
    let at = (sorted.len() as f64 * share) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0)
}

/// Several runs of one measurement.
#[derive(Default, Clone)]
pub struct Runs(pub Vec<f64>);

impl Runs {
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    pub fn median(&self) -> f64 {
        let sorted = self.sorted();
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// `median [min-max]` with `unit` behind it.
    pub fn show(&self, unit: &str) -> String {
        let sorted = self.sorted();
        let (min, max) = (sorted.first().copied(), sorted.last().copied());
        let (min, max) = (min.unwrap_or(f64::NAN), max.unwrap_or(f64::NAN));
        format!("{} [{}-{}]{unit}", short(self.median()), short(min), short(max))
    }
}

/// A number with thousands separated where it is large.
pub fn short(value: f64) -> String {
    if value.abs() >= 1_000.0 {
        let digits = format!("{value:.0}");
        let mut out = String::new();
        for (i, c) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i) % 3 == 0 && c != '-' {
                out.push(',');
            }
            out.push(c);
        }
        out
    } else if value.abs() >= 10.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

/// The printed table.
pub struct Table;

impl Table {
    pub fn new(name: &str, folder: &Path) -> Self {
        println!("# {name}: {}", machine(folder));
        let table = Table;
        table.row("what", "target", "measured: median [min-max]", "rival");
        table
    }

    pub fn row(&self, what: &str, target: &str, measured: &str, rival: &str) {
        println!("{what:<44} | {target:<22} | {measured:<40} | {rival}");
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        println!("# load at the end: {}\n", load());
    }
}

/// Runs `work` and tells how long it took.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begin = Instant::now();
    let result = work();
    (result, begin.elapsed())
}

/// Resident memory of this process in MiB.
pub fn rss_mib() -> f64 {
    let status = read("/proc/self/status");
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok()).map_or(f64::NAN, |kb| kb / 1024.0)
}

/// All files below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            Ok(_) => found.push(entry.path()),
            Err(_) => {}
        }
    }
    found
}

/// Bytes of all files below a folder.
pub fn disk_bytes(folder: &Path) -> u64 {
    files(folder).iter().filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum()
}

/// Drops the clean pages of all files below a folder from the page cache.
pub fn evict(folder: &Path) {
    for path in files(folder) {
        if let Ok(file) = File::open(path) {
            let _ = file.sync_data();
            let _ = fadvise(&file, 0, None, Advice::DontNeed);
        }
    }
}

/// A bare file, the rival of everything durable: as many bytes, no order, no check, no answer.
pub struct Bare {
    file: File,
    at: u64,
    length: Option<u64>,
}

impl Bare {
    /// Zero-filled and synced beforehand; written round and round.
    pub fn preallocated(path: &Path, length: u64) -> Self {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
        let zeros = vec![0u8; 1 << 20];
        for at in (0..length).step_by(zeros.len()) {
            file.write_all_at(&zeros, at).unwrap();
        }
        file.sync_all().unwrap();
        Bare { file, at: 0, length: Some(length) }
    }

    /// Growing with every write.
    pub fn growing(path: &Path) -> Self {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
        Bare { file, at: 0, length: None }
    }

    pub fn write(&mut self, bytes: &[u8]) {
        if self.length.is_some_and(|l| self.at + bytes.len() as u64 > l) {
            self.at = 0;
        }
        self.file.write_all_at(bytes, self.at).unwrap();
        self.at += bytes.len() as u64;
    }

    pub fn sync(&self) {
        self.file.sync_data().unwrap();
    }
}

/// One framed event: length, CRC, body.
pub fn frame(out: &mut Vec<u8>, event: &Event<'_>) {
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    semj_storage::event::encode_body(event, out).unwrap();
    let crc = crc32fast::hash(&out[start + 8..]);
    let length = (out.len() - start - 8) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}
