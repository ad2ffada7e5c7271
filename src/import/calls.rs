//! Tool calls and their results: decision, effect, span and error, joined by call id.
//!
//! The decision is written at the call. A span (shell, MCP, unknown tool) starts at the call and ends at the result;
//! a call without a result stays an open span. Every other effect is written when its result arrives, or at the end
//! of the log with `outcome:none`.

use super::content::{Fields, brief, put, readable, text};
use super::draft::{Draft, Frame, Piece};
use super::fit::head;
use super::lines::Item;
use super::{kinds, tools};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// Most bytes of a result that its error event repeats; the effect carries the whole.
const ERROR_BYTES_MAX: usize = 4 << 10;

/// A tool call as a log tells it.
pub(super) struct ToolCall<'a> {
    /// The provider's id, where there is one.
    pub(super) id: Option<&'a str>,
    pub(super) tool: &'a str,
    pub(super) arguments: Value,
    /// The file, where the log tells it outside the arguments.
    pub(super) path: Option<String>,
    /// What the decision's payload holds beside the call.
    pub(super) fields: Fields,
}

/// The result of a call as a log tells it.
#[derive(Default)]
pub(super) struct ToolResult {
    pub(super) result: Value,
    /// Whether it counts as an error.
    pub(super) error: bool,
    /// What the effect's payload holds beside the result.
    pub(super) fields: Fields,
}

/// Which call a result belongs to.
pub(super) enum Target<'a> {
    /// The one with this id.
    Id(&'a str),
    /// The one at this place, as [`Calls::add`] returned it; without one, the latest.
    At(Option<usize>),
}

struct Call {
    decision: Uuid,
    id: Option<String>,
    tool: String,
    intent: String,
    path: Option<String>,
    done: bool,
    /// For the effect that is written at the end because no result came.
    late: Frame,
}

/// The calls of one log so far.
#[derive(Default)]
pub(super) struct Calls {
    calls: Vec<Call>,
    by_id: HashMap<String, usize>,
    /// Ids of all calls of the log, read ahead: a result may come before its call.
    known: HashSet<String>,
}

