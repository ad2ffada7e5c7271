//! A record as the fields of an event give it, by the rules of the kernel's producers, and a note of every cut.

use super::layout::Padded;
use super::texts::{Producer, link_description};
use super::{CausalityLink, Context, EventHeader, PAYLOAD_BYTES_MAX, Record};
use crate::event::{Event, EventType, Payload, Text};
use sha2::{Digest as _, Sha256};
use std::borrow::Cow;
use std::fmt;

/// Something of an event that its record does not hold as it was.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Cut {
    /// The event's field, by its JSON key.
    pub field: &'static str,
    /// What became of it.
    pub how: How,
}

/// What became of a field.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum How {
    /// Cut bytewise, or to as many tags.
    Shortened {
        /// So long it was.
        from: usize,
        /// So long it is.
        to: usize,
    },
    /// Text that is no decimal number of 64 bits became 64 bits of its hash.
    Hashed,
    /// Content beside the journal became its reference.
    Referenced,
    /// The record has no place for it.
    Dropped,
    /// The record that was imported cannot be made again: somebody changed what was kept of it.
    Altered,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            How::Shortened { .. } => f.write_str("shortened"),
            How::Hashed => f.write_str("replaced by 64 bits of its hash"),
            How::Referenced => f.write_str("replaced by a reference"),
            How::Dropped => f.write_str("dropped"),
            How::Altered => f.write_str("no longer the imported bytes"),
        }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.how {
            How::Shortened { from, to } => write!(f, "{} shortened from {from} to {to}", self.field),
            how => write!(f, "{} {how}", self.field),
        }
    }
}

/// The numbers that an event gets from where it lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Numbers {
    pub(super) event_id: u64,
    pub(super) ktime: i64,
    pub(super) sequence: u64,
    pub(super) global_sequence: u64,
    pub(super) local_sequence: u64,
}

fn dropped(field: &'static str) -> Cut {
    Cut { field, how: How::Dropped }
}

/// A record made of the event's fields. `causes` has the number of each cause in the order of [`Event::causes`]; `None`
/// for one that has no number here.
pub(super) fn draft<'e>(
    event: &'e Event<'_>,
    numbers: Numbers,
    causes: &[Option<u64>],
    cuts: &mut Vec<Cut>,
) -> Record<'e> {
    let mut causes = causes.iter().copied();
    let parent = event.parent_cause().and_then(|_| causes.next());
    let root = event.root_cause().and_then(|_| causes.next());
    for (field, cause) in [("parent", parent), ("root", root)] {
        if cause == Some(None) {
            cuts.push(dropped(field));
        }
    }
    let header = EventHeader {
        event_id: numbers.event_id,
        event_type: event.event_type().code(),
        event_subtype: event.subtype_code().unwrap_or(0),
        ktime: numbers.ktime,
        sequence: numbers.sequence,
        cpu_id: event.cpu_number().copied().unwrap_or(0),
        process_id: event.process_id().copied().unwrap_or(0),
        global_sequence: numbers.global_sequence,
        local_sequence: numbers.local_sequence,
        event_flags: event.flag_bits().bits(),
        event_priority: event.priority_value().code(),
        parent_event_id: parent.flatten().unwrap_or(0),
        root_cause_event_id: root.flatten().unwrap_or(numbers.event_id),
        agent_visibility_mask: event.visibility_mask().copied().unwrap_or(u64::MAX),
        agent_relevance_score: event.relevance_score().copied().unwrap_or(50),
        replay_priority: event.replay_priority_value().map_or(3, |p| p.code()),
        ..EventHeader::default()
    };
    let links = links(event, numbers.event_id, causes, cuts);
    let payload = payload(event, cuts);
    // Metadata has the same limit in events and in records.
    let metadata = event.metadata_json().map_or(Cow::Borrowed(&[][..]), |m| m.as_str().as_bytes().into());
    let context = context(event, header.process_id, cuts);
    if event.name_text().is_some() {
        cuts.push(dropped("name"));
    }
    Record { header, context, payload, metadata, links }
}

