//! OpenHands: actions and observations; an observation names its action as `cause`, or just follows it.
//!
//! A file is a JSON array (one run), or JSON Lines of objects with a `history` (a run a line).

use super::calls::{Calls, Target, ToolCall, ToolResult};
use super::content::{Fields, copy, fields, put, put_message, text};
use super::document::{self, Document};
use super::draft::{Draft, Frame, Piece};
use super::lineage::Lineage;
use super::lines::{self, Item, Record};
use super::swe_agent::readable_bytes;
use super::{Format, Session, kinds};
use serde_json::Value;
use std::collections::HashMap;

/// Actions that are calls of a tool.
const CALLS: [&str; 9] =
    ["run", "run_ipython", "edit", "write", "read", "browse", "browse_interactive", "recall", "delegate"];

/// Whether an object is an action or an observation.
pub(super) fn is_record(value: &Value) -> bool {
    value.get("action").is_some_and(Value::is_string)
        || value.get("observation").is_some_and(Value::is_string)
}

/// Whether an object is a run.
pub(super) fn is_run(value: &Value) -> bool {
    value.get("history").is_some_and(|h| h.as_array().is_some_and(|h| h.iter().all(is_record)))
}

pub(super) fn import(stem: &str, bytes: &[u8]) -> Vec<Session> {
    let first_line = bytes.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).find(|l| !l.is_empty());
    let Some(first_line) = first_line else { return Vec::new() };
    // A file that opens with a lone brace is one indented object; one with a bracket is an array.
    if first_line.starts_with(b"[") || first_line == b"{" {
        let session = if first_line.starts_with(b"[") { stem.to_owned() } else { format!("{stem}#1") };
        let mut draft = Draft::new(Format::OpenHands, &session);
        let bytes = readable_bytes(&mut draft, bytes);
        let document = document::read(&bytes, 1, "history", is_record);
        return run(draft, &session, document);
    }
    let mut sessions = Vec::new();
    let mut runs = 0;
    for item in lines::read(bytes, is_run) {
        let (raw, line) = match &item {
            Item::Record(record) => (record.raw, record.line),
            Item::Damage(damage) => (damage.lost, damage.line),
        };
        // What was only mended is told with the run it belongs to.
        let (number, lost) = if raw.is_empty() { (runs + 1, true) } else { (runs + 1, false) };
        let session = format!("{stem}#{number}");
        let mut draft = Draft::new(Format::OpenHands, &session);
        let document = match item {
            Item::Record(record) => parsed(record),
            Item::Damage(damage) if lost => {
                draft.damage(damage);
                sessions.extend(draft.finish());
                continue;
            }
            Item::Damage(damage) => {
                draft.damage(damage);
                document::read(raw, line, "history", is_record)
            }
        };
        runs = number;
        sessions.extend(run(draft, &session, document));
    }
    merge(sessions)
}

/// Joins what was said about one run at several places of the file.
fn merge(sessions: Vec<Session>) -> Vec<Session> {
    let mut merged: Vec<Session> = Vec::new();
    for session in sessions {
        match merged.last_mut().filter(|last| last.session == session.session) {
            Some(last) => {
                last.records += session.records;
                last.events.extend(session.events);
                last.losses.extend(session.losses);
            }
            None => merged.push(session),
        }
    }
    merged
}

