//! A file system that asks before every call: the answer may be an error, or come late.

use super::{Backend, File, OpenMode};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is about to be done, and where.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The file or folder; of a renaming the new name.
    pub path: &'a Path,
    /// What.
    pub call: Call<'a>,
}

/// What is about to be done. Locks and lengths are not asked for.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "each is the call of that name")]
pub enum Call<'a> {
    Read,
    Write(Write<'a>),
    Sync,
    SetLen,
    /// Something in a folder: opening, making, listing, renaming, removing, syncing it.
    Names,
}

/// A write that is about to be done.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// The file below.
    pub file: &'a dyn File,
    /// What.
    pub bytes: &'a [u8],
    /// Where.
    pub offset: u64,
}

impl Write<'_> {
    /// Where it ends.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.bytes.len() as u64)
    }

    /// Writes the first `length` bytes of it alone, as a failing disk does it.
    pub fn part(&self, length: usize) {
        if let Some(part) = self.bytes.get(..length) {
            let _ = self.file.write_at(part, self.offset);
        }
    }
}

type Hook = Arc<dyn Fn(Request<'_>) -> io::Result<()> + Send + Sync>;

/// See the module.
#[derive(Clone)]
pub struct Hooked {
    inner: Arc<dyn Backend>,
    hook: Hook,
}

impl Hooked {
    /// The files of `inner`. What `hook` answers with an error is not done.
    pub fn new(
        inner: Arc<dyn Backend>,
        hook: impl Fn(Request<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Hooked { inner, hook: Arc::new(hook) }
    }

    fn ask(&self, path: &Path) -> io::Result<()> {
        (self.hook)(Request { path, call: Call::Names })
    }
}

impl fmt::Debug for Hooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hooked({:?})", self.inner)
    }
}

impl Backend for Hooked {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        self.ask(path)?;
        let inner = self.inner.open(path, mode)?;
        Ok(Arc::new(HookedFile { inner, hook: self.hook.clone(), path: path.to_owned() }))
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.ask(path)?;
        self.inner.create_dir_all(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.ask(path)?;
        self.inner.list(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ask(to)?;
        self.inner.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.ask(path)?;
        self.inner.remove_file(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.ask(path)?;
        self.inner.sync_dir(path)
    }
    fn real_path(&self, path: &Path) -> Option<PathBuf> {
        self.inner.real_path(path)
    }
}

struct HookedFile {
    inner: Arc<dyn File>,
    hook: Hook,
    path: PathBuf,
}

impl HookedFile {
    fn ask(&self, call: Call<'_>) -> io::Result<()> {
        (self.hook)(Request { path: &self.path, call })
    }
}

impl fmt::Debug for HookedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HookedFile({})", self.path.display())
    }
}

impl File for HookedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.ask(Call::Read)?;
        self.inner.read_at(buffer, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.ask(Call::Write(Write { file: self.inner.as_ref(), bytes, offset }))?;
        self.inner.write_at(bytes, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.ask(Call::Sync)?;
        self.inner.sync_data()
    }
    fn set_len(&self, length: u64) -> io::Result<()> {
        self.ask(Call::SetLen)?;
        self.inner.set_len(length)
    }
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.inner.try_lock()
    }
    fn unlock(&self) -> io::Result<()> {
        self.inner.unlock()
    }
    fn is_locked_elsewhere(&self) -> io::Result<bool> {
        self.inner.is_locked_elsewhere()
    }
}
