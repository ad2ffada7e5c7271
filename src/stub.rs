//! A naive journal for typechecking and trying the command line. Throw away.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use semj_storage::event::*;
use semj_storage::log::entry::*;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use uuid::Uuid;

pub use semj_storage::error::Damage;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    Syntax,
    UnknownKey,
    BadValue,
    Limit,
    Conflict,
    Position,
    Cycle,
    Full,
    Poisoned,
    Missing,
    Locked,
    Damaged,
    Stalled,
    Unreadable,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "syntax",
            Self::UnknownKey => "unknown_key",
            Self::BadValue => "bad_value",
            Self::Limit => "limit",
            Self::Conflict => "conflict",
            Self::Position => "position",
            Self::Cycle => "cycle",
            Self::Full => "full",
            Self::Poisoned => "poisoned",
            Self::Missing => "missing",
            Self::Locked => "locked",
            Self::Damaged => "damaged",
            Self::Stalled => "stalled",
            Self::Unreadable => "unreadable",
        })
    }
}

#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    key: Option<String>,
}
impl Error {
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }
    fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), key: None }
    }
}
pub type OpenError = Error;
pub type EmitError = Error;
pub type CommitError = Error;
pub type CloseError = Error;

#[derive(Default)]
struct State {
    events: Vec<Recorded>,
    ids: HashMap<Uuid, u64>,
    streams: HashMap<Vec<u8>, u64>,
    durable: u64,
    closed: bool,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    path: PathBuf,
    _lock: std::fs::File,
}

#[derive(Clone)]
pub struct Journal(Arc<Shared>);

pub struct Options {
    create: bool,
    wait: Duration,
}
impl Options {
    pub fn create(mut self, yes: bool) -> Self {
        self.create = yes;
        self
    }
    pub fn lock_wait(mut self, d: Duration) -> Self {
        self.wait = d;
        self
    }
    pub fn config_file(self, path: impl AsRef<Path>) -> Result<Self, OpenError> {
        std::fs::read(path).map_err(|e| Error::new(ErrorKind::BadValue, e.to_string()))?;
        Ok(self)
    }
    pub fn open(self, path: impl AsRef<Path>) -> Result<Journal, OpenError> {
        let path = path.as_ref().to_owned();
        if self.create {
            std::fs::create_dir_all(&path)
                .map_err(|e| Error::new(ErrorKind::Unreadable, format!("{}: {e}", path.display())))?;
        }
        let lock = std::fs::File::options()
            .create(self.create)
            .append(true)
            .open(path.join("events.jsonl"))
            .map_err(|e| {
                Error::new(ErrorKind::Missing, format!("{}: no journal here ({e})", path.display()))
            })?;
        let begin = Instant::now();
        while lock.try_lock().is_err() {
            if begin.elapsed() >= self.wait {
                return Err(Error::new(
                    ErrorKind::Locked,
                    format!("{}: locked by another process", path.display()),
                ));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut state = State::default();
        for r in load(&path)? {
            state.ids.insert(r.id, r.sequence);
            *state.streams.entry(r.event.stream_or_default().to_vec()).or_default() += 1;
            state.durable = r.sequence;
            state.events.push(r);
        }
        let shared =
            Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), path, _lock: lock });
        let weak = shared.clone();
        std::thread::spawn(move || committer(&weak));
        Ok(Journal(shared))
    }
}

fn committer(shared: &Shared) {
    let mut file = std::fs::File::options().append(true).open(shared.path.join("events.jsonl")).unwrap();
    let mut state = shared.state.lock().unwrap();
    loop {
        while state.events.len() as u64 == state.durable {
            if state.closed {
                return;
            }
            state = shared.changed.wait(state).unwrap();
        }
        let text: String = state.events[state.durable as usize..].iter().map(|r| to_json(r) + "\n").collect();
        let last = state.events.len() as u64;
        drop(state);
        file.write_all(text.as_bytes()).unwrap();
        file.sync_data().unwrap();
        state = shared.state.lock().unwrap();
        state.durable = last;
        shared.changed.notify_all();
    }
}

fn make(event: Event<'_>, sequence: u64, local: u64, ids: &HashMap<Uuid, u64>, by: &[Recorded]) -> Recorded {
    let mut body = Vec::new();
    encode_body(&event, &mut body).unwrap();
    let mut references = Vec::new();
    for c in event.causes() {
        put_reference(
            &mut references,
            match c {
                Cause::Sequence(n) => ResolvedCause { id: by[n as usize - 1].id, sequence: Some(n) },
                Cause::Id(id) => ResolvedCause { id, sequence: ids.get(&id).copied() },
            },
        );
    }
    let now = jiff::Timestamp::now().as_nanosecond() as i64;
    let unit =
        UnitInfo { id_nonce: 77, recorded: Timestamp(0), wall_offset_ns: now - 5, boot_id: Uuid::nil() };
    let id = event.given_id();
    EntryRef {
        sequence,
        local_sequence: local,
        boot_ns: 5,
        flags: 0,
        given_id: id,
        digest: [0; 16],
        body: &body,
        references: &references,
        unit,
    }
    .recorded(event)
}

