//! What a life of the process tells whoever tortures it: one line each, written as a whole. A kill may cut the last line,
//! which then was not told.

use super::check::Ack;
use super::lock;
use super::tag::Tag;
use semj_actors::supervision::Role;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// How a life is to be lived. Given to the process as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Life {
    pub(super) number: u64,
    pub(super) journal: std::path::PathBuf,
    /// It ends by itself after this time, counted from the journal's opening.
    pub(super) millis: u64,
    pub(super) seed: u64,
    /// What events are made from: who gives ids emits the very same event in the next life.
    pub(super) content: u64,
    pub(super) producers: u32,
    /// Disturbances a second; 0 for an undisturbed life.
    pub(super) kill_rate: f64,
    pub(super) io_faults: bool,
    pub(super) failpoints: bool,
    /// How far each producer that gives ids has come.
    pub(super) keyed: Vec<u64>,
}

/// What a life has been up to so far.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Vitals {
    pub(super) full: u64,
    pub(super) errors: u64,
    pub(super) slow: u64,
    pub(super) left_behind: u64,
    pub(super) asked: u64,
    pub(super) restarts: [u64; Role::ALL.len()],
}

/// One line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Told {
    /// The journal is open.
    Ready,
    /// A disturbance, or none, and the time until the next commit.
    Commit { role: String, command: String, nanos: u64 },
    /// The journal was poisoned, as it should be after an I/O error, and is open again.
    Reopened { nanos: u64, cause: String },
    /// Something that should not be.
    Problem { words: String },
    /// How it is.
    Vitals(Vitals),
    /// It ended as it should.
    End,
}

/// The way to whoever listens.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    one: Mutex<()>,
    is_broken: AtomicBool,
}

impl Pipe {
    /// Nobody listens any more.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Relaxed)
    }

    fn write(&self, text: &str) {
        let _one = lock(&self.one);
        let mut out = io::stdout().lock();
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
            self.is_broken.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn tell(&self, told: &Told) {
        if let Ok(text) = serde_json::to_string(told) {
            self.write(&format!("{text}\n"));
        }
    }

    pub(super) fn problem(&self, words: String) {
        self.tell(&Told::Problem { words });
    }

    /// Tells acknowledgements. Nobody may be told before the disk has them.
    pub(super) fn acknowledge(&self, acks: &[Ack]) {
        let mut text = String::with_capacity(acks.len() * 32);
        for Ack { sequence, tag: Tag { source, item, at, of } } in acks {
            let _ = writeln!(text, "{sequence} {source} {item} {at} {of}");
        }
        self.write(&text);
    }
}

/// What a line says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Line {
    Ack(Ack),
    Told(Told),
}

impl Line {
    /// Reads a line without its end; `None` when it says nothing that is understood.
    pub(super) fn parse(line: &str) -> Option<Line> {
        if line.starts_with(['{', '"']) {
            return serde_json::from_str(line).ok().map(Line::Told);
        }
        let mut numbers = line.split(' ').map(|n| n.parse::<u64>().ok());
        let mut next = || numbers.next().flatten();
        let sequence = next()?;
        Some(Line::Ack(Ack {
            sequence,
            tag: Tag { source: next()?, item: next()?, at: next()?, of: next()? },
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back_and_nonsense_does_not() {
        for told in [Told::Ready, Told::End, Told::Problem { words: "a\nb".into() }] {
            assert_eq!(Line::parse(&serde_json::to_string(&told).unwrap()), Some(Line::Told(told)));
        }
        let tag = Tag { source: 2, item: 3, at: 0, of: 1 };
        assert_eq!(Line::parse("1 2 3 0 1"), Some(Line::Ack(Ack { sequence: 1, tag })));
        for line in ["", "1 2 3", "{", "thread panicked"] {
            assert_eq!(Line::parse(line), None);
        }
    }
}
