//! Builds the events of one log: ids, sessions, time, parents and losses by the rules all formats share.
//!
//! Invariants:
//! 1. An id depends on format, record and place in the record only, so that importing again gives the same ids.
//! 2. A reference points to an event placed before it, in the same session or in one that is emitted earlier.
//! 3. No event exceeds a limit; what was cut is noted in its payload.

use super::content::{Fields, brief, fields, put};
use super::fit::{Cuts, shorten};
use super::lines::Damage;
use super::{Format, Loss, Session, kinds};
use semj_storage::event::{Event, EventType, Link, TAG_TIME_UNKNOWN, Timestamp};
use semj_storage::limits::{TAG_BYTES_MAX, TAGS_MAX, TEXT_BYTES_MAX};
use serde_json::Value;
use std::collections::HashMap;
use uuid::Uuid;

/// The namespace of all ids that importers derive. It never changes.
const NAMESPACE: Uuid = Uuid::from_u128(0x7c1d_4e52_90b3_4f0e_a6d8_2b5f_c3e1_9a74);

const TAG_TIME_INHERITED: &str = "time:inherited";
/// The log gave a local time without its zone; it is taken as UTC.
const TAG_TIME_LOCAL: &str = "time:local";

/// The id of the `n`-th event of a record; see [`Draft::own_key`] and [`place_key`] for the record's key.
pub(super) fn event_id(format: Format, record: &str, n: u32) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("{format}\0{record}\0{n}").as_bytes())
}

/// The key of a record without an id of its own: where it lies.
pub(super) fn place_key(session: &str, place: &str) -> String {
    format!("{session}\0{place}")
}

/// What an event is a consequence of.
#[derive(Clone, Copy)]
pub(super) enum Parent {
    /// The event that opened the record's turn, and what the record follows.
    Turn,
    /// The running transaction, and what the record follows.
    Prompt,
    /// This event, or nothing.
    Of(Option<Uuid>),
}

/// One event before it has its id and place.
pub(super) struct Piece {
    pub(super) kind: EventType,
    pub(super) intent: String,
    pub(super) path: Option<String>,
    pub(super) tags: Vec<String>,
    pub(super) fields: Fields,
    pub(super) parent: Parent,
}

impl Piece {
    pub(super) fn new(kind: EventType, intent: &str, fields: Fields) -> Self {
        Piece { kind, intent: brief(intent), path: None, tags: Vec::new(), fields, parent: Parent::Turn }
    }

    pub(super) fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    pub(super) fn parent(mut self, parent: Option<Uuid>) -> Self {
        self.parent = Parent::Of(parent);
        self
    }
}

