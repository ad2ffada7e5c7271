//! `semj torture`: kills everything that can be killed on this disk, and looks for what was acknowledged.

use super::out::{Out, Style, count, json_line, size};
use super::outcome::{Ended, Outcome, code};
use super::{Context, escape, when};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use semj::torture::{Failure, Plan, Plant, Progress, Report, Spread};
use serde::Serialize;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Kill actors, threads and the process, break the disk, and look for every acknowledged event
///
/// Works in a folder of its own, which is removed unless something is wrong. Beside each life under torture an
/// undisturbed one of the same length shows what the torture costs.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  semj torture --seconds 10\n  semj torture --kill-rate 50 --json /mnt/disk"
)]
pub(crate) struct Torture {
    /// Where to work [default: beside the journal]
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How long to torture; undisturbed lives and checks come on top
    #[arg(long, value_name = "N", default_value = "10", value_parser = when::seconds)]
    seconds: Duration,
    /// Disturbances of actors a second
    #[arg(long, value_name = "N", default_value_t = 20.0, value_parser = rate)]
    kill_rate: f64,
    /// Threads that emit
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    producers: u32,
    /// Take the random numbers from here [default: another one each time, which is told]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Leave the process alive
    #[arg(long)]
    no_sigkill: bool,
    /// Leave the disk alone
    #[arg(long)]
    no_io_faults: bool,
    /// Lie to the check, to see that it notices
    #[arg(long, value_name = "WHAT", hide = true)]
    plant: Option<Lie>,
    /// Be a life under torture
    #[arg(long, value_name = "JSON", hide = true)]
    life: Option<String>,
}

#[derive(Clone, Copy, ValueEnum, Debug)]
enum Lie {
    Lost,
    Reordered,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().map_err(|e| e.to_string())?;
    if (0.0..=10_000.0).contains(&rate) { Ok(rate) } else { Err("expected 0 to 10000".into()) }
}

/// The report and where its journal was kept.
#[derive(Serialize)]
struct Line<'a> {
    clean: bool,
    #[serde(flatten)]
    report: &'a Report,
    /// The folder that was kept because something is wrong.
    kept: Option<String>,
}

impl Torture {
    pub(crate) fn run(&self, context: &Context) -> Outcome {
        if let Some(life) = &self.life {
            return semj::torture::live(life).map_err(Ended::usage);
        }
        let beside = || context.path().parent().map_or_else(PathBuf::new, std::path::Path::to_owned);
        let dir = self.dir.clone().unwrap_or_else(beside);
        let folder = dir.join(format!("semj-torture-{}", std::process::id()));
        let refused = |e: std::io::Error| Ended::usage(format!("{}: {e}", folder.display()));
        fs::create_dir(&folder).map_err(refused)?;
        let outcome = self.torture(context, folder.clone());
        let is_kept = outcome.as_ref().is_ok_and(|report| !report.is_clean());
        if !is_kept {
            // Left behind at worst; the name says whose it is.
            let _ = fs::remove_dir_all(&folder);
        }
        let report = outcome.map_err(|e| Ended::usage(format!("the torture cannot be done: {e}")))?;
        let kept = is_kept.then(|| folder.display().to_string());
        let mut out = Out::new(context.json());
        if context.json() {
            out.line(&json_line(&Line { clean: report.is_clean(), report: &report, kept }))?;
        } else {
            print(&mut out, &report, kept.as_deref())?;
        }
        out.flush()?;
        match (report.is_clean(), report.interrupted) {
            (false, _) => Err(Ended::quiet(code::FINDING)),
            (true, true) => Err(Ended::quiet(code::INTERRUPTED)),
            (true, false) => Ok(()),
        }
    }

