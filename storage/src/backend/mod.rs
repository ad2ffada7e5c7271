//! File operations behind a trait: real files, files in memory that lose power on command, and files that
//! fail now and then.

mod faulty;
mod hooked;
mod memory;
mod real;

pub use faulty::{FaultCounts, FaultRates, Faults, MILLION, faulty};
pub use hooked::{Call, Hooked, Request, Write};
pub use memory::{CrashMode, DirectoryRule, Fault, FaultClass, MemoryBackend, Operation, OperationKind};
pub use real::RealBackend;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenMode {
    /// It must exist; reading only.
    Read,
    /// It must exist; reading and writing.
    Write,
    /// It must not exist; reading and writing, mode 0600.
    CreateNew,
    /// It may exist; reading and writing, mode 0600, content kept.
    CreateOrOpen,
}

/// An open file. All positions are explicit; a handle may be used from several threads.
#[expect(clippy::len_without_is_empty, reason = "a length that has to be asked from the disk")]
pub trait File: Send + Sync + std::fmt::Debug {
    /// Reads at `offset` until `buffer` is full or the file ends; returns how many bytes were read.
    ///
    /// # Errors
    /// The operating system's.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`; a gap before them reads as zeros.
    ///
    /// # Errors
    /// The operating system's; part of the bytes may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// `fdatasync`: content and length survive a power cut after this returned. The file's name does
    /// only after [`Backend::sync_dir`] of its directory.
    ///
    /// # Errors
    /// The operating system's, an interruption included. What was written before may then be lost,
    /// whatever a retry says.
    fn sync_data(&self) -> io::Result<()>;

    /// Cuts or extends the file.
    ///
    /// # Errors
    /// The operating system's.
    fn set_len(&self, length: u64) -> io::Result<()>;

    /// The file's length.
    ///
    /// # Errors
    /// The operating system's.
    fn len(&self) -> io::Result<u64>;

    /// Takes the exclusive advisory lock of the file, without waiting; `false` when another handle has
    /// it, `true` also when this one already does. Dropping the last clone of the handle releases it.
    ///
    /// # Errors
    /// The operating system's.
    fn try_lock(&self) -> io::Result<bool>;

    /// Gives the lock back; fine when this handle does not hold it.
    ///
    /// # Errors
    /// The operating system's.
    fn unlock(&self) -> io::Result<()>;

    /// Whether some other open handle holds the exclusive lock right now.
    ///
    /// # Errors
    /// The operating system's.
    fn is_locked_elsewhere(&self) -> io::Result<bool>;
}

/// The file system a journal lives on.
pub trait Backend: Send + Sync + std::fmt::Debug {
    /// Opens a regular file; a symbolic link in its place is not followed.
    ///
    /// # Errors
    /// The operating system's.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;

    /// Creates a directory (mode 0700) and its parents; fine when it exists. Nothing is synced: each new
    /// name survives a power cut only after [`Backend::sync_dir`] of the directory it is in.
    ///
    /// # Errors
    /// The operating system's.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, in no order; those that are not UTF-8 are left out.
    ///
    /// # Errors
    /// The operating system's.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Renames a file, replacing the target: atomic, but durable only after [`Backend::sync_dir`] of the
    /// target's directory.
    ///
    /// # Errors
    /// The operating system's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// The operating system's.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// `fsync` of a directory: the names in it survive a power cut after this returned.
    ///
    /// # Errors
    /// The operating system's.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Where this path really lies on disk, for parts that need real files (sled); `None` in memory.
    fn real_path(&self, path: &Path) -> Option<PathBuf>;
}
