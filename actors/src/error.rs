//! Why an emission was refused and why a wait ended without the event being durable.

use semj_storage::error::ErrorKind;
use semj_storage::event::{Cause, Event, LimitExceeded};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;
use uuid::Uuid;

/// What poisoned a journal: shared by all who ask.
#[derive(Clone, Debug)]
pub struct PoisonCause(pub Arc<str>);

impl fmt::Display for PoisonCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a stage's core could not do. Its actor crashes with it and is restarted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct StageError(pub String);

/// An emission that was refused: nothing changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmitError {
    /// The ledger is full for the moment. The event comes back; retry, or use a call that waits.
    #[error(
        "the journal holds as many uncommitted events as it may; retry, or emit with a call that waits for room"
    )]
    Full(Box<Event<'static>>),
    /// The disk is full. The event comes back; emission works again when there is room.
    #[error("the disk is full; emission works again when there is room")]
    StorageFull(Box<Event<'static>>),
    /// A value over its limit.
    #[error("{0}")]
    Limit(#[from] LimitExceeded),
    /// The id is known, with other content.
    #[error("id {id} is already event {sequence}, with other content")]
    Conflict {
        /// The id.
        id: Uuid,
        /// The event that has it.
        sequence: u64,
    },
    /// Some of a group's ids are known and some are not, or they are not one group.
    #[error("some ids of the group are known and some are not: it is neither new nor a repetition")]
    GroupConflict,
    /// The stream is not where the caller expected it.
    #[error("stream {stream:?} holds {actual} events, expected {expected}")]
    Position {
        /// The stream.
        stream: String,
        /// What the caller expected.
        expected: u64,
        /// How many there are.
        actual: u64,
    },
    /// A cause that does not come before the event.
    #[error("cause {cause:?} does not come before the event, which would be {sequence}")]
    Cycle {
        /// The cause.
        cause: Cause,
        /// The sequence the event would have had.
        sequence: u64,
    },
    /// The record could not be read to tell a known id or a stream's position. Nothing was admitted.
    #[error("the record cannot be read to admit the event: {0}; emit it again")]
    Unreadable(Arc<str>),
    /// The journal refuses writes until it is opened again.
    #[error("the journal is poisoned: {0}; open it again to go on")]
    Poisoned(PoisonCause),
    /// The journal was closed.
    #[error("the journal is closed")]
    Closed,
    /// This process is a fork of the one that opened the journal.
    #[error(
        "the journal was opened by process {owner}, this is its fork {this}; open it in the process that uses it"
    )]
    Forked {
        /// The process that opened it.
        owner: u32,
        /// This process.
        this: u32,
    },
}

impl EmitError {
    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        match self {
            EmitError::Full(_) | EmitError::StorageFull(_) => ErrorKind::Full,
            EmitError::Limit(_) => ErrorKind::Limit,
            EmitError::Conflict { .. } | EmitError::GroupConflict => ErrorKind::Conflict,
            EmitError::Position { .. } => ErrorKind::Position,
            EmitError::Cycle { .. } => ErrorKind::Cycle,
            EmitError::Unreadable(_) => ErrorKind::Unreadable,
            EmitError::Poisoned(_) => ErrorKind::Poisoned,
            EmitError::Closed | EmitError::Forked { .. } => ErrorKind::Closed,
        }
    }

    /// The JSON key to blame, where one is.
    pub fn key(&self) -> Option<&'static str> {
        match self {
            EmitError::Limit(limit) => Some(limit.key),
            EmitError::Conflict { .. } | EmitError::GroupConflict => Some("id"),
            EmitError::Position { .. } => Some("expect"),
            EmitError::Cycle { .. } => Some("parent"),
            _ => None,
        }
    }

    /// Whether the same emission may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, EmitError::Full(_) | EmitError::StorageFull(_) | EmitError::Unreadable(_))
    }
}

/// A wait that ended without the event being durable.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The journal was poisoned first; the event may or may not be there after reopening.
    #[error("the journal is poisoned: {0}; whether the event was kept shows after reopening")]
    Poisoned(PoisonCause),
    /// The disk is full. The event stays admitted: wait again.
    #[error("the disk is full; the event stays admitted, wait again when there is room")]
    StorageFull,
    /// The time is over. The event stays admitted: wait again.
    #[error("not durable within the time given; the event stays admitted, wait again")]
    Timeout,
    /// A write or sync of the record does not return. The event stays admitted: wait again.
    #[error(
        "the disk has not answered for {:.1} s; the event stays admitted, wait again",
        since.elapsed().as_secs_f64()
    )]
    Stalled {
        /// Since when.
        since: Instant,
    },
    /// The event crashed the engine again and again: it is set aside in quarantine, and a tombstone has its place.
    #[error("event {sequence} is refused, its bytes are in quarantine: it crashed the engine: {reason}")]
    Refused {
        /// The event, or the last of its group.
        sequence: u64,
        /// The last words of the crash.
        reason: Arc<str>,
    },
    /// The journal was closed before it was durable.
    #[error("the journal was closed before the event was durable")]
    Closed,
    /// Closing did not manage everything in its time.
    #[error(transparent)]
    Unfinished(Unfinished),
}

/// What closing did not manage in its time.
#[derive(Clone, Debug, thiserror::Error)]
#[error("closed, but not everything was done in time:{}", self.what())]
pub struct Unfinished {
    /// First and last event that was admitted and is not durable.
    pub not_durable: Option<(u64, u64)>,
    /// Why they are not durable.
    pub cause: Option<Box<CommitError>>,
    /// Threads that did not end. Their journal stays locked until the process ends.
    pub left_behind: Vec<&'static str>,
}

impl Unfinished {
    fn what(&self) -> String {
        let mut what = String::new();
        if let Some((first, last)) = self.not_durable {
            what += &format!(" events {first} to {last} are not durable");
        }
        if let Some(cause) = &self.cause {
            what += &format!(" ({cause})");
        }
        if !self.left_behind.is_empty() {
            what += &format!(" threads that did not end: {}", self.left_behind.join(", "));
        }
        what
    }
}

impl CommitError {
    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        match self {
            CommitError::Poisoned(_) => ErrorKind::Poisoned,
            CommitError::StorageFull => ErrorKind::Full,
            CommitError::Timeout | CommitError::Stalled { .. } => ErrorKind::Stalled,
            CommitError::Refused { .. } => ErrorKind::Refused,
            CommitError::Closed => ErrorKind::Closed,
            CommitError::Unfinished(unfinished) => {
                unfinished.cause.as_ref().map_or(ErrorKind::Stalled, |cause| cause.kind())
            }
        }
    }

    /// Whether waiting again may succeed.
    pub fn is_retryable(&self) -> bool {
        matches!(self, CommitError::StorageFull | CommitError::Timeout | CommitError::Stalled { .. })
    }
}