/// The bytes of a payload: JSON as its compact text, cut bytewise.
fn payload<'e>(event: &'e Event<'_>, cuts: &mut Vec<Cut>) -> Cow<'e, [u8]> {
    let bytes: Cow<'e, [u8]> = match event.payload_value() {
        Payload::None => return Cow::Borrowed(&[]),
        Payload::Json(json) => json.as_str().as_bytes().into(),
        Payload::Bytes(bytes) => Cow::Borrowed(bytes),
        Payload::Blob(blob) => {
            cuts.push(Cut { field: "payload", how: How::Referenced });
            let sha256 = super::json_out::hex(&blob.sha256);
            let reference =
                serde_json::json!({"$blob": {"sha256": sha256, "bytes": blob.bytes, "head": blob.head}});
            reference.to_string().into_bytes().into()
        }
    };
    if bytes.len() <= PAYLOAD_BYTES_MAX {
        return bytes;
    }
    let how = How::Shortened { from: bytes.len(), to: PAYLOAD_BYTES_MAX };
    cuts.push(Cut { field: "payload", how });
    match bytes {
        Cow::Borrowed(b) => b.get(..PAYLOAD_BYTES_MAX).unwrap_or(b).into(),
        Cow::Owned(mut b) => {
            b.truncate(PAYLOAD_BYTES_MAX);
            b.into()
        }
    }
}

/// Text in a field of `N` bytes, cut as the producers cut it.
fn cut<'e, const N: usize>(
    field: &'static str,
    text: Option<&'e Text<'_>>,
    cuts: &mut Vec<Cut>,
) -> Padded<'e, N> {
    let bytes = text.map_or(&[][..], Text::as_bytes);
    if bytes.len() >= N {
        cuts.push(Cut { field, how: How::Shortened { from: bytes.len(), to: N - 1 } });
    }
    Padded::cut(bytes)
}

/// A number as the kernel's fields hold it: decimal text as its value, other text as 64 bits of its hash.
fn number(field: &'static str, text: Option<&Text<'_>>, cuts: &mut Vec<Cut>) -> Option<u64> {
    let text = text?;
    let exact = text.as_str().and_then(decimal);
    Some(exact.unwrap_or_else(|| {
        cuts.push(Cut { field, how: How::Hashed });
        u64::from_le_bytes(super::layout::get(&Sha256::digest(text.as_bytes()), 0))
    }))
}

/// The number that `text` is the one decimal form of.
pub(super) fn decimal(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (text.len() == number.checked_ilog10().unwrap_or(0) as usize + 1).then_some(number)
}

