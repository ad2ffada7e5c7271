//! Filters of events, shared by every command that asks for some.

use super::when::{self, When};
use clap::Args;
use semj::event::{Category, EventType, Priority, Timestamp};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

/// Which events.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Filters {
    /// Event type: a name such as agent.decision, or a number [repeated: any of them]
    #[arg(long = "type", value_name = "TYPE", value_parser = event_type)]
    types: Vec<EventType>,
    /// Category: filesystem, graph, vector, agent, system, semantic or observability
    #[arg(long = "category", value_name = "CATEGORY", value_parser = category)]
    categories: Vec<Category>,
    /// Your own kind of event
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<OsString>,
    /// Who acted
    #[arg(long = "agent", value_name = "AGENT")]
    agents: Vec<OsString>,
    /// Stream
    #[arg(long = "stream", value_name = "STREAM")]
    streams: Vec<OsString>,
    /// Run of an agent
    #[arg(long = "session", value_name = "SESSION")]
    sessions: Vec<OsString>,
    /// Start of the path
    #[arg(long = "path", value_name = "PREFIX")]
    paths: Vec<OsString>,
    /// Tag
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<OsString>,
    /// Transaction
    #[arg(long = "transaction", value_name = "TRANSACTION")]
    transactions: Vec<OsString>,
    /// Origin: user, import:FORMAT, or a kernel source's name
    #[arg(long = "source", value_name = "SOURCE")]
    sources: Vec<OsString>,
    /// Priority: critical, high, normal, low, background, or a number
    #[arg(long = "priority", value_name = "PRIORITY", value_parser = priority)]
    priorities: Vec<Priority>,
    /// Only events after this one
    #[arg(long, value_name = "SEQ")]
    after: Option<u64>,
    /// Only events before this one
    #[arg(long, value_name = "SEQ")]
    before: Option<u64>,
    /// Only events at or after this time: RFC 3339, or 30s, 15m, 2h, 7d ago
    #[arg(long, value_name = "TIME", value_parser = When::parse)]
    since: Option<When>,
    /// Only events before this time
    #[arg(long, value_name = "TIME", value_parser = When::parse)]
    until: Option<When>,
    /// Only events that one of these agents may see: a mask, decimal or 0x and hexadecimal digits
    #[arg(long, value_name = "MASK", value_parser = mask)]
    visible_to: Vec<u64>,
    /// Only events with this text in an intent or in a string of the payload, in upper or lower case
    #[arg(long = "text", value_name = "TEXT")]
    texts: Vec<String>,
    /// Go on behind damage, and say on stderr what was passed over
    #[arg(long)]
    past_damage: bool,
}

impl Filters {
    /// As a question to the journal, seen from `now`.
    pub(crate) fn query(&self, now: Timestamp) -> semj::Query {
        fn bytes(list: &[OsString]) -> Vec<Vec<u8>> {
            list.iter().cloned().map(OsString::into_vec).collect()
        }
        let mut query = semj::Query::new().past_damage(self.past_damage);
        query.types = self.types.clone();
        query.categories = self.categories.clone();
        query.names = bytes(&self.names);
        query.agents = bytes(&self.agents);
        query.streams = bytes(&self.streams);
        query.sessions = bytes(&self.sessions);
        query.paths = bytes(&self.paths);
        query.tags = bytes(&self.tags);
        query.transactions = bytes(&self.transactions);
        query.sources = bytes(&self.sources);
        query.priorities = self.priorities.clone();
        query.after = self.after;
        query.before = self.before;
        query.since = self.since.map(|w| w.resolve(now));
        query.until = self.until.map(|w| w.resolve(now));
        query.visible_to = self.visible_to.iter().copied().reduce(|all, mask| all | mask);
        self.texts.iter().fold(query, |query, text| query.text(text))
    }

    /// The same question as of now.
    pub(crate) fn query_now(&self) -> semj::Query {
        self.query(when::now())
    }
}

