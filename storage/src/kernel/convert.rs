//! Records become events of the journal, and events become records: a record that came from a kernel leaves again
//! byte for byte.

use super::draft::{Cut, How, Numbers, draft, fixed_tags};
use super::identity::{Instance, split_id};
use super::kept::Kept;
use super::layout::Padded;
use super::record::seal;
use super::texts::{Producer, link_description};
use super::{CHECKSUM_AT, CausalityLink, FIXED_BYTES, LINK_BYTES, Record, Reject, patch};
use crate::event::{
    Cause, Event, EventType, Flags, GraphContext, JsonText, Link, Payload, Priority, Recorded, ResolvedCause,
    SystemContext, TAG_TIME_RECKONED, TAG_TIME_UNKNOWN, Text, Timestamp, VectorContext, is_canonical_payload,
};
use std::borrow::Cow;
use std::collections::BTreeSet;
use uuid::Uuid;

/// The source of events that were made of kernel records.
pub const SOURCE: &str = "import:semj";

/// Turns the record that `bytes` hold into an event of the journal. The event has all that [`Numbering::encode`] needs
/// to give the same bytes back; the kernel's clock is no wall time, so it has the tag `time:unknown`.
///
/// # Errors
/// When the bytes are no record.
pub fn event_of(bytes: &[u8], instance: &Instance) -> Result<Event<'static>, Reject> {
    let (record, used) = Record::decode(bytes)?;
    let bytes = bytes.get(..used).unwrap_or(bytes);
    let header = &record.header;
    let mut kept = Kept {
        boot: instance.name().to_owned(),
        numbers: Numbers {
            event_id: header.event_id,
            ktime: header.ktime,
            sequence: header.sequence,
            global_sequence: header.global_sequence,
            local_sequence: header.local_sequence,
        },
        checksum: header.checksum,
        metadata: record.metadata.to_vec(),
        ..Kept::default()
    };
    let mut event = fields(&record, instance);
    let fixed = fixed_tags(event.event_type, &record.context, record.context.agent_id.text());
    let tags = record.context.semantic_tags.text();
    if tags != fixed.text() {
        kept.tags = std::str::from_utf8(tags).ok().map(str::to_owned);
    }
    if !set_links(&mut event, &record, instance) {
        kept.links =
            Some(bytes.get(bytes.len() - record.links.len() * LINK_BYTES..).unwrap_or_default().to_vec());
    }
    let made = rebuild(&event, &kept, record.payload.clone(), instance.event_id(header.event_id), &[]);
    // Lengths are equal: payload, metadata and number of links are the record's own.
    let mut plain = bytes.to_vec();
    super::layout::put(&mut plain, CHECKSUM_AT, &[0; 4]);
    kept.patch = patch::diff(&made?, &plain);
    let payload = record.payload.into_owned();
    event.payload = match String::from_utf8(payload) {
        Ok(text) if text.is_empty() => Payload::None,
        Ok(text) if is_canonical_payload(&text) => Payload::Json(JsonText(text.into())),
        Ok(text) => {
            kept.text = Some(text);
            Payload::None
        }
        Err(binary) => Payload::Bytes(binary.into_bytes().into()),
    };
    kept.store(&mut event);
    Ok(event)
}

/// Gives an event that was made of a record a wall-clock time, ns since 1970, which somebody reckoned from the record's
/// clock and a reading of both: it has the tag `time:reckoned` then, instead of `time:unknown`. The record it gives back
/// is the same.
pub fn set_wall_time(event: &mut Event<'_>, wall_ns: i64) {
    for tag in &mut event.tags {
        if tag.as_bytes() == TAG_TIME_UNKNOWN.as_bytes() {
            *tag = Text::from(TAG_TIME_RECKONED);
        }
    }
    event.time = Some(Timestamp(wall_ns));
}

