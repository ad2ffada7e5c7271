//! `semj verify`: every byte of the record against its checksums and its chain.

use super::out::{Out, Style, count, json_line};
use super::outcome::{Ended, Outcome, code};
use super::{Context, escape};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use semj::{Damage, Reader, TornTail, Verification, VerifyLevel};
use serde::Serialize;
use std::path::Path;

/// Check the record: every checksum, the whole chain
///
/// Ends with 1 when there is damage. A torn tail is no damage: nothing that was acknowledged is lost by it.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  semj verify\n  semj verify --deep --json | jq .damage")]
pub(crate) struct Verify {
    /// Headers, seals and checksums only
    #[arg(long, conflicts_with = "deep")]
    quick: bool,
    /// Also decode every event and compare every tree with the record
    #[arg(long)]
    deep: bool,
}

/// The report as JSON.
#[derive(Serialize)]
pub(crate) struct ReportLine {
    intact: bool,
    events: u64,
    head: HeadLine,
    damage: Vec<DamageLine>,
    torn_tail: Option<TornLine>,
    trees: String,
}

#[derive(Serialize)]
struct HeadLine {
    sequence: u64,
    sha256: String,
}

#[derive(Serialize)]
struct DamageLine {
    segment: String,
    offset: u64,
    length: u64,
    first_sequence: u64,
    last_sequence: u64,
    reason: String,
}

impl From<&Damage> for DamageLine {
    fn from(d: &Damage) -> Self {
        DamageLine {
            segment: file_name(&d.segment),
            offset: d.offset,
            length: d.length,
            first_sequence: d.first_sequence,
            last_sequence: d.last_sequence,
            reason: d.reason.clone(),
        }
    }
}

#[derive(Serialize)]
struct TornLine {
    segment: String,
    offset: u64,
    length: u64,
    reason: String,
}

impl From<&TornTail> for TornLine {
    fn from(t: &TornTail) -> Self {
        TornLine {
            segment: file_name(&t.segment),
            offset: t.offset,
            length: t.length,
            reason: t.reason.clone(),
        }
    }
}

/// The file's name is what the documentation speaks of; its folder is the journal's.
fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

impl From<&Verification> for ReportLine {
    fn from(report: &Verification) -> Self {
        let record = &report.record;
        ReportLine {
            intact: record.intact,
            events: record.events,
            head: HeadLine {
                sequence: record.head_sequence,
                sha256: record.head_chain.iter().map(|b| format!("{b:02x}")).collect(),
            },
            damage: record.damage.iter().map(DamageLine::from).collect(),
            torn_tail: record.torn_tail.as_ref().map(TornLine::from),
            trees: report.trees.to_string(),
        }
    }
}

impl Verify {
    pub(crate) fn run(&self, context: &Context) -> Outcome {
        let level = match (self.quick, self.deep) {
            (true, _) => VerifyLevel::Quick,
            (_, true) => VerifyLevel::Deep,
            _ => VerifyLevel::Full,
        };
        let report = check(context, &context.read()?, level)?;
        let mut out = Out::new(context.json());
        if context.json() {
            out.line(&json_line(&ReportLine::from(&report)))?;
        } else {
            print(&mut out, &report)?;
        }
        out.flush()?;
        if report.record.damage.is_empty() { Ok(()) } else { Err(Ended::quiet(code::FINDING)) }
    }
}

/// Checks the record, with a bar on stderr where somebody looks at it.
pub(crate) fn check(context: &Context, reader: &Reader, level: VerifyLevel) -> Result<Verification, Ended> {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes}  {eta}") {
        bar.set_style(style);
    }
    let report = reader.verify_with(level, &mut |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    report.map_err(|e| context.failed(&e))
}

/// The report for people.
pub(crate) fn print(out: &mut Out, report: &Verification) -> Outcome {
    let line = ReportLine::from(report);
    for damage in &report.record.damage {
        let text = out.paint(Style::Bad, &escape::line(&damage.to_string()));
        out.line(&text)?;
    }
    if let Some(torn) = &line.torn_tail {
        let place =
            format!("{} at byte {}, {} bytes: {}", torn.segment, torn.offset, torn.length, torn.reason);
        out.line(&format!("torn tail (nothing acknowledged is lost): {}", escape::line(&place)))?;
    }
    out.line(&format!("{} events, trees {}", count(line.events), escape::line(&line.trees)))?;
    out.line(&format!("head {} {}", line.head.sequence, line.head.sha256))?;
    let verdict = if report.record.damage.is_empty() {
        out.paint(Style::Good, "intact")
    } else {
        out.paint(Style::Bad, "damaged")
    };
    out.line(&verdict)
}
