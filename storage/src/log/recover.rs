//! Opening after any end: makes what survived safe to build on. Every step may be cut and is then done again.
//!
//! 1. Torn bytes go to quarantine.
//! 2. Whole blocks beyond the proven point may sit in the page cache only (after a failed sync the system calls such
//!    pages clean), so they are written again, into a new segment, and synced.
//! 3. The old segment is cut where the new one starts; only then is the watermark published.

use super::block::{BlockHeader, HEADER_BYTES};
use super::bytes::put;
use super::chain::ChainValue;
use super::inspect::{Inspection, TailSegment};
use super::lock::LockInfo;
use super::segment::{MARK_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader, file_name};
use crate::backend::{Backend, File, OpenMode};
use crate::error::{Damage, ReadError};
use crate::plant::{Bug, planted, unless};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;

/// Where the next block goes, if the last segment may be continued.
#[derive(Clone, Debug)]
pub struct Tail {
    /// First sequence of the segment.
    pub first: u64,
    /// Its file, open for writing.
    pub file: Arc<dyn File>,
    /// Where the next block starts.
    pub offset: u64,
    /// How many events the segment holds.
    pub count: u64,
}

/// A journal that is safe to build on.
#[derive(Debug)]
pub struct Recovered {
    /// The journal's identity.
    pub journal: Uuid,
    /// The last event; all up to it are durable (but for those lost in `damage`).
    pub last_sequence: u64,
    /// The chain after it.
    pub chain: ChainValue,
    /// The epoch of the new owner: greater than any before.
    pub epoch: u64,
    /// Damage in the last segment.
    pub damage: Vec<Damage>,
    /// Where the next block goes; `None`: into a new segment.
    pub tail: Option<Tail>,
    /// Whether the last owner did not close.
    pub unclean: bool,
}

/// What recovery works with.
#[derive(Clone, Debug)]
pub struct Place {
    /// The file system.
    pub backend: Arc<dyn Backend>,
    /// The journal's `segments/`.
    pub segments: PathBuf,
    /// The journal's `quarantine/`.
    pub quarantine: PathBuf,
}

/// Recovers the journal at `place`. `fresh` is the identity it gets when it is new.
///
/// # Errors
/// When the disk refuses, or when the record is of a newer format.
pub fn recover(
    place: &Place,
    lock: Option<&LockInfo>,
    fresh: Uuid,
    boot_id: Uuid,
    now_ns: i64,
) -> Result<Recovered, ReadError> {
    let found = super::inspect::inspect(place.backend.as_ref(), &place.segments, lock)?;
    crate::chaos::point("recover:inspected");
    let journal = found.journal.unwrap_or(fresh);
    let unclean = !found.is_clean();
    let chain = if found.journal.is_none() { super::chain::genesis(&journal) } else { found.chain };
    let epoch = found.epoch + 1;
    for torn in &found.cuts {
        unless(Bug::SkipQuarantine, || place.set_aside(&torn.segment, torn.offset, torn.length))?;
        crate::chaos::point("recover:set_aside");
    }
    for first in &found.stillborn {
        let path = place.segments.join(file_name(*first));
        place.backend.remove_file(&path).map_err(|e| ReadError::io(&path, "remove the empty segment", e))?;
        crate::chaos::point("recover:stillborn");
    }
    if !found.stillborn.is_empty() {
        place.sync_segments()?;
    }
    if let Some((path, end)) = &found.leftover {
        // The name of the segment that replaces what is cut may not be durable yet.
        place.sync_segments()?;
        place.cut(path, *end)?;
    }
    if found.tail.is_none() {
        place.sync_ancestors()?;
    }
    let tail = match &found.tail {
        Some(tail) if !tail.sealed => place.settle(tail, &found, &journal, boot_id, epoch, now_ns)?,
        _ => None,
    };
    crate::chaos::point("recover:done");
    Ok(Recovered {
        journal,
        last_sequence: found.last_sequence,
        chain,
        epoch,
        damage: found.damage,
        tail,
        unclean,
    })
}

impl Place {
    fn sync_segments(&self) -> Result<(), ReadError> {
        self.backend.sync_dir(&self.segments).map_err(|e| ReadError::io(&self.segments, "sync the folder", e))
    }

