//! One event on one line, in columns.

use super::escape;
use super::out::{Out, Style};
use super::outcome::Ended;
use super::when;
use semj::Recorded;
use semj::event::{Payload, Text, to_json};

/// Longest free text of a row, in characters.
const TEXT_WIDTH: usize = 160;

/// Shows one event: as JSON for programs, as a row for people.
pub(crate) fn show(out: &mut Out, json: bool, event: &Recorded) -> Result<(), Ended> {
    let line = if json { to_json(event) } else { row(out, event) };
    out.line(&line)
}

/// The event as a row: time, sequence, agent, type, what it is about.
fn row(out: &Out, event: &Recorded) -> String {
    let time = event.time.map_or_else(|| format!("{:24}", "time unknown"), when::short);
    let sequence = format!("{:>8}", event.sequence);
    let agent = event.event.agent_text().map_or_else(|| event.stream().into(), Text::to_string_lossy);
    let kind = event.event.event_type().to_string();
    let mut row = format!(
        "{}  {}  {}  {}  {}",
        out.paint(Style::Faint, &time),
        out.paint(Style::Faint, &sequence),
        out.paint(Style::Agent, &escape::column(&agent, 16)),
        out.paint(Style::Kind, &escape::column(&kind, 20)),
        about(event)
    );
    row.truncate(row.trim_end().len());
    row
}

/// Name, intent and path; without any of them the start of the payload.
pub(crate) fn about(event: &Recorded) -> String {
    let event = &event.event;
    let mut parts = Vec::new();
    if let Some(name) = event.name_text() {
        parts.push(format!("[{name}]"));
    }
    parts.extend(event.intent_text().map(ToString::to_string));
    parts.extend(event.path_text().map(ToString::to_string));
    if parts.is_empty() {
        parts.extend(match event.payload_value() {
            Payload::Json(json) => Some(json.as_str().chars().take(TEXT_WIDTH + 1).collect()),
            Payload::Bytes(bytes) => Some(format!("{} bytes", bytes.len())),
            Payload::Blob(blob) => Some(blob.head.clone()),
            _ => None,
        });
    }
    escape::cut(&parts.join("  "), TEXT_WIDTH)
}
