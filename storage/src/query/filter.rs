//! What a query asks for, and whether an event is that.

use super::Needle;
use crate::event::{Category, Event, EventType, Priority, Text, Timestamp};
use crate::log::entry::EntryRef;

/// A question: filters, and how the answer is to be read. Repeating a filter means "or", different ones mean "and".
///
/// ```
/// use semj_storage::event::EventType;
/// use semj_storage::query::Query;
/// let failed = EventType::parse("observability.error_reported");
/// let query = Query::new().agent("planner").agent("coder").after(100).limit(10);
/// assert_eq!(query.event_types(failed).agents.len(), 2);
/// ```
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Query {
    /// Types.
    pub types: Vec<EventType>,
    /// Categories.
    pub categories: Vec<Category>,
    /// The host's own kinds of events.
    pub names: Vec<Vec<u8>>,
    /// Agents.
    pub agents: Vec<Vec<u8>>,
    /// Streams, the default one included.
    pub streams: Vec<Vec<u8>>,
    /// Sessions.
    pub sessions: Vec<Vec<u8>>,
    /// Paths: bytes from the start.
    pub paths: Vec<Vec<u8>>,
    /// Tags.
    pub tags: Vec<Vec<u8>>,
    /// Transactions.
    pub transactions: Vec<Vec<u8>>,
    /// Sources; `user` where an event names none.
    pub sources: Vec<Vec<u8>>,
    /// Priorities.
    pub priorities: Vec<Priority>,
    /// Only events behind this sequence.
    pub after: Option<u64>,
    /// Only events ahead of this sequence.
    pub before: Option<u64>,
    /// Only events of this time or later.
    pub since: Option<Timestamp>,
    /// Only events earlier than this time.
    pub until: Option<Timestamp>,
    /// Only events that at least one of these agents may see.
    pub visible_to: Option<u64>,
    /// Texts in intent or payload.
    pub texts: Vec<Needle>,
    /// At most so many events, counted from where the answer starts.
    pub limit: Option<u64>,
    /// Newest first.
    pub reverse: bool,
    /// Go on behind damage instead of stopping at it.
    pub past_damage: bool,
}

/// One builder method for a filter by text.
macro_rules! by_text {
    ($($method:ident, $field:ident, $doc:literal;)*) => {$(
        #[doc = $doc]
        #[must_use]
        pub fn $method(mut self, text: impl AsRef<[u8]>) -> Self {
            self.$field.push(text.as_ref().to_vec());
            self
        }
    )*};
}

impl Query {
    /// Every event, oldest first.
    pub fn new() -> Self {
        Self::default()
    }

    by_text! {
        name, names, "Events of the host's own kind.";
        agent, agents, "Events of this agent.";
        stream, streams, "Events of this stream.";
        session, sessions, "Events of this session.";
        path, paths, "Events whose path starts with these bytes.";
        tag, tags, "Events with this tag.";
        transaction, transactions, "Events of this transaction.";
        source, sources, "Events from this source; `user` is the default one.";
    }

    /// Events of this type.
    #[must_use]
    pub fn event_type(mut self, event_type: EventType) -> Self {
        self.types.push(event_type);
        self
    }

    /// Events of one of these types.
    #[must_use]
    pub fn event_types(mut self, types: impl IntoIterator<Item = EventType>) -> Self {
        self.types.extend(types);
        self
    }

    /// Events of this category.
    #[must_use]
    pub fn category(mut self, category: Category) -> Self {
        self.categories.push(category);
        self
    }

