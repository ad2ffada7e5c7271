//! `semj bench`: what this machine gives, beside a bare file on the same disk.

use super::out::{Out, Style, count, json_line};
use super::outcome::{Ended, Outcome, code};
use super::{Context, when};
use clap::Args;
use semj::{CommitError, EmitError, Emitter, Event, Journal};
use serde::Serialize;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Length of the bare file; written round and round.
const FILE_BYTES: u64 = 32 << 20;
/// What one event of the bench takes on disk, about.
const EVENT_BYTES: usize = 256;
/// Emissions timed one by one.
const EMISSIONS: usize = 20_000;

/// Measure this machine: emission, durable appends, and a bare file beside them
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  semj bench --seconds 3\n  semj bench --dir /mnt/disk --json")]
pub(crate) struct Bench {
    /// Where to measure [default: beside the journal]; what is written there is removed afterwards
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How long each measurement takes
    #[arg(long, value_name = "N", default_value = "1s", value_parser = when::seconds)]
    seconds: Duration,
}

/// The figures as JSON.
#[derive(Serialize)]
struct Figures {
    emission_p50_ns: u64,
    emission_p99_ns: u64,
    lone_per_second: u64,
    lone_file_per_second: u64,
    batch_100_per_second: u64,
    batch_100_file_per_second: u64,
    batch_1000_per_second: u64,
    batch_1000_file_per_second: u64,
}

/// A folder that is removed in the end.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left behind at worst; the name says whose it is.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Bench {
    pub(crate) fn run(&self, context: &Context) -> Outcome {
        let beside = || context.path().parent().map_or_else(PathBuf::new, Path::to_owned);
        let dir = self.dir.clone().unwrap_or_else(beside);
        let scratch = Scratch(dir.join(format!("semj-bench-{}", std::process::id())));
        let refused = |e: io::Error| Ended::usage(format!("{}: {e}", scratch.0.display()));
        fs::create_dir(&scratch.0).map_err(refused)?;
        let figures = self.measure(context, &scratch)?;
        let mut out = Out::new(context.json());
        if context.json() {
            out.line(&json_line(&figures))?;
        } else {
            print(&mut out, &figures)?;
        }
        out.flush()
    }

    fn measure(&self, context: &Context, scratch: &Scratch) -> Result<Figures, Ended> {
        let bare = Bare::new(&scratch.0.join("bare")).map_err(|e| Ended::usage(format!("bare file: {e}")))?;
        context.interrupt().ask_first();
        let file = |events: usize| {
            if context.interrupt().requested() {
                return Err(Ended::quiet(code::INTERRUPTED));
            }
            bare.per_second(events, self.seconds).map_err(|e| Ended::usage(format!("bare file: {e}")))
        };
        let path = scratch.0.join("journal");
        let journal: Journal =
            context.options()?.create(true).open(&path).map_err(|e| Ended::journal(&path, e.kind(), &e))?;
        let failed = |e: Failed| e.end(&path);
        let emitter = journal.emitter_default();
        // Each beside its rival, so that both see the same disk in the same state.
        let lone_file = file(1)?;
        let lone = per_second(&emitter, 1, self.seconds).map_err(failed)?;
        let file_100 = file(100)?;
        let batch_100 = per_second(&emitter, 100, self.seconds).map_err(failed)?;
        let file_1000 = file(1000)?;
        let batch_1000 = per_second(&emitter, 1000, self.seconds).map_err(failed)?;
        let (p50, p99) = emission(&emitter).map_err(failed)?;
        journal.close(Duration::from_secs(10)).map_err(|e| failed(e.into()))?;
        Ok(Figures {
            emission_p50_ns: p50,
            emission_p99_ns: p99,
            lone_per_second: lone,
            lone_file_per_second: lone_file,
            batch_100_per_second: batch_100,
            batch_100_file_per_second: file_100,
            batch_1000_per_second: batch_1000,
            batch_1000_file_per_second: file_1000,
        })
    }
}

/// A failure of the journal that is measured.
enum Failed {
    Emit(EmitError),
    Commit(CommitError),
}

impl From<EmitError> for Failed {
    fn from(e: EmitError) -> Self {
        Failed::Emit(e)
    }
}
impl From<CommitError> for Failed {
    fn from(e: CommitError) -> Self {
        Failed::Commit(e)
    }
}

