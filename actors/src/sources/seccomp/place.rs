//! Where a call's path leads: the folder, open, and the name in it; and what is there now.

use super::caller;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, open, openat, openat2, readlinkat,
    statat,
};
use rustix::io::Errno;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

/// Links that are followed in a row, as the kernel does.
const LINKS_MAX: usize = 40;

/// Why a path leads nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lost {
    /// It leads nowhere for the caller, too.
    Nowhere,
    /// This process may not look there, or has no descriptors left.
    Hidden,
}

impl From<Errno> for Lost {
    fn from(error: Errno) -> Self {
        match error {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG | Errno::BADF | Errno::FAULT => {
                Lost::Nowhere
            }
            _ => Lost::Hidden,
        }
    }
}

impl From<std::io::Error> for Lost {
    fn from(error: std::io::Error) -> Self {
        error.raw_os_error().map_or(Lost::Hidden, |e| Errno::from_raw_os_error(e).into())
    }
}

/// What is at a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Look {
    /// An object.
    There(State),
    /// Nothing.
    Absent,
    /// It cannot be seen.
    Hidden,
}

/// What is known of an object. Times are in nanoseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct State {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    pub(super) links: u64,
    pub(super) size: u64,
    pub(super) read_ns: i128,
    pub(super) written_ns: i128,
    pub(super) changed_ns: i128,
}

impl State {
    #[allow(clippy::useless_conversion, reason = "some numbers are shorter on other machines")]
    pub(super) fn of(stat: &Stat) -> Self {
        let ns = |s: i128, n: i128| s * 1_000_000_000 + n;
        State {
            device: stat.st_dev,
            inode: stat.st_ino,
            mode: stat.st_mode,
            owner: (stat.st_uid, stat.st_gid),
            links: stat.st_nlink.into(),
            size: stat.st_size.cast_unsigned(),
            read_ns: ns(stat.st_atime.into(), stat.st_atime_nsec.into()),
            written_ns: ns(stat.st_mtime.into(), stat.st_mtime_nsec.into()),
            changed_ns: ns(stat.st_ctime.into(), stat.st_ctime_nsec.into()),
        }
    }

    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    /// Device and inode: the object, whatever its name.
    pub(super) fn object(&self) -> (u64, u64) {
        (self.device, self.inode)
    }
}

/// A place that a call names.
#[derive(Debug)]
pub(super) enum Place {
    /// A name in a folder.
    Name { folder: OwnedFd, folder_object: (u64, u64), folder_path: Vec<u8>, name: Vec<u8> },
    /// An object, by whatever name.
    Object { file: OwnedFd, path: Vec<u8> },
}

impl Place {
    /// What is there now.
    pub(super) fn look(&self) -> Look {
        let found = match self {
            Place::Name { folder, name, .. } => statat(folder, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW),
            Place::Object { file, .. } => fstat(file),
        };
        match found {
            Ok(stat) => Look::There(State::of(&stat)),
            Err(Errno::NOENT) => Look::Absent,
            Err(e) => match Lost::from(e) {
                Lost::Nowhere => Look::Absent,
                Lost::Hidden => Look::Hidden,
            },
        }
    }

    /// Its path from the root of this process.
    pub(super) fn path(&self) -> Vec<u8> {
        match self {
            Place::Name { folder_path, name, .. } => {
                let slash: &[u8] = if folder_path.ends_with(b"/") { b"" } else { b"/" };
                [folder_path, slash, name].concat()
            }
            Place::Object { path, .. } => path.clone(),
        }
    }

    /// The device it is on, where that is known without looking.
    pub(super) fn device(&self) -> Option<u64> {
        match self {
            Place::Name { folder_object, .. } => Some(folder_object.0),
            Place::Object { .. } => None,
        }
    }

    /// Whether both are the same name in the same folder.
    pub(super) fn is_same_name(&self, other: &Place) -> bool {
        match (self, other) {
            (
                Place::Name { folder_object: a, name: x, .. },
                Place::Name { folder_object: b, name: y, .. },
            ) => a == b && x == y,
            _ => false,
        }
    }
}

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The path of an open file, as the kernel names it.
fn path_of(file: &OwnedFd) -> Result<Vec<u8>, Lost> {
    let path = readlinkat(CWD, format!("/proc/self/fd/{}", file.as_raw_fd()), Vec::with_capacity(256))?;
    Ok(path.into_bytes())
}