    /// Makes the names that lead to a new journal's segments durable. Whoever made the folders may have been killed
    /// before it did, and without them everything below would be lost.
    fn sync_ancestors(&self) -> Result<(), ReadError> {
        for folder in self.segments.ancestors().skip(1) {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            match self.backend.sync_dir(folder) {
                // A folder that may not be listed was not made by us.
                Err(e) if e.kind() != io::ErrorKind::PermissionDenied => {
                    return Err(ReadError::io(folder, "sync the folder", e));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Copies a stretch of a file into quarantine, durably. The name tells the place, so doing it twice changes nothing.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn set_aside(&self, path: &Path, offset: u64, length: u64) -> Result<PathBuf, ReadError> {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let from = self.backend.open(path, OpenMode::Read).map_err(|e| ReadError::io(path, "open", e))?;
        let mut bytes = vec![0; length as usize];
        let n =
            from.read_at(&mut bytes, offset).map_err(|e| ReadError::io(path, "read the torn bytes", e))?;
        bytes.truncate(n);
        let name = format!("{stem}-{offset}-{:08x}.bin", crc32fast::hash(&bytes));
        self.keep(&name, &bytes).map_err(|e| ReadError::io(&self.quarantine, "keep bytes in the folder", e))
    }

    /// Puts bytes into a file of the quarantine folder, durably. Doing it twice changes nothing.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn keep(&self, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
        let target = self.quarantine.join(name);
        self.backend.create_dir_all(&self.quarantine)?;
        if let Some(above) = self.quarantine.parent() {
            self.backend.sync_dir(above)?;
        }
        let to = self.backend.open(&target, OpenMode::CreateOrOpen)?;
        to.write_at(bytes, 0)?;
        crate::chaos::point("quarantine:written");
        unless(Bug::SkipQuarantineSync, || to.sync_data())?;
        self.backend.sync_dir(&self.quarantine)?;
        Ok(target)
    }

    /// Ends a segment at `end`, durably.
    fn cut(&self, path: &Path, end: u64) -> Result<(), ReadError> {
        let io = |action| move |e: io::Error| ReadError::io(path, action, e);
        let file = self.backend.open(path, OpenMode::Write).map_err(io("open for writing"))?;
        file.set_len(end).map_err(io("cut"))?;
        crate::chaos::point("recover:cut");
        file.sync_data().map_err(io("sync"))
    }

    /// Brings the last segment into a state that is durable as a whole.
    fn settle(
        &self,
        tail: &TailSegment,
        found: &Inspection,
        journal: &Uuid,
        boot_id: Uuid,
        epoch: u64,
        now_ns: i64,
    ) -> Result<Option<Tail>, ReadError> {
        let io = |action| move |e: io::Error| ReadError::io(&tail.path, action, e);
        // A damaged segment is evidence: it is never cut, and the journal goes on in a new one.
        let damaged = found.damage.iter().any(|d| d.segment == tail.path);
        if tail.clean && !damaged {
            let file = self.backend.open(&tail.path, OpenMode::Write).map_err(io("open for writing"))?;
            if !tail.confirmed {
                // Its sync may have failed, and then the mark is in the page cache only, called clean there.
                let mut mark = [0; MARK_BYTES];
                let at = tail.end - MARK_BYTES as u64;
                file.read_at(&mut mark, at).map_err(io("read the end mark"))?;
                file.write_at(&mark, at).map_err(io("write the end mark"))?;
                crate::chaos::point("recover:marked");
                self.cut(&tail.path, tail.end)?;
            }
            let count = tail.blocks.iter().map(|h| u64::from(h.count)).sum();
            return Ok(Some(Tail { first: tail.first, file, offset: tail.end, count }));
        }
        let at = tail.blocks.partition_point(|h| h.last_sequence() <= found.proven);
        let unproven = tail.blocks.get(at..).unwrap_or_default();
        let next = unproven.first().map_or(found.last_sequence + 1, |h| h.first_sequence);
        if damaged && next == tail.first {
            // The new one takes its name.
            let file = self.backend.open(&tail.path, OpenMode::Read).map_err(io("open"))?;
            self.set_aside(&tail.path, 0, file.len().map_err(io("measure"))?)?;
        }
        if unproven.is_empty() || planted(Bug::TrustPageCache) {
            if !damaged {
                self.cut(&tail.path, tail.end)?;
            } else if next == tail.first {
                self.backend.remove_file(&tail.path).map_err(io("remove the damaged segment"))?;
                crate::chaos::point("recover:removed");
                self.sync_segments()?;
            }
            return Ok(None);
        }
        if planted(Bug::CutBeforeRewrite) && next != tail.first && !damaged {
            self.cut(&tail.path, unproven.first().map_or(tail.end, |h| h.offset))?;
        }
        let rewritten = self.rewrite(tail, unproven, journal, boot_id, epoch, now_ns)?;
        if rewritten.first != tail.first && !damaged {
            let cut = unproven.first().map_or(tail.end, |h| h.offset);
            self.cut(&tail.path, cut)?;
        }
        Ok(Some(rewritten))
    }

    /// Writes `blocks` of `tail` again into a new segment.
    fn rewrite(
        &self,
        tail: &TailSegment,
        blocks: &[BlockHeader],
        journal: &Uuid,
        boot_id: Uuid,
        epoch: u64,
        now_ns: i64,
    ) -> Result<Tail, ReadError> {
        let io = |action| move |e: io::Error| ReadError::io(&tail.path, action, e);
        let old = self.backend.open(&tail.path, OpenMode::Read).map_err(io("open"))?;
        let (first, chain_before) =
            blocks.first().map_or((tail.first, [0; 32]), |h| (h.first_sequence, h.chain_before));
        let path = self.segments.join(file_name(first));
        let temporary = path.with_extension("tmp");
        let _ = self.backend.remove_file(&temporary);
        let new = self.backend.open(&temporary, OpenMode::CreateNew).map_err(io("create the new segment"))?;
        let header = SegmentHeader {
            journal: *journal,
            boot_id,
            first_sequence: first,
            epoch,
            created_ns: now_ns,
            last_before: first - 1,
            chain_before,
        };
        new.write_at(&header.encode(), 0).map_err(io("write the new segment"))?;
        let mut offset = SEGMENT_HEADER_BYTES as u64;
        for h in blocks {
            let mut bytes = vec![0; HEADER_BYTES + h.stored_len as usize];
            old.read_at(&mut bytes, h.offset).map_err(io("read a block"))?;
            let moved = BlockHeader { offset, epoch, durable_through: first - 1, ..*h };
            put(&mut bytes, 0, &moved.encode(journal));
            new.write_at(&bytes, offset).map_err(io("write a block"))?;
            offset = moved.end();
        }
        unless(Bug::SkipRewriteSync, || new.sync_data()).map_err(io("sync the new segment"))?;
        crate::chaos::point("recover:rewritten");
        self.backend.rename(&temporary, &path).map_err(io("put the new segment in place"))?;
        crate::chaos::point("recover:renamed");
        unless(Bug::SkipRenameDirectorySync, || self.sync_segments())?;
        Ok(Tail { first, file: new, offset, count: blocks.iter().map(|h| u64::from(h.count)).sum() })
    }
}