/// A record while its events are made: what they have in common.
#[derive(Clone)]
pub(super) struct Frame {
    key: String,
    pub(super) line: u64,
    session: usize,
    agent: Option<String>,
    time: Option<Timestamp>,
    time_tag: Option<&'static str>,
    /// Tags of every event of the record.
    pub(super) tags: Vec<String>,
    /// The event that opened the turn the record belongs to.
    pub(super) turn: Option<Uuid>,
    /// The turn that the records after this one belong to.
    pub(super) next_turn: Option<Uuid>,
    /// What the record follows, for events that no call applies to.
    pub(super) follows: Vec<(Uuid, &'static str)>,
    /// Links of the record's first event only.
    pub(super) first_links: Vec<(Uuid, &'static str)>,
    made: u32,
    /// The record's last event so far.
    pub(super) last: Option<Uuid>,
}

impl Frame {
    /// Whether the record has yielded no event yet.
    pub(super) fn is_bare(&self) -> bool {
        self.made == 0
    }

    /// Who acted, where it was a sub-agent.
    pub(super) fn agent(&self) -> Option<&str> {
        self.agent.as_deref()
    }

    /// The frame for an event of this record that is made only at the end of the log.
    pub(super) fn late(&self) -> Frame {
        let mut late = self.clone();
        late.key.push_str("\0late");
        late.first_links.clear();
        late
    }
}

struct Part {
    name: String,
    records: u64,
    losses: Vec<Loss>,
    time: Option<Timestamp>,
}

/// The events of one log, in the order of its records.
pub(super) struct Draft {
    pub(super) format: Format,
    sessions: Vec<Part>,
    current: usize,
    /// Told apart from the session's main log where a sub-agent has a file of its own under the same session.
    file_agent: Option<String>,
    events: Vec<(usize, Event<'static>)>,
    /// In which session an id was placed.
    placed: HashMap<Uuid, usize>,
    /// The begun, not ended transaction: the parent of prompts.
    pub(super) transaction: Option<Uuid>,
    turns: HashMap<Option<String>, Uuid>,
}

impl Draft {
    /// An empty draft whose records belong to `session` until one names another.
    pub(super) fn new(format: Format, session: &str) -> Self {
        let mut draft = Draft {
            format,
            sessions: Vec::new(),
            current: 0,
            file_agent: None,
            events: Vec::new(),
            placed: HashMap::new(),
            transaction: None,
            turns: HashMap::new(),
        };
        draft.enter(session);
        draft
    }

    /// Says that the whole file belongs to one sub-agent.
    pub(super) fn of_agent(&mut self, agent: Option<&str>) {
        self.file_agent = agent.map(str::to_owned);
    }

    /// Makes `session` the one that the next records belong to.
    pub(super) fn enter(&mut self, session: &str) {
        let known = self.sessions.iter().position(|s| s.name == session);
        self.current = known.unwrap_or(self.sessions.len());
        if known.is_none() {
            self.sessions.push(Part { name: session.to_owned(), records: 0, losses: Vec::new(), time: None });
        }
    }

    /// The current session's number in this file.
    pub(super) fn session_index(&self) -> usize {
        self.current
    }

    fn session_name(&self, index: usize) -> &str {
        self.sessions.get(index).map_or("", |s| s.name.as_str())
    }

    /// The scope of keys by place: the session, and the sub-agent whose file this is.
    fn scope(&self) -> String {
        let session = self.session_name(self.current);
        match &self.file_agent {
            Some(agent) => format!("{session}\0{agent}"),
            None => session.to_owned(),
        }
    }

    /// The key of a record by its own id: a UUID is unique everywhere, another id within its session.
    pub(super) fn own_key(&self, own: &str) -> String {
        match Uuid::parse_str(own) {
            Ok(uuid) => uuid.to_string(),
            Err(_) => place_key(&self.scope(), &format!("id {own}")),
        }
    }

    /// Opens a record that is named by `own`, else by its place, and counts it.
    pub(super) fn open(
        &mut self,
        (line, place): (u64, &str),
        own: Option<&str>,
        time: Option<&Value>,
        agent: Option<&str>,
    ) -> Frame {
        if let Some(session) = self.sessions.get_mut(self.current) {
            session.records += 1;
        }
        let key = own.map_or_else(|| place_key(&self.scope(), place), |own| self.own_key(own));
        self.frame(line, key, time, agent)
    }

    fn frame(&mut self, line: u64, key: String, time: Option<&Value>, agent: Option<&str>) -> Frame {
        let agent = agent.map(str::to_owned);
        let turn = self.turns.get(&agent).copied().or(self.transaction);
        let (time, time_tag) = self.time(time);
        Frame {
            key,
            line,
            session: self.current,
            agent,
            time,
            time_tag,
            tags: Vec::new(),
            turn,
            next_turn: turn,
            follows: Vec::new(),
            first_links: Vec::new(),
            made: 0,
            last: None,
        }
    }

    /// The record's time, else the previous one's in its session, and the tag that says so. A time is never made up.
    fn time(&mut self, given: Option<&Value>) -> (Option<Timestamp>, Option<&'static str>) {
        let (time, tag) = match given.and_then(parse_time) {
            Some((time, tag)) => (Some(time), tag),
            None => (None, None),
        };
        let Some(session) = self.sessions.get_mut(self.current) else { return (time, tag) };
        match (time, session.time) {
            (Some(_), _) => {
                session.time = time;
                (time, tag)
            }
            (None, Some(previous)) => (Some(previous), Some(TAG_TIME_INHERITED)),
            (None, None) => (None, Some(TAG_TIME_UNKNOWN)),
        }
    }

    /// Remembers that the turn of the frame's agent was opened by `event`.
    pub(super) fn open_turn(&mut self, frame: &mut Frame, event: Uuid) {
        frame.next_turn = Some(event);
        self.turns.insert(frame.agent.clone(), event);
    }

    /// Remembers that a transaction was begun by `event`: its prompts and turns belong to it.
    pub(super) fn begin(&mut self, frame: &mut Frame, event: Uuid) {
        self.transaction = Some(event);
        self.open_turn(frame, event);
    }

    /// Adds the record's next event.
    pub(super) fn emit(&mut self, frame: &mut Frame, piece: Piece) -> Uuid {
        let id = event_id(self.format, &frame.key, frame.made);
        let first_links = if frame.made == 0 { std::mem::take(&mut frame.first_links) } else { Vec::new() };
        frame.made += 1;
        frame.last = Some(id);
        self.place(frame, id, piece, &first_links);
        id
    }

    /// Adds a prompt: it opens a turn, and only the running transaction lies above it.
    pub(super) fn prompt(&mut self, frame: &mut Frame, mut piece: Piece) -> Uuid {
        piece.tags.push("role:user".to_owned());
        piece.parent = Parent::Prompt;
        let id = self.emit(frame, piece);
        self.open_turn(frame, id);
        id
    }

    fn place(&mut self, frame: &Frame, id: Uuid, piece: Piece, first_links: &[(Uuid, &'static str)]) {
        let mut cuts = Cuts::default();
        let name = self.session_name(frame.session).to_owned();
        let stream = format!("import:{}:{name}", self.format);
        let agent = frame.agent.clone().unwrap_or_else(|| self.format.name().to_owned());
        let mut event = Event::new(piece.kind)
            .id(id)
            .stream(cuts.fit("stream", stream, TEXT_BYTES_MAX))
            .source(format!("import:{}", self.format))
            .agent(cuts.fit("agent", agent, TEXT_BYTES_MAX))
            .session(cuts.fit("session", name, TEXT_BYTES_MAX));
        if !piece.intent.is_empty() {
            event = event.intent(piece.intent);
        }
        if let Some(path) = piece.path {
            event = event.path(cuts.fit("path", path, TEXT_BYTES_MAX));
        }
        if let Some(time) = frame.time {
            event = event.time(time);
        }
        let time_tag = frame.time_tag.map(str::to_owned);
        for tag in time_tag.iter().chain(&piece.tags).chain(&frame.tags).take(TAGS_MAX) {
            event = event.tag(cuts.fit("tags", tag.clone(), TAG_BYTES_MAX));
        }
        let (parent, follows) = match piece.parent {
            Parent::Turn => (frame.turn, frame.follows.as_slice()),
            Parent::Prompt => (self.transaction, frame.follows.as_slice()),
            Parent::Of(parent) => (parent, &[] as &[_]),
        };
        if let Some(parent) = parent.filter(|p| self.is_before(*p, frame.session)) {
            event = event.parent(parent);
        }
        for (cause, kind) in first_links.iter().chain(follows) {
            if Some(*cause) != parent && self.may_link(*cause, frame.session) {
                event = event.link(Link::new(*cause, *kind));
            }
        }
        self.push(frame.session, id, event.payload(cuts.payload(piece.fields)));
    }

    fn push(&mut self, session: usize, id: Uuid, event: Event<'static>) {
        debug_assert!(event.check_limits().is_ok(), "invariant 3");
        self.placed.entry(id).or_insert(session);
        self.events.push((session, event));
    }

    /// Invariant 2: whether an event of `session` may have `cause` as its parent.
    fn is_before(&self, cause: Uuid, session: usize) -> bool {
        self.placed.get(&cause).is_some_and(|placed| *placed <= session)
    }

    /// Invariant 2 for links, which may also name an event of another file.
    fn may_link(&self, cause: Uuid, session: usize) -> bool {
        self.placed.get(&cause).is_none_or(|placed| *placed <= session)
    }

    /// How many events there are; with [`Draft::repeat`] this names the events of a record.
    pub(super) fn mark(&self) -> usize {
        self.events.len()
    }

    /// Adds the events of a record that is written a second time, just as they were, and counts the record.
    pub(super) fn repeat(&mut self, events: std::ops::Range<usize>) {
        if let Some(session) = self.sessions.get_mut(self.current) {
            session.records += 1;
        }
        let again: Vec<_> = self.events.get(events).unwrap_or_default().to_vec();
        self.events.extend(again);
    }

    /// Begins a run that has no record of its own for that. It says nothing but the session's name, so that it stays
    /// the same while the log grows or is mended.
    pub(super) fn run(&mut self, name: &str) {
        let mut frame = self.frame(1, place_key(&self.scope(), "begin"), None, None);
        let piece = Piece::new(kinds::TRANSACTION_BEGIN, &format!("run {name}"), Fields::new()).parent(None);
        let begin = self.emit(&mut frame, piece);
        self.begin(&mut frame, begin);
    }

    /// What a log says about a whole run. It may be written anew with every step, so its id depends on its content.
    pub(super) fn about_run(&mut self, summary: &str, fields: Fields) {
        self.of_run(kinds::CONTEXT_SWITCH, summary, fields);
    }

    /// How a run ended, which is a new event where a log that has grown tells another end.
    pub(super) fn end_run(&mut self, summary: &str, outcome: &Value) {
        self.of_run(kinds::TRANSACTION_END, summary, fields(outcome));
    }

    fn of_run(&mut self, kind: EventType, summary: &str, fields: Fields) {
        let value = Value::Object(fields);
        let hash = Uuid::new_v5(&NAMESPACE, value.to_string().as_bytes());
        let mut frame = self.frame(1, place_key(&self.scope(), &format!("{kind} {hash}")), None, None);
        let Value::Object(fields) = value else { return };
        self.emit(&mut frame, Piece::new(kind, summary, fields).parent(self.transaction));
    }

    /// Reports bytes that no record could be made of.
    pub(super) fn damage(&mut self, damage: Damage<'_>) {
        let mut fields = Fields::new();
        put(&mut fields, "semj.loss.head", Some(damage.head()).filter(|head| !head.is_empty()));
        self.loss(damage.line, damage.reason, fields);
    }

    /// Reports a loss and records it as an event.
    pub(super) fn loss(&mut self, line: u64, reason: String, mut fields: Fields) {
        put(&mut fields, "semj.loss.line", line);
        put(&mut fields, "semj.loss.reason", reason.clone());
        let scope = self.scope();
        let mut n = 0;
        let key = place_key(&scope, &format!("loss {line} {}", shorten(&reason, TEXT_BYTES_MAX)));
        while self.placed.contains_key(&event_id(self.format, &key, n)) {
            n += 1;
        }
        let frame = self.frame(line, key.clone(), None, None);
        let piece =
            Piece::new(kinds::ALERT, &format!("line {line}: {reason}"), fields).tag("loss").parent(None);
        self.place(&frame, event_id(self.format, &key, n), piece, &[]);
        if let Some(session) = self.sessions.get_mut(self.current) {
            session.losses.push(Loss { line, reason });
        }
    }

    /// The sessions in the order of their first record; one that has neither record nor loss is left out.
    pub(super) fn finish(self) -> Vec<Session> {
        let format = self.format;
        let mut sessions: Vec<Session> = self
            .sessions
            .into_iter()
            .map(|p| Session {
                format,
                session: p.name,
                records: p.records,
                events: Vec::new(),
                losses: p.losses,
            })
            .collect();
        for (index, event) in self.events {
            if let Some(session) = sessions.get_mut(index) {
                session.events.push(event);
            }
        }
        sessions.retain(|s| !s.events.is_empty() || s.records > 0);
        sessions
    }
}

/// RFC 3339, milliseconds since 1970, or a local time without zone.
fn parse_time(value: &Value) -> Option<(Timestamp, Option<&'static str>)> {
    if let Some(ms) = value.as_i64() {
        return ms.checked_mul(1_000_000).filter(|ns| *ns > 0).map(|ns| (Timestamp(ns), None));
    }
    let text = value.as_str()?;
    if let Some(time) = Timestamp::parse(text) {
        return Some((time, None));
    }
    let local: jiff::civil::DateTime = text.parse().ok()?;
    let time = local.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    i64::try_from(time.as_nanosecond()).ok().map(|ns| (Timestamp(ns), Some(TAG_TIME_LOCAL)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ids_depend_on_format_record_and_place_only() {
        let id = event_id(Format::Pi, "r", 0);
        assert_eq!(id, event_id(Format::Pi, "r", 0));
        assert_eq!(id.get_version_num(), 5);
        assert_ne!(id, event_id(Format::Codex, "r", 0));
        assert_ne!(id, event_id(Format::Pi, "r", 1));
        let mut draft = Draft::new(Format::Pi, "s");
        let upper = draft.own_key("00000000-0000-4000-8000-00000000ABCD");
        draft.enter("t");
        assert_eq!(upper, draft.own_key("00000000-0000-4000-8000-00000000abcd"));
        assert_ne!(draft.own_key("u1"), Draft::new(Format::Pi, "s").own_key("u1"));
    }

    #[test]
    fn time_is_inherited_within_a_session_and_never_made_up() {
        let mut draft = Draft::new(Format::Pi, "s");
        let given = json!("2026-02-09T08:10:31.821Z");
        assert_eq!(draft.time(None), (None, Some(TAG_TIME_UNKNOWN)));
        let (time, tag) = draft.time(Some(&given));
        assert!(time.is_some() && tag.is_none());
        assert_eq!(draft.time(Some(&json!("[trimmed]"))), (time, Some(TAG_TIME_INHERITED)));
        draft.enter("t");
        assert_eq!(draft.time(None), (None, Some(TAG_TIME_UNKNOWN)));
        let local = draft.time(Some(&json!("2026-02-09T08:10:31.821")));
        assert_eq!(local, (time, Some(TAG_TIME_LOCAL)));
        assert_eq!(draft.time(Some(&json!(1_770_624_631_821_u64))).0, time);
    }

    #[test]
    fn a_reference_to_a_later_session_is_dropped() {
        let mut draft = Draft::new(Format::Pi, "a");
        draft.enter("b");
        let mut frame = draft.open((1, "1"), None, None, None);
        let in_b = draft.emit(&mut frame, Piece::new(kinds::LOG, "", Fields::new()));
        draft.enter("a");
        let mut frame = draft.open((2, "2"), None, None, None);
        draft.emit(&mut frame, Piece::new(kinds::LOG, "", Fields::new()).parent(Some(in_b)));
        let sessions = draft.finish();
        assert!(sessions[0].events[0].parent_cause().is_none());
    }
}
