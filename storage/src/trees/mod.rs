//! Trees: projections of the record that say where to look. Deleting them changes no answer.
//!
//! Sequences are grouped in chunks of 4096: chunk `c` holds `c * 4096 + 1 ..= (c + 1) * 4096`. For each chunk and each
//! [`Kind`] of value there is a sorted dictionary from value to the places it occurs at. Whatever a dictionary says is
//! checked again on the event itself, so it may say too much, never too little. Complete chunks are kept in sled; the
//! chunk in progress is in memory only.

mod bits;
mod chunk;
mod index;
mod indexer;
mod meta;
mod rows;
mod store;
#[cfg(test)]
mod tests;

pub use bits::Bits;
pub use chunk::ChunkPostings;
pub use index::{Index, chunk_first, chunk_of, offset_of};
pub use indexer::{IndexCore, Progress};
pub use meta::{ChunkMeta, TimeSpans};
pub use store::{Cursor, Trees};

use uuid::Uuid;

/// How many kinds of values are indexed.
pub const KINDS: usize = 13;

/// Longest value in a dictionary, in bytes; longer ones are cut.
pub const VALUE_BYTES_MAX: usize = 200;
/// How much of a longer value stays as it is; a checksum of the rest follows.
pub const VALUE_HEAD_BYTES: usize = VALUE_BYTES_MAX - 4;

/// What is indexed. The numbers are part of the keys in sled and are never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Type code, big-endian, so that a category is a prefix of three bytes.
    Type = 1,
    /// The host's own kind of event.
    Name = 2,
    /// Agent.
    Agent = 3,
    /// Stream, the default one included.
    Stream = 4,
    /// Session.
    Session = 5,
    /// Path, searched by prefix.
    Path = 6,
    /// Transaction.
    Transaction = 7,
    /// Tag.
    Tag = 8,
    /// Priority number, big-endian.
    Priority = 9,
    /// Source, `user` included.
    Source = 10,
    /// Fingerprint of a cause's id: parent, root, or cause of a link; leads to the event that names it.
    Cause = 11,
    /// Fingerprint of the id of a link's explicit effect; leads to the event that carries the link.
    Effect = 12,
    /// Fingerprint of an id that the caller gave.
    Id = 13,
}

impl Kind {
    /// All kinds in the order of their numbers.
    pub const ALL: [Self; KINDS] = [
        Self::Type,
        Self::Name,
        Self::Agent,
        Self::Stream,
        Self::Session,
        Self::Path,
        Self::Transaction,
        Self::Tag,
        Self::Priority,
        Self::Source,
        Self::Cause,
        Self::Effect,
        Self::Id,
    ];

    /// The kind's place in [`Kind::ALL`].
    pub(crate) const fn index(self) -> usize {
        self as usize - 1
    }
}

/// What a look-up asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// This value.
    Exact(Vec<u8>),
    /// Every value that starts with these bytes.
    Prefix(Vec<u8>),
}

impl Wanted {
    /// The value or prefix as a dictionary holds it, and whether it is a prefix.
    pub(crate) fn target(&self) -> (std::borrow::Cow<'_, [u8]>, bool) {
        match self {
            Wanted::Exact(value) => (cut(value), false),
            // Beyond the head a long value holds its checksum instead of its bytes.
            Wanted::Prefix(prefix) => (prefix.get(..VALUE_HEAD_BYTES).unwrap_or(prefix).into(), true),
        }
    }
}

/// A value as a dictionary holds it: itself, or its head and a checksum of the rest.
pub(crate) fn cut(value: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    match value.split_at_checked(VALUE_HEAD_BYTES) {
        Some((head, rest)) if value.len() > VALUE_BYTES_MAX => {
            [head, &crc32fast::hash(rest).to_be_bytes()].concat().into()
        }
        _ => value.into(),
    }
}

/// What an id is found by.
pub fn fingerprint(id: &Uuid) -> [u8; 4] {
    crc32fast::hash(id.as_bytes()).to_be_bytes()
}

/// One chunk as a look-up sees it, wherever it is kept.
pub trait ChunkView {
    /// What is known of the chunk as a whole.
    fn meta(&self) -> &ChunkMeta;

    /// Adds to `into` every place where a wanted value may occur.
    ///
    /// # Errors
    /// When the dictionary cannot be trusted.
    fn lookup(&self, kind: Kind, wanted: &Wanted, into: &mut Bits) -> Result<(), TreeError>;
}

/// The trees cannot be used: the caller sets them aside, goes on by scanning and rebuilds.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// sled answered with an error; its handle is finished.
    #[error("sled: {action}: {source}")]
    Sled {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: sled::Error,
    },
    /// sled panicked.
    #[error("sled panicked: {action}: {message}")]
    Panicked {
        /// What was tried.
        action: &'static str,
        /// The panic's message.
        message: String,
    },
    /// A call did not return, and its thread was left behind.
    #[error("sled does not answer")]
    Hung,
    /// A row is missing or is not what was written.
    #[error("chunk {chunk}, kind {kind}: {reason}")]
    Damaged {
        /// Which chunk.
        chunk: u64,
        /// Which kind of row; 0: the chunk as a whole, 255: the cursor.
        kind: u8,
        /// What is wrong.
        reason: &'static str,
    },
    /// The trees belong to another state of the record.
    #[error("trees do not belong to this record: {reason}")]
    Stale {
        /// How one knows.
        reason: &'static str,
    },
    /// A row is too long; nothing was written.
    #[error("tree row of {actual} bytes, the limit is {limit}")]
    TooLong {
        /// Its length, key or value.
        actual: usize,
        /// What it may be at most.
        limit: usize,
    },
    /// The folder holds what must not be there, such as sled's files of large values, or cannot be moved.
    #[error("{}: {reason}", path.display())]
    Folder {
        /// Which folder.
        path: std::path::PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}
