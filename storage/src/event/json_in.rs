//! JSON lines to events: strict, every refusal names its key.

use super::json_fields::{
    cause, integer, list, members, metadata, number_u64, object, payload, percent, priority, text, time,
    uuid, visibility, wide,
};
use super::json_value::{Json, Members, Reader, shorten};
use super::{
    Event, EventType, Extra, Flags, GraphContext, LimitExceeded, Link, Payload, SystemContext, VectorContext,
};
use crate::limits::{BATCH_EVENTS_MAX, LINE_BYTES_MAX, NESTING_MAX};
use std::fmt;

/// What one line of input holds.
#[derive(Debug)]
pub enum LineInput {
    /// Nothing but white space.
    Blank,
    /// One event.
    Event(Box<Event<'static>>),
    /// An array: one atomic group.
    Group(Vec<Event<'static>>),
}

/// Why a line was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum InputErrorKind {
    /// Not JSON.
    Syntax,
    /// A key that no event has.
    UnknownKey,
    /// A value of the wrong type or out of range, or a key given twice.
    BadValue,
    /// A value over its limit.
    Limit,
}

impl fmt::Display for InputErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InputErrorKind::Syntax => "syntax",
            InputErrorKind::UnknownKey => "unknown_key",
            InputErrorKind::BadValue => "bad_value",
            InputErrorKind::Limit => "limit",
        })
    }
}

/// A refused line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InputError {
    /// Why.
    pub kind: InputErrorKind,
    /// Which key, where one is to blame; keys within keys as a path with dots.
    pub key: Option<String>,
    /// What was expected and what was found.
    pub message: String,
}

impl InputError {
    fn syntax(message: String) -> Self {
        InputError { kind: InputErrorKind::Syntax, key: None, message }
    }

    /// A value that cannot be taken; `why` follows the key in the message.
    pub(super) fn bad_value(key: &str, why: impl fmt::Display) -> Self {
        let message = if key.is_empty() { why.to_string() } else { format!("{key}: {why}") };
        let key = (!key.is_empty()).then(|| key.to_owned());
        InputError { kind: InputErrorKind::BadValue, key, message }
    }

    /// A key that occurs twice in one object.
    pub(super) fn duplicate(key: &str) -> Self {
        Self::bad_value(key, "the key is given twice")
    }

    /// A key that is not among `known`.
    pub(super) fn unknown_key(key: &str) -> Self {
        let message = format!("unknown key {key:?}");
        InputError { kind: InputErrorKind::UnknownKey, key: Some(key.to_owned()), message }
    }

    fn limit(key: Option<&str>, what: &str, actual: usize, limit: usize) -> Self {
        let message = format!("{what} is {actual}, the limit is {limit}");
        InputError { kind: InputErrorKind::Limit, key: key.map(str::to_owned), message }
    }
}

impl From<LimitExceeded> for InputError {
    fn from(e: LimitExceeded) -> Self {
        InputError { kind: InputErrorKind::Limit, key: Some(e.key.to_owned()), message: e.to_string() }
    }
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
impl std::error::Error for InputError {}

/// Keys that an event may have.
const EVENT_KEYS: [&str; 34] = [
    "type",
    "subtype",
    "name",
    "id",
    "stream",
    "expect",
    "agent",
    "session",
    "path",
    "intent",
    "confidence",
    "agent_intent",
    "agent_confidence",
    "priority",
    "flags",
    "tags",
    "parent",
    "root",
    "links",
    "transaction",
    "chain",
    "visibility",
    "relevance",
    "replay_priority",
    "graph",
    "vector",
    "system",
    "inode",
    "file_type",
    "cpu",
    "pid",
    "time",
    "payload",
    "metadata",
];

/// Keys that the output adds; on input they are passed over, so that output is input again.
const OUTPUT_KEYS: [&str; 9] = [
    "sequence",
    "local_sequence",
    "code",
    "recorded",
    "boot_ns",
    "boot_id",
    "source",
    "parent_sequence",
    "root_sequence",
];

const LINK_KEYS: [&str; 7] = ["cause", "kind", "code", "strength", "delay_ns", "description", "effect"];
const LINK_OUTPUT_KEYS: [&str; 2] = ["cause_sequence", "effect_sequence"];

/// Parses one line of JSON input.
///
/// # Errors
/// The first thing that is wrong with it: that it is no JSON, else a key that is unknown or given twice, a value that
/// cannot be taken, a limit that is exceeded.
pub fn parse_line(line: &[u8]) -> Result<LineInput, InputError> {
    if line.len() > LINE_BYTES_MAX {
        return Err(InputError::limit(None, "line bytes", line.len(), LINE_BYTES_MAX));
    }
    let text = std::str::from_utf8(line)
        .map_err(|e| InputError::syntax(format!("not UTF-8: byte {} of the line", e.valid_up_to() + 1)))?;
    let mut reader = Reader::new(text);
    let first = match reader.peek() {
        None => return Ok(LineInput::Blank),
        Some(byte) => byte,
    };
    // Judges the syntax without recursion and without keeping anything.
    serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|e| {
        let words = e.to_string();
        let what = words.split(" at line ").next().unwrap_or_default();
        InputError::syntax(format!("not JSON: {what} at column {}", e.column()))
    })?;
    match first {
        b'[' => group(&mut reader).map(LineInput::Group),
        _ => event(&mut reader).map(|e| LineInput::Event(Box::new(e))),
    }
}

