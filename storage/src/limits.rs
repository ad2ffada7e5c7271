//! Every limit of the engine in one place. A value equal to a limit passes; one over it is refused by name.

/// Largest payload of an event: bytes of compact JSON, or raw bytes.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// Largest content kept beside the record, in bytes.
pub const BLOB_BYTES_MAX: u64 = 1 << 30;
/// Largest metadata object of an event, in bytes of compact JSON.
pub const METADATA_BYTES_MAX: usize = 2_048;
/// Longest text field (agent, session, path, ...), in bytes.
pub const TEXT_BYTES_MAX: usize = 4 << 10;
/// Longest `name` and longest link `kind`, in bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// Most tags on one event.
pub const TAGS_MAX: usize = 64;
/// Longest tag, in bytes.
pub const TAG_BYTES_MAX: usize = 256;
/// Most causality links on one event.
pub const LINKS_MAX: usize = 256;
/// Largest encoded event (all fields together), in bytes.
pub const EVENT_BYTES_MAX: usize = (1 << 20) + (1 << 18);
/// Deepest JSON nesting; the event object itself is level 1.
pub const NESTING_MAX: usize = 128;
/// Longest line of JSON input, in bytes.
pub const LINE_BYTES_MAX: usize = 8 << 20;
/// Most events in one group or batch.
pub const BATCH_EVENTS_MAX: usize = 8_192;
/// Most bytes of encoded events in one group or batch.
pub const BATCH_BYTES_MAX: usize = 4 << 20;
/// Most bytes of control records in one group; they count against its batch.
pub const CONTROL_BYTES_MAX: usize = 256 << 10;
/// Most admitted, uncommitted events in the ledger.
pub const LEDGER_EVENTS_MAX: usize = 65_536;
/// Most bytes of admitted, uncommitted events in the ledger.
pub const LEDGER_BYTES_MAX: usize = 64 << 20;
/// Size at which a segment is sealed, in bytes.
pub const SEGMENT_BYTES: u64 = 64 << 20;
/// Largest uncompressed body of a block; checked before anything is decompressed.
pub const BLOCK_BODY_BYTES_MAX: usize = 16 << 20;
/// Longest key in a sled tree, in bytes.
pub const TREE_KEY_BYTES_MAX: usize = 256;
/// Longest value in a sled tree, in bytes: larger ones would reach files that sled never syncs.
pub const TREE_VALUE_BYTES_MAX: usize = 4 << 10;
/// Sequences covered by one chunk of postings.
pub const CHUNK_EVENTS: u64 = 4_096;

// A full event must fit a batch, a full batch must fit a block with its tables, and a block must fit a segment.
const _: () = {
    assert!(PAYLOAD_BYTES_MAX + METADATA_BYTES_MAX < EVENT_BYTES_MAX);
    assert!(TAGS_MAX * TAG_BYTES_MAX + 16 * TEXT_BYTES_MAX < EVENT_BYTES_MAX - PAYLOAD_BYTES_MAX);
    assert!(EVENT_BYTES_MAX < BATCH_BYTES_MAX);
    assert!(BATCH_BYTES_MAX + BATCH_EVENTS_MAX * 1024 < BLOCK_BODY_BYTES_MAX);
    assert!((BLOCK_BODY_BYTES_MAX as u64) < SEGMENT_BYTES);
    // An event of a unit has a place that a control record can name, and its run of source sequences has room.
    assert!(BATCH_EVENTS_MAX <= 1 << 16 && CONTROL_BYTES_MAX >= BATCH_EVENTS_MAX * 16 + (64 << 10));
    assert!(CONTROL_BYTES_MAX < BATCH_BYTES_MAX);
    assert!(BATCH_EVENTS_MAX <= LEDGER_EVENTS_MAX && BATCH_BYTES_MAX <= LEDGER_BYTES_MAX);
    assert!(NAME_BYTES_MAX <= TEXT_BYTES_MAX && TAG_BYTES_MAX <= TEXT_BYTES_MAX);
    assert!(CHUNK_EVENTS <= 1 << 16);
};
