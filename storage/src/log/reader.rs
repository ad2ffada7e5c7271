//! Reading the record: which segment, which block, which entry; everything checked before it is handed out.

use super::block::{BlockHeader, HEADER_BYTES};
use super::blocks::{BlockInfo, BlockList};
use super::codec::open_body;
use super::entry::EntryRef;
use super::footer::{FooterHead, decode_blocks};
use super::lookup::{FooterSets, Names};
use super::segment::{Mark, SEGMENT_HEADER_BYTES, file_name, parse_name};
use super::unit::{PREAMBLE_BYTES, Preamble, ROW_BYTES, UnitRef, parse_entry};
use super::walk::Walk;
use crate::backend::{Backend, File, OpenMode};
use crate::error::{Damage, ReadError};
use crate::query::{BlockSummary, EventSource};
use parking_lot::{Mutex, RwLock};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;

/// Bodies kept decoded, in bytes.
const CACHE_BYTES_MAX: usize = 16 << 20;
/// A single event of a plain block larger than this is read alone.
const WHOLE_BLOCK_BYTES: u32 = 16 << 10;
/// Segment files kept open.
const OPEN_FILES_MAX: usize = 64;

/// One segment as readers see it.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) first: u64,
    pub(super) path: PathBuf,
    list: Mutex<BlockList>,
    /// What an unsealed segment's events tell, as far as it has been collected.
    pub(super) names: Mutex<Names>,
    /// The sets of a sealed segment's footer, once they were looked for and found.
    pub(super) sets: Mutex<Option<Arc<FooterSets>>>,
}

/// Segment, offset and raw body of a block.
type CachedBody = (u64, u64, Arc<Vec<u8>>);

/// The segments of a journal, shared by all readers of one process.
#[derive(Debug)]
pub struct Segments {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) folder: PathBuf,
    pub(super) journal: Uuid,
    pub(super) list: RwLock<Vec<Arc<Segment>>>,
    files: Mutex<Vec<(u64, Arc<dyn File>)>>,
    cache: Mutex<Vec<CachedBody>>,
}

impl Segments {
    /// The segments in `folder` (the journal's `segments/`).
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn open(backend: Arc<dyn Backend>, folder: PathBuf, journal: Uuid) -> Result<Self, ReadError> {
        let segments = Segments {
            backend,
            folder,
            journal,
            list: RwLock::default(),
            files: Mutex::default(),
            cache: Mutex::default(),
        };
        segments.refresh()?;
        Ok(segments)
    }

    /// The journal's identity.
    pub fn journal(&self) -> Uuid {
        self.journal
    }

    /// Where a path really lies on disk; `None` in memory.
    pub fn real_path(&self, path: &Path) -> Option<PathBuf> {
        self.backend.real_path(path)
    }

