//! The file, FIFO or block device behind a tail: its end, its bytes, and what tells that it changed.

use super::semj_tail::{DATA_AT, TailForm};
use rustix::fs::{FileType, Mode, OFlags, fstat, inotify, stat};
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Most bytes kept of a pipe.
const PIPE_BYTES_MAX: usize = 4 << 20;
/// Where the checksum of a record stands.
const CHECKSUM_AT: u64 = 84;

/// See the module. Offsets count from the start of the file; in a pipe, from where it was opened.
#[derive(Debug)]
pub(super) struct TailFile {
    file: File,
    kind: FileType,
    identity: (u64, u64),
    form: TailForm,
    notify: Option<OwnedFd>,
    /// What was read from a pipe and not consumed, and where it starts.
    pipe: (u64, Vec<u8>),
}

impl TailFile {
    pub(super) fn open(path: &Path, form: TailForm) -> io::Result<Self> {
        let kind = FileType::from_raw_mode(stat(path)?.st_mode);
        // A pipe that has a writer at all times never tells its end.
        let access = if kind == FileType::Fifo { OFlags::RDWR } else { OFlags::RDONLY };
        let file = rustix::fs::open(path, access | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
        let found = fstat(&file)?;
        let kind = FileType::from_raw_mode(found.st_mode);
        if !matches!(kind, FileType::RegularFile | FileType::Fifo | FileType::BlockDevice) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "only a file, a FIFO or a block device can be followed",
            ));
        }
        // Without it the slow poll does.
        let notify = (kind != FileType::Fifo).then(|| notify(path).ok()).flatten();
        Ok(TailFile {
            file: File::from(file),
            kind,
            identity: (found.st_dev, found.st_ino),
            form,
            notify,
            pipe: (0, Vec::new()),
        })
    }

    pub(super) fn form(&self) -> TailForm {
        self.form
    }

    pub(super) fn is_pipe(&self) -> bool {
        self.kind == FileType::Fifo
    }

    /// Where the stream begins.
    pub(super) fn start(&self) -> u64 {
        match self.form {
            TailForm::CommittedLength if !self.is_pipe() => DATA_AT,
            _ => 0,
        }
    }

    pub(super) fn pollable(&self) -> Option<BorrowedFd<'_>> {
        if self.is_pipe() { Some(self.file.as_fd()) } else { self.notify.as_ref().map(OwnedFd::as_fd) }
    }

    /// Takes notice of what the poll told.
    pub(super) fn heard(&self) {
        if let Some(notify) = &self.notify {
            let mut buffer = [0u8; 4_096];
            while rustix::io::read(notify, &mut buffer).is_ok_and(|n| n > 0) {}
        }
    }

    /// Whether the path leads to another file now. A path that leads nowhere is waited for.
    pub(super) fn was_replaced(&self, path: &Path) -> io::Result<bool> {
        if self.is_pipe() {
            return Ok(false);
        }
        match stat(path) {
            Ok(found) => Ok((found.st_dev, found.st_ino) != self.identity),
            Err(rustix::io::Errno::NOENT) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// The end of what is committed.
    pub(super) fn end(&mut self) -> io::Result<u64> {
        if self.is_pipe() {
            self.fill_pipe()?;
            return Ok(self.pipe.0 + self.pipe.1.len() as u64);
        }
        let length = match self.kind {
            FileType::BlockDevice => (&self.file).seek(SeekFrom::End(0))?,
            _ => self.file.metadata()?.len(),
        };
        if self.form == TailForm::Plain {
            return Ok(length);
        }
        let mut word = [0u8; 8];
        match self.file.read_at(&mut word, 0)? {
            8 => Ok(DATA_AT.saturating_add(u64::from_le_bytes(word)).min(length.max(DATA_AT))),
            _ => Ok(DATA_AT),
        }
    }

    fn fill_pipe(&mut self) -> io::Result<()> {
        let mut buffer = [0u8; 64 << 10];
        while self.pipe.1.len() < PIPE_BYTES_MAX {
            match rustix::io::read(&self.file, &mut buffer) {
                Ok(0) | Err(rustix::io::Errno::AGAIN) => break,
                Ok(n) => self.pipe.1.extend_from_slice(buffer.get(..n).unwrap_or_default()),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// At most `max` bytes from `offset` up to `end`.
    pub(super) fn read(&self, offset: u64, end: u64, max: usize) -> io::Result<Vec<u8>> {
        let length = end.saturating_sub(offset).min(max as u64) as usize;
        if self.is_pipe() {
            let from = offset.saturating_sub(self.pipe.0) as usize;
            return Ok(self.pipe.1.get(from..from + length).unwrap_or_default().to_vec());
        }
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match self.file.read_at(bytes.get_mut(filled..).unwrap_or_default(), offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    /// What stands before `offset` is not needed any more.
    pub(super) fn consumed(&mut self, offset: u64) {
        if self.is_pipe() {
            let length = (offset.saturating_sub(self.pipe.0) as usize).min(self.pipe.1.len());
            self.pipe.1.drain(..length);
            self.pipe.0 += length as u64;
        }
    }

    /// Whether the record that began at `start` is still there: its checksum is.
    pub(super) fn still_holds(&self, start: u64, checksum: u32) -> io::Result<bool> {
        if self.is_pipe() {
            return Ok(true);
        }
        let mut found = [0u8; 4];
        let n = self.file.read_at(&mut found, start.saturating_add(CHECKSUM_AT))?;
        Ok(n == 4 && u32::from_le_bytes(found) == checksum)
    }
}

fn notify(path: &Path) -> io::Result<OwnedFd> {
    let fd = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
    let what = inotify::WatchFlags::MODIFY
        | inotify::WatchFlags::ATTRIB
        | inotify::WatchFlags::MOVE_SELF
        | inotify::WatchFlags::DELETE_SELF;
    inotify::add_watch(&fd, path, what)?;
    Ok(fd)
}
