//! Text search that ignores case: in the intent and in the string values of a JSON payload, at any depth.

use crate::event::{Event, Payload, Text};
use std::borrow::Cow;

/// A text to look for. Upper and lower case are the same, in all of Unicode; so are the two small sigmas.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Needle(String);

/// One spelling for all cases of a text.
fn fold(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return match text.bytes().any(|b| b.is_ascii_uppercase()) {
            true => text.to_ascii_lowercase().into(),
            false => text.into(),
        };
    }
    // Lower case depends on the place in the word for one letter only.
    text.chars().flat_map(char::to_lowercase).map(|c| if c == 'ς' { 'σ' } else { c }).collect()
}

impl Needle {
    /// A text to look for.
    pub fn new(text: &str) -> Self {
        Self(fold(text).into_owned())
    }

    /// Whether `text` contains it.
    pub fn is_in(&self, text: &str) -> bool {
        fold(text).contains(&self.0)
    }

    /// Whether intent or payload contain it. The empty text is in every event.
    pub fn is_in_event(&self, event: &Event<'_>) -> bool {
        let intent = event.intent_text().map(Text::to_string_lossy);
        self.0.is_empty()
            || intent.is_some_and(|text| self.is_in(&text))
            || match event.payload_value() {
                Payload::Json(json) => any_string(json.as_str(), |text| self.is_in(text)),
                Payload::Blob(blob) => self.is_in(&blob.head),
                _ => false,
            }
    }
}

/// Whether `test` holds for one of the string values of well-formed JSON; keys are no values.
fn any_string(json: &str, mut test: impl FnMut(&str) -> bool) -> bool {
    let mut rest = json;
    // Walks from string to string: no recursion, and no copy of strings without escapes.
    while let Some((_, behind)) = rest.split_once('"') {
        let Some((length, escaped)) = string_length(behind.as_bytes()) else { return false };
        let (Some(text), Some(after)) = (behind.get(..length), behind.get(length + 1..)) else {
            return false;
        };
        rest = after;
        if after.trim_ascii_start().starts_with(':') {
            continue;
        }
        let found = match escaped {
            false => test(text),
            true => serde_json::from_str::<String>(&format!("\"{text}\"")).is_ok_and(|text| test(&text)),
        };
        if found {
            return true;
        }
    }
    false
}

/// How long the rest of a string is up to its quotation mark, and whether it holds escapes.
fn string_length(bytes: &[u8]) -> Option<(usize, bool)> {
    let (mut escaped, mut skip) = (false, false);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            _ if skip => skip = false,
            b'\\' => (escaped, skip) = (true, true),
            b'"' => return Some((at, escaped)),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_count_and_keys_do_not() {
        let event = Event::decision("Run the TESTS").payload(json!({
            "key": [1, {"deep": ["Straße \"quoted\" \\ line\nbreak", "snow \u{1F600}"]}, null], "x": "", "tail": "Kelvin"
        }));
        let finds = |text: &str| Needle::new(text).is_in_event(&event);
        for text in [
            "tests",
            "the t",
            "STRASSE".to_lowercase().replace("ss", "ß").as_str(),
            "\"QUOTED\" \\",
            "line\nB",
            "\u{1F600}",
            "kelvin",
            "",
        ] {
            assert!(finds(text), "{text}");
        }
        for text in ["key", "deep", "tail", "null", "1", "testsx", "\\n"] {
            assert!(!finds(text), "{text}");
        }
        assert!(Needle::new("ΟΔΟΣ").is_in("οδος") && Needle::new("οδος").is_in("ΟΔΟΣ 1"));
        assert!(Needle::new("k").is_in("\u{212A}"), "the Kelvin sign is a k");
        assert!(Needle::new("x").is_in_event(&Event::error("e").payload(json!("aXb"))));
        assert!(!Needle::new("x").is_in_event(&Event::file_read("/x")));
    }

    #[test]
    fn deep_nesting_needs_no_stack() {
        let deep = format!("{}\"hit\"{}", "[".repeat(500_000), "]".repeat(500_000));
        assert!(any_string(&deep, |text| text == "hit"));
    }
}
