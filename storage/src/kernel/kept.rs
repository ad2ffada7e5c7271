//! What a kernel record holds that an event has no field for, kept beside the event under `semj.kernel.*` keys.
//!
//! The small part always stands in the event's metadata. What can be long stands there too while it fits, else in the
//! payload, which then is an object around it (`semj.kernel.wrapped`).

use super::draft::Numbers;
use crate::event::{Event, JsonText, Payload};
use crate::limits::METADATA_BYTES_MAX;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value};
use std::borrow::Cow;

const PREFIX: &str = "semj.kernel.";

/// What is kept of a record beside the fields of its event.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Kept {
    pub(super) boot: String,
    pub(super) numbers: Numbers,
    pub(super) checksum: u32,
    /// `semantic_tags`, where they are not what the producer writes.
    pub(super) tags: Option<String>,
    /// The record's own metadata.
    pub(super) metadata: Vec<u8>,
    /// All links as they were, where the event cannot have them.
    pub(super) links: Option<Vec<u8>>,
    /// What still differs.
    pub(super) patch: Vec<u8>,
    /// The payload, where it is not the event's payload as it is.
    pub(super) text: Option<String>,
}

/// Where a payload goes that is neither canonical JSON nor binary, or that stands beside something else.
fn bytes_or_text(map: &mut Map<String, Value>, key: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => map.insert(format!("{PREFIX}{key}"), text.into()),
        Err(_) => map.insert(format!("{PREFIX}{key}_base64"), BASE64.encode(bytes).into()),
    };
}

impl Kept {
    fn small(&self) -> Map<String, Value> {
        let mut map = Map::new();
        let mut put = |key: &str, value: Value| map.insert(format!("{PREFIX}{key}"), value);
        put("boot", self.boot.clone().into());
        put("event_id", self.numbers.event_id.into());
        put("ktime", self.numbers.ktime.into());
        put("sequence", self.numbers.sequence.into());
        put("global_sequence", self.numbers.global_sequence.into());
        if self.numbers.local_sequence != self.numbers.global_sequence {
            put("local_sequence", self.numbers.local_sequence.into());
        }
        put("checksum", self.checksum.into());
        map
    }

    fn long(&self, map: &mut Map<String, Value>) {
        if let Some(tags) = &self.tags {
            map.insert(format!("{PREFIX}tags"), tags.as_str().into());
        }
        if !self.metadata.is_empty() {
            bytes_or_text(map, "metadata", &self.metadata);
        }
        if let Some(links) = &self.links {
            map.insert(format!("{PREFIX}links_base64"), BASE64.encode(links).into());
        }
        if !self.patch.is_empty() {
            map.insert(format!("{PREFIX}patch"), BASE64.encode(&self.patch).into());
        }
    }

    /// Puts all of it into the event, whose payload is that of the record so far.
    pub(super) fn store(&self, event: &mut Event<'_>) {
        let mut metadata = self.small();
        self.long(&mut metadata);
        let mut wrapped = Map::new();
        if let Some(text) = &self.text {
            wrapped.insert(format!("{PREFIX}text"), text.as_str().into());
            metadata.insert(format!("{PREFIX}wrapped"), true.into());
        }
        if Value::Object(metadata.clone()).to_string().len() > METADATA_BYTES_MAX {
            metadata = self.small();
            self.long(&mut wrapped);
        }
        if !wrapped.is_empty() {
            metadata.insert(format!("{PREFIX}wrapped"), true.into());
            match &event.payload {
                Payload::Json(json) => bytes_or_text(&mut wrapped, "text", json.as_str().as_bytes()),
                Payload::Bytes(bytes) => bytes_or_text(&mut wrapped, "text", bytes),
                Payload::None | Payload::Blob(_) => {}
            }
            event.payload = Payload::Json(JsonText(Value::Object(wrapped).to_string().into()));
        }
        let text = Value::Object(metadata).to_string();
        event.extra.get_or_insert_default().metadata = Some(JsonText(text.into()));
    }

    /// Whether the event was made of a kernel record.
    pub(super) fn is_in(event: &Event<'_>) -> bool {
        event.metadata_json().is_some_and(|m| m.as_str().contains("\"semj.kernel.event_id\":"))
    }

    /// Finds it in an event, with the record's payload; `None` where it is not all there.
    pub(super) fn find<'e>(event: &'e Event<'_>) -> Option<(Self, Cow<'e, [u8]>)> {
        if !Self::is_in(event) {
            return None;
        }
        let Value::Object(small) = event.metadata_json()?.value() else { return None };
        let wrapped = match small.get("semj.kernel.wrapped") {
            Some(_) => match event.payload.as_json()? {
                Value::Object(wrapped) => Some(wrapped),
                _ => return None,
            },
            None => None,
        };
        let of = |map: &Map<String, Value>, key: &str| map.get(&format!("{PREFIX}{key}")).cloned();
        let number = |key: &str| of(&small, key).and_then(|v| v.as_u64());
        let long = |key: &str| wrapped.as_ref().and_then(|w| of(w, key)).or_else(|| of(&small, key));
        let text = |key: &str| long(key).and_then(|v| v.as_str().map(str::to_owned));
        let base64 = |key: &str| text(key).map(|t| BASE64.decode(t).ok());
        let bytes = |key: &str| match text(key) {
            Some(text) => Some(text.into_bytes()),
            None => base64(&format!("{key}_base64")).unwrap_or_else(|| Some(Vec::new())),
        };
        let global_sequence = number("global_sequence")?;
        let kept = Kept {
            boot: text("boot").unwrap_or_default(),
            numbers: Numbers {
                event_id: number("event_id")?,
                ktime: of(&small, "ktime")?.as_i64()?,
                sequence: number("sequence")?,
                global_sequence,
                local_sequence: number("local_sequence").unwrap_or(global_sequence),
            },
            checksum: number("checksum")?.try_into().ok()?,
            tags: text("tags"),
            metadata: bytes("metadata")?,
            links: match base64("links_base64") {
                Some(links) => Some(links?),
                None => None,
            },
            patch: base64("patch").unwrap_or_else(|| Some(Vec::new()))?,
            text: None,
        };
        let payload = match (&wrapped, &event.payload) {
            (Some(_), _) => Cow::Owned(bytes("text")?),
            (None, Payload::None) => Cow::Borrowed(&[][..]),
            (None, Payload::Json(json)) => Cow::Borrowed(json.as_str().as_bytes()),
            (None, Payload::Bytes(bytes)) => Cow::Borrowed(bytes.as_ref()),
            (None, Payload::Blob(_)) => return None,
        };
        Some((kept, payload))
    }
}
