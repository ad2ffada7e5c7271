//! Sealing a finished segment: everything in it is read and checked once more, then its footer and seal are written.
//!
//! A crash on the way leaves a segment without a seal, and sealing starts over. A damaged segment is never sealed: what
//! is left of it stays as it is.

use super::block::BlockHeader;
use super::blocks::BlockInfo;
use super::chain;
use super::control::{CERTIFICATE, COVERAGE, RESUME_POINT, ResumePoint};
use super::footer::FooterBuilder;
use super::reader::{check_block, read_header};
use super::segment::{
    MARK_BYTES, Mark, SEAL_MAGIC, SEGMENT_HEADER_BYTES, file_name, sealed_semj_header,
    semj_header_is_half_sealed,
};
use super::unit::UnitRef;
use super::walk::{Item, Walk};
use crate::backend::{Backend, OpenMode};
use crate::error::ReadError;
use crate::plant::{Bug, unless};
use std::path::Path;
use uuid::Uuid;

/// How sealing ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sealing {
    /// Sealed now, or before.
    Sealed,
    /// Damage in the segment: it stays as it is.
    Damaged,
}

/// Whether a segment is sealed.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn is_sealed(
    backend: &dyn Backend,
    folder: &Path,
    journal: Uuid,
    first: u64,
) -> Result<bool, ReadError> {
    let path = folder.join(file_name(first));
    let io = |e| ReadError::io(&path, "look for the seal", e);
    let file = backend.open(&path, OpenMode::Read).map_err(io)?;
    let walk = Walk { file: file.as_ref(), len: file.len().map_err(io)?, journal };
    is_finished(&walk).map_err(io)
}

/// Whether a segment's seal was finished. The header's totals are written behind the sync of footer and seal: without
/// them the seal may have reached the disk and its footer not.
fn is_finished(walk: &Walk<'_>) -> std::io::Result<bool> {
    let Some(seal) = walk.seal()? else { return Ok(false) };
    let mut head = [0; SEGMENT_HEADER_BYTES];
    walk.file.read_at(&mut head, 0)?;
    // A header that is damaged in another way tells nothing; such a segment is left as it is.
    Ok(!semj_header_is_half_sealed(&head, &seal))
}

/// Seals the segment that starts with event `first` and ends with event `last`. Nobody may append to it any more.
///
/// # Errors
/// When the disk refuses.
pub(super) fn seal_segment(
    backend: &dyn Backend,
    folder: &Path,
    journal: Uuid,
    first: u64,
    last: u64,
    now_ns: i64,
) -> Result<Sealing, ReadError> {
    let path = folder.join(file_name(first));
    let io = |action| {
        let path = path.clone();
        move |e| ReadError::io(&path, action, e)
    };
    let file = backend.open(&path, OpenMode::Write).map_err(io("open for sealing"))?;
    let len = file.len().map_err(io("measure"))?;
    let walk = Walk { file: file.as_ref(), len, journal };
    if is_finished(&walk).map_err(io("look for the seal"))? {
        return Ok(Sealing::Sealed);
    }
    crate::chaos::point("seal:begin");
    let Ok(header) = read_header(file.as_ref(), &path)? else { return Ok(Sealing::Damaged) };
    let (mut offset, mut next, mut chain) = (SEGMENT_HEADER_BYTES as u64, first, header.chain_before);
    let mut footer = FooterBuilder::default();
    while next <= last {
        match walk.item(offset).map_err(io("read"))? {
            Item::Block(h) if h.first_sequence == next && h.chain_before == chain => {
                let Ok(raw) = check_block(file.as_ref(), &h).map_err(io("read a block"))? else {
                    return Ok(Sealing::Damaged);
                };
                if !collect(&h, &raw, first, &mut footer) {
                    return Ok(Sealing::Damaged);
                }
                (offset, next, chain) = (h.end(), h.last_sequence() + 1, h.chain_after);
            }
            Item::End(mark) if mark.last + 1 == next && mark.chain == chain => offset += MARK_BYTES as u64,
            _ => return Ok(Sealing::Damaged),
        }
    }
    // A control block or an end mark may follow the last event.
    loop {
        match walk.item(offset).map_err(io("read"))? {
            Item::Block(h) if h.count == 0 && h.first_sequence == next && h.chain_before == chain => {
                footer.block(&BlockInfo::from(h.as_ref()));
                (offset, chain) = (h.end(), h.chain_after);
            }
            Item::End(mark) if mark.last + 1 == next && mark.chain == chain => offset += MARK_BYTES as u64,
            _ => break,
        }
    }
    let bytes = footer.encode(&journal);
    let end = offset + bytes.len() as u64;
    let count = last + 1 - first;
    let seal = Mark {
        offset: end,
        first,
        last,
        count,
        written_ns: now_ns,
        chain,
        seal: chain::seal(&journal, first, last, count, &chain),
        footer: offset,
    };
    let size = end + MARK_BYTES as u64;
    file.set_len(offset).map_err(io("cut the empty space"))?;
    crate::chaos::point("seal:cut");
    file.write_at(&bytes, offset).map_err(io("write the footer"))?;
    file.write_at(&seal.encode(SEAL_MAGIC, &journal), end).map_err(io("write the seal"))?;
    crate::chaos::point("seal:written");
    unless(Bug::SkipSealSync, || file.sync_data()).map_err(io("sync the seal"))?;
    crate::chaos::point("seal:synced");
    file.write_at(&sealed_semj_header(count, last, size, offset), 0)
        .map_err(io("write the header's totals"))?;
    file.sync_data().map_err(io("sync the header"))?;
    crate::chaos::point("seal:done");
    Ok(Sealing::Sealed)
}

/// Notes a block and its events; `false` when an event does not decode.
pub(crate) fn collect(h: &BlockHeader, raw: &[u8], segment_first: u64, footer: &mut FooterBuilder) -> bool {
    footer.block(&BlockInfo::from(h));
    let mut rest = raw;
    while let Some((unit, after)) = UnitRef::split(rest) {
        for index in 0..unit.preamble.count {
            let Ok(entry) = unit.entry(index) else { return false };
            let place = (entry.sequence - segment_first) as u32;
            if entry.is_tombstone() {
                footer.event(place, entry.given_id.as_ref(), None);
                continue;
            }
            let Some(event) = entry.event() else { return false };
            footer.event(place, entry.given_id.as_ref(), Some(event.stream_or_default()));
        }
        for (kind, index, bytes) in unit.controls().unwrap_or_default() {
            if matches!(kind, RESUME_POINT | CERTIFICATE | COVERAGE) {
                footer.tells_of_source();
            }
            if let Some(point) = (kind == RESUME_POINT).then(|| ResumePoint::decode(bytes)).flatten() {
                let event = unit.preamble.first_sequence + u64::from(index);
                footer.point((event - segment_first) as u32, &point.source);
            }
        }
        rest = after;
    }
    true
}

/// Whether the bytes of a seal fit its segment: the hash over it is what the blocks give.
pub(crate) fn seal_is_right(mark: &Mark, journal: &Uuid, chain: &chain::ChainValue) -> bool {
    mark.chain == *chain
        && mark.count == mark.last + 1 - mark.first
        && mark.seal == chain::seal(journal, mark.first, mark.last, mark.count, chain)
}
