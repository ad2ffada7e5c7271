//! Finding resume points again: where a source is to go on, which event a sequence of it became, and whose sequence an
//! event has.
//!
//! The footer of a sealed segment names the sources that have resume points in it, so a search passes it with one look
//! at its filter. Segments without a seal, and those sealed by an earlier version, are walked block by block.

use super::control::{RESUME_POINT, ResumePoint};
use super::footer::{ALL_POINTS, NO_POINTS_PLACE, SOME_POINTS_PLACE, point_key};
use super::reader::{Segment, Segments};
use crate::error::ReadError;
use std::ops::ControlFlow;
use std::sync::Arc;
use uuid::Uuid;

#[cfg(test)]
#[path = "points_tests.rs"]
mod tests;

/// The newest resume point of a source that can be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The point.
    pub point: ResumePoint,
    /// First event of the group it was committed with.
    pub event: u64,
    /// Damaged spots behind it: each may hide a newer one.
    pub damaged: u64,
}

/// Where an event comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    /// The source.
    pub source: String,
    /// Which boot its sequence belongs to; nil where unknown.
    pub boot_id: Uuid,
    /// Which life of the source.
    pub incarnation: u64,
    /// Its sequence there.
    pub source_sequence: u64,
    /// The event.
    pub sequence: u64,
}

impl ResumePoint {
    /// The event that a source sequence became, if it is one of the group's; `first` is the group's first event.
    fn event_of(&self, source_sequence: u64, first: u64) -> Option<u64> {
        self.extents.iter().find_map(|run| {
            let place = source_sequence.checked_sub(run.source_sequence)?;
            (place < u64::from(run.length)).then(|| first + u64::from(run.offset) + place)
        })
    }

    /// The source sequence of an event of the group.
    fn source_sequence_of(&self, event: u64, first: u64) -> Option<u64> {
        self.extents.iter().find_map(|run| {
            let place = event.checked_sub(first + u64::from(run.offset))?;
            (place < u64::from(run.length)).then(|| run.source_sequence + place)
        })
    }
}

