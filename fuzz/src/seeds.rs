//! First inputs: small, each of another form, and always the same.

use super::mend;
use semj_storage::kernel::{
    CausalityLink, Context, EventHeader, Padded, Record, UserspaceHeader, encode_block,
};

fn record(event_id: u64, event_type: u32, payload: &[u8], metadata: &[u8], links: u64) -> Record<'static> {
    Record {
        header: EventHeader {
            event_id,
            event_type,
            ktime: 1_000 * event_id.cast_signed(),
            sequence: event_id,
            global_sequence: event_id,
            local_sequence: event_id,
            event_priority: 3,
            root_cause_event_id: event_id,
            parent_event_id: links,
            agent_visibility_mask: u64::MAX,
            agent_relevance_score: 50,
            replay_priority: 3,
            ..EventHeader::default()
        },
        context: Context {
            path: Padded::cut(b"/srv/data/a.txt".to_vec()),
            agent_id: Padded::cut(b"planner".to_vec()),
            semantic_intent: Padded::cut(b"run the tests".to_vec()),
            ..Context::default()
        },
        payload: payload.to_vec().into(),
        metadata: metadata.to_vec().into(),
        links: (1..=links)
            .map(|n| CausalityLink {
                cause_event_id: n,
                effect_event_id: event_id,
                ..CausalityLink::default()
            })
            .collect(),
    }
}

/// All of them.
pub fn all() -> Vec<Vec<u8>> {
    let mut found: Vec<Vec<u8>> = vec![vec![], vec![0; 132], mend::record(&[0xFF; 5_700])];
    let parts: [(u32, &[u8], &[u8], u64); 7] = [
        (0x0101, b"", b"", 0),
        (0x0204, br#"{"a": 1, "a": 2}"#, b"", 0),
        (0x0301, &[0, 0, 128, 63], b"{}", 1),
        (0x0402, br#"{"model":"local","tokens":512}"#, b"", 3),
        (0x0701, b"\xFF\xFE", b"\x00metadata", 2),
        (0x0805, "plain text, причина".as_bytes(), &[b'm'; 2_048], 0),
        (0xFFFF_FFFF, &[b'x'; 3_000], b"", 0),
    ];
    for ((event_type, payload, metadata, links), id) in parts.into_iter().zip(2..) {
        found.extend(record(id, event_type, payload, metadata, links).to_bytes());
    }
    let records: Vec<u8> = found.iter().skip(3).take(3).flatten().copied().collect();
    let mut blocks = UserspaceHeader::new(3, 5, 0).encode().to_vec();
    if encode_block(1, &records, &mut blocks).is_ok() {
        found.push(blocks.split_off(80));
    }
    let mut page = vec![0; 4_096];
    page[..8].copy_from_slice(&[0x52, 0x4F, 0x54, 0x53, 1, 0, 0, 0]);
    (page[16], page[20], page[84]) = (1, 64, 64);
    found.push(page);
    found
}
