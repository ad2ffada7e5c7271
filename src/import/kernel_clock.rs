//! What the wall clock said while a kernel counted the nanoseconds since its boot.

use semj_storage::log::control::ClockAnchor;

/// Readings of both clocks in one boot: the kernel's monotonic clock, and the wall clock, ns since 1970.
///
/// ```
/// use semj::import::KernelClock;
/// let clock = KernelClock::boot_at(1_000_000);
/// assert_eq!(clock.wall_ns(5), Some(1_000_005));
/// assert_eq!(KernelClock::default().wall_ns(5), None);
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KernelClock {
    /// (monotonic, wall), in the order of the first.
    readings: Vec<(i64, i64)>,
}

impl KernelClock {
    /// The boot's clock was 0 at this time, ns since 1970: a record's time is this and its clock.
    pub fn boot_at(wall_ns: i64) -> Self {
        KernelClock { readings: vec![(0, wall_ns)] }
    }

    /// By readings that a journal holds of the boot.
    pub fn of_anchors(anchors: &[ClockAnchor]) -> Self {
        let mut readings: Vec<_> = anchors.iter().map(|a| (a.mono_ns, a.wall_ns)).collect();
        readings.sort_unstable();
        KernelClock { readings }
    }

    /// Whether nothing is known.
    pub fn is_unknown(&self) -> bool {
        self.readings.is_empty()
    }

    /// The wall clock when the kernel's was `ktime`: by the last reading before it, since the clock may have been set
    /// after it; by the first one where there is none before. `None` where nothing is known, or out of range.
    pub fn wall_ns(&self, ktime: i64) -> Option<i64> {
        let behind = self.readings.partition_point(|(mono, _)| *mono <= ktime);
        let (mono, wall) = self.readings.get(behind.saturating_sub(1))?;
        wall.checked_add(ktime.checked_sub(*mono)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_reading_before_a_record_counts() {
        let at = |mono_ns, wall_ns| ClockAnchor { mono_ns, wall_ns, ..ClockAnchor::default() };
        // Set back by 1,000 between the two.
        let clock = KernelClock::of_anchors(&[at(200, 9_200), at(100, 10_100)]);
        for (ktime, wall) in [(50, 10_050), (100, 10_100), (199, 10_199), (200, 9_200), (300, 9_300)] {
            assert_eq!(clock.wall_ns(ktime), Some(wall), "{ktime}");
        }
        assert!(KernelClock::of_anchors(&[]).is_unknown());
        assert_eq!(KernelClock::boot_at(i64::MAX).wall_ns(1), None);
        assert_eq!(KernelClock::boot_at(0).wall_ns(i64::MIN), Some(i64::MIN));
    }
}
