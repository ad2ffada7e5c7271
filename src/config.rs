//! Every option of a journal: default, unit, limit; from a builder or a TOML file.

use crate::{Error, Journal, OpenError};
use semj_actors::EngineOptions;
use semj_actors::sources::OpenSource;
use semj_storage::event::Event;
use semj_storage::limits::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX};
use semj_storage::log::Codec;
use serde::Deserialize;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How a journal is opened.
///
/// | option | default | limits |
/// |---|---|---|
/// | `create` | true | |
/// | `lock_wait` (`lock_wait_ms`) | 0 | up to 1 h |
/// | `max_age` (`max_age_ms`): an event is committed after this time even if nobody waits | 5 ms | 1 ms to 10 s |
/// | `batch_bytes` | 1 MiB | 4 KiB to 4 MiB |
/// | `batch_events` | 4,096 | 1 to 8,192 |
/// | `segment_bytes` | 64 MiB | 1 MiB to 1 GiB |
/// | `preallocate`: zero-fill space ahead of the tail | true | |
/// | `restarts` in `restart_window` (`restart_window_ms`): deaths of one actor that are answered with a restart | 5 in 10 s | up to 10,000; 100 ms to 1 h |
/// | `hang_after` (`hang_after_ms`): a busy actor without progress is replaced | 5 s | 100 ms to 1 h |
/// | `stall_after` (`stall_after_ms`): a write or sync that takes longer is told as a stall | 1 s | 10 ms to 1 h |
/// | `sync_period` (`sync_period_ms`): how often the figures of a kernel source are looked at; a clock anchor and a certificate come that often while something happens, alerts and resyncs of a source no more often | 1 s | 10 ms to 1 h |
/// | `sync_lag` (`sync_lag_events`, `sync_lag_ms`, `sync_lag_periods`): a kernel source that is further behind for so many periods is told | 100,000 records or 10 s, 3 periods | 1 to 2^40; 1 ms to 1 d; 1 to 3,600 |
/// | `codec` (`"none"`, `"lz4"`, `"zstd"`; `zstd_level`) | none | level 1 to 19 |
#[derive(Clone, Debug, Default)]
pub struct Options(pub(crate) EngineOptions);

/// The same as TOML. Unknown keys are refused by name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    create: Option<bool>,
    lock_wait_ms: Option<u64>,
    max_age_ms: Option<u64>,
    batch_bytes: Option<u64>,
    batch_events: Option<u64>,
    segment_bytes: Option<u64>,
    preallocate: Option<bool>,
    restarts: Option<u64>,
    restart_window_ms: Option<u64>,
    hang_after_ms: Option<u64>,
    stall_after_ms: Option<u64>,
    sync_period_ms: Option<u64>,
    sync_lag_events: Option<u64>,
    sync_lag_ms: Option<u64>,
    sync_lag_periods: Option<u64>,
    codec: Option<String>,
    zstd_level: Option<i64>,
}

const MAX_AGE_MS: RangeInclusive<u64> = 1..=10_000;
const BATCH_BYTES: RangeInclusive<u64> = 4 << 10..=BATCH_BYTES_MAX as u64;
const BATCH_EVENTS: RangeInclusive<u64> = 1..=BATCH_EVENTS_MAX as u64;
const SEGMENT: RangeInclusive<u64> = 1 << 20..=1 << 30;
const RESTARTS: RangeInclusive<u64> = 0..=10_000;
const RESTART_WINDOW_MS: RangeInclusive<u64> = 100..=3_600_000;
const HANG_AFTER_MS: RangeInclusive<u64> = 100..=3_600_000;
const STALL_AFTER_MS: RangeInclusive<u64> = 10..=3_600_000;
const SYNC_PERIOD_MS: RangeInclusive<u64> = 10..=3_600_000;
const SYNC_LAG_EVENTS: RangeInclusive<u64> = 1..=1 << 40;
const SYNC_LAG_MS: RangeInclusive<u64> = 1..=86_400_000;
const SYNC_LAG_PERIODS: RangeInclusive<u64> = 1..=3_600;
const LOCK_WAIT_MS: RangeInclusive<u64> = 0..=3_600_000;

fn within(key: &str, value: u64, range: &RangeInclusive<u64>) -> Result<u64, String> {
    if range.contains(&value) {
        Ok(value)
    } else {
        Err(format!("{key} is {value}, expected {} to {}", range.start(), range.end()))
    }
}

fn ns(ms: u64) -> i64 {
    ms as i64 * 1_000_000
}

fn clamp(value: u64, range: &RangeInclusive<u64>) -> u64 {
    value.clamp(*range.start(), *range.end())
}

