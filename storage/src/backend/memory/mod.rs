//! Files in memory that lose power on command.
//!
//! Every file and directory exists twice: as the running program sees it, and as it is on the platter.
//! A test drives a journal on such a backend, asks for the image a power cut would leave - at any
//! operation, in any [`CrashMode`], from any seed - and opens the image. Faults and a full disk are
//! armed the same way. Nothing here is random by itself: the same calls and seeds give the same bytes.
//!
//! ```
//! use semj_storage::backend::{Backend, CrashMode, File, MemoryBackend, OpenMode};
//! use std::path::Path;
//! let disk = MemoryBackend::default();
//! let file = disk.open(Path::new("a"), OpenMode::CreateNew)?;
//! file.write_at(b"hello", 0)?;
//! file.sync_data()?;
//! let after = disk.crash_image(CrashMode::Drop, 7);
//! assert_eq!(after.contents("a").as_deref(), None, "the directory was not synced");
//! disk.sync_dir(Path::new("/"))?;
//! assert_eq!(disk.crash_image(CrashMode::Drop, 7).contents("a").as_deref(), Some(&b"hello"[..]));
//! # Ok::<(), std::io::Error>(())
//! ```

mod crash;
mod disk;
mod fault;
mod file;
#[cfg(test)]
mod tests;

pub use crash::CrashMode;
pub use fault::{Fault, FaultClass};

use super::{Backend, File, OpenMode};
use disk::{Disk, NodeId, Side};
use fault::Faults;
use file::MemoryFile;
use parking_lot::Mutex;
use rustix::io::Errno;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What makes a change to a directory durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DirectoryRule {
    /// Only a sync of that directory: the letter of POSIX, and the harder test.
    #[default]
    Strict,
    /// Any sync makes all earlier directory changes durable, in order: ext4 and xfs.
    Journal,
}

/// What an operation did; only those that change something are numbered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OperationKind {
    /// Bytes were written to a file.
    Write,
    /// A file was synced.
    SyncData,
    /// A file was cut or extended.
    SetLen,
    /// A file was created.
    Create,
    /// A directory was created.
    CreateDir,
    /// A file was renamed; the path is the new one.
    Rename,
    /// A file was removed.
    Remove,
    /// A directory was synced.
    SyncDir,
}

impl OperationKind {
    fn class(self) -> FaultClass {
        match self {
            OperationKind::Write => FaultClass::Write,
            OperationKind::SyncData => FaultClass::Sync,
            OperationKind::SetLen => FaultClass::Truncate,
            OperationKind::Create | OperationKind::CreateDir => FaultClass::Open,
            OperationKind::Rename => FaultClass::Rename,
            OperationKind::Remove => FaultClass::Remove,
            OperationKind::SyncDir => FaultClass::SyncDir,
        }
    }
}

/// One numbered operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation {
    /// Its number; the first is 1.
    pub index: u64,
    /// What it did.
    pub kind: OperationKind,
    /// To what; an open file goes by the name it was opened with.
    pub path: PathBuf,
    /// Whether it succeeded.
    pub ok: bool,
}

type Observer = Arc<dyn Fn(&MemoryBackend, &Operation) + Send + Sync>;

#[derive(Debug)]
struct State {
    disk: Disk,
    faults: Faults,
    quota: Option<u64>,
    operations: u64,
    freeze_after: Option<u64>,
    recorded: Option<Vec<Operation>>,
    next_handle: u64,
}

impl State {
    fn new(disk: Disk) -> Self {
        Self {
            disk,
            faults: Faults::default(),
            quota: None,
            operations: 0,
            freeze_after: None,
            recorded: None,
            next_handle: 0,
        }
    }

    fn check_power(&self) -> io::Result<()> {
        match self.freeze_after {
            Some(last) if self.operations >= last => Err(Errno::IO.into()),
            _ => Ok(()),
        }
    }

    /// By how much files may still grow.
    fn free_bytes(&self) -> u64 {
        self.quota.map_or(u64::MAX, |quota| quota.saturating_sub(self.disk.used_bytes()))
    }

    /// Power and faults for an operation that changes nothing.
    fn admit(&mut self, class: FaultClass, path: &Path) -> io::Result<()> {
        self.check_power()?;
        self.faults.strike(class, path).map_or(Ok(()), |fault| Err(fault.error()))
    }
}

struct Shared {
    state: Mutex<State>,
    /// Called without the state's lock, so that it may take images.
    observer: Mutex<Option<Observer>>,
}

/// A file system in memory; clones share it.
#[derive(Clone)]
pub struct MemoryBackend {
    shared: Arc<Shared>,
}

