//! The handle through which events come in.

use crate::engine::Shared;
use crate::error::EmitError;
use crate::ledger::{Gate, Prepared, Refused};
use crate::ticket::{GroupTicket, Ticket};
use semj_storage::event::{Event, Priority};
use semj_storage::plant::{Bug, planted};
use std::cell::RefCell;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

thread_local! {
    /// Encoding happens outside the ledger's lock, in memory that is kept.
    static PREPARED: RefCell<Prepared> = RefCell::default();
}

/// How long a waiting emission sleeps between looks when the ledger is full and nothing commits.
const FULL_POLL: Duration = Duration::from_millis(1);

/// Emits events, usually of one agent. Cheap to clone; usable from any thread.
#[derive(Clone, Debug)]
pub struct Emitter {
    shared: Arc<Shared>,
    name: Option<Arc<str>>,
    /// The slot of the emitter's own stream, once it was needed.
    slot: OnceLock<u32>,
}

impl Emitter {
    pub(crate) fn new(shared: Arc<Shared>, name: Option<&str>) -> Self {
        Emitter { shared, name: name.map(Arc::from), slot: OnceLock::new() }
    }

    /// The stream and agent of events that name none.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Admits an event without ever blocking.
    ///
    /// # Errors
    /// [`EmitError`]; where the same emission may succeed later the event comes back in it.
    #[inline]
    pub fn try_emit<'e>(&'e self, event: Event<'e>) -> Result<Ticket, EmitError> {
        self.admit(event, |event| self.no_room(event))
    }

    /// Admits an event, sleeping while there is no room in the ledger.
    ///
    /// # Errors
    /// [`EmitError`]; `StorageFull` comes back at once, `Full` never.
    pub fn emit_blocking<'e>(&'e self, event: Event<'e>) -> Result<Ticket, EmitError> {
        let mut result = self.try_emit(event);
        while let Err(EmitError::Full(event)) = result {
            self.wait_for_room();
            result = self.try_emit(*event);
        }
        result
    }

    /// Admits an event, waiting without blocking the executor while there is no room in the ledger.
    ///
    /// # Errors
    /// As [`Emitter::emit_blocking`].
    pub async fn emit_async(&self, event: Event<'_>) -> Result<Ticket, EmitError> {
        let mut result = self.try_emit(event.into_owned());
        while let Err(EmitError::Full(event)) = result {
            let pipeline = &self.shared.pipeline;
            let next = pipeline.watermark().durable() + 1;
            if next <= pipeline.ledger().admitted() {
                let next = Ticket {
                    pipeline: pipeline.clone(),
                    first: next,
                    last: next,
                    given_id: None,
                    duplicate: false,
                };
                // Room comes with the next commit; whatever ends the wait, the emission tells what is the matter.
                let _ = next.durable().await;
            } else {
                // All was committed meanwhile: nobody would end a wait for an event that nobody has emitted.
                yield_once().await;
            }
            result = self.try_emit(*event);
        }
        result
    }

    /// Gives an event back and tells what was full.
    fn no_room(&self, event: Event<'_>) -> EmitError {
        let event = Box::new(event.into_owned());
        match self.shared.pipeline.ledger().gate() {
            Gate::StorageFull => EmitError::StorageFull(event),
            _ => EmitError::Full(event),
        }
    }

    fn wait_for_room(&self) {
        let watermark = self.shared.pipeline.watermark();
        let next = watermark.durable() + 1;
        self.shared.pipeline.want(next);
        let _ = watermark.wait(next, crate::watermark::Level::Durable, crate::watermark::deadline(FULL_POLL));
    }

    /// Admits a group: contiguous, and all or nothing, across crashes too.
    ///
    /// # Errors
    /// [`EmitError`]. When there is no room only the group's first event comes back: keep what the group was made of.
    pub fn emit_all<'e>(&'e self, events: Vec<Event<'e>>) -> Result<GroupTicket, EmitError> {
        let events: Vec<Event<'_>> = events.into_iter().map(|e| self.complete(e)).collect();
        self.check_fork()?;
        PREPARED.with_borrow_mut(|prepared| {
            prepared.clear();
            for event in &events {
                prepared.add(event, self.slot_of(event.stream_or_default())?)?;
            }
            let Some(first) = events.first() else {
                let empty = semj_storage::event::LimitExceeded {
                    what: "events in the group",
                    key: "type",
                    actual: 0,
                    limit: semj_storage::limits::BATCH_EVENTS_MAX,
                };
                return Err(empty.into());
            };
            let critical = events.iter().any(|e| e.priority_value() == Priority::CRITICAL);
            let ticket = self
                .finish(prepared, &events, first.given_id(), critical)?
                .ok_or_else(|| self.no_room(first.clone()))?;
            let ids = events.iter().zip(ticket.first..);
            let ids = ids
                .map(|(e, n)| e.given_id().unwrap_or_else(|| self.shared.pipeline.derived_id(n)))
                .collect();
            Ok(GroupTicket { ticket, ids })
        })
    }

    /// Admits an event that may be shed: when there is no room it is counted instead, and the count becomes an event.
    /// Only events of low or background priority without id and expected position are ever shed.
    ///
    /// # Errors
    /// [`EmitError`]; `Full` only for events that may not be shed.
    pub fn emit_unticketed<'e>(&'e self, event: Event<'e>) -> Result<(), EmitError> {
        let may_shed = event.priority_value() >= Priority::LOW
            && event.given_id().is_none()
            && event.expected_position().is_none();
        match self.try_emit(event) {
            Err(EmitError::Full(_)) if may_shed => {
                if !planted(Bug::ShedSilently) {
                    self.shared.pipeline.shed().count(self.shared.pipeline.clock().wall_ns());
                }
                Ok(())
            }
            other => other.map(drop),
        }
    }

    #[inline]
    fn complete<'e>(&'e self, event: Event<'e>) -> Event<'e> {
        let mut event = match &self.name {
            Some(name) => event.or_from(name),
            None => event,
        };
        if let Some(scrub) = &self.shared.options.scrub {
            scrub(&mut event);
        }
        event
    }

    #[inline]
    fn slot_of(&self, stream: &[u8]) -> Result<u32, EmitError> {
        let own = self.name.as_deref().map_or(&b"default"[..], str::as_bytes) == stream;
        if let Some(slot) = self.slot.get().filter(|_| own) {
            return Ok(*slot);
        }
        let slot =
            self.shared.pipeline.ledger().streams().slot(stream).map_err(|e| self.shared.unreadable(&e))?;
        if own {
            let _ = self.slot.set(slot);
        }
        Ok(slot)
    }

    fn check_fork(&self) -> Result<(), EmitError> {
        // Asking for the pid is a system call: only the first event of each chunk pays it.
        let pipeline = &self.shared.pipeline;
        if pipeline.ledger().is_parked() {
            let (owner, this) = (pipeline.pid, std::process::id());
            if owner != this {
                return Err(EmitError::Forked { owner, this });
            }
        }
        Ok(())
    }

    fn admit<'e>(
        &'e self,
        event: Event<'e>,
        full: impl FnOnce(Event<'_>) -> EmitError,
    ) -> Result<Ticket, EmitError> {
        let event = self.complete(event);
        self.check_fork()?;
        let ticket = PREPARED.with_borrow_mut(|prepared| {
            prepared.clear();
            let stream = event.stream_or_default();
            prepared.add(&event, self.slot_of(stream)?)?;
            let critical = event.priority_value() == Priority::CRITICAL;
            self.finish(prepared, std::slice::from_ref(&event), event.given_id(), critical)
        })?;
        ticket.ok_or_else(|| full(event))
    }

    /// Admits what is prepared; `None` when there is no room.
    fn finish(
        &self,
        prepared: &Prepared,
        events: &[Event<'_>],
        given_id: Option<uuid::Uuid>,
        critical: bool,
    ) -> Result<Option<Ticket>, EmitError> {
        let pipeline = &self.shared.pipeline;
        let mut same: Vec<bool> = Vec::new();
        let admitted = loop {
            let now = pipeline.clock().boot_ns();
            match pipeline.ledger().admit(prepared, now, pipeline.watermark().durable(), &same) {
                Ok(admitted) => break admitted,
                Err(Refused::Full) => return Ok(None),
                Err(Refused::Error(e)) => return Err(e),
                Err(Refused::Read(e)) => return Err(self.shared.unreadable(&e)),
                Err(Refused::Compare { index, sequence }) => {
                    let Some(event) = events.get(index) else { return Ok(None) };
                    let id = event.given_id().unwrap_or_default();
                    if !self.shared.same_content(event, sequence)? {
                        return Err(EmitError::Conflict { id, sequence });
                    }
                    same.resize(events.len(), false);
                    if let Some(slot) = same.get_mut(index) {
                        *slot = true;
                    }
                }
            }
        };
        if !admitted.duplicate {
            pipeline.admitted(critical);
        }
        let last = admitted.first + prepared.len() as u64 - 1;
        let ticket = Ticket {
            pipeline: pipeline.clone(),
            first: admitted.first,
            last,
            given_id,
            duplicate: admitted.duplicate,
        };
        Ok(Some(ticket))
    }
}

/// Lets other tasks of any executor run.
async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
