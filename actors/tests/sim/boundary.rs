//! Each actor killed at each boundary: before each of its turns, and at each point that it passes in one.

use super::run::{Report, all_openings, report};
use super::saga::{Saga, Settings};
use super::world::World;
use semj_actors::chaos;
use semj_actors::simulation::panic_text;
use semj_actors::supervision::Role;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

const SEED: u64 = 12;

/// How many points are passed in each turn of each role.
pub type Turns = BTreeMap<(Role, u64), u64>;

/// What a sweep did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    pub turns: u64,
    pub messages: u64,
    pub events: usize,
    pub before: u64,
    pub inside: u64,
    /// Turns that came no more, since the crash changed what was to be done.
    pub unreached: u64,
}

pub fn standard(settings: Settings, prepare: impl Fn(&World)) -> Result<(Report, Turns), String> {
    let saga = Saga::new(SEED, settings);
    let run = catch_unwind(AssertUnwindSafe(|| all_openings(&saga, &prepare)));
    chaos::on_pass(None);
    let world = run.map_err(|e| format!("{}\n{}", panic_text(e.as_ref()), saga.tail(40)))?;
    let passes = world.hook.passes.take().unwrap_or_default();
    let turns = world.hook.turns_of.borrow();
    let all = turns.iter().flat_map(|(role, n)| (1..=*n).map(move |turn| (*role, turn)));
    Ok((report(&saga), all.map(|at| (at, passes.get(&at).copied().unwrap_or(0))).collect()))
}

/// Kills everybody in a run of so many emissions: before every `before`-th of its turns, and at every `inside`-th point
/// passed in one. Each time the journal must hold the same in the end.
///
/// # Errors
/// What was different, and where.
pub fn sweep(emissions: u64, before: usize, inside: usize) -> Result<Figures, String> {
    let (undisturbed, turns) =
        standard(Settings::calm(emissions), |world| *world.hook.passes.borrow_mut() = Some(BTreeMap::new()))?;
    let is_mail = |line: &&super::saga::Line| {
        let names = ["LedgerDoorbell", "BatchRange", "CommitBatch", "DurableDoorbell", "IndexDoorbell"];
        names.contains(&line.2)
    };
    let mut figures = Figures {
        turns: turns.len() as u64,
        messages: undisturbed.trace.iter().filter(is_mail).count() as u64,
        events: undisturbed.journal.len(),
        ..Figures::default()
    };
    let outside = turns.keys().map(|(role, turn)| (*role, *turn, 0)).step_by(before);
    let within =
        turns.iter().flat_map(|((role, turn), passes)| (1..=*passes).map(|pass| (*role, *turn, pass)));
    for place in outside.chain(within.step_by(inside)) {
        let (disturbed, _) = standard(Settings::calm(emissions), |world| world.hook.script.set(Some(place)))
            .map_err(|words| format!("{place:?}: {words}"))?;
        let deaths = disturbed.counts.get("injected panics").copied().unwrap_or(0);
        if disturbed.journal != undisturbed.journal || deaths > 1 {
            return Err(format!("{place:?}: {deaths} deaths, and another journal than undisturbed"));
        }
        match (deaths, place.2) {
            (0, _) => figures.unreached += 1,
            (_, 0) => figures.before += 1,
            _ => figures.inside += 1,
        }
    }
    Ok(figures)
}
