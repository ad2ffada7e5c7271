//! SWE-agent: one JSON object a run; a step holds thought, action and observation. There is no clock.

use super::calls::{Calls, Target, ToolCall, ToolResult};
use super::content::{Fields, nanoseconds, put, put_message, readable, text};
use super::document;
use super::draft::{Draft, Piece};
use super::lines::{Item, Record, mend, replaced_reason};
use super::{Format, Session, kinds};
use serde_json::{Value, json};
use std::borrow::Cow;

/// Whether an object is a step.
pub(super) fn is_record(value: &Value) -> bool {
    value.get("action").is_some() && value.get("observation").is_some()
}

pub(super) fn import(stem: &str, bytes: &[u8]) -> Vec<Session> {
    let mut draft = Draft::new(Format::SweAgent, stem);
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return draft.finish();
    }
    let bytes = readable_bytes(&mut draft, bytes);
    let document = document::read(&bytes, 1, "trajectory", is_record);
    draft.run(stem);
    if let Some(fields) = &document.fields {
        head(&mut draft, fields);
    }
    let mut calls = Calls::default();
    for item in document.items {
        match item {
            Item::Record(record) => step(&mut draft, &mut calls, &record),
            Item::Damage(damage) => draft.damage(damage),
        }
    }
    calls.finish(&mut draft);
    if let Some(info) = document.fields.as_ref().and_then(|f| f.get("info")) {
        let summary = format!("exit status {}", text(info, "exit_status").unwrap_or("unknown"));
        draft.end_run(&summary, info);
    }
    draft.finish()
}

/// The bytes as UTF-8; replaced characters are a loss.
pub(super) fn readable_bytes<'a>(draft: &mut Draft, bytes: &'a [u8]) -> Cow<'a, [u8]> {
    if std::str::from_utf8(bytes).is_ok() {
        return Cow::Borrowed(bytes);
    }
    match mend(bytes) {
        Some((mended, replaced)) => {
            draft.loss(1, replaced_reason(replaced), Fields::new());
            Cow::Owned(mended)
        }
        None => Cow::Borrowed(bytes),
    }
}

/// What the run was asked: everything beside the steps, the outcome and the chat that repeats them.
fn head(draft: &mut Draft, fields: &Fields) {
    let mut about = Fields::new();
    for (key, value) in fields.iter().filter(|(key, _)| !matches!(key.as_str(), "info" | "history")) {
        put(&mut about, key, value.clone());
    }
    let history = fields.get("history").and_then(Value::as_array).into_iter().flatten();
    let before: Vec<Value> = history.take_while(|m| text(m, "role") != Some("assistant")).cloned().collect();
    let asked = before.iter().rev().find(|m| text(m, "role") == Some("user"));
    let summary = asked.map(readable).unwrap_or_default();
    put(&mut about, "history", before);
    if let Some(model) = fields.get("replay_config").and_then(|c| c.pointer("/agent/model/name")) {
        put(&mut about, "gen_ai.request.model", model.clone());
    }
    draft.about_run(&summary, about);
}

fn step(draft: &mut Draft, calls: &mut Calls, record: &Record<'_>) {
    let step = &record.value;
    let mut frame = draft.open((record.line, &record.place), None, None, None);
    if let Some(thought) = text(step, "thought") {
        let mut fields = Fields::new();
        put_message(&mut fields, "assistant", "reasoning", thought);
        draft.emit(&mut frame, Piece::new(kinds::REASONING, thought, fields));
    }
    let action = text(step, "action").unwrap_or_default().trim();
    let tool = action.split_whitespace().next().unwrap_or_default();
    let state = state_of(step);
    let mut fields = Fields::new();
    put(&mut fields, "semj.cwd", text(&state, "working_dir"));
    put(&mut fields, "semj.response", text(step, "response").filter(|r| Some(*r) != text(step, "thought")));
    let call = ToolCall {
        id: None,
        tool,
        arguments: json!({"command": action}),
        path: path(tool, action, &state),
        fields,
    };
    let place = calls.add(draft, &mut frame, call);
    if let Some(observation) = step.get("observation").filter(|o| !o.is_null()) {
        let mut fields = Fields::new();
        put(&mut fields, "semj.duration_ns", nanoseconds(step.get("execution_time")));
        put(&mut fields, "semj.state", state);
        let result = ToolResult { result: observation.clone(), error: false, fields };
        calls.result(draft, &mut frame, Target::At(Some(place)), result);
    }
}

/// The state after the step: an object, or one in a string.
fn state_of(step: &Value) -> Value {
    match step.get("state") {
        Some(Value::String(s)) => serde_json::from_str(s).unwrap_or_default(),
        Some(state) => state.clone(),
        None => Value::Null,
    }
}

/// The file of a step: the operand of `create` and `open`, the open file of an edit.
fn path(tool: &str, action: &str, state: &Value) -> Option<String> {
    match tool {
        "create" | "open" => action.split_whitespace().nth(1).map(|f| f.trim_matches(['"', '\'']).to_owned()),
        "edit" | "insert" | "str_replace" => {
            text(state, "open_file").filter(|f| *f != "n/a").map(str::to_owned)
        }
        _ => None,
    }
    .filter(|path| !path.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_thought_call_and_effect() {
        let log = json!({"environment": "e", "info": {"exit_status": "submitted"}, "history": [
            {"role": "user", "content": "fix it"}, {"role": "assistant", "content": "ok"}],
            "trajectory": [
                {"action": "create 'a.py'\n", "observation": "made", "thought": "start", "state": "{}"},
                {"action": "edit 1:1", "observation": "", "thought": "", "state": {"open_file": "/w/a.py"},
                 "execution_time": 0.5},
                {"action": "ls", "observation": null}]});
        let sessions = import("run", log.to_string().as_bytes());
        assert_eq!((sessions[0].session.as_str(), sessions[0].records), ("run", 3));
        let events = &sessions[0].events;
        let types: Vec<String> = events.iter().map(|e| e.event_type().to_string()).collect();
        let expected = "semantic.transaction_begin semantic.context_switch agent.reasoning agent.decision \
             filesystem.write agent.decision filesystem.write agent.decision agent.query semantic.transaction_end";
        assert_eq!(types.join(" "), expected);
        assert_eq!(events[1].intent_text().unwrap().as_str(), Some("fix it"));
        assert_eq!(events[4].path_text().unwrap().as_str(), Some("a.py"));
        assert_eq!(events[6].path_text().unwrap().as_str(), Some("/w/a.py"));
        assert_eq!(events[6].payload_value().as_json().unwrap()["semj.duration_ns"], 500_000_000);
        assert!(events[8].has_tag("outcome:none"));
        assert!(events.iter().all(|e| e.has_tag("time:unknown")));
        assert_eq!(events[2].parent_cause(), events[0].given_id().map(Into::into));
    }
}