fn event_type(text: &str) -> Result<EventType, String> {
    match text.parse() {
        Ok(code) => Ok(EventType::from_code(code)),
        Err(_) => {
            EventType::parse(text).ok_or_else(|| format!("there is no such type{}", nearest_type(text)))
        }
    }
}

/// A hint at the type that was perhaps meant.
fn nearest_type(text: &str) -> String {
    let all: Vec<String> = EventType::all().map(|t| t.to_string()).collect();
    // The bare name, or the right category with another name.
    let bare = all.iter().find(|t| t.split_once('.').is_some_and(|(_, name)| name == text));
    let category =
        text.split_once('.').map(|(category, _)| category).filter(|c| Category::parse(c).is_some());
    match (bare, category) {
        (Some(full), _) => format!("; perhaps {full}"),
        (None, Some(category)) => {
            let of: Vec<&str> =
                all.iter().filter(|t| t.starts_with(&format!("{category}."))).map(String::as_str).collect();
            format!("; there are {}", of.join(", "))
        }
        (None, None) => "; expected CATEGORY.NAME, e.g. agent.decision, or a number".into(),
    }
}

fn category(text: &str) -> Result<Category, String> {
    Category::parse(text)
        .ok_or_else(|| format!("expected one of {}", Category::names().collect::<Vec<_>>().join(", ")))
}

fn priority(text: &str) -> Result<Priority, String> {
    match text.parse() {
        Ok(code) => Ok(Priority::from_code(code)),
        Err(_) => Priority::parse(text)
            .ok_or_else(|| "expected critical, high, normal, low, background or a number".into()),
    }
}

fn mask(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "expected 64 bits as a decimal number, or 0x and hexadecimal digits".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        filters: Filters,
    }

    fn parse(line: &[&str]) -> Result<semj::Query, clap::Error> {
        let line = Line::try_parse_from([&["x"], line].concat())?;
        Ok(line.filters.query(Timestamp(60_000_000_000)))
    }

    #[test]
    fn every_filter_arrives() {
        let q = parse(&[
            "--type",
            "agent.decision",
            "--type",
            "1793",
            "--category",
            "agent",
            "--name",
            "n",
            "--agent",
            "a",
            "--agent",
            "b",
            "--stream",
            "s",
            "--session",
            "e",
            "--path",
            "/x",
            "--tag",
            "t",
            "--transaction",
            "tx",
            "--source",
            "user",
            "--priority",
            "high",
            "--priority",
            "9",
            "--after",
            "1",
            "--before",
            "9",
            "--since",
            "1m",
            "--until",
            "1970-01-01T00:00:30Z",
            "--visible-to",
            "0xff",
            "--text",
            "T",
            "--past-damage",
        ])
        .unwrap();
        assert_eq!(q.types, [EventType::from_code(0x0403), EventType::from_code(1793)]);
        assert_eq!(q.categories, [Category::Agent]);
        assert_eq!(q.agents, [b"a", b"b"]);
        assert_eq!((q.names.len(), q.streams.len(), q.sessions.len(), q.paths.len()), (1, 1, 1, 1));
        assert_eq!((q.tags.len(), q.transactions.len(), q.sources.len()), (1, 1, 1));
        assert_eq!(q.priorities, [Priority::HIGH, Priority::from_code(9)]);
        assert_eq!((q.after, q.before, q.visible_to), (Some(1), Some(9), Some(255)));
        assert_eq!((q.since, q.until), (Some(Timestamp(0)), Some(Timestamp(30_000_000_000))));
        assert_eq!((q.texts.len(), q.past_damage), (1, true));
    }

    #[test]
    fn wrong_values_are_refused_with_a_hint() {
        for (line, hint) in [
            (["--type", "decision"], "agent.decision"),
            (["--type", "agent.nope"], "agent.learning"),
            (["--type", "x.y"], "CATEGORY.NAME"),
            (["--category", "agents"], "filesystem"),
            (["--priority", "urgent"], "critical"),
            (["--visible-to", "0xzz"], "hexadecimal"),
        ] {
            let error = parse(&line).unwrap_err().to_string();
            assert!(error.contains(hint), "{error}");
        }
    }
}
