//! Importers of foreign agent logs: bytes of a log in, sessions of semantic events out.
//!
//! Pure: no journal, no clock, no threads. The same bytes give the same events with the same ids, so importing a
//! log twice adds nothing, and a log that has grown adds what is new. An effect told by a log is a *claim* (tag
//! `claimed`), never an observation. Damage is survived record by record; each loss is reported with line and
//! reason and is an event of its session.
//!
//! ```
//! use semj::import::{Format, import_file};
//! let log = br#"{"type":"user","sessionId":"s1","uuid":"u1","message":{"content":"run the tests"}}"#;
//! let sessions = import_file(Format::ClaudeCode, "log", log);
//! assert_eq!(sessions[0].session, "s1");
//! assert_eq!(sessions[0].events[0].event_type().to_string(), "agent.query");
//! ```

mod calls;
mod claude_code;
mod codex;
mod content;
mod detect;
mod document;
mod draft;
mod fit;
mod kernel_clock;
mod kinds;
mod lineage;
mod lines;
mod openhands;
mod pi;
mod semj;
mod swe_agent;
mod tools;

#[cfg(test)]
mod damage_tests;

pub use detect::detect;
pub use kernel_clock::KernelClock;
pub use semj::{KernelEvents, StreamError, is_kernel_stream};

use semj_storage::event::Event;
use std::fmt;

/// A log format that can be imported.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum Format {
    /// Claude Code: JSON Lines, a tree of records.
    ClaudeCode,
    /// Codex CLI "rollouts": JSON Lines.
    Codex,
    /// The pi coding agent: JSON Lines.
    Pi,
    /// SWE-agent trajectories: one JSON object a run.
    SweAgent,
    /// OpenHands: a JSON array of one run, or runs as JSON Lines.
    OpenHands,
}

impl Format {
    /// All formats, in the order in which help texts list them.
    pub const ALL: [Self; 5] = [Self::ClaudeCode, Self::Codex, Self::Pi, Self::SweAgent, Self::OpenHands];

    /// The name, as in `import:codex`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClaudeCode => "claude-code",
            Self::Codex => "codex",
            Self::Pi => "pi",
            Self::SweAgent => "swe-agent",
            Self::OpenHands => "openhands",
        }
    }

    /// The format with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.name() == name)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What one session of a log became.
#[derive(Clone, PartialEq, Debug)]
pub struct Session {
    /// The log's format.
    pub format: Format,
    /// The log's own session id; where it has none, the file's stem, with `#N` for the N-th run in one file.
    pub session: String,
    /// Records that were read whole.
    pub records: u64,
    /// The events in the order in which they must be emitted: causes come before effects.
    pub events: Vec<Event<'static>>,
    /// What could not be read or joined; each is also one of the events.
    pub losses: Vec<Loss>,
}

/// Something a damaged log no longer tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Loss {
    /// The physical line, from 1.
    pub line: u64,
    /// What is missing and why.
    pub reason: String,
}

/// Turns the bytes of one log into sessions. `file_stem` names sessions that have no id of their own.
///
/// Sessions come in the order of their first record. A cause lies in the same session or in an earlier one, so
/// emitting session by session keeps causes before effects. A record that is written twice under one id yields the
/// same events twice, with the same ids: a journal answers the second time that it knows them.
pub fn import_file(format: Format, file_stem: &str, bytes: &[u8]) -> Vec<Session> {
    match format {
        Format::ClaudeCode => claude_code::import(file_stem, bytes),
        Format::Codex => codex::import(file_stem, bytes),
        Format::Pi => pi::import(file_stem, bytes),
        Format::SweAgent => swe_agent::import(file_stem, bytes),
        Format::OpenHands => openhands::import(file_stem, bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back() {
        for format in Format::ALL {
            assert_eq!(Format::parse(&format.to_string()), Some(format));
        }
        assert_eq!(Format::parse("jsonl"), None);
    }

    #[test]
    fn nothing_and_noise_give_no_records() {
        for format in Format::ALL {
            assert!(import_file(format, "x", b"").iter().all(|s| s.records == 0 && s.losses.is_empty()));
            let noise = import_file(format, "x", b"\xff\xfe{{[\"\0\0\n}}}\n\n");
            assert!(noise.iter().all(|s| s.records == 0));
            assert!(noise.iter().map(|s| s.losses.len()).sum::<usize>() >= 1, "{format}");
        }
    }
}
