//! Asking the journal: filters, what must be covered, and how the answer comes.

use crate::stream::EventStream;
use crate::view::{Events, View};
use crate::{Error, Journal, Ticket};
use semj_storage::event::{Category, EventType, Priority, Timestamp};
use semj_storage::query::Query;

/// A query being put together. Repeating a filter means "or", different filters mean "and".
#[derive(Clone, Debug)]
pub struct QueryBuilder {
    journal: Journal,
    query: Query,
    covering: Vec<Ticket>,
}

/// Builder methods that hand on to [`Query`].
macro_rules! hand_on {
    ($($method:ident($arg:ty), $doc:literal;)*) => {$(
        #[doc = $doc]
        #[must_use]
        pub fn $method(mut self, value: $arg) -> Self {
            self.query = self.query.$method(value);
            self
        }
    )*};
}

impl QueryBuilder {
    pub(crate) fn new(journal: Journal) -> Self {
        QueryBuilder { journal, query: Query::new(), covering: Vec::new() }
    }

    hand_on! {
        event_type(EventType), "Events of this type.";
        category(Category), "Events of this category.";
        name(&str), "Events of the host's own kind.";
        agent(&str), "Events of this agent.";
        session(&str), "Events of this session.";
        path(&str), "Events whose path starts so.";
        tag(&str), "Events with this tag.";
        transaction(&str), "Events of this transaction.";
        source(&str), "Events from this source.";
        priority(Priority), "Events of this priority.";
        after(u64), "Events behind this sequence.";
        before(u64), "Events ahead of this sequence.";
        since(Timestamp), "Events of this time or later.";
        until(Timestamp), "Events earlier than this time.";
        visible_to(u64), "Events that at least one of these agents may see.";
        text(&str), "Events with this text in their intent or payload, whatever the case.";
        limit(u64), "At most so many events.";
        reverse(bool), "Newest first.";
        past_damage(bool), "Go on behind damage instead of stopping at it.";
    }

    /// Events of this stream.
    #[must_use]
    pub fn in_stream(mut self, name: &str) -> Self {
        self.query = self.query.stream(name);
        self
    }

    /// All filters at once.
    #[must_use]
    pub fn matching(mut self, query: Query) -> Self {
        self.query = query;
        self
    }

    /// The answer must know of this event: the query waits until it is durable.
    #[must_use]
    pub fn covering(mut self, ticket: &Ticket) -> Self {
        self.covering.push(ticket.clone());
        self
    }

    fn view(&self) -> Result<View, Error> {
        for ticket in &self.covering {
            ticket.wait()?;
        }
        Ok(self.journal.view())
    }

    /// Runs it. It covers everything that is durable by now.
    ///
    /// # Errors
    /// When an event to be covered does not become durable.
    pub fn run(self) -> Result<Events, Error> {
        Ok(self.view()?.run(self.query))
    }

    /// How many events match, whatever the limit.
    ///
    /// # Errors
    /// As [`QueryBuilder::run`], and what reading can bring.
    pub fn count(self) -> Result<u64, Error> {
        self.view()?.count(self.query)
    }

    /// Runs it for async code: read on a thread of its own, never on the executor's.
    pub fn stream(self) -> EventStream {
        EventStream::start(move || self.run())
    }
}
