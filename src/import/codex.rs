//! Codex CLI "rollouts": JSON Lines of `{timestamp, type, payload}`; `call_id` joins calls and results.

use super::calls::{Calls, Target, ToolCall, ToolResult};
use super::content::{Fields, copy, fields, nanoseconds, put, put_message, readable, text};
use super::draft::{Draft, Frame, Piece, event_id, place_key};
use super::lines::{self, Item, Record};
use super::{Format, Session, kinds};
use serde_json::Value;
use std::collections::HashSet;

const CALLS: [&str; 4] = ["function_call", "custom_tool_call", "local_shell_call", "web_search_call"];

/// Whether an object is a record of such a log. Event types of a journal have a dot, those of a rollout do not.
pub(super) fn is_record(value: &Value) -> bool {
    value.get("payload").is_some_and(Value::is_object)
        && text(value, "type").is_some_and(|t| !t.contains('.'))
}

pub(super) fn import(stem: &str, bytes: &[u8]) -> Vec<Session> {
    let items = lines::read(bytes, is_record);
    let records = || items.iter().filter_map(|i| if let Item::Record(r) = i { Some(&r.value) } else { None });
    // A fork repeats the head of the session it comes from: only the first one names this session.
    let head = records().find(|v| text(v, "type") == Some("session_meta")).and_then(|v| v.get("payload"));
    let session = head.and_then(|p| text(p, "id").or(text(p, "session_id")));
    let known = records().filter_map(|v| v.get("payload")).filter(|p| is_call(p));
    let known: HashSet<String> = known.filter_map(|p| call_id(p).map(str::to_owned)).collect();
    let mut importer = Importer {
        draft: Draft::new(Format::Codex, session.unwrap_or(stem)),
        calls: Calls::new(known),
        provider: head.and_then(|p| text(p, "model_provider")).map(str::to_owned),
        model: None,
        turn: None,
    };
    for item in items {
        match item {
            Item::Record(record) => importer.record(&record),
            Item::Damage(damage) => importer.draft.damage(damage),
        }
    }
    importer.calls.finish(&mut importer.draft);
    importer.draft.finish()
}

fn is_call(payload: &Value) -> bool {
    text(payload, "type").is_some_and(|t| CALLS.contains(&t))
}

fn call_id(payload: &Value) -> Option<&str> {
    text(payload, "call_id").or(text(payload, "id"))
}

struct Importer {
    draft: Draft,
    calls: Calls,
    provider: Option<String>,
    /// The model of the turn.
    model: Option<String>,
    /// The turn that was begun last.
    turn: Option<String>,
}

impl Importer {
    fn record(&mut self, record: &Record<'_>) {
        let value = &record.value;
        let payload = value.get("payload").unwrap_or(&Value::Null);
        let mark = self.draft.mark();
        let mut frame = self.draft.open((record.line, &record.place), None, value.get("timestamp"), None);
        let (kind, part) =
            (text(value, "type").unwrap_or_default(), text(payload, "type").unwrap_or_default());
        if kind == "turn_context" || part == "task_started" {
            self.turn = text(payload, "turn_id").map(str::to_owned).or(self.turn.take());
            self.model = text(payload, "model").map(str::to_owned).or(self.model.take());
        }
        let passed = payload.get("internal_chat_message_metadata_passthrough");
        let own_turn = text(payload, "turn_id").or(passed.and_then(|p| text(p, "turn_id")));
        frame.tags.extend(own_turn.or(self.turn.as_deref()).map(|turn| format!("turn:{turn}")));
        match kind {
            "response_item" => self.item(&mut frame, part, payload),
            "event_msg" => self.message(&mut frame, part, value, payload),
            "session_meta" | "turn_context" => self.context(&mut frame, kind, value, payload),
            "compacted" => {
                let summary = text(payload, "message").unwrap_or("compacted");
                self.draft.emit(&mut frame, Piece::new(kinds::LEARNING, summary, fields(value)));
                let mut short = Fields::new();
                copy(&mut short, "window_number", payload, "window_number");
                self.draft.emit(&mut frame, Piece::new(kinds::CHECKPOINT, "compacted", short));
            }
            _ => {}
        }
        if frame.is_bare() && self.draft.mark() == mark {
            let summary = format!("{kind} {part} {}", text(payload, "message").unwrap_or_default());
            self.draft.emit(&mut frame, Piece::new(kinds::STATUS, &summary, fields(value)).tag("unmapped"));
        }
    }

