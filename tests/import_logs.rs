//! The importers against real logs: counts of every kind of event equal those of an independent reader.
//!
//! The logs are not part of the repository; without them the test says so and passes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests are tests")]

use semj::import::{Format, Session, detect, import_file};
use semj_storage::event::{Cause, Event, Text};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

fn folder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/agent-logs");
    if folder.join("expected.json").is_file() {
        return Some(folder);
    }
    eprintln!("skipped: no agent logs at {}", folder.display());
    None
}

fn expected(folder: &Path) -> BTreeMap<String, Value> {
    serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap()
}

fn import(folder: &Path, name: &str) -> Vec<Session> {
    let bytes = std::fs::read(folder.join(name)).unwrap();
    let format = detect(Path::new(name), &bytes[..bytes.len().min(64 << 10)]).unwrap();
    import_file(format, Path::new(name).file_stem().unwrap().to_str().unwrap(), &bytes)
}

/// `agent.decision` is `AgentDecision`.
fn camel(event: &Event<'_>) -> String {
    let text = event.event_type().to_string();
    let words = text.split(['.', '_']).map(|w| w[..1].to_uppercase() + &w[1..]);
    words.collect()
}

fn kinds(session: &Session) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for event in &session.events {
        *counts.entry(camel(event)).or_insert(0) += 1;
    }
    counts
}

fn paths(session: &Session, kind: &str) -> BTreeSet<String> {
    let of_kind = session.events.iter().filter(|e| e.event_type().to_string() == kind);
    of_kind.filter_map(|e| e.path_text().and_then(Text::as_str)).map(str::to_owned).collect()
}

fn texts(value: &Value) -> BTreeSet<String> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect()
}

#[test]
fn counts_equal_those_of_the_oracle() {
    let Some(folder) = folder() else { return };
    let mut compared = 0;
    for (name, expected) in expected(&folder) {
        let sessions = import(&folder, &name);
        let expected = expected.as_array().cloned().unwrap_or_else(|| vec![expected]);
        assert_eq!(sessions.len(), expected.len(), "{name}");
        for (session, expected) in sessions.iter().zip(&expected) {
            assert_eq!(expected["format"], session.format.name(), "{name}");
            assert_eq!(expected["records"], session.records, "{name}");
            let counts = kinds(session);
            for (kind, count) in expected["events"].as_object().unwrap() {
                assert_eq!(*count, counts.get(kind).copied().unwrap_or(0), "{name} {kind}");
                compared += 1;
            }
            assert_eq!(paths(session, "filesystem.read"), texts(&expected["files_read"]), "{name}");
            assert_eq!(paths(session, "filesystem.write"), texts(&expected["files_written"]), "{name}");
            assert_eq!(session.losses, [], "{name}");
        }
    }
    assert!(compared > 100, "{compared}");
}

#[test]
fn what_git_saw_touched_was_written() {
    let Some(folder) = folder() else { return };
    for name in expected(&folder).keys().filter(|n| n.starts_with("claude-code/")) {
        let about = folder.join(name.replace(".jsonl", ".metadata.json"));
        let about: Value = serde_json::from_slice(&std::fs::read(about).unwrap()).unwrap();
        let sessions = import(&folder, name);
        let written = paths(&sessions[0], "filesystem.write");
        for touched in texts(&about["files_touched"]) {
            assert!(written.iter().any(|w| w.ends_with(&touched)), "{name} {touched}");
        }
    }
}

#[test]
fn every_event_keeps_the_rules() {
    let Some(folder) = folder() else { return };
    let mut failed_writes = 0;
    let mut seen: HashMap<Cause, String> = HashMap::new();
    for name in expected(&folder).keys() {
        for session in import(&folder, name) {
            let format = session.format.name();
            for event in &session.events {
                event.check_limits().unwrap();
                let id = Cause::Id(event.given_id().unwrap());
                // Only the session that this one was forked from may be in another file.
                let links = event.links().iter().filter(|l| l.kind != Some("forked_from".into()));
                for cause in event.parent_cause().into_iter().chain(links.map(|l| l.cause)) {
                    assert!(seen.contains_key(&cause), "{name}: a cause comes first");
                }
                assert_eq!(seen.insert(id, name.clone()), None, "{name}: an id is given once");
                assert_eq!(event.source_text().unwrap().as_str(), Some(format!("import:{format}").as_str()));
                assert_eq!(event.session_text().unwrap().as_str(), Some(session.session.as_str()));
                let stream = format!("import:{format}:{}", session.session);
                assert_eq!(event.stream_text().unwrap().as_str(), Some(stream.as_str()));
                assert!(event.agent_text().is_some());
                assert_eq!(event.given_time().is_none(), event.has_tag("time:unknown"), "{name}");
                assert!(event.intent_text().is_none_or(|i| i.as_str().unwrap().chars().count() <= 200));
                if event.has_tag("claimed") {
                    let kind = camel(event);
                    let outcomes = ["outcome:ok", "outcome:error", "outcome:none"].map(|o| event.has_tag(o));
                    let told = outcomes.into_iter().filter(|o| *o).count();
                    assert_eq!(told, usize::from(kind != "ObservabilityTraceSpanStart"), "{name} {kind}");
                    assert!(event.parent_cause().is_some());
                    let failed = kind == "FilesystemWrite" && !event.has_tag("outcome:ok");
                    failed_writes += usize::from(failed);
                }
            }
        }
    }
    assert_eq!(failed_writes, 23);
}

