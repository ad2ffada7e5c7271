//! The event record: header, context, payload, metadata, links; packed, little-endian, without a magic number.

use super::checksum::with_hole;
use super::layout::{Padded, layout};
use super::{
    CHECKSUM_AT, CONTEXT_BYTES, EVENT_VERSION, FIXED_BYTES, HEADER_BYTES, LINK_BYTES, LINKS_MAX,
    METADATA_BYTES_MAX, PAYLOAD_BYTES_MAX, Reject,
};
use std::borrow::Cow;

layout! {
    /// The head of an event record.
    pub struct EventHeader: 132 {
        /// Unique within one boot instance of the kernel; gaps prove no loss.
        event_id: u64 = 0,
        /// The type's code; every code is legal.
        event_type: u32 = 8,
        /// The subtype; the kernel's producers write 0.
        event_subtype: u32 = 12,
        /// Monotonic nanoseconds since boot: no wall time.
        ktime: i64 = 16,
        /// Counter of timestamps.
        sequence: u64 = 24,
        /// The processor.
        cpu_id: u32 = 32,
        /// The thread.
        process_id: u32 = 36,
        /// Place in the order of the whole kernel journal.
        global_sequence: u64 = 40,
        /// Place in the order of its origin.
        local_sequence: u64 = 48,
        /// Flags; unknown bits survive.
        event_flags: u32 = 56,
        /// 1 critical to 5 background.
        event_priority: u32 = 60,
        /// Bytes of the whole record. Derived.
        event_size: u32 = 64,
        /// Always 5,280. Derived.
        context_size: u32 = 68,
        /// Bytes of the payload. Derived.
        payload_size: u32 = 72,
        /// Bytes of the metadata. Derived.
        metadata_size: u32 = 76,
        /// Always 1. Derived.
        event_version: u32 = 80,
        /// Over the whole record with this field zero. Derived.
        checksum: u32 = 84,
        /// 0: none.
        compression_type: u32 = 88,
        /// 0: none.
        encryption_type: u32 = 92,
        /// Number of links. Derived.
        causality_link_count: u32 = 96,
        /// The event that made this one happen; 0: none.
        parent_event_id: u64 = 100,
        /// The first cause of all; its own id where there is none.
        root_cause_event_id: u64 = 108,
        /// Which agents may see it, a bit each.
        agent_visibility_mask: u64 = 116,
        /// How relevant to agents.
        agent_relevance_score: u32 = 124,
        /// The order of priority-replay.
        replay_priority: u32 = 128,
    }
}

layout! {
    /// The context of an event record: 5,280 bytes, whatever is in it. Absent values are zero.
    pub struct Context<'a>: 5280 {
        /// Transaction.
        transaction_id: u64 = 0,
        /// Session; the producers write the thread's id.
        session_id: u64 = 8,
        /// Causality chain.
        causality_chain_id: u64 = 16,
        /// Path.
        path: Padded<'a, 4096> = 24,
        /// Inode.
        inode_number: u64 = 4120,
        /// The file's type, as in `st_mode`.
        file_type: u32 = 4128,
        /// Graph node.
        graph_node_id: u64 = 4132,
        /// Graph edge.
        graph_edge_id: u64 = 4140,
        /// Graph operation; the producers write the event's type.
        graph_operation_type: u32 = 4148,
        /// Vector.
        vector_id: u64 = 4152,
        /// Number of dimensions.
        vector_dimensions: u32 = 4160,
        /// Element type; the producers write 1.
        vector_element_type: u32 = 4164,
        /// Agent.
        agent_id: Padded<'a, 64> = 4168,
        /// What the agent said it meant to do.
        agent_intent: Padded<'a, 256> = 4232,
        /// How sure the agent was, 0 to 100.
        agent_confidence: u32 = 4488,
        /// Load of the machine.
        system_load: u32 = 4492,
        /// Memory in use.
        memory_usage: u64 = 4496,
        /// I/O pressure.
        io_pressure: u32 = 4504,
        /// Tags: JSON text as a rule, but never surely.
        semantic_tags: Padded<'a, 512> = 4508,
        /// What it is about, in words.
        semantic_intent: Padded<'a, 256> = 5020,
        /// How sure the intent is, 0 to 100.
        semantic_confidence: u32 = 5276,
    }
}