/// Whether `text` is what this reader would keep of itself as a payload, byte for byte.
pub(crate) fn is_canonical_payload(text: &str) -> bool {
    if text == "null" || serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
        return false;
    }
    let value = Reader::new(text).value(2).filter(|v| v.too_deep().is_none());
    matches!(value.map(payload), Some(Ok(Payload::Json(kept))) if kept.as_str() == text)
}

fn group(reader: &mut Reader<'_>) -> Result<Vec<Event<'static>>, InputError> {
    reader.take(b'[');
    if reader.take(b']') {
        return Err(InputError::bad_value("", "a group needs at least one event, found an empty list"));
    }
    let mut events = Vec::new();
    loop {
        // One event at a time: the tree of a whole group would need many times the line's memory.
        let next = event(reader).map_err(|mut e| {
            e.message = format!("event {} of the group: {}", events.len() + 1, e.message);
            e
        })?;
        events.push(next);
        if events.len() > BATCH_EVENTS_MAX {
            return Err(InputError::limit(None, "events in the group", events.len(), BATCH_EVENTS_MAX));
        }
        if !reader.take(b',') {
            return Ok(events);
        }
    }
}

fn event(reader: &mut Reader<'_>) -> Result<Event<'static>, InputError> {
    let fields = match reader.value(1) {
        Some(Json::Object(fields)) => fields,
        Some(other) => {
            return Err(InputError::bad_value("", format!("expected an object, found {}", other.describe())));
        }
        None => return Err(InputError::syntax("not JSON".into())),
    };
    for (key, value) in &fields {
        if let Some(level) = value.too_deep().filter(|_| !OUTPUT_KEYS.contains(&key.as_ref())) {
            return Err(InputError::limit(Some(&shorten(key)), "nesting levels", level, NESTING_MAX));
        }
    }
    let fields = members("", fields, &EVENT_KEYS, &OUTPUT_KEYS)?;
    let event = from_fields(fields)?;
    event.check_limits()?;
    Ok(event)
}

fn from_fields(fields: Members<'_>) -> Result<Event<'static>, InputError> {
    let mut event = Event::new(EventType::from_code(0));
    let mut has_type = false;
    let mut rest = Vec::new();
    for (key, value) in fields {
        let k = key.as_ref();
        match k {
            "type" => {
                event.event_type = event_type(value)?;
                has_type = true;
            }
            "subtype" => event.subtype = Some(integer(k, value)?),
            "name" => event.name = Some(text(k, value)?),
            "id" => event.id = Some(uuid(k, value)?),
            "stream" => event.stream = Some(text(k, value)?),
            "expect" => event.expect = Some(number_u64(k, value)?),
            "agent" => event.agent = Some(text(k, value)?),
            "session" => event.session = Some(text(k, value)?),
            "path" => event.path = Some(text(k, value)?),
            "intent" => event.intent = Some(text(k, value)?),
            "priority" => event.priority = priority(k, value)?,
            "flags" => event.flags = flags(value)?,
            "tags" => {
                event.tags = list(k, value)?.into_iter().map(|t| text(k, t)).collect::<Result<_, _>>()?
            }
            "parent" => event.parent = Some(cause(k, value)?),
            "time" => event.time = Some(time(k, value)?),
            "payload" => event.payload = payload(value)?,
            _ => rest.push((key, value)),
        }
    }
    if !has_type {
        return Err(InputError::bad_value("type", "required: a name such as agent.decision, or a number"));
    }
    if !rest.is_empty() {
        event.extra = Some(Box::new(extra(rest)?));
    }
    Ok(event)
}

fn extra(fields: Members<'_>) -> Result<Extra<'static>, InputError> {
    let mut x = Extra::default();
    for (key, value) in fields {
        let k = key.as_ref();
        match k {
            "confidence" => x.confidence = Some(percent(k, value)?),
            "agent_intent" => x.agent_intent = Some(text(k, value)?),
            "agent_confidence" => x.agent_confidence = Some(percent(k, value)?),
            "root" => x.root = Some(cause(k, value)?),
            "links" => x.links = list(k, value)?.into_iter().map(link).collect::<Result<_, _>>()?,
            "transaction" => x.transaction = Some(text(k, value)?),
            "chain" => x.chain = Some(text(k, value)?),
            "visibility" => x.visibility = Some(visibility(k, value)?),
            "relevance" => x.relevance = Some(integer(k, value)?),
            "replay_priority" => x.replay_priority = Some(priority(k, value)?),
            "graph" => x.graph = Some(graph(value)?),
            "vector" => x.vector = Some(vector(value)?),
            "system" => x.system = Some(system(value)?),
            "inode" => x.inode = Some(wide(k, value)?),
            "file_type" => x.file_type = Some(integer(k, value)?),
            "cpu" => x.cpu = Some(integer(k, value)?),
            "pid" => x.pid = Some(integer(k, value)?),
            "metadata" => x.metadata = Some(metadata(value)?),
            other => return Err(InputError::unknown_key(other)),
        }
    }
    Ok(x)
}

fn event_type(value: Json<'_>) -> Result<EventType, InputError> {
    match value {
        Json::String(name) => EventType::parse(&name).ok_or_else(|| {
            InputError::bad_value(
                "type",
                format!("there is no event type {:?}; a foreign one is a number", shorten(&name)),
            )
        }),
        number => integer("type", number).map(EventType::from_code),
    }
}

fn flags(value: Json<'_>) -> Result<Flags, InputError> {
    list("flags", value)?.into_iter().try_fold(Flags::default(), |all, flag| {
        let one = match flag {
            Json::String(name) => Flags::parse(&name).ok_or_else(|| {
                InputError::bad_value(
                    "flags",
                    format!("there is no flag {:?}; a foreign one is a number", shorten(&name)),
                )
            })?,
            number => Flags::from_bits(integer("flags", number)?),
        };
        Ok(all.union(one))
    })
}

fn link(value: Json<'_>) -> Result<Link<'static>, InputError> {
    let fields = object("links", value)?;
    let mut link = Link {
        cause: 0.into(),
        kind: None,
        code: None,
        strength: None,
        delay_ns: None,
        description: None,
        effect: None,
    };
    let mut has_cause = false;
    for (key, value) in members("links.", fields, &LINK_KEYS, &LINK_OUTPUT_KEYS)? {
        match key.as_ref() {
            "cause" => {
                link.cause = cause("links.cause", value)?;
                has_cause = true;
            }
            "kind" => link.kind = Some(text("links.kind", value)?),
            "code" => link.code = Some(integer("links.code", value)?),
            "strength" => link.strength = Some(percent("links.strength", value)?),
            "delay_ns" => link.delay_ns = Some(wide("links.delay_ns", value)?),
            "description" => link.description = Some(text("links.description", value)?),
            _ => link.effect = Some(cause("links.effect", value)?),
        }
    }
    if has_cause { Ok(link) } else { Err(InputError::bad_value("links.cause", "every link needs its cause")) }
}

fn graph(value: Json<'_>) -> Result<GraphContext, InputError> {
    let mut graph = GraphContext::default();
    let fields = object("graph", value)?;
    for (key, value) in members("graph.", fields, &["node", "edge", "operation"], &[])? {
        match key.as_ref() {
            "node" => graph.node = Some(wide("graph.node", value)?),
            "edge" => graph.edge = Some(wide("graph.edge", value)?),
            _ => graph.operation = Some(integer("graph.operation", value)?),
        }
    }
    Ok(graph)
}

fn vector(value: Json<'_>) -> Result<VectorContext, InputError> {
    let mut vector = VectorContext::default();
    let fields = object("vector", value)?;
    for (key, value) in members("vector.", fields, &["id", "dimensions", "element"], &[])? {
        match key.as_ref() {
            "id" => vector.id = Some(wide("vector.id", value)?),
            "dimensions" => vector.dimensions = Some(integer("vector.dimensions", value)?),
            _ => vector.element = Some(integer("vector.element", value)?),
        }
    }
    Ok(vector)
}

fn system(value: Json<'_>) -> Result<SystemContext, InputError> {
    let mut system = SystemContext::default();
    let fields = object("system", value)?;
    for (key, value) in members("system.", fields, &["load", "memory", "io_pressure"], &[])? {
        match key.as_ref() {
            "load" => system.load = Some(integer("system.load", value)?),
            "memory" => system.memory = Some(wide("system.memory", value)?),
            _ => system.io_pressure = Some(integer("system.io_pressure", value)?),
        }
    }
    Ok(system)
}
