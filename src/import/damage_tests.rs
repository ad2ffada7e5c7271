//! Every kind of damage: all intact records are there, each loss has line and reason, and is an event.

use super::{Format, Session, import_file};

const PROMPT: &str = r#"{"type":"user","uuid":"u1","parentUuid":null,"sessionId":"S","timestamp":"2026-01-01T00:00:00Z","message":{"content":"do it"}}"#;
const CALL: &str = r#"{"type":"assistant","uuid":"a1","parentUuid":"u1","sessionId":"S","timestamp":"2026-01-01T00:00:01Z","message":{"content":[{"type":"tool_use","id":"t1","name":"Bash","input":{"command":"ls"}}]}}"#;
const RESULT: &str = r#"{"type":"user","uuid":"u2","parentUuid":"a1","sessionId":"S","timestamp":"2026-01-01T00:00:02Z","message":{"content":[{"type":"tool_result","tool_use_id":"t1","content":"a.rs"}]}}"#;
const ANSWER: &str = r#"{"type":"assistant","uuid":"a2","parentUuid":"u2","sessionId":"S","timestamp":"2026-01-01T00:00:03Z","message":{"content":[{"type":"text","text":"one file"}]}}"#;

/// The only session of a damaged Claude Code log.
fn session(log: &[u8]) -> Session {
    let again = import_file(Format::ClaudeCode, "f", log);
    let mut sessions = import_file(Format::ClaudeCode, "f", log);
    assert_eq!(sessions, again);
    assert_eq!(sessions.len(), 1);
    let session = sessions.remove(0);
    let alerts: Vec<_> = session.events.iter().filter(|e| e.has_tag("loss")).collect();
    assert_eq!(alerts.len(), session.losses.len());
    for (alert, loss) in alerts.iter().zip(&session.losses) {
        assert_eq!(alert.event_type().to_string(), "observability.alert_triggered");
        let payload = alert.payload_value().as_json().unwrap();
        assert_eq!(payload["semj.loss.line"], loss.line);
        assert_eq!(payload["semj.loss.reason"], loss.reason);
    }
    let mut ids: Vec<_> = session.events.iter().map(|e| e.given_id().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), session.events.len());
    session
}

fn kinds(session: &Session) -> Vec<String> {
    let kept = session.events.iter().filter(|e| !e.has_tag("loss"));
    kept.map(|e| e.event_type().to_string()).collect()
}

fn losses(session: &Session) -> Vec<(u64, &str)> {
    session.losses.iter().map(|l| (l.line, l.reason.as_str())).collect()
}

fn lines(lines: &[&str]) -> Vec<u8> {
    (lines.join("\n") + "\n").into_bytes()
}

const WHOLE: [&str; 5] = [
    "agent.query",
    "agent.decision",
    "observability.trace_span_start",
    "observability.trace_span_end",
    "agent.interaction",
];

#[test]
fn an_intact_log_has_no_losses() {
    let session = session(&lines(&[PROMPT, CALL, RESULT, ANSWER]));
    assert_eq!((kinds(&session), session.losses), (WHOLE.map(String::from).to_vec(), vec![]));
}

#[test]
fn a_torn_last_line() {
    let log = lines(&[PROMPT, CALL, RESULT, ANSWER]);
    let session = session(&log[..log.len() - 60]);
    assert_eq!(kinds(&session), WHOLE[..4]);
    assert_eq!(losses(&session), [(4, "a record cut off after 100 bytes")]);
}

#[test]
fn two_records_on_one_line() {
    let session = session(&lines(&[PROMPT, &format!("{CALL}{RESULT}"), ANSWER]));
    assert_eq!((kinds(&session), session.losses), (WHOLE.map(String::from).to_vec(), vec![]));
}

#[test]
fn a_record_cut_off_by_another_one() {
    let session = session(&lines(&[PROMPT, CALL, &format!("{}{RESULT}", &ANSWER[..150]), ANSWER]));
    assert_eq!(kinds(&session), WHOLE);
    assert_eq!(
        losses(&session),
        [(3, "a record cut off after 150 bytes, another record follows on the same line")]
    );
}

