//! Small helpers on the JSON of logs: texts, summaries, payload maps by the OpenTelemetry names.

use serde_json::{Map, Value, json};

/// Longest summary, in characters.
const BRIEF_CHARS_MAX: usize = 200;

/// A JSON object under construction.
pub(super) type Fields = Map<String, Value>;

/// Where `needle` occurs in `bytes`, looking from `from` on.
pub(super) fn find(bytes: &[u8], from: usize, needle: &[u8]) -> Option<usize> {
    let rest = bytes.get(from..)?;
    match needle {
        [one] => rest.iter().position(|b| b == one),
        _ => rest.windows(needle.len()).position(|w| w == needle),
    }
    .map(|at| from + at)
}

/// The text in one line of at most 200 characters.
pub(super) fn brief(text: &str) -> String {
    let mut out = String::new();
    let mut count = 0;
    for (i, word) in text.split_whitespace().enumerate() {
        for c in (i > 0).then_some(' ').into_iter().chain(word.chars()) {
            if count + 1 == BRIEF_CHARS_MAX {
                out.push('…');
                return out;
            }
            // Control characters of a terminal are no part of a summary.
            out.push(if c.is_control() { ' ' } else { c });
            count += 1;
        }
    }
    out
}

/// A string field that is there and not empty.
pub(super) fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str().filter(|s| !s.is_empty())
}

/// The readable text of a message's or a result's content, whatever shape it has.
pub(super) fn readable(content: &Value) -> String {
    match content {
        Value::String(s) => s.clone(),
        Value::Null => String::new(),
        Value::Array(parts) => {
            let texts: Vec<String> = parts.iter().map(readable).filter(|t| !t.is_empty()).collect();
            texts.join("\n")
        }
        Value::Object(o) => ["text", "content", "output", "stdout", "message"]
            .iter()
            .find_map(|k| o.get(*k).map(readable).filter(|t| !t.is_empty()))
            .unwrap_or_default(),
        other => other.to_string(),
    }
}

/// The fields of an object; anything else becomes the one field `semj.value`.
pub(super) fn fields(value: &Value) -> Fields {
    match value {
        Value::Object(o) => o.clone(),
        other => Fields::from_iter([("semj.value".to_owned(), other.clone())]),
    }
}

/// Adds a field unless the value is null.
pub(super) fn put(fields: &mut Fields, key: &str, value: impl Into<Value>) {
    let value = value.into();
    if !value.is_null() {
        fields.insert(key.to_owned(), value);
    }
}

/// Adds a copy of `value[from]` under the name `key`, where there is one.
pub(super) fn copy(fields: &mut Fields, key: &str, value: &Value, from: &str) {
    if let Some(found) = value.get(from) {
        put(fields, key, found.clone());
    }
}

/// Adds a message by the OpenTelemetry names: `kind` is `text` or `reasoning`.
pub(super) fn put_message(fields: &mut Fields, role: &str, kind: &str, content: &str) {
    let key = if role == "assistant" { "gen_ai.output.messages" } else { "gen_ai.input.messages" };
    put(fields, "gen_ai.operation.name", "chat");
    put(fields, key, json!([{"role": role, "parts": [{"type": kind, "content": content}]}]));
}

/// Whether a value counts as true where a log's flags are loosely typed.
pub(super) fn truthy(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::Bool(b)) => *b,
        Some(Value::Number(n)) => n.as_f64() != Some(0.0),
        Some(Value::String(s)) => !s.is_empty(),
        Some(Value::Array(a)) => !a.is_empty(),
        Some(Value::Object(o)) => !o.is_empty(),
    }
}

/// Seconds as whole nanoseconds.
pub(super) fn nanoseconds(seconds: Option<&Value>) -> Option<i64> {
    let seconds = seconds?.as_f64().filter(|s| (0.0..9e9).contains(s))?;
    Some((seconds * 1e9).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_one_line_of_at_most_200_characters() {
        assert_eq!(brief("  run\n the\ttests "), "run the tests");
        assert_eq!(brief(&"ä".repeat(199)).chars().count(), 199);
        let long = brief(&"word ".repeat(100));
        assert!(long.chars().count() <= 200 && long.ends_with('…'));
        assert_eq!(brief("a\u{1b}[0m"), "a [0m");
    }

    #[test]
    fn readable_text_is_found_in_every_shape() {
        assert_eq!(readable(&json!([{"type": "text", "text": "a"}, {"type": "image"}, "b"])), "a\nb");
        assert_eq!(readable(&json!({"output": {"content": "x"}})), "x");
        assert_eq!(readable(&json!(null)), "");
    }
}
