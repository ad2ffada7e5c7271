//! One segment, looked at from the first byte to the last.

use super::block::{BlockHeader, SummaryBuilder};
use super::bytes::u64_at;
use super::chain::ChainValue;
use super::footer::{FooterBuilder, FooterHead};
use super::inspect::TornTail;
use super::reader::{check_block, read_header};
use super::seal::{collect, seal_is_right};
use super::segment::{
    HeaderError, MARK_BYTES, SEGMENT_HEADER_BYTES, semj_header_is_half_sealed, semj_header_is_whole,
};
use super::unit::UnitRef;
use super::walk::{Item, UNKNOWN, Walk};
use crate::backend::File;
use crate::error::{Damage, ReadError};
use crate::query::agent_bits;
use crate::verify::VerifyLevel;
use std::path::Path;
use uuid::Uuid;

/// What is to be checked.
#[derive(Clone, Copy)]
pub(crate) struct SegmentCheck<'a> {
    pub(crate) journal: Uuid,
    pub(crate) first: u64,
    /// Last event that counts: blocks behind it were replaced by the next segment, or are not durable yet.
    pub(crate) end: u64,
    pub(crate) path: &'a Path,
    pub(crate) file: &'a dyn File,
    pub(crate) len: u64,
    pub(crate) chain_before: Option<ChainValue>,
    pub(crate) level: VerifyLevel,
    /// What lies behind the last event is reported elsewhere.
    pub(crate) tail_is_open: bool,
    /// A later segment follows: nothing is written to this one any more but its seal.
    pub(crate) finished: bool,
    /// An owner is at work: what is not finished is being finished.
    pub(crate) owned: bool,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct SegmentOutcome {
    pub(crate) events: u64,
    pub(crate) damage: Vec<Damage>,
    /// The chain after the last event; `None` when damage hides it.
    pub(crate) chain: Option<ChainValue>,
    /// Sealing was cut short by a crash: no event is affected, and the next owner starts over.
    pub(crate) torn: Option<TornTail>,
    /// What the footer should tell, where every event is looked at.
    footer: Option<FooterBuilder>,
}

impl SegmentCheck<'_> {
    fn spot(
        &self,
        offset: u64,
        length: u64,
        events: Option<(u64, u64)>,
        reason: impl Into<String>,
    ) -> Damage {
        let (first_sequence, last_sequence) = events.unwrap_or((0, 0));
        Damage {
            segment: self.path.to_owned(),
            offset,
            length,
            first_sequence,
            last_sequence,
            reason: reason.into(),
        }
    }

    /// What sealing had written when it was cut, from `offset` on. While an owner is at work it is none.
    fn cut_seal(&self, offset: u64, reason: &str) -> Option<TornTail> {
        (!self.owned).then(|| TornTail {
            segment: self.path.to_owned(),
            offset,
            length: self.len.saturating_sub(offset),
            reason: format!("sealing was cut short: {reason}"),
        })
    }

    fn io(&self) -> impl Fn(std::io::Error) -> ReadError + '_ {
        |e| ReadError::io(self.path, "read the segment", e)
    }
}

/// Checks one segment.
///
/// # Errors
/// When the file cannot be read, or is of a newer format.
pub(crate) fn check_segment(
    check: &SegmentCheck<'_>,
    progress: &mut dyn FnMut(u64),
) -> Result<SegmentOutcome, ReadError> {
    let footer = (check.level == VerifyLevel::Deep).then(FooterBuilder::default);
    let mut out = SegmentOutcome { chain: check.chain_before, footer, ..SegmentOutcome::default() };
    let is_sealed = check_header(check, &mut out)?;
    // Measured after the header was read: where its totals are written, the file has its final size.
    let check = &SegmentCheck { len: check.file.len().map_err(check.io())?, ..*check };
    let walk = Walk { file: check.file, len: check.len, journal: check.journal };
    let (mut offset, mut next) = (SEGMENT_HEADER_BYTES as u64, check.first);
    while next <= check.end {
        progress(offset);
        let reason = match walk.item(offset).map_err(check.io())? {
            Item::Block(h) if h.first_sequence == next => {
                check_one_block(check, &h, &mut out)?;
                (offset, next) = (h.end(), h.last_sequence() + 1);
                continue;
            }
            Item::Block(h) => format!("block starts at event {}, expected {next}", h.first_sequence),
            Item::End(mark) => {
                if mark.last + 1 != next || out.chain.is_some_and(|c| c != mark.chain) {
                    let reason = format!("end mark of event {}, expected {}", mark.last, next - 1);
                    out.damage.push(check.spot(offset, MARK_BYTES as u64, None, reason));
                }
                offset += MARK_BYTES as u64;
                continue;
            }
            Item::Footer | Item::CleanEnd => "the segment ends before its last event".into(),
            Item::Invalid(reason) => reason,
        };
        let behind = next_block(&walk, offset + 1, next).map_err(check.io())?;
        let (spot_end, last) = match &behind {
            Some(h) if h.first_sequence <= check.end + 1 => (h.offset, h.first_sequence - 1),
            _ => (check.len.max(offset), check.end),
        };
        let events = (last >= next).then_some((next, last));
        out.damage.push(check.spot(offset, spot_end - offset, events, reason));
        out.chain = behind.as_ref().map(|h| h.chain_before);
        (offset, next) = (spot_end, last + 1);
        if behind.is_none() {
            return Ok(out);
        }
    }
    check_rest(check, &walk, (offset, next), is_sealed, &mut out)?;
    progress(check.len);
    Ok(out)
}

