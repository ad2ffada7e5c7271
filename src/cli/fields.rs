//! One event for people: every field on its own line, under the names that its JSON form uses.

use super::escape;
use super::out::{Out, Style};
use semj::Recorded;
use semj::event::to_json;
use serde_json::Value;

/// The lines of one event. The JSON form is the source, so that no field can be forgotten here.
pub(crate) fn lines(out: &Out, event: &Recorded) -> Vec<String> {
    let Ok(Value::Object(fields)) = serde_json::from_str(&to_json(event)) else { return Vec::new() };
    let mut lines = Vec::new();
    let first = ["sequence", "id", "type", "time", "agent", "session", "intent", "path"];
    let (payload, rest): (Vec<_>, Vec<_>) = fields
        .iter()
        .filter(|(key, _)| !first.contains(&key.as_str()))
        .partition(|(key, _)| ["payload", "metadata"].contains(&key.as_str()));
    let ordered = first.iter().filter_map(|key| fields.get_key_value(*key)).chain(rest).chain(payload);
    for (key, value) in ordered {
        let name = out.paint(Style::Faint, &escape::column(key, 17));
        match value {
            Value::String(text) => lines.push(format!("{name}{}", escape::line(text))),
            Value::Object(_) | Value::Array(_) if !is_short(value) => {
                lines.push(name.trim_end().to_owned());
                let pretty = serde_json::to_string_pretty(value).unwrap_or_default();
                lines.extend(escape::block(&pretty).lines().map(|l| format!("  {l}")));
            }
            other => lines.push(format!("{name}{}", escape::line(&other.to_string()))),
        }
    }
    lines
}

/// Whether a value reads well on one line: a list of a few plain values.
fn is_short(value: &Value) -> bool {
    match value {
        Value::Array(items) => {
            items.iter().all(|i| !i.is_object() && !i.is_array()) && value.to_string().len() < 100
        }
        _ => false,
    }
}
