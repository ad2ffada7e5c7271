//! The operating system's files.
//!
//! Rules kept here, so that nobody above has to know them:
//! 1. No symbolic link is followed at the last component, nothing but a regular file is opened, and
//!    opening a pipe or a device put in a file's place does not block.
//! 2. What is created is 0700 (directories) or 0600 (files), whatever the umask says.
//! 3. No file lies on descriptor 0, 1 or 2: a host that closed them must not print into the record.
//! 4. A sync is tried once. Linux marks pages clean that it failed to write, so a second try would lie.
//! 5. A write beyond `RLIMIT_FSIZE` is refused before the kernel sees it: it would send SIGXFSZ.

use super::{Backend, File, OpenMode};
use parking_lot::Mutex;
use rustix::fs::{CWD, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
const DIRECTORY_MODE: Mode = Mode::RWXU;
/// The first descriptor behind standard input, output and error.
const LOWEST_DESCRIPTOR: RawFd = 3;
/// Rounds of "absent, then present" or "held, then free" before giving up: another process interferes.
const RACES_MAX: u32 = 100;

/// Files of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealBackend;

impl RealBackend {
    /// The one there is; it holds no state.
    pub fn new() -> Self {
        Self
    }
}

impl Backend for RealBackend {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let descriptor = match mode {
            OpenMode::Read => open_existing(path, OFlags::RDONLY)?,
            OpenMode::Write => open_existing(path, OFlags::RDWR)?,
            OpenMode::CreateNew => create(path)?,
            OpenMode::CreateOrOpen => create_or_open(path)?,
        };
        let descriptor = raise(descriptor, LOWEST_DESCRIPTOR)?;
        Ok(Arc::new(RealFile { descriptor, locked: Mutex::new(false) }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut missing = Vec::new();
        for ancestor in path.ancestors().filter(|a| !a.as_os_str().is_empty()) {
            match std::fs::metadata(ancestor) {
                Ok(found) if found.is_dir() => break,
                Ok(_) => return Err(Errno::NOTDIR.into()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(ancestor),
                Err(error) => return Err(error),
            }
        }
        missing.iter().rev().try_for_each(|directory| create_dir(directory))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(path)? {
            // A name that is not UTF-8 is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(rustix::fs::rename(from, to)?)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::unlink(path)?)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let directory = retry(|| rustix::fs::open(path, flags, Mode::empty()))?;
        Ok(rustix::fs::fsync(&directory)?)
    }

    fn real_path(&self, path: &Path) -> Option<PathBuf> {
        Some(path.to_owned())
    }
}

/// Repeats a call that a signal interrupted before it did anything. Never used for a sync.
fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

fn open_existing(path: &Path, access: OFlags) -> io::Result<OwnedFd> {
    // NONBLOCK has no effect on a regular file; without it, opening a pipe waits for its other end.
    let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let descriptor = retry(|| rustix::fs::open(path, flags, Mode::empty()))?;
    let found = rustix::fs::fstat(&descriptor)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(descriptor)
}

fn create(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let descriptor = retry(|| rustix::fs::open(path, flags, FILE_MODE))?;
    // The umask may have taken the owner's bits away.
    rustix::fs::fchmod(&descriptor, FILE_MODE)?;
    Ok(descriptor)
}

/// Two steps, so that it is known whether the file is new and its mode is ours to set.
fn create_or_open(path: &Path) -> io::Result<OwnedFd> {
    for _ in 0..RACES_MAX {
        match create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => return result,
        }
        match open_existing(path, OFlags::RDWR) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
    }
    Err(Errno::BUSY.into())
}

fn create_dir(path: &Path) -> io::Result<()> {
    match retry(|| rustix::fs::mkdir(path, DIRECTORY_MODE)) {
        Ok(()) => {}
        // Somebody else was faster. Whether it is a directory shows with the next step inside it.
        Err(Errno::EXIST) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match retry(|| rustix::fs::open(path, flags, Mode::empty())) {
        Ok(directory) => Ok(rustix::fs::fchmod(&directory, DIRECTORY_MODE)?),
        // A umask that takes the owner's bits away leaves a directory that cannot even be opened.
        Err(Errno::ACCESS) => {
            Ok(rustix::fs::chmodat(CWD, path, DIRECTORY_MODE, rustix::fs::AtFlags::empty())?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Moves a descriptor to `lowest` or above; the original is closed only after the copy exists.
fn raise(descriptor: OwnedFd, lowest: RawFd) -> io::Result<OwnedFd> {
    if descriptor.as_raw_fd() >= lowest {
        return Ok(descriptor);
    }
    Ok(rustix::io::fcntl_dupfd_cloexec(&descriptor, lowest)?)
}

#[derive(Debug)]
struct RealFile {
    descriptor: OwnedFd,
    /// Whether this handle holds the lock. Held across both lock operations: probing would drop it.
    locked: Mutex<bool>,
}

impl RealFile {
    /// Refuses to reach beyond the process's file size limit (rule 5).
    fn check_reach(end: Option<u64>) -> io::Result<()> {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize).current;
        let limit = limit.unwrap_or(u64::MAX).min(i64::MAX as u64);
        if end.is_some_and(|end| end <= limit) { Ok(()) } else { Err(Errno::FBIG.into()) }
    }

    fn flock(&self, operation: FlockOperation) -> io::Result<bool> {
        match retry(|| rustix::fs::flock(&self.descriptor, operation)) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl File for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut total = 0;
        while let Some(rest) = buffer.get_mut(total..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(total as u64);
            match retry(|| rustix::io::pread(&self.descriptor, &mut *rest, at))? {
                0 => break,
                count => total += count,
            }
        }
        Ok(total)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        Self::check_reach(offset.checked_add(bytes.len() as u64))?;
        let mut total = 0;
        while let Some(rest) = bytes.get(total..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(total as u64);
            match retry(|| rustix::io::pwrite(&self.descriptor, rest, at))? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => total += count,
            }
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        // Not even an interrupted sync is repeated (rule 4).
        Ok(rustix::fs::fdatasync(&self.descriptor)?)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        Self::check_reach(Some(length))?;
        Ok(retry(|| rustix::fs::ftruncate(&self.descriptor, length))?)
    }

    fn len(&self) -> io::Result<u64> {
        let found = rustix::fs::fstat(&self.descriptor)?;
        u64::try_from(found.st_size).map_err(|_| Errno::OVERFLOW.into())
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut locked = self.locked.lock();
        for _ in 0..RACES_MAX {
            if *locked || self.flock(FlockOperation::NonBlockingLockExclusive)? {
                *locked = true;
                return Ok(true);
            }
            // A shared lock can be had beside a prober's (see below), never beside a holder's.
            if !self.flock(FlockOperation::NonBlockingLockShared)? {
                return Ok(false);
            }
            self.flock(FlockOperation::NonBlockingUnlock)?;
            std::thread::yield_now();
        }
        Ok(false)
    }

    fn unlock(&self) -> io::Result<()> {
        let mut locked = self.locked.lock();
        if std::mem::take(&mut *locked) {
            self.flock(FlockOperation::NonBlockingUnlock)?;
        }
        Ok(())
    }

    fn is_locked_elsewhere(&self) -> io::Result<bool> {
        let locked = self.locked.lock();
        // Taking the shared lock now would turn our exclusive one into it.
        if *locked {
            return Ok(false);
        }
        if !self.flock(FlockOperation::NonBlockingLockShared)? {
            return Ok(true);
        }
        self.flock(FlockOperation::NonBlockingUnlock)?;
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{FileType as Kind, mknodat};
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn mode_of(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn reads_and_writes_anywhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let file = RealBackend.open(&path, OpenMode::CreateNew).unwrap();
        file.write_at(b"world", 6).unwrap();
        file.write_at(b"hello", 0).unwrap();
        file.sync_data().unwrap();
        RealBackend.sync_dir(folder.path()).unwrap();
        let mut buffer = [9; 16];
        assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 11);
        assert_eq!(&buffer[..11], b"hello\0world");
        assert_eq!(file.read_at(&mut buffer, 11).unwrap(), 0);
        assert_eq!(file.read_at(&mut buffer, 1 << 40).unwrap(), 0);
        file.set_len(5).unwrap();
        assert_eq!(file.len().unwrap(), 5);
        let reader = RealBackend.open(&path, OpenMode::Read).unwrap();
        assert!(reader.write_at(b"x", 0).is_err());
        assert!(file.write_at(b"x", u64::MAX).is_err() && file.set_len(u64::MAX).is_err());
        assert!(file.read_at(&mut buffer, u64::MAX).is_err());
    }

    #[test]
    fn modes_decide_about_existence() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        for mode in [OpenMode::Read, OpenMode::Write] {
            assert_eq!(RealBackend.open(&path, mode).unwrap_err().kind(), io::ErrorKind::NotFound);
        }
        RealBackend.open(&path, OpenMode::CreateOrOpen).unwrap().write_at(b"kept", 0).unwrap();
        assert_eq!(RealBackend.open(&path, OpenMode::CreateOrOpen).unwrap().len().unwrap(), 4);
        let again = RealBackend.open(&path, OpenMode::CreateNew).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn links_and_special_files_are_refused_without_blocking() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("target"), b"precious").unwrap();
        symlink(at("target"), at("link")).unwrap();
        symlink(at("nothing"), at("dangling")).unwrap();
        std::fs::create_dir(at("directory")).unwrap();
        mknodat(CWD, at("pipe"), Kind::Fifo, FILE_MODE, 0).unwrap();
        for name in ["link", "dangling", "directory", "pipe"] {
            for mode in [OpenMode::Read, OpenMode::Write, OpenMode::CreateOrOpen] {
                assert!(RealBackend.open(&at(name), mode).is_err(), "{name} {mode:?}");
            }
        }
        assert!(RealBackend.open(Path::new("/dev/zero"), OpenMode::Read).is_err());
        assert!(!at("nothing").exists());
        assert!(RealBackend.create_dir_all(&at("target/below")).is_err());
    }

    #[test]
    fn names_come_and_go() {
        use std::os::unix::ffi::OsStrExt;
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("x/y/z");
        RealBackend.create_dir_all(&deep).unwrap();
        RealBackend.create_dir_all(&deep).unwrap();
        assert_eq!(mode_of(&folder.path().join("x")), 0o700);
        let at = |name: &str| deep.join(name);
        RealBackend.open(&at("a"), OpenMode::CreateNew).unwrap();
        assert_eq!(mode_of(&at("a")), 0o600);
        std::fs::write(deep.join(std::ffi::OsStr::from_bytes(b"\xFF")), b"").unwrap();
        RealBackend.rename(&at("a"), &at("b")).unwrap();
        assert_eq!(RealBackend.list(&deep).unwrap(), ["b"]);
        RealBackend.remove_file(&at("b")).unwrap();
        assert!(RealBackend.list(&deep).unwrap().is_empty());
        assert!(RealBackend.remove_file(&deep).is_err());
        assert!(RealBackend.sync_dir(&at("gone")).is_err());
        assert_eq!(RealBackend.real_path(&deep), Some(deep));
    }

    #[test]
    fn one_handle_holds_the_lock_and_probing_never_drops_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("LOCK");
        let first = RealBackend.open(&path, OpenMode::CreateNew).unwrap();
        let second = RealBackend.open(&path, OpenMode::Write).unwrap();
        assert!(!second.is_locked_elsewhere().unwrap());
        assert!(first.try_lock().unwrap() && first.try_lock().unwrap());
        assert!(!first.is_locked_elsewhere().unwrap());
        assert!(second.is_locked_elsewhere().unwrap() && !second.try_lock().unwrap());
        drop(first);
        assert!(second.try_lock().unwrap());
    }

    #[test]
    fn a_prober_is_not_taken_for_a_holder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("LOCK");
        let file = RealBackend.open(&path, OpenMode::CreateNew).unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let prober = RealBackend.open(&path, OpenMode::Read).unwrap();
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    prober.is_locked_elsewhere().unwrap();
                }
            });
            for _ in 0..200 {
                let candidate = RealBackend.open(&path, OpenMode::Write).unwrap();
                assert!(candidate.try_lock().unwrap());
                assert!(file.is_locked_elsewhere().unwrap());
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }

    #[test]
    fn low_descriptors_are_left() {
        let folder = tempfile::tempdir().unwrap();
        let low = create(&folder.path().join("a")).unwrap();
        let raised = raise(low, 200).unwrap();
        assert!(raised.as_raw_fd() >= 200);
        let flags = rustix::io::fcntl_getfd(&raised).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        rustix::io::pwrite(&raised, b"x", 0).unwrap();
    }

    #[test]
    fn the_file_size_limit_is_an_error_and_no_signal() {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let folder = tempfile::tempdir().unwrap();
        let file = RealBackend.open(&folder.path().join("a"), OpenMode::CreateNew).unwrap();
        let before = getrlimit(Resource::Fsize);
        // High enough for whatever the tests beside this one write.
        setrlimit(Resource::Fsize, Rlimit { current: Some(1 << 32), maximum: before.maximum }).unwrap();
        let results = [file.write_at(b"x", 1 << 32), file.set_len((1 << 32) + 1)];
        setrlimit(Resource::Fsize, before).unwrap();
        for result in results {
            assert_eq!(result.unwrap_err().raw_os_error(), Some(Errno::FBIG.raw_os_error()));
        }
    }

    #[test]
    fn modes_hold_under_any_umask() {
        // The umask belongs to the process, so this runs alone in a child that inherits it from a shell.
        const CHILD: &str = "SEMJ_TEST_UMASK";
        if let Some(folder) = std::env::var_os(CHILD) {
            let deep = Path::new(&folder).join("x/y");
            RealBackend.create_dir_all(&deep).unwrap();
            RealBackend.open(&deep.join("a"), OpenMode::CreateOrOpen).unwrap().write_at(b"x", 0).unwrap();
            RealBackend.open(&deep.join("a"), OpenMode::Write).unwrap();
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        for (name, umask) in [("strict", "777"), ("open", "0")] {
            let below = folder.path().join(name);
            std::fs::create_dir(&below).unwrap();
            let status = std::process::Command::new("sh")
                .args(["-c", "umask $1; shift; exec \"$@\"", "sh", umask])
                .arg(std::env::current_exe().unwrap())
                .args(["--exact", "backend::real::tests::modes_hold_under_any_umask"])
                .env(CHILD, &below)
                .stdout(std::process::Stdio::null())
                .status()
                .unwrap();
            assert!(status.success());
            assert_eq!(mode_of(&below.join("x")), 0o700);
            assert_eq!((mode_of(&below.join("x/y")), mode_of(&below.join("x/y/a"))), (0o700, 0o600));
        }
    }
}
