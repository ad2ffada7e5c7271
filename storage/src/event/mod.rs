//! Events: what a host hands in, and what the journal hands back.

mod codec;
mod json_fields;
mod json_in;
mod json_out;
#[cfg(test)]
mod json_tests;
mod json_value;
mod payload;
mod recorded;
mod text;
mod time;
mod types;
mod validate;

pub use codec::{decode_body, encode_body};
pub(crate) use json_in::is_canonical_payload;
pub use json_in::{InputError, InputErrorKind, LineInput, parse_line};
pub use json_out::to_json;
pub use payload::{BlobRef, EncodedJson, JsonText, Payload};
pub use recorded::{Recorded, ResolvedCause};
pub use text::Text;
pub use time::Timestamp;
pub use types::{Category, EventType, Flags, Priority};
pub use validate::LimitExceeded;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The tag of an imported event whose log gave no time at all: such an event is left out of time filters.
pub const TAG_TIME_UNKNOWN: &str = "time:unknown";
/// The tag of a kernel record whose time somebody reckoned from its boot's clock and a reading of both clocks.
pub const TAG_TIME_RECKONED: &str = "time:reckoned";

/// A reference to an event that came before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Cause {
    /// By its number in this journal.
    Sequence(u64),
    /// By its id, of this journal or foreign.
    Id(Uuid),
}

impl From<u64> for Cause {
    fn from(sequence: u64) -> Self {
        Cause::Sequence(sequence)
    }
}
impl From<Uuid> for Cause {
    fn from(id: Uuid) -> Self {
        Cause::Id(id)
    }
}
impl From<&Recorded> for Cause {
    fn from(event: &Recorded) -> Self {
        Cause::Id(event.id)
    }
}

/// A causality link beyond the parent: another cause, and how sure one is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub struct Link<'a> {
    /// The cause.
    pub cause: Cause,
    /// What kind of link, in words, at most 128 bytes.
    pub kind: Option<Text<'a>>,
    /// What kind of link, as a foreign number.
    pub code: Option<u32>,
    /// How sure: 0 to 100.
    pub strength: Option<u32>,
    /// From cause to effect, in nanoseconds.
    pub delay_ns: Option<i64>,
    /// Free text.
    pub description: Option<Text<'a>>,
    /// The effect, where it is not the event that carries the link.
    pub effect: Option<Cause>,
}

impl<'a> Link<'a> {
    /// A link from `cause` to the event that will carry it.
    pub fn new(cause: impl Into<Cause>, kind: impl Into<Text<'a>>) -> Self {
        Link {
            cause: cause.into(),
            kind: Some(kind.into()),
            code: None,
            strength: None,
            delay_ns: None,
            description: None,
            effect: None,
        }
    }

    /// The same link with a strength; more than 100 counts as 100.
    #[must_use]
    pub fn strength(mut self, percent: u32) -> Self {
        self.strength = Some(percent.min(100));
        self
    }

    /// The same link, owning its bytes.
    pub fn into_owned(self) -> Link<'static> {
        Link {
            kind: self.kind.map(Text::into_owned),
            description: self.description.map(Text::into_owned),
            ..self
        }
    }
}

/// Graph context.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct GraphContext {
    /// Node.
    pub node: Option<u64>,
    /// Edge.
    pub edge: Option<u64>,
    /// Operation, a foreign number.
    pub operation: Option<u32>,
}

/// Vector context.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct VectorContext {
    /// Vector.
    pub id: Option<u64>,
    /// Number of dimensions.
    pub dimensions: Option<u32>,
    /// Element type, a foreign number.
    pub element: Option<u32>,
}

/// The state of the machine when the event happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SystemContext {
    /// Load, a foreign number.
    pub load: Option<u32>,
    /// Memory in use.
    pub memory: Option<u64>,
    /// I/O pressure, a foreign number.
    pub io_pressure: Option<u32>,
}

/// Fields that few events have, kept out of line so that moving an event stays cheap.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Extra<'a> {
    pub(crate) confidence: Option<u32>,
    pub(crate) agent_intent: Option<Text<'a>>,
    pub(crate) agent_confidence: Option<u32>,
    pub(crate) root: Option<Cause>,
    pub(crate) links: Vec<Link<'a>>,
    pub(crate) transaction: Option<Text<'a>>,
    pub(crate) chain: Option<Text<'a>>,
    pub(crate) visibility: Option<u64>,
    pub(crate) relevance: Option<u32>,
    pub(crate) replay_priority: Option<Priority>,
    pub(crate) graph: Option<GraphContext>,
    pub(crate) vector: Option<VectorContext>,
    pub(crate) system: Option<SystemContext>,
    pub(crate) inode: Option<u64>,
    pub(crate) file_type: Option<u32>,
    pub(crate) cpu: Option<u32>,
    pub(crate) pid: Option<u32>,
    pub(crate) metadata: Option<JsonText<'a>>,
    pub(crate) source: Option<Text<'a>>,
}