impl Options {
    /// Whether the journal is made when there is none.
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.0.create = create;
        self
    }

    /// How long to wait for another owner to close it.
    #[must_use]
    pub fn lock_wait(mut self, wait: Duration) -> Self {
        self.0.lock_wait = wait;
        self
    }

    /// Longest time an event waits before it is committed even if nobody waits for it.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.0.max_age = Duration::from_millis(clamp(age.as_millis() as u64, &MAX_AGE_MS));
        self
    }

    /// A batch is cut at this many bytes.
    #[must_use]
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.0.batch_bytes = clamp(bytes as u64, &BATCH_BYTES) as usize;
        self
    }

    /// A batch is cut at this many events.
    #[must_use]
    pub fn batch_events(mut self, events: usize) -> Self {
        self.0.batch_events = clamp(events as u64, &BATCH_EVENTS) as usize;
        self
    }

    /// Size of a segment, in bytes.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.0.segment_bytes = clamp(bytes, &SEGMENT);
        self
    }

    /// Whether space is zero-filled ahead of the tail.
    #[must_use]
    pub fn preallocate(mut self, preallocate: bool) -> Self {
        self.0.preallocate = preallocate;
        self
    }

    /// How many deaths of one actor within `window` are answered with a restart; one more poisons the journal, or ends
    /// the function of an actor that it can do without.
    #[must_use]
    pub fn restarts(mut self, restarts: usize, window: Duration) -> Self {
        self.0.restarts.restarts = clamp(restarts as u64, &RESTARTS) as usize;
        self.0.restarts.window_ns = ns(clamp(window.as_millis() as u64, &RESTART_WINDOW_MS));
        self
    }

    /// An actor that is busy without progress for this long is left behind with its thread, and replaced.
    #[must_use]
    pub fn hang_after(mut self, time: Duration) -> Self {
        self.0.watch.hang_ns = ns(clamp(time.as_millis() as u64, &HANG_AFTER_MS));
        self
    }

    /// A write or sync of the record that does not return for this long is told as a stall.
    #[must_use]
    pub fn stall_after(mut self, time: Duration) -> Self {
        self.0.watch.stall_ns = ns(clamp(time.as_millis() as u64, &STALL_AFTER_MS));
        self
    }

    /// How often the figures of a kernel source are looked at. While something happens, a clock anchor is taken and a
    /// certificate written that often; alerts and resyncs of a source come no closer together.
    #[must_use]
    pub fn sync_period(mut self, period: Duration) -> Self {
        self.0.sync.period_ns = ns(clamp(period.as_millis() as u64, &SYNC_PERIOD_MS));
        self
    }

    /// A kernel source is told to be behind when more than `events` records are not journaled, or what is journaled is
    /// older than `age` while there is more, for `periods` periods in a row.
    #[must_use]
    pub fn sync_lag(mut self, events: u64, age: Duration, periods: u32) -> Self {
        self.0.sync.lag_events = clamp(events, &SYNC_LAG_EVENTS);
        self.0.sync.lag_ms = clamp(age.as_millis() as u64, &SYNC_LAG_MS);
        self.0.sync.lag_periods = clamp(periods.into(), &SYNC_LAG_PERIODS) as u32;
        self
    }

    /// How block bodies are stored; a Zstandard level outside 1 to 19 counts as the nearest.
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Self {
        self.0.codec = match codec {
            Codec::Zstd(level) => Codec::Zstd(level.clamp(1, 19)),
            other => other,
        };
        self
    }

    /// Attaches a kernel source as the journal is opened, as [`Journal::attach`] does afterwards.
    #[must_use]
    pub fn source(self, source: impl OpenSource + 'static) -> Self {
        self.0.sources.add(Box::new(source));
        self
    }

    /// Looks at every event before it is admitted, e.g. to take secrets out.
    #[must_use]
    pub fn scrub(mut self, scrub: impl Fn(&mut Event<'_>) + Send + Sync + 'static) -> Self {
        self.0.scrub = Some(Arc::new(scrub));
        self
    }

    /// Takes settings from a TOML file; what it does not name stays.
    ///
    /// # Errors
    /// [`Error::Config`] naming the key, what was expected and what was found.
    pub fn config_file(self, path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let config = |reason: String| Error::Config { path: path.to_owned(), reason };
        let text = std::fs::read_to_string(path).map_err(|e| config(e.to_string()))?;
        self.apply(&text).map_err(config)
    }

    fn apply(mut self, text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|e| e.to_string())?;
        let o = &mut self.0;
        o.create = file.create.unwrap_or(o.create);
        o.preallocate = file.preallocate.unwrap_or(o.preallocate);
        if let Some(ms) = file.lock_wait_ms {
            o.lock_wait = Duration::from_millis(within("lock_wait_ms", ms, &LOCK_WAIT_MS)?);
        }
        if let Some(ms) = file.max_age_ms {
            o.max_age = Duration::from_millis(within("max_age_ms", ms, &MAX_AGE_MS)?);
        }
        if let Some(bytes) = file.batch_bytes {
            o.batch_bytes = within("batch_bytes", bytes, &BATCH_BYTES)? as usize;
        }
        if let Some(events) = file.batch_events {
            o.batch_events = within("batch_events", events, &BATCH_EVENTS)? as usize;
        }
        if let Some(bytes) = file.segment_bytes {
            o.segment_bytes = within("segment_bytes", bytes, &SEGMENT)?;
        }
        if let Some(restarts) = file.restarts {
            o.restarts.restarts = within("restarts", restarts, &RESTARTS)? as usize;
        }
        if let Some(ms) = file.restart_window_ms {
            o.restarts.window_ns = ns(within("restart_window_ms", ms, &RESTART_WINDOW_MS)?);
        }
        if let Some(ms) = file.hang_after_ms {
            o.watch.hang_ns = ns(within("hang_after_ms", ms, &HANG_AFTER_MS)?);
        }
        if let Some(ms) = file.stall_after_ms {
            o.watch.stall_ns = ns(within("stall_after_ms", ms, &STALL_AFTER_MS)?);
        }
        if let Some(ms) = file.sync_period_ms {
            o.sync.period_ns = ns(within("sync_period_ms", ms, &SYNC_PERIOD_MS)?);
        }
        if let Some(events) = file.sync_lag_events {
            o.sync.lag_events = within("sync_lag_events", events, &SYNC_LAG_EVENTS)?;
        }
        if let Some(ms) = file.sync_lag_ms {
            o.sync.lag_ms = within("sync_lag_ms", ms, &SYNC_LAG_MS)?;
        }
        if let Some(periods) = file.sync_lag_periods {
            o.sync.lag_periods = within("sync_lag_periods", periods, &SYNC_LAG_PERIODS)? as u32;
        }
        let level = file.zstd_level;
        match (file.codec.as_deref(), level) {
            (None, None) => {}
            (Some("none"), None) => o.codec = Codec::None,
            (Some("lz4"), None) => o.codec = Codec::Lz4,
            (Some("zstd"), level) => match level.unwrap_or(1) {
                level @ 1..=19 => o.codec = Codec::Zstd(level as i32),
                level => return Err(format!("zstd_level is {level}, expected 1 to 19")),
            },
            (_, Some(_)) => return Err("zstd_level needs codec = \"zstd\"".into()),
            (Some(other), None) => {
                return Err(format!("codec is {other:?}, expected \"none\", \"lz4\" or \"zstd\""));
            }
        }
        Ok(self)
    }

    /// Opens the journal in `path`.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(self, path: impl AsRef<Path>) -> Result<Journal, OpenError> {
        Journal::open_with(path.as_ref(), self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_taken_and_wrong_ones_refused_by_name() {
        let text = "max_age_ms = 20\ncodec = \"zstd\"\nzstd_level = 3\nsegment_bytes = 1048576\n";
        let options = Options::default().apply(text).unwrap();
        assert_eq!(options.0.max_age, Duration::from_millis(20));
        let options = options.apply("restarts = 9\nrestart_window_ms = 1000\nstall_after_ms = 50\n").unwrap();
        let (restarts, watch) = (options.0.restarts, options.0.watch);
        assert_eq!((restarts.restarts, restarts.window_ns, watch.stall_ns), (9, ns(1_000), ns(50)));
        let options =
            options.apply("sync_period_ms = 50\nsync_lag_events = 7\nsync_lag_periods = 2\n").unwrap();
        let sync = options.0.sync;
        assert_eq!((sync.period_ns, sync.lag_events, sync.lag_ms, sync.lag_periods), (ns(50), 7, 10_000, 2));
        assert_eq!((options.0.codec, options.0.segment_bytes), (Codec::Zstd(3), 1 << 20));
        for (text, word) in [
            ("max_age_ms = 0", "max_age_ms is 0, expected 1 to 10000"),
            ("colour = 1", "colour"),
            ("codec = \"gzip\"", "gzip"),
            ("zstd_level = 3", "zstd_level needs"),
            ("batch_events = 8193", "8193"),
            ("hang_after_ms = 5", "hang_after_ms is 5, expected 100 to 3600000"),
            ("sync_lag_periods = 0", "sync_lag_periods is 0, expected 1 to 3600"),
            ("batch_bytes = \"many\"", "batch_bytes"),
        ] {
            let reason = Options::default().apply(text).err().unwrap();
            assert!(reason.contains(word), "{text}: {reason}");
        }
    }
}