/// Every field of an event that has one in a record, payload, links and metadata aside.
fn fields(record: &Record<'_>, instance: &Instance) -> Event<'static> {
    let (header, context) = (&record.header, &record.context);
    let some = |n: u64| (n != 0).then_some(n);
    let some32 = |n: u32| (n != 0).then_some(n);
    fn text<const N: usize>(field: &Padded<'_, N>) -> Option<Text<'static>> {
        let text = field.text();
        (!text.is_empty()).then(|| Text::from_bytes(text.to_vec()))
    }
    let percent = |n: u32, default: u32| (n <= 100 && (n != 0 || default != 0)).then_some(n);
    let decimal = |n: u64| some(n).map(|n| Text::from(n.to_string()));
    let event_type = EventType::from_code(header.event_type);
    let producer = Producer::of(event_type);
    let mut event = Event::new(event_type)
        .id(instance.event_id(header.event_id))
        .stream(format!("kernel:{}", instance.name()))
        .source(SOURCE)
        .tag(TAG_TIME_UNKNOWN)
        .priority(Priority::from_code(header.event_priority))
        .flags(Flags::from_bits(header.event_flags));
    event.subtype = some32(header.event_subtype);
    event.agent = text(&context.agent_id);
    event.session = decimal(context.session_id);
    event.path = text(&context.path);
    event.intent = text(&context.semantic_intent)
        .filter(|t| producer.is_none_or(|p| t.as_bytes() != p.intent().as_bytes()));
    let known = |number: u64| number != 0 && number != header.event_id;
    event.parent =
        known(header.parent_event_id).then(|| Cause::Id(instance.event_id(header.parent_event_id)));
    let extra = event.extra.get_or_insert_default();
    extra.root =
        known(header.root_cause_event_id).then(|| Cause::Id(instance.event_id(header.root_cause_event_id)));
    extra.confidence = percent(context.semantic_confidence, producer.map_or(0, Producer::confidence));
    extra.agent_confidence =
        percent(context.agent_confidence, producer.map_or(0, Producer::agent_confidence));
    // An agent's producer writes one intent to both places.
    let written_twice =
        producer == Some(Producer::Agent) && context.agent_intent.text() == context.semantic_intent.text();
    extra.agent_intent = text(&context.agent_intent).filter(|_| !written_twice || event.intent.is_none());
    extra.transaction = decimal(context.transaction_id);
    extra.chain = decimal(context.causality_chain_id);
    extra.visibility = Some(header.agent_visibility_mask).filter(|m| *m != u64::MAX);
    extra.relevance = Some(header.agent_relevance_score).filter(|n| *n != 50);
    extra.replay_priority =
        Some(Priority::from_code(header.replay_priority)).filter(|p| *p != Priority::NORMAL);
    let graph = GraphContext {
        node: some(context.graph_node_id),
        edge: some(context.graph_edge_id),
        operation: some32(context.graph_operation_type),
    };
    extra.graph = Some(graph).filter(|g| *g != GraphContext::default());
    let vector = VectorContext {
        id: some(context.vector_id),
        dimensions: some32(context.vector_dimensions),
        element: some32(context.vector_element_type),
    };
    extra.vector = Some(vector).filter(|v| *v != VectorContext::default());
    let system = SystemContext {
        load: some32(context.system_load),
        memory: some(context.memory_usage),
        io_pressure: some32(context.io_pressure),
    };
    extra.system = Some(system).filter(|s| *s != SystemContext::default());
    extra.inode = some(context.inode_number);
    extra.file_type = some32(context.file_type);
    extra.cpu = some32(header.cpu_id);
    extra.pid = some32(header.process_id);
    event
}

/// Gives the event the record's links; `false` where one cannot be: an event is no cause of itself.
fn set_links(event: &mut Event<'static>, record: &Record<'_>, instance: &Instance) -> bool {
    let own = record.header.event_id;
    if record.links.iter().any(|l| l.cause_event_id == own) {
        return false;
    }
    let links = record.links.iter().map(|link| {
        let fixed = link_description(link.cause_event_id, link.effect_event_id);
        let description = link.causality_description.text();
        Link {
            cause: Cause::Id(instance.event_id(link.cause_event_id)),
            kind: None,
            code: (link.causality_type != 0).then_some(link.causality_type),
            strength: (1..=100).contains(&link.causality_strength).then_some(link.causality_strength),
            delay_ns: (link.causality_delay != 0).then_some(link.causality_delay),
            description: (description != fixed.as_bytes()).then(|| Text::from_bytes(description.to_vec())),
            effect: (link.effect_event_id != own).then(|| Cause::Id(instance.event_id(link.effect_event_id))),
        }
    });
    event.extra.get_or_insert_default().links = links.collect();
    true
}

/// The record of an event that came from a kernel, but for its patch; the checksum is zero. `resolved` has the ids of
/// its causes; where it is empty the event itself names them.
fn rebuild(
    event: &Event<'_>,
    kept: &Kept,
    payload: Cow<'_, [u8]>,
    id: Uuid,
    resolved: &[ResolvedCause],
) -> Result<Vec<u8>, Reject> {
    let own = split_id(id).map(|(bits, _)| bits);
    let number = |id: Uuid| split_id(id).filter(|(bits, _)| Some(*bits) == own).map(|(_, number)| number);
    let given = event.causes().map(|cause| match cause {
        Cause::Id(id) => number(id),
        Cause::Sequence(_) => None,
    });
    let causes: Vec<Option<u64>> =
        if resolved.is_empty() { given.collect() } else { resolved.iter().map(|c| number(c.id)).collect() };
    // What a draft notes of this event is what the kept parts make good.
    let mut record = draft(event, kept.numbers, &causes, &mut Vec::new());
    record.payload = payload;
    record.metadata = Cow::Borrowed(&kept.metadata);
    record.context.semantic_tags = match &kept.tags {
        Some(tags) => Padded::exact(tags.as_bytes()).unwrap_or_default(),
        None => {
            fixed_tags(event.event_type(), &record.context, event.agent_text().map_or(&[], Text::as_bytes))
        }
    };
    if let Some(links) = &kept.links {
        let links = links.chunks_exact(LINK_BYTES).filter_map(|l| l.first_chunk());
        record.links = links.map(CausalityLink::read).collect();
    }
    let mut bytes = record.to_bytes()?;
    super::layout::put(&mut bytes, CHECKSUM_AT, &[0; 4]);
    Ok(bytes)
}

/// What an event became.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Encoded {
    /// The record's event id.
    pub event_id: u64,
    /// Whether it came from a kernel before.
    pub is_imported: bool,
    /// What the record does not hold as it was.
    pub cuts: Vec<Cut>,
}

/// Gives events the numbers by which records name each other: an event of this journal its sequence, one that came
/// from a kernel the number it had there.
#[derive(Debug, Default)]
pub struct Numbering {
    /// The instances seen so far, by their bits.
    instances: BTreeSet<u64>,
}

impl Numbering {
    /// Takes note of an event that may be named as a cause. Causes come before effects, so going through the events in
    /// their order is enough.
    pub fn learn(&mut self, recorded: &Recorded) {
        if Kept::is_in(&recorded.event)
            && let Some((bits, _)) = split_id(recorded.id)
        {
            self.instances.insert(bits);
        }
    }

    /// How many kernel instances were seen.
    pub fn instances(&self) -> usize {
        self.instances.len()
    }

    fn number(&self, cause: &ResolvedCause) -> Option<u64> {
        match split_id(cause.id).filter(|(bits, _)| self.instances.contains(bits)) {
            Some((_, number)) => Some(number),
            None => cause.sequence,
        }
    }

    /// Appends the record of an event to `out`.
    ///
    /// # Errors
    /// None for an event that was recorded: what is too large is cut, and noted.
    pub fn encode(&self, recorded: &Recorded, out: &mut Vec<u8>) -> Result<Encoded, Reject> {
        let mut cuts = Vec::new();
        if Kept::is_in(&recorded.event) {
            match restore(&recorded.event, recorded.id, &recorded.causes, out) {
                Some(event_id) => return Ok(Encoded { event_id, is_imported: true, cuts }),
                None => cuts.push(Cut { field: "metadata", how: How::Altered }),
            }
        }
        let numbers = Numbers {
            event_id: recorded.sequence,
            ktime: recorded.boot_ns,
            sequence: recorded.sequence,
            global_sequence: recorded.sequence,
            local_sequence: recorded.local_sequence,
        };
        let causes: Vec<Option<u64>> = recorded.causes.iter().map(|c| self.number(c)).collect();
        draft(&recorded.event, numbers, &causes, &mut cuts).encode(out)?;
        Ok(Encoded { event_id: numbers.event_id, is_imported: false, cuts })
    }
}

/// Appends the bytes that [`event_of`] made this event of, and tells their number; `None`, and nothing appended, where
/// the event is not such a one or somebody changed it. `causes` are what its references stand for, where that is known.
pub fn restore(event: &Event<'_>, id: Uuid, causes: &[ResolvedCause], out: &mut Vec<u8>) -> Option<u64> {
    let (kept, payload) = Kept::find(event)?;
    let mut bytes = rebuild(event, &kept, payload, id, causes).ok()?;
    patch::apply(&kept.patch, &mut bytes)?;
    super::layout::put(&mut bytes, CHECKSUM_AT, &[0; 4]);
    seal(&mut bytes);
    let (record, _) = Record::decode(&bytes).ok()?;
    let is_same = record.header.checksum == kept.checksum && record.header.event_id == kept.numbers.event_id;
    if !is_same {
        return None;
    }
    out.extend_from_slice(&bytes);
    Some(kept.numbers.event_id)
}

const _: () = assert!(CHECKSUM_AT + 4 <= FIXED_BYTES);
