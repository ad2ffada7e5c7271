//! The comparison itself: events in, findings out.

use crate::cli::out::counted;
use semj::Recorded;
use semj::event::{Category, Payload};
use semj::observe::{TAG_EXTERNAL, TAG_OBSERVED, Words, plain};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// How far from a call a claim may be made and still be about it, in nanoseconds.
const GRACE_NS: i64 = 5_000_000_000;
/// Event types that are about a folder with all that is in it.
const OF_FOLDERS: [&str; 2] = ["filesystem.mkdir", "filesystem.rmdir"];
/// Event types that change nothing: nobody sees them.
const READS: [&str; 1] = ["filesystem.read"];

/// A call that was observed.
#[derive(Debug)]
struct Call {
    id: Uuid,
    from_ns: i64,
    until_ns: Option<i64>,
    cwd: PathBuf,
    words: Words,
    observed: bool,
}

/// A claim: somebody says that a path was changed.
#[derive(Debug)]
struct Claim {
    sequence: u64,
    path: String,
    at_ns: Option<i64>,
    cause: Option<Uuid>,
    what: String,
}

/// Whether and how a path was said.
enum Said {
    Itself,
    /// Only a folder above it.
    Folder(String),
    Not,
}

/// Effects on one path.
#[derive(Debug, Default)]
struct Effects {
    did: BTreeMap<String, u64>,
    events: Vec<u64>,
    calls: Vec<Uuid>,
}

/// What has been read of a session.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    calls: Vec<Call>,
    claims: Vec<Claim>,
    effects: BTreeMap<String, Effects>,
    external: BTreeMap<String, Effects>,
    effect_count: u64,
    gaps: u64,
}

/// One disagreement, or a change by others.
#[derive(Debug)]
pub(super) struct Finding {
    /// `not_said`, `not_seen`, `covered` or `external`.
    pub(super) kind: &'static str,
    pub(super) path: String,
    /// How many paths it is about: more than one below a named folder.
    pub(super) paths: usize,
    did: BTreeMap<String, u64>,
    sequences: Vec<u64>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Compared {
    pub(super) findings: Vec<Finding>,
    calls: usize,
    effects: u64,
    claims: usize,
    unchecked: usize,
    gaps: u64,
}

impl Comparison {
    /// Takes an event of the session in.
    pub(super) fn add(&mut self, recorded: &Recorded) {
        let event = &recorded.event;
        let kind = event.event_type().to_string();
        let path = event.path_text().map(|p| p.to_string_lossy().into_owned());
        let name = event.name_text().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let payload = match event.payload_value() {
            Payload::Json(json) => serde_json::from_str(json.as_str()).unwrap_or(Value::Null),
            _ => Value::Null,
        };
        let cause = recorded.causes.first().map(|c| c.id);
        let files = event.event_type().category() == Category::Filesystem;
        if event.has_tag(TAG_OBSERVED) {
            match name.as_str() {
                "semj.coverage" => {
                    let source = payload.get("semj.source").and_then(Value::as_str).unwrap_or("none");
                    self.of_cause(cause)
                        .filter(|_| source != "none")
                        .map(|c| c.observed = true)
                        .unwrap_or_default();
                }
                _ if kind == "observability.trace_span_end" => {
                    let end = recorded.time.map(|t| t.0);
                    self.of_cause(cause).map(|c| c.until_ns = end).unwrap_or_default();
                }
                _ if files => self.effect(recorded, &kind, path.unwrap_or_default(), &payload),
                _ => {}
            }
        } else if name == "semj.gap" {
            self.gaps += 1;
        } else if kind == "agent.decision" && payload.get("gen_ai.tool.name").is_some() {
            self.call(recorded, &payload);
        } else if files && !READS.contains(&kind.as_str()) {
            let Some(path) = path else { return };
            let at_ns = recorded.time.map(|t| t.0);
            self.claims.push(Claim { sequence: recorded.sequence, path, at_ns, cause, what: kind });
        }
    }