    fn context(&mut self, frame: &mut Frame, kind: &str, value: &Value, payload: &Value) {
        let mut all = fields(value);
        copy(&mut all, "semj.cwd", payload, "cwd");
        put(&mut all, "gen_ai.provider.name", self.provider.clone());
        copy(&mut all, "gen_ai.request.model", payload, "model");
        if let Some(git) = payload.get("git") {
            copy(&mut all, "semj.git_branch", git, "branch");
        }
        if let Some(origin) = text(payload, "forked_from_id") {
            frame.first_links.push((event_id(Format::Codex, &place_key(origin, "1"), 0), "forked_from"));
        }
        frame.tags.extend(text(payload, "model").map(|model| format!("model:{model}")));
        let what = text(payload, "model").or(text(payload, "cwd")).unwrap_or_default();
        self.draft.emit(frame, Piece::new(kinds::CONTEXT_SWITCH, &format!("{kind} {what}"), all));
    }

    /// What was said and done, as the model's interface has it.
    fn item(&mut self, frame: &mut Frame, part: &str, payload: &Value) {
        let said = readable(payload.get("content").unwrap_or(&Value::Null));
        let mut all = Fields::new();
        if part != "message" || text(payload, "role") == Some("assistant") {
            put(&mut all, "gen_ai.provider.name", self.provider.clone());
            put(&mut all, "gen_ai.request.model", self.model.clone());
        }
        match part {
            "message" => match text(payload, "role") {
                Some("user") => {
                    put_message(&mut all, "user", "text", &said);
                    self.draft.prompt(frame, Piece::new(kinds::QUERY, &said, all));
                }
                Some("assistant") => {
                    self.tag_model(frame);
                    put_message(&mut all, "assistant", "text", &said);
                    self.draft.emit(frame, Piece::new(kinds::INTERACTION, &said, all));
                }
                _ => {}
            },
            "reasoning" => {
                self.tag_model(frame);
                let summary = readable(payload.get("summary").unwrap_or(&Value::Null));
                put_message(
                    &mut all,
                    "assistant",
                    "reasoning",
                    if summary.is_empty() { &said } else { &summary },
                );
                copy(&mut all, "semj.encrypted", payload, "encrypted_content");
                self.draft.emit(frame, Piece::new(kinds::REASONING, &summary, all));
            }
            "function_call_output" | "custom_tool_call_output" => {
                let output = payload.get("output").cloned().unwrap_or_default();
                let mut detail = Fields::new();
                told_by_output(&mut detail, &output);
                let target = text(payload, "call_id").map_or(Target::At(None), Target::Id);
                let result = ToolResult { result: output, error: false, fields: detail };
                self.calls.result(&mut self.draft, frame, target, result);
            }
            _ if CALLS.contains(&part) => {
                self.tag_model(frame);
                let call = ToolCall {
                    id: call_id(payload),
                    tool: text(payload, "name").unwrap_or(part),
                    arguments: arguments(payload),
                    path: None,
                    fields: all,
                };
                self.calls.add(&mut self.draft, frame, call);
            }
            _ => {}
        }
    }

