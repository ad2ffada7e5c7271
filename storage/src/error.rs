//! Errors of reading and writing the record. Texts say what, where, expected and found.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A stretch of the record that cannot be trusted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}: damage at byte {offset} ({length} bytes), {}: {reason}", segment.display(), sequences(*first_sequence, *last_sequence))]
pub struct Damage {
    /// The segment file.
    pub segment: PathBuf,
    /// Where the untrusted bytes start.
    pub offset: u64,
    /// How many bytes cannot be trusted.
    pub length: u64,
    /// First event that is lost with them; 0 where no event is affected.
    pub first_sequence: u64,
    /// Last event that is lost with them; 0 where no event is affected.
    pub last_sequence: u64,
    /// What is wrong, with what was expected and found.
    pub reason: String,
}

fn sequences(first: u64, last: u64) -> String {
    match (first, last) {
        (0, _) => "no event affected".into(),
        (a, b) if a == b => format!("event {a}"),
        (a, b) => format!("events {a} to {b}"),
    }
}

/// Reading the record failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The bytes are not what was written.
    #[error("{0}")]
    Damaged(Box<Damage>),
    /// The operating system refused.
    #[error("{}: {action}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// Written by a newer version.
    #[error("{}: format version {found}, this program reads up to {supported}; use a newer semj", path.display())]
    NewerFormat {
        /// Which file.
        path: PathBuf,
        /// The version found.
        found: u32,
        /// The newest version this program reads.
        supported: u32,
    },
    /// There is no journal here.
    #[error("{}: {reason}", path.display())]
    NotAJournal {
        /// Which folder.
        path: PathBuf,
        /// What is missing or in the way.
        reason: String,
    },
    /// The events were removed by retention.
    #[error("events up to {horizon} were removed by retention")]
    Retained {
        /// The last event removed.
        horizon: u64,
    },
}

impl ReadError {
    /// An I/O error with its place.
    pub fn io(path: &Path, action: &'static str, source: io::Error) -> Self {
        ReadError::Io { path: path.to_owned(), action, source }
    }

    /// Whether the record itself is at fault.
    pub fn is_damage(&self) -> bool {
        matches!(self, ReadError::Damaged(_))
    }
}

impl From<Damage> for ReadError {
    fn from(damage: Damage) -> Self {
        ReadError::Damaged(Box::new(damage))
    }
}

/// What kind of thing went wrong, in one stable word.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Input is not JSON.
    Syntax,
    /// Input has a key that no event has.
    UnknownKey,
    /// Input has a value of the wrong type or out of range.
    BadValue,
    /// A value is over its limit.
    Limit,
    /// An id is known with other content.
    Conflict,
    /// A stream is not where it was expected.
    Position,
    /// A cause does not come before its effect.
    Cycle,
    /// No room: in the ledger, or on the disk.
    Full,
    /// The journal refuses writes until it is opened again.
    Poisoned,
    /// There is no journal.
    Missing,
    /// Another owner has it.
    Locked,
    /// The record is damaged.
    Damaged,
    /// Not done in the time given; try again.
    Stalled,
    /// The event crashed the engine again and again and was set aside.
    Refused,
    /// The journal was closed.
    Closed,
    /// The disk or the system refused, or the format is not ours.
    Unreadable,
}

impl ErrorKind {
    /// The word.
    pub const fn name(self) -> &'static str {
        match self {
            ErrorKind::Syntax => "syntax",
            ErrorKind::UnknownKey => "unknown_key",
            ErrorKind::BadValue => "bad_value",
            ErrorKind::Limit => "limit",
            ErrorKind::Conflict => "conflict",
            ErrorKind::Position => "position",
            ErrorKind::Cycle => "cycle",
            ErrorKind::Full => "full",
            ErrorKind::Poisoned => "poisoned",
            ErrorKind::Missing => "missing",
            ErrorKind::Locked => "locked",
            ErrorKind::Damaged => "damaged",
            ErrorKind::Stalled => "stalled",
            ErrorKind::Refused => "refused",
            ErrorKind::Closed => "closed",
            ErrorKind::Unreadable => "unreadable",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ReadError {
    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ReadError::Damaged(_) => ErrorKind::Damaged,
            ReadError::NotAJournal { .. }
            | ReadError::NewerFormat { .. }
            | ReadError::Io { .. }
            | ReadError::Retained { .. } => ErrorKind::Unreadable,
        }
    }
}
