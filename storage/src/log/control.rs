//! Control records: what commits with a unit, takes no sequence and is never delivered.

use super::bytes::{i64_at, u32_at, u64_at, uuid_at};
use uuid::Uuid;

/// How far a source was read: [`ResumePoint`].
pub const RESUME_POINT: u16 = 1;
/// What the clocks said at one moment: [`ClockAnchor`].
pub const CLOCK_ANCHOR: u16 = 2;
/// A range that was found damaged: u64 first, u64 last, then the reason as UTF-8.
pub const DAMAGE: u16 = 5;

/// Missing ranges kept in a resume point; older ones are forgotten.
pub const RANGES_MAX: usize = 64;

/// Where to go on reading a source, committed in one unit with the records it stands behind.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ResumePoint {
    /// The source's name.
    pub source: String,
    /// Which boot the sequences belong to; nil where unknown.
    pub boot_id: Uuid,
    /// Which life of the source, counted by the journal from 1 on.
    pub incarnation: u64,
    /// Records journaled in this life.
    pub records: u64,
    /// Highest source sequence accounted for, as a record or as missing; 0: none.
    pub last_sequence: u64,
    /// Newest boot-time clock of its records, ns.
    pub newest_boot_ns: i64,
    /// Records known to be missing in this life.
    pub lost: u64,
    /// Gaps of unknown length in this life.
    pub unknown_gaps: u64,
    /// The newest missing ranges, first and last sequence of each, in order.
    pub missing: Vec<(u64, u64)>,
    /// Which source sequences the group's events have, in order.
    pub extents: Vec<Run>,
    /// Bytes that only the source understands.
    pub resume: Vec<u8>,
}

/// A run of source sequences that became consecutive events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// First source sequence.
    pub source_sequence: u64,
    /// Place of its event behind the group's first.
    pub offset: u32,
    /// How many.
    pub length: u32,
}

/// What the clocks said at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ClockAnchor {
    /// Which boot.
    pub boot_id: Uuid,
    /// Boot-time clock, ns.
    pub boot_ns: i64,
    /// Wall clock, ns since 1970.
    pub wall_ns: i64,
    /// Monotonic clock, ns.
    pub mono_ns: i64,
    /// How far apart the readings may be, ns.
    pub error_ns: u32,
}

/// Length of the part of a resume point that does not vary.
const FIXED_BYTES: usize = 72;

impl ResumePoint {
    /// The bytes of the control record.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIXED_BYTES + 64 + self.source.len() + self.resume.len());
        let skip = self.missing.len().saturating_sub(RANGES_MAX);
        let missing = self.missing.get(skip..).unwrap_or_default();
        out.extend_from_slice(self.boot_id.as_bytes());
        for n in [self.incarnation, self.records, self.last_sequence] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        out.extend_from_slice(&self.newest_boot_ns.to_le_bytes());
        for n in [self.lost, self.unknown_gaps] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        for n in [self.source.len(), missing.len(), self.extents.len(), self.resume.len()] {
            out.extend_from_slice(&(n as u16).to_le_bytes());
        }
        debug_assert_eq!(out.len(), FIXED_BYTES);
        out.extend_from_slice(self.source.as_bytes());
        for (first, last) in missing {
            out.extend_from_slice(&first.to_le_bytes());
            out.extend_from_slice(&last.to_le_bytes());
        }
        for run in &self.extents {
            out.extend_from_slice(&run.source_sequence.to_le_bytes());
            out.extend_from_slice(&run.offset.to_le_bytes());
            out.extend_from_slice(&run.length.to_le_bytes());
        }
        out.extend_from_slice(&self.resume);
        out
    }

    /// Decodes the bytes of a control record; `None` where they do not add up.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (fixed, rest) = bytes.split_at_checked(FIXED_BYTES)?;
        let count = |at: usize| {
            fixed.get(at..at + 2).and_then(|b| b.try_into().ok()).map_or(0, u16::from_le_bytes) as usize
        };
        let (source, rest) = rest.split_at_checked(count(64))?;
        let (missing, rest) = rest.split_at_checked(count(66) * 16)?;
        let (extents, resume) = rest.split_at_checked(count(68) * 16)?;
        (resume.len() == count(70)).then_some(())?;
        Some(ResumePoint {
            source: std::str::from_utf8(source).ok()?.to_owned(),
            boot_id: uuid_at(fixed, 0),
            incarnation: u64_at(fixed, 16),
            records: u64_at(fixed, 24),
            last_sequence: u64_at(fixed, 32),
            newest_boot_ns: i64_at(fixed, 40),
            lost: u64_at(fixed, 48),
            unknown_gaps: u64_at(fixed, 56),
            missing: missing.chunks_exact(16).map(|b| (u64_at(b, 0), u64_at(b, 8))).collect(),
            extents: extents
                .chunks_exact(16)
                .map(|b| Run { source_sequence: u64_at(b, 0), offset: u32_at(b, 8), length: u32_at(b, 12) })
                .collect(),
            resume: resume.to_vec(),
        })
    }
}

impl ClockAnchor {
    /// The bytes of the control record.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(44);
        out.extend_from_slice(self.boot_id.as_bytes());
        for n in [self.boot_ns, self.wall_ns, self.mono_ns] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        out.extend_from_slice(&self.error_ns.to_le_bytes());
        out
    }

    /// Decodes the bytes of a control record; `None` where they do not add up.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == 44).then(|| ClockAnchor {
            boot_id: uuid_at(bytes, 0),
            boot_ns: i64_at(bytes, 16),
            wall_ns: i64_at(bytes, 24),
            mono_ns: i64_at(bytes, 32),
            error_ns: u32_at(bytes, 40),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resume_point_survives_and_every_cut_is_refused() {
        let point = ResumePoint {
            source: "kernel:semj".into(),
            boot_id: Uuid::from_u128(7),
            incarnation: 3,
            records: 900,
            last_sequence: 1_000,
            newest_boot_ns: -5,
            lost: 100,
            unknown_gaps: 1,
            missing: vec![(10, 20), (30, 30)],
            extents: vec![
                Run { source_sequence: 1, offset: 0, length: 9 },
                Run { source_sequence: 21, offset: 10, length: 1 },
            ],
            resume: b"anything".to_vec(),
        };
        let bytes = point.encode();
        assert_eq!(ResumePoint::decode(&bytes), Some(point));
        for end in 0..bytes.len() {
            assert_eq!(ResumePoint::decode(&bytes[..end]), None, "cut at {end}");
        }
        let many = ResumePoint { missing: (0..100).map(|n| (n, n)).collect(), ..ResumePoint::default() };
        let kept = ResumePoint::decode(&many.encode()).unwrap().missing;
        assert_eq!((kept.len(), kept[0]), (RANGES_MAX, (36, 36)), "the oldest are forgotten");
    }

    #[test]
    fn a_clock_anchor_survives() {
        let anchor =
            ClockAnchor { boot_id: Uuid::from_u128(1), boot_ns: 2, wall_ns: -3, mono_ns: 4, error_ns: 5 };
        assert_eq!(ClockAnchor::decode(&anchor.encode()), Some(anchor));
        assert_eq!(ClockAnchor::decode(&[0; 43]), None);
    }
}