/// The first block behind a damaged spot that goes on.
fn next_block(walk: &Walk<'_>, mut from: u64, next: u64) -> std::io::Result<Option<Box<BlockHeader>>> {
    while let Some(at) = walk.resync(from)? {
        match walk.item(at)? {
            Item::Block(h) if h.first_sequence >= next => return Ok(Some(h)),
            _ => from = at + 1,
        }
    }
    Ok(None)
}

/// Checks the header; tells whether it has its totals, which are written last when a segment is sealed.
fn check_header(check: &SegmentCheck<'_>, out: &mut SegmentOutcome) -> Result<bool, ReadError> {
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    let n = check.file.read_at(&mut bytes, 0).map_err(check.io())?;
    let is_whole = semj_header_is_whole(bytes.get(..n).unwrap_or_default());
    let mut is_sealed = u64_at(&bytes, 12) != 0;
    if !is_whole {
        let len = check.file.len().map_err(check.io())?;
        let seal = Walk { file: check.file, len, journal: check.journal }.seal().map_err(check.io())?;
        is_sealed = !seal.is_some_and(|seal| semj_header_is_half_sealed(&bytes, &seal));
    }
    // Totals that were half written are no damage: the next owner seals again.
    if !is_whole && is_sealed {
        out.damage.push(check.spot(0, 80, None, "checksum of the 80-byte header is wrong"));
    }
    match read_header(check.file, check.path)? {
        Err(HeaderError::Newer(found)) => Err(ReadError::NewerFormat {
            path: check.path.to_owned(),
            found,
            supported: super::segment::FORMAT_VERSION,
        }),
        Err(HeaderError::Bad(reason)) => {
            out.damage.push(check.spot(80, SEGMENT_HEADER_BYTES as u64 - 80, None, reason));
            Ok(is_sealed)
        }
        Ok(h) => {
            let wrong = if h.journal != check.journal {
                Some(format!("segment of journal {}, expected {}", h.journal, check.journal))
            } else if h.first_sequence != check.first {
                Some(format!("segment of event {}, its name says {}", h.first_sequence, check.first))
            } else if out.chain.is_some_and(|c| c != h.chain_before) {
                Some("the segment does not continue the chain of the one before".into())
            } else {
                None
            };
            if let Some(reason) = wrong {
                out.damage.push(check.spot(0, SEGMENT_HEADER_BYTES as u64, None, reason));
            }
            out.chain = out.chain.or(Some(h.chain_before));
            Ok(is_sealed)
        }
    }
}

fn check_one_block(
    check: &SegmentCheck<'_>,
    h: &BlockHeader,
    out: &mut SegmentOutcome,
) -> Result<(), ReadError> {
    let linked = out.chain.is_none_or(|c| c == h.chain_before);
    out.chain = Some(h.chain_after);
    let verdict = if !linked {
        Err("the block does not continue the hash chain".into())
    } else if check.level == VerifyLevel::Quick {
        Ok(())
    } else {
        check_block(check.file, h).map_err(check.io())?.and_then(|raw| match &mut out.footer {
            Some(footer) => {
                collect(h, &raw, check.first, footer);
                check_events(h, &raw)
            }
            None => check_entries(&raw),
        })
    };
    match verdict {
        Ok(()) => out.events += u64::from(h.count),
        Err(reason) => {
            let events = (h.count > 0).then(|| (h.first_sequence, h.last_sequence()));
            out.damage.push(check.spot(h.offset, h.end() - h.offset, events, reason));
        }
    }
    Ok(())
}

/// Every entry's own checksum, which point reads rely on.
fn check_entries(raw: &[u8]) -> Result<(), String> {
    let mut rest = raw;
    while !rest.is_empty() {
        let (unit, after) = UnitRef::split(rest).ok_or("the units of the block do not add up")?;
        (0..unit.preamble.count).try_for_each(|index| unit.entry(index).map(drop))?;
        unit.controls().ok_or("the control records do not add up")?;
        rest = after;
    }
    Ok(())
}

