//! Content too large for an event, kept beside the record in files named by their SHA-256.
//!
//! ```text
//! blobs/ab/ab12...   64 hex digits: whole, synced and hashed content
//! blobs/ab/ab12....0 what a put was writing when it was interrupted; never read, removed at open
//! ```
//!
//! Invariants:
//! 1. A file gets its final name only after its content was synced: what has the name is whole.
//! 2. When [`Blobs::put`] returns, the name too survives a power cut, also when the file was there
//!    before: an earlier put may have been interrupted before it synced the directory.
//! 3. Nothing is returned that does not have the hash it was asked by.

use crate::backend::{Backend, File, OpenMode};
use crate::event::BlobRef;
use crate::limits::BLOB_BYTES_MAX;
use crate::plant::{Bug, planted, unless};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Characters of content that a reference shows.
const HEAD_CHARS: usize = 200;
/// Files are compared and hashed in pieces of this size.
const PIECE_BYTES: usize = 64 << 10;
/// Puts of the same content at the same moment.
const RACES_MAX: u32 = 1_000;

/// Keeping or reading a blob failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// There is no such blob.
    #[error("{}: no such blob", path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The file does not hold what its name says.
    #[error("{}: damaged blob: expected {expected}, found {found}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Length or hash that was expected.
        expected: String,
        /// Length or hash that was found.
        found: String,
    },
    /// More than a blob may have.
    #[error("blob of {bytes} bytes, the limit is {BLOB_BYTES_MAX}")]
    TooLarge {
        /// How many it has.
        bytes: u64,
    },
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
    /// A sync failed: nothing that this file system was given lately can be relied on.
    #[error("{}: sync: {source}", path.display())]
    Sync {
        /// Which file or directory.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl BlobError {
    fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| BlobError::Io { path: path.to_owned(), action, source }
    }

    fn sync(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| BlobError::Sync { path: path.to_owned(), source }
    }

    /// Whether the stored content is at fault.
    pub fn is_damage(&self) -> bool {
        matches!(self, BlobError::Missing { .. } | BlobError::Damaged { .. })
    }

    /// Whether the disk had no room: trying again when it has is fine.
    pub fn is_storage_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, BlobError::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }
}

/// Which directories this instance has seen synced in the directory above.
#[derive(Debug, Default)]
struct Synced {
    /// The folder itself.
    folder: bool,
    /// The first bytes of hashes.
    prefixes: BTreeSet<u8>,
}

/// The blobs of one journal.
#[derive(Debug)]
pub struct Blobs {
    backend: Arc<dyn Backend>,
    folder: PathBuf,
    synced: Mutex<Synced>,
}

impl Blobs {
    /// The blobs in a folder, which the first put creates.
    pub fn new(backend: Arc<dyn Backend>, folder: impl Into<PathBuf>) -> Self {
        Self { backend, folder: folder.into(), synced: Mutex::default() }
    }

    /// Keeps content; when this returns, it survives a power cut. Content that is already there is
    /// compared and used; a damaged file is replaced by whole content.
    ///
    /// # Errors
    /// [`BlobError::TooLarge`], [`BlobError::Io`] and [`BlobError::Sync`].
    pub fn put(&self, content: &[u8]) -> Result<BlobRef, BlobError> {
        let bytes = content.len() as u64;
        if bytes > BLOB_BYTES_MAX {
            return Err(BlobError::TooLarge { bytes });
        }
        crate::chaos::point("blobs:begin");
        let sha256: [u8; 32] = Sha256::digest(content).into();
        let path = self.path(&sha256);
        match self.backend.open(&path, OpenMode::Read) {
            Ok(file) if holds(&*file, content).map_err(BlobError::io(&path, "read"))? => {
                // It may have been copied here, and never synced, by somebody else.
                file.sync_data().map_err(BlobError::sync(&path))?;
            }
            Ok(_) => self.write(&path, content)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.write(&path, content)?,
            Err(error) => return Err(BlobError::io(&path, "open")(error)),
        }
        crate::chaos::point("blobs:renamed");
        self.sync_names(&sha256)?;
        crate::chaos::point("blobs:done");
        Ok(BlobRef { sha256, bytes, head: head(content) })
    }

