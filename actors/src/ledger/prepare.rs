//! What is done with an event before the ledger is locked: limits, encoding, digest.

use super::chunk::TIME_UNKNOWN;
use crate::error::EmitError;
use semj_storage::event::{Cause, Event, LimitExceeded, TAG_TIME_UNKNOWN, Text, encode_body};
use semj_storage::limits::{EVENT_BYTES_MAX, LINKS_MAX};
use semj_storage::log::content_digest;
use semj_storage::query::agent_bits;
use uuid::Uuid;

/// Encoded events waiting to be admitted together, in one reusable buffer.
#[derive(Debug, Default)]
pub struct Prepared {
    pub(super) bodies: Vec<u8>,
    pub(super) items: Vec<Item>,
    pub(super) causes: Vec<Cause>,
    pub(super) agents: [u8; 32],
    /// The engine emits them itself.
    pub(super) engine: bool,
    /// Control records that commit with them: kind, and end in `control_bytes`.
    pub(super) controls: Vec<(u16, u32)>,
    pub(super) control_bytes: Vec<u8>,
}

/// One encoded event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub(super) body_end: u32,
    pub(super) causes: u16,
    pub(super) type_bit: u8,
    pub(super) time: i64,
    pub(super) key: Option<(Uuid, [u8; 16])>,
    pub(super) expect: Option<u64>,
    pub(super) stream: u32,
}

const _: () = assert!(2 * LINKS_MAX + 2 <= u16::MAX as usize);

impl Prepared {
    /// Empty, keeping its memory unless one large event made it grow.
    pub fn clear(&mut self) {
        if self.bodies.capacity() > 256 << 10 {
            self.bodies = Vec::new();
        }
        self.bodies.clear();
        self.items.clear();
        self.causes.clear();
        self.agents = [0; 32];
        self.engine = false;
        self.controls.clear();
        self.control_bytes.clear();
    }

    /// Adds a control record that is committed in one unit with these events, or not at all. One that comes with a
    /// repetition of known events, or with events that are refused later, is dropped like them.
    pub fn control(&mut self, kind: u16, bytes: &[u8]) {
        self.control_bytes.extend_from_slice(bytes);
        self.controls.push((kind, self.control_bytes.len() as u32));
    }

    /// What is prepared here comes from the engine itself, not from a host.
    pub fn set_engine(&mut self) {
        self.engine = true;
    }

    /// Encodes one event bound for the stream with this slot.
    ///
    /// # Errors
    /// The limit that it exceeds.
    pub fn add(&mut self, event: &Event<'_>, stream: u32) -> Result<(), EmitError> {
        event.check_limits()?;
        let start = self.bodies.len();
        if encode_body(event, &mut self.bodies).is_err() {
            // Only a map longer than 2^32 could fail, and the limits forbid it; refuse instead of guessing.
            self.bodies.truncate(start);
            return Err(LimitExceeded {
                what: "event",
                key: "type",
                actual: usize::MAX,
                limit: EVENT_BYTES_MAX,
            }
            .into());
        }
        let length = self.bodies.len() - start;
        if length > EVENT_BYTES_MAX {
            self.bodies.truncate(start);
            let (what, limit) = ("encoded event bytes", EVENT_BYTES_MAX);
            return Err(LimitExceeded { what, key: "payload", actual: length, limit }.into());
        }
        let body = self.bodies.get(start..).unwrap_or_default();
        let key = event.given_id().map(|id| (id, content_digest(body)));
        let causes_before = self.causes.len();
        if event.has_causes() {
            self.causes.extend(event.causes());
        }
        for text in [event.agent_text(), event.session_text()].into_iter().flatten() {
            self.add_agent(text);
        }
        let time = match event.given_time() {
            Some(t) => t.0,
            None if event.has_tag(TAG_TIME_UNKNOWN) => TIME_UNKNOWN,
            None => i64::MAX,
        };
        self.items.push(Item {
            body_end: self.bodies.len() as u32,
            causes: (self.causes.len() - causes_before) as u16,
            type_bit: event.event_type().summary_bit() as u8,
            time,
            key,
            expect: event.expected_position(),
            stream,
        });
        Ok(())
    }

    fn add_agent(&mut self, text: &Text<'_>) {
        let bits = agent_bits(text.as_bytes());
        self.agents.iter_mut().zip(bits).for_each(|(a, b)| *a |= b);
    }

    /// How many events.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}