    fn torture(&self, context: &Context, folder: PathBuf) -> Result<Report, Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let plan = Plan {
            folder,
            time: self.seconds,
            kill_rate: self.kill_rate,
            producers: self.producers,
            seed: self.seed.unwrap_or((now.as_nanos() as u64 ^ u64::from(std::process::id())) >> 16),
            sigkill: !self.no_sigkill,
            io_faults: !self.no_io_faults,
            failpoints: false,
            program: std::env::current_exe().map_err(|e| Failure(format!("the own program: {e}")))?,
            arguments: vec!["torture".into(), "--life".into()],
            plant: self.plant.map(|lie| match lie {
                Lie::Lost => Plant::Lost,
                Lie::Reordered => Plant::Reordered,
            }),
        };
        context.interrupt().ask_first();
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let bar = ProgressBar::with_draw_target(Some(millis(plan.time)), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {msg}") {
            bar.set_style(style);
        }
        let report = semj::torture::run(&plan, &mut |progress: &Progress| {
            bar.set_position(millis(progress.done));
            bar.set_message(format!(
                "seed {}: {} lives, {} restarts, {} acknowledged",
                plan.seed,
                progress.lives,
                count(progress.restarts),
                count(progress.acknowledged)
            ));
            !context.interrupt().requested()
        });
        bar.finish_and_clear();
        report
    }
}

/// A time for people.
fn time(us: f64) -> String {
    if us >= 1_000.0 { format!("{:.1} ms", us / 1e3) } else { format!("{us:.0} us") }
}

fn spread(spread: &Spread) -> String {
    if spread.count == 0 {
        return "not measured".into();
    }
    let (p50, p99, max) = (time(spread.p50_us), time(spread.p99_us), time(spread.max_us));
    format!("p50 {p50}, p99 {p99}, longest {max} ({} times)", count(spread.count))
}

fn print(out: &mut Out, report: &Report, kept: Option<&str>) -> Outcome {
    let mut row = |name: &str, value: &str| {
        let name = out.paint(Style::Faint, &format!("{name:22}"));
        out.line(&format!("{name}{value}"))
    };
    let n = |n: u64| count(n);
    row("seed", &report.seed.to_string())?;
    let lives = format!("{} in {:.1} s, {} ended by SIGKILL", report.lives, report.seconds, report.sigkills);
    row("lives", &lives)?;
    let restarts: Vec<String> =
        report.restarts.iter().filter(|(_, n)| **n > 0).map(|(role, n)| format!("{role} {n}")).collect();
    row("disturbances", &format!("{}; restarts: {}", n(report.disturbances), restarts.join(", ")))?;
    row("hung threads", &n(report.left_behind))?;
    let io = &report.io_faults;
    row(
        "I/O faults",
        &format!("{} writes found no room, {} errors, {} delays", n(io.full), n(io.errors), n(io.slow)),
    )?;
    row("reopened", &spread(&report.reopened))?;
    row("crash to commit", &spread(&report.crash_to_commit))?;
    row("  undisturbed", &spread(&report.undisturbed_to_commit))?;
    for one in &report.recovery {
        row(&format!("  {} {}", one.role, one.command), &spread(&one.time))?;
    }
    let (ours, theirs) = (report.per_second as u64, report.undisturbed_per_second as u64);
    row("events a second", &format!("{}, {} undisturbed: {:.2} x", n(ours), n(theirs), report.ratio))?;
    let (memory, quiet) = (size(report.memory_bytes), size(report.undisturbed_memory_bytes));
    row("memory", &format!("{memory}, {quiet} undisturbed"))?;
    let found = &report.findings;
    row("acknowledged", &format!("{} of {} in the journal", n(found.acknowledged), n(report.events)))?;
    for (name, found) in [
        ("lost", found.lost),
        ("repeated", found.repeated),
        ("reordered", found.reordered),
        ("not dense", found.not_dense),
        ("torn groups", found.torn_groups),
    ] {
        row(name, &n(found))?;
    }
    for problem in &found.problems {
        let text = out.paint(Style::Bad, &escape::line(problem));
        out.line(&text)?;
    }
    if let Some(kept) = kept {
        out.line(&format!("kept for a look: {}", escape::line(kept)))?;
    }
    let verdict = match report.is_clean() {
        true => out.paint(Style::Good, "everything acknowledged is there, once and in order"),
        false => out.paint(Style::Bad, "not everything is as promised"),
    };
    out.line(&verdict)
}
