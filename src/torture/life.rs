//! One life of the tortured process: opens the journal, emits, is disturbed, and opens it again where it was poisoned.

use super::disturb::{self, Weather};
use super::lock;
use super::produce::{Ended, Producer};
use super::wire::{Life, Pipe, Told, Vitals};
use semj_actors::clock::SystemClock;
use semj_actors::supervision::{RestartLimits, Role, WatchLimits};
use semj_actors::{Engine, EngineOptions};
use semj_storage::backend::{FaultRates, Faults, RealBackend, faulty};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// An actor that stands still for this long is replaced: short, so that replacing is tortured, too.
const HANG: Duration = Duration::from_millis(200);
/// A stage may be slow on a disk that is made to dawdle.
const SLOW: Duration = Duration::from_secs(10);
/// How long closing may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);
/// How often to say how it is.
const VITALS_EVERY: Duration = Duration::from_millis(100);
/// How often threads that wait look around.
pub(super) const LOOK: Duration = Duration::from_millis(5);

/// What the threads of a life share.
pub(super) struct Shared {
    pub(super) life: Life,
    pub(super) pipe: Pipe,
    pub(super) weather: Weather,
    pub(super) asked: AtomicU64,
    until: Mutex<Option<Instant>>,
    restarts: Mutex<[u64; Role::ALL.len()]>,
    left_behind: AtomicU64,
}

/// One opening of the journal.
pub(super) struct Opening<'a> {
    pub(super) shared: &'a Shared,
    pub(super) engine: &'a Engine,
    /// Why it cannot go on.
    broken: Mutex<Option<String>>,
    is_over: AtomicBool,
}

impl Opening<'_> {
    /// Whether everybody should come to an end.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
            || self.shared.pipe.is_broken()
            || lock(&self.shared.until).is_some_and(|until| Instant::now() >= until)
    }

    /// The journal ends emissions or waits with this.
    pub(super) fn broke(&self, why: String) {
        lock(&self.broken).get_or_insert(why);
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Sleeps, but not beyond the end; `false` when it is over.
    pub(super) fn sleep(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if self.is_over() || left.is_zero() {
                return !self.is_over();
            }
            std::thread::sleep(left.min(LOOK));
        }
    }

    fn vitals(&self) -> Vitals {
        let (shared, counts) = (self.shared, self.shared.weather.faults.counts());
        let mut restarts = *lock(&shared.restarts);
        let now = Role::ALL.map(|role| self.engine.restarts(role));
        restarts.iter_mut().zip(now).for_each(|(sum, n)| *sum += n);
        Vitals {
            full: counts.full,
            errors: counts.errors,
            slow: counts.slow,
            left_behind: shared.left_behind.load(Ordering::Relaxed) + self.engine.status().left_behind,
            asked: shared.asked.load(Ordering::Relaxed),
            restarts,
        }
    }

    /// The next opening counts from zero.
    fn keep_counts(&self) {
        let vitals = self.vitals();
        *lock(&self.shared.restarts) = vitals.restarts;
        self.shared.left_behind.store(vitals.left_behind, Ordering::Relaxed);
    }
}

/// Lives the life that `text` describes. To be called by a process that [`super::run`] started, and by nobody else.
///
/// # Errors
/// When the description cannot be read; everything else is told on standard output.
pub fn live(text: &str) -> Result<(), String> {
    let life: Life = serde_json::from_str(text).map_err(|e| format!("a life cannot be read: {e}"))?;
    disturb::silence();
    let faults = Faults::new(life.seed ^ 0xFA17);
    let mut producers: Vec<Producer> = (0..life.producers).map(|n| Producer::new(&life, n)).collect();
    let shared = Shared {
        life,
        pipe: Pipe::default(),
        weather: Weather::new(faults),
        asked: AtomicU64::new(0),
        until: Mutex::new(None),
        restarts: Mutex::default(),
        left_behind: AtomicU64::new(0),
    };
    let mut round = 0;
    let mut broke: Option<(Instant, String)> = None;
    while !shared.pipe.is_broken() {
        // Opening is left alone: what cannot be opened proves nothing about what was acknowledged.
        shared.weather.faults.set(FaultRates::default());
        round += 1;
        let engine = match open(&shared, round) {
            Ok(engine) => engine,
            Err(e) => {
                shared.pipe.problem(format!("the journal cannot be opened: {e}"));
                return Ok(());
            }
        };
        match broke.take() {
            None => {
                shared.pipe.tell(&Told::Ready);
                *lock(&shared.until) = Some(Instant::now() + Duration::from_millis(shared.life.millis));
            }
            Some((since, cause)) => {
                let nanos = since.elapsed().as_nanos() as u64;
                shared.pipe.tell(&Told::Reopened { nanos, cause });
            }
        }
        match once(&shared, &engine, &mut producers, round) {
            None => {
                shared.pipe.tell(&Told::End);
                return Ok(());
            }
            Some(why) => {
                let is_ours = shared.life.io_faults && why.contains("os error 5)");
                if !is_ours {
                    shared.pipe.problem(format!("the journal ended: {why}"));
                    return Ok(());
                }
                broke = Some((Instant::now(), why));
                // What is left undone is the reason for closing; the record is checked in any case.
                let _ = engine.close(CLOSE_WITHIN);
            }
        }
    }
    Ok(())
}