fn load(path: &Path) -> Result<Vec<Recorded>, Error> {
    let text = std::fs::read(path.join("events.jsonl")).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => {
            Error::new(ErrorKind::Missing, format!("{}: no journal here", path.display()))
        }
        _ => Error::new(ErrorKind::Unreadable, format!("{}: {e}", path.display())),
    })?;
    let mut all: Vec<Recorded> = Vec::new();
    let mut ids = HashMap::new();
    let mut streams: HashMap<Vec<u8>, u64> = HashMap::new();
    for line in text.split_inclusive(|b| *b == b'\n').filter(|l| l.ends_with(b"\n")) {
        let Ok(LineInput::Event(e)) = parse_line(line) else {
            return Err(Error::new(
                ErrorKind::Damaged,
                format!("{}: damage after event {}", path.display(), all.len()),
            ));
        };
        let n = all.len() as u64 + 1;
        let local = streams.entry(e.stream_or_default().to_vec()).or_default();
        *local += 1;
        let r = make(*e, n, *local, &ids, &all);
        ids.insert(r.id, n);
        all.push(r);
    }
    Ok(all)
}

impl Journal {
    pub fn options() -> Options {
        Options { create: true, wait: Duration::ZERO }
    }
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Reader, OpenError> {
        load(path.as_ref())?;
        Ok(Reader(path.as_ref().to_owned()))
    }
    pub fn emitter_default(&self) -> Emitter {
        Emitter(self.0.clone())
    }
    pub fn close(self, _within: Duration) -> Result<(), CloseError> {
        self.0.state.lock().unwrap().closed = true;
        self.0.changed.notify_all();
        Ok(())
    }
}

#[derive(Clone)]
pub struct Emitter(Arc<Shared>);

impl Emitter {
    pub fn try_emit(&self, event: Event<'_>) -> Result<Ticket, EmitError> {
        self.emit_blocking(event)
    }
    pub fn emit_blocking(&self, event: Event<'_>) -> Result<Ticket, EmitError> {
        let g = self.emit_all(vec![event])?;
        Ok(Ticket { shared: g.shared, sequence: g.sequences[0], id: g.ids[0], duplicate: g.duplicate })
    }
    pub fn emit_all(&self, events: Vec<Event<'_>>) -> Result<GroupTicket, EmitError> {
        let mut guard = self.0.state.lock().unwrap();
        let state = &mut *guard;
        let (mut sequences, mut ids, mut duplicate) = (Vec::new(), Vec::new(), false);
        for e in events {
            if let Some(n) = e.given_id().and_then(|id| state.ids.get(&id)) {
                if state.events[*n as usize - 1].event.event_type() != e.event_type() {
                    return Err(Error::new(
                        ErrorKind::Conflict,
                        format!("id known as event {n} with other content"),
                    ));
                }
                sequences.push(*n);
                ids.push(state.events[*n as usize - 1].id);
                duplicate = true;
                continue;
            }
            let n = state.events.len() as u64 + 1;
            let local = state.streams.entry(e.stream_or_default().to_vec()).or_default();
            if e.expected_position().is_some_and(|x| x != *local) {
                return Err(Error::new(ErrorKind::Position, format!("the stream holds {local} events")));
            }
            if e.causes().any(|c| matches!(c, Cause::Sequence(s) if s >= n)) {
                let key = Some("parent".into());
                return Err(Error {
                    kind: ErrorKind::BadValue,
                    message: "parent: not yet given".into(),
                    key,
                });
            }
            *local += 1;
            let r = make(e, n, *local, &state.ids, &state.events);
            state.ids.insert(r.id, n);
            sequences.push(n);
            ids.push(r.id);
            state.events.push(r);
        }
        drop(guard);
        self.0.changed.notify_all();
        Ok(GroupTicket { shared: self.0.clone(), sequences, ids, duplicate })
    }
}

#[derive(Clone)]
pub struct Ticket {
    shared: Arc<Shared>,
    sequence: u64,
    id: Uuid,
    duplicate: bool,
}
impl Ticket {
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
    pub fn id(&self) -> Uuid {
        self.id
    }
    pub fn is_duplicate(&self) -> bool {
        self.duplicate
    }
    pub fn is_durable(&self) -> bool {
        self.shared.state.lock().unwrap().durable >= self.sequence
    }
    pub fn wait(&self) -> Result<(), CommitError> {
        let mut s = self.shared.state.lock().unwrap();
        while s.durable < self.sequence {
            s = self.shared.changed.wait(s).unwrap();
        }
        Ok(())
    }
}