/// A file that a thread has open.
pub(super) fn open_file(thread: u32, file: u64) -> Result<Place, Lost> {
    let file = open(caller::base(thread, Some(file)), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let path = path_of(&file)?;
    Ok(Place::Object { file, path })
}

/// How a thread's paths are walked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    /// Whose.
    pub(super) thread: u32,
    /// Its process, which it calls `self`.
    pub(super) process: u32,
    /// Its absolute paths begin in a root of its own.
    pub(super) has_other_root: bool,
}

impl Walk {
    /// The place of `path`, which begins in the folder at `base` where it is relative; behind a link that is its last part,
    /// if `follow` says so.
    pub(super) fn to(&self, base: &str, path: &[u8], follow: bool) -> Result<Place, Lost> {
        let mut from: Option<OwnedFd> = None;
        let mut path = path.to_vec();
        for _ in 0..LINKS_MAX {
            if path.is_empty() {
                return Err(Lost::Nowhere);
            }
            path = self.without_self(path);
            let (folder, name) = split(&path);
            let Some(name) = name else { return self.whole(base, from.as_ref(), folder) };
            let folder = self.folder(base, from.as_ref(), folder)?;
            if follow
                && let Ok(stat) = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)
                && FileType::from_raw_mode(stat.st_mode) == FileType::Symlink
            {
                // Links of /proc lead to objects that their text only describes.
                if path.starts_with(b"/proc/") {
                    let file = openat(&folder, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
                    let path = path_of(&file)?;
                    return Ok(Place::Object { file, path });
                }
                let text = readlinkat(&folder, name, Vec::with_capacity(256))?.into_bytes();
                (from, path) = (Some(folder), text);
                continue;
            }
            let stat = fstat(&folder)?;
            let folder_path = path_of(&folder)?;
            let name = name.to_vec();
            return Ok(Place::Name { folder_object: (stat.st_dev, stat.st_ino), folder_path, folder, name });
        }
        Err(Lost::Nowhere)
    }

    /// Opens the folder for its name only; an empty one is where the path begins.
    fn folder(&self, base: &str, from: Option<&OwnedFd>, folder: &[u8]) -> Result<OwnedFd, Lost> {
        let empty = Mode::empty();
        let opened = match (folder.starts_with(b"/"), from) {
            (true, _) if self.has_other_root => {
                let root = caller::root(self.thread)?;
                // Links of /proc are not followed so; what they lead to is outside of any root.
                match openat2(&root, folder, FOLDER, empty, ResolveFlags::IN_ROOT) {
                    Err(Errno::LOOP) => open(folder, FOLDER, empty),
                    other => other,
                }
            }
            (true, _) => open(folder, FOLDER, empty),
            (false, Some(from)) if folder.is_empty() => openat(from, ".", FOLDER, empty),
            (false, Some(from)) => openat(from, folder, FOLDER, empty),
            (false, None) if folder.is_empty() => open(base, FOLDER, empty),
            (false, None) => open([base.as_bytes(), b"/", folder].concat(), FOLDER, empty),
        };
        Ok(opened?)
    }

    /// A path without a name of its own: it ends in `.` or `..`, or is the root.
    fn whole(&self, base: &str, from: Option<&OwnedFd>, path: &[u8]) -> Result<Place, Lost> {
        let file = self.folder(base, from, path)?;
        let path = path_of(&file)?;
        Ok(Place::Object { file, path })
    }

    /// The path with the caller's number in place of `self`, which would be this process's.
    fn without_self(&self, path: Vec<u8>) -> Vec<u8> {
        let below = |prefix: &[u8]| path.strip_prefix(prefix).filter(|r| r.is_empty() || r.starts_with(b"/"));
        let own = |rest: &[u8], what: String| [what.as_bytes(), rest].concat();
        let process = self.process;
        if let Some(rest) = below(b"/proc/self") {
            return own(rest, format!("/proc/{process}"));
        }
        if let Some(rest) = below(b"/proc/thread-self") {
            return own(rest, format!("/proc/{process}/task/{}", self.thread));
        }
        if let Some(rest) = below(b"/dev/fd") {
            return own(rest, format!("/proc/{process}/fd"));
        }
        for (number, name) in [b"/dev/stdin".as_slice(), b"/dev/stdout", b"/dev/stderr"].iter().enumerate() {
            if path == *name {
                return format!("/proc/{process}/fd/{number}").into_bytes();
            }
        }
        path
    }
}

