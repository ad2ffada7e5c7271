//! What survived: reads the tail of the record and applies the proof rule. Changes nothing.
//!
//! A sequence is *proven* when LOCK, a later block's `durable_through`, an end mark or a seal covers it. An invalid spot
//! at a proven sequence is damage, and numbering goes on behind it; one with nothing proven at or after it is a torn tail.

use super::block::BlockHeader;
use super::chain::{ChainValue, genesis};
use super::lock::{LockInfo, OwnerState};
use super::reader::{check_block, read_header, segment_files};
use super::segment::{HeaderError, MARK_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader, file_name};
use super::walk::{Item, Walk};
use crate::backend::{Backend, File, OpenMode};
use crate::error::{Damage, ReadError};
use crate::plant::{Bug, planted};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// Bytes behind the last commit that were never acknowledged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TornTail {
    /// The segment file.
    pub segment: PathBuf,
    /// Where the torn bytes start.
    pub offset: u64,
    /// How many there are, trailing zeros left out.
    pub length: u64,
    /// What is wrong with them.
    pub reason: String,
}

/// The last segment, as found.
#[derive(Debug)]
pub(crate) struct TailSegment {
    pub(crate) first: u64,
    pub(crate) path: PathBuf,
    /// Whole blocks in order, up to the end that is kept.
    pub(crate) blocks: Vec<BlockHeader>,
    /// Where the kept part ends.
    pub(crate) end: u64,
    /// Closed cleanly (or sealed): nothing to repair.
    pub(crate) clean: bool,
    /// LOCK says that the clean close was finished.
    pub(crate) confirmed: bool,
    /// Sealed: nothing may be appended.
    pub(crate) sealed: bool,
}

/// What survived.
#[derive(Debug)]
pub struct Inspection {
    /// The journal's identity; `None` when neither LOCK nor a segment tells.
    pub journal: Option<Uuid>,
    /// The last event that is kept.
    pub last_sequence: u64,
    /// The last event that is proven to have been durable.
    pub proven: u64,
    /// The chain after the last event.
    pub chain: ChainValue,
    /// The largest epoch seen.
    pub epoch: u64,
    /// Damage found in the part that was looked at: the last segment.
    pub damage: Vec<Damage>,
    /// What is cut from the end.
    pub torn: Option<TornTail>,
    /// All that recovery takes away; `torn` is the first of it.
    pub(crate) cuts: Vec<TornTail>,
    /// Where a recovery that was cut should have cut the segment before the last.
    pub(crate) leftover: Option<(PathBuf, u64)>,
    /// Segment files that never got their first block.
    pub(crate) stillborn: Vec<u64>,
    pub(crate) tail: Option<TailSegment>,
}

impl Inspection {
    /// Whether the journal was closed cleanly.
    pub fn is_clean(&self) -> bool {
        self.tail.as_ref().is_none_or(|t| t.clean) && self.stillborn.is_empty() && self.damage.is_empty()
    }
}

/// Reads the tail of the record in `folder` (the journal's `segments/`).
///
/// # Errors
/// When files cannot be read, are of a newer format, or belong to different journals.
pub fn inspect(
    backend: &dyn Backend,
    folder: &Path,
    lock: Option<&LockInfo>,
) -> Result<Inspection, ReadError> {
    let mut found = inspect_from_the_end(backend, folder, lock)?;
    found.torn = found.cuts.first().cloned();
    Ok(found)
}