/// Every event decodes, and the header's summary is what its events say.
fn check_events(h: &BlockHeader, raw: &[u8]) -> Result<(), String> {
    check_entries(raw)?;
    let mut summary = SummaryBuilder::new(h.first_sequence);
    let mut rest = raw;
    while let Some((unit, after)) = UnitRef::split(rest) {
        for index in 0..unit.preamble.count {
            let entry = unit.entry(index)?;
            if entry.is_tombstone() {
                summary.add_tombstone();
                continue;
            }
            let event = entry.event().ok_or_else(|| format!("event {} does not decode", entry.sequence))?;
            summary.add(event.event_type().summary_bit(), entry.time(&event).map(|t| t.0));
            for text in [event.agent_text(), event.session_text()].into_iter().flatten() {
                summary.add_agents(&agent_bits(text.as_bytes()));
            }
        }
        rest = after;
    }
    let (told, found) = (h.summary(), summary.finish());
    // Filter bits may be more than needed, never fewer.
    let covered = told.agents.iter().zip(found.agents).all(|(t, f)| t & f == f);
    let same = (told.types, told.time_min, told.time_max, told.last_sequence)
        == (found.types, found.time_min, found.time_max, found.last_sequence);
    if covered && same { Ok(()) } else { Err("the header's summary is not what its events say".into()) }
}

/// What follows the last event: end marks, blocks that the next segment replaced, or empty space.
fn check_rest(
    check: &SegmentCheck<'_>,
    walk: &Walk<'_>,
    (mut offset, next): (u64, u64),
    is_sealed: bool,
    out: &mut SegmentOutcome,
) -> Result<(), ReadError> {
    if check.tail_is_open {
        return Ok(());
    }
    loop {
        let reason = match walk.item(offset).map_err(check.io())? {
            Item::CleanEnd => return Ok(()),
            Item::End(mark) if mark.last + 1 == next && out.chain.is_none_or(|c| c == mark.chain) => {
                offset += MARK_BYTES as u64;
                continue;
            }
            Item::Block(h)
                if h.count == 0 && h.first_sequence == next && out.chain == Some(h.chain_before) =>
            {
                check_one_block(check, &h, out)?;
                offset = h.end();
                continue;
            }
            Item::Block(h) if h.first_sequence > check.end => {
                offset = h.end();
                continue;
            }
            Item::End(mark) => format!("end mark of event {}, expected {}", mark.last, next - 1),
            Item::Block(h) => format!("block of event {} behind the end", h.first_sequence),
            Item::Footer => match check_footer(check, walk, offset, out)? {
                Ok(()) => return Ok(()),
                Err(reason) if !is_sealed => {
                    out.torn = check.cut_seal(offset, &reason);
                    return Ok(());
                }
                Err(reason) => reason,
            },
            // The start of the footer may be what did not reach the disk.
            Item::Invalid(reason) if check.finished && !is_sealed && reason == UNKNOWN => {
                out.torn = check.cut_seal(offset, &reason);
                return Ok(());
            }
            Item::Invalid(reason) => reason,
        };
        out.damage.push(check.spot(offset, check.len.saturating_sub(offset), None, reason));
        return Ok(());
    }
}

/// The footer and the seal of a segment; the outer error is the disk's, the inner one says what is wrong.
fn check_footer(
    check: &SegmentCheck<'_>,
    walk: &Walk<'_>,
    offset: u64,
    out: &SegmentOutcome,
) -> Result<Result<(), String>, ReadError> {
    let Some(seal) = walk.seal().map_err(check.io())? else {
        return Ok(Err("a footer without a seal".into()));
    };
    if seal.footer != offset || seal.first != check.first || seal.last != check.end {
        return Ok(Err(format!(
            "seal of events {} to {}, expected {} to {}",
            seal.first, seal.last, check.first, check.end
        )));
    }
    if out.chain.is_some_and(|chain| !seal_is_right(&seal, &check.journal, &chain)) {
        return Ok(Err("the seal does not fit the events".into()));
    }
    let mut bytes = vec![0; (seal.offset - offset) as usize];
    let n = check.file.read_at(&mut bytes, offset).map_err(check.io())?;
    let bytes = bytes.get(..n).unwrap_or_default();
    let Some(head) = FooterHead::decode(bytes, &check.journal, offset, seal.offset) else {
        return Ok(Err("checksum of the footer is wrong".into()));
    };
    for (at, length, crc) in head.sections {
        let start = (at - offset) as usize;
        let section = bytes.get(start..start + length as usize).unwrap_or_default();
        if crc32fast::hash(section) != crc {
            return Ok(Err("checksum of a section of the footer is wrong".into()));
        }
    }
    match &out.footer {
        Some(footer)
            if footer.clone().encode(&check.journal) != bytes
                && footer.clone().without_points().encode(&check.journal) != bytes =>
        {
            Ok(Err("the footer is not what the blocks say".into()))
        }
        _ => Ok(Ok(())),
    }
}