#[derive(Clone)]
pub struct GroupTicket {
    shared: Arc<Shared>,
    sequences: Vec<u64>,
    ids: Vec<Uuid>,
    duplicate: bool,
}
impl GroupTicket {
    pub fn sequences(&self) -> Vec<u64> {
        self.sequences.clone()
    }
    pub fn ids(&self) -> Vec<Uuid> {
        self.ids.clone()
    }
    pub fn is_duplicate(&self) -> bool {
        self.duplicate
    }
    pub fn is_durable(&self) -> bool {
        self.shared.state.lock().unwrap().durable >= *self.sequences.last().unwrap()
    }
    pub fn wait(&self) -> Result<(), CommitError> {
        let last = *self.sequences.last().unwrap();
        Ticket { shared: self.shared.clone(), sequence: last, id: Uuid::nil(), duplicate: false }.wait()
    }
}

#[derive(Clone, Debug, Default)]
pub struct Query {
    pub types: Vec<EventType>,
    pub categories: Vec<Category>,
    pub names: Vec<Vec<u8>>,
    pub agents: Vec<Vec<u8>>,
    pub streams: Vec<Vec<u8>>,
    pub sessions: Vec<Vec<u8>>,
    pub paths: Vec<Vec<u8>>,
    pub tags: Vec<Vec<u8>>,
    pub transactions: Vec<Vec<u8>>,
    pub sources: Vec<Vec<u8>>,
    pub priorities: Vec<Priority>,
    pub after: Option<u64>,
    pub before: Option<u64>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub visible_to: Option<u64>,
    pub text: Option<String>,
    pub limit: Option<u64>,
    pub reverse: bool,
    pub past_damage: bool,
}

impl Query {
    fn matches(&self, r: &Recorded) -> bool {
        let e = &r.event;
        fn any(list: &[Vec<u8>], t: Option<&Text<'_>>) -> bool {
            list.is_empty() || t.is_some_and(|t| list.iter().any(|l| l == t.as_bytes()))
        }
        (self.types.is_empty() || self.types.contains(&e.event_type()))
            && (self.categories.is_empty() || self.categories.contains(&e.event_type().category()))
            && any(&self.names, e.name_text())
            && any(&self.agents, e.agent_text())
            && any(&self.sessions, e.session_text())
            && (self.streams.is_empty() || self.streams.iter().any(|s| s == e.stream_or_default()))
            && (self.paths.is_empty()
                || e.path_text().is_some_and(|p| self.paths.iter().any(|s| p.as_bytes().starts_with(s))))
            && (self.tags.is_empty() || self.tags.iter().any(|t| e.tags().iter().any(|x| x.as_bytes() == t)))
            && (self.priorities.is_empty() || self.priorities.contains(&e.priority_value()))
            && self.after.is_none_or(|a| r.sequence > a)
            && self.before.is_none_or(|b| r.sequence < b)
            && self.since.is_none_or(|s| r.time.is_some_and(|t| t >= s))
            && self.until.is_none_or(|s| r.time.is_some_and(|t| t < s))
    }
}

#[derive(Clone)]
pub struct Reader(PathBuf);

#[derive(Clone, Copy, Debug)]
pub enum VerifyLevel {
    Quick,
    Full,
    Deep,
}

#[derive(Clone, Debug, Default)]
pub struct Walk {
    pub depth: Option<u32>,
    pub kinds: Vec<String>,
}

