//! Events to JSON: one line each, valid as input again.

use super::json_value::push_json_string;
use super::{Cause, Event, Link, Payload, Recorded, ResolvedCause, Text};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::fmt::{Display, Write as _};

/// Largest integer that every JSON program reads exactly.
const SAFE_INTEGER_MAX: u64 = (1 << 53) - 1;

/// The event as one line of JSON, without the line feed.
///
/// The place in the order comes first, then what was emitted, then where it comes from. Characters that a terminal
/// or a line splitter would act on are escaped, whatever the payload holds.
pub fn to_json(recorded: &Recorded) -> String {
    let event = &recorded.event;
    let mut out = Object::new(256 + payload_len(&event.payload));
    out.plain("sequence", recorded.sequence);
    out.quoted("id", recorded.id);
    match event.event_type.names() {
        Some(_) => out.quoted("type", event.event_type),
        None => out.plain("type", event.event_type.code()),
    }
    out.plain("code", event.event_type.code());
    out.plain_some("subtype", event.subtype);
    out.text("name", event.name.as_ref());
    if let Some(time) = recorded.time {
        out.quoted("time", time);
    }
    let default = Text::from("default");
    out.text("stream", event.stream.as_ref().or(event.agent.as_ref()).or(Some(&default)));
    out.plain("local_sequence", recorded.local_sequence);
    out.text("agent", event.agent.as_ref());
    out.text("session", event.session.as_ref());
    out.text("path", event.path.as_ref());
    out.text("intent", event.intent.as_ref());
    out.plain_some("confidence", event.confidence_percent());
    out.text("agent_intent", event.agent_intent_text());
    out.plain_some("agent_confidence", event.agent_confidence_percent());
    match event.priority.name() {
        Some(name) => out.quoted("priority", name),
        None => out.plain("priority", event.priority.code()),
    }
    flags(&mut out, event);
    if !event.tags.is_empty() {
        let tags = &event.tags;
        out.key("tags").list(tags, |out, tag| push_text(out, tag));
    }
    out.cause("parent", "parent_sequence", event.parent, recorded.parent());
    out.cause("root", "root_sequence", event.root_cause().copied(), recorded.root());
    if !event.links().is_empty() {
        out.key("links")
            .list(recorded.links(), |out, (link, cause, effect)| push_link(out, link, cause, effect));
    }
    context(&mut out, event);
    push_payload(&mut out, &event.payload);
    if let Some(metadata) = event.metadata_json() {
        push_json(out.key("metadata"), metadata.as_str());
    }
    out.quoted("recorded", recorded.recorded);
    out.signed("boot_ns", recorded.boot_ns);
    out.quoted("boot_id", recorded.boot_id);
    out.string("source", recorded.source());
    escape_active(out.end())
}

/// The fields that few events have.
fn context(out: &mut Object, event: &Event<'_>) {
    out.text("transaction", event.transaction_text());
    out.text("chain", event.chain_text());
    if let Some(mask) = event.visibility_mask() {
        out.quoted("visibility", format_args!("0x{mask:016x}"));
    }
    out.plain_some("relevance", event.relevance_score().copied());
    if let Some(priority) = event.replay_priority_value() {
        match priority.name() {
            Some(name) => out.quoted("replay_priority", name),
            None => out.plain("replay_priority", priority.code()),
        }
    }
    if let Some(graph) = event.graph_context() {
        out.object("graph", |o| {
            o.wide("node", graph.node);
            o.wide("edge", graph.edge);
            o.plain_some("operation", graph.operation);
        });
    }
    if let Some(vector) = event.vector_context() {
        out.object("vector", |o| {
            o.wide("id", vector.id);
            o.plain_some("dimensions", vector.dimensions);
            o.plain_some("element", vector.element);
        });
    }
    if let Some(system) = event.system_context() {
        out.object("system", |o| {
            o.plain_some("load", system.load);
            o.wide("memory", system.memory);
            o.plain_some("io_pressure", system.io_pressure);
        });
    }
    out.wide("inode", event.inode_number().copied());
    out.plain_some("file_type", event.file_type_bits().copied());
    out.plain_some("cpu", event.cpu_number().copied());
    out.plain_some("pid", event.process_id().copied());
}

fn flags(out: &mut Object, event: &Event<'_>) {
    if event.flags.bits() == 0 {
        return;
    }
    out.key("flags").list(event.flags.iter(), |out, flag| match flag {
        Ok(name) => push_json_string(out, name),
        Err(bit) => push_display(out, bit),
    });
}

fn push_link(out: &mut String, link: &Link<'_>, cause: Option<ResolvedCause>, effect: Option<ResolvedCause>) {
    let mut o = Object::new(64);
    o.cause("cause", "cause_sequence", Some(link.cause), cause);
    o.text("kind", link.kind.as_ref());
    o.plain_some("code", link.code);
    o.plain_some("strength", link.strength);
    if let Some(delay) = link.delay_ns {
        o.signed("delay_ns", delay);
    }
    o.text("description", link.description.as_ref());
    o.cause("effect", "effect_sequence", link.effect, effect);
    out.push_str(&o.end());
}

fn payload_len(payload: &Payload<'_>) -> usize {
    match payload {
        Payload::Json(json) => json.as_str().len(),
        Payload::Bytes(bytes) => bytes.len() / 3 * 4,
        Payload::None | Payload::Blob(_) => 0,
    }
}

