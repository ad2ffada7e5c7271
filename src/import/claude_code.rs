//! Claude Code: JSON Lines, one record a line; `parentUuid` makes them a tree with forks and side chains.

use super::calls::{Calls, Target, ToolCall, ToolResult};
use super::content::{Fields, copy, fields, put, put_message, text, truthy};
use super::draft::{Draft, Frame, Piece};
use super::lineage::Lineage;
use super::lines::{self, Item, Record};
use super::{Format, Session, kinds};
use serde_json::Value;
use std::collections::HashSet;

/// Types of records, for telling a record from an object inside one.
const TYPES: [&str; 7] =
    ["user", "assistant", "progress", "system", "file-history-snapshot", "summary", "queue-operation"];

/// Whether an object is a record of such a log.
pub(super) fn is_record(value: &Value) -> bool {
    let typed = text(value, "type").is_some_and(|t| TYPES.contains(&t));
    typed
        && ["sessionId", "uuid", "message", "snapshot", "summary", "operation"]
            .iter()
            .any(|k| value.get(k).is_some())
}

pub(super) fn import(stem: &str, bytes: &[u8]) -> Vec<Session> {
    let items = lines::read(bytes, is_record);
    let records = || items.iter().filter_map(|i| if let Item::Record(r) = i { Some(&r.value) } else { None });
    let first = records().find(|v| text(v, "sessionId").is_some());
    let mut draft = Draft::new(Format::ClaudeCode, first.and_then(|v| text(v, "sessionId")).unwrap_or(stem));
    draft.of_agent(first.and_then(|v| text(v, "agentId")));
    let mut importer = Importer {
        lineage: Lineage::new(&items, "uuid", "parentUuid"),
        draft,
        calls: Calls::new(Calls::ids_in(&items, "tool_use")),
        messages: HashSet::new(),
        agents: HashSet::new(),
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

struct Importer<'a> {
    draft: Draft,
    lineage: Lineage<'a>,
    calls: Calls,
    /// Messages whose usage was counted: it is repeated in every record of a message.
    messages: HashSet<String>,
    /// Sub-agents that were met.
    agents: HashSet<String>,
}

impl<'a> Importer<'a> {
    fn record(&mut self, record: &Record<'a>) {
        let value = &record.value;
        if let Some(session) = text(value, "sessionId") {
            self.draft.enter(session);
        }
        if self.lineage.is_repeated(&mut self.draft, record) {
            return;
        }
        let own = text(value, "uuid");
        let agent = text(value, "agentId");
        let mark = self.draft.mark();
        let mut frame = self.draft.open((record.line, &record.place), own, value.get("timestamp"), agent);
        self.lineage.descend(&mut self.draft, &mut frame, value);
        if let Some(id) = text(value, "logicalParentUuid") {
            self.lineage.follow(&mut frame, id);
        }
        self.spawn(&mut frame, value);
        self.whole(&mut frame, value);
        self.message(&mut frame, value);
        if frame.is_bare() && self.draft.mark() == mark {
            let summary = text(value, "type").unwrap_or("a record without type");
            self.draft.emit(&mut frame, Piece::new(kinds::STATUS, summary, fields(value)).tag("unmapped"));
        }
        self.lineage.remember(&self.draft, &frame, record, mark);
    }

    /// Links the first event of a sub-agent with the call that started it, where that is in this log.
    fn spawn(&mut self, frame: &mut Frame, value: &Value) {
        let is_side_chain = truthy(value.get("isSidechain"));
        let is_first = match frame.agent() {
            Some(agent) => self.agents.insert(agent.to_owned()),
            None => is_side_chain && text(value, "parentUuid").is_none(),
        };
        if let (true, Some(decision)) = (is_first, self.calls.open_orchestration()) {
            frame.first_links.push((decision, "spawned_by"));
        }
    }

    /// Records that become one event as they are.
    fn whole(&mut self, frame: &mut Frame, value: &Value) {
        let kind = text(value, "type").unwrap_or_default();
        let (event, summary) = match kind {
            "file-history-snapshot" => (kinds::CHECKPOINT, "file history snapshot".to_owned()),
            "summary" => (kinds::LEARNING, text(value, "summary").unwrap_or_default().to_owned()),
            "progress" | "queue-operation" | "system" => {
                let data = value.get("data").unwrap_or(&Value::Null);
                let words = [text(data, "type"), text(value, "subtype"), text(value, "operation")];
                let more = [text(data, "hookName"), text(data, "query"), text(value, "content")];
                let words: Vec<&str> = [Some(kind)].into_iter().chain(words).chain(more).flatten().collect();
                (kinds::LOG, words.join(" "))
            }
            _ => return,
        };
        let mut payload = fields(value);
        if let Some(ms) = value.get("durationMs").and_then(Value::as_i64) {
            put(&mut payload, "semj.duration_ns", ms.checked_mul(1_000_000));
        }
        let mut piece = Piece::new(event, &summary, payload);
        if let Some(call) = text(value, "parentToolUseID")
            && let Some(decision) = self.calls.decision(call)
        {
            piece = piece.tag(format!("call:{call}")).parent(Some(decision));
        }
        self.draft.emit(frame, piece);
    }

    fn message(&mut self, frame: &mut Frame, value: &Value) {
        let Some(message) = value.get("message").filter(|m| m.is_object()) else { return };
        let mut attributes = self.attributes(value, message);
        if let Some(model) = text(message, "model") {
            frame.tags.push(format!("model:{model}"));
        }
        let is_user = text(value, "type") == Some("user");
        match message.get("content") {
            Some(Value::String(s)) => self.text(frame, is_user, s, &mut attributes),
            Some(Value::Array(blocks)) => {
                for block in blocks {
                    self.block(frame, value, is_user, block, &mut attributes);
                }
            }
            _ => {}
        }
    }

    fn block(
        &mut self,
        frame: &mut Frame,
        value: &Value,
        is_user: bool,
        block: &Value,
        attributes: &mut Fields,
    ) {
        match text(block, "type") {
            Some("text") => {
                let said = block.get("text").and_then(Value::as_str).unwrap_or_default();
                self.text(frame, is_user, said, attributes);
            }
            Some("thinking" | "redacted_thinking") => {
                let mut payload = take_usage(attributes);
                let thought = text(block, "thinking").unwrap_or_default();
                put_message(&mut payload, "assistant", "reasoning", thought);
                copy(&mut payload, "semj.encrypted", block, "data");
                self.draft.emit(frame, Piece::new(kinds::REASONING, thought, payload));
            }
            Some("tool_use") => {
                let call = ToolCall {
                    id: text(block, "id"),
                    tool: text(block, "name").unwrap_or_default(),
                    arguments: block.get("input").cloned().unwrap_or_default(),
                    path: None,
                    fields: take_usage(attributes),
                };
                self.calls.add(&mut self.draft, frame, call);
            }
            Some("tool_result") => {
                let mut payload = Fields::new();
                if let Some(detail) = value.get("toolUseResult") {
                    copy(&mut payload, "gen_ai.agent.id", detail, "agentId");
                    put(&mut payload, "semj.details", detail.clone());
                }
                let result = ToolResult {
                    result: block.get("content").cloned().unwrap_or_default(),
                    error: truthy(block.get("is_error")),
                    fields: payload,
                };
                let target = text(block, "tool_use_id").map_or(Target::At(None), Target::Id);
                self.calls.result(&mut self.draft, frame, target, result);
            }
            kind => {
                let summary = format!("block {}", kind.unwrap_or("without type"));
                self.draft.emit(frame, Piece::new(kinds::STATUS, &summary, fields(block)).tag("unmapped"));
            }
        }
    }

    /// What a person or the assistant said; a prompt opens a turn.
    fn text(&mut self, frame: &mut Frame, is_user: bool, said: &str, attributes: &mut Fields) {
        let mut payload = take_usage(attributes);
        if is_user {
            put_message(&mut payload, "user", "text", said);
            self.draft.prompt(frame, Piece::new(kinds::QUERY, said, payload));
        } else {
            put_message(&mut payload, "assistant", "text", said);
            self.draft.emit(frame, Piece::new(kinds::INTERACTION, said, payload));
        }
    }

    /// What all events of a message carry; usage only where the message is met for the first time.
    fn attributes(&mut self, value: &Value, message: &Value) -> Fields {
        let mut all = Fields::new();
        copy(&mut all, "semj.cwd", value, "cwd");
        copy(&mut all, "semj.git_branch", value, "gitBranch");
        if message.get("model").is_some() {
            put(&mut all, "gen_ai.provider.name", "anthropic");
            copy(&mut all, "gen_ai.request.model", message, "model");
        }
        let id = text(message, "id");
        if let Some(usage) = message.get("usage")
            && id.is_none_or(|id| self.messages.insert(id.to_owned()))
        {
            copy(&mut all, "gen_ai.usage.input_tokens", usage, "input_tokens");
            copy(&mut all, "gen_ai.usage.output_tokens", usage, "output_tokens");
            copy(&mut all, "gen_ai.usage.cache_read.input_tokens", usage, "cache_read_input_tokens");
            copy(&mut all, "gen_ai.usage.cache_creation.input_tokens", usage, "cache_creation_input_tokens");
        }
        copy(&mut all, "gen_ai.response.id", message, "id");
        all
    }
}

/// The attributes for one event; the usage in them goes to the first event only.
pub(super) fn take_usage(attributes: &mut Fields) -> Fields {
    let taken = attributes.clone();
    attributes.retain(|key, _| !key.starts_with("gen_ai.usage."));
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use semj_storage::event::Cause;

    const LOG: &str = r#"{"type":"file-history-snapshot","messageId":"m","snapshot":{}}
{"type":"user","uuid":"u1","parentUuid":null,"sessionId":"S","timestamp":"2026-01-01T00:00:00Z","message":{"content":"do it"}}
{"type":"assistant","uuid":"a1","parentUuid":"u1","sessionId":"S","timestamp":"2026-01-01T00:00:01Z","message":{"id":"m1","model":"x","usage":{"output_tokens":7},"content":[{"type":"thinking","thinking":"hm"},{"type":"tool_use","id":"t1","name":"Write","input":{"file_path":"/f"}}]}}
{"type":"user","uuid":"u2","parentUuid":"a1","sessionId":"S","message":{"content":[{"type":"tool_result","tool_use_id":"t1","is_error":true,"content":"denied"}]}}
{"type":"assistant","uuid":"a2","parentUuid":"u2","sessionId":"S","timestamp":"2026-01-01T00:00:03Z","message":{"id":"m1","usage":{"output_tokens":7},"content":[{"type":"text","text":"done"},{"type":"tool_use","id":"t2","name":"Read","input":{"file_path":"/g"}}]}}
{"type":"user","uuid":"s1","parentUuid":null,"isSidechain":true,"agentId":"sub","sessionId":"S","message":{"content":"go"}}
"#;

    #[test]
    fn effects_belong_to_decisions_and_decisions_to_their_turn() {
        let sessions = import("stem", LOG.as_bytes());
        assert_eq!((sessions.len(), sessions[0].session.as_str(), sessions[0].records), (1, "S", 6));
        assert_eq!(sessions[0].losses, []);
        let events = &sessions[0].events;
        let types: Vec<String> = events.iter().map(|e| e.event_type().to_string()).collect();
        let expected = "system.checkpoint agent.query agent.reasoning agent.decision filesystem.write \
             observability.error_reported agent.interaction agent.decision agent.query filesystem.read";
        assert_eq!(types.join(" "), expected);
        let id = |i: usize| Cause::Id(events[i].given_id().unwrap());
        let parents: Vec<_> = events.iter().map(semj_storage::event::Event::parent_cause).collect();
        let of = |i| Some(id(i));
        assert_eq!(parents, [None, None, of(1), of(1), of(3), of(3), of(1), of(1), None, of(7)]);
        assert_eq!(events[6].links()[0].cause, id(5));
        assert!(events[4].links().is_empty(), "a call applies");
        assert!(events[0].has_tag("time:unknown") && events[4].has_tag("time:inherited"));
        for tag in ["claimed", "outcome:error", "tool:Write", "call:t1"] {
            assert!(events[4].has_tag(tag), "{tag}");
        }
        assert!(events[9].has_tag("outcome:none") && events[1].has_tag("role:user"));
        let usage = |i: usize| {
            events[i].payload_value().as_json().unwrap().get("gen_ai.usage.output_tokens").cloned()
        };
        assert_eq!((0..10).filter_map(usage).count(), 1);
        assert_eq!(events[8].agent_text().unwrap().as_str(), Some("sub"));
    }

    #[test]
    fn a_summary_shows_its_text() {
        let sessions = import("stem", br#"{"type":"summary","summary":"All  done","leafUuid":"x"}"#);
        assert_eq!(sessions[0].events[0].intent_text().unwrap().as_str(), Some("All done"));
    }
}