/// A run that was parsed as a whole.
fn parsed(record: Record<'_>) -> Document<'_> {
    let Record { line, raw, value, .. } = record;
    let mut fields = fields(&value);
    let history = match fields.remove("history") {
        Some(Value::Array(history)) => history,
        _ => Vec::new(),
    };
    let items = history
        .into_iter()
        .enumerate()
        .map(|(i, value)| Item::Record(Record { line, place: (i + 1).to_string(), raw, value }))
        .collect();
    Document { items, fields: Some(fields) }
}

fn run(mut draft: Draft, session: &str, document: Document<'_>) -> Vec<Session> {
    draft.run(session);
    let (about, outcome) = split(document.fields.unwrap_or_default());
    if !about.is_empty() {
        let summary = about.get("instruction").and_then(Value::as_str).unwrap_or(session).to_owned();
        draft.about_run(&summary, about);
    }
    let lineage = Lineage::new(&document.items, "id", "cause");
    let mut importer =
        Importer { draft, lineage, calls: Calls::default(), by_cause: HashMap::new(), asked: false };
    for item in document.items {
        match item {
            Item::Record(record) => importer.record(&record),
            Item::Damage(damage) => importer.draft.damage(damage),
        }
    }
    let Importer { mut draft, calls, .. } = importer;
    calls.finish(&mut draft);
    if !outcome.is_empty() {
        let summary =
            outcome.get("result_explanation").and_then(Value::as_str).unwrap_or("run ended").to_owned();
        draft.end_run(&summary, &Value::Object(outcome));
    }
    draft.finish()
}

/// What a run was asked, and how it ended.
fn split(fields: Fields) -> (Fields, Fields) {
    const ASKED: [&str; 6] = ["issue", "issue_type", "instruction", "base_commit", "metadata", "instance_id"];
    fields.into_iter().partition(|(key, _)| ASKED.contains(&key.as_str()))
}

struct Importer<'a> {
    draft: Draft,
    lineage: Lineage<'a>,
    calls: Calls,
    /// The place of the call that each action made.
    by_cause: HashMap<String, usize>,
    /// Whether a message without source was met: the first one is the task.
    asked: bool,
}

impl<'a> Importer<'a> {
    fn record(&mut self, record: &Record<'a>) {
        let value = &record.value;
        if value.get("id").is_some() && self.lineage.is_repeated(&mut self.draft, record) {
            return;
        }
        let mark = self.draft.mark();
        let mut frame = self.draft.open((record.line, &record.place), None, value.get("timestamp"), None);
        self.lineage.descend(&mut self.draft, &mut frame, value);
        if let Some(action) = text(value, "action") {
            self.action(&mut frame, action, value);
        }
        if let Some(observation) = value.get("observation") {
            self.observation(&mut frame, observation.as_str().unwrap_or_default(), value);
        }
        if frame.is_bare() && self.draft.mark() == mark {
            let kind =
                text(value, "action").or(text(value, "observation")).unwrap_or("a record without kind");
            let summary = format!("{kind} {}", text(value, "message").unwrap_or_default());
            self.draft.emit(&mut frame, Piece::new(kinds::STATUS, &summary, fields(value)).tag("unmapped"));
        }
        self.lineage.remember(&self.draft, &frame, record, mark);
    }

    fn action(&mut self, frame: &mut Frame, action: &str, value: &Value) {
        // Older dumps have the arguments in the action itself.
        let arguments =
            value.get("args").filter(|a| a.as_object().is_some_and(|a| !a.is_empty())).unwrap_or(value);
        if action == "message" {
            return self.message(frame, arguments, text(value, "source"));
        }
        if !CALLS.contains(&action) {
            return;
        }
        if let Some(thought) = text(arguments, "thought") {
            let mut fields = Fields::new();
            put_message(&mut fields, "assistant", "reasoning", thought);
            self.draft.emit(frame, Piece::new(kinds::REASONING, thought, fields));
        }
        let mut given = fields(arguments);
        given.retain(|key, _| !matches!(key.as_str(), "thought" | "action" | "id" | "timestamp" | "source"));
        let call = ToolCall {
            id: value.get("tool_call_metadata").and_then(|m| text(m, "tool_call_id")),
            tool: action,
            arguments: Value::Object(given),
            path: None,
            fields: Fields::new(),
        };
        let place = self.calls.add(&mut self.draft, frame, call);
        if let Some(id) = value.get("id") {
            self.by_cause.insert(id.to_string(), place);
        }
    }

