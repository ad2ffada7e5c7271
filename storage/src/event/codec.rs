//! The body of an event as MessagePack: a map from small numbers to the fields that are present.
//!
//! Absent fields cost nothing, and a reader refuses keys it does not know instead of losing them. `id` and `expect`
//! are not in the body: the first has its own place in the entry, the second is a condition and no content.

use super::{Cause, Event, Extra, JsonText, Payload, Text};
use crate::event::{EventType, Flags, Priority, Timestamp};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::{Error as _, SerializeMap};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;

/// Keys of the body map. Numbers are never reused.
mod key {
    pub(super) const TYPE: u8 = 0;
    pub(super) const SUBTYPE: u8 = 1;
    pub(super) const NAME: u8 = 2;
    pub(super) const STREAM: u8 = 3;
    pub(super) const AGENT: u8 = 4;
    pub(super) const SESSION: u8 = 5;
    pub(super) const PATH: u8 = 6;
    pub(super) const INTENT: u8 = 7;
    pub(super) const CONFIDENCE: u8 = 8;
    pub(super) const AGENT_INTENT: u8 = 9;
    pub(super) const AGENT_CONFIDENCE: u8 = 10;
    pub(super) const PRIORITY: u8 = 11;
    pub(super) const FLAGS: u8 = 12;
    pub(super) const TAGS: u8 = 13;
    pub(super) const PARENT: u8 = 14;
    pub(super) const ROOT: u8 = 15;
    pub(super) const LINKS: u8 = 16;
    pub(super) const TRANSACTION: u8 = 17;
    pub(super) const CHAIN: u8 = 18;
    pub(super) const VISIBILITY: u8 = 19;
    pub(super) const RELEVANCE: u8 = 20;
    pub(super) const REPLAY_PRIORITY: u8 = 21;
    pub(super) const GRAPH: u8 = 22;
    pub(super) const VECTOR: u8 = 23;
    pub(super) const SYSTEM: u8 = 24;
    pub(super) const INODE: u8 = 25;
    pub(super) const FILE_TYPE: u8 = 26;
    pub(super) const CPU: u8 = 27;
    pub(super) const PID: u8 = 28;
    pub(super) const TIME: u8 = 29;
    pub(super) const PAYLOAD_JSON: u8 = 30;
    pub(super) const PAYLOAD_BYTES: u8 = 31;
    pub(super) const PAYLOAD_BLOB: u8 = 32;
    pub(super) const METADATA: u8 = 33;
    pub(super) const SOURCE: u8 = 34;
}

/// Deepest nesting a body may have; far below what would endanger a small stack.
const BODY_DEPTH_MAX: usize = 16;

/// Appends the body of `event` to `out`.
///
/// # Errors
/// None for an event made by its builder; the encoder's own error otherwise.
pub fn encode_body(event: &Event<'_>, out: &mut Vec<u8>) -> Result<(), rmp_serde::encode::Error> {
    let mut count = Count(0);
    let Ok(()) = walk(event, &mut count);
    let mut direct = Direct(out);
    direct.map(count.0);
    walk(event, &mut direct)
}

/// Decodes a body, borrowing text from it.
///
/// # Errors
/// When the bytes are not one body and nothing else.
pub fn decode_body(bytes: &[u8]) -> Result<Event<'_>, rmp_serde::decode::Error> {
    let mut decoder = rmp_serde::Deserializer::from_read_ref(bytes);
    decoder.set_max_depth(BODY_DEPTH_MAX);
    let event = Event::deserialize(&mut decoder)?;
    // The decoder does not tell where it stands; only at the end can no further marker be read.
    match serde::de::IgnoredAny::deserialize(&mut decoder) {
        Err(rmp_serde::decode::Error::InvalidMarkerRead(_)) => Ok(event),
        _ => Err(rmp_serde::decode::Error::custom("bytes after the body")),
    }
}

/// A cause is stored as a number, or as 16 bytes.
impl Serialize for Cause {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Cause::Sequence(n) => s.serialize_u64(*n),
            Cause::Id(id) => s.serialize_bytes(id.as_bytes()),
        }
    }
}

