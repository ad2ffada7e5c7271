//! What an emitter may wait on.

use crate::error::CommitError;
use crate::pipeline::Pipeline;
use crate::watermark::{Level, deadline};
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use uuid::Uuid;

/// One admitted event. Dropping it cancels nothing.
#[derive(Clone, Debug)]
pub struct Ticket {
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) given_id: Option<Uuid>,
    pub(crate) duplicate: bool,
}

impl Ticket {
    /// The event's place in the one order. Final while the journal stays open.
    pub fn sequence(&self) -> u64 {
        self.first
    }

    /// The event's id. This, not the sequence, is what to store elsewhere.
    pub fn id(&self) -> Uuid {
        self.given_id.unwrap_or_else(|| self.pipeline.derived_id(self.first))
    }

    /// Whether the id was known: nothing was added, and this is the event that has it.
    pub fn is_duplicate(&self) -> bool {
        self.duplicate
    }

    /// Whether it survives a power cut by now.
    pub fn is_durable(&self) -> bool {
        let watermark = self.pipeline.watermark();
        watermark.durable() >= self.last && watermark.refusal(self.last).is_none()
    }

    /// Sleeps until the event survives a power cut.
    ///
    /// # Errors
    /// [`CommitError`]; after a retryable one wait again.
    pub fn wait(&self) -> Result<(), CommitError> {
        self.wait_level(Level::Durable, None)
    }

    /// As [`Ticket::wait`], but no longer than `after`.
    ///
    /// # Errors
    /// [`CommitError::Timeout`] when the time is over; the event stays admitted.
    pub fn wait_timeout(&self, after: Duration) -> Result<(), CommitError> {
        self.wait_level(Level::Durable, Some(after))
    }

    fn wait_level(&self, level: Level, after: Option<Duration>) -> Result<(), CommitError> {
        if let Some(outcome) = self.pipeline.watermark().outcome(self.last, level) {
            return outcome;
        }
        self.pipeline.check_fork()?;
        self.pipeline.want(self.last);
        self.pipeline.watermark().wait(self.last, level, after.and_then(deadline))
    }

    /// Resolves when the event survives a power cut. The same as awaiting the ticket.
    pub fn durable(&self) -> Committed {
        Committed { ticket: self.clone(), level: Level::Durable, key: None }
    }

    /// Resolves when the event is with the operating system: it survives a crash of this process, not of the machine.
    pub fn written(&self) -> Committed {
        Committed { ticket: self.clone(), level: Level::Written, key: None }
    }
}

impl IntoFuture for Ticket {
    type Output = Result<(), CommitError>;
    type IntoFuture = Committed;

    fn into_future(self) -> Committed {
        Committed { ticket: self, level: Level::Durable, key: None }
    }
}

/// One admitted group: contiguous, and durable as a whole or not at all.
#[derive(Clone, Debug)]
pub struct GroupTicket {
    pub(crate) ticket: Ticket,
    pub(crate) ids: Vec<Uuid>,
}

impl GroupTicket {
    /// The events' places in the one order.
    pub fn sequences(&self) -> std::ops::RangeInclusive<u64> {
        self.ticket.first..=self.ticket.last
    }

    /// The events' ids.
    pub fn ids(&self) -> &[Uuid] {
        &self.ids
    }

    /// The ticket that stands for the whole group.
    pub fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    /// Whether the ids were known: nothing was added.
    pub fn is_duplicate(&self) -> bool {
        self.ticket.duplicate
    }

    /// Whether it survives a power cut by now.
    pub fn is_durable(&self) -> bool {
        self.ticket.is_durable()
    }

    /// Sleeps until the group survives a power cut.
    ///
    /// # Errors
    /// [`CommitError`]; after a retryable one wait again.
    pub fn wait(&self) -> Result<(), CommitError> {
        self.ticket.wait()
    }

    /// As [`GroupTicket::wait`], but no longer than `after`.
    ///
    /// # Errors
    /// [`CommitError::Timeout`] when the time is over; the group stays admitted.
    pub fn wait_timeout(&self, after: Duration) -> Result<(), CommitError> {
        self.ticket.wait_timeout(after)
    }
}

impl IntoFuture for GroupTicket {
    type Output = Result<(), CommitError>;
    type IntoFuture = Committed;

    fn into_future(self) -> Committed {
        self.ticket.into_future()
    }
}

/// The future of a ticket.
#[derive(Debug)]
pub struct Committed {
    ticket: Ticket,
    level: Level,
    key: Option<(u64, u64)>,
}

impl Future for Committed {
    type Output = Result<(), CommitError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let watermark = this.ticket.pipeline.watermark();
        if let Some(key) = this.key.take() {
            watermark.unregister(key);
        }
        if let Some(outcome) = watermark.outcome(this.ticket.last, this.level) {
            return Poll::Ready(outcome);
        }
        this.ticket.pipeline.check_fork()?;
        let key = watermark.register(this.ticket.last, this.level, cx.waker());
        // It may have become durable between the look and the registration.
        if let Some(outcome) = watermark.outcome(this.ticket.last, this.level) {
            watermark.unregister(key);
            return Poll::Ready(outcome);
        }
        this.key = Some(key);
        this.ticket.pipeline.want(this.ticket.last);
        Poll::Pending
    }
}

impl Drop for Committed {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.ticket.pipeline.watermark().unregister(key);
        }
    }
}