/// An event to be emitted. Text may be borrowed; the journal copies what it keeps.
///
/// ```
/// use semj_storage::event::{Category, Event};
/// use serde_json::json;
/// let event = Event::decision("run the tests").agent("planner").payload(json!({"gen_ai.tool.name": "bash"}));
/// assert_eq!(event.event_type().category(), Category::Agent);
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Event<'a> {
    pub(crate) event_type: EventType,
    pub(crate) subtype: Option<u32>,
    pub(crate) priority: Priority,
    pub(crate) flags: Flags,
    pub(crate) id: Option<Uuid>,
    pub(crate) expect: Option<u64>,
    pub(crate) time: Option<Timestamp>,
    pub(crate) name: Option<Text<'a>>,
    pub(crate) stream: Option<Text<'a>>,
    pub(crate) agent: Option<Text<'a>>,
    pub(crate) session: Option<Text<'a>>,
    pub(crate) path: Option<Text<'a>>,
    pub(crate) intent: Option<Text<'a>>,
    pub(crate) tags: Vec<Text<'a>>,
    pub(crate) parent: Option<Cause>,
    pub(crate) payload: Payload<'a>,
    pub(crate) extra: Option<Box<Extra<'a>>>,
}

/// One builder method and its getter for a text field.
macro_rules! text_field {
    ($set:ident, $get:ident, $doc:literal) => {
        #[doc = $doc]
        #[must_use]
        pub fn $set(mut self, text: impl Into<Text<'a>>) -> Self {
            self.$set = Some(text.into());
            self
        }

        #[doc = concat!("The value of `", stringify!($set), "`, if given.")]
        pub fn $get(&self) -> Option<&Text<'a>> {
            self.$set.as_ref()
        }
    };
}

/// One builder method and its getter for a field that few events have.
macro_rules! extra_field {
    ($set:ident, $get:ident, $arg:ty, $kept:ty, $doc:literal) => {
        #[doc = $doc]
        #[must_use]
        pub fn $set(mut self, value: $arg) -> Self {
            self.extra_mut().$set = Some(value.into());
            self
        }

        #[doc = concat!("The value of `", stringify!($set), "`, if given.")]
        pub fn $get(&self) -> Option<&$kept> {
            self.extra.as_deref().and_then(|x| x.$set.as_ref())
        }
    };
}

impl<'a> Event<'a> {
    /// An event of any type.
    pub fn new(event_type: EventType) -> Self {
        Event {
            event_type,
            subtype: None,
            priority: Priority::NORMAL,
            flags: Flags::default(),
            id: None,
            expect: None,
            time: None,
            name: None,
            stream: None,
            agent: None,
            session: None,
            path: None,
            intent: None,
            tags: Vec::new(),
            parent: None,
            payload: Payload::None,
            extra: None,
        }
    }

    /// An event of a named type, e.g. `Event::named("agent.decision")`; `None` when there is no such name.
    pub fn named(event_type: &str) -> Option<Self> {
        EventType::parse(event_type).map(Self::new)
    }

    /// `agent.decision` with an intent: what the agent means to do, usually a tool call.
    pub fn decision(intent: impl Into<Text<'a>>) -> Self {
        Event::new(EventType::from_code(0x0403)).intent(intent)
    }

    /// `agent.reasoning` with an intent: why.
    pub fn reasoning(intent: impl Into<Text<'a>>) -> Self {
        Event::new(EventType::from_code(0x0402)).intent(intent)
    }

    /// `agent.query`: a prompt, or a question to a tool that searches.
    pub fn query(intent: impl Into<Text<'a>>) -> Self {
        Event::new(EventType::from_code(0x0401)).intent(intent)
    }

    /// `agent.interaction`: what the agent says to a person.
    pub fn interaction(intent: impl Into<Text<'a>>) -> Self {
        Event::new(EventType::from_code(0x0406)).intent(intent)
    }

    /// `filesystem.write` of a path.
    pub fn file_write(path: impl Into<Text<'a>>) -> Self {
        Event::new(EventType::from_code(0x0104)).path(path)
    }

    /// `filesystem.read` of a path.
    pub fn file_read(path: impl Into<Text<'a>>) -> Self {
        Event::new(EventType::from_code(0x0103)).path(path)
    }

    /// `observability.error_reported` with what went wrong.
    pub fn error(intent: impl Into<Text<'a>>) -> Self {
        Event::new(EventType::from_code(0x0808)).intent(intent)
    }

