//! Refused events: their bytes in quarantine, and the event that tells of them.

use crate::ledger::Chunk;
use crate::pipeline::Pipeline;
use parking_lot::Mutex;
use semj_storage::event::{Event, EventType};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// `observability.alert_triggered`.
const ALERT: EventType = EventType::from_code(0x0805);

/// One refused unit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Its first event.
    pub first: u64,
    /// Its last event.
    pub last: u64,
    /// The last words of the crash.
    pub reason: Arc<str>,
}

impl Refusal {
    /// The event that tells of it.
    pub fn event(&self) -> Event<'static> {
        let what = match self.last - self.first {
            0 => format!("event {} is refused", self.first),
            _ => format!("events {} to {} are refused", self.first, self.last),
        };
        Event::new(ALERT).stream("semj").name("semj.refused").intent(what).payload(serde_json::json!({
            "semj.refused_first": self.first,
            "semj.refused_last": self.last,
            "semj.reason": self.reason.chars().take(1_000).collect::<String>(),
            "semj.quarantine": file_name(self.first),
        }))
    }
}

/// Refusals that no event tells of yet.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    untold: VecDeque<Refusal>,
    count: u64,
}

impl Refusals {
    pub(crate) fn note(&self, chunk: &Chunk, reason: &Arc<str>) {
        let (first, last) = (chunk.first_sequence, chunk.last_sequence());
        let mut state = self.0.lock();
        state.count += last + 1 - first;
        state.untold.push_back(Refusal { first, last, reason: reason.clone() });
    }

    /// How many events were refused since opening.
    pub fn count(&self) -> u64 {
        self.0.lock().count
    }

    pub(crate) fn take(&self) -> Option<Refusal> {
        self.0.lock().untold.pop_front()
    }

    pub(crate) fn put_back(&self, refusal: Refusal) {
        self.0.lock().untold.push_front(refusal);
    }
}

fn file_name(first: u64) -> String {
    format!("refused-{first:020}.bin")
}

impl Pipeline {
    /// Keeps what a refused unit held: envelope, key and body of each event, back to back as in a block.
    pub(crate) fn set_refused_aside(&self, chunk: &Chunk) -> io::Result<()> {
        self.record.place.keep(&file_name(chunk.first_sequence), &chunk.bytes).map(drop)
    }
}