layout! {
    /// A causality link of an event record.
    pub struct CausalityLink<'a>: 160 {
        /// The cause.
        cause_event_id: u64 = 0,
        /// The effect.
        effect_event_id: u64 = 8,
        /// What kind of link; no codes are defined.
        causality_type: u32 = 16,
        /// How sure, 0 to 100 as a rule.
        causality_strength: u32 = 20,
        /// From cause to effect in nanoseconds; the kernel stores its clock here.
        causality_delay: i64 = 24,
        /// Free text.
        causality_description: Padded<'a, 128> = 32,
    }
}

/// An event record. Decoded, it borrows from the bytes; put together, it may own its parts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Record<'a> {
    /// The head. Encoding overwrites what it derives from the parts: the sizes, the version, the checksum.
    pub header: EventHeader,
    /// The context.
    pub context: Context<'a>,
    /// At most 65,536 bytes.
    pub payload: Cow<'a, [u8]>,
    /// At most 2,048 bytes.
    pub metadata: Cow<'a, [u8]>,
    /// At most 256.
    pub links: Vec<CausalityLink<'a>>,
}

impl<'a> Record<'a> {
    /// Reads the record at the start of `bytes` and tells how many bytes it takes. Types, flags, priorities and codes
    /// that nobody knows are no errors. Sizes are checked before anything depends on them; at most 256 links are
    /// allocated.
    ///
    /// # Errors
    /// The first thing that is wrong: length, version, context size, limits, sum of the sizes, bytes, checksum.
    pub fn decode(bytes: &'a [u8]) -> Result<(Self, usize), Reject> {
        let (header, whole) = frame(bytes)?;
        let expected = with_hole(whole, CHECKSUM_AT);
        if expected != header.checksum {
            return Err(Reject::BadChecksum { expected, found: header.checksum });
        }
        // The sizes add up to the length of `whole`, so every split succeeds.
        let rest = whole.get(HEADER_BYTES..).unwrap_or_default();
        let (context, rest) = rest.split_first_chunk().ok_or_else(|| truncated(whole))?;
        let (payload, rest) =
            rest.split_at_checked(header.payload_size as usize).ok_or_else(|| truncated(whole))?;
        let (metadata, rest) =
            rest.split_at_checked(header.metadata_size as usize).ok_or_else(|| truncated(whole))?;
        let links = rest.chunks_exact(LINK_BYTES).filter_map(|l| l.first_chunk()).map(CausalityLink::read);
        let record = Record {
            context: Context::read(context),
            payload: Cow::Borrowed(payload),
            metadata: Cow::Borrowed(metadata),
            links: links.collect(),
            header,
        };
        Ok((record, whole.len()))
    }

    /// Appends the record to `out`, with sizes, version and checksum as the parts give them.
    ///
    /// # Errors
    /// A part over its limit; then `out` is as it was.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Reject> {
        let size = |part: &[u8]| u32::try_from(part.len()).unwrap_or(u32::MAX);
        let (payload, metadata) = (size(&self.payload), size(&self.metadata));
        let links = u32::try_from(self.links.len()).unwrap_or(u32::MAX);
        let total = check_sizes(payload, metadata, links)?;
        let mut header = EventHeader {
            context_size: CONTEXT_BYTES as u32,
            payload_size: payload,
            metadata_size: metadata,
            causality_link_count: links,
            // At most 113,956.
            event_size: total as u32,
            event_version: EVENT_VERSION,
            ..self.header.clone()
        };
        header.checksum = 0;
        let start = out.len();
        out.reserve(total as usize);
        out.resize(start + FIXED_BYTES, 0);
        let fixed = out.get_mut(start..).unwrap_or_default();
        if let Some((head, rest)) = fixed.split_first_chunk_mut() {
            header.write(head);
            if let Some(context) = rest.first_chunk_mut() {
                self.context.write(context);
            }
        }
        out.extend_from_slice(&self.payload);
        out.extend_from_slice(&self.metadata);
        for link in &self.links {
            out.extend_from_slice(&link.to_bytes());
        }
        seal(out.get_mut(start..).unwrap_or_default());
        Ok(())
    }

    /// The record, owning its bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Reject> {
        let mut out = Vec::new();
        self.encode(&mut out).map(|()| out)
    }
}