    /// What the runtime told its interface.
    fn message(&mut self, frame: &mut Frame, part: &str, value: &Value, payload: &Value) {
        let mut all = fields(value);
        match part {
            "token_count" => {
                if let Some(usage) = payload.get("info").and_then(|i| i.get("last_token_usage")) {
                    copy(&mut all, "gen_ai.usage.input_tokens", usage, "input_tokens");
                    copy(&mut all, "gen_ai.usage.output_tokens", usage, "output_tokens");
                    copy(&mut all, "gen_ai.usage.cache_read.input_tokens", usage, "cached_input_tokens");
                }
                self.draft.emit(frame, Piece::new(kinds::METRIC, "token count", all));
            }
            "task_started" => {
                let piece = Piece::new(kinds::TRANSACTION_BEGIN, "task started", all).parent(None);
                let begin = self.draft.emit(frame, piece);
                self.draft.begin(frame, begin);
            }
            "task_complete" => {
                if let Some(ms) = payload.get("duration_ms").and_then(Value::as_i64) {
                    put(&mut all, "semj.duration_ns", ms.checked_mul(1_000_000));
                }
                let summary = text(payload, "last_agent_message").unwrap_or("task complete");
                let begin = self.draft.transaction.take();
                let piece = Piece::new(kinds::TRANSACTION_END, summary, all).parent(begin.or(frame.turn));
                self.draft.emit(frame, piece);
            }
            "error" | "turn_aborted" | "stream_error" => {
                let told = text(payload, "message").or(text(payload, "reason")).unwrap_or(part);
                put(&mut all, "error.message", told);
                self.draft.emit(frame, Piece::new(kinds::ERROR, told, all));
            }
            _ => {}
        }
    }

    fn tag_model(&self, frame: &mut Frame) {
        frame.tags.extend(self.model.as_ref().map(|model| format!("model:{model}")));
    }
}

/// The arguments of a call, parsed where they are JSON in a string.
fn arguments(payload: &Value) -> Value {
    let given = ["arguments", "input", "action"].iter().filter_map(|k| payload.get(k));
    match given.into_iter().find(|v| !v.is_null() && v.as_str() != Some("")) {
        Some(Value::String(s)) => serde_json::from_str(s).unwrap_or_else(|_| Value::String(s.clone())),
        Some(other) => other.clone(),
        None => Value::Null,
    }
}

/// Older outputs are JSON in a string, with exit code and duration beside the text.
fn told_by_output(fields: &mut Fields, output: &Value) {
    let parsed: Option<Value> = output.as_str().and_then(|s| serde_json::from_str(s).ok());
    if let Some(about) = parsed.as_ref().and_then(|p| p.get("metadata")) {
        copy(fields, "semj.exit_code", about, "exit_code");
        put(fields, "semj.duration_ns", nanoseconds(about.get("duration_seconds")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_before_its_call_gets_no_span_end() {
        let log = br#"{"timestamp":"2026-01-01T00:00:00Z","type":"session_meta","payload":{"id":"S","model_provider":"openai"}}
{"timestamp":"2026-01-01T00:00:01Z","type":"event_msg","payload":{"type":"task_started","turn_id":"T"}}
{"timestamp":"x","type":"response_item","payload":{"type":"function_call_output","call_id":"c","output":"early"}}
{"timestamp":"2026-01-01T00:00:02Z","type":"response_item","payload":{"type":"function_call","call_id":"c","name":"shell","arguments":"{\"command\":[\"ls\"]}"}}
{"timestamp":"2026-01-01T00:00:02Z","type":"response_item","payload":{"type":"message","role":"user","content":[{"type":"input_text","text":"hi"}]}}
"#;
        let sessions = import("stem", log);
        assert_eq!(sessions[0].losses, []);
        let events = &sessions[0].events;
        let types: Vec<String> = events.iter().map(|e| e.event_type().to_string()).collect();
        let expected = "semantic.context_switch semantic.transaction_begin observability.system_status \
             agent.decision observability.trace_span_start agent.query";
        assert_eq!(types.join(" "), expected);
        assert!(events[2].has_tag("unmapped") && events[2].has_tag("call:c") && events[2].has_tag("turn:T"));
        assert_eq!(events[3].intent_text().unwrap().as_str(), Some("shell: ls"));
        assert_eq!(events[5].parent_cause(), events[1].given_id().map(Into::into));
    }
}
