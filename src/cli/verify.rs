//! `semj verify`: every byte of the record against its checksums and its chain.

use super::out::{Out, Style, count, json_line};
use super::outcome::{Ended, Outcome, code};
use super::{Context, escape};
use clap::Args;
use semj::{Damage, VerifyLevel, VerifyReport};
use serde::Serialize;

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
    torn_tail: Option<DamageLine>,
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
            // The file's name is what the documentation speaks of; its folder is the journal's.
            segment: d.segment.file_name().unwrap_or(d.segment.as_os_str()).to_string_lossy().into_owned(),
            offset: d.offset,
            length: d.length,
            first_sequence: d.first_sequence,
            last_sequence: d.last_sequence,
            reason: d.reason.clone(),
        }
    }
}

impl From<&VerifyReport> for ReportLine {
    fn from(report: &VerifyReport) -> Self {
        ReportLine {
            intact: report.intact,
            events: report.events,
            head: HeadLine {
                sequence: report.head.sequence,
                sha256: report.head.sha256.iter().map(|b| format!("{b:02x}")).collect(),
            },
            damage: report.damage.iter().map(DamageLine::from).collect(),
            torn_tail: report.torn_tail.as_ref().map(DamageLine::from),
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
        let report = context.read()?.verify(level).map_err(|e| context.failed(&e))?;
        let mut out = Out::new(context.json());
        if context.json() {
            out.line(&json_line(&ReportLine::from(&report)))?;
        } else {
            print(&mut out, &report)?;
        }
        out.flush()?;
        if report.damage.is_empty() { Ok(()) } else { Err(Ended::quiet(code::FINDING)) }
    }
}

/// The report for people.
pub(crate) fn print(out: &mut Out, report: &VerifyReport) -> Outcome {
    let line = ReportLine::from(report);
    for damage in &report.damage {
        let text = out.paint(Style::Bad, &escape::line(&damage.to_string()));
        out.line(&text)?;
    }
    if let Some(torn) = &report.torn_tail {
        out.line(&format!("torn tail (nothing acknowledged is lost): {}", escape::line(&torn.to_string())))?;
    }
    out.line(&format!("{} events, trees {}", count(line.events), escape::line(&line.trees)))?;
    out.line(&format!("head {} {}", line.head.sequence, line.head.sha256))?;
    let verdict = if report.damage.is_empty() {
        out.paint(Style::Good, "intact")
    } else {
        out.paint(Style::Bad, "damaged")
    };
    out.line(&verdict)
}
