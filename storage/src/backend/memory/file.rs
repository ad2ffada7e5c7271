//! An open file in memory.

use super::disk::{NodeId, Unsynced, checked_end, put};
use super::fault::FaultClass;
use super::{MemoryBackend, OperationKind};
use crate::backend::File;
use rustix::io::Errno;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

pub(super) struct MemoryFile {
    pub(super) backend: MemoryBackend,
    pub(super) node: NodeId,
    /// Tells the handles of one file apart: a lock belongs to a handle.
    pub(super) handle: u64,
    pub(super) path: PathBuf,
    pub(super) writable: bool,
}

impl fmt::Debug for MemoryFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemoryFile").field(&self.path).finish()
    }
}

impl MemoryFile {
    fn check_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(Errno::BADF.into()) }
    }
}

/// How many of `wanted` bytes ending at `end` fit, given the room that is left for files to grow.
fn fitting(free: u64, length: usize, wanted: usize, end: usize) -> usize {
    let growth = end.saturating_sub(length) as u64;
    wanted.saturating_sub(growth.saturating_sub(free) as usize)
}

impl File for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.backend.shared.state.lock();
        state.check_power()?;
        let fault = state.faults.strike(FaultClass::Read, &self.path);
        let live = &state.disk.file(self.node)?.bytes.live;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let found = live.get(start..).unwrap_or_default();
        let count = found.len().min(buffer.len());
        let given = match &fault {
            Some(fault) => {
                if fault.short {
                    count / 2
                } else {
                    0
                }
            }
            None => count,
        };
        if let (Some(target), Some(found)) = (buffer.get_mut(..given), found.get(..given)) {
            target.copy_from_slice(found);
        }
        fault.map_or(Ok(count), |fault| Err(fault.error()))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.check_writable()?;
        self.backend.operate(OperationKind::Write, &self.path, |state, fault| {
            let end = checked_end(offset, bytes.len())?;
            let free = state.free_bytes();
            let file = state.disk.file_mut(self.node)?;
            let fits = fitting(free, file.bytes.live.len(), bytes.len(), end);
            let taken = match fault {
                Some(fault) if fault.short => fits.min(bytes.len() / 2),
                Some(_) => 0,
                None => fits,
            };
            if let Some(taken) = bytes.get(..taken).filter(|taken| !taken.is_empty()) {
                let offset = end - bytes.len();
                put(Arc::make_mut(&mut file.bytes.live), offset, taken);
                file.pending.push(Unsynced::Write { offset, bytes: taken.to_vec() });
            }
            if taken < bytes.len() { Err(Errno::NOSPC.into()) } else { Ok(()) }
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.backend.operate(OperationKind::SyncData, &self.path, |state, fault| match fault {
            None => state.disk.sync_file(self.node),
            Some(fault) if fault.forget => {
                state.disk.file_mut(self.node)?.pending.clear();
                Ok(())
            }
            Some(_) => Ok(()),
        })
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.check_writable()?;
        self.backend.operate(OperationKind::SetLen, &self.path, |state, fault| {
            let end = checked_end(length, 0)?;
            if fault.is_some() {
                return Ok(());
            }
            let free = state.free_bytes();
            let file = state.disk.file_mut(self.node)?;
            let before = file.bytes.live.len();
            if fitting(free, before, end, end) < end {
                return Err(Errno::NOSPC.into());
            }
            Arc::make_mut(&mut file.bytes.live).resize(end, 0);
            file.pending.push(Unsynced::SetLen(end));
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.backend.shared.state.lock();
        state.check_power()?;
        Ok(state.disk.file(self.node)?.bytes.live.len() as u64)
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut state = self.backend.shared.state.lock();
        state.check_power()?;
        let lock = &mut state.disk.file_mut(self.node)?.lock;
        Ok(*lock.get_or_insert(self.handle) == self.handle)
    }

    fn unlock(&self) -> io::Result<()> {
        let mut state = self.backend.shared.state.lock();
        let lock = &mut state.disk.file_mut(self.node)?.lock;
        if *lock == Some(self.handle) {
            *lock = None;
        }
        Ok(())
    }

    fn is_locked_elsewhere(&self) -> io::Result<bool> {
        let state = self.backend.shared.state.lock();
        state.check_power()?;
        Ok(state.disk.file(self.node)?.lock.is_some_and(|holder| holder != self.handle))
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        let mut state = self.backend.shared.state.lock();
        if let Ok(file) = state.disk.file_mut(self.node) {
            file.handles = file.handles.saturating_sub(1);
            file.lock = file.lock.filter(|holder| *holder != self.handle);
        }
    }
}
