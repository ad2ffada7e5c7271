//! What is done to a living journal: its actors are killed in every way, its lanes end, its disk misbehaves.

use super::life::{LOOK, Opening};
use super::tag::Rng;
use super::wire::Told;
use semj_actors::supervision::{Command, Role};
use semj_storage::backend::{FaultRates, Faults, MILLION};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Commits must come again within this time after a disturbance.
const PATIENCE: Duration = Duration::from_secs(20);
/// A death shows within this time, or was overtaken by another.
const DEATH_WITHIN: Duration = Duration::from_secs(3);
/// How often to look whether somebody has died.
const DEATH_LOOK: Duration = Duration::from_micros(20);
/// Lanes that may be hung for good in one opening: a fifth one poisons, by design.
const HANGS_MAX: u64 = 3;
/// Looks a second of an undisturbed life.
const LOOKS_PER_SECOND: f64 = 20.0;

/// The disk's moods.
pub(super) struct Weather {
    pub(super) faults: Arc<Faults>,
    /// Changes with each mood; odd while the disk misbehaves.
    turn: AtomicU64,
}

impl Weather {
    pub(super) fn new(faults: Arc<Faults>) -> Self {
        Weather { faults, turn: AtomicU64::new(0) }
    }

    /// The current stretch of good weather; `None` while the disk misbehaves.
    fn calm(&self) -> Option<u64> {
        let turn = self.turn.load(Ordering::Relaxed);
        turn.is_multiple_of(2).then_some(turn)
    }

    /// Lets the disk be full, slow or broken for a while, again and again.
    pub(super) fn change(&self, opening: &Opening<'_>, seed: u64) {
        let mut rng = Rng(seed);
        while opening.sleep(Duration::from_millis(rng.between(100, 500))) {
            let none = FaultRates::default();
            let (rates, time) = match rng.below(10) {
                0..4 => {
                    let full = MILLION / rng.between(1, 4) as u32;
                    (FaultRates { full, ..none }, rng.between(20, 150))
                }
                4..8 => {
                    let delay = Duration::from_millis(rng.between(1, 20));
                    (FaultRates { slow: MILLION / 4, delay, ..none }, rng.between(50, 200))
                }
                8 => (FaultRates { read_error: MILLION / 20, ..none }, 50),
                _ => (FaultRates { write_error: MILLION / 50, sync_error: MILLION / 50, ..none }, 50),
            };
            self.turn.fetch_add(1, Ordering::Relaxed);
            self.faults.set(rates);
            let goes_on = opening.sleep(Duration::from_millis(time));
            self.faults.set(none);
            self.turn.fetch_add(1, Ordering::Relaxed);
            if !goes_on {
                return;
            }
        }
    }
}

/// A disturbance of an actor.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Ask(Role, Command),
    #[cfg(feature = "chaos")]
    Failpoint(&'static str),
}

/// Where stages may crash: the role is the name in front.
#[cfg(feature = "chaos")]
const STAGE_POINTS: &[&str] = &[
    "ingest:message",
    "ingest:before_cut",
    "ingest:resolve",
    "ingest:after_cut",
    "ingest:recover",
    "ingest:start",
    "batcher:message",
    "batcher:before_pack",
    "batcher:pack",
    "batcher:after_pack",
    "batcher:recover",
    "persister:message",
    "persister:before_append",
    "persister:before_sync",
    "persister:after_sync",
    "persister:recover",
    "writer:before_write",
    "writer:after_write",
    "writer:after_sync",
    "indexer:message",
    "indexer:before_step",
    "indexer:after_step",
];

fn deed(rng: &mut Rng, opening: &Opening<'_>, hangs: &mut u64) -> Deed {
    #[cfg(feature = "chaos")]
    if opening.shared.life.failpoints && rng.below(2) == 0 {
        let at = rng.below(STAGE_POINTS.len() as u64) as usize;
        return Deed::Failpoint(STAGE_POINTS.get(at).copied().unwrap_or("ingest:message"));
    }
    let _ = opening;
    // KernelSync has no lane here: no source is attached.
    let role = Role::ALL.get(rng.below(4) as usize).copied().unwrap_or(Role::Persister);
    let command = match rng.below(100) {
        0..45 => Command::Crash,
        45..70 => Command::Stop,
        70..85 => Command::EndLane,
        85..93 => Command::Hang(Duration::from_millis(rng.between(1, 40))),
        _ if *hangs < HANGS_MAX => {
            *hangs += 1;
            Command::Hang(Duration::from_millis(600))
        }
        _ => Command::Restart,
    };
    Deed::Ask(role, command)
}

/// Panics that a failpoint makes are no news.
pub(super) fn silence() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.payload().is::<semj_storage::chaos::Injected>() {
            usual(info);
        }
    }));
}

