//! Durations and points in time as arguments.

use semj::event::Timestamp;
use std::time::Duration;

/// Parses `250ms`, `30s`, `15m`, `2h` or `7d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "a number and a unit: 250ms, 30s, 15m, 2h or 7d";
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or(EXPECTED)?;
    let number: u64 = number.parse().map_err(|_| EXPECTED)?;
    let ms_each: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(EXPECTED.into()),
    };
    number.checked_mul(ms_each).map(Duration::from_millis).ok_or_else(|| "that long a time has no end".into())
}

/// Seconds as a plain number, or any duration.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let plain = text.parse::<u32>().map(|n| Duration::from_secs(u64::from(n)));
    plain.or_else(|_| duration(text))
}

/// A point in time as it was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum When {
    /// A date and time.
    At(Timestamp),
    /// That long before now.
    Ago(Duration),
}

impl When {
    /// Parses RFC 3339, or a duration that means "ago".
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match (Timestamp::parse(text), duration(text)) {
            (Some(at), _) => Ok(When::At(at)),
            (None, Ok(ago)) => Ok(When::Ago(ago)),
            (None, Err(_)) => {
                Err("expected RFC 3339, e.g. 2026-02-09T08:10:31Z, or 30s, 15m, 2h, 7d ago".into())
            }
        }
    }

    /// The point in time, seen from `now`.
    pub(crate) fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            When::At(at) => at,
            When::Ago(ago) => {
                Timestamp(now.0.saturating_sub(i64::try_from(ago.as_nanos()).unwrap_or(i64::MAX)))
            }
        }
    }
}

/// The wall clock.
pub(crate) fn now() -> Timestamp {
    Timestamp(i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX))
}

/// A time for a table: UTC, to the millisecond.
pub(crate) fn short(time: Timestamp) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(time.0)) {
        // Rounded down: a time must not look later than it was.
        Ok(t) => t.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string(),
        Err(_) => time.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_plain_or_a_duration() {
        assert_eq!(seconds("3"), Ok(Duration::from_secs(3)));
        assert_eq!(seconds("200ms"), Ok(Duration::from_millis(200)));
        assert!(seconds("x").is_err());
    }

    #[test]
    fn durations_need_number_and_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(7 * 86_400)));
        for bad in
            ["", "s", "5", "-5s", "1.5h", "5 s", "5w", "99999999999999999999s", "18446744073709551615d", "٣s"]
        {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_dates_or_ago() {
        let now = Timestamp(10_000_000_000);
        assert_eq!(When::parse("3s").map(|w| w.resolve(now)), Ok(Timestamp(7_000_000_000)));
        assert_eq!(When::parse("1970-01-01T00:00:01Z").map(|w| w.resolve(now)), Ok(Timestamp(1_000_000_000)));
        assert_eq!(
            When::parse("300000d").map(|w| w.resolve(Timestamp(i64::MIN + 1))),
            Ok(Timestamp(i64::MIN))
        );
        assert!(When::parse("yesterday").is_err());
    }

    #[test]
    fn short_times_are_cut_not_rounded() {
        assert_eq!(short(Timestamp(1_999_999_999)), "1970-01-01T00:00:01.999Z");
        assert_eq!(short(Timestamp(-1)), "1969-12-31T23:59:59.999Z");
    }
}