fn inspect_from_the_end(
    backend: &dyn Backend,
    folder: &Path,
    lock: Option<&LockInfo>,
) -> Result<Inspection, ReadError> {
    let firsts: Vec<u64> = segment_files(backend, folder)?.into_iter().map(|(first, _)| first).collect();
    let mut found = Inspection {
        journal: lock.map(|l| l.journal),
        last_sequence: 0,
        proven: 0,
        chain: [0; 32],
        epoch: 0,
        damage: Vec::new(),
        torn: None,
        cuts: Vec::new(),
        leftover: None,
        stillborn: Vec::new(),
        tail: None,
    };
    let identity = identity(backend, folder, &firsts, lock)?;
    // The segments are the record; a LOCK of another journal was copied here and proves nothing.
    let watermark = lock.filter(|l| identity.is_none_or(|id| id == l.journal)).and_then(|l| l.watermark);
    found.journal = identity.or(found.journal);
    let Some(journal) = found.journal else {
        for first in &firsts {
            let path = folder.join(file_name(*first));
            refuse_content(backend, &path)?;
        }
        found.stillborn = firsts;
        return Ok(found);
    };
    found.chain = genesis(&journal);
    found.proven = watermark.map_or(0, |w| w.durable);
    let closed_end = watermark.filter(|w| w.state == OwnerState::Closed).map(|w| (w.segment, w.end_offset));
    for (at, first) in firsts.iter().copied().enumerate().rev() {
        let path = folder.join(file_name(first));
        let file =
            backend.open(&path, OpenMode::Read).map_err(|e| ReadError::io(&path, "open the segment", e))?;
        let len = file.len().map_err(|e| ReadError::io(&path, "measure the segment", e))?;
        let walk = Walk { file: file.as_ref(), len, journal };
        let header = checked_header(file.as_ref(), &path)?;
        if let Ok(h) = &header
            && h.journal != journal
        {
            let reason = format!("this segment belongs to journal {}, the others to {journal}", h.journal);
            return Err(ReadError::NotAJournal { path, reason });
        }
        if let Ok(h) = &header
            && h.first_sequence != first
        {
            let reason = format!("this segment starts at event {}, its name says {first}", h.first_sequence);
            return Err(ReadError::NotAJournal { path, reason });
        }
        let blank =
            walk.resync(SEGMENT_HEADER_BYTES as u64).map_err(|e| ReadError::io(&path, "read", e))?.is_none();
        if blank && found.proven < first {
            // Created, but its first block never became whole: the journal ends in the segment before.
            let torn = match &header {
                Ok(_) => torn_at(&walk, &path, SEGMENT_HEADER_BYTES as u64, "no whole block".into())?,
                Err(reason) => torn_at(&walk, &path, 0, reason.clone())?,
            };
            found.cuts.extend(torn);
            if let Ok(h) = header {
                found.epoch = found.epoch.max(h.epoch);
            }
            found.stillborn.push(first);
            continue;
        }
        let chain_before = header.as_ref().ok().map(|h| h.chain_before);
        inspect_tail(&mut found, &walk, first, path, header, closed_end)?;
        let before = firsts.get(..at).and_then(|f| f.last());
        if let (Some(before), Some(chain), Some(false)) =
            (before, chain_before, found.tail.as_ref().map(|t| t.clean))
        {
            inspect_leftover(&mut found, backend, &folder.join(file_name(*before)), (*before, first), chain)?;
        }
        return Ok(found);
    }
    // A watermark without any segment: all that was durable is gone.
    if found.proven > 0 {
        let proven = found.proven;
        found.damage.push(Damage {
            segment: folder.to_owned(),
            offset: 0,
            length: 0,
            first_sequence: 1,
            last_sequence: proven,
            reason: "the segments are missing".into(),
        });
        found.last_sequence = proven;
    }
    Ok(found)
}

/// The identity that the segments tell; `None` where no header is whole. Most opens look at one header: all are looked
/// at only where LOCK does not say the same.
fn identity(
    backend: &dyn Backend,
    folder: &Path,
    firsts: &[u64],
    lock: Option<&LockInfo>,
) -> Result<Option<Uuid>, ReadError> {
    let mut identity = None;
    for first in firsts.iter().rev() {
        let path = folder.join(file_name(*first));
        let file =
            backend.open(&path, OpenMode::Read).map_err(|e| ReadError::io(&path, "open the segment", e))?;
        let Ok(header) = checked_header(file.as_ref(), &path)? else { continue };
        let expected = *identity.get_or_insert(header.journal);
        if header.journal != expected {
            let reason =
                format!("this segment belongs to journal {}, a later one to {expected}", header.journal);
            return Err(ReadError::NotAJournal { path, reason });
        }
        if lock.is_some_and(|l| l.journal == expected) {
            break;
        }
    }
    Ok(identity)
}

/// Refuses a segment that holds something while nothing tells which journal it belongs to. A header is durable before
/// anything is written behind it, so this is damage, and not to be taken for a file that was never begun.
fn refuse_content(backend: &dyn Backend, path: &Path) -> Result<(), ReadError> {
    let file = backend.open(path, OpenMode::Read).map_err(|e| ReadError::io(path, "open the segment", e))?;
    let len = file.len().map_err(|e| ReadError::io(path, "measure the segment", e))?;
    let walk = Walk { file: file.as_ref(), len, journal: Uuid::nil() };
    match torn_at(&walk, path, SEGMENT_HEADER_BYTES as u64, String::new())? {
        None => Ok(()),
        Some(_) => {
            let reason =
                "the headers of all segments and LOCK are damaged: nothing tells which journal this is";
            Err(ReadError::NotAJournal { path: path.to_owned(), reason: reason.into() })
        }
    }
}

