//! The free part of an event: compact JSON text, raw bytes, or a reference to content beside the journal.

use serde_json::Value;
use std::borrow::Cow;

/// Content too large for an event, kept in `blobs/` and named by its hash.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct BlobRef {
    /// SHA-256 of the content.
    pub sha256: [u8; 32],
    /// Length of the content in bytes.
    pub bytes: u64,
    /// The first characters of the content, for display.
    pub head: String,
}

/// JSON that is known to be well formed: encode once, emit many times without encoding again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EncodedJson(String);

impl EncodedJson {
    /// Encodes a value.
    pub fn new(value: &Value) -> Self {
        Self(value.to_string())
    }

    /// The compact text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What an event carries beside its fields.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Payload<'a> {
    /// Nothing.
    #[default]
    None,
    /// Well-formed, compact JSON text. Make it with `From<serde_json::Value>` or from [`EncodedJson`].
    Json(JsonText<'a>),
    /// Raw bytes.
    Bytes(Cow<'a, [u8]>),
    /// Content beside the journal.
    Blob(BlobRef),
}

/// Compact JSON text whose validity its constructors guarantee.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JsonText<'a>(pub(crate) Cow<'a, str>);

impl JsonText<'_> {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value the text stands for.
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.0).unwrap_or(Value::Null)
    }
}

impl Payload<'_> {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        matches!(self, Payload::None)
    }

    /// The JSON value, when the payload is JSON.
    pub fn as_json(&self) -> Option<Value> {
        match self {
            Payload::Json(text) => Some(text.value()),
            _ => None,
        }
    }

    /// The same payload, owning its bytes.
    pub fn into_owned(self) -> Payload<'static> {
        match self {
            Payload::None => Payload::None,
            Payload::Json(t) => Payload::Json(JsonText(Cow::Owned(t.0.into_owned()))),
            Payload::Bytes(b) => Payload::Bytes(Cow::Owned(b.into_owned())),
            Payload::Blob(b) => Payload::Blob(b),
        }
    }
}

/// `null` is no payload, as in JSON input.
impl From<Value> for Payload<'_> {
    fn from(value: Value) -> Self {
        Payload::from(&value)
    }
}
impl From<&Value> for Payload<'_> {
    fn from(value: &Value) -> Self {
        match value {
            Value::Null => Payload::None,
            value => Payload::Json(JsonText(Cow::Owned(value.to_string()))),
        }
    }
}
impl<'a> From<&'a EncodedJson> for Payload<'a> {
    fn from(json: &'a EncodedJson) -> Self {
        Payload::Json(JsonText(Cow::Borrowed(&json.0)))
    }
}
impl From<EncodedJson> for Payload<'_> {
    fn from(json: EncodedJson) -> Self {
        Payload::Json(JsonText(Cow::Owned(json.0)))
    }
}
impl From<BlobRef> for Payload<'_> {
    fn from(blob: BlobRef) -> Self {
        Payload::Blob(blob)
    }
}
