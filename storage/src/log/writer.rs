//! Appending to the record: the only place that does, and the only one that syncs it.

use super::block::PreparedBlock;
use super::chain::ChainValue;
use super::lock::{LockFile, OwnerState, Watermark};
use super::prealloc::Prealloc;
use super::recover::{Recovered, Tail};
use super::segment::{END_MAGIC, MARK_BYTES, Mark, SEGMENT_HEADER_BYTES, SegmentHeader, file_name};
use crate::backend::{Backend, OpenMode};
use crate::plant::{Bug, planted, unless};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use uuid::Uuid;

/// Why a block was not appended. Nothing changed: the same block may be tried again where that is said.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// No room; the same append succeeds when there is.
    #[error("the disk is full: {0}")]
    Full(io::Error),
    /// The disk failed: the journal must be poisoned.
    #[error("the disk failed: {0}")]
    Disk(io::Error),
    /// The writer's incarnation was replaced.
    #[error("epoch {found} was replaced by {current}")]
    Fenced {
        /// The epoch of the append.
        found: u64,
        /// The writer's epoch.
        current: u64,
    },
    /// The block does not continue the record.
    #[error("block starts at event {found}, expected {expected}")]
    OutOfOrder {
        /// First event of the block.
        found: u64,
        /// The event that is next.
        expected: u64,
    },
}

/// Whether there is no room for what was to be written.
fn is_full(e: &io::Error) -> bool {
    use rustix::io::Errno;
    // A limit on the size of files is as good as a full disk: nothing was written, and it may be lifted.
    let errno = e.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) || e.kind() == io::ErrorKind::StorageFull
}

impl From<io::Error> for AppendError {
    fn from(e: io::Error) -> Self {
        if is_full(&e) { AppendError::Full(e) } else { AppendError::Disk(e) }
    }
}

/// How the writer is set up.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// Size at which a new segment is started, in bytes.
    pub segment_bytes: u64,
    /// Whether space is zero-filled ahead of the tail.
    pub preallocate: bool,
    /// Which boot.
    pub boot_id: Uuid,
}

/// The writing end of the record.
///
/// 1. `written` is never behind `durable`; the watermark never runs ahead of a returned `fdatasync`.
/// 2. A block is appended only right behind the one before, in the epoch of this writer.
#[derive(Debug)]
pub struct LogWriter {
    backend: Arc<dyn Backend>,
    folder: PathBuf,
    journal: Uuid,
    options: WriterOptions,
    lock: LockFile,
    generation: u64,
    epoch: u64,
    chain: ChainValue,
    written: u64,
    durable: u64,
    tail: Option<Tail>,
    prealloc: Arc<Prealloc>,
    state: OwnerState,
    /// The state while nothing is in the way.
    at_work: OwnerState,
    /// Content may reach the disk that no sync has covered yet.
    dirty: bool,
    /// A sync failed. Linux tells that once, so a second one would succeed and prove nothing.
    failed: bool,
}

impl LogWriter {
    /// The writer of a recovered journal.
    ///
    /// # Errors
    /// When LOCK cannot be written.
    pub fn new(
        backend: Arc<dyn Backend>,
        folder: PathBuf,
        lock: LockFile,
        recovered: &Recovered,
        options: WriterOptions,
    ) -> io::Result<Self> {
        let state = if recovered.damage.is_empty() { OwnerState::Open } else { OwnerState::Degraded };
        let prealloc = Arc::new(Prealloc::new());
        if let Some(tail) = recovered.tail.as_ref().filter(|_| options.preallocate) {
            prealloc.start(tail.file.clone(), tail.offset);
        }
        let mut writer = LogWriter {
            backend,
            folder,
            journal: recovered.journal,
            options,
            generation: lock.next_generation(&recovered.journal)?,
            lock,
            epoch: recovered.epoch,
            chain: recovered.chain,
            written: recovered.last_sequence,
            durable: recovered.last_sequence,
            tail: recovered.tail.clone(),
            prealloc,
            state,
            at_work: state,
            dirty: false,
            failed: false,
        };
        // Both slots, so that none of the later ones needs room that a full disk would not give.
        writer.publish()?;
        writer.publish()?;
        Ok(writer)
    }

    /// The journal's identity.
    pub fn journal(&self) -> Uuid {
        self.journal
    }