impl Calls {
    /// The ids of all calls in a log whose messages hold them as blocks of this type.
    pub(super) fn ids_in(items: &[Item<'_>], block_type: &str) -> HashSet<String> {
        let records =
            items.iter().filter_map(|i| if let Item::Record(r) = i { Some(&r.value) } else { None });
        let content = records.filter_map(|r| r.get("message")?.get("content")?.as_array());
        let calls = content.flatten().filter(|block| text(block, "type") == Some(block_type));
        calls.filter_map(|call| text(call, "id").map(str::to_owned)).collect()
    }

    /// No calls yet; `known` are the ids of all calls that the log will have.
    pub(super) fn new(known: HashSet<String>) -> Self {
        Calls { known, ..Calls::default() }
    }

    /// Writes the decision, and the start of a span; returns the call's place.
    pub(super) fn add(&mut self, draft: &mut Draft, frame: &mut Frame, call: ToolCall<'_>) -> usize {
        let summary = tools::summary(call.tool, &call.arguments);
        let path = call.path.or_else(|| tools::path_of(call.tool, &call.arguments));
        let mut fields = call.fields;
        put(&mut fields, "gen_ai.operation.name", "execute_tool");
        identify(&mut fields, call.tool, call.id);
        put(&mut fields, "gen_ai.tool.call.arguments", call.arguments);
        let tags = tags(call.tool, call.id);
        let mut piece = Piece::new(kinds::DECISION, &summary, fields);
        piece.tags.clone_from(&tags);
        let decision = draft.emit(frame, piece);
        let done = tools::effect_of(call.tool) == kinds::SPAN_START;
        if done {
            let mut fields = Fields::new();
            identify(&mut fields, call.tool, call.id);
            let mut piece =
                Piece::new(kinds::SPAN_START, &summary, fields).parent(Some(decision)).tag("claimed");
            piece.tags.extend(tags);
            draft.emit(frame, piece);
        }
        let place = self.calls.len();
        if let Some(id) = call.id {
            self.by_id.insert(id.to_owned(), place);
        }
        self.calls.push(Call {
            decision,
            id: call.id.map(str::to_owned),
            tool: call.tool.to_owned(),
            intent: brief(&summary),
            path,
            done,
            late: frame.late(),
        });
        place
    }

    /// The decision of the call with this id.
    pub(super) fn decision(&self, id: &str) -> Option<Uuid> {
        self.by_id.get(id).and_then(|place| self.calls.get(*place)).map(|call| call.decision)
    }

    /// The decision of the latest call that hands work to another agent and has no result yet.
    pub(super) fn open_orchestration(&self) -> Option<Uuid> {
        let open = |c: &&Call| !c.done && tools::effect_of(&c.tool) == kinds::ORCHESTRATION;
        self.calls.iter().rev().find(open).map(|call| call.decision)
    }

    /// Writes what a result tells: the effect or the span's end, and the error if it is one.
    pub(super) fn result(
        &mut self,
        draft: &mut Draft,
        frame: &mut Frame,
        target: Target<'_>,
        result: ToolResult,
    ) {
        let place = match target {
            Target::Id(id) => self.by_id.get(id).copied(),
            Target::At(at) => at.or(self.calls.len().checked_sub(1)),
        };
        let Some(call) = place.and_then(|place| self.calls.get_mut(place)) else {
            let id = if let Target::Id(id) = target { Some(id) } else { None };
            return self.stray(draft, frame, id, result);
        };
        let is_span = tools::effect_of(&call.tool) == kinds::SPAN_START;
        let outcome = if result.error { "outcome:error" } else { "outcome:ok" };
        let message = head(&readable(&result.result), ERROR_BYTES_MAX).to_owned();
        let mut piece = if is_span {
            Piece::new(kinds::SPAN_END, &call.intent, result.fields).tag("claimed").tag(outcome)
        } else if call.done {
            // The effect is there already; what a second result says must not count as another effect.
            Piece::new(kinds::STATUS, &call.intent, result.fields).tag("unmapped")
        } else {
            call.effect(result.fields).tag(outcome)
        };
        call.done = true;
        identify(&mut piece.fields, &call.tool, call.id.as_deref());
        put(&mut piece.fields, "gen_ai.tool.call.result", result.result);
        piece.tags.extend(tags(&call.tool, call.id.as_deref()));
        draft.emit(frame, piece.parent(Some(call.decision)));
        if result.error {
            let (tool, id) = (call.tool.clone(), call.id.clone());
            error(draft, frame, Some(call.decision), Some(&tool), id.as_deref(), &message);
        }
    }

    /// A result whose call is not there: written early, or lost.
    fn stray(&self, draft: &mut Draft, frame: &mut Frame, id: Option<&str>, result: ToolResult) {
        let message = head(&readable(&result.result), ERROR_BYTES_MAX).to_owned();
        let mut fields = result.fields;
        put(&mut fields, "gen_ai.tool.call.id", id);
        put(&mut fields, "gen_ai.tool.call.result", result.result);
        if id.is_some_and(|id| self.known.contains(id)) {
            let mut piece = Piece::new(kinds::STATUS, "a result before its call", fields).tag("unmapped");
            piece.tags.extend(id.map(|id| format!("call:{id}")));
            draft.emit(frame, piece);
        } else {
            let whose = id.map(|id| format!(" {}", super::fit::shorten(id, 64))).unwrap_or_default();
            draft.loss(frame.line, format!("the call{whose} of this result was never written"), fields);
        }
        if result.error {
            error(draft, frame, frame.turn, None, id, &message);
        }
    }

    /// Writes the effects whose results never came.
    pub(super) fn finish(self, draft: &mut Draft) {
        for mut call in self.calls.into_iter().filter(|call| !call.done) {
            let mut piece = call.effect(Fields::new()).tag("outcome:none").parent(Some(call.decision));
            identify(&mut piece.fields, &call.tool, call.id.as_deref());
            piece.tags.extend(tags(&call.tool, call.id.as_deref()));
            draft.emit(&mut call.late, piece);
        }
    }
}

impl Call {
    fn effect(&self, fields: Fields) -> Piece {
        let mut piece = Piece::new(tools::effect_of(&self.tool), &self.intent, fields).tag("claimed");
        piece.path.clone_from(&self.path);
        piece
    }
}

fn error(
    draft: &mut Draft,
    frame: &mut Frame,
    parent: Option<Uuid>,
    tool: Option<&str>,
    id: Option<&str>,
    message: &str,
) {
    let mut fields = Fields::new();
    put(&mut fields, "gen_ai.tool.name", tool);
    put(&mut fields, "gen_ai.tool.call.id", id);
    put(&mut fields, "error.message", message);
    let mut piece = Piece::new(kinds::ERROR, message, fields).parent(parent);
    piece.tags.extend(tool.map(|tool| format!("tool:{tool}")));
    piece.tags.extend(id.map(|id| format!("call:{id}")));
    draft.emit(frame, piece);
}

fn identify(fields: &mut Fields, tool: &str, id: Option<&str>) {
    put(fields, "gen_ai.tool.name", tool);
    put(fields, "gen_ai.tool.call.id", id);
}

fn tags(tool: &str, id: Option<&str>) -> Vec<String> {
    [Some(format!("tool:{tool}")), id.map(|id| format!("call:{id}"))].into_iter().flatten().collect()
}