    /// Events of this priority.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priorities.push(priority);
        self
    }

    /// Only events behind this sequence.
    #[must_use]
    pub fn after(mut self, sequence: u64) -> Self {
        self.after = Some(sequence);
        self
    }

    /// Only events ahead of this sequence.
    #[must_use]
    pub fn before(mut self, sequence: u64) -> Self {
        self.before = Some(sequence);
        self
    }

    /// Only events of this time or later; events of unknown time are left out.
    #[must_use]
    pub fn since(mut self, time: Timestamp) -> Self {
        self.since = Some(time);
        self
    }

    /// Only events earlier than this time; events of unknown time are left out.
    #[must_use]
    pub fn until(mut self, time: Timestamp) -> Self {
        self.until = Some(time);
        self
    }

    /// Only events that at least one of these agents may see, a bit each; events without a mask are seen by all.
    #[must_use]
    pub fn visible_to(mut self, mask: u64) -> Self {
        self.visible_to = Some(self.visible_to.unwrap_or(0) | mask);
        self
    }

    /// Events with this text in their intent or in a string value of their payload, whatever its case.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        self.texts.push(Needle::new(text));
        self
    }

    /// At most so many events.
    #[must_use]
    pub fn limit(mut self, count: u64) -> Self {
        self.limit = Some(count);
        self
    }

    /// Newest first; a limit then keeps the newest.
    #[must_use]
    pub fn reverse(mut self, reverse: bool) -> Self {
        self.reverse = reverse;
        self
    }

    /// Go on behind damage instead of stopping at it.
    #[must_use]
    pub fn past_damage(mut self, go_on: bool) -> Self {
        self.past_damage = go_on;
        self
    }

    /// Whether an event with this sequence may match at all.
    pub fn covers(&self, sequence: u64) -> bool {
        self.after.is_none_or(|a| sequence > a) && self.before.is_none_or(|b| sequence < b)
    }

    /// Whether the event matches; `event` must be the entry's. Limit and order do not count here.
    pub fn matches(&self, entry: &EntryRef<'_>, event: &Event<'_>) -> bool {
        let any = |wanted: &[Vec<u8>], found: Option<&[u8]>| {
            wanted.is_empty() || found.is_some_and(|f| wanted.iter().any(|w| w == f))
        };
        let field = |wanted, text: Option<&Text<'_>>| any(wanted, text.map(Text::as_bytes));
        self.covers(entry.sequence)
            && !entry.is_tombstone()
            && (self.types.is_empty() || self.types.contains(&event.event_type()))
            && (self.categories.is_empty() || self.categories.contains(&event.event_type().category()))
            && (self.priorities.is_empty() || self.priorities.contains(&event.priority_value()))
            && (self.visible_to.is_none_or(|mask| event.visibility_mask().is_none_or(|v| v & mask != 0)))
            && self.is_in_time(entry, event)
            && field(&self.agents, event.agent_text())
            && field(&self.sessions, event.session_text())
            && any(&self.streams, Some(event.stream_or_default()))
            && field(&self.names, event.name_text())
            && field(&self.transactions, event.transaction_text())
            && any(
                &self.sources,
                Some(event.source_text().and_then(Text::as_str).unwrap_or("user").as_bytes()),
            )
            && (self.paths.is_empty()
                || event.path_text().is_some_and(|p| self.paths.iter().any(|w| p.as_bytes().starts_with(w))))
            && (self.tags.is_empty()
                || event.tags().iter().any(|t| self.tags.iter().any(|w| w == t.as_bytes())))
            && (self.texts.is_empty() || self.texts.iter().any(|needle| needle.is_in_event(event)))
    }

    fn is_in_time(&self, entry: &EntryRef<'_>, event: &Event<'_>) -> bool {
        if self.since.is_none() && self.until.is_none() {
            return true;
        }
        let in_range = |t: Timestamp| self.since.is_none_or(|s| t >= s) && self.until.is_none_or(|u| t < u);
        entry.time(event).is_some_and(in_range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::TAG_TIME_UNKNOWN;
    use crate::query::mock::MockSource;

    /// Which of the events match, by sequence.
    fn found(query: &Query, events: &[Event<'static>]) -> Vec<u64> {
        let mut source = MockSource::new(7);
        source.extend(events.iter().cloned());
        source.naive(query)
    }

    #[test]
    fn repeated_is_or_and_different_is_and() {
        let events = [
            Event::decision("x").agent("a").session("1"),
            Event::decision("x").agent("b").session("1"),
            Event::file_read("/src/a").agent("b").session("2"),
            Event::query("q"),
        ];
        assert_eq!(found(&Query::new().agent("a").agent("b"), &events), [1, 2, 3]);
        assert_eq!(found(&Query::new().agent("b").session("1"), &events), [2]);
        assert_eq!(found(&Query::new().category(Category::Agent), &events), [1, 2, 4]);
        assert_eq!(found(&Query::new().path("/src").path("/x"), &events), [3]);
        assert_eq!(found(&Query::new().stream("default"), &events), [4]);
        assert_eq!(found(&Query::new().source("user").after(1).before(4), &events), [2, 3]);
        assert!(found(&Query::new().session("3"), &events).is_empty());
    }

    #[test]
    fn time_and_visibility() {
        let events = [
            Event::query("q").time(Timestamp(10)),
            Event::query("q").time(Timestamp(20)).visibility(0b10),
            Event::query("q").tag(TAG_TIME_UNKNOWN),
        ];
        assert_eq!(found(&Query::new().since(Timestamp(10)).until(Timestamp(20)), &events), [1]);
        assert_eq!(found(&Query::new().since(Timestamp(20)), &events), [2]);
        assert_eq!(found(&Query::new().until(Timestamp(i64::MAX)), &events), [1, 2]);
        assert_eq!(found(&Query::new().visible_to(0b1), &events), [1, 3]);
        assert_eq!(found(&Query::new().visible_to(0b10), &events), [1, 2, 3]);
    }
}