fn open(shared: &Shared, round: u64) -> Result<Engine, semj_actors::OpenError> {
    let ns = |time: Duration| time.as_nanos() as i64;
    let default = EngineOptions::default();
    let options = EngineOptions {
        // Torture is no sign of a bug: it must not exhaust the restarts, and pauses would only make less of it.
        restarts: RestartLimits {
            restarts: 1_000_000,
            window_ns: 1_000_000_000,
            backoff_ns: 0,
            backoff_max_ns: 0,
        },
        watch: WatchLimits { hang_ns: ns(HANG), slow_ns: ns(SLOW), ..WatchLimits::default() },
        lock_wait: CLOSE_WITHIN,
        // Small enough for segments to be finished and sealed while the disk misbehaves.
        segment_bytes: if shared.life.io_faults { 1 << 20 } else { default.segment_bytes },
        // Only where space is not filled ahead does a full disk meet every write.
        preallocate: !shared.life.io_faults || shared.life.seed.wrapping_add(round).is_multiple_of(2),
        ..default
    };
    let backend = faulty(Arc::new(RealBackend::new()), shared.weather.faults.clone());
    Engine::open_on(Arc::new(backend), Arc::new(SystemClock::new()), &shared.life.journal, options)
}

/// Works on one opening until it is over: `None` when it ended as it should, else why it broke.
fn once(shared: &Shared, engine: &Engine, producers: &mut [Producer], round: u64) -> Option<String> {
    let opening = Opening { shared, engine, broken: Mutex::default(), is_over: AtomicBool::new(false) };
    let (life, opening) = (&shared.life, &opening);
    std::thread::scope(|scope| {
        let disturbing = [
            scope.spawn(move || disturb::commits(opening, life.seed ^ round)),
            scope.spawn(move || {
                if life.io_faults {
                    shared.weather.change(opening, life.seed ^ round ^ 0x10);
                }
            }),
            scope.spawn(move || {
                while opening.sleep(VITALS_EVERY) {
                    shared.pipe.tell(&Told::Vitals(opening.vitals()));
                }
            }),
        ];
        let emitting: Vec<_> = producers
            .iter_mut()
            .map(|producer| {
                scope.spawn(move || {
                    if let Err(Ended::Broken(why)) = producer.work(opening) {
                        opening.broke(why);
                    }
                })
            })
            .collect();
        for thread in emitting.into_iter().chain(disturbing) {
            if thread.join().is_err() {
                opening.broke("a thread of the torture panicked".into());
            }
        }
    });
    shared.weather.faults.set(FaultRates::default());
    if lock(&opening.broken).is_none()
        && let Err(e) = engine.close(CLOSE_WITHIN)
    {
        opening.broke(format!("closing: {e}"));
    }
    opening.keep_counts();
    shared.pipe.tell(&Told::Vitals(opening.vitals_kept()));
    lock(&opening.broken).take()
}

impl Opening<'_> {
    /// As they are after [`Opening::keep_counts`].
    fn vitals_kept(&self) -> Vitals {
        let mut vitals = self.vitals();
        vitals.restarts = *lock(&self.shared.restarts);
        vitals.left_behind = self.shared.left_behind.load(Ordering::Relaxed);
        vitals
    }
}