/// Checks everything but the checksum, and gives the head and the bytes of the whole record.
pub(super) fn frame(bytes: &[u8]) -> Result<(EventHeader, &[u8]), Reject> {
    let head = bytes.first_chunk();
    let header = EventHeader::read(
        head.ok_or(Reject::TruncatedHeader { expected: HEADER_BYTES, found: bytes.len() })?,
    );
    if header.event_version != EVENT_VERSION {
        return Err(Reject::BadVersion { expected: EVENT_VERSION, found: header.event_version });
    }
    if header.context_size as usize != CONTEXT_BYTES {
        return Err(Reject::BadContextSize(header.context_size));
    }
    let total = check_sizes(header.payload_size, header.metadata_size, header.causality_link_count)?;
    if total != u64::from(header.event_size) {
        return Err(Reject::SizeMismatch { expected: total, found: header.event_size.into() });
    }
    let whole = usize::try_from(total).ok().and_then(|n| bytes.get(..n));
    Ok((header, whole.ok_or(Reject::TruncatedBody { expected: total, found: bytes.len() })?))
}

fn truncated(whole: &[u8]) -> Reject {
    Reject::TruncatedBody { expected: FIXED_BYTES as u64, found: whole.len() }
}

/// Refuses parts over their limits; else the size of the whole, which no sum of allowed sizes can overflow.
fn check_sizes(payload: u32, metadata: u32, links: u32) -> Result<u64, Reject> {
    if payload as usize > PAYLOAD_BYTES_MAX {
        return Err(Reject::PayloadTooLarge(payload));
    }
    if metadata as usize > METADATA_BYTES_MAX {
        return Err(Reject::MetadataTooLarge(metadata));
    }
    if links as usize > LINKS_MAX {
        return Err(Reject::TooManyLinks(links));
    }
    Ok(FIXED_BYTES as u64 + u64::from(payload) + u64::from(metadata) + u64::from(links) * LINK_BYTES as u64)
}

/// Puts the checksum that fits into a record.
pub(super) fn seal(record: &mut [u8]) {
    let checksum = with_hole(record, CHECKSUM_AT);
    super::layout::put(record, CHECKSUM_AT, &checksum.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_its_parts_back_to_back() {
        let record = Record {
            header: EventHeader { event_id: 7, event_type: 0x0402, ..EventHeader::default() },
            payload: b"pay"[..].into(),
            metadata: b"me"[..].into(),
            links: vec![CausalityLink { cause_event_id: 1, effect_event_id: 7, ..CausalityLink::default() }],
            ..Record::default()
        };
        let mut bytes = b"before".to_vec();
        record.encode(&mut bytes).unwrap();
        let bytes = &bytes[6..];
        assert_eq!(bytes.len(), 132 + 5280 + 3 + 2 + 160);
        assert_eq!(&bytes[5412..5417], b"payme");
        assert_eq!((bytes[0], bytes[64..68].to_vec(), bytes[80]), (7, 5577u32.to_le_bytes().to_vec(), 1));
        let (back, used) = Record::decode(bytes).unwrap();
        assert_eq!((used, &back.context, &back.links), (5577, &record.context, &record.links));
        assert_eq!(back.to_bytes().unwrap(), bytes);
    }

    #[test]
    fn zeros_pass_the_checksum_and_are_refused_all_the_same() {
        let zeros = [0u8; FIXED_BYTES];
        assert_eq!(with_hole(&zeros, CHECKSUM_AT), 0);
        assert_eq!(Record::decode(&zeros).unwrap_err(), Reject::BadVersion { expected: 1, found: 0 });
    }

    #[test]
    fn limits_pass_and_one_over_is_refused_before_anything_is_written() {
        let of = |payload: usize, metadata: usize, links: usize| Record {
            payload: vec![1; payload].into(),
            metadata: vec![2; metadata].into(),
            links: vec![CausalityLink::default(); links],
            ..Record::default()
        };
        let most = of(PAYLOAD_BYTES_MAX, METADATA_BYTES_MAX, LINKS_MAX).to_bytes().unwrap();
        assert_eq!(most.len(), super::super::RECORD_BYTES_MAX);
        assert_eq!(Record::decode(&most).unwrap().1, most.len());
        let mut out = vec![9];
        for (record, name) in [
            (of(PAYLOAD_BYTES_MAX + 1, 0, 0), "payload_too_large"),
            (of(0, METADATA_BYTES_MAX + 1, 0), "metadata_too_large"),
            (of(0, 0, LINKS_MAX + 1), "too_many_links"),
        ] {
            assert_eq!(record.encode(&mut out).unwrap_err().name(), name);
            assert_eq!(out, [9]);
        }
    }
}
