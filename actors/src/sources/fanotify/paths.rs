//! From handles of folders to paths.
//!
//! What the events themselves tell comes first: a folder that was made, moved or removed while somebody watched is known
//! by its parent and its name, even when it is long gone. Only other folders are asked for, and remembered.

use super::parse::{self, Fid};
use std::collections::HashMap;
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::ffi::OsStringExt as _;

/// Most folders remembered; beyond it all is forgotten and asked for again.
const FOLDERS_MAX: usize = 1 << 20;
/// Deepest path that is followed from parent to parent.
const DEPTH_MAX: usize = 512;

/// The way to a folder.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Way {
    /// Below another folder, as an event told.
    Below(Box<[u8]>, Box<[u8]>),
    /// By its whole path, as the system told.
    At(Vec<u8>),
}

/// What is known of folders.
#[derive(Debug, Default)]
pub(super) struct Paths {
    known: HashMap<Box<[u8]>, Way>,
    /// An open folder of each watched file system, by the file system's id.
    mounts: HashMap<[u8; 8], fs::File>,
}

impl Paths {
    /// Handles of this file system can be asked for from now on.
    pub(super) fn add_mount(&mut self, file_system: [u8; 8], folder: fs::File) {
        self.mounts.entry(file_system).or_insert(folder);
    }

    /// Whether a folder is known without asking.
    pub(super) fn knows(&self, folder: Fid<'_>) -> bool {
        self.known.contains_key(folder)
    }

    /// A folder is there, or is there now.
    pub(super) fn learn(&mut self, folder: Fid<'_>, parent: Fid<'_>, name: &[u8]) {
        if self.known.len() >= FOLDERS_MAX {
            self.known.clear();
        }
        self.known.insert(folder.into(), Way::Below(parent.into(), name.into()));
    }

    /// Events were lost: what was learned may be wrong, and is asked for again.
    pub(super) fn forget(&mut self) {
        self.known.clear();
    }

    /// A folder has moved: whatever was told of a place below its old path lies elsewhere now.
    pub(super) fn moved(&mut self, old: &[u8], new: &[u8]) {
        for way in self.known.values_mut() {
            if let Way::At(path) = way
                && let Some(rest) = path.strip_prefix(old)
                && (rest.is_empty() || rest.starts_with(b"/"))
            {
                *path = [new, rest].concat();
            }
        }
    }

    /// The path of `name` in a folder; `None` when nobody knows the folder any more.
    pub(super) fn path(&mut self, folder: Fid<'_>, name: &[u8]) -> Option<Vec<u8>> {
        let mut names: Vec<Box<[u8]>> = Vec::new();
        if name != b"." {
            names.push(name.into());
        }
        let mut folder: Box<[u8]> = folder.into();
        for _ in 0..DEPTH_MAX {
            if !self.known.contains_key(&folder) {
                let path = self.ask(&folder)?;
                self.known.insert(folder.clone(), Way::At(path));
            }
            match self.known.get(&folder)? {
                Way::Below(parent, name) => {
                    names.push(name.clone());
                    folder = parent.clone();
                }
                Way::At(path) => {
                    let mut path = path.clone();
                    for name in names.iter().rev() {
                        if path.last() != Some(&b'/') {
                            path.push(b'/');
                        }
                        path.extend_from_slice(name);
                    }
                    return Some(path);
                }
            }
        }
        None
    }

    /// Asks the system; a folder that is gone has no path.
    fn ask(&self, folder: Fid<'_>) -> Option<Vec<u8>> {
        let mount = self.mounts.get(&parse::file_system(folder)?)?;
        let (kind, handle) = parse::handle(folder)?;
        let folder = semj_sys::handle::open_by_handle(mount.as_fd(), kind, handle).ok()?;
        let link = fs::read_link(format!("/proc/self/fd/{}", folder.as_raw_fd())).ok()?;
        let path = link.into_os_string().into_vec();
        (path.starts_with(b"/") && !path.ends_with(b" (deleted)")).then_some(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_followed_to_one_that_is_known_by_its_path() {
        let mut paths = Paths::default();
        paths.known.insert([1][..].into(), Way::At(b"/w".to_vec()));
        paths.learn(&[2], &[1], b"a");
        paths.learn(&[3], &[2], b"b");
        assert_eq!(paths.path(&[3], b"x").unwrap(), b"/w/a/b/x");
        assert_eq!(paths.path(&[3], b".").unwrap(), b"/w/a/b");
        paths.learn(&[2], &[1], b"c");
        paths.moved(b"/w", b"/v");
        assert_eq!(paths.path(&[3], b"x").unwrap(), b"/v/c/b/x");
        assert_eq!(paths.path(&[9], b"x"), None);
    }

    #[test]
    fn a_circle_of_folders_ends() {
        let mut paths = Paths::default();
        paths.learn(&[1], &[2], b"a");
        paths.learn(&[2], &[1], b"b");
        assert_eq!(paths.path(&[1], b"x"), None);
    }
}