/// The folder and the last name of a path; no name where the path is a folder whatever there is.
fn split(path: &[u8]) -> (&[u8], Option<&[u8]>) {
    let end = path.iter().rposition(|b| *b != b'/').map_or(0, |last| last + 1);
    let plain = path.get(..end).unwrap_or_default();
    let begin = plain.iter().rposition(|b| *b == b'/').map_or(0, |slash| slash + 1);
    let (folder, name) = plain.split_at(begin);
    match name {
        b"" | b"." | b".." => (path, None),
        name => (folder, Some(name)),
    }
}

/// Whether running this file would give privileges that its caller does not have: set-uid, set-gid, or capabilities.
pub(super) fn gives_privileges(place: &Place, state: &State) -> bool {
    const SET_UID: u32 = 0o4000;
    const SET_GID_AND_RUN: u32 = 0o2010;
    if state.kind() != FileType::RegularFile {
        return false;
    }
    if state.mode & SET_UID != 0 || state.mode & SET_GID_AND_RUN == SET_GID_AND_RUN {
        return true;
    }
    let path = match place {
        Place::Name { folder, name, .. } => {
            [format!("/proc/self/fd/{}/", folder.as_fd().as_raw_fd()).as_bytes(), name].concat()
        }
        Place::Object { file, .. } => format!("/proc/self/fd/{}", file.as_raw_fd()).into_bytes(),
    };
    let mut nothing: [u8; 0] = [];
    rustix::fs::getxattr(path.as_slice(), "security.capability", &mut nothing).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn walk() -> Walk {
        Walk { thread: std::process::id(), process: std::process::id(), has_other_root: false }
    }

    #[test]
    fn a_path_is_a_folder_and_a_name() {
        for (path, folder, name) in [
            ("a", "", Some("a")),
            ("/a", "/", Some("a")),
            ("a/b//", "a/", Some("b")),
            ("/", "/", None),
            ("a/..", "a/..", None),
            (".", ".", None),
        ] {
            let (f, n) = split(path.as_bytes());
            assert_eq!((f, n), (folder.as_bytes(), name.map(str::as_bytes)), "{path}");
        }
    }

    #[test]
    fn links_are_followed_only_where_the_call_does_so() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        fs::create_dir(root.join("d")).unwrap();
        symlink("../file", root.join("d/near")).unwrap();
        symlink(root.join("d/near"), root.join("far")).unwrap();
        symlink("round", root.join("round")).unwrap();
        let to = |path: &str, follow| walk().to(root.to_str().unwrap(), path.as_bytes(), follow);
        let path = |p: &Place| String::from_utf8(p.path()).unwrap();
        let within = |name: &str| root.join(name).to_str().unwrap().to_owned();
        assert_eq!(path(&to("far", false).unwrap()), within("far"));
        let end = to("far", true).unwrap();
        assert_eq!((path(&end), end.look()), (within("file"), Look::Absent));
        fs::write(root.join("file"), "12345").unwrap();
        assert!(matches!(end.look(), Look::There(state) if state.size == 5));
        assert_eq!(to("round", true).err(), Some(Lost::Nowhere));
        assert_eq!(to("no/such", true).err(), Some(Lost::Nowhere));
        assert_eq!(path(&to("d/../d/.", false).unwrap()), within("d"));
        let absolute = root.join("far");
        assert!(to(absolute.to_str().unwrap(), true).unwrap().is_same_name(&end));
    }

    #[test]
    fn self_is_the_caller() {
        let other = Walk { thread: 7, process: 6, has_other_root: false };
        for (path, expected) in [
            ("/proc/self/fd/1", "/proc/6/fd/1"),
            ("/proc/thread-self", "/proc/6/task/7"),
            ("/dev/stderr", "/proc/6/fd/2"),
            ("/dev/fd/63", "/proc/6/fd/63"),
            ("/proc/selfish", "/proc/selfish"),
        ] {
            assert_eq!(other.without_self(path.into()), expected.as_bytes());
        }
    }
}