    /// Reads content and proves that it is what the reference names.
    ///
    /// # Errors
    /// [`BlobError::Missing`], [`BlobError::Damaged`] with what was expected and found,
    /// [`BlobError::TooLarge`] and [`BlobError::Io`].
    pub fn get(&self, blob: &BlobRef) -> Result<Vec<u8>, BlobError> {
        let mut content = Vec::new();
        self.read(blob, |piece| {
            content.try_reserve(piece.len())?;
            content.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(content)
    }

    /// As [`Blobs::get`], without keeping the content.
    ///
    /// # Errors
    /// As [`Blobs::get`].
    pub fn verify(&self, blob: &BlobRef) -> Result<(), BlobError> {
        self.read(blob, |_| Ok(()))
    }

    /// Where the content with this hash is, or would be.
    pub fn path(&self, sha256: &[u8; 32]) -> PathBuf {
        self.prefix_folder(sha256).join(hex(sha256))
    }

    /// The hashes of all blobs, sorted.
    ///
    /// # Errors
    /// [`BlobError::Io`].
    pub fn list(&self) -> Result<Vec<[u8; 32]>, BlobError> {
        let mut hashes = Vec::new();
        for folder in self.prefix_folders()? {
            let names = self.backend.list(&folder).map_err(BlobError::io(&folder, "list"))?;
            let here = names.iter().filter_map(|name| unhex(name));
            hashes.extend(here.filter(|sha256| self.prefix_folder(sha256) == folder));
        }
        hashes.sort_unstable();
        Ok(hashes)
    }

    /// Removes what interrupted puts left behind; returns how many files that were. Only for the holder
    /// of the journal's lock, before its first put.
    ///
    /// # Errors
    /// [`BlobError::Io`].
    pub fn remove_leftovers(&self) -> Result<usize, BlobError> {
        let mut removed = 0;
        for folder in self.prefix_folders()? {
            let names = self.backend.list(&folder).map_err(BlobError::io(&folder, "list"))?;
            let temporary =
                |name: &&String| name.get(..64).is_some_and(|n| unhex(n).is_some()) && name.len() > 64;
            for name in names.iter().filter(temporary) {
                let path = folder.join(name);
                self.backend.remove_file(&path).map_err(BlobError::io(&path, "remove"))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn prefix_folder(&self, sha256: &[u8; 32]) -> PathBuf {
        self.folder.join(hex(sha256.get(..1).unwrap_or_default()))
    }

    fn prefix_folders(&self) -> Result<Vec<PathBuf>, BlobError> {
        let names = match self.backend.list(&self.folder) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(BlobError::io(&self.folder, "list")(error)),
        };
        let ours = |name: &String| name.len() == 2 && name.bytes().all(|b| b.is_ascii_hexdigit());
        Ok(names.into_iter().filter(ours).map(|name| self.folder.join(name)).collect())
    }

    /// Writes content under a name of its own, syncs it, and only then gives it the final name.
    fn write(&self, path: &Path, content: &[u8]) -> Result<(), BlobError> {
        let folder = path.parent().unwrap_or(&self.folder);
        self.backend.create_dir_all(folder).map_err(BlobError::io(folder, "create"))?;
        let (temporary, file) = self.create_temporary(path)?;
        let written = file
            .write_at(content, 0)
            .map_err(BlobError::io(&temporary, "write"))
            .inspect(|()| crate::chaos::point("blobs:written"))
            .and_then(|()| {
                unless(Bug::SkipBlobSync, || file.sync_data()).map_err(BlobError::sync(&temporary))
            })
            .inspect(|()| crate::chaos::point("blobs:synced"))
            .and_then(|()| self.backend.rename(&temporary, path).map_err(BlobError::io(path, "rename")));
        if written.is_err() {
            // If this fails too, the file stays until `remove_leftovers`: the first error matters more.
            let _ = self.backend.remove_file(&temporary);
        }
        written
    }

    fn create_temporary(&self, path: &Path) -> Result<(PathBuf, Arc<dyn File>), BlobError> {
        let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
        for number in 0..RACES_MAX {
            let temporary = path.with_extension(number.to_string());
            match self.backend.open(&temporary, OpenMode::CreateNew) {
                Ok(file) => return Ok((temporary, file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
                Err(error) => return Err(BlobError::io(&temporary, "create")(error)),
            }
        }
        Err(BlobError::io(path, "create")(last))
    }

    /// Makes the name of a blob durable, and once per instance the names of the folders above it.
    fn sync_names(&self, sha256: &[u8; 32]) -> Result<(), BlobError> {
        let sync = |folder: &Path| self.backend.sync_dir(folder).map_err(BlobError::sync(folder));
        sync(&self.prefix_folder(sha256))?;
        let prefix = sha256.first().copied().unwrap_or_default();
        // Noted only after the sync returned, so that a failed one is done again.
        if !self.synced.lock().prefixes.contains(&prefix) {
            sync(&self.folder)?;
            self.synced.lock().prefixes.insert(prefix);
        }
        if !self.synced.lock().folder {
            sync(self.folder.parent().unwrap_or(Path::new("")))?;
            self.synced.lock().folder = true;
        }
        Ok(())
    }

    /// Reads a blob piece by piece. The length is compared first, so that a reference or a file that
    /// lies about it costs nothing.
    fn read(
        &self,
        blob: &BlobRef,
        mut each: impl FnMut(&[u8]) -> Result<(), std::collections::TryReserveError>,
    ) -> Result<(), BlobError> {
        let path = self.path(&blob.sha256);
        let file = self.backend.open(&path, OpenMode::Read).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => BlobError::Missing { path: path.clone() },
            _ => BlobError::io(&path, "open")(error),
        })?;
        let length = file.len().map_err(BlobError::io(&path, "length"))?;
        let damaged = |expected, found| BlobError::Damaged { path: path.clone(), expected, found };
        let length_differs = |found| damaged(format!("{} bytes", blob.bytes), format!("{found} bytes"));
        if length != blob.bytes {
            return Err(length_differs(length));
        }
        if length > BLOB_BYTES_MAX {
            return Err(BlobError::TooLarge { bytes: length });
        }
        let mut hash = Sha256::new();
        let found = pieces(&*file, length, |piece| {
            hash.update(piece);
            each(piece).map(|()| true).map_err(|_| io::ErrorKind::OutOfMemory.into())
        })
        .map_err(BlobError::io(&path, "read"))?;
        if found != length {
            return Err(length_differs(found));
        }
        let found: [u8; 32] = hash.finalize().into();
        if found != blob.sha256 && !planted(Bug::SkipBlobHash) {
            return Err(damaged(hex(&blob.sha256), hex(&found)));
        }
        Ok(())
    }
}

/// Hands out a file's first `length` bytes piece by piece while `each` says so; returns how many.
fn pieces(file: &dyn File, length: u64, mut each: impl FnMut(&[u8]) -> io::Result<bool>) -> io::Result<u64> {
    let mut buffer = vec![0; PIECE_BYTES.min(usize::try_from(length).unwrap_or(PIECE_BYTES))];
    let mut total = 0;
    while total < length {
        let wanted = buffer.len().min(usize::try_from(length - total).unwrap_or(buffer.len()));
        let piece = buffer.get_mut(..wanted).unwrap_or_default();
        let count = file.read_at(piece, total)?;
        total += count as u64;
        if count == 0 || !each(piece.get(..count).unwrap_or_default())? {
            break;
        }
    }
    Ok(total)
}

/// Whether a file holds exactly this.
fn holds(file: &dyn File, content: &[u8]) -> io::Result<bool> {
    if file.len()? != content.len() as u64 {
        return Ok(false);
    }
    let mut rest = content;
    pieces(file, content.len() as u64, |piece| {
        let equal = rest.strip_prefix(piece);
        rest = equal.unwrap_or(rest);
        Ok(equal.is_some())
    })?;
    Ok(rest.is_empty())
}

/// The first characters, whatever they are; what is no UTF-8 becomes U+FFFD.
fn head(content: &[u8]) -> String {
    // A character takes at most four bytes, and what is no UTF-8 takes no more per U+FFFD.
    let start = content.get(..HEAD_CHARS * 4).unwrap_or(content);
    String::from_utf8_lossy(start).chars().take(HEAD_CHARS).collect()
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xF)]).collect()
}

/// Exactly 64 lower-case digits: any other spelling is not a name of ours.
fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut bytes = [0; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests;
