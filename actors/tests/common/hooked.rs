//! A file system that asks before every call: the answer may be an error, or come late.
#![allow(dead_code, unreachable_pub, reason = "every test binary uses its own part of it")]

use semj_storage::backend::{Backend, File, OpenMode};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is about to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    Read,
    Write,
    Sync,
    SetLen,
    Names,
}

type Hook = Arc<dyn Fn(Call, &Path) -> io::Result<()> + Send + Sync>;

/// See the module.
#[derive(Clone)]
pub struct Hooked {
    inner: Arc<dyn Backend>,
    hook: Hook,
}

impl Hooked {
    pub fn new(
        inner: Arc<dyn Backend>,
        hook: impl Fn(Call, &Path) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Hooked { inner, hook: Arc::new(hook) }
    }
}

impl fmt::Debug for Hooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hooked({:?})", self.inner)
    }
}

impl Backend for Hooked {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        (self.hook)(Call::Names, path)?;
        let inner = self.inner.open(path, mode)?;
        Ok(Arc::new(HookedFile { inner, hook: self.hook.clone(), path: path.to_owned() }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        (self.hook)(Call::Names, path)?;
        self.inner.create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        (self.hook)(Call::Names, path)?;
        self.inner.list(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        (self.hook)(Call::Names, to)?;
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        (self.hook)(Call::Names, path)?;
        self.inner.remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        (self.hook)(Call::Names, path)?;
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

impl fmt::Debug for HookedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HookedFile({})", self.path.display())
    }
}

impl File for HookedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        (self.hook)(Call::Read, &self.path)?;
        self.inner.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        (self.hook)(Call::Write, &self.path)?;
        self.inner.write_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        (self.hook)(Call::Sync, &self.path)?;
        self.inner.sync_data()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        (self.hook)(Call::SetLen, &self.path)?;
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