impl fmt::Debug for MemoryBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state.lock();
        let (operations, files) = (state.operations, state.disk.files(Side::Live).len());
        f.debug_struct("MemoryBackend").field("operations", &operations).field("files", &files).finish()
    }
}

impl Default for MemoryBackend {
    fn default() -> Self {
        Self::new(DirectoryRule::default())
    }
}

impl MemoryBackend {
    /// An empty file system.
    pub fn new(rule: DirectoryRule) -> Self {
        Self::of(Disk::new(rule))
    }

    fn of(disk: Disk) -> Self {
        let state = Mutex::new(State::new(disk));
        Self { shared: Arc::new(Shared { state, observer: Mutex::new(None) }) }
    }

    /// The disk as it may be if the power went now. The same state, mode and seed give the same image.
    /// The image is a backend of its own: no locks, faults or quota, its operations counted from 1.
    pub fn crash_image(&self, mode: CrashMode, seed: u64) -> MemoryBackend {
        Self::of(self.shared.state.lock().disk.after_power_cut(mode, seed))
    }

    /// The disk as the next process finds it if this one is killed now and the power stays: everything
    /// written is readable, what is unsynced still is, and what a failed sync forgot stays forgotten.
    pub fn kill_image(&self) -> MemoryBackend {
        Self::of(self.shared.state.lock().disk.after_kill())
    }

    /// How many operations that change something were begun.
    pub fn operations(&self) -> u64 {
        self.shared.state.lock().operations
    }

    /// Calls `observer` after every numbered operation, on the thread that made it. It may take images;
    /// an operation of its own on the same backend would call it again.
    pub fn set_observer(&self, observer: impl Fn(&MemoryBackend, &Operation) + Send + Sync + 'static) {
        *self.shared.observer.lock() = Some(Arc::new(observer));
    }

    /// Calls nobody any more.
    pub fn clear_observer(&self) {
        *self.shared.observer.lock() = None;
    }

    /// Starts a list of the numbered operations, or ends and drops it.
    pub fn record(&self, on: bool) {
        self.shared.state.lock().recorded = on.then(Vec::new);
    }

    /// The operations since `record(true)`.
    pub fn recorded(&self) -> Vec<Operation> {
        self.shared.state.lock().recorded.clone().unwrap_or_default()
    }

    /// Turns the power off once `operations` have been made in all, failed ones included: whatever is
    /// tried then, reading included, answers EIO. Take the image afterwards.
    pub fn freeze_after(&self, operations: u64) {
        self.shared.state.lock().freeze_after = Some(operations);
    }

    /// Whether the power is off.
    pub fn is_frozen(&self) -> bool {
        self.shared.state.lock().check_power().is_err()
    }

    /// Turns the power on again, as if it had never been off.
    pub fn thaw(&self) {
        self.shared.state.lock().freeze_after = None;
    }

    /// Arms a fault.
    pub fn fail(&self, fault: Fault) {
        self.shared.state.lock().faults.arm(fault);
    }

    /// Disarms all faults.
    pub fn clear_faults(&self) {
        self.shared.state.lock().faults.clear();
    }

    /// How many operations a fault has hit so far.
    pub fn faults_struck(&self) -> u64 {
        self.shared.state.lock().faults.struck
    }

    /// Bounds the bytes of all files together. What would go beyond takes the part that fits and
    /// answers ENOSPC.
    pub fn set_quota(&self, bytes: Option<u64>) {
        self.shared.state.lock().quota = bytes;
    }

    /// Bytes of all files together.
    pub fn used_bytes(&self) -> u64 {
        self.shared.state.lock().disk.used_bytes()
    }

    /// The paths of all files, sorted, as the program sees them.
    pub fn files(&self) -> Vec<PathBuf> {
        self.shared.state.lock().disk.files(Side::Live).into_iter().map(|(path, _)| path).collect()
    }

    /// What a file holds, as the program sees it; `None` where there is no file. Neither counted nor
    /// subject to faults.
    pub fn contents(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let state = self.shared.state.lock();
        let file = state.disk.find(path.as_ref()).and_then(|node| state.disk.file(node));
        file.ok().map(|file| file.bytes.live.to_vec())
    }

    /// Damages a file behind the program's back, on both sides: `change` gets its bytes and may cut or
    /// extend them. What was unsynced counts as written.
    ///
    /// # Errors
    /// There is no such file.
    pub fn damage(&self, path: impl AsRef<Path>, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        let node = state.disk.find(path.as_ref())?;
        let file = state.disk.file_mut(node)?;
        change(Arc::make_mut(&mut file.bytes.live));
        file.bytes.durable = Arc::new(file.bytes.live.to_vec());
        file.pending.clear();
        Ok(())
    }