fn checked_header(file: &dyn File, path: &Path) -> Result<Result<SegmentHeader, String>, ReadError> {
    match read_header(file, path)? {
        Ok(h) => Ok(Ok(h)),
        Err(HeaderError::Bad(reason)) => Ok(Err(reason)),
        Err(HeaderError::Newer(found)) => Err(ReadError::NewerFormat {
            path: path.to_owned(),
            found,
            supported: super::segment::FORMAT_VERSION,
        }),
    }
}

/// What lies between `offset` and the end, trailing zeros left out; `None` when it is all zero.
fn torn_at(walk: &Walk<'_>, path: &Path, offset: u64, reason: String) -> Result<Option<TornTail>, ReadError> {
    let mut bytes = vec![0; walk.len.saturating_sub(offset) as usize];
    let n = walk.file.read_at(&mut bytes, offset).map_err(|e| ReadError::io(path, "read the tail", e))?;
    bytes.truncate(n);
    let length = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last as u64 + 1);
    Ok((length > 0).then(|| TornTail { segment: path.to_owned(), offset, length, reason }))
}

/// Finds what stands in a segment behind its last event, `range.1 - 1`: a recovery put the next segment in place and was
/// cut before it could cut this one. A damaged segment is left as it is.
fn inspect_leftover(
    found: &mut Inspection,
    backend: &dyn Backend,
    path: &Path,
    range: (u64, u64),
    chain_after: ChainValue,
) -> Result<(), ReadError> {
    let file = backend.open(path, OpenMode::Read).map_err(|e| ReadError::io(path, "open the segment", e))?;
    let io = |e| ReadError::io(path, "read the segment", e);
    let len = file.len().map_err(io)?;
    let Some(journal) = found.journal else { return Ok(()) };
    let Ok(header) = checked_header(file.as_ref(), path)? else { return Ok(()) };
    let walk = Walk { file: file.as_ref(), len, journal };
    let (mut offset, mut next, mut chain) = (SEGMENT_HEADER_BYTES as u64, range.0, header.chain_before);
    loop {
        match walk.item(offset).map_err(io)? {
            Item::Block(h) if next < range.1 && h.first_sequence == next && h.chain_before == chain => {
                (offset, next, chain) = (h.end(), h.last_sequence() + 1, h.chain_after);
            }
            Item::End(mark) if mark.last + 1 == next && mark.chain == chain => offset += MARK_BYTES as u64,
            Item::CleanEnd | Item::Footer => return Ok(()),
            _ if next == range.1 && chain == chain_after => break,
            _ => return Ok(()),
        }
    }
    found.cuts.extend(torn_at(&walk, path, offset, "left by a recovery that was cut".into())?);
    found.leftover = Some((path.to_owned(), offset));
    Ok(())
}

/// What a block proves.
#[inline(always)]
fn told(durable_through: u64) -> u64 {
    if planted(Bug::IgnoreDurableThrough) { 0 } else { durable_through }
}