/// Disturbs the actors, each time until commits come again. An undisturbed life tells how long that takes by itself.
pub(super) fn commits(opening: &Opening<'_>, seed: u64) {
    let mut rng = Rng(seed ^ 0xD15);
    let rate = opening.shared.life.kill_rate;
    let mut hangs = 0;
    while opening.sleep(Duration::from_secs_f64(rng.interval(if rate > 0.0 {
        rate
    } else {
        LOOKS_PER_SECOND
    }))) {
        if rate <= 0.0 {
            let calm = opening.shared.weather.calm();
            next_commit(opening, ("none", "none"), calm, Instant::now());
            continue;
        }
        let deed = deed(&mut rng, opening, &mut hangs);
        // Now and then the next one comes before the last was dealt with.
        let is_watched = rng.below(4) > 0;
        match deed {
            Deed::Ask(role, command) => ask(opening, role, command, is_watched),
            #[cfg(feature = "chaos")]
            Deed::Failpoint(point) => crash_at(opening, point),
        }
    }
    #[cfg(feature = "chaos")]
    semj_actors::chaos::disarm_all();
}

fn ask(opening: &Opening<'_>, role: Role, command: Command, is_watched: bool) {
    let engine = opening.engine;
    let (calm, before) = (opening.shared.weather.calm(), engine.restarts(role));
    let begun = Instant::now();
    if !engine.disturb(role, command) {
        return;
    }
    opening.shared.asked.fetch_add(1, Ordering::Relaxed);
    let name = match command {
        Command::Restart => "restart",
        Command::Crash => "crash",
        Command::Stop => "stop",
        Command::EndLane => "end_lane",
        Command::Hang(time) if time < Duration::from_millis(100) => "pause",
        Command::Hang(_) => "hang",
    };
    if !is_watched {
        return;
    }
    let from = match name {
        "restart" | "pause" => Some(begun),
        // Found out late: that is a part of what it costs.
        "hang" => dies(opening, role, before).map(|_| begun),
        // It dies when its turn is over, as after a panic.
        _ => dies(opening, role, before),
    };
    if let Some(from) = from {
        next_commit(opening, (role.name(), name), calm, from);
    }
}

/// Waits until a role's death was counted; answers with the last moment at which it was seen alive.
fn dies(opening: &Opening<'_>, role: Role, before: u64) -> Option<Instant> {
    let begun = Instant::now();
    let mut alive = begun;
    loop {
        let now = Instant::now();
        if opening.engine.restarts(role) != before {
            return Some(alive);
        }
        alive = now;
        if opening.is_over() || begun.elapsed() > DEATH_WITHIN {
            return None;
        }
        std::thread::sleep(DEATH_LOOK);
    }
}

#[cfg(feature = "chaos")]
fn crash_at(opening: &Opening<'_>, point: &'static str) {
    use semj_actors::chaos::{Action, arm};
    let engine = opening.engine;
    let sum = || Role::ALL.into_iter().map(|role| engine.restarts(role)).sum::<u64>();
    let (calm, before) = (opening.shared.weather.calm(), sum());
    arm(point, 1, Action::Panic);
    opening.shared.asked.fetch_add(1, Ordering::Relaxed);
    let armed = Instant::now();
    let mut alive = armed;
    loop {
        let now = Instant::now();
        if sum() != before {
            break;
        }
        alive = now;
        // Some points are passed only after another crash.
        if opening.is_over() || armed.elapsed() > Duration::from_millis(100) {
            return;
        }
        std::thread::sleep(DEATH_LOOK);
    }
    let role = point.split(':').next().map_or("persister", |r| if r == "writer" { "persister" } else { r });
    next_commit(opening, (role, "failpoint"), calm, alive);
}

/// Tells how long it takes from `begun` until more is durable than now, if the weather was `calm` throughout.
fn next_commit(opening: &Opening<'_>, (role, command): (&str, &str), calm: Option<u64>, begun: Instant) {
    let shared = opening.shared;
    let durable = opening.engine.durable();
    let since = Instant::now();
    loop {
        match opening.engine.wait_durable(durable + 1, Duration::from_millis(100)) {
            Ok(()) => break,
            // When all producers have ended there is nothing to be committed.
            Err(_) if opening.is_over() => return,
            // A full disk answers at once.
            Err(e) if e.is_retryable() && since.elapsed() < PATIENCE => std::thread::sleep(LOOK),
            Err(e) if e.is_retryable() => {
                let time = PATIENCE.as_secs();
                shared.pipe.problem(format!("no commit for {time} s after {role} {command}: {e}"));
                return;
            }
            // The producers hear of it, too.
            Err(_) => return,
        }
    }
    let nanos = begun.elapsed().as_nanos() as u64;
    if calm.is_some() && calm == shared.weather.calm() {
        shared.pipe.tell(&Told::Commit { role: role.into(), command: command.into(), nanos });
    }
}