    /// Writes all files below an existing folder of the operating system, for a look at an image.
    ///
    /// # Errors
    /// The operating system's.
    pub fn export(&self, folder: &Path) -> io::Result<()> {
        let state = self.shared.state.lock();
        for (path, node) in state.disk.files(Side::Live) {
            let target = folder.join(path.strip_prefix("/").unwrap_or(&path));
            target.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            std::fs::write(target, state.disk.file(node)?.bytes.live.as_slice())?;
        }
        Ok(())
    }

    /// Counts one operation, lets power and faults decide, and tells the observer. `body` also runs
    /// when a fault hits, because some leave half of the work behind; its result is then not used.
    fn operate<T>(
        &self,
        kind: OperationKind,
        path: &Path,
        body: impl FnOnce(&mut State, Option<&Fault>) -> io::Result<T>,
    ) -> io::Result<T> {
        let (result, operation) = {
            let mut state = self.shared.state.lock();
            state.check_power()?;
            state.operations += 1;
            let fault = state.faults.strike(kind.class(), path);
            let result = body(&mut state, fault.as_ref());
            let result = fault.map_or(result, |fault| Err(fault.error()));
            let (index, ok) = (state.operations, result.is_ok());
            let operation = Operation { index, kind, path: path.to_owned(), ok };
            if let Some(recorded) = &mut state.recorded {
                recorded.push(operation.clone());
            }
            (result, operation)
        };
        let observer = self.shared.observer.lock().clone();
        if let Some(observer) = observer {
            observer(self, &operation);
        }
        result
    }

    /// An operation on names: a fault that hits it leaves nothing behind.
    fn operate_on_names<T: Default>(
        &self,
        kind: OperationKind,
        path: &Path,
        body: impl FnOnce(&mut Disk) -> io::Result<T>,
    ) -> io::Result<T> {
        self.operate(kind, path, |state, fault| match fault {
            Some(_) => Ok(T::default()),
            None => body(&mut state.disk),
        })
    }

    fn handle(&self, state: &mut State, node: NodeId, path: &Path, writable: bool) -> io::Result<MemoryFile> {
        state.disk.file_mut(node)?.handles += 1;
        state.next_handle += 1;
        let (backend, path) = (self.clone(), path.to_owned());
        Ok(MemoryFile { backend, node, handle: state.next_handle, path, writable })
    }
}

impl Backend for MemoryBackend {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let opened = {
            let mut state = self.shared.state.lock();
            state.check_power()?;
            match (state.disk.find(path), mode) {
                (Ok(_), OpenMode::CreateNew) => return Err(Errno::EXIST.into()),
                (Ok(node), _) => {
                    state.admit(FaultClass::Open, path)?;
                    let file = self.handle(&mut state, node, path, mode != OpenMode::Read)?;
                    Some(file)
                }
                (Err(error), OpenMode::Read | OpenMode::Write) => return Err(error),
                (Err(_), _) => None,
            }
        };
        if let Some(file) = opened {
            return Ok(Arc::new(file));
        }
        let file = self.operate(OperationKind::Create, path, |state, fault| {
            let place = state.disk.place(path)?;
            match (fault, state.disk.at(&place)) {
                (Some(fault), _) => Err(fault.error()),
                // Another thread made it meanwhile.
                (None, Some(_)) if mode == OpenMode::CreateNew => Err(Errno::EXIST.into()),
                (None, Some(node)) => self.handle(state, node, path, true),
                (None, None) => {
                    let node = state.disk.create(place, false);
                    self.handle(state, node, path, true)
                }
            }
        })?;
        Ok(Arc::new(file))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut above: Vec<&Path> = path.ancestors().filter(|a| a.file_name().is_some()).collect();
        above.reverse();
        for directory in above {
            let found = {
                let state = self.shared.state.lock();
                state.check_power()?;
                state.disk.find(directory).map(|node| state.disk.is_directory(node))
            };
            match found {
                Ok(true) => {}
                Ok(false) => return Err(Errno::NOTDIR.into()),
                Err(_) => self.operate_on_names(OperationKind::CreateDir, directory, |disk| {
                    let place = disk.place(directory)?;
                    if disk.at(&place).is_none() {
                        disk.create(place, true);
                    }
                    Ok(())
                })?,
            }
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut state = self.shared.state.lock();
        state.admit(FaultClass::Read, path)?;
        state.disk.names(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operate_on_names(OperationKind::Rename, to, |disk| disk.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.operate_on_names(OperationKind::Remove, path, |disk| disk.remove_file(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.operate_on_names(OperationKind::SyncDir, path, |disk| disk.sync_directory(path))
    }

    fn real_path(&self, _path: &Path) -> Option<PathBuf> {
        None
    }
}
