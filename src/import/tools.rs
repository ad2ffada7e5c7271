//! Which effect a tool has: the names that the five runtimes give their tools.

use super::kinds;
use semj_storage::event::EventType;
use serde_json::Value;

const READ: [&str; 4] = ["Read", "read", "open", "NotebookRead"];
const WRITE: [&str; 11] = [
    "Write",
    "write",
    "create",
    "Edit",
    "edit",
    "MultiEdit",
    "NotebookEdit",
    "str_replace",
    "insert",
    "str_replace_editor",
    "apply_patch",
];
const SEARCH: [&str; 12] = [
    "Grep",
    "Glob",
    "LS",
    "find_file",
    "search_dir",
    "search_file",
    "ls",
    "grep",
    "find",
    "WebFetch",
    "WebSearch",
    "web_search",
];
const AGENT: [&str; 4] = ["Task", "TaskOutput", "Agent", "Skill"];
const PLAN: [&str; 6] =
    ["TodoWrite", "TaskCreate", "TaskUpdate", "EnterPlanMode", "ExitPlanMode", "update_plan"];
const ASK: &str = "AskUserQuestion";

/// The kind of effect a call of `tool` has. A shell, an MCP tool and every unknown tool is a span: it takes time,
/// and what it did cannot be told from its name.
pub(super) fn effect_of(tool: &str) -> EventType {
    if READ.contains(&tool) {
        kinds::FILE_READ
    } else if WRITE.contains(&tool) {
        kinds::FILE_WRITE
    } else if SEARCH.contains(&tool) {
        kinds::QUERY
    } else if AGENT.contains(&tool) {
        kinds::ORCHESTRATION
    } else if PLAN.contains(&tool) {
        kinds::INTENT_CAPTURE
    } else if tool == ASK {
        kinds::INTERACTION
    } else {
        kinds::SPAN_START
    }
}

/// The file a call names in its arguments; only tools that read or write a file have one.
pub(super) fn path_of(tool: &str, arguments: &Value) -> Option<String> {
    if !matches!(effect_of(tool), kinds::FILE_READ | kinds::FILE_WRITE) {
        return None;
    }
    let keys = ["file_path", "path", "notebook_path"];
    keys.iter().filter_map(|k| arguments.get(k)?.as_str()).find(|p| !p.is_empty()).map(str::to_owned)
}

/// A call in one line: the tool and what is most telling of its arguments.
pub(super) fn summary(tool: &str, arguments: &Value) -> String {
    const TELLING: [&str; 13] = [
        "command",
        "cmd",
        "code",
        "pattern",
        "query",
        "url",
        "file_path",
        "path",
        "notebook_path",
        "description",
        "prompt",
        "subject",
        "skill",
    ];
    let telling = TELLING.iter().find_map(|k| match arguments.get(k)? {
        Value::String(s) if !s.is_empty() => Some(s.clone()),
        Value::Array(words) => {
            let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
            (!words.is_empty()).then(|| words.join(" "))
        }
        _ => None,
    });
    match telling.or_else(|| arguments.as_str().map(str::to_owned)) {
        // A command line names its tool itself.
        Some(text) if text.starts_with(tool) => text,
        Some(text) => format!("{tool}: {text}"),
        None => tool.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_set_has_its_effect_and_the_rest_are_spans() {
        for (tool, effect) in [
            ("NotebookRead", kinds::FILE_READ),
            ("apply_patch", kinds::FILE_WRITE),
            ("web_search", kinds::QUERY),
            ("TaskOutput", kinds::ORCHESTRATION),
            ("TaskUpdate", kinds::INTENT_CAPTURE),
            ("AskUserQuestion", kinds::INTERACTION),
            ("web_search_call", kinds::SPAN_START),
            ("mcp__x__y", kinds::SPAN_START),
            ("", kinds::SPAN_START),
        ] {
            assert_eq!(effect_of(tool), effect, "{tool}");
        }
    }

    #[test]
    fn paths_come_from_the_first_key_that_holds_one() {
        assert_eq!(path_of("Read", &json!({"file_path": "", "path": "b"})).as_deref(), Some("b"));
        assert_eq!(path_of("Grep", &json!({"path": "b"})), None);
        assert_eq!(path_of("edit", &json!("text")), None);
        assert_eq!(summary("shell", &json!({"command": ["ls", "-l"]})), "shell: ls -l");
        assert_eq!(summary("x", &json!({})), "x");
    }
}