impl<'de> Deserialize<'de> for Cause {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Cause;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sequence or 16 bytes")
            }
            fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Cause, E> {
                Ok(Cause::Sequence(v))
            }
            fn visit_bytes<E: serde::de::Error>(self, v: &[u8]) -> Result<Cause, E> {
                uuid::Uuid::from_slice(v).map(Cause::Id).map_err(|_| E::invalid_length(v.len(), &"16"))
            }
        }
        d.deserialize_any(V)
    }
}

/// Counts or writes the present fields: one walk for both, so that the map's length can never disagree.
trait Sink {
    type Error;
    fn put<T: Serialize + ?Sized>(&mut self, key: u8, value: &T) -> Result<(), Self::Error>;
    fn text(&mut self, key: u8, value: &Text<'_>) -> Result<(), Self::Error> {
        self.put(key, value)
    }
    fn str(&mut self, key: u8, value: &str) -> Result<(), Self::Error> {
        self.put(key, value)
    }
    fn number(&mut self, key: u8, value: u32) -> Result<(), Self::Error> {
        self.put(key, &value)
    }
}

struct Count(usize);

impl Sink for Count {
    type Error = std::convert::Infallible;
    #[inline(always)]
    fn put<T: Serialize + ?Sized>(&mut self, _: u8, _: &T) -> Result<(), Self::Error> {
        self.0 += 1;
        Ok(())
    }
    #[inline(always)]
    fn text(&mut self, _: u8, _: &Text<'_>) -> Result<(), Self::Error> {
        self.0 += 1;
        Ok(())
    }
    #[inline(always)]
    fn str(&mut self, _: u8, _: &str) -> Result<(), Self::Error> {
        self.0 += 1;
        Ok(())
    }
}

struct Write<M>(M);

impl<M: SerializeMap> Sink for Write<M> {
    type Error = M::Error;
    #[inline(always)]
    fn put<T: Serialize + ?Sized>(&mut self, key: u8, value: &T) -> Result<(), M::Error> {
        self.0.serialize_entry(&key, value)
    }
}

/// Writes the same bytes as [`Write`] into a buffer, the common kinds of values without the encoder's machinery: it is
/// the largest part of an emission. A test compares the two.
struct Direct<'o>(&'o mut Vec<u8>);

impl Direct<'_> {
    fn map(&mut self, fields: usize) {
        match fields {
            0..16 => self.0.push(0x80 | fields as u8),
            // There are fewer than 2^16 keys.
            _ => {
                self.0.push(0xDE);
                self.0.extend_from_slice(&(fields as u16).to_be_bytes());
            }
        }
    }

    /// A value with a length in front of it. `markers` are those of lengths of one, two and four bytes.
    #[inline(always)]
    fn sized(&mut self, key: u8, short: Option<u8>, markers: [u8; 3], value: &[u8]) {
        let length = value.len();
        self.0.reserve(6 + length);
        // All keys are below 128: each is one byte.
        match length {
            0..32 if short.is_some() => {
                self.0.extend_from_slice(&[key, short.unwrap_or(0) | length as u8]);
            }
            0..0x100 => self.0.extend_from_slice(&[key, markers[0], length as u8]),
            0x100..0x1_0000 => {
                let [a, b] = (length as u16).to_be_bytes();
                self.0.extend_from_slice(&[key, markers[1], a, b]);
            }
            _ => {
                let [a, b, c, d] = (length as u32).to_be_bytes();
                self.0.extend_from_slice(&[key, markers[2], a, b, c, d]);
            }
        }
        self.0.extend_from_slice(value);
    }
}

impl Sink for Direct<'_> {
    type Error = rmp_serde::encode::Error;
    fn put<T: Serialize + ?Sized>(&mut self, key: u8, value: &T) -> Result<(), Self::Error> {
        self.0.push(key);
        value.serialize(&mut rmp_serde::Serializer::new(&mut *self.0))
    }
    #[inline(always)]
    fn text(&mut self, key: u8, value: &Text<'_>) -> Result<(), Self::Error> {
        match value {
            Text::Str(text) => self.str(key, text),
            Text::Bytes(bytes) => {
                self.sized(key, None, [0xC4, 0xC5, 0xC6], bytes);
                Ok(())
            }
        }
    }
    #[inline(always)]
    fn str(&mut self, key: u8, value: &str) -> Result<(), Self::Error> {
        self.sized(key, Some(0xA0), [0xD9, 0xDA, 0xDB], value.as_bytes());
        Ok(())
    }
    #[inline(always)]
    fn number(&mut self, key: u8, value: u32) -> Result<(), Self::Error> {
        let [a, b, c, d] = value.to_be_bytes();
        match value {
            0..0x80 => self.0.extend_from_slice(&[key, d]),
            0x80..0x100 => self.0.extend_from_slice(&[key, 0xCC, d]),
            0x100..0x1_0000 => self.0.extend_from_slice(&[key, 0xCD, c, d]),
            _ => self.0.extend_from_slice(&[key, 0xCE, a, b, c, d]),
        }
        Ok(())
    }
}