    fn message(&mut self, frame: &mut Frame, arguments: &Value, source: Option<&str>) {
        let said = text(arguments, "content").unwrap_or_default();
        let mut fields = Fields::new();
        if source == Some("user") {
            put_message(&mut fields, "user", "text", said);
            self.draft.prompt(frame, Piece::new(kinds::QUERY, said, fields));
            return;
        }
        // Dumps without sources open with the task: what follows is done because of it.
        if source.is_none() && !std::mem::replace(&mut self.asked, true) {
            put_message(&mut fields, "user", "text", said);
            let id = self.draft.emit(frame, Piece::new(kinds::INTERACTION, said, fields).tag("role:user"));
            self.draft.open_turn(frame, id);
            return;
        }
        put_message(&mut fields, "assistant", "text", said);
        self.draft.emit(frame, Piece::new(kinds::INTERACTION, said, fields));
    }

    fn observation(&mut self, frame: &mut Frame, observation: &str, value: &Value) {
        if matches!(observation, "agent_state_changed" | "null") {
            return;
        }
        let extras = value.get("extras").unwrap_or(&Value::Null);
        let code = extras.pointer("/metadata/exit_code").or(value.get("exit_code")).filter(|c| !c.is_null());
        let mut told = Fields::new();
        put(&mut told, "semj.observation", observation);
        copy(&mut told, "semj.details", value, "extras");
        // -1 stands for a command that still runs.
        put(
            &mut told,
            "semj.exit_code",
            code.filter(|c| c.as_i64() != Some(-1)).cloned().unwrap_or_default(),
        );
        let failed =
            code.is_some_and(|c| !matches!(c.as_f64(), Some(0.0 | -1.0)) && c.as_bool() != Some(false));
        let result = ToolResult {
            result: value.get("content").cloned().unwrap_or_default(),
            error: observation == "error" || failed,
            fields: told,
        };
        let cause = value.get("cause").and_then(|cause| self.by_cause.get(&cause.to_string()));
        let target = Target::At(cause.copied());
        self.calls.result(&mut self.draft, frame, target, result);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_observation_belongs_to_its_cause() {
        let log = json!([
            {"id": 0, "source": "user", "action": "message", "args": {"content": "go"}, "timestamp": "2026-01-01T00:00:00"},
            {"id": 1, "source": "agent", "action": "read", "args": {"path": "/a", "thought": "look"}},
            {"id": 2, "source": "agent", "action": "run", "args": {"command": "ls"}},
            {"id": 3, "cause": 1, "observation": "read", "content": "text"},
            {"id": 4, "cause": 2, "observation": "run", "content": "no", "extras": {"metadata": {"exit_code": 2}}},
            {"id": 5, "source": "agent", "action": "finish", "args": {}}]);
        let sessions = import("f", log.to_string().as_bytes());
        let events = &sessions[0].events;
        let types: Vec<String> = events.iter().map(|e| e.event_type().to_string()).collect();
        let expected = "semantic.transaction_begin agent.query agent.reasoning agent.decision agent.decision \
             observability.trace_span_start filesystem.read observability.trace_span_end \
             observability.error_reported observability.system_status";
        assert_eq!(types.join(" "), expected);
        assert_eq!(events[6].parent_cause(), events[3].given_id().map(Into::into));
        assert!(events[1].has_tag("time:local") && events[2].has_tag("time:inherited"));
        assert_eq!((sessions[0].session.as_str(), sessions[0].losses.len()), ("f", 0));
    }

    #[test]
    fn a_run_a_line_is_numbered_and_a_torn_one_is_salvaged() {
        let run = json!({"instruction": "do", "history": [
            {"action": "run", "command": "ls"}, {"observation": "run", "content": "a", "exit_code": 0}]});
        let text = run.to_string();
        let torn = &text[..text.len() - 40];
        let sessions = import("f", format!("{text}\n{torn}").as_bytes());
        let names: Vec<_> = sessions.iter().map(|s| (s.session.as_str(), s.records)).collect();
        assert_eq!(names, [("f#1", 2), ("f#2", 1)]);
        assert!(sessions[0].losses.is_empty() && !sessions[1].losses.is_empty());
        assert!(sessions[1].losses.iter().all(|l| l.line == 2));
    }
}
