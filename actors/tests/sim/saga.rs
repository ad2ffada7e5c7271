//! What lasts through all openings of one run: chance, the model, the trace.

use super::chance::Random;
use super::model::{Draft, Model};
use semj_actors::ledger::Ledger;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// How often something happens: once in so many steps, never where it is 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    pub crash: u64,
    pub stop: u64,
    pub bomb: u64,
    pub lane: u64,
    /// A lane gets no processor in the middle of a turn.
    pub stand: u64,
    /// A lane hangs in the middle of a turn until it is replaced, and comes back.
    pub hang: u64,
    /// A lane gets no processor between two turns.
    pub delay: u64,
    pub sync_fault: u64,
    pub write_fault: u64,
    pub full: u64,
    pub quota: u64,
    pub read_fault: u64,
    /// The process or the power ends between two turns.
    pub end: u64,
    /// The process or the power ends in the middle of an operation on the disk.
    pub cut: u64,
    pub wall: u64,
    /// Per emission.
    pub pill: u64,
    pub shed: u64,
}

/// What a run is like.
#[derive(Clone, Debug)]
pub struct Settings {
    pub rates: Rates,
    /// Emissions in all.
    pub emissions: u64,
    /// Whether few deaths are too many, as by default.
    pub is_strict: bool,
    pub segment_bytes: u64,
    pub preallocate: bool,
    /// In order, without trouble and without a choice of hosts: for runs that are compared with one another.
    pub is_standard: bool,
    /// Whether an event that nobody waits for is emitted when all sleep, to see that it wakes them.
    pub is_probed: bool,
    /// In a standard run: which event is a pill.
    pub pill_tag: Option<u64>,
}

impl Settings {
    /// Some troubles, each with some rate.
    pub fn from_seed(seed: u64) -> Self {
        let mut random = Random(seed ^ 0x5E77_1265);
        let mut rate = |usual: u64, of_two: u64| {
            let factor = 1 + random.below(6);
            if random.below(2) < of_two { usual * factor / 2 } else { 0 }
        };
        let rates = Rates {
            crash: rate(30, 1),
            stop: rate(100, 1),
            bomb: rate(10, 1),
            lane: rate(80, 1),
            stand: rate(8, 1),
            hang: rate(80, 1),
            delay: rate(40, 1),
            sync_fault: rate(600, 1),
            write_fault: rate(600, 1),
            full: rate(200, 1),
            quota: rate(400, 1),
            read_fault: rate(200, 1),
            end: rate(250, 1),
            cut: rate(250, 1),
            wall: rate(100, 1),
            pill: rate(12, 1),
            shed: rate(100, 1),
        };
        Settings {
            rates,
            emissions: 20 + random.below(60),
            is_strict: random.once_in(10),
            segment_bytes: if random.once_in(2) { 4_096 } else { 1 << 20 },
            // Space ahead comes in steps of a MiB, which only some runs can afford.
            preallocate: random.once_in(40),
            is_standard: false,
            is_probed: true,
            pill_tag: None,
        }
    }

    /// No trouble.
    pub fn calm(emissions: u64) -> Self {
        Settings {
            rates: Rates::default(),
            emissions,
            is_strict: false,
            segment_bytes: 2_048,
            preallocate: false,
            is_standard: true,
            is_probed: false,
            pill_tag: None,
        }
    }
}

/// One line of the trace.
pub type Line = (i64, &'static str, &'static str, u64);

#[derive(Debug)]
pub struct Saga {
    pub seed: u64,
    pub settings: Settings,
    pub random: RefCell<Random>,
    pub model: RefCell<Model>,
    pub trace: RefCell<Vec<Line>>,
    pub emissions_left: std::cell::Cell<u64>,
    pub next_tag: std::cell::Cell<u64>,
    /// Emitted with an id, to be emitted again.
    pub keyed: RefCell<Vec<Vec<Draft>>>,
    pub pills: std::cell::Cell<u64>,
    pub counts: RefCell<BTreeMap<&'static str, u64>>,
}

impl Saga {
    pub fn new(seed: u64, settings: Settings) -> Rc<Self> {
        Rc::new(Saga {
            seed,
            random: RefCell::new(Random(seed)),
            model: RefCell::default(),
            trace: RefCell::default(),
            emissions_left: settings.emissions.into(),
            next_tag: 1.into(),
            keyed: RefCell::default(),
            pills: 0.into(),
            counts: RefCell::default(),
            settings,
        })
    }

    pub fn below(&self, limit: u64) -> u64 {
        self.random.borrow_mut().below(limit)
    }

    pub fn once_in(&self, times: u64) -> bool {
        self.random.borrow_mut().once_in(times)
    }

    pub fn pick<'a, T>(&self, from: &'a [T]) -> &'a T {
        self.random.borrow_mut().pick(from)
    }

    pub fn count(&self, what: &'static str) {
        *self.counts.borrow_mut().entry(what).or_default() += 1;
    }

    pub fn see(&self, ledger: &Ledger) {
        self.model.borrow_mut().see(ledger);
    }

    /// The newest lines.
    pub fn tail(&self, lines: usize) -> String {
        let trace = self.trace.borrow();
        let from = trace.len().saturating_sub(lines);
        let text =
            |(at, who, what, n): &Line| format!("{:>12.3} ms {who:<10} {what} {n}\n", *at as f64 / 1e6);
        trace.iter().skip(from).map(text).collect()
    }
}