    /// Looks for segments that another process has made.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn refresh(&self) -> Result<(), ReadError> {
        segment_files(self.backend.as_ref(), &self.folder)?
            .into_iter()
            .for_each(|(first, _)| self.add(first));
        Ok(())
    }

    /// Makes a segment known; fine when it is.
    pub fn add(&self, first: u64) {
        let mut list = self.list.write();
        if let Err(at) = list.binary_search_by_key(&first, |s| s.first) {
            list.insert(at, self.unread(first));
        }
    }

    /// A segment of which nothing is remembered yet.
    fn unread(&self, first: u64) -> Arc<Segment> {
        Arc::new(Segment {
            first,
            path: self.folder.join(file_name(first)),
            list: Mutex::new(BlockList::new(first)),
            names: Mutex::default(),
            sets: Mutex::default(),
        })
    }

    /// Forgets what is remembered of a segment whose file was rewritten.
    pub fn forget(&self, first: u64) {
        // In one step: while it is not in the list, its events seem to be those of the segment before.
        if let Some(segment) = self.list.write().iter_mut().find(|s| s.first == first) {
            *segment = self.unread(first);
        }
        self.files.lock().retain(|(f, _)| *f != first);
        self.cache.lock().retain(|(f, _, _)| *f != first);
    }

    /// Looks anew at the last segments, after a recovery changed the end of the record under its readers.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn reload_end(&self) -> Result<(), ReadError> {
        let found = segment_files(self.backend.as_ref(), &self.folder)?;
        let mut list = self.list.write();
        // Recovery touches the last segment and at most the one before.
        let from = list.len().checked_sub(2).and_then(|at| list.get(at)).map_or(0, |s| s.first);
        list.retain(|s| s.first < from);
        list.extend(found.iter().filter(|(first, _)| *first >= from).map(|(first, _)| self.unread(*first)));
        self.files.lock().retain(|(f, _)| *f < from);
        self.cache.lock().retain(|(f, _, _)| *f < from);
        Ok(())
    }

    /// First sequence of each segment, in order.
    pub fn firsts(&self) -> Vec<u64> {
        self.list.read().iter().map(|s| s.first).collect()
    }

    /// The segment that holds `sequence`, and the first sequence of the next one.
    pub(super) fn segment_of(&self, sequence: u64) -> Option<(Arc<Segment>, Option<u64>)> {
        let list = self.list.read();
        let at = list.partition_point(|s| s.first <= sequence).checked_sub(1)?;
        Some((list.get(at)?.clone(), list.get(at + 1).map(|s| s.first)))
    }

    pub(super) fn file(&self, segment: &Segment) -> Result<Arc<dyn File>, ReadError> {
        let mut files = self.files.lock();
        if let Some(at) = files.iter().position(|(first, _)| *first == segment.first) {
            let found = files.remove(at);
            files.push(found.clone());
            return Ok(found.1);
        }
        let file = self
            .backend
            .open(&segment.path, OpenMode::Read)
            .map_err(|e| ReadError::io(&segment.path, "open the segment", e))?;
        if files.len() >= OPEN_FILES_MAX {
            files.remove(0);
        }
        files.push((segment.first, file.clone()));
        Ok(file)
    }

    /// The blocks of a segment that overlap a range, walked as far as needed, and damage between them.
    pub(super) fn blocks_of(
        &self,
        segment: &Segment,
        first: u64,
        last: u64,
    ) -> Result<(Vec<BlockInfo>, Vec<Damage>), ReadError> {
        let mut list = segment.list.lock();
        if list.last_sequence() < last {
            let file = self.file(segment)?;
            let io = |e| ReadError::io(&segment.path, "read the segment", e);
            let len = file.len().map_err(io)?;
            let walk = Walk { file: file.as_ref(), len, journal: self.journal };
            if list.is_new()
                && let Some((footer, seal)) = find_footer(&walk).map_err(io)?
                && seal.last >= last
            {
                let (at, length, crc) = footer.sections[0];
                let bytes = read_exact(file.as_ref(), at, length as usize).map_err(io)?;
                if let Some(blocks) = decode_blocks(&bytes, crc, segment.first) {
                    list.fill(blocks);
                }
            }
            list.extend(&walk, &segment.path, last).map_err(io)?;
        }
        let from = list.blocks.partition_point(|b| b.summary.last_sequence < first);
        let blocks =
            list.blocks.iter().skip(from).take_while(|b| b.summary.first_sequence <= last).copied().collect();
        let damage = list
            .damage
            .iter()
            .filter(|d| d.first_sequence != 0 && d.first_sequence <= last && d.last_sequence >= first)
            .cloned()
            .collect();
        Ok((blocks, damage))
    }

    /// The raw body of a block, from the cache or checked and restored.
    pub(super) fn body(
        &self,
        segment: &Segment,
        block: &BlockInfo,
        keep: bool,
    ) -> Result<Arc<Vec<u8>>, ReadError> {
        let key = (segment.first, block.offset);
        {
            let mut cache = self.cache.lock();
            if let Some(at) = cache.iter().position(|(f, o, _)| (*f, *o) == key) {
                let found = cache.remove(at);
                cache.push(found.clone());
                return Ok(found.2);
            }
        }
        let file = self.file(segment)?;
        let mut stored = vec![0; block.stored_len as usize];
        let n = file
            .read_at(&mut stored, block.offset + HEADER_BYTES as u64)
            .map_err(|e| ReadError::io(&segment.path, "read a block", e))?;
        let raw = if n < stored.len() {
            Err(format!("the file ends inside the block: {n} of {} bytes", stored.len()))
        } else {
            open_body(block.codec, stored, block.body_crc, block.raw_len as usize)
        };
        let raw = Arc::new(raw.map_err(|reason| block.damage(&segment.path, reason))?);
        if keep {
            let mut cache = self.cache.lock();
            cache.push((key.0, key.1, raw.clone()));
            let mut total: usize = cache.iter().map(|(_, _, b)| b.len()).sum();
            while total > CACHE_BYTES_MAX && cache.len() > 1 {
                total -= cache.remove(0).2.len();
            }
        }
        Ok(raw)
    }

    /// One event of a plain block, read alone.
    fn read_alone(
        &self,
        segment: &Segment,
        block: &BlockInfo,
        sequence: u64,
        visit: &mut dyn FnMut(&EntryRef<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ReadError> {
        let file = self.file(segment)?;
        let damage = |reason: String| {
            let damage = block.damage(&segment.path, reason);
            ReadError::from(Damage { first_sequence: sequence, last_sequence: sequence, ..damage })
        };
        let read = |at: u64, len: usize| -> Result<Vec<u8>, ReadError> {
            let mut bytes = vec![0; len];
            let offset = block.offset + HEADER_BYTES as u64 + at;
            let n = file
                .read_at(&mut bytes, offset)
                .map_err(|e| ReadError::io(&segment.path, "read an event", e))?;
            if n < len { Err(damage("the file ends inside the block".into())) } else { Ok(bytes) }
        };
        let preamble = Preamble::parse(&read(0, PREAMBLE_BYTES)?)
            .filter(|p| {
                p.first_sequence == block.summary.first_sequence && p.unit_len() == block.raw_len as usize
            })
            .ok_or_else(|| damage("the unit does not match its block".into()))?;
        let index = (sequence - preamble.first_sequence) as usize;
        let rows = if index + 1 < preamble.count { 2 } else { 1 };
        let table = read((PREAMBLE_BYTES + index * ROW_BYTES) as u64, rows * ROW_BYTES)?;
        let (row, next) = table.split_at_checked(ROW_BYTES).unwrap_or_default();
        let (range, crc) = preamble
            .entry_range(row, (!next.is_empty()).then_some(next))
            .ok_or_else(|| damage("entry table out of order".into()))?;
        let bytes = read(range.start as u64, range.len())?;
        let entry = parse_entry(&bytes, crc, index, &preamble).map_err(damage)?;
        Ok(visit(&entry))
    }

    fn read_block(
        &self,
        segment: &Segment,
        block: &BlockInfo,
        first: u64,
        last: u64,
        visit: &mut dyn FnMut(&EntryRef<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ReadError> {
        if first == last && block.codec == 0 && block.units == 1 && block.raw_len > WHOLE_BLOCK_BYTES {
            return self.read_alone(segment, block, first, visit);
        }
        let damage = |reason: String| ReadError::from(block.damage(&segment.path, reason));
        let whole = first <= block.summary.first_sequence && last >= block.summary.last_sequence;
        let body = self.body(segment, block, !whole)?;
        let mut rest = body.as_slice();
        while !rest.is_empty() {
            let (unit, after) =
                UnitRef::split(rest).ok_or_else(|| damage("the units of the block do not add up".into()))?;
            let start = unit.preamble.first_sequence;
            let from = first.saturating_sub(start) as usize;
            let until = (last + 1).saturating_sub(start).min(unit.preamble.count as u64) as usize;
            for index in from..until {
                if visit(&unit.entry(index).map_err(damage)?).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            rest = after;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The damage of events that are in no segment: from `next` to the segment behind them, at most to `last`.
    fn missing(&self, next: u64, last: u64) -> Damage {
        let list = self.list.read();
        let behind = list.iter().find(|s| s.first > next);
        Damage {
            segment: behind.map_or_else(|| self.folder.clone(), |s| s.path.clone()),
            offset: 0,
            length: 0,
            first_sequence: next,
            last_sequence: behind.map_or(last, |s| last.min(s.first - 1)),
            reason: format!("the segment that holds event {next} is missing"),
        }
    }

    /// Visits the entries of a range that is known to be durable.
    ///
    /// # Errors
    /// As [`EventSource::read`].
    pub fn read(
        &self,
        first: u64,
        last: u64,
        visit: &mut dyn FnMut(&EntryRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let mut next = first;
        while next <= last {
            let Some((segment, following)) = self.segment_of(next) else {
                return Err(self.missing(next, last).into());
            };
            let end = following.map_or(last, |f| last.min(f - 1));
            let (blocks, damage) = self.blocks_of(&segment, next, end)?;
            for block in &blocks {
                if block.summary.first_sequence > next {
                    break;
                }
                if self.read_block(&segment, block, next, end, visit)?.is_break() {
                    return Ok(());
                }
                next = block.summary.last_sequence + 1;
            }
            if next <= end {
                let spot = damage.into_iter().find(|d| d.first_sequence <= next && d.last_sequence >= next);
                return Err(spot.unwrap_or_else(|| self.missing(next, end)).into());
            }
        }
        Ok(())
    }

    /// Visits what can be read of a range.
    ///
    /// # Errors
    /// When the record cannot be read for another reason than damage.
    pub fn read_past_damage(
        &self,
        first: u64,
        last: u64,
        visit: &mut dyn FnMut(&EntryRef<'_>),
    ) -> Result<(), ReadError> {
        let mut from = first;
        while from <= last {
            let read = self.read(from, last, &mut |entry| {
                visit(entry);
                ControlFlow::Continue(())
            });
            match read {
                Ok(()) => break,
                Err(ReadError::Damaged(d)) if d.last_sequence >= from => from = d.last_sequence + 1,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// The footer's head and the seal of a sealed segment.
pub(super) fn find_footer(walk: &Walk<'_>) -> std::io::Result<Option<(FooterHead, Mark)>> {
    let Some(seal) = walk.seal()? else { return Ok(None) };
    let head = read_exact(walk.file, seal.footer, FooterHead::BYTES)?;
    Ok(FooterHead::decode(&head, &walk.journal, seal.footer, seal.offset).map(|head| (head, seal)))
}

/// So many bytes from there, or fewer where the file ends.
pub(super) fn read_exact(file: &dyn File, offset: u64, length: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; length.min(file.len()?.saturating_sub(offset) as usize)];
    let n = file.read_at(&mut bytes, offset)?;
    bytes.truncate(n);
    Ok(bytes)
}

/// First sequence and path of each segment in `folder`, in order; none where there is no such folder.
///
/// # Errors
/// When the folder cannot be listed.
pub fn segment_files(backend: &dyn Backend, folder: &Path) -> Result<Vec<(u64, PathBuf)>, ReadError> {
    let names = match backend.list(folder) {
        Ok(names) => names,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(ReadError::io(folder, "list the segments", e)),
    };
    let mut found: Vec<_> = names.iter().filter_map(|n| Some((parse_name(n)?, folder.join(n)))).collect();
    found.sort_unstable();
    Ok(found)
}

/// The durable part of a journal at one moment.
#[derive(Clone, Debug)]
pub struct LogView {
    segments: Arc<Segments>,
    first: u64,
    last: u64,
}

impl LogView {
    /// The events up to `last`, which must be durable.
    pub fn new(segments: Arc<Segments>, last: u64) -> Self {
        // Nothing is ever removed: a first segment that starts later means that those before it are lost.
        LogView { segments, first: 1, last }
    }
}

impl EventSource for LogView {
    fn first_sequence(&self) -> u64 {
        self.first
    }

    fn last_sequence(&self) -> u64 {
        self.last
    }

    fn blocks(&self, first: u64, last: u64) -> Result<Vec<BlockSummary>, ReadError> {
        let mut found = Vec::new();
        let (mut next, last) = (first.max(self.first), last.min(self.last));
        while next <= last {
            let Some((segment, following)) = self.segments.segment_of(next) else {
                next = self.segments.firsts().into_iter().find(|f| *f > next).unwrap_or(last + 1);
                continue;
            };
            let end = following.map_or(last, |f| last.min(f - 1));
            let (blocks, _) = self.segments.blocks_of(&segment, next, end)?;
            found.extend(blocks.iter().map(|b| b.summary));
            next = end + 1;
        }
        Ok(found)
    }

    fn read(
        &self,
        first: u64,
        last: u64,
        visit: &mut dyn FnMut(&EntryRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        if first < self.first {
            return Err(ReadError::Retained { horizon: self.first - 1 });
        }
        self.segments.read(first, last.min(self.last), visit)
    }

    fn find_id(&self, id: &Uuid) -> Result<Option<u64>, ReadError> {
        self.segments.find_id(id, self.last)
    }
}

/// Reads the header of a segment file.
pub(crate) fn read_header(
    file: &dyn File,
    path: &Path,
) -> Result<Result<super::segment::SegmentHeader, super::segment::HeaderError>, ReadError> {
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    let n = file.read_at(&mut bytes, 0).map_err(|e| ReadError::io(path, "read the segment header", e))?;
    Ok(super::segment::SegmentHeader::decode(bytes.get(..n).unwrap_or_default()))
}

/// Reads a block whole and checks body and chain; the raw body comes back.
pub(crate) fn check_block(file: &dyn File, h: &BlockHeader) -> std::io::Result<Result<Vec<u8>, String>> {
    let mut stored = vec![0; h.stored_len as usize];
    let n = file.read_at(&mut stored, h.offset + HEADER_BYTES as u64)?;
    if n < stored.len() {
        return Ok(Err(format!("the file ends inside the block: {n} of {} bytes", stored.len())));
    }
    Ok(h.open_body(stored).and_then(|raw| h.check_chain(&raw).map(|()| raw)))
}
