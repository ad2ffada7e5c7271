//! One error for those who do not care which call failed.

use semj_actors::{CommitError, EmitError, OpenError};
use semj_storage::blobs::BlobError;
use semj_storage::error::{ErrorKind, ReadError};
use std::path::PathBuf;

/// Anything that can go wrong. Each call has its own, narrower error; all convert into this one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Opening failed.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// An event was refused.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// A wait ended without the event being durable.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// Reading failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Content beside the journal could not be kept or read.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// There is no such event.
    #[error("there is no event {0}")]
    NoSuchEvent(String),
    /// A setting is wrong.
    #[error("{}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Which setting, what was expected and what was found.
        reason: String,
    },
}

impl Error {
    /// The kind, in one stable word.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Open(e) => e.kind(),
            Error::Emit(e) => e.kind(),
            Error::Commit(e) => e.kind(),
            Error::Read(e) => e.kind(),
            Error::Blob(e) if e.is_damage() => ErrorKind::Damaged,
            Error::Blob(e) if e.is_storage_full() => ErrorKind::Full,
            Error::Blob(_) => ErrorKind::Unreadable,
            Error::NoSuchEvent(_) => ErrorKind::Missing,
            Error::Config { .. } => ErrorKind::BadValue,
        }
    }

    /// The JSON key to blame, where one is.
    pub fn key(&self) -> Option<&str> {
        match self {
            Error::Emit(e) => e.key(),
            _ => None,
        }
    }
}
