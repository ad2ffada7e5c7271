//! Control records: what commits with a unit, takes no sequence and is never delivered.

pub use super::account::{Account, RANGES_MAX, Ranges};
use super::bytes::{i64_at, u32_at, u64_at, uuid_at};
use uuid::Uuid;

/// How far a source was read: [`ResumePoint`].
pub const RESUME_POINT: u16 = 1;
/// What the clocks said at one moment: [`ClockAnchor`].
pub const CLOCK_ANCHOR: u16 = 2;
/// Up to when the journal is complete as to a source: [`Certificate`].
pub const CERTIFICATE: u16 = 3;
/// Whether somebody looks at a source: [`Coverage`].
pub const COVERAGE: u16 = 4;
/// A range that was found damaged: u64 first, u64 last, then the reason as UTF-8.
pub const DAMAGE: u16 = 5;

/// Where to go on reading a source, committed in one unit with the records it stands behind.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ResumePoint {
    /// The source's name.
    pub source: String,
    /// What is known of it behind the group's events.
    pub account: Account,
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

/// Every effect that a source saw up to a moment is journaled before this, or counted as lost.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Certificate {
    /// The source's name.
    pub source: String,
    /// Which boot of the machine that journals.
    pub boot_id: Uuid,
    /// The moment, ns of its boot-time clock.
    pub complete_ns: i64,
}

/// Whether somebody looks at a source, from here on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Coverage {
    /// The source's name.
    pub source: String,
    /// In one word: `watching`, `unavailable`, `failed`, `hangs`.
    pub state: String,
}

/// Length of the part of a resume point that does not vary.
const FIXED_BYTES: usize = 72;

impl ResumePoint {
    /// The bytes of the control record.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIXED_BYTES + 64 + self.source.len() + self.resume.len());
        let account = &self.account;
        let missing = account.missing.pairs();
        out.extend_from_slice(account.boot_id.as_bytes());
        for n in [account.incarnation, account.records, account.last_sequence] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        out.extend_from_slice(&account.newest_boot_ns.to_le_bytes());
        for n in [account.lost, account.unknown_gaps] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        for n in [self.source.len(), missing.len(), self.extents.len(), self.resume.len()] {
            out.extend_from_slice(&(n as u16).to_le_bytes());
        }
        debug_assert_eq!(out.len(), FIXED_BYTES);
        out.extend_from_slice(self.source.as_bytes());
        for (first, last) in &missing {
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
            account: Account {
                boot_id: uuid_at(fixed, 0),
                incarnation: u64_at(fixed, 16),
                records: u64_at(fixed, 24),
                last_sequence: u64_at(fixed, 32),
                newest_boot_ns: i64_at(fixed, 40),
                lost: u64_at(fixed, 48),
                unknown_gaps: u64_at(fixed, 56),
                missing: Ranges::from_pairs(
                    &missing.chunks_exact(16).map(|b| (u64_at(b, 0), u64_at(b, 8))).collect::<Vec<_>>(),
                ),
            },
            extents: extents
                .chunks_exact(16)
                .map(|b| Run { source_sequence: u64_at(b, 0), offset: u32_at(b, 8), length: u32_at(b, 12) })
                .collect(),
            resume: resume.to_vec(),
        })
    }
}

impl Certificate {
    /// The bytes of the control record.
    pub fn encode(&self) -> Vec<u8> {
        [self.boot_id.as_bytes().as_slice(), &self.complete_ns.to_le_bytes(), self.source.as_bytes()].concat()
    }

    /// Decodes the bytes of a control record; `None` where they do not add up.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (fixed, source) = bytes.split_at_checked(24)?;
        let source = std::str::from_utf8(source).ok()?.to_owned();
        Some(Certificate { source, boot_id: uuid_at(fixed, 0), complete_ns: i64_at(fixed, 16) })
    }
}

impl Coverage {
    /// The bytes of the control record.
    pub fn encode(&self) -> Vec<u8> {
        let length = self.state.len().min(usize::from(u8::MAX)) as u8;
        [&[length], self.state.as_bytes(), self.source.as_bytes()].concat()
    }

    /// Decodes the bytes of a control record; `None` where they do not add up.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first()?;
        let (state, source) = rest.split_at_checked(usize::from(*length))?;
        let text = |bytes| std::str::from_utf8(bytes).ok().map(str::to_owned);
        Some(Coverage { source: text(source)?, state: text(state)? })
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
            account: Account {
                boot_id: Uuid::from_u128(7),
                incarnation: 3,
                records: 900,
                last_sequence: 1_000,
                newest_boot_ns: -5,
                lost: 100,
                unknown_gaps: 1,
                missing: Ranges::from_pairs(&[(10, 20), (30, 30)]),
            },
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
    }

    #[test]
    fn certificate_and_coverage_survive() {
        let certificate =
            Certificate { source: "kernel:k".into(), boot_id: Uuid::from_u128(9), complete_ns: -7 };
        assert_eq!(Certificate::decode(&certificate.encode()), Some(certificate));
        assert_eq!(Certificate::decode(&[0; 23]), None);
        let coverage = Coverage { source: "kernel:k".into(), state: "watching".into() };
        assert_eq!(Coverage::decode(&coverage.encode()), Some(coverage));
        assert_eq!((Coverage::decode(&[]), Coverage::decode(&[3, b'a', b'b'])), (None, None));
    }

    #[test]
    fn a_clock_anchor_survives() {
        let anchor =
            ClockAnchor { boot_id: Uuid::from_u128(1), boot_ns: 2, wall_ns: -3, mono_ns: 4, error_ns: 5 };
        assert_eq!(ClockAnchor::decode(&anchor.encode()), Some(anchor));
        assert_eq!(ClockAnchor::decode(&[0; 43]), None);
    }
}
