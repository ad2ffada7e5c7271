//! The same journal for hosts that are actix systems: typed messages to an `Addr`.
//!
//! The journal's own actors stay on the journal's own threads; this actor only takes messages on the host's side, and
//! an answer that says "durable" is awaited, so the host's arbiter never blocks.

use crate::{CommitError, EmitError, Error, Journal, Recorded, Ticket};
use actix::{Actor, Context, Handler, Message, ResponseFuture};
use semj_storage::event::Event;
use semj_storage::query::Query;

/// Takes messages for a journal. Start it on any arbiter: `JournalActor::new(journal, "host").start()`.
#[derive(Debug)]
pub struct JournalActor {
    journal: Journal,
    emitter: crate::Emitter,
}

impl JournalActor {
    /// An actor in front of `journal`; events that name neither stream nor agent get `name` for both.
    pub fn new(journal: Journal, name: &str) -> Self {
        let emitter = journal.emitter(name);
        JournalActor { journal, emitter }
    }
}

impl Actor for JournalActor {
    type Context = Context<Self>;
}

/// Admit an event; the answer is its ticket.
#[derive(Debug, Message)]
#[rtype(result = "Result<Ticket, EmitError>")]
pub struct Emit(pub Event<'static>);

impl Handler<Emit> for JournalActor {
    type Result = Result<Ticket, EmitError>;
    fn handle(&mut self, message: Emit, _: &mut Context<Self>) -> Self::Result {
        self.emitter.try_emit(message.0)
    }
}

/// Admit an event and answer with its sequence when it survives a power cut.
#[derive(Debug, Message)]
#[rtype(result = "Result<u64, Error>")]
pub struct EmitDurable(pub Event<'static>);

impl Handler<EmitDurable> for JournalActor {
    type Result = ResponseFuture<Result<u64, Error>>;
    fn handle(&mut self, message: EmitDurable, _: &mut Context<Self>) -> Self::Result {
        let emitter = self.emitter.clone();
        Box::pin(async move {
            let ticket = emitter.emit_async(message.0).await?;
            let sequence = ticket.sequence();
            ticket.await?;
            Ok(sequence)
        })
    }
}

/// Answer with the events that match; bounded by the query's limit, 1,000 where it has none.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<Recorded>, Error>")]
pub struct Ask(pub Query);

impl Handler<Ask> for JournalActor {
    type Result = ResponseFuture<Result<Vec<Recorded>, Error>>;
    fn handle(&mut self, message: Ask, _: &mut Context<Self>) -> Self::Result {
        let mut query = message.0;
        query.limit = Some(query.limit.unwrap_or(1_000));
        let mut events = self.journal.query().matching(query).stream();
        Box::pin(async move {
            let mut found = Vec::new();
            while let Some(event) = events.next().await {
                found.push(event?);
            }
            Ok(found)
        })
    }
}

/// Commit everything admitted; the answer comes when it survives a power cut.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), CommitError>")]
pub struct Flush;

impl Handler<Flush> for JournalActor {
    type Result = ResponseFuture<Result<(), CommitError>>;
    fn handle(&mut self, _: Flush, _: &mut Context<Self>) -> Self::Result {
        let last = self.journal.last_admitted();
        Box::pin(async move {
            match last {
                Some(ticket) => ticket.await,
                None => Ok(()),
            }
        })
    }
}
