//! Where all sources of a journal stand, as its control records tell.

use super::control::{
    CERTIFICATE, CLOCK_ANCHOR, COVERAGE, Certificate, ClockAnchor, Coverage, RESUME_POINT, ResumePoint,
};
use super::controls::ControlRef;
use super::reader::Segments;
use crate::error::ReadError;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Where a source stands.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Standing {
    /// Its name.
    pub source: String,
    /// The newest resume point; `None` where it was never open.
    pub point: Option<ResumePoint>,
    /// The newest certificate.
    pub certificate: Option<Certificate>,
    /// What was told last of whether somebody looks.
    pub coverage: Option<String>,
    /// The newest clock anchor that came with it, and the one before.
    pub anchors: Vec<ClockAnchor>,
}

impl Standing {
    /// How much the wall clock moved against the boot-time clock between the last two anchors, and how exact that is, ns;
    /// `None` where there are no two of one boot.
    pub fn drift(&self) -> Option<(i64, u64)> {
        let [new, old] = self.anchors.as_slice() else { return None };
        let offset = |a: &ClockAnchor| a.wall_ns.saturating_sub(a.boot_ns);
        let error = u64::from(new.error_ns) + u64::from(old.error_ns);
        (new.boot_id == old.boot_id).then(|| (offset(new).saturating_sub(offset(old)), error))
    }
}

/// What was found so far, going back.
#[derive(Default)]
struct Standings {
    found: BTreeMap<String, Standing>,
    /// Anchors of the group that is being passed: its resume point says whose they are.
    anchors: (u64, Vec<ClockAnchor>),
}

impl Standings {
    fn of(&mut self, source: &str) -> &mut Standing {
        self.found
            .entry(source.to_owned())
            .or_insert_with(|| Standing { source: source.to_owned(), ..Standing::default() })
    }

    fn pass(&mut self, control: ControlRef<'_>) {
        match control.kind {
            CLOCK_ANCHOR => {
                if self.anchors.0 != control.event {
                    self.anchors = (control.event, Vec::new());
                }
                self.anchors.1.extend(ClockAnchor::decode(control.bytes));
            }
            RESUME_POINT => {
                let (event, anchors) = std::mem::take(&mut self.anchors);
                let Some(point) = ResumePoint::decode(control.bytes) else { return };
                let standing = self.of(&point.source);
                let room = 2usize.saturating_sub(standing.anchors.len());
                let anchors = anchors.into_iter().filter(|_| event == control.event);
                standing.anchors.extend(anchors.take(room));
                standing.point.get_or_insert(point);
            }
            CERTIFICATE => {
                if let Some(certificate) = Certificate::decode(control.bytes) {
                    self.of(&certificate.source).certificate.get_or_insert(certificate);
                }
            }
            COVERAGE => {
                if let Some(Coverage { source, state }) = Coverage::decode(control.bytes) {
                    self.of(&source).coverage.get_or_insert(state);
                }
            }
            _ => {}
        }
    }
}

impl Segments {
    /// Where each source stands that the journal knows, by name, as of event `last`. Passes over sealed segments that tell
    /// nothing of sources, and reads a bit of every block of the others.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn standings(&self, last: u64) -> Result<Vec<Standing>, ReadError> {
        let mut standings = Standings::default();
        for (segment, end) in self.segments_back(last) {
            if self.tells_of_sources(&segment)? == Some(false) {
                continue;
            }
            let _ = self.controls_in(&segment, end, &mut 0, &mut |control| {
                standings.pass(control);
                ControlFlow::Continue(())
            })?;
        }
        Ok(standings.found.into_values().collect())
    }
}