fn context<'e>(event: &'e Event<'_>, pid: u32, cuts: &mut Vec<Cut>) -> Context<'e> {
    let producer = Producer::of(event.event_type());
    let code = event.event_type().code();
    let (graph, vector, system) = (
        event.graph_context().copied().unwrap_or_default(),
        event.vector_context().copied().unwrap_or_default(),
        event.system_context().copied().unwrap_or_default(),
    );
    // An agent's intent is what the producer of agent events is given; it goes to both places.
    let agent_intent = event.agent_intent_text().or(match producer {
        Some(Producer::Agent) => event.intent_text(),
        _ => None,
    });
    let session = number("session", event.session_text(), cuts);
    let mut context = Context {
        transaction_id: number("transaction", event.transaction_text(), cuts).unwrap_or(0),
        session_id: session.unwrap_or(if producer.is_some() { pid.into() } else { 0 }),
        causality_chain_id: number("chain", event.chain_text(), cuts).unwrap_or(0),
        path: cut("path", event.path_text(), cuts),
        inode_number: event.inode_number().copied().unwrap_or(0),
        file_type: event.file_type_bits().copied().unwrap_or(0),
        graph_node_id: graph.node.unwrap_or(0),
        graph_edge_id: graph.edge.unwrap_or(0),
        graph_operation_type: graph.operation.unwrap_or(if producer == Some(Producer::Graph) {
            code
        } else {
            0
        }),
        vector_id: vector.id.unwrap_or(0),
        vector_dimensions: vector.dimensions.unwrap_or(0),
        vector_element_type: vector.element.unwrap_or(u32::from(producer == Some(Producer::Vector))),
        agent_id: cut("agent", event.agent_text(), cuts),
        agent_intent: cut("agent_intent", agent_intent, cuts),
        agent_confidence: event
            .agent_confidence_percent()
            .unwrap_or(producer.map_or(0, Producer::agent_confidence)),
        system_load: system.load.unwrap_or(0),
        memory_usage: system.memory.unwrap_or(0),
        io_pressure: system.io_pressure.unwrap_or(0),
        semantic_tags: Padded::default(),
        semantic_intent: match (event.intent_text(), producer) {
            (None, Some(producer)) => Padded::cut(producer.intent().as_bytes()),
            (intent, _) => cut("intent", intent, cuts),
        },
        semantic_confidence: event.confidence_percent().unwrap_or(producer.map_or(0, Producer::confidence)),
    };
    context.semantic_tags = match producer {
        Some(_) => {
            if !event.tags().is_empty() {
                cuts.push(dropped("tags"));
            }
            fixed_tags(event.event_type(), &context, event.agent_text().map_or(&[], Text::as_bytes))
        }
        None => own_tags(event, cuts),
    };
    context
}

/// The tags that the producer of this type writes; nothing where it has none.
pub(super) fn fixed_tags<'r>(event_type: EventType, context: &Context<'_>, agent: &[u8]) -> Padded<'r, 512> {
    let producer = Producer::of(event_type);
    producer.map_or_else(Padded::default, |p| Padded::cut(p.tags(event_type.code(), context, agent)))
}

/// An event's own tags as a JSON list; those that no longer fit are left out.
fn own_tags<'e>(event: &Event<'_>, cuts: &mut Vec<Cut>) -> Padded<'e, 512> {
    const ROOM: usize = 511;
    if event.tags().is_empty() {
        return Padded::default();
    }
    let (mut list, mut taken) = (String::from("["), 0);
    for tag in event.tags() {
        let text = serde_json::Value::from(tag.to_string_lossy()).to_string();
        if list.len() + text.len() + 2 > ROOM {
            break;
        }
        if taken > 0 {
            list.push(',');
        }
        list.push_str(&text);
        taken += 1;
    }
    list.push(']');
    if taken < event.tags().len() {
        cuts.push(Cut { field: "tags", how: How::Shortened { from: event.tags().len(), to: taken } });
    }
    Padded::cut(list.into_bytes())
}

/// The links whose ends have numbers; the kernel refuses a link with an end that is 0.
fn links<'e>(
    event: &'e Event<'_>,
    own: u64,
    mut numbers: impl Iterator<Item = Option<u64>>,
    cuts: &mut Vec<Cut>,
) -> Vec<CausalityLink<'e>> {
    let mut links = Vec::with_capacity(event.links().len());
    for link in event.links() {
        let cause = numbers.next().flatten();
        let effect = if link.effect.is_some() { numbers.next().flatten() } else { Some(own) };
        let (Some(cause), Some(effect)) = (cause, effect) else {
            cuts.push(dropped("links"));
            continue;
        };
        if link.kind.is_some() && link.description.is_some() {
            cuts.push(dropped("links.kind"));
        }
        let description = match link.description.as_ref().or(link.kind.as_ref()) {
            Some(text) => cut("links.description", Some(text), cuts),
            None => Padded::cut(link_description(cause, effect).into_bytes()),
        };
        links.push(CausalityLink {
            cause_event_id: cause,
            effect_event_id: effect,
            causality_type: link.code.unwrap_or(0),
            causality_strength: link.strength.unwrap_or(0),
            causality_delay: link.delay_ns.unwrap_or(0),
            causality_description: description,
        });
    }
    links
}