fn inspect_tail(
    found: &mut Inspection,
    walk: &Walk<'_>,
    first: u64,
    path: PathBuf,
    header: Result<SegmentHeader, String>,
    closed_end: Option<(u64, u64)>,
) -> Result<(), ReadError> {
    let io = |e| ReadError::io(&path, "read the segment", e);
    let mut headers: Vec<BlockHeader> = Vec::new();
    let mut chain = match header {
        Ok(h) => {
            found.epoch = found.epoch.max(h.epoch);
            Some(h.chain_before)
        }
        Err(reason) => {
            let spot = Damage {
                segment: path.clone(),
                offset: 0,
                length: SEGMENT_HEADER_BYTES as u64,
                first_sequence: 0,
                last_sequence: 0,
                reason,
            };
            found.damage.push(spot);
            None
        }
    };
    let seal = walk.seal().map_err(io)?;
    if let Some(seal) = &seal {
        found.proven = found.proven.max(seal.last);
    }
    let (mut offset, mut next, mut end_mark) = (SEGMENT_HEADER_BYTES as u64, first, None);
    let mut invalid: Option<(u64, String)> = None;
    loop {
        let reason = match walk.item(offset).map_err(io)? {
            Item::Block(h) if h.first_sequence == next && chain.is_none_or(|c| c == h.chain_before) => {
                found.proven = found.proven.max(told(h.durable_through));
                found.epoch = found.epoch.max(h.epoch);
                (offset, next, chain, end_mark) = (h.end(), h.last_sequence() + 1, Some(h.chain_after), None);
                headers.push(*h);
                continue;
            }
            Item::Block(h) => format!(
                "block starts at event {}, expected {next} and its place in the chain",
                h.first_sequence
            ),
            Item::End(mark) => {
                found.proven = found.proven.max(mark.last);
                end_mark = Some(mark);
                offset += MARK_BYTES as u64;
                continue;
            }
            Item::Footer if seal.is_some_and(|s| s.footer == offset && s.last + 1 == next) => break,
            Item::Footer => "the footer is not sealed".into(),
            Item::CleanEnd => break,
            Item::Invalid(reason) => reason,
        };
        // What later blocks prove decides what this spot is.
        let mut from = offset + 1;
        let mut behind = None;
        while let Some(at) = walk.resync(from).map_err(io)? {
            from = at + 1;
            match walk.item(at).map_err(io)? {
                Item::Block(h) => {
                    // What looks like a block inside its body is none.
                    from = h.end();
                    found.proven = found.proven.max(told(h.durable_through));
                    if h.first_sequence >= next && behind.is_none() {
                        behind = Some(h);
                    }
                }
                Item::End(mark) => found.proven = found.proven.max(mark.last),
                _ => {}
            }
        }
        if next > found.proven || planted(Bug::DamageIsTorn) {
            invalid = Some((offset, reason));
            break;
        }
        let (spot_end, last) = match &behind {
            Some(h) => (h.offset, h.first_sequence - 1),
            None => (walk.len, found.proven),
        };
        found.damage.push(Damage {
            segment: path.clone(),
            offset,
            length: spot_end - offset,
            first_sequence: if last < next { 0 } else { next },
            last_sequence: if last < next { 0 } else { last },
            reason,
        });
        match behind {
            Some(h) => (offset, next, chain) = (h.offset, h.first_sequence, None),
            None => {
                (offset, next) = (walk.len, last + 1);
                break;
            }
        }
    }
    if next <= found.proven && invalid.is_none() {
        found.damage.push(Damage {
            segment: path.clone(),
            offset,
            length: walk.len.saturating_sub(offset),
            first_sequence: next,
            last_sequence: found.proven,
            reason: format!("the segment ends at event {}, {} were durable", next - 1, found.proven),
        });
        next = found.proven + 1;
    }
    // Blocks that nothing proves are kept only as far as they are whole.
    let unproven = headers.partition_point(|h| h.last_sequence() <= found.proven);
    for at in unproven..(if planted(Bug::KeepTornTail) { 0 } else { headers.len() }) {
        let Some(h) = headers.get(at) else { break };
        if let Err(reason) = check_block(walk.file, h).map_err(io)? {
            invalid = Some((h.offset, reason));
            (next, chain) = (h.first_sequence, Some(h.chain_before));
            headers.truncate(at);
            end_mark = None;
            break;
        }
    }
    let end = invalid.as_ref().map_or(offset, |(at, _)| *at);
    let reason = invalid.map(|(_, reason)| reason);
    // LOCK says that the journal was closed with an end mark behind this place; nothing takes one away.
    let unmarked = closed_end.is_some_and(|(segment, e)| segment == first && e > end);
    if unmarked && found.damage.iter().all(|d| d.first_sequence == 0) {
        found.damage.push(Damage {
            segment: path.clone(),
            offset: end,
            length: walk.len.saturating_sub(end),
            first_sequence: 0,
            last_sequence: 0,
            reason: format!(
                "the end of a cleanly closed journal: {}",
                reason.as_deref().unwrap_or("no end mark")
            ),
        });
    }
    if let Some(reason) = reason {
        found.cuts.extend(torn_at(walk, &path, end, reason)?);
    }
    found.last_sequence = next - 1;
    found.chain = chain.or(headers.last().map(|h| h.chain_after)).unwrap_or(found.chain);
    let sealed = seal.is_some() && found.damage.is_empty();
    let confirmed = closed_end == Some((first, end));
    let closed = end_mark.is_some_and(|m| m.last + 1 == next && Some(m.chain) == chain);
    found.tail = Some(TailSegment {
        first,
        path,
        blocks: headers,
        end,
        clean: found.cuts.is_empty() && (sealed || closed),
        confirmed,
        sealed,
    });
    Ok(())
}
