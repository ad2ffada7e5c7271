//! Writes a stream of kernel records with a committed length, and wakes who reads it.

use super::head_page::{CLOCK_AT, DATA_AT, LAPS_AT, LENGTH_AT, SLEEPS_AT, WAKES_AT, clock_bytes};
use rustix::thread::futex;
use semj_storage::log::control::ClockAnchor;
use semj_sys::page::{PAGE_BYTES, Page};
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

const _: () = assert!(PAGE_BYTES as u64 == DATA_AT);

/// The writing end of [`super::TailForm::CommittedLength`], for a program that hands records to a journal of another
/// process: data first, then the length, then a wake-up where a reader says that it sleeps (about a microsecond without).
///
/// The file has a fixed size. Where a record finds no room the writer begins again at the start: what nobody has read by
/// then is lost, and the reader tells how much by the sequences. One writer at a time; no locks are taken.
///
/// ```
/// use semj_actors::sources::CommittedWriter;
/// # let folder = tempfile::tempdir()?;
/// let mut writer = CommittedWriter::create(&folder.path().join("kernel"), 1 << 20)?;
/// writer.append(&[7; 100])?;
/// assert_eq!(writer.committed(), 100);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct CommittedWriter {
    file: File,
    page: Page,
    /// Bytes of the stream that find room.
    capacity: u64,
    length: u64,
}

impl CommittedWriter {
    /// Makes the file with room for so many bytes of records, or empties it; a block device keeps its size.
    ///
    /// # Errors
    /// When it cannot be made, written or mapped, or is too small for anything.
    pub fn create(path: &Path, capacity: u64) -> io::Result<Self> {
        let is_device = std::fs::metadata(path).is_ok_and(|m| !m.is_file());
        let file = File::options().read(true).write(true).create(!is_device).truncate(false).open(path)?;
        // Who reads it notices that it is another one.
        let mut laps = [0; 8];
        let _ = file.read_exact_at(&mut laps, LAPS_AT as u64);
        let laps = u64::from_le_bytes(laps).wrapping_add(1);
        let capacity = if is_device {
            rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0))?.saturating_sub(DATA_AT)
        } else {
            file.set_len(0)?;
            file.set_len(DATA_AT.saturating_add(capacity))?;
            capacity
        };
        if capacity == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "there is no room behind the first page",
            ));
        }
        file.write_all_at(&[0; PAGE_BYTES], 0)?;
        file.write_all_at(&laps.to_le_bytes(), LAPS_AT as u64)?;
        let page = Page::map(file.as_fd(), true)?;
        file.write_all_at(&1u32.to_le_bytes(), WAKES_AT as u64)?;
        Ok(CommittedWriter { file, page, capacity, length: 0 })
    }

    fn words(&self) -> io::Result<(&AtomicU64, &AtomicU32)> {
        let words = self.page.long(LENGTH_AT).zip(self.page.word(SLEEPS_AT));
        words.ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// So many bytes are committed.
    pub fn committed(&self) -> u64 {
        self.length
    }

    /// Writes a record without committing it; `true` where it begins again at the start.
    ///
    /// # Errors
    /// When the file cannot be written, or the record is larger than all of it.
    pub fn write(&mut self, record: &[u8]) -> io::Result<bool> {
        let bytes = record.len() as u64;
        if bytes > self.capacity {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the record is larger than the file"));
        }
        let begins_again = self.length + bytes > self.capacity;
        if begins_again {
            // What is being overwritten is not committed any more.
            self.length = 0;
            self.words()?.0.store(0, Ordering::SeqCst);
            let laps = self.page.long(LAPS_AT).ok_or(io::ErrorKind::InvalidInput)?;
            laps.store(u64::from_le(laps.load(Ordering::SeqCst)).wrapping_add(1).to_le(), Ordering::SeqCst);
        }
        self.file.write_all_at(record, DATA_AT + self.length)?;
        self.length += bytes;
        Ok(begins_again)
    }

    /// Commits what was written, and wakes who sleeps.
    ///
    /// # Errors
    /// None once it was made.
    pub fn commit(&self) -> io::Result<()> {
        let (length, sleeps) = self.words()?;
        length.store(self.length.to_le(), Ordering::SeqCst);
        if sleeps.load(Ordering::SeqCst) != 0 {
            sleeps.store(0, Ordering::SeqCst);
            futex::wake(sleeps, futex::Flags::empty(), i32::MAX.unsigned_abs())?;
        }
        Ok(())
    }

    /// Writes and commits a record; `true` where it began again at the start.
    ///
    /// # Errors
    /// As [`CommittedWriter::write`].
    pub fn append(&mut self, record: &[u8]) -> io::Result<bool> {
        let begins_again = self.write(record)?;
        self.commit()?;
        Ok(begins_again)
    }

    /// Says what the clocks of the machine that makes the records are: its readers can tell wall-clock times then, and that
    /// the clock was set. Once a second is enough.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn tell_clock(&self, anchor: &ClockAnchor) -> io::Result<()> {
        self.file.write_all_at(&clock_bytes(anchor), CLOCK_AT as u64)
    }
}