#[inline(always)]
fn text_some<S: Sink>(sink: &mut S, key: u8, value: Option<&Text<'_>>) -> Result<(), S::Error> {
    match value {
        Some(v) => sink.text(key, v),
        None => Ok(()),
    }
}

#[inline(always)]
fn put_some<S: Sink, T: Serialize>(sink: &mut S, key: u8, value: Option<&T>) -> Result<(), S::Error> {
    match value {
        Some(v) => sink.put(key, v),
        None => Ok(()),
    }
}

#[inline(always)]
fn walk<S: Sink>(e: &Event<'_>, sink: &mut S) -> Result<(), S::Error> {
    sink.number(key::TYPE, e.event_type.code())?;
    put_some(sink, key::SUBTYPE, e.subtype.as_ref())?;
    text_some(sink, key::NAME, e.name.as_ref())?;
    text_some(sink, key::STREAM, e.stream.as_ref())?;
    text_some(sink, key::AGENT, e.agent.as_ref())?;
    text_some(sink, key::SESSION, e.session.as_ref())?;
    text_some(sink, key::PATH, e.path.as_ref())?;
    text_some(sink, key::INTENT, e.intent.as_ref())?;
    if e.priority != Priority::NORMAL {
        sink.number(key::PRIORITY, e.priority.code())?;
    }
    if e.flags.bits() != 0 {
        sink.number(key::FLAGS, e.flags.bits())?;
    }
    if !e.tags.is_empty() {
        sink.put(key::TAGS, &e.tags)?;
    }
    if let Some(parent) = e.parent {
        sink.put(key::PARENT, &parent)?;
    }
    put_some(sink, key::TIME, e.time.as_ref())?;
    match &e.payload {
        Payload::None => {}
        Payload::Json(text) => sink.str(key::PAYLOAD_JSON, text.as_str())?,
        Payload::Bytes(bytes) => sink.put(key::PAYLOAD_BYTES, &Text::Bytes(Cow::Borrowed(bytes)))?,
        Payload::Blob(blob) => sink.put(key::PAYLOAD_BLOB, blob)?,
    }
    match e.extra.as_deref() {
        Some(extra) => walk_extra(extra, sink),
        None => Ok(()),
    }
}

fn walk_extra<S: Sink>(x: &Extra<'_>, sink: &mut S) -> Result<(), S::Error> {
    put_some(sink, key::CONFIDENCE, x.confidence.as_ref())?;
    put_some(sink, key::AGENT_INTENT, x.agent_intent.as_ref())?;
    put_some(sink, key::AGENT_CONFIDENCE, x.agent_confidence.as_ref())?;
    if let Some(root) = x.root {
        sink.put(key::ROOT, &root)?;
    }
    if !x.links.is_empty() {
        sink.put(key::LINKS, &x.links)?;
    }
    put_some(sink, key::TRANSACTION, x.transaction.as_ref())?;
    put_some(sink, key::CHAIN, x.chain.as_ref())?;
    put_some(sink, key::VISIBILITY, x.visibility.as_ref())?;
    put_some(sink, key::RELEVANCE, x.relevance.as_ref())?;
    put_some(sink, key::REPLAY_PRIORITY, x.replay_priority.map(Priority::code).as_ref())?;
    put_some(sink, key::GRAPH, x.graph.as_ref())?;
    put_some(sink, key::VECTOR, x.vector.as_ref())?;
    put_some(sink, key::SYSTEM, x.system.as_ref())?;
    put_some(sink, key::INODE, x.inode.as_ref())?;
    put_some(sink, key::FILE_TYPE, x.file_type.as_ref())?;
    put_some(sink, key::CPU, x.cpu.as_ref())?;
    put_some(sink, key::PID, x.pid.as_ref())?;
    if let Some(metadata) = &x.metadata {
        sink.put(key::METADATA, metadata.as_str())?;
    }
    put_some(sink, key::SOURCE, x.source.as_ref())
}

