//! Finding control records again, newest first, and the newest logical clock.

use super::block::HEADER_BYTES;
use super::blocks::BlockInfo;
use super::reader::{Segment, Segments, read_exact};
use super::segment::MARK_BYTES;
use super::unit::{PREAMBLE_BYTES, Preamble, UnitRef};
use super::walk::{Item, Walk};
use crate::error::ReadError;
use std::ops::ControlFlow;

/// A control record where it was found.
#[derive(Clone, Copy, Debug)]
pub struct ControlRef<'a> {
    /// Its kind; unknown ones are visited, too.
    pub kind: u16,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// The first event of the group it was committed with.
    pub event: u64,
}

impl Segments {
    /// Visits the control records that were committed with events up to `last`, from the newest to the oldest, until
    /// `visit` breaks. Costs one small read per block passed; damaged spots are passed over, and counted.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn controls_back(
        &self,
        last: u64,
        visit: &mut dyn FnMut(ControlRef<'_>) -> ControlFlow<()>,
    ) -> Result<u64, ReadError> {
        let list = self.list.read().clone();
        let (mut end, mut damaged) = (last, 0);
        for segment in list.iter().rev().filter(|s| s.first <= last) {
            if self.controls_in(segment, end, &mut damaged, visit)?.is_break() {
                break;
            }
            end = segment.first - 1;
        }
        Ok(damaged)
    }

    /// As [`Segments::controls_back`], in one segment up to event `end`.
    pub(super) fn controls_in(
        &self,
        segment: &Segment,
        end: u64,
        damaged: &mut u64,
        visit: &mut dyn FnMut(ControlRef<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ReadError> {
        let (blocks, mut spots) = self.blocks_of(segment, segment.first, end)?;
        for block in blocks.iter().rev() {
            let behind = spots.len();
            spots.retain(|spot| spot.offset < block.offset);
            *damaged += (behind - spots.len()) as u64;
            if self.controls_of(segment, block, damaged, visit)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        *damaged += spots.len() as u64;
        Ok(ControlFlow::Continue(()))
    }

    pub(super) fn controls_of(
        &self,
        segment: &Segment,
        block: &BlockInfo,
        damaged: &mut u64,
        visit: &mut dyn FnMut(ControlRef<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ReadError> {
        if block.codec == 0 && block.units == 1 {
            // A preamble that cannot be believed says nothing: the body's checksum does.
            let preamble = self.preamble(segment, block.offset)?;
            if preamble.is_some_and(|p| p.controls_len == 0) {
                return Ok(ControlFlow::Continue(()));
            }
        }
        // What is read alone has no checksum of its own: the whole body has.
        let body = match self.body(segment, block, false) {
            Ok(body) => body,
            Err(e) if e.is_damage() => {
                *damaged += 1;
                return Ok(ControlFlow::Continue(()));
            }
            Err(e) => return Err(e),
        };
        let mut units = Vec::new();
        let mut rest = body.as_slice();
        while let Some((unit, after)) = (!rest.is_empty()).then(|| UnitRef::split(rest)).flatten() {
            units.push(unit);
            rest = after;
        }
        for unit in units.iter().rev() {
            for (kind, index, bytes) in unit.controls().unwrap_or_default().into_iter().rev() {
                let event = unit.preamble.first_sequence + u64::from(index);
                if visit(ControlRef { kind, bytes, event }).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn preamble(&self, segment: &Segment, block: u64) -> Result<Option<Preamble>, ReadError> {
        let file = self.file(segment)?;
        let read = read_exact(file.as_ref(), block + HEADER_BYTES as u64, PREAMBLE_BYTES);
        Ok(Preamble::parse(&read.map_err(|e| ReadError::io(&segment.path, "read a block", e))?))
    }

    /// The hybrid logical clock of the newest unit: that of event `last`, or of control records behind it. `None` where
    /// there is none, or damage hides it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn newest_clock(&self, last: u64) -> Result<Option<(u64, u16)>, ReadError> {
        let Some(segment) = self.list.read().iter().rev().find(|s| s.first <= last).cloned() else {
            return Ok(None);
        };
        let (blocks, _) = self.blocks_of(&segment, last, last)?;
        let Some(block) = blocks.last() else { return Ok(None) };
        let file = self.file(&segment)?;
        let io = |e| ReadError::io(&segment.path, "read the segment", e);
        let walk = Walk { file: file.as_ref(), len: file.len().map_err(io)?, journal: self.journal() };
        let mut newest = match block.codec {
            0 => self.preamble(&segment, block.offset)?.map(|p| p.hlc),
            _ => self.body(&segment, block, false).ok().and_then(|b| Preamble::parse(&b)).map(|p| p.hlc),
        };
        let mut at = block.offset + HEADER_BYTES as u64 + u64::from(block.stored_len);
        loop {
            match walk.item(at).map_err(io)? {
                Item::Block(h) if h.count == 0 => {
                    newest = newest.max(self.preamble(&segment, at)?.map(|p| p.hlc));
                    at = h.end();
                }
                Item::End(_) => at += MARK_BYTES as u64,
                _ => return Ok(newest),
            }
        }
    }
}