    /// The epoch whose appends are accepted.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Goes on in a newer epoch: from now on blocks of the one before are refused.
    pub fn advance_epoch(&mut self, epoch: u64) {
        self.epoch = self.epoch.max(epoch);
    }

    /// Whether it may be continued by another incarnation. Not so after a sync that failed or never returned here: what
    /// that sync was for may sit in the page cache only, and the record must be recovered from disk.
    pub fn is_whole(&self) -> bool {
        !self.failed
    }

    /// Last event handed to the operating system.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Last event that survives a power cut.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// The chain after the last written event.
    pub fn chain(&self) -> ChainValue {
        self.chain
    }

    /// The space ahead of the tail; some thread other than the writer's should keep filling it.
    pub fn prealloc(&self) -> Arc<Prealloc> {
        self.prealloc.clone()
    }

    /// First sequence of the segment being written, if there is one.
    pub fn segment(&self) -> Option<u64> {
        self.tail.as_ref().map(|t| t.first)
    }

    /// Appends a block. It is durable only after [`LogWriter::sync`].
    ///
    /// # Errors
    /// [`AppendError`]; after `Full` the same block may be appended again.
    pub fn append(&mut self, block: &mut PreparedBlock, epoch: u64, now_ns: i64) -> Result<(), AppendError> {
        if epoch != self.epoch && !planted(Bug::SkipEpochCheck) {
            return Err(AppendError::Fenced { found: epoch, current: self.epoch });
        }
        if self.failed {
            return Err(AppendError::Disk(io::Error::other(
                "an earlier sync failed; open the journal again",
            )));
        }
        if block.first_sequence() != self.written + 1 {
            return Err(AppendError::OutOfOrder {
                found: block.first_sequence(),
                expected: self.written + 1,
            });
        }
        let full = self.tail.as_ref().is_some_and(|t| {
            t.offset > SEGMENT_HEADER_BYTES as u64
                && t.offset + block.disk_bytes() > self.options.segment_bytes
        });
        if full {
            self.finish_segment()?;
        }
        if self.tail.is_none() {
            self.start_segment(now_ns)?;
        }
        let Some(tail) = &mut self.tail else {
            return Err(AppendError::Disk(io::Error::other("no segment to write to")));
        };
        let durable = if planted(Bug::DurableThroughAhead) { self.written } else { self.durable };
        let header = block.place(&self.journal, tail.offset, self.epoch, durable, &self.chain);
        // With each block comes the room for an end mark behind it: a full disk never keeps a journal from closing.
        let length = block.bytes.len();
        block.bytes.resize(length + MARK_BYTES, 0);
        self.prealloc.claim(header.end() + MARK_BYTES as u64);
        self.dirty = true;
        crate::chaos::point("writer:before_write");
        let wrote = tail.file.write_at(&block.bytes, tail.offset);
        block.bytes.truncate(length);
        wrote?;
        crate::chaos::point("writer:after_write");
        tail.offset = header.end();
        tail.count += u64::from(header.count);
        self.chain = header.chain_after;
        self.written = header.last_sequence();
        Ok(())
    }

    /// Makes all that was written durable and publishes the watermark. A failure is final: the journal must be poisoned.
    ///
    /// # Errors
    /// The operating system's. Never call it again after one.
    pub fn sync(&mut self) -> io::Result<u64> {
        self.plant_early_watermark()?;
        self.sync_tail()?;
        self.durable = self.written;
        match self.publish() {
            // What is durable stays so. LOCK lags, as it may, until there is room for it.
            Err(e) if is_full(&e) => {}
            published => published?,
        }
        Ok(self.durable)
    }

    /// Planted bugs only.
    #[inline(always)]
    fn plant_early_watermark(&mut self) -> io::Result<()> {
        if planted(Bug::AcknowledgeBeforeSync) {
            self.durable = self.written;
        }
        if planted(Bug::PublishBeforeSync) {
            let durable = std::mem::replace(&mut self.durable, self.written);
            self.publish()?;
            self.durable = durable;
        }
        Ok(())
    }

