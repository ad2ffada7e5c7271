//! Producers: each emits alone, in windows, in groups and under ids of its own, and acknowledges only what is durable.

use super::check::Ack;
use super::life::{LOOK, Opening};
use super::tag::{KEYED, Rng, Tag};
use super::wire::Life;
use semj_actors::{CommitError, EmitError, Emitter, GroupTicket, Ticket};
use std::time::{Duration, Instant};

/// Sources of a life.
pub(super) const SOURCES_MAX: u64 = 1_024;
/// An event that is not durable after this time, whatever is done to the journal, is stuck.
const STUCK: Duration = Duration::from_secs(20);

/// Why a producer ends.
pub(super) enum Ended {
    /// Time is over.
    Over,
    /// The journal does not go on.
    Broken(String),
}

/// See the module.
pub(super) struct Producer {
    seed: u64,
    rng: Rng,
    /// Next event without an id.
    next: Tag,
    /// Next event with one; it is emitted until it is acknowledged, across lives.
    keyed: Tag,
    known: Option<Ack>,
}

impl Producer {
    pub(super) fn new(life: &Life, number: u32) -> Self {
        let (of, number) = (1, u64::from(number));
        let item = usize::try_from(number).ok().and_then(|n| life.keyed.get(n)).copied().unwrap_or(0);
        Producer {
            seed: life.content,
            rng: Rng(life.seed ^ (number << 20) ^ 0x9_0000),
            next: Tag { source: life.number * SOURCES_MAX + number, item: 0, at: 0, of },
            keyed: Tag { source: KEYED + number, item, at: 0, of },
            known: None,
        }
    }

    fn take(&mut self) -> Tag {
        let tag = self.next;
        self.next.item += 1;
        tag
    }

    /// Emits until the opening is over.
    pub(super) fn work(&mut self, opening: &Opening<'_>) -> Result<(), Ended> {
        let emitter = opening.engine.emitter(None);
        while !opening.is_over() {
            match self.rng.below(8) {
                0..3 => self.alone(opening, &emitter)?,
                3..5 => self.window(opening, &emitter)?,
                5 => self.group(opening, &emitter)?,
                _ => self.keyed(opening, &emitter)?,
            }
        }
        Ok(())
    }

    fn alone(&mut self, opening: &Opening<'_>, emitter: &Emitter) -> Result<(), Ended> {
        let tag = self.take();
        let ticket = admit(opening, || emitter.try_emit(tag.event(self.seed)))?;
        if durable(&ticket)? {
            opening.shared.pipe.acknowledge(&[Ack { sequence: ticket.sequence(), tag }]);
        }
        Ok(())
    }

    fn window(&mut self, opening: &Opening<'_>, emitter: &Emitter) -> Result<(), Ended> {
        let mut tickets = Vec::new();
        for _ in 0..self.rng.between(2, 64) {
            let tag = self.take();
            tickets.push((tag, admit(opening, || emitter.try_emit(tag.event(self.seed)))?));
        }
        let mut acks = Vec::with_capacity(tickets.len());
        let mut outcome = Ok(());
        for (tag, ticket) in tickets {
            match durable(&ticket) {
                Ok(true) => acks.push(Ack { sequence: ticket.sequence(), tag }),
                Ok(false) => {}
                Err(ended) => {
                    outcome = Err(ended);
                    break;
                }
            }
        }
        opening.shared.pipe.acknowledge(&acks);
        outcome
    }

    fn group(&mut self, opening: &Opening<'_>, emitter: &Emitter) -> Result<(), Ended> {
        let first = Tag { of: self.rng.between(2, 32), ..self.take() };
        let tags: Vec<Tag> = (0..first.of).map(|at| Tag { at, ..first }).collect();
        let group: GroupTicket =
            admit(opening, || emitter.emit_all(tags.iter().map(|tag| tag.event(self.seed)).collect()))?;
        if durable(group.ticket())? {
            let acks: Vec<Ack> =
                group.sequences().zip(tags).map(|(sequence, tag)| Ack { sequence, tag }).collect();
            opening.shared.pipe.acknowledge(&acks);
        }
        Ok(())
    }

    /// An event with an id; now and then once more, which must add nothing.
    fn keyed(&mut self, opening: &Opening<'_>, emitter: &Emitter) -> Result<(), Ended> {
        let tag = self.keyed;
        let ticket = admit(opening, || emitter.try_emit(tag.event(self.seed)))?;
        if durable(&ticket)? {
            let ack = Ack { sequence: ticket.sequence(), tag };
            opening.shared.pipe.acknowledge(&[ack]);
            self.keyed.item += 1;
            self.known = Some(ack);
        }
        let Some(known) = self.known.filter(|_| self.rng.below(4) == 0) else { return Ok(()) };
        let again = admit(opening, || emitter.try_emit(known.tag.event(self.seed)))?;
        if !again.is_duplicate() || again.sequence() != known.sequence {
            let (sequence, new) = (again.sequence(), if again.is_duplicate() { "" } else { "new " });
            opening
                .shared
                .pipe
                .problem(format!("{known:?}, emitted once more, is answered with {new}event {sequence}"));
        }
        Ok(())
    }
}

/// Emits until there is room.
fn admit<T>(opening: &Opening<'_>, mut emit: impl FnMut() -> Result<T, EmitError>) -> Result<T, Ended> {
    loop {
        match emit() {
            Ok(ticket) => return Ok(ticket),
            Err(e) if e.is_retryable() => {
                if opening.is_over() {
                    return Err(Ended::Over);
                }
                std::thread::sleep(LOOK);
            }
            Err(e) => return Err(Ended::Broken(e.to_string())),
        }
    }
}

/// Waits until the ticket is durable; `false` when its event was refused.
fn durable(ticket: &Ticket) -> Result<bool, Ended> {
    let since = Instant::now();
    loop {
        match ticket.wait_timeout(Duration::from_millis(100)) {
            Ok(()) => return Ok(true),
            Err(CommitError::Refused { .. }) => return Ok(false),
            Err(e) if e.is_retryable() => {
                if since.elapsed() > STUCK {
                    return Err(Ended::Broken(format!("stuck for {} s: {e}", STUCK.as_secs())));
                }
                std::thread::sleep(LOOK.min(since.elapsed()));
            }
            Err(e) => return Err(Ended::Broken(e.to_string())),
        }
    }
}
