//! Tells the format of a log by its content.

use super::content::{find, text};
use super::{Format, claude_code, codex, lines, openhands, pi};
use serde_json::Value;
use std::path::Path;

/// How many lines are looked at: a log may begin with damaged ones.
const LINES_MAX: usize = 64;

/// The format of a log, by the first bytes of the file (64 KiB do; more help where the first line is longer).
///
/// The content decides; the path only rules out what lies beside logs. `None` for anything that is no known log.
pub fn detect(path: &Path, head: &[u8]) -> Option<Format> {
    let name = path.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
    if name.ends_with(".metadata.json") {
        return None;
    }
    if let Ok(whole) = serde_json::from_slice::<Value>(head) {
        return of_document(&whole).or_else(|| of_record(&whole));
    }
    let lines = head.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).filter(|l| !l.is_empty());
    // Records inside damaged lines count as well, so each line is read like an importer does.
    let mut values =
        lines.take(LINES_MAX).flat_map(|line| lines::read(line, |_| true)).filter_map(|i| match i {
            lines::Item::Record(record) => Some(record.value),
            lines::Item::Damage(_) => None,
        });
    values.find_map(|v| of_document(&v).or_else(|| of_record(&v))).or_else(|| of_text(head))
}

/// A whole run in one value.
fn of_document(value: &Value) -> Option<Format> {
    if value.get("trajectory").is_some_and(Value::is_array) {
        return Some(Format::SweAgent);
    }
    let list = value.as_array().filter(|list| list.iter().any(openhands::is_record));
    let is_log =
        list.is_some_and(|list| list.iter().all(|v| openhands::is_record(v) && v.get("type").is_none()));
    (is_log || openhands::is_run(value)).then_some(Format::OpenHands)
}

/// One record of a log.
fn of_record(value: &Value) -> Option<Format> {
    if codex::is_record(value) && value.get("timestamp").is_some() {
        Some(Format::Codex)
    } else if pi::is_record(value) {
        Some(Format::Pi)
    } else if claude_code::is_record(value)
        || (text(value, "sessionId").is_some() && value.get("type").is_some())
    {
        Some(Format::ClaudeCode)
    } else {
        None
    }
}

/// The beginning of a document or of a line that is too long or too damaged to be parsed. Quotes inside strings are
/// escaped, so these keys are real ones.
fn of_text(head: &[u8]) -> Option<Format> {
    let has = |needle: &str| find(head, 0, needle.as_bytes()).is_some();
    let first = head.iter().find(|b| !b.is_ascii_whitespace() && **b != 0)?;
    if !matches!(first, b'{' | b'[') && !has("{\"") {
        return None;
    }
    let acts = has("\"action\":") || has("\"observation\":");
    if has("\"trajectory\":") && (acts || has("\"thought\":")) {
        Some(Format::SweAgent)
    } else if acts && (has("\"history\":") || *first == b'[') {
        Some(Format::OpenHands)
    } else if has("\"parentUuid\":") || has("\"sessionId\":") && has("\"type\":") {
        Some(Format::ClaudeCode)
    } else if has("\"payload\":")
        && has("\"timestamp\":")
        && ["session_meta", "response_item", "event_msg"].iter().any(|t| has(t))
    {
        Some(Format::Codex)
    } else if has("\"toolCallId\":") || has("\"role\":\"user\"") && has("\"type\":\"message\"") {
        Some(Format::Pi)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(head: &str) -> Option<Format> {
        detect(Path::new("x.jsonl"), head.as_bytes())
    }

    #[test]
    fn content_tells_the_format() {
        let claude = r#"{"type":"user","uuid":"u","sessionId":"s","message":{"content":"x"}}"#;
        assert_eq!(of(claude), Some(Format::ClaudeCode));
        assert_eq!(of(r#"{"type":"summary","summary":"x","leafUuid":"l"}"#), Some(Format::ClaudeCode));
        assert_eq!(of(r#"{"type":"session","id":"s","timestamp":"t","provider":"p"}"#), Some(Format::Pi));
        assert_eq!(of(r#"{"timestamp":"t","type":"session_meta","payload":{}}"#), Some(Format::Codex));
        assert_eq!(of("{\n  \"trajectory\": [\n    {\n      \"action\": \"ls\","), Some(Format::SweAgent));
        assert_eq!(of(r#"[{"id":1,"action":"run","args":{}}]"#), Some(Format::OpenHands));
        assert_eq!(of(r#"{"history":[{"action":"run"}]}"#), Some(Format::OpenHands));
        assert_eq!(of(r#"{"issue":{},"history":[{"content":"x","action":"mess"#), Some(Format::OpenHands));
    }

    #[test]
    fn damaged_first_lines_do_not_hide_it() {
        let claude = r#"{"type":"user","uuid":"u","sessionId":"s","message":{"content":"x"}}"#;
        assert_eq!(of(&format!("\0\0\0\n{{\"type\":\"us\n{claude}\n")), Some(Format::ClaudeCode));
        assert_eq!(of(&format!("uid\":1}}{{\"cut\":\"o{claude}\n")), Some(Format::ClaudeCode));
        assert_eq!(
            of(r#"{"parentUuid":null,"type":"user","message":{"content":"very lo"#),
            Some(Format::ClaudeCode)
        );
    }

    #[test]
    fn other_files_are_none() {
        assert_eq!(of(""), None);
        assert_eq!(of("# a readme\n"), None);
        assert_eq!(of(r#"{"checkpoint_id":"c","session_id":"s"}"#), None);
        assert_eq!(of(r#"{"type":"agent.decision","payload":{"a":1},"time":"t"}"#), None);
        assert_eq!(of(r#"[{"repository":"r","path":"p"}]"#), None);
        let log = br#"{"type":"user","sessionId":"s","message":{}}"#;
        assert_eq!(detect(Path::new("a/b.metadata.json"), log), None);
    }
}