#[test]
fn importing_twice_gives_equal_events() {
    let Some(folder) = folder() else { return };
    for name in expected(&folder).keys() {
        assert_eq!(import(&folder, name), import(&folder, name), "{name}");
    }
}

/// A log that has grown gives the events it gave before, in their places, but for effects that still waited.
#[test]
fn a_prefix_of_a_log_gives_a_prefix_of_its_events() {
    let Some(folder) = folder() else { return };
    for name in expected(&folder).keys().filter(|n| n.ends_with(".jsonl") && !n.starts_with("openhands")) {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        let format = detect(Path::new(name), &bytes).unwrap();
        let half =
            bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i + 1).nth(40).unwrap();
        let (part, whole) = (import_file(format, "x", &bytes[..half]), import_file(format, "x", &bytes));
        let came = |e: &&Event<'_>| !e.has_tag("outcome:none");
        let part: Vec<_> = part[0].events.iter().filter(came).collect();
        assert!(part.len() > 30, "{name}");
        for (a, b) in part.iter().zip(whole[0].events.iter()) {
            // A result without its call is a loss until the call comes; nothing else may differ.
            if !a.has_tag("loss") {
                assert_eq!(*a, b, "{name}");
            }
        }
    }
}

/// Any cut leaves the records before it as they are, and is told.
#[test]
fn a_log_cut_anywhere_is_salvaged() {
    let Some(folder) = folder() else { return };
    for name in
        ["codex/small.jsonl", "swe-agent/pydicom__pydicom-1458.traj", "openhands/resolver_output.jsonl"]
    {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        let format = detect(Path::new(name), &bytes).unwrap();
        let mut last = 0;
        for cut in (0..bytes.len()).step_by(4_999) {
            let sessions = import_file(format, "x", &bytes[..cut]);
            let records: u64 = sessions.iter().map(|s| s.records).sum();
            assert!(records >= last, "{name} cut at {cut}");
            last = records;
            let at_line_end = cut == 0 || bytes[cut - 1] == b'\n' || bytes[cut] == b'\n';
            assert!(at_line_end || sessions.iter().any(|s| !s.losses.is_empty()), "{name} cut at {cut}");
            sessions.iter().flat_map(|s| &s.events).for_each(|e| e.check_limits().unwrap());
        }
        assert!(last > 0, "{name}");
    }
}

#[test]
fn files_beside_the_logs_are_not_taken_for_logs() {
    let Some(folder) = folder() else { return };
    for name in ["expected.json", "provenance.json", "README.md", "oracle.py"] {
        assert_eq!(detect(Path::new(name), &std::fs::read(folder.join(name)).unwrap()), None, "{name}");
    }
    for (name, expected) in expected(&folder) {
        let expected = if expected.is_array() { &expected[0] } else { &expected };
        let format = Format::parse(expected["format"].as_str().unwrap());
        let bytes = std::fs::read(folder.join(&name)).unwrap();
        for head in [bytes.len(), 64 << 10, 8 << 10] {
            let head = &bytes[..head.min(bytes.len())];
            assert_eq!(detect(Path::new("copied"), head), format, "{name} by {} bytes", head.len());
        }
        let about = folder.join(name.replace(".jsonl", ".metadata.json"));
        if name.starts_with("claude-code/") {
            assert_eq!(detect(&about, &std::fs::read(&about).unwrap()), None);
            assert_eq!(detect(Path::new("copied"), &std::fs::read(&about).unwrap()), None);
        }
    }
}

/// Whatever happens to the bytes: no panic, no event over a limit, no cause after its effect, no id for two things.
#[test]
fn random_damage_breaks_no_rule() {
    let Some(folder) = folder() else { return };
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % below.max(1)
    };
    let names = [
        "claude-code/a4-7cfcb669b1-0.jsonl",
        "codex/small.jsonl",
        "swe-agent/ctf__crypto__katy.traj",
        "openhands/resolver_output.jsonl",
    ];
    for name in names {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        let format = detect(Path::new(name), &bytes).unwrap();
        for _ in 0..40 {
            let mut damaged = bytes.clone();
            for _ in 0..1 + next(4) {
                let at = next(damaged.len());
                let to = (at + 1 + next(3_000)).min(damaged.len());
                match next(5) {
                    0 => damaged[at] ^= 1 << next(8),
                    1 => damaged[at..to].fill(0),
                    2 => drop(damaged.drain(at..to)),
                    3 => damaged.truncate(to),
                    _ => damaged.extend_from_within(at..to),
                }
            }
            let mut seen: HashMap<Cause, Event<'_>> = HashMap::new();
            for session in import_file(format, "x", &damaged) {
                for event in session.events {
                    event.check_limits().unwrap();
                    let mut links = event.links().iter().filter(|l| l.kind != Some("forked_from".into()));
                    assert!(event.parent_cause().is_none_or(|p| seen.contains_key(&p)), "{name}");
                    assert!(links.all(|l| seen.contains_key(&l.cause)), "{name}");
                    let id = Cause::Id(event.given_id().unwrap());
                    let known = seen.insert(id, event.clone());
                    assert!(known.is_none_or(|known| known == event), "{name}: one id, one content");
                }
            }
        }
    }
}