#[test]
fn runs_of_nul_bytes() {
    let holed = format!("{}\0\0\0\0{}", &ANSWER[..40], &ANSWER[44..]);
    let session = session(&lines(&[PROMPT, &format!("\0\0\0{CALL}"), &holed, RESULT, ANSWER, "\0\0"]));
    assert_eq!(kinds(&session), WHOLE);
    let length = ANSWER.len();
    let reason = format!("{length} bytes of a record that 4 NUL bytes have overwritten");
    assert_eq!(
        losses(&session),
        [(2, "a run of 3 NUL bytes"), (3, reason.as_str()), (6, "a run of 2 NUL bytes")]
    );
}

#[test]
fn a_parent_that_was_never_written() {
    let session = session(&lines(&[PROMPT, CALL, ANSWER]));
    assert_eq!(
        kinds(&session),
        ["agent.query", "agent.decision", "observability.trace_span_start", "agent.interaction"]
    );
    assert_eq!(losses(&session), [(3, "parent u2 was never written")]);
}

#[test]
fn a_result_whose_call_is_missing() {
    let session = session(&lines(&[PROMPT, &RESULT.replace("a1", "u1"), &ANSWER.replace("u2", "u1")]));
    assert_eq!(kinds(&session), ["agent.query", "agent.interaction"]);
    assert_eq!(losses(&session), [(2, "the call t1 of this result was never written")]);
    let alert = session.events.iter().find(|e| e.has_tag("loss")).unwrap();
    assert_eq!(alert.payload_value().as_json().unwrap()["gen_ai.tool.call.result"], "a.rs");
}

#[test]
fn a_record_written_twice_is_the_same_record() {
    let log = lines(&[PROMPT, CALL, RESULT, RESULT, ANSWER]);
    let sessions = import_file(Format::ClaudeCode, "f", &log);
    let events = &sessions[0].events;
    assert_eq!(sessions[0].losses, []);
    assert_eq!((events.len(), &events[3]), (6, &events[4]));
    assert_eq!(sessions[0].records, 5);
}

#[test]
fn a_record_id_with_other_content_is_a_loss() {
    let session = session(&lines(&[PROMPT, CALL, RESULT, &RESULT.replace("a.rs", "b.rs"), ANSWER]));
    assert_eq!(kinds(&session), WHOLE);
    assert_eq!(losses(&session), [(4, "record u2 seen before with other content")]);
}

#[test]
fn equal_losses_on_one_line_are_two_events() {
    let session = session(format!("\0\0{PROMPT}\0\0{CALL}").as_bytes());
    assert_eq!(losses(&session), [(1, "a run of 2 NUL bytes"), (1, "a run of 2 NUL bytes")]);
    assert_eq!(kinds(&session), WHOLE[..3]);
}

#[test]
fn too_large_is_cut_and_not_lost() {
    let huge = "x".repeat(3 << 20);
    let log = lines(&[&PROMPT.replace("do it", &huge), &CALL.replace("Bash", &"B".repeat(9_000))]);
    let session = session(&log);
    session.events.iter().for_each(|e| e.check_limits().unwrap());
    assert_eq!(kinds(&session), WHOLE[..3]);
    let prompt = session.events[0].payload_value().as_json().unwrap();
    assert_eq!(prompt["semj.cut"][0]["field"], "payload");
    assert_eq!(session.events[1].payload_value().as_json().unwrap()["semj.cut"][0]["field"], "tags");
}

#[test]
fn the_other_formats_salvage_alike() {
    let codex = r#"{"timestamp":"2026-01-01T00:00:00Z","type":"response_item","payload":{"type":"message","role":"user","content":[]}}"#;
    let pi = r#"{"type":"message","timestamp":"2026-01-01T00:00:00Z","message":{"role":"user","content":[{"type":"text","text":"x"}]}}"#;
    for (format, record) in [(Format::Codex, codex), (Format::Pi, pi)] {
        let log = format!("{record}\n{}{record}\n\0\0{record}{record}\n{}", &record[..70], &record[..50]);
        let sessions = import_file(format, "f", log.as_bytes());
        assert_eq!((sessions.len(), sessions[0].records), (1, 4), "{format}");
        let lines: Vec<u64> = sessions[0].losses.iter().map(|l| l.line).collect();
        assert_eq!(lines, [2, 3, 4], "{format}");
    }
}