    /// Syncs the segment being written, if it has to be.
    fn sync_tail(&mut self) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other("an earlier sync failed; what it should have written may be lost"));
        }
        crate::chaos::point("writer:before_sync");
        self.failed = true;
        if let Some(tail) = &self.tail
            && self.dirty
        {
            unless(Bug::SkipSync, || tail.file.sync_data())
                .or_else(|e| if planted(Bug::RetryFailedSync) { tail.file.sync_data() } else { Err(e) })?;
            if let Some(e) = self.prealloc.take_sync_error() {
                // It shares the file, so it may have swallowed the error that this sync should have seen.
                return Err(e);
            }
            self.dirty = false;
        }
        self.failed = false;
        crate::chaos::point("writer:after_sync");
        Ok(())
    }

    /// Tells readers that it is at work again, with the damage it was opened with.
    ///
    /// # Errors
    /// When LOCK cannot be written.
    pub fn resume(&mut self) -> io::Result<()> {
        self.set_state(self.at_work)
    }

    /// Tells readers what the owner is doing.
    ///
    /// # Errors
    /// When LOCK cannot be written.
    pub fn set_state(&mut self, state: OwnerState) -> io::Result<()> {
        self.state = state;
        self.publish()
    }

    fn publish(&mut self) -> io::Result<()> {
        let watermark = Watermark {
            durable: self.durable,
            segment: self.tail.as_ref().map_or(0, |t| t.first),
            end_offset: self.tail.as_ref().map_or(0, |t| t.offset),
            state: self.state,
        };
        crate::chaos::point("writer:before_publish");
        self.lock.write_slot(&self.journal, self.generation, &watermark)?;
        crate::chaos::point("writer:after_publish");
        self.generation += 1;
        Ok(())
    }

    /// Leaves the full segment: it is durable as a whole before the next one exists.
    fn finish_segment(&mut self) -> Result<(), AppendError> {
        crate::chaos::point("writer:rotate");
        self.prealloc.stop();
        if let Some(tail) = &self.tail {
            // Nothing is written here any more: no room is kept, and no byte without a checksum.
            tail.file.set_len(tail.offset).map_err(AppendError::Disk)?;
            self.dirty = true;
        }
        unless(Bug::SkipSyncAtRotation, || self.sync_tail()).map_err(AppendError::Disk)?;
        self.tail = None;
        Ok(())
    }

    fn start_segment(&mut self, now_ns: i64) -> Result<(), AppendError> {
        let first = self.written + 1;
        let path = self.folder.join(file_name(first));
        let header = SegmentHeader {
            journal: self.journal,
            boot_id: self.options.boot_id,
            first_sequence: first,
            epoch: self.epoch,
            created_ns: now_ns,
            last_before: self.written,
            chain_before: self.chain,
        };
        // A file of this name can only be one that could not be finished for want of space: nothing in it is committed.
        let file = self.backend.open(&path, OpenMode::CreateOrOpen)?;
        file.write_at(&header.encode(), 0)?;
        crate::chaos::point("writer:segment_created");
        self.failed = true;
        file.sync_data().map_err(AppendError::Disk)?;
        crate::chaos::point("writer:segment_synced");
        unless(Bug::SkipSegmentDirectorySync, || self.backend.sync_dir(&self.folder))
            .map_err(AppendError::Disk)?;
        self.failed = false;
        crate::chaos::point("writer:segment_named");
        if self.options.preallocate {
            self.prealloc.start(file.clone(), SEGMENT_HEADER_BYTES as u64);
        }
        self.tail = Some(Tail { first, file, offset: SEGMENT_HEADER_BYTES as u64, count: 0 });
        Ok(())
    }

    /// Ends cleanly: everything durable, an end mark, no empty space behind it.
    ///
    /// # Errors
    /// The operating system's; what was durable stays so.
    pub fn close(&mut self, now_ns: i64) -> io::Result<()> {
        self.prealloc.stop();
        self.sync_tail()?;
        if let Some(tail) = &mut self.tail {
            if tail.count > 0 {
                let mark = Mark {
                    offset: tail.offset,
                    first: tail.first,
                    last: self.written,
                    count: tail.count,
                    written_ns: now_ns,
                    chain: self.chain,
                    seal: [0; 32],
                    footer: 0,
                };
                tail.file.write_at(&mark.encode(END_MAGIC, &self.journal), tail.offset)?;
                crate::chaos::point("writer:close_marked");
                tail.offset += MARK_BYTES as u64;
            }
            tail.file.set_len(tail.offset)?;
            crate::chaos::point("writer:close_cut");
            self.dirty = true;
        }
        unless(Bug::SkipEndMarkSync, || self.sync_tail())?;
        self.durable = self.written;
        self.set_state(OwnerState::Closed)
    }
}