impl Reader {
    pub fn run(&self, query: &Query) -> Result<std::vec::IntoIter<Result<Recorded, Error>>, Error> {
        let mut all: Vec<_> = load(&self.0)?.into_iter().filter(|r| query.matches(r)).map(Ok).collect();
        if query.reverse {
            all.reverse();
        }
        all.truncate(query.limit.unwrap_or(u64::MAX) as usize);
        Ok(all.into_iter())
    }
    pub fn count(&self, query: &Query) -> Result<u64, Error> {
        Ok(self.run(&Query { limit: None, ..query.clone() })?.count() as u64)
    }
    pub fn get(&self, cause: Cause) -> Result<Option<Recorded>, Error> {
        Ok(load(&self.0)?.into_iter().find(|r| match cause {
            Cause::Sequence(n) => r.sequence == n,
            Cause::Id(id) => r.id == id,
        }))
    }
    pub fn durable_sequence(&self) -> Result<u64, Error> {
        Ok(load(&self.0)?.len() as u64)
    }
    pub fn why(&self, id: Uuid, walk: &Walk) -> Result<Graph, Error> {
        self.graph(id, walk, false)
    }
    pub fn impact(&self, id: Uuid, walk: &Walk) -> Result<Graph, Error> {
        self.graph(id, walk, true)
    }
    fn graph(&self, id: Uuid, _walk: &Walk, down: bool) -> Result<Graph, Error> {
        let all = load(&self.0)?;
        let by: HashMap<Uuid, &Recorded> = all.iter().map(|r| (r.id, r)).collect();
        let mut edges = Vec::new();
        for r in &all {
            let mut add = |c: ResolvedCause, kind: &str, strength| {
                edges.push(Edge {
                    cause: c.id,
                    effect: r.id,
                    cause_sequence: c.sequence,
                    effect_sequence: Some(r.sequence),
                    kind: kind.into(),
                    strength,
                })
            };
            if let Some(p) = r.parent() {
                add(p, "parent", None);
            }
            for (l, c, _) in r.links() {
                add(c.unwrap(), &l.kind.as_ref().map_or("link".into(), |k| k.to_string()), l.strength);
            }
        }
        let mut found: BTreeMap<u64, Recorded> = BTreeMap::new();
        let mut kept = Vec::new();
        let mut todo = vec![id];
        let mut seen = vec![id];
        while let Some(at) = todo.pop() {
            if let Some(r) = by.get(&at) {
                found.insert(r.sequence, (*r).clone());
            }
            for e in &edges {
                let (from, to) = if down { (e.cause, e.effect) } else { (e.effect, e.cause) };
                if from == at {
                    kept.push(e.clone());
                    if !seen.contains(&to) {
                        seen.push(to);
                        todo.push(to);
                    }
                }
            }
        }
        Ok(Graph { root: by[&id].to_owned().clone(), edges: kept, events: found })
    }
    pub fn status(&self) -> Result<Status, Error> {
        let n = load(&self.0)?.len() as u64;
        Ok(Status {
            events: n,
            first_sequence: u64::from(n > 0),
            durable_sequence: n,
            indexed_sequence: n,
            bytes: std::fs::metadata(self.0.join("events.jsonl")).map_or(0, |m| m.len()),
            segments: 1,
            state: "idle".into(),
            owner: None,
        })
    }
    pub fn verify(&self, _level: VerifyLevel) -> Result<VerifyReport, Error> {
        let n = load(&self.0)?.len() as u64;
        Ok(VerifyReport {
            intact: true,
            events: n,
            head: Head { sequence: n, sha256: [0; 32] },
            damage: Vec::new(),
            torn_tail: None,
            trees: "ok".into(),
        })
    }
}

pub struct Owner {
    pub pid: u32,
    pub since: Timestamp,
}
pub struct Status {
    pub events: u64,
    pub first_sequence: u64,
    pub durable_sequence: u64,
    pub indexed_sequence: u64,
    pub bytes: u64,
    pub segments: u64,
    pub state: String,
    pub owner: Option<Owner>,
}
pub struct Head {
    pub sequence: u64,
    pub sha256: [u8; 32],
}
pub struct VerifyReport {
    pub intact: bool,
    pub events: u64,
    pub head: Head,
    pub damage: Vec<Damage>,
    pub torn_tail: Option<Damage>,
    pub trees: String,
}

#[derive(Clone, Debug)]
pub struct Edge {
    pub cause: Uuid,
    pub effect: Uuid,
    pub cause_sequence: Option<u64>,
    pub effect_sequence: Option<u64>,
    pub kind: String,
    pub strength: Option<u32>,
}
pub struct Graph {
    pub root: Recorded,
    pub edges: Vec<Edge>,
    pub events: BTreeMap<u64, Recorded>,
}

/// What a repair did, one step each.
pub fn repair(_path: &Path) -> Result<Vec<String>, OpenError> {
    Ok(Vec::new())
}

/// Stand-in for the importers.
pub mod import {
    use semj_storage::event::Event;
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub enum Format {
        Codex,
    }
    impl Format {
        pub const ALL: [Self; 1] = [Self::Codex];
        pub const fn name(self) -> &'static str {
            "codex"
        }
        pub fn parse(name: &str) -> Option<Self> {
            (name == "codex").then_some(Self::Codex)
        }
    }
    pub struct Session {
        pub format: Format,
        pub session: String,
        pub records: u64,
        pub events: Vec<Event<'static>>,
        pub losses: Vec<Loss>,
    }
    pub struct Loss {
        pub line: u64,
        pub reason: String,
    }
    pub fn detect(_bytes: &[u8]) -> Option<Format> {
        None
    }
    pub fn import_file(_format: Format, _stem: &str, _bytes: &[u8]) -> Vec<Session> {
        Vec::new()
    }
}