    fn of_cause(&mut self, cause: Option<Uuid>) -> Option<&mut Call> {
        self.calls.iter_mut().find(|c| Some(c.id) == cause)
    }

    fn call(&mut self, recorded: &Recorded, payload: &Value) {
        let mut words = Vec::new();
        let mut open: Vec<&Value> = payload.get("gen_ai.tool.call.arguments").into_iter().collect();
        while let Some(value) = open.pop() {
            match value {
                Value::String(text) => words.push(text.clone()),
                Value::Array(items) => open.extend(items),
                Value::Object(map) => open.extend(map.values()),
                _ => {}
            }
        }
        let cwd = PathBuf::from(payload.get("semj.cwd").and_then(Value::as_str).unwrap_or("/"));
        self.calls.push(Call {
            id: recorded.id,
            from_ns: recorded.time.map_or(0, |t| t.0),
            until_ns: None,
            words: Words::new(words, &cwd),
            cwd,
            observed: false,
        });
    }

    fn effect(&mut self, recorded: &Recorded, kind: &str, path: String, payload: &Value) {
        let external = recorded.event.has_tag(TAG_EXTERNAL);
        self.effect_count += u64::from(!external);
        let target = payload.get("semj.target").and_then(Value::as_str).map(str::to_owned);
        let kind = kind.trim_start_matches("filesystem.");
        for path in [Some(path), target].into_iter().flatten().filter(|p| !p.is_empty()) {
            let all = if external { &mut self.external } else { &mut self.effects };
            let effects = all.entry(path).or_default();
            *effects.did.entry(kind.to_owned()).or_default() += 1;
            effects.events.push(recorded.sequence);
            effects.calls.extend(
                recorded
                    .causes
                    .iter()
                    .map(|c| c.id)
                    .filter(|id| !effects.calls.contains(id))
                    .collect::<Vec<_>>(),
            );
        }
    }

    /// How a path was said by one of these calls, or by a claim.
    fn said(&self, path: &str, by: &[Uuid]) -> Said {
        let calls = || self.calls.iter().filter(|c| by.contains(&c.id));
        let at = Path::new(path);
        if calls().any(|c| c.words.name(at)) || self.claims.iter().any(|c| self.is_claim_of(c, at)) {
            return Said::Itself;
        }
        let by_words = calls().filter_map(|c| c.words.folder_above(at));
        let folders = self.claims.iter().filter(|c| OF_FOLDERS.contains(&c.what.as_str()));
        let by_claims =
            folders.filter_map(|c| at.ancestors().skip(1).find(|above| self.is_claim_of(c, above)));
        let nearest = by_words.chain(by_claims).max_by_key(|folder| folder.components().count());
        nearest.map_or(Said::Not, |folder| Said::Folder(folder.to_string_lossy().into_owned()))
    }

    fn is_claim_of(&self, claim: &Claim, path: &Path) -> bool {
        let claimed = Path::new(&claim.path);
        plain(claimed) == path || self.calls.iter().any(|c| plain(&c.cwd.join(claimed)) == path)
    }

    /// Whether somebody looked when the claim was made.
    fn is_checkable(&self, claim: &Claim) -> bool {
        self.calls.iter().filter(|c| c.observed).any(|call| {
            let until = call.until_ns.unwrap_or(call.from_ns).saturating_add(GRACE_NS);
            claim.cause == Some(call.id)
                || claim.at_ns.is_some_and(|at| at >= call.from_ns - GRACE_NS && at <= until)
        })
    }