fn push_payload(out: &mut Object, payload: &Payload<'_>) {
    match payload {
        Payload::None => {}
        // On input `null` means absent, so that is what an explicit null can be at most.
        Payload::Json(json) if json.as_str() == "null" => {}
        Payload::Json(json) => push_json(out.key("payload"), json.as_str()),
        Payload::Bytes(bytes) => push_base64(out.key("payload"), bytes),
        Payload::Blob(blob) => out.object("payload", |o| {
            o.object("$blob", |o| {
                let hex: String = blob.sha256.iter().map(|b| format!("{b:02x}")).collect();
                o.string("sha256", &hex);
                o.wide("bytes", Some(blob.bytes));
                o.string("head", &blob.head);
            });
        }),
    }
}

/// Appends stored JSON text. It was well formed when it was stored; a forged record must not break the line either.
fn push_json(out: &mut String, text: &str) {
    let sound = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() && !text.contains(['\n', '\r']);
    if sound { out.push_str(text) } else { push_base64(out, text.as_bytes()) }
}

fn push_text(out: &mut String, text: &Text<'_>) {
    match text.as_str() {
        Some(s) => push_json_string(out, s),
        None => push_base64(out, text.as_bytes()),
    }
}

fn push_base64(out: &mut String, bytes: &[u8]) {
    out.push_str("{\"$base64\":\"");
    BASE64.encode_string(bytes, out);
    out.push_str("\"}");
}

fn push_display(out: &mut String, value: impl Display) {
    // Writing to a String has no way to fail.
    let _ = write!(out, "{value}");
}

/// A list at the end of some text.
trait PushList {
    fn list<T>(&mut self, items: impl IntoIterator<Item = T>, push: impl FnMut(&mut String, T));
}

impl PushList for String {
    fn list<T>(&mut self, items: impl IntoIterator<Item = T>, mut push: impl FnMut(&mut String, T)) {
        self.push('[');
        for (i, item) in items.into_iter().enumerate() {
            if i > 0 {
                self.push(',');
            }
            push(self, item);
        }
        self.push(']');
    }
}

/// An object in the making: keys in the order of the calls, absent values left out.
struct Object(String);

impl Object {
    fn new(capacity: usize) -> Self {
        let mut text = String::with_capacity(capacity);
        text.push('{');
        Object(text)
    }

    /// Starts a member; the value is to be appended to what this returns.
    fn key(&mut self, key: &str) -> &mut String {
        if !self.0.ends_with('{') {
            self.0.push(',');
        }
        push_json_string(&mut self.0, key);
        self.0.push(':');
        &mut self.0
    }

    fn plain(&mut self, key: &str, value: impl Display) {
        push_display(self.key(key), value);
    }

    fn plain_some(&mut self, key: &str, value: Option<u32>) {
        if let Some(n) = value {
            self.plain(key, n);
        }
    }

    /// A value whose text form needs no escaping.
    fn quoted(&mut self, key: &str, value: impl Display) {
        let _ = write!(self.key(key), "\"{value}\"");
    }

    fn string(&mut self, key: &str, value: &str) {
        push_json_string(self.key(key), value);
    }

    fn text(&mut self, key: &str, value: Option<&Text<'_>>) {
        if let Some(text) = value {
            push_text(self.key(key), text);
        }
    }

    /// A number while every JSON program reads it exactly, else decimal text.
    fn wide(&mut self, key: &str, value: Option<u64>) {
        match value {
            Some(n) if n <= SAFE_INTEGER_MAX => self.plain(key, n),
            Some(n) => self.quoted(key, n),
            None => {}
        }
    }

    fn signed(&mut self, key: &str, value: i64) {
        if value.unsigned_abs() <= SAFE_INTEGER_MAX {
            self.plain(key, value)
        } else {
            self.quoted(key, value)
        }
    }

    fn object(&mut self, key: &str, fill: impl FnOnce(&mut Object)) {
        let mut inner = Object::new(64);
        fill(&mut inner);
        let text = inner.end();
        self.key(key).push_str(&text);
    }

    /// A reference: as the id it was settled to, with its sequence beside it where that is known.
    fn cause(&mut self, key: &str, sequence_key: &str, given: Option<Cause>, settled: Option<ResolvedCause>) {
        match (settled, given) {
            (_, None) => {}
            (Some(cause), _) => {
                self.quoted(key, cause.id);
                if let Some(sequence) = cause.sequence {
                    self.plain(sequence_key, sequence);
                }
            }
            (None, Some(Cause::Id(id))) => self.quoted(key, id),
            (None, Some(Cause::Sequence(sequence))) => self.plain(key, sequence),
        }
    }

    fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// Escapes what a terminal or a line splitter would act on: DEL and C1 controls, line and paragraph separators,
/// marks that change the direction of writing. Beyond ASCII nothing but strings can stand in JSON, so an escape is
/// right wherever one of them does.
fn escape_active(line: String) -> String {
    let active = |c: char| matches!(c, '\u{7F}'..='\u{9F}' | '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    // Their first bytes are rare in most texts.
    if !line.bytes().any(|b| matches!(b, 0x7F | 0xC2 | 0xD8 | 0xE2)) || !line.contains(active) {
        return line;
    }
    let mut out = String::with_capacity(line.len() + 32);
    for c in line.chars() {
        if active(c) {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}
