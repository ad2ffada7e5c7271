//! Records that name themselves and their parents: who follows whom, and what was written twice.

use super::content::{Fields, put};
use super::draft::{Draft, Frame};
use super::lines::{Item, Record};
use serde_json::Value;
use std::collections::HashMap;
use std::ops::Range;
use uuid::Uuid;

struct Seen<'a> {
    /// The record's last event: what its children follow.
    event: Option<Uuid>,
    turn: Option<Uuid>,
    session: usize,
    raw: &'a [u8],
    events: Range<usize>,
}

/// The records of a log by their own ids.
pub(super) struct Lineage<'a> {
    own: &'static str,
    parent: &'static str,
    /// On which line each id is first written, read ahead: a parent may be missing, or only late.
    lines: HashMap<String, u64>,
    seen: HashMap<String, Seen<'a>>,
}

impl<'a> Lineage<'a> {
    /// Reads the ids of all records; `own` and `parent` are the keys that hold them.
    pub(super) fn new(items: &[Item<'a>], own: &'static str, parent: &'static str) -> Self {
        let mut lines = HashMap::new();
        for item in items {
            if let Item::Record(record) = item
                && let Some(id) = id_of(&record.value, own)
            {
                lines.entry(id).or_insert(record.line);
            }
        }
        Lineage { own, parent, lines, seen: HashMap::new() }
    }

    /// Whether the record was written before. Then its events are repeated; other content under its id is a loss.
    pub(super) fn is_repeated(&self, draft: &mut Draft, record: &Record<'a>) -> bool {
        let Some(id) = id_of(&record.value, self.own) else { return false };
        let Some(first) = self.seen.get(&id) else { return false };
        let equal = first.raw == record.raw
            || serde_json::from_slice::<Value>(first.raw).is_ok_and(|value| value == record.value);
        // A record whose events are not repeated was read nevertheless.
        draft.repeat(if equal { first.events.clone() } else { 0..0 });
        if !equal {
            let mut fields = Fields::new();
            put(&mut fields, "semj.record", record.value.clone());
            draft.loss(record.line, format!("record {} seen before with other content", short(&id)), fields);
        }
        true
    }

    /// Gives the frame what its record follows, and the turn its parent belongs to; a missing parent is a loss.
    pub(super) fn descend(&self, draft: &mut Draft, frame: &mut Frame, value: &Value) {
        let Some(parent) = id_of(value, self.parent) else { return };
        match (self.seen.get(&parent), self.lines.get(&parent)) {
            (Some(seen), _) => {
                let kind = if seen.session == draft.session_index() { "follows" } else { "forked_from" };
                frame.follows.extend(seen.event.map(|event| (event, kind)));
                if seen.turn.is_some() {
                    frame.turn = seen.turn;
                    frame.next_turn = seen.turn;
                }
            }
            (None, Some(line)) => {
                let reason = format!("parent {} comes only later, on line {line}", short(&parent));
                draft.loss(frame.line, reason, Fields::new());
            }
            (None, None) => {
                draft.loss(frame.line, format!("parent {} was never written", short(&parent)), Fields::new());
            }
        }
    }

    /// Adds what a record follows beside its parent, where that is known.
    pub(super) fn follow(&self, frame: &mut Frame, id: &str) {
        if let Some(event) = self.seen.get(id).and_then(|seen| seen.event) {
            frame.follows.push((event, "follows"));
        }
    }

    /// Remembers the record; its events are those made since `mark`.
    pub(super) fn remember(&mut self, draft: &Draft, frame: &Frame, record: &Record<'a>, mark: usize) {
        let Some(id) = id_of(&record.value, self.own) else { return };
        // A record that yielded nothing stands for its nearest ancestor that did.
        let event = frame.last.or(frame.follows.first().map(|(event, _)| *event));
        let seen = Seen {
            event,
            turn: frame.next_turn,
            session: draft.session_index(),
            raw: record.raw,
            events: mark..draft.mark(),
        };
        self.seen.insert(id, seen);
    }
}

fn id_of(value: &Value, key: &str) -> Option<String> {
    match value.get(key)? {
        Value::String(s) if !s.is_empty() => Some(s.clone()),
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    }
}

/// An id as reasons show it.
fn short(id: &str) -> String {
    super::fit::shorten(id, 64)
}
