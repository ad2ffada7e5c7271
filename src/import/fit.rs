//! Cuts what is too large for an event, by stated rules and with a note in the payload (`semj.cut`).
//!
//! Text: a field over its limit keeps its beginning and gets `#` and 16 hex digits of a hash of the whole, so that
//! two long values that differ stay different. Payload: nesting beyond 96 levels becomes JSON text in a string;
//! then all strings over 256 KiB are cut, then over 64 KiB, and so on down to 64 bytes, until it fits; at last only
//! its first 64 KiB are kept, as text.

use super::content::Fields;
use semj_storage::event::Payload;
use semj_storage::limits::PAYLOAD_BYTES_MAX;
use serde_json::{Value, json};
use uuid::Uuid;

/// Deepest nesting that is kept as it is; well under the limit of an event, whose own object is a level too.
const DEPTH_MAX: usize = 96;

/// What strings are cut to, one step after the other.
const STRING_BYTES: [usize; 7] = [256 << 10, 64 << 10, 16 << 10, 4 << 10, 1 << 10, 256, 64];

/// How much text is kept of a payload that no cutting of strings makes small enough.
const HEAD_BYTES: usize = 64 << 10;

/// The beginning of `text`, at most `bytes_max` bytes, not ending inside a character.
pub(super) fn head(text: &str, bytes_max: usize) -> &str {
    let mut end = bytes_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// Cuts text fields and remembers what was cut.
#[derive(Default)]
pub(super) struct Cuts(Vec<Value>);

impl Cuts {
    /// `text`, within `bytes_max`; a cut is noted under the name `field`.
    pub(super) fn fit(&mut self, field: &str, text: String, bytes_max: usize) -> String {
        if text.len() <= bytes_max {
            return text;
        }
        self.0.push(json!({"field": field, "bytes": text.len()}));
        shorten(&text, bytes_max)
    }

    /// The payload, within its limits, with a note of everything that was cut.
    pub(super) fn payload(mut self, fields: Fields) -> Payload<'static> {
        let mut value = Value::Object(fields);
        if flatten(&mut value, DEPTH_MAX) {
            self.0.push(json!({"field": "payload", "levels_over": DEPTH_MAX}));
        }
        self.note(&mut value);
        let payload = Payload::from(&value);
        let bytes = length(&payload);
        if bytes <= PAYLOAD_BYTES_MAX {
            return payload;
        }
        for limit in STRING_BYTES {
            cut_strings(&mut value, limit);
            let mut noted = value.clone();
            self.0.push(json!({"field": "payload", "bytes": bytes, "strings_over": limit}));
            self.note(&mut noted);
            let payload = Payload::from(&noted);
            if length(&payload) <= PAYLOAD_BYTES_MAX {
                return payload;
            }
            self.0.pop();
        }
        self.0.push(json!({"field": "payload", "bytes": bytes, "kept": HEAD_BYTES}));
        let whole = value.to_string();
        Payload::from(json!({"semj.cut": self.0, "semj.head": head(&whole, HEAD_BYTES)}))
    }

    fn note(&self, value: &mut Value) {
        if let (false, Value::Object(fields)) = (self.0.is_empty(), value) {
            fields.insert("semj.cut".to_owned(), Value::Array(self.0.clone()));
        }
    }
}

/// `text` cut to `bytes_max`, told apart from others with the same beginning by a hash.
pub(super) fn shorten(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let (hash, _) = Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes()).as_u64_pair();
    format!("{}#{hash:016x}", head(text, bytes_max.saturating_sub(17)))
}

fn length(payload: &Payload<'_>) -> usize {
    match payload {
        Payload::Json(text) => text.as_str().len(),
        _ => 0,
    }
}

/// Turns what lies deeper than `levels` into text; tells whether there was any.
fn flatten(value: &mut Value, levels: usize) -> bool {
    if levels == 0 && (value.is_object() || value.is_array()) {
        *value = Value::String(value.to_string());
        return true;
    }
    let mut any = false;
    match value {
        Value::Object(o) => o.values_mut().for_each(|v| any |= flatten(v, levels - 1)),
        Value::Array(a) => a.iter_mut().for_each(|v| any |= flatten(v, levels - 1)),
        _ => {}
    }
    any
}

fn cut_strings(value: &mut Value, bytes_max: usize) {
    match value {
        Value::String(s) if s.len() > bytes_max => *s = format!("{}…", head(s, bytes_max)),
        Value::Object(o) => o.values_mut().for_each(|v| cut_strings(v, bytes_max)),
        Value::Array(a) => a.iter_mut().for_each(|v| cut_strings(v, bytes_max)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use semj_storage::event::Event;

    fn cut(value: Value) -> Value {
        let Value::Object(fields) = value else { panic!("an object") };
        let event = Event::decision("x").payload(Cuts::default().payload(fields));
        event.check_limits().unwrap();
        event.payload_value().as_json().unwrap()
    }

    #[test]
    fn what_fits_is_left_alone() {
        let value = json!({"a": "x".repeat(PAYLOAD_BYTES_MAX - 8)});
        assert_eq!(cut(value.clone()), value);
    }

    #[test]
    fn long_strings_are_cut_before_short_ones() {
        let value = cut(json!({"long": "ü".repeat(PAYLOAD_BYTES_MAX), "short": "y".repeat(1000)}));
        assert_eq!(value["long"].as_str().unwrap().len(), (256 << 10) + 3);
        assert_eq!(value["short"].as_str().unwrap().len(), 1000);
        assert_eq!(value["semj.cut"][0]["strings_over"], 256 << 10);
        let many = cut(json!({"a": vec!["z".repeat(2000); 2000]}));
        assert_eq!(many["semj.cut"][0]["strings_over"], 256);
    }

    #[test]
    fn a_payload_of_numbers_keeps_its_beginning_as_text() {
        let value = cut(json!({"a": vec![1_000_000; 200_000]}));
        assert!(value["semj.head"].as_str().unwrap().starts_with("{\"a\":[1000000,"));
    }

    #[test]
    fn deep_nesting_becomes_text() {
        let deep = (0..120).fold(json!(1), |v, _| json!({ "k": v }));
        assert_eq!(cut(deep)["semj.cut"][0]["levels_over"], DEPTH_MAX);
    }

    #[test]
    fn long_text_stays_distinct() {
        let mut cuts = Cuts::default();
        let (a, b) = ("t".repeat(300) + "a", "t".repeat(300) + "b");
        let (a, b) = (cuts.fit("tags", a, 256), cuts.fit("tags", b, 256));
        assert!(a.len() == 256 && b.len() == 256 && a != b);
        assert_eq!(cuts.0.len(), 2);
    }
}
