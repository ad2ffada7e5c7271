//! Faults that a test arms: which operation fails, how often, with what, and what it leaves behind.

use rustix::io::Errno;
use std::io;
use std::path::Path;

/// What can fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultClass {
    /// Writing to a file.
    Write,
    /// `sync_data` of a file.
    Sync,
    /// Reading a file, and listing a directory.
    Read,
    /// `set_len` of a file.
    Truncate,
    /// Opening and creating files, and creating directories.
    Open,
    /// Renaming a file.
    Rename,
    /// Removing a file.
    Remove,
    /// `sync_dir` of a directory.
    SyncDir,
    /// `Open`, `Rename`, `Remove` and `SyncDir`.
    Meta,
    /// Everything but reads.
    Any,
}

impl FaultClass {
    /// Whether a fault of this class may hit an operation of class `of`, which is never `Meta` or `Any`.
    fn covers(self, of: FaultClass) -> bool {
        use FaultClass::{Any, Meta, Open, Read, Remove, Rename, SyncDir};
        match self {
            Any => of != Read,
            Meta => matches!(of, Open | Rename | Remove | SyncDir),
            class => class == of,
        }
    }
}

/// A fault to be armed with `MemoryBackend::fail`.
///
/// ```
/// use semj_storage::backend::{Fault, FaultClass};
/// // The second sync from now on fails as Linux fails it: what it should have written is never written.
/// let lost = Fault::on(FaultClass::Sync).nth(2).forget();
/// // The disk is full for the next three writes to segments; half of each is taken.
/// let full = Fault::on(FaultClass::Write).times(3).full().short().path("segments/");
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    pub(super) class: FaultClass,
    nth: u64,
    times: u64,
    errno: i32,
    path: Option<String>,
    pub(super) short: bool,
    pub(super) forget: bool,
}

impl Fault {
    /// The next operation of a class fails once, with EIO.
    pub fn on(class: FaultClass) -> Self {
        let errno = Errno::IO.raw_os_error();
        Self { class, nth: 1, times: 1, errno, path: None, short: false, forget: false }
    }

    /// The `nth` matching operation from now on is the first to fail; 1 is the next one.
    #[must_use]
    pub fn nth(self, nth: u64) -> Self {
        Self { nth: nth.max(1), ..self }
    }

    /// How many matching operations in a row fail.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }

    /// It goes on failing until the faults are cleared.
    #[must_use]
    pub fn forever(self) -> Self {
        self.times(u64::MAX)
    }

    /// The error number to fail with.
    #[must_use]
    pub fn errno(self, errno: i32) -> Self {
        Self { errno, ..self }
    }

    /// Fails with ENOSPC.
    #[must_use]
    pub fn full(self) -> Self {
        self.errno(Errno::NOSPC.raw_os_error())
    }

    /// Only for paths that contain this text.
    #[must_use]
    pub fn path(self, text: impl Into<String>) -> Self {
        Self { path: Some(text.into()), ..self }
    }

    /// A failing write takes the first half of its bytes; a failing read gives the first half.
    #[must_use]
    pub fn short(self) -> Self {
        Self { short: true, ..self }
    }

    /// A failing sync loses what it should have written: it stays readable, counts as clean, and no
    /// later sync brings it to the disk, as in Linux.
    #[must_use]
    pub fn forget(self) -> Self {
        Self { forget: true, ..self }
    }

    pub(super) fn error(&self) -> io::Error {
        io::Error::from_raw_os_error(self.errno)
    }

    /// Counts an operation; says whether it fails.
    fn strikes(&mut self, class: FaultClass, path: &Path) -> bool {
        let here = self.path.as_ref().is_none_or(|text| path.to_string_lossy().contains(text.as_str()));
        if !here || !self.class.covers(class) || self.times == 0 {
            return false;
        }
        if self.nth > 1 {
            self.nth -= 1;
            return false;
        }
        self.times -= 1;
        true
    }
}

/// The armed faults, and how many struck.
#[derive(Debug, Default)]
pub(super) struct Faults {
    armed: Vec<Fault>,
    pub(super) struck: u64,
}

impl Faults {
    pub(super) fn arm(&mut self, fault: Fault) {
        self.armed.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.armed.clear();
    }

    /// The fault that hits this operation. Every armed fault counts the operation; the oldest wins.
    pub(super) fn strike(&mut self, class: FaultClass, path: &Path) -> Option<Fault> {
        let mut hit = None;
        for fault in &mut self.armed {
            if fault.strikes(class, path) && hit.is_none() {
                hit = Some(fault.clone());
            }
        }
        self.struck += u64::from(hit.is_some());
        hit
    }
}