impl Segments {
    /// The newest resume point of a source among events up to `last`; without one that can be read, how many damaged
    /// spots may hide one.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn resume_point(&self, source: &str, last: u64) -> Result<Result<Found, u64>, ReadError> {
        let mut damaged = 0;
        for (segment, end) in self.segments_back(last) {
            if let Some((point, event)) = self.last_point(&segment, end, source, &mut damaged)? {
                return Ok(Ok(Found { point, event, damaged }));
            }
        }
        Ok(Err(damaged))
    }

    /// The segments that hold events up to `last`, newest first, each with its last event of these.
    pub(super) fn segments_back(&self, last: u64) -> Vec<(Arc<Segment>, u64)> {
        let list = self.list.read();
        let mut end = last;
        let mut found = Vec::new();
        for segment in list.iter().rev().filter(|s| s.first <= last) {
            found.push((segment.clone(), end));
            end = segment.first - 1;
        }
        found
    }

    /// Whether a segment tells anything of sources; `None` where only reading it tells.
    pub(super) fn tells_of_sources(&self, segment: &Segment) -> Result<Option<bool>, ReadError> {
        let places = self.named_by(segment, |s| &s.streams, ALL_POINTS)?.unwrap_or_default();
        let has = |place: u32| places.contains(&(segment.first + u64::from(place)));
        Ok(if has(SOME_POINTS_PLACE) { Some(true) } else { has(NO_POINTS_PLACE).then_some(false) })
    }

    /// Up to where a segment is to be looked at for a source; `None` where its footer says that there is nothing.
    fn points_end(&self, segment: &Segment, end: u64, source: &str) -> Result<Option<u64>, ReadError> {
        match self.tells_of_sources(segment)? {
            None => return Ok(Some(end)),
            Some(false) => return Ok(None),
            Some(true) => {}
        }
        let Some(places) = self.named_by(segment, |s| &s.streams, &point_key(source))? else {
            return Ok(Some(end));
        };
        Ok(places.into_iter().max().map(|newest| newest.min(end)))
    }

    /// The last resume point of a source in a segment, and its group's first event.
    fn last_point(
        &self,
        segment: &Segment,
        end: u64,
        source: &str,
        damaged: &mut u64,
    ) -> Result<Option<(ResumePoint, u64)>, ReadError> {
        let mut found = None;
        self.points_in(segment, end, source, damaged, &mut |point, event| {
            found = Some((point, event));
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    fn points_in(
        &self,
        segment: &Segment,
        end: u64,
        source: &str,
        damaged: &mut u64,
        visit: &mut dyn FnMut(ResumePoint, u64) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let Some(end) = self.points_end(segment, end, source)? else { return Ok(()) };
        let _ = self.controls_in(segment, end, damaged, &mut |control| {
            let point = (control.kind == RESUME_POINT).then(|| ResumePoint::decode(control.bytes)).flatten();
            match point.filter(|point| point.source == source) {
                Some(point) => visit(point, control.event),
                None => ControlFlow::Continue(()),
            }
        })?;
        Ok(())
    }

    /// The event that a source's sequence became in a life of it, among events up to `last`; `life` is boot and
    /// incarnation, `None` the newest. Looks at one resume point of each segment, and reads those of the segment that
    /// has it.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn event_of(
        &self,
        source: &str,
        life: Option<(Uuid, u64)>,
        source_sequence: u64,
        last: u64,
    ) -> Result<Option<Origin>, ReadError> {
        let (mut life, mut is_met, mut candidates) = (life, false, Vec::new());
        for (segment, end) in self.segments_back(last) {
            let Some((point, _)) = self.last_point(&segment, end, source, &mut 0)? else { continue };
            let account = &point.account;
            let (boot_id, incarnation) = *life.get_or_insert((account.boot_id, account.incarnation));
            let is_of_it = account.is_of(&boot_id, incarnation);
            // What a life accounts for only grows: the record is not before the last segment that ends below it.
            let is_below = is_of_it && account.last_sequence < source_sequence;
            if is_below || is_met && !is_of_it {
                break;
            }
            is_met |= is_of_it;
            candidates.push((segment, end));
        }
        let Some((boot_id, incarnation)) = life else { return Ok(None) };
        // One that came late lies behind its place, at worst in the newest segment.
        for (segment, end) in candidates.into_iter().rev() {
            let mut found = None;
            self.points_in(&segment, end, source, &mut 0, &mut |point, first| {
                if point.account.is_of(&boot_id, incarnation) {
                    found = point.event_of(source_sequence, first);
                }
                if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            if let Some(sequence) = found {
                let source = source.to_owned();
                return Ok(Some(Origin { source, boot_id, incarnation, source_sequence, sequence }));
            }
        }
        Ok(None)
    }

    /// Where an event, which must be durable, comes from; `None` where it is no record of a source. Reads its block.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn origin_of(&self, sequence: u64) -> Result<Option<Origin>, ReadError> {
        let Some((segment, _)) = self.segment_of(sequence) else { return Ok(None) };
        let (blocks, _) = self.blocks_of(&segment, sequence, sequence)?;
        let mut found = None;
        for block in &blocks {
            let _ = self.controls_of(&segment, block, &mut 0, &mut |control| {
                let point =
                    (control.kind == RESUME_POINT).then(|| ResumePoint::decode(control.bytes)).flatten();
                found = point.and_then(|point| {
                    let source_sequence = point.source_sequence_of(sequence, control.event)?;
                    let ResumePoint { source, account, .. } = point;
                    let (boot_id, incarnation) = (account.boot_id, account.incarnation);
                    Some(Origin { source, boot_id, incarnation, source_sequence, sequence })
                });
                if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
        }
        Ok(found)
    }
}
