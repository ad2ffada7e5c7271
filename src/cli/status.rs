//! `semj status`: how the journal is.

use super::Context;
use super::kernel_where::{Stand, stands};
use super::out::{Out, Style, count, json_line, size};
use super::outcome::Outcome;
use super::when;
use clap::Args;
use semj::Health;
use serde::Serialize;

/// Show how the journal is
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  semj status\n  semj status --json | jq .state")]
pub(crate) struct Status {}

/// The status as JSON.
#[derive(Serialize)]
struct Line {
    events: u64,
    first_sequence: u64,
    durable_sequence: u64,
    indexed_sequence: u64,
    bytes: u64,
    segments: u64,
    state: String,
    owner: Option<OwnerLine>,
    sources: Vec<Stand>,
}

#[derive(Serialize)]
struct OwnerLine {
    pid: u32,
    since: String,
}

impl Status {
    pub(crate) fn run(&self, context: &Context) -> Outcome {
        let status = context.read()?.status().map_err(|e| context.failed(&e))?;
        let line = Line {
            events: status.events,
            first_sequence: status.first_sequence,
            durable_sequence: status.durable_sequence,
            indexed_sequence: status.indexed_sequence,
            bytes: status.bytes,
            segments: status.segments,
            state: status.state.to_string(),
            owner: status.owner.map(|o| OwnerLine { pid: o.pid, since: o.since.to_string() }),
            sources: stands(context)?,
        };
        let mut out = Out::new(context.json());
        if context.json() {
            out.line(&json_line(&line))?;
        } else {
            self.print(context, &mut out, &line, &status.health)?;
        }
        out.flush()
    }

    fn print(&self, context: &Context, out: &mut Out, line: &Line, health: &Health) -> Outcome {
        let style = match line.state.as_str() {
            "open" | "idle" => Style::Good,
            _ => Style::Bad,
        };
        let mut row = |name: &str, value: &str| {
            let name = out.paint(Style::Faint, &format!("{name:10}"));
            out.line(&format!("{name}{value}"))
        };
        row("journal", &context.path().display().to_string())?;
        row(
            "events",
            &format!("{}  ({} to {})", count(line.events), line.first_sequence, line.durable_sequence),
        )?;
        let behind = line.durable_sequence.saturating_sub(line.indexed_sequence);
        match behind {
            0 => row("indexed", "all")?,
            n => row("indexed", &format!("to {}, {} behind", line.indexed_sequence, count(n)))?,
        }
        let unit = if line.segments == 1 { "segment" } else { "segments" };
        row("on disk", &format!("{} in {} {unit}", size(line.bytes), line.segments))?;
        match &line.owner {
            Some(owner) => {
                let since = semj::event::Timestamp::parse(&owner.since)
                    .map_or_else(|| owner.since.clone(), when::short);
                row("owner", &format!("process {} since {since}", owner.pid))?;
            }
            None => row("owner", "nobody has it open")?,
        }
        if line.owner.is_some() {
            let told = health.restarts.iter().map(|(role, n)| format!("{role} {}", count(*n)));
            let told = told.collect::<Vec<_>>().join(", ");
            row("restarts", if told.is_empty() { "none" } else { &told })?;
            if health.left_behind > 0 {
                row("hanging", &format!("{} threads were left behind", health.left_behind))?;
            }
            if health.refused > 0 {
                row("refused", &format!("{} events crashed the engine; see quarantine/", health.refused))?;
            }
        }
        for source in &line.sources {
            row("source", &source.human())?;
        }
        let state = out.paint(style, &line.state);
        let name = out.paint(Style::Faint, "state     ");
        out.line(&format!("{name}{state}"))
    }
}