    /// Compares.
    pub(super) fn finish(self) -> Compared {
        let mut findings = Vec::new();
        let mut covered: BTreeMap<String, Finding> = BTreeMap::new();
        for (path, effects) in &self.effects {
            match self.said(path, &effects.calls) {
                Said::Itself => {}
                Said::Not => findings.push(Finding::new("not_said", path, effects)),
                Said::Folder(folder) => {
                    let none = Effects::default();
                    let all = covered.entry(folder).or_insert_with_key(|f| Finding::new("covered", f, &none));
                    all.add(effects);
                }
            }
        }
        let mut unchecked = 0;
        for claim in &self.claims {
            if !self.is_checkable(claim) {
                unchecked += 1;
            } else if !self.effects.keys().any(|path| self.is_claim_of(claim, Path::new(path))) {
                let did = BTreeMap::from([(claim.what.trim_start_matches("filesystem.").to_owned(), 1)]);
                let (path, sequences) = (claim.path.clone(), vec![claim.sequence]);
                findings.push(Finding { kind: "not_seen", path, paths: 1, did, sequences });
            }
        }
        covered.values_mut().for_each(|f| f.sequences.sort_unstable());
        findings.extend(covered.into_values());
        findings.extend(self.external.iter().map(|(path, effects)| Finding::new("external", path, effects)));
        Compared {
            findings,
            calls: self.calls.iter().filter(|c| c.observed).count(),
            effects: self.effect_count,
            claims: self.claims.len(),
            unchecked,
            gaps: self.gaps,
        }
    }
}

impl Finding {
    fn new(kind: &'static str, path: &str, effects: &Effects) -> Self {
        let paths = usize::from(!effects.events.is_empty());
        let (did, sequences) = (effects.did.clone(), effects.events.clone());
        Finding { kind, path: path.to_owned(), paths, did, sequences }
    }

    /// One more path of it.
    fn add(&mut self, effects: &Effects) {
        self.paths += 1;
        for (what, n) in &effects.did {
            *self.did.entry(what.clone()).or_default() += n;
        }
        self.sequences.extend(&effects.events);
    }

    /// What was done or claimed.
    pub(super) fn words(&self) -> String {
        let each =
            self.did.iter().map(|(what, n)| if *n == 1 { what.clone() } else { format!("{what} x{n}") });
        each.collect::<Vec<_>>().join(", ")
    }

    /// The first events of it.
    pub(super) fn events(&self) -> String {
        let shown: Vec<String> = self.sequences.iter().take(3).map(|s| format!("#{s}")).collect();
        let more = if self.sequences.len() > shown.len() { " ..." } else { "" };
        format!("{}{more}", shown.join(" "))
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "finding": self.kind,
            "path": self.path,
            "paths": self.paths,
            "did": self.did,
            "sequences": self.sequences,
        })
    }
}

impl Compared {
    fn count(&self, kind: &str) -> usize {
        self.findings.iter().filter(|f| f.kind == kind).count()
    }

    /// How many paths were said by a folder above them alone.
    fn covered(&self) -> usize {
        self.findings.iter().filter(|f| f.kind == "covered").map(|f| f.paths).sum()
    }

    /// Whether everything that was seen was said, and the other way round.
    pub(super) fn agrees(&self) -> bool {
        self.count("not_said") == 0 && self.count("not_seen") == 0
    }

    pub(super) fn summary(&self, session: &str) -> Value {
        json!({
            "session": session,
            "agrees": self.agrees(),
            "observed_calls": self.calls,
            "effects": self.effects,
            "claims": self.claims,
            "unchecked_claims": self.unchecked,
            "not_said": self.count("not_said"),
            "not_seen": self.count("not_seen"),
            "covered": self.covered(),
            "external": self.count("external"),
            "gaps": self.gaps,
        })
    }

    pub(super) fn words(&self) -> String {
        let mut words = [
            counted(self.calls as u64, "observed call"),
            counted(self.effects, "effect"),
            counted(self.claims as u64, "claim"),
        ]
        .join(", ");
        if self.covered() > 0 {
            words
                .push_str(&format!("; {} covered by a named folder", counted(self.covered() as u64, "path")));
        }
        if self.unchecked > 0 {
            words.push_str(&format!(
                "; {} of times when nobody looked",
                counted(self.unchecked as u64, "claim")
            ));
        }
        if self.gaps > 0 {
            words.push_str(&format!("; {}: what was not seen may have happened", counted(self.gaps, "gap")));
        }
        words.push_str(if self.agrees() { "; they agree" } else { "; they disagree" });
        words
    }
}