    fn extra_mut(&mut self) -> &mut Extra<'a> {
        self.extra.get_or_insert_with(Box::default)
    }

    text_field!(name, name_text, "Your own kind of event: free text of at most 128 bytes, indexed.");
    text_field!(stream, stream_text, "The stream; without one it is the agent, else `default`.");
    text_field!(agent, agent_text, "Who acted.");
    text_field!(session, session_text, "Which run of the agent.");
    text_field!(path, path_text, "Which file.");
    text_field!(intent, intent_text, "What it is about, in words.");

    extra_field!(
        agent_intent,
        agent_intent_text,
        impl Into<Text<'a>>,
        Text<'a>,
        "What the agent said it meant to do."
    );
    extra_field!(
        transaction,
        transaction_text,
        impl Into<Text<'a>>,
        Text<'a>,
        "The transaction it belongs to."
    );
    extra_field!(chain, chain_text, impl Into<Text<'a>>, Text<'a>, "The causality chain it belongs to.");
    extra_field!(visibility, visibility_mask, u64, u64, "Which agents may see it, a bit each; absent: all.");
    extra_field!(relevance, relevance_score, u32, u32, "How relevant to agents; the kernel writes 50.");
    extra_field!(replay_priority, replay_priority_value, Priority, Priority, "The order of priority-replay.");
    extra_field!(root, root_cause, impl Into<Cause>, Cause, "The first cause of all.");
    extra_field!(graph, graph_context, GraphContext, GraphContext, "Graph context.");
    extra_field!(vector, vector_context, VectorContext, VectorContext, "Vector context.");
    extra_field!(system, system_context, SystemContext, SystemContext, "The state of the machine.");
    extra_field!(inode, inode_number, u64, u64, "The file's inode number.");
    extra_field!(file_type, file_type_bits, u32, u32, "The file's type, as in `st_mode`.");
    extra_field!(cpu, cpu_number, u32, u32, "The processor it happened on.");
    extra_field!(pid, process_id, u32, u32, "The process it happened in.");
    extra_field!(
        source,
        source_text,
        impl Into<Text<'a>>,
        Text<'a>,
        "Where it comes from, e.g. `import:codex`; absent: `user`."
    );

    /// How sure the intent is; more than 100 counts as 100.
    #[must_use]
    pub fn confidence(mut self, percent: u32) -> Self {
        self.extra_mut().confidence = Some(percent.min(100));
        self
    }

    /// How sure the agent was; more than 100 counts as 100.
    #[must_use]
    pub fn agent_confidence(mut self, percent: u32) -> Self {
        self.extra_mut().agent_confidence = Some(percent.min(100));
        self
    }

    /// The caller's own id, which makes a retry safe: the same id is never stored twice.
    #[must_use]
    pub fn id(mut self, id: Uuid) -> Self {
        self.id = Some(id);
        self
    }

    /// How many events the stream must hold before this one (0: new); refused when someone was faster.
    #[must_use]
    pub fn expect(mut self, count: u64) -> Self {
        self.expect = Some(count);
        self
    }

    /// When it happened; absent: now.
    #[must_use]
    pub fn time(mut self, time: Timestamp) -> Self {
        self.time = Some(time);
        self
    }

    /// The kernel's subtype.
    #[must_use]
    pub fn subtype(mut self, subtype: u32) -> Self {
        self.subtype = Some(subtype);
        self
    }

    /// How urgent.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Flags, added to those already set.
    #[must_use]
    pub fn flags(mut self, flags: Flags) -> Self {
        self.flags = self.flags.union(flags);
        self
    }

    /// One more tag.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<Text<'a>>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// The event that made this one happen.
    #[must_use]
    pub fn parent(mut self, cause: impl Into<Cause>) -> Self {
        self.parent = Some(cause.into());
        self
    }

    /// One more cause.
    #[must_use]
    pub fn link(mut self, link: Link<'a>) -> Self {
        self.extra_mut().links.push(link);
        self
    }

    /// What it carries.
    #[must_use]
    pub fn payload(mut self, payload: impl Into<Payload<'a>>) -> Self {
        self.payload = payload.into();
        self
    }

    /// A JSON object about the event rather than of it, at most 2,048 bytes; anything but an object is wrapped.
    #[must_use]
    pub fn metadata(mut self, value: &serde_json::Value) -> Self {
        let text = if value.is_object() { value.to_string() } else { format!("{{\"value\":{value}}}") };
        self.extra_mut().metadata = Some(JsonText(text.into()));
        self
    }

    /// The type.
    pub fn event_type(&self) -> EventType {
        self.event_type
    }
    /// The subtype, if given.
    pub fn subtype_code(&self) -> Option<u32> {
        self.subtype
    }
    /// The priority.
    pub fn priority_value(&self) -> Priority {
        self.priority
    }
    /// The flags.
    pub fn flag_bits(&self) -> Flags {
        self.flags
    }
    /// The caller's id, if given.
    pub fn given_id(&self) -> Option<Uuid> {
        self.id
    }
    /// The expected position, if given.
    pub fn expected_position(&self) -> Option<u64> {
        self.expect
    }
    /// The time, if given.
    pub fn given_time(&self) -> Option<Timestamp> {
        self.time
    }
    /// The tags.
    pub fn tags(&self) -> &[Text<'a>] {
        &self.tags
    }
    /// Whether one of the tags is this one.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|t| t.as_bytes() == tag.as_bytes())
    }
    /// The parent as it was given.
    pub fn parent_cause(&self) -> Option<Cause> {
        self.parent
    }
    /// The links as they were given.
    pub fn links(&self) -> &[Link<'a>] {
        self.extra.as_deref().map_or(&[], |x| &x.links)
    }
    /// The payload.
    pub fn payload_value(&self) -> &Payload<'a> {
        &self.payload
    }
    /// The metadata object, if given.
    pub fn metadata_json(&self) -> Option<&JsonText<'a>> {
        self.extra.as_deref().and_then(|x| x.metadata.as_ref())
    }
    /// How sure the intent is, if given.
    pub fn confidence_percent(&self) -> Option<u32> {
        self.extra.as_deref().and_then(|x| x.confidence)
    }
    /// How sure the agent was, if given.
    pub fn agent_confidence_percent(&self) -> Option<u32> {
        self.extra.as_deref().and_then(|x| x.agent_confidence)
    }

    /// The same event, with `name` as its stream and its agent where it names none.
    #[must_use]
    #[inline]
    pub fn or_from(mut self, name: &'a str) -> Self {
        match (&self.stream, &self.agent) {
            // Without a stream of its own an event goes to its agent's.
            (None, None) => self.agent = Some(name.into()),
            (None, Some(agent)) if agent.as_bytes() != name.as_bytes() => self.stream = Some(name.into()),
            (Some(_), None) => self.agent = Some(name.into()),
            _ => {}
        }
        self
    }

    /// The stream the event goes to: the one given, else its agent, else `default`.
    pub fn stream_or_default(&self) -> &[u8] {
        self.stream.as_ref().or(self.agent.as_ref()).map_or(b"default", Text::as_bytes)
    }

    /// Whether the event refers to others.
    pub fn has_causes(&self) -> bool {
        self.parent.is_some()
            || self.extra.as_deref().is_some_and(|x| x.root.is_some() || !x.links.is_empty())
    }

    /// All references in a fixed order: parent, root, then cause and effect of each link.
    pub fn causes(&self) -> impl Iterator<Item = Cause> + '_ {
        let extra = self.extra.as_deref();
        self.parent
            .into_iter()
            .chain(extra.and_then(|x| x.root))
            .chain(self.links().iter().flat_map(|l| [Some(l.cause), l.effect]).flatten())
    }

    /// The same event, owning its bytes.
    pub fn into_owned(self) -> Event<'static> {
        fn own(text: Option<Text<'_>>) -> Option<Text<'static>> {
            text.map(Text::into_owned)
        }
        Event {
            event_type: self.event_type,
            subtype: self.subtype,
            priority: self.priority,
            flags: self.flags,
            id: self.id,
            expect: self.expect,
            time: self.time,
            name: own(self.name),
            stream: own(self.stream),
            agent: own(self.agent),
            session: own(self.session),
            path: own(self.path),
            intent: own(self.intent),
            tags: self.tags.into_iter().map(Text::into_owned).collect(),
            parent: self.parent,
            payload: self.payload.into_owned(),
            extra: self.extra.map(|x| {
                Box::new(Extra {
                    confidence: x.confidence,
                    agent_intent: own(x.agent_intent),
                    agent_confidence: x.agent_confidence,
                    root: x.root,
                    links: x.links.into_iter().map(Link::into_owned).collect(),
                    transaction: own(x.transaction),
                    chain: own(x.chain),
                    visibility: x.visibility,
                    relevance: x.relevance,
                    replay_priority: x.replay_priority,
                    graph: x.graph,
                    vector: x.vector,
                    system: x.system,
                    inode: x.inode,
                    file_type: x.file_type,
                    cpu: x.cpu,
                    pid: x.pid,
                    metadata: x.metadata.map(|m| JsonText(m.0.into_owned().into())),
                    source: own(x.source),
                })
            }),
        }
    }
}
