//! The pi coding agent: JSON Lines; calls and results are joined by `toolCallId`, newer logs have a `parentId`.

use super::calls::{Calls, Target, ToolCall, ToolResult};
use super::claude_code::take_usage;
use super::content::{Fields, copy, fields, put, put_message, text, truthy};
use super::draft::{Draft, Frame, Piece, event_id, place_key};
use super::lineage::Lineage;
use super::lines::{self, Item, Record};
use super::{Format, Session, kinds};
use serde_json::{Value, json};
use uuid::Uuid;

/// Types of records that no other format has at its top level.
const TYPES: [&str; 9] = [
    "session",
    "message",
    "model_change",
    "thinking_level_change",
    "compaction",
    "branch_summary",
    "custom",
    "custom_message",
    "session_info",
];

/// Whether an object is a record of such a log.
pub(super) fn is_record(value: &Value) -> bool {
    text(value, "type").is_some_and(|t| TYPES.contains(&t)) && value.get("timestamp").is_some()
}

pub(super) fn import(stem: &str, bytes: &[u8]) -> Vec<Session> {
    let items = lines::read(bytes, is_record);
    let records = || items.iter().filter_map(|i| if let Item::Record(r) = i { Some(&r.value) } else { None });
    let head = records().find(|v| text(v, "type") == Some("session"));
    let draft = Draft::new(Format::Pi, head.and_then(|v| text(v, "id")).unwrap_or(stem));
    let lineage = Lineage::new(&items, "id", "parentId");
    let mut importer = Importer { draft, lineage, calls: Calls::new(Calls::ids_in(&items, "toolCall")) };
    for item in items {
        match item {
            Item::Record(record) => importer.record(&record),
            Item::Damage(damage) => importer.draft.damage(damage),
        }
    }
    importer.calls.finish(&mut importer.draft);
    importer.draft.finish()
}

struct Importer<'a> {
    draft: Draft,
    lineage: Lineage<'a>,
    calls: Calls,
}

impl<'a> Importer<'a> {
    fn record(&mut self, record: &Record<'a>) {
        let value = &record.value;
        if self.lineage.is_repeated(&mut self.draft, record) {
            return;
        }
        let mark = self.draft.mark();
        let message = value.get("message").unwrap_or(&Value::Null);
        let time = value.get("timestamp").filter(|t| t.is_string()).or(message.get("timestamp"));
        // Ids of records are short here, so a record is named by session and line.
        let mut frame = self.draft.open((record.line, &record.place), None, time, None);
        self.lineage.descend(&mut self.draft, &mut frame, value);
        self.whole(&mut frame, value);
        self.message(&mut frame, message);
        if frame.is_bare() && self.draft.mark() == mark {
            let kind = text(value, "type").unwrap_or("a record without type");
            let role = text(message, "role").unwrap_or_default();
            let summary = [kind, role, text(message, "errorMessage").unwrap_or_default()].join(" ");
            self.draft.emit(&mut frame, Piece::new(kinds::STATUS, &summary, fields(value)).tag("unmapped"));
        }
        self.lineage.remember(&self.draft, &frame, record, mark);
    }

    /// Records that become one event as they are; a compaction becomes two.
    fn whole(&mut self, frame: &mut Frame, value: &Value) {
        let mut payload = fields(value);
        match text(value, "type") {
            Some("session") => {
                model(frame, &mut payload, text(value, "provider"), text(value, "modelId"));
                copy(&mut payload, "semj.cwd", value, "cwd");
                let origin =
                    text(value, "branchedFrom").or(text(value, "parentSession")).and_then(session_in);
                frame.first_links.extend(origin.map(|session| {
                    (event_id(Format::Pi, &place_key(&session.to_string(), "1"), 0), "forked_from")
                }));
                let summary = format!("session {}", text(value, "id").unwrap_or_default());
                let piece = Piece::new(kinds::TRANSACTION_BEGIN, &summary, payload).parent(None);
                let begin = self.draft.emit(frame, piece);
                self.draft.begin(frame, begin);
            }
            Some("model_change") => {
                model(frame, &mut payload, text(value, "provider"), text(value, "modelId"));
                let summary = format!("model {}", text(value, "modelId").unwrap_or_default());
                self.draft.emit(frame, Piece::new(kinds::CONTEXT_SWITCH, &summary, payload));
            }
            Some("thinking_level_change") => {
                let summary = format!("thinking level {}", text(value, "thinkingLevel").unwrap_or_default());
                self.draft.emit(frame, Piece::new(kinds::CONTEXT_SWITCH, &summary, payload));
            }
            Some("compaction") => {
                let summary = text(value, "summary").unwrap_or("compaction").to_owned();
                self.draft.emit(frame, Piece::new(kinds::LEARNING, &summary, payload));
                let mut payload = Fields::new();
                copy(&mut payload, "tokensBefore", value, "tokensBefore");
                self.draft.emit(frame, Piece::new(kinds::CHECKPOINT, "compaction", payload));
            }
            _ => {}
        }
    }

    fn message(&mut self, frame: &mut Frame, message: &Value) {
        let role = text(message, "role").unwrap_or_default();
        let mut attributes = Fields::new();
        model(frame, &mut attributes, text(message, "provider"), text(message, "model"));
        if let Some(usage) = message.get("usage") {
            copy(&mut attributes, "gen_ai.usage.input_tokens", usage, "input");
            copy(&mut attributes, "gen_ai.usage.output_tokens", usage, "output");
            copy(&mut attributes, "gen_ai.usage.cache_read.input_tokens", usage, "cacheRead");
            copy(&mut attributes, "gen_ai.usage.cache_creation.input_tokens", usage, "cacheWrite");
        }
        if let Some(reason) = text(message, "stopReason") {
            put(&mut attributes, "gen_ai.response.finish_reasons", json!([reason]));
        }
        match role {
            "toolResult" => self.result(frame, message),
            "bashExecution" => self.bash(frame, message),
            _ => {}
        }
        for block in message.get("content").and_then(Value::as_array).into_iter().flatten() {
            self.block(frame, role, block, &mut attributes);
        }
    }