impl Serialize for Event<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut count = Count(0);
        let Ok(()) = walk(self, &mut count);
        let map = s.serialize_map(Some(count.0)).map_err(S::Error::custom)?;
        let mut write = Write(map);
        walk(self, &mut write)?;
        write.0.end()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Event<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_map(BodyVisitor)
    }
}

struct BodyVisitor;

impl<'de> Visitor<'de> for BodyVisitor {
    type Value = Event<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body of an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Event<'de>, A::Error> {
        fn json<'de, A: MapAccess<'de>>(map: &mut A) -> Result<JsonText<'de>, A::Error> {
            match map.next_value()? {
                Text::Str(text) => Ok(JsonText(text)),
                Text::Bytes(_) => Err(A::Error::custom("JSON text is not UTF-8")),
            }
        }
        let mut e = Event::new(EventType::from_code(0));
        let mut extra = Extra::default();
        let (mut has_type, mut has_extra) = (false, false);
        let mut last = None;
        while let Some(k) = map.next_key::<u8>()? {
            if last == Some(k) {
                return Err(A::Error::custom(format_args!("key {k} twice")));
            }
            last = Some(k);
            has_extra |= !matches!(k, key::TYPE..=key::INTENT | key::PRIORITY..=key::PARENT | key::TIME..=key::PAYLOAD_BLOB);
            match k {
                key::TYPE => {
                    e.event_type = EventType::from_code(map.next_value()?);
                    has_type = true;
                }
                key::SUBTYPE => e.subtype = Some(map.next_value()?),
                key::NAME => e.name = Some(map.next_value()?),
                key::STREAM => e.stream = Some(map.next_value()?),
                key::AGENT => e.agent = Some(map.next_value()?),
                key::SESSION => e.session = Some(map.next_value()?),
                key::PATH => e.path = Some(map.next_value()?),
                key::INTENT => e.intent = Some(map.next_value()?),
                key::PRIORITY => e.priority = Priority::from_code(map.next_value()?),
                key::FLAGS => e.flags = Flags::from_bits(map.next_value()?),
                key::TAGS => e.tags = map.next_value()?,
                key::PARENT => e.parent = Some(map.next_value()?),
                key::TIME => e.time = Some(Timestamp(map.next_value()?)),
                key::PAYLOAD_JSON => e.payload = Payload::Json(json(&mut map)?),
                key::PAYLOAD_BYTES => {
                    e.payload = match map.next_value()? {
                        Text::Bytes(bytes) => Payload::Bytes(bytes),
                        Text::Str(_) => return Err(A::Error::custom("raw payload stored as text")),
                    }
                }
                key::PAYLOAD_BLOB => e.payload = Payload::Blob(map.next_value()?),
                key::CONFIDENCE => extra.confidence = Some(map.next_value()?),
                key::AGENT_INTENT => extra.agent_intent = Some(map.next_value()?),
                key::AGENT_CONFIDENCE => extra.agent_confidence = Some(map.next_value()?),
                key::ROOT => extra.root = Some(map.next_value()?),
                key::LINKS => extra.links = map.next_value()?,
                key::TRANSACTION => extra.transaction = Some(map.next_value()?),
                key::CHAIN => extra.chain = Some(map.next_value()?),
                key::VISIBILITY => extra.visibility = Some(map.next_value()?),
                key::RELEVANCE => extra.relevance = Some(map.next_value()?),
                key::REPLAY_PRIORITY => extra.replay_priority = Some(Priority::from_code(map.next_value()?)),
                key::GRAPH => extra.graph = Some(map.next_value()?),
                key::VECTOR => extra.vector = Some(map.next_value()?),
                key::SYSTEM => extra.system = Some(map.next_value()?),
                key::INODE => extra.inode = Some(map.next_value()?),
                key::FILE_TYPE => extra.file_type = Some(map.next_value()?),
                key::CPU => extra.cpu = Some(map.next_value()?),
                key::PID => extra.pid = Some(map.next_value()?),
                key::METADATA => extra.metadata = Some(json(&mut map)?),
                key::SOURCE => extra.source = Some(map.next_value()?),
                _ => return Err(A::Error::custom(format_args!("unknown key {k}"))),
            }
        }
        if !has_type {
            return Err(A::Error::custom("no type"));
        }
        e.extra = has_extra.then(|| Box::new(extra));
        Ok(e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{BlobRef, GraphContext, Link, SystemContext, VectorContext};
    use serde_json::json;
    use uuid::Uuid;

    fn full() -> Event<'static> {
        Event::decision("why")
            .subtype(7)
            .name("n")
            .stream("s")
            .agent("a")
            .session("sess")
            .path("/x")
            .confidence(90)
            .agent_intent("ai")
            .agent_confidence(3)
            .priority(Priority::CRITICAL)
            .flags(Flags::from_bits(0x8000_0001))
            .tag("t1")
            .tag(Text::from_bytes(vec![0xFF, 0x00, b'a']))
            .parent(9u64)
            .root(Uuid::from_u128(5))
            .link(Link::new(3u64, "k").strength(200))
            .transaction("tx")
            .chain("ch")
            .visibility(u64::MAX - 1)
            .relevance(50)
            .replay_priority(Priority::LOW)
            .graph(GraphContext { node: Some(1), edge: None, operation: Some(2) })
            .vector(VectorContext { id: Some(u64::MAX), dimensions: None, element: Some(1) })
            .system(SystemContext { load: Some(1), memory: Some(2), io_pressure: None })
            .inode(4)
            .file_type(0o100_000)
            .cpu(1)
            .pid(2)
            .time(Timestamp(-5))
            .metadata(&json!({"m": 1}))
            .source("import:x")
            .payload(json!({"b": [1, 2.5, null], "a": "\u{1F600}"}))
    }

    #[test]
    fn every_field_survives() {
        for event in [
            full(),
            Event::query("q"),
            Event::new(EventType::from_code(u32::MAX)),
            full().payload(BlobRef { sha256: [7; 32], bytes: 1 << 40, head: "h".into() }),
        ] {
            let mut bytes = Vec::new();
            encode_body(&event, &mut bytes).unwrap();
            let back = decode_body(&bytes);
            assert_eq!(back.as_ref().ok(), Some(&event), "{back:?}");
        }
    }

    #[test]
    fn both_encoders_write_the_same_bytes() {
        let lengths = [0, 1, 31, 32, 255, 256, 65_535, 65_536];
        let texts = lengths.map(|n| Event::query("x".repeat(n)).payload(json!("y".repeat(n))));
        let raw = lengths.map(|n| Event::query(Text::from_bytes(vec![0xFF; n])).agent("a"));
        let codes = [0, 127, 128, 255, 256, 65_535, 65_536, u32::MAX];
        let codes = codes.map(|n| Event::new(EventType::from_code(n)).flags(Flags::from_bits(n)));
        for event in texts.into_iter().chain(raw).chain(codes).chain([full()]) {
            let mut bytes = vec![1, 2, 3];
            encode_body(&event, &mut bytes).unwrap();
            assert_eq!(bytes[3..], rmp_serde::to_vec(&event).unwrap());
        }
    }

    #[test]
    fn damaged_bodies_are_refused_and_never_panic() {
        let mut bytes = Vec::new();
        encode_body(&full(), &mut bytes).unwrap();
        for end in 0..bytes.len() {
            assert!(decode_body(&bytes[..end]).is_err(), "cut at {end}");
        }
        for i in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[i] ^= 1 << bit;
                let _ = decode_body(&damaged);
            }
        }
        bytes.push(0);
        assert!(decode_body(&bytes).is_err(), "trailing byte");
        assert!(decode_body(&[0x81, 0x63, 0x01]).is_err(), "unknown key");
        assert!(decode_body(&[0x91; 100_000]).is_err(), "deep nesting");
        assert!(decode_body(&[0xDD, 0xFF, 0xFF, 0xFF, 0xFF]).is_err(), "four thousand million elements");
    }
}
