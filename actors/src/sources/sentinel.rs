//! A file made and removed so that its event tells: everything before it has been read.

use super::{Barrier, NotSupported};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Makes and removes files of known names in a folder of its own.
#[derive(Debug)]
pub(super) struct Sentinel {
    folder: PathBuf,
    prefix: String,
    last: u64,
}

impl Sentinel {
    /// A new folder, empty and private, in the first of `places` that takes one.
    pub(super) fn new(places: &[PathBuf]) -> io::Result<Self> {
        let prefix = format!("semj-barrier-{}-", uuid::Uuid::new_v4().simple());
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for place in places {
            let folder = place.join(prefix.trim_end_matches('-'));
            match fs::create_dir(&folder) {
                Ok(()) => return Ok(Sentinel { folder, prefix, last: 0 }),
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes the next file, removes it, and says its name.
    pub(super) fn touch(&mut self) -> io::Result<String> {
        self.last += 1;
        let name = format!("{}{}", self.prefix, self.last);
        let path = self.folder.join(&name);
        fs::File::create_new(&path)?;
        fs::remove_file(&path)?;
        Ok(name)
    }

    /// The point that is passed when the next file's end has been told.
    pub(super) fn barrier(&mut self) -> Result<Barrier, NotSupported> {
        let name = self.touch().map_err(|_| NotSupported)?;
        self.number_of(name.as_bytes()).map(Barrier).ok_or(NotSupported)
    }

    /// Whether a name is the folder's or one of its files'.
    pub(super) fn is_own(&self, name: &[u8]) -> bool {
        name.starts_with(self.prefix.trim_end_matches('-').as_bytes())
    }

    /// The number of the file with this name, if it is one of this sentinel's.
    pub(super) fn number_of(&self, name: &[u8]) -> Option<u64> {
        std::str::from_utf8(name.strip_prefix(self.prefix.as_bytes())?).ok()?.parse().ok()
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}
