//! Wall-clock times as nanoseconds since 1970, shown as RFC 3339.

use std::fmt;

/// A point of wall-clock time, in nanoseconds since 1970-01-01 UTC (1677 to 2262).
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, serde::Serialize, serde::Deserialize,
)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Parses RFC 3339, e.g. `2026-02-09T08:10:31.821Z`; `None` where it is none or out of range.
    pub fn parse(text: &str) -> Option<Self> {
        let t: jiff::Timestamp = text.parse().ok()?;
        i64::try_from(t.as_nanosecond()).ok().map(Self)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(t) => write!(f, "{t:.9}"),
            Err(_) => write!(f, "{}ns", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_survive_the_text_form() {
        for ns in [0, 1, -1, 1_770_624_631_821_000_001, i64::MAX, i64::MIN] {
            assert_eq!(Timestamp::parse(&Timestamp(ns).to_string()), Some(Timestamp(ns)));
        }
        assert_eq!(
            Timestamp::parse("2026-02-09T08:10:31.821Z"),
            Timestamp::parse("2026-02-09T09:10:31.821+01:00")
        );
        assert_eq!(Timestamp::parse("yesterday"), None);
        assert_eq!(Timestamp::parse("9999-01-01T00:00:00Z"), None);
    }
}
