//! `semj doctor`: what is wrong, in plain words, and what can safely be done about it.

use super::Context;
use super::escape;
use super::out::{Out, Style, count, json_line};
use super::outcome::{Ended, Outcome, code};
use super::verify::check;
use clap::Args;
use semj::{Status, Verification, VerifyLevel};
use serde::Serialize;

/// Explain what is wrong with the journal, and repair it safely
///
/// A repair sets damaged bytes aside into quarantine/ and records which events are missing; it never deletes anything.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  semj doctor\n  semj doctor --repair")]
pub(crate) struct Doctor {
    /// Repair what can be repaired; nobody else may have the journal open
    #[arg(long)]
    repair: bool,
}

/// How bad a finding is.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
enum Severity {
    /// As it should be.
    Good,
    /// Worth knowing, nothing is lost.
    Note,
    /// Something is lost or does not work.
    Bad,
}

/// One thing found.
#[derive(Serialize, PartialEq, Eq, Debug)]
struct Finding {
    severity: Severity,
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

/// The whole diagnosis as JSON.
#[derive(Serialize)]
struct Diagnosis {
    healthy: bool,
    findings: Vec<Finding>,
    repaired: Vec<String>,
}

impl Doctor {
    pub(crate) fn run(&self, context: &Context) -> Outcome {
        let mut repaired = Vec::new();
        let mut findings = examine(context)?;
        if self.repair {
            let path = context.path();
            repaired = semj::repair(&path).map_err(|e| Ended::journal(&path, e.kind(), &e))?;
            findings = examine(context)?;
        }
        let healthy = findings.iter().all(|f| f.severity != Severity::Bad);
        let diagnosis = Diagnosis { healthy, findings, repaired };
        let mut out = Out::new(context.json());
        if context.json() {
            out.line(&json_line(&diagnosis))?;
        } else {
            self.print(&mut out, &diagnosis)?;
        }
        out.flush()?;
        if healthy { Ok(()) } else { Err(Ended::quiet(code::FINDING)) }
    }

    fn print(&self, out: &mut Out, diagnosis: &Diagnosis) -> Outcome {
        for step in &diagnosis.repaired {
            out.line(&format!("repaired: {}", escape::line(step)))?;
        }
        for finding in &diagnosis.findings {
            let (style, word) = match finding.severity {
                Severity::Good => (Style::Good, "good"),
                Severity::Note => (Style::Kind, "note"),
                Severity::Bad => (Style::Bad, "bad "),
            };
            let word = out.paint(style, word);
            out.line(&format!("{word}  {}", escape::line(&finding.what)))?;
            if let Some(advice) = &finding.advice {
                out.line(&format!("      {}", escape::line(advice)))?;
            }
        }
        if self.repair && diagnosis.repaired.is_empty() {
            out.line("there was nothing to repair")?;
        }
        Ok(())
    }
}

fn examine(context: &Context) -> Result<Vec<Finding>, Ended> {
    let reader = context.read()?;
    let report = check(context, &reader, VerifyLevel::Full)?;
    let status = reader.status().map_err(|e| context.failed(&e))?;
    let mut findings = of_report(&report);
    findings.extend(of_status(&status));
    Ok(findings)
}

/// What the record itself tells.
fn of_report(report: &Verification) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |severity, what, advice: Option<&str>| {
        findings.push(Finding { severity, what, advice: advice.map(str::to_owned) });
    };
    for damage in &report.record.damage {
        let lost = match (damage.first_sequence, damage.last_sequence) {
            (0, _) => "no event is lost with it".to_owned(),
            (a, b) if a == b => format!("event {a} cannot be read"),
            (a, b) => {
                format!("{} events, {a} to {b}, cannot be read", count(b.saturating_sub(a).saturating_add(1)))
            }
        };
        add(
            Severity::Bad,
            format!(
                "the file {} is damaged at byte {}: {lost} ({})",
                damage.segment.display(),
                damage.offset,
                damage.reason
            ),
            Some(
                "restore the file from a backup; or run `semj doctor --repair`, which sets the damaged bytes aside and records which events are missing; the others stay readable with --past-damage",
            ),
        );
    }
    if let Some(torn) = &report.record.torn_tail {
        add(
            Severity::Note,
            format!(
                "the last write was cut short by a crash or a power cut ({} bytes): no acknowledged event is lost",
                torn.length
            ),
            Some("nothing to do: the next opening sets the bytes aside"),
        );
    }
    if report.record.damage.is_empty() {
        add(Severity::Good, format!("all {} events are intact", count(report.record.events)), None);
    }
    match report.trees.to_string().as_str() {
        "ok" => {}
        "stale" => add(
            Severity::Note,
            "the indexes are behind the record: queries are slower, never wrong".into(),
            Some("nothing to do: they catch up while the journal is open"),
        ),
        other => add(
            Severity::Note,
            format!("the indexes are {other}: queries are slower, never wrong"),
            Some(
                "nothing to do: the next opening rebuilds them; deleting trees/ while the journal is closed is safe",
            ),
        ),
    }
    findings
}

/// What the journal's state tells.
fn of_status(status: &Status) -> Option<Finding> {
    let state = status.state.to_string();
    let (severity, what, advice) = match state.as_str() {
        "open" | "idle" | "degraded" => return None,
        "full" => (
            Severity::Bad,
            "the file system is full: nothing can be written",
            "free some space; writing goes on by itself",
        ),
        "stalled" => (
            Severity::Bad,
            "a write hangs in the operating system",
            "look at the disk; writing goes on when the write returns",
        ),
        "poisoned" => (
            Severity::Bad,
            "the disk failed to keep a write: the journal takes no more events",
            "what was acknowledged is safe; check the disk, end the owning process, open the journal again",
        ),
        _ => (
            Severity::Note,
            "the journal is in a state that this program does not know",
            "use the newest semj",
        ),
    };
    Some(Finding { severity, what: format!("{what} (state {state})"), advice: Some(advice.into()) })
}