impl Failed {
    fn end(self, path: &Path) -> Ended {
        match self {
            Failed::Emit(e) => Ended::journal(path, e.kind(), &e),
            Failed::Commit(e) => Ended::journal(path, e.kind(), &e),
        }
    }
}

fn event() -> Event<'static> {
    Event::decision("run the tests and tell what failed")
        .agent("bench")
        .session("bench-session")
        .path("/home/user/project/src/main.rs")
        .payload(semj::event::EncodedJson::new(&serde_json::json!({
            "gen_ai.tool.name": "bash",
            "gen_ai.tool.call.arguments": {"command": "cargo test --workspace"},
        })))
}

/// Durable events a second when every `batch` of them is waited for.
fn per_second(emitter: &Emitter, batch: usize, time: Duration) -> Result<u64, Failed> {
    let sample = event();
    let begin = Instant::now();
    let mut events = 0u64;
    while begin.elapsed() < time {
        let mut last = None;
        for _ in 0..batch {
            last = Some(emitter.emit_blocking(sample.clone())?);
        }
        if let Some(ticket) = last {
            ticket.wait()?;
        }
        events += batch as u64;
    }
    Ok(rate(events, begin.elapsed()))
}

/// Median and 99th percentile of one emission, in nanoseconds, clock included.
fn emission(emitter: &Emitter) -> Result<(u64, u64), Failed> {
    let sample = event();
    let mut times: Vec<u64> = Vec::with_capacity(EMISSIONS);
    let mut last = None;
    for _ in 0..EMISSIONS {
        let event = sample.clone();
        let begin = Instant::now();
        let ticket = emitter.emit_blocking(event)?;
        times.push(u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX));
        last = Some(ticket);
    }
    if let Some(ticket) = last {
        ticket.wait()?;
    }
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    Ok((at(50), at(99)))
}

fn rate(events: u64, time: Duration) -> u64 {
    (events as f64 / time.as_secs_f64().max(1e-9)) as u64
}

/// A preallocated file: the least that durability costs on this disk.
struct Bare(File);

impl Bare {
    fn new(path: &Path) -> io::Result<Self> {
        let file = File::create_new(path)?;
        let zeros = vec![0u8; 1 << 20];
        for at in (0..FILE_BYTES).step_by(zeros.len()) {
            file.write_all_at(&zeros, at)?;
        }
        file.sync_all()?;
        Ok(Bare(file))
    }

    /// Events a second when every `batch` of them is one write and one sync.
    fn per_second(&self, batch: usize, time: Duration) -> io::Result<u64> {
        let bytes = vec![0x5A; batch * EVENT_BYTES];
        let begin = Instant::now();
        let (mut events, mut at) = (0u64, 0u64);
        while begin.elapsed() < time {
            if at + bytes.len() as u64 > FILE_BYTES {
                at = 0;
            }
            self.0.write_all_at(&bytes, at)?;
            self.0.sync_data()?;
            at += bytes.len() as u64;
            events += batch as u64;
        }
        Ok(rate(events, begin.elapsed()))
    }
}

fn print(out: &mut Out, f: &Figures) -> Outcome {
    out.line(&format!(
        "one emission          {:>11} ns median, {} ns at 99 %",
        f.emission_p50_ns, f.emission_p99_ns
    ))?;
    let head =
        out.paint(Style::Faint, &format!("{:22}{:>11}  {:>11}", "durable events/s", "semj", "bare file"));
    out.line(&head)?;
    for (name, ours, file) in [
        ("one at a time", f.lone_per_second, f.lone_file_per_second),
        ("100 at a time", f.batch_100_per_second, f.batch_100_file_per_second),
        ("1000 at a time", f.batch_1000_per_second, f.batch_1000_file_per_second),
    ] {
        let share = ours as f64 / (file as f64).max(1.0);
        out.line(&format!("{name:22}{:>11}  {:>11}  {share:.2} x", count(ours), count(file)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bare_file_goes_round() {
        let dir = tempfile::tempdir().unwrap();
        let bare = Bare::new(&dir.path().join("f")).unwrap();
        assert!(bare.per_second(1000, Duration::from_millis(20)).unwrap() > 0);
    }
}
