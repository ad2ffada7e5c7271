//! The file, FIFO or block device behind a tail: its end, its bytes, and what tells that it changed.

use super::head_page::{DATA_AT, HEAD_BYTES, HeadPage, LAPS_AT};
use super::semj_tail::TailForm;
use super::tail_wakes::Wakes;
use rustix::fs::{FileType, Mode, OFlags, fstat, stat};
use semj_storage::log::control::ClockAnchor;
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::os::fd::{AsFd as _, BorrowedFd};
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
    wakes: Option<Wakes>,
    /// The page before the stream, when it was read last.
    head: Option<HeadPage>,
    /// What was read from a pipe and not consumed, and where it starts.
    pipe: (u64, Vec<u8>),
}

impl TailFile {
    pub(super) fn open(path: &Path, form: TailForm) -> io::Result<Self> {
        // Without it the slow poll does.
        Self::open_with(path, form, Wakes::new().ok())
    }

    fn open_with(path: &Path, form: TailForm, wakes: Option<Wakes>) -> io::Result<Self> {
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
        let mut file = TailFile {
            file: File::from(file),
            kind,
            identity: (found.st_dev, found.st_ino),
            form,
            wakes: wakes.filter(|_| kind != FileType::Fifo),
            head: None,
            pipe: (0, Vec::new()),
        };
        if !file.is_pipe() {
            file.watch(path)?;
        }
        Ok(file)
    }

    /// Opens the file that is at the path now; what tells of changes stays the same descriptor.
    pub(super) fn reopen(&mut self, path: &Path) -> io::Result<()> {
        let wakes = self.wakes.take();
        *self = Self::open_with(path, self.form, wakes)?;
        Ok(())
    }

    fn watch(&mut self, path: &Path) -> io::Result<()> {
        self.end()?;
        let writer_wakes = self.head.is_some_and(|h| h.wakes);
        if let Some(wakes) = &mut self.wakes {
            wakes.watch(path, writer_wakes);
        }
        Ok(())
    }

    /// How often the writer began again at the start, where it counts that.
    pub(super) fn laps(&self) -> io::Result<u64> {
        let mut laps = [0u8; 8];
        if self.form == TailForm::CommittedLength && !self.is_pipe() {
            self.file.read_at(&mut laps, LAPS_AT as u64)?;
        }
        Ok(u64::from_le_bytes(laps))
    }

    /// What the clocks of the writer's machine said last, where it tells.
    pub(super) fn clock(&self) -> Option<ClockAnchor> {
        self.head.and_then(|h| h.clock)
    }

    /// There is nothing more to be read up to `end`: the writer is asked to tell when there is. `false` when there is already.
    pub(super) fn sleep(&mut self, path: &Path, end: u64) -> io::Result<bool> {
        let Some(head) = self.head else { return Ok(true) };
        // The writer may have come after us.
        if head.wakes && self.wakes.as_ref().is_some_and(|w| !w.was_asked()) {
            self.watch(path)?;
        }
        let sleeps_already = self.head.is_some_and(|h| h.sleeps);
        let was_asked = self.wakes.as_mut().is_some_and(|w| w.sleep(sleeps_already));
        Ok(!was_asked || self.end()? == end)
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
        if self.is_pipe() { Some(self.file.as_fd()) } else { self.wakes.as_ref().map(Wakes::pollable) }
    }

    /// Takes notice of what the poll told.
    pub(super) fn heard(&self) {
        if let Some(wakes) = &self.wakes {
            wakes.heard();
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
        let mut page = [0u8; HEAD_BYTES];
        self.head = match self.file.read_at(&mut page, 0)? {
            HEAD_BYTES => Some(HeadPage::read(&page)),
            _ => None,
        };
        let committed = self.head.map_or(0, |h| h.length);
        Ok(DATA_AT.saturating_add(committed).min(length.max(DATA_AT)))
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