    fn block(&mut self, frame: &mut Frame, role: &str, block: &Value, attributes: &mut Fields) {
        let said = block.get("text").and_then(Value::as_str).unwrap_or_default();
        match (text(block, "type"), role) {
            (Some("toolCall"), _) => {
                let call = ToolCall {
                    id: text(block, "id"),
                    tool: text(block, "name").unwrap_or_default(),
                    arguments: block.get("arguments").cloned().unwrap_or_default(),
                    path: None,
                    fields: take_usage(attributes),
                };
                self.calls.add(&mut self.draft, frame, call);
            }
            (Some("thinking"), _) => {
                let mut payload = take_usage(attributes);
                let thought = text(block, "thinking").unwrap_or_default();
                put_message(&mut payload, "assistant", "reasoning", thought);
                self.draft.emit(frame, Piece::new(kinds::REASONING, thought, payload));
            }
            (Some("text"), "user") => {
                let mut payload = take_usage(attributes);
                put_message(&mut payload, "user", "text", said);
                self.draft.prompt(frame, Piece::new(kinds::QUERY, said, payload));
            }
            (Some("text"), "assistant") => {
                let mut payload = take_usage(attributes);
                put_message(&mut payload, "assistant", "text", said);
                self.draft.emit(frame, Piece::new(kinds::INTERACTION, said, payload));
            }
            // The blocks of a result are in the result's own event.
            (_, "toolResult") => {}
            (kind, _) => {
                let summary = format!("block {}", kind.unwrap_or("without type"));
                self.draft.emit(frame, Piece::new(kinds::STATUS, &summary, fields(block)).tag("unmapped"));
            }
        }
    }

    fn result(&mut self, frame: &mut Frame, message: &Value) {
        let mut payload = Fields::new();
        copy(&mut payload, "semj.details", message, "details");
        let result = ToolResult {
            result: message.get("content").cloned().unwrap_or_default(),
            error: truthy(message.get("isError")),
            fields: payload,
        };
        let target = text(message, "toolCallId").map_or(Target::At(None), Target::Id);
        self.calls.result(&mut self.draft, frame, target, result);
    }

    /// A command that the user ran: call and result in one record.
    fn bash(&mut self, frame: &mut Frame, message: &Value) {
        let mut arguments = Fields::new();
        copy(&mut arguments, "command", message, "command");
        let call = ToolCall {
            id: None,
            tool: "!bash",
            arguments: Value::Object(arguments),
            path: None,
            fields: Fields::new(),
        };
        frame.tags.push("role:user".to_owned());
        let place = self.calls.add(&mut self.draft, frame, call);
        let mut payload = Fields::new();
        copy(&mut payload, "semj.exit_code", message, "exitCode");
        copy(&mut payload, "semj.details", message, "details");
        let result = ToolResult {
            result: message.get("output").cloned().unwrap_or_default(),
            error: truthy(message.get("exitCode")),
            fields: payload,
        };
        self.calls.result(&mut self.draft, frame, Target::At(Some(place)), result);
    }
}

fn model(frame: &mut Frame, fields: &mut Fields, provider: Option<&str>, model: Option<&str>) {
    put(fields, "gen_ai.provider.name", provider);
    put(fields, "gen_ai.request.model", model);
    frame.tags.extend(model.map(|model| format!("model:{model}")));
}

/// The session whose log the path `name` leads to: such files end in `_UUID.jsonl`.
fn session_in(name: &str) -> Option<Uuid> {
    let stem = name.rsplit(['/', '\\']).next()?.trim_end_matches(".jsonl");
    Uuid::parse_str(stem.get(stem.len().checked_sub(36)?..)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use semj_storage::event::{Cause, Event};

    #[test]
    fn a_users_own_command_and_a_branch() {
        let old = "0199a7a0-0000-4000-8000-000000000001";
        let log = format!(
            r#"{{"type":"session","id":"S","timestamp":"2026-01-01T00:00:00Z","branchedFrom":"/s/2025_{old}.jsonl"}}
{{"type":"message","timestamp":"2026-01-01T00:00:01Z","message":{{"role":"bashExecution","command":"ls","output":"x","exitCode":2}}}}
{{"type":"compaction","timestamp":"2026-01-01T00:00:02Z","summary":"short"}}
"#
        );
        let sessions = import("stem", log.as_bytes());
        let types: Vec<String> = sessions[0].events.iter().map(|e| e.event_type().to_string()).collect();
        let expected = "semantic.transaction_begin agent.decision observability.trace_span_start \
             observability.trace_span_end observability.error_reported agent.learning system.checkpoint";
        assert_eq!(types.join(" "), expected);
        let first = import("stem", format!(r#"{{"type":"session","id":"{old}","timestamp":""}}"#).as_bytes());
        let origin = first[0].events[0].given_id().unwrap();
        assert_eq!(sessions[0].events[0].links()[0].cause, Cause::Id(origin));
        let begin = sessions[0].events[0].given_id().map(Cause::Id);
        assert_eq!(Event::parent_cause(&sessions[0].events[1]), begin);
    }
}
