//! A record in memory for tests: events, tombstones, damage, blocks with summaries.

use super::{BlockSummary, EventSource, Query, agent_bits};
use crate::error::{Damage, ReadError};
use crate::event::{Cause, Event, ResolvedCause, encode_body};
use crate::limits::BLOCK_BODY_BYTES_MAX;
use crate::log::entry::{EntryRef, FLAG_KEYED, FLAG_TOMBSTONE, UnitInfo, put_envelope, put_reference};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use uuid::Uuid;

/// Random numbers that a seed repeats.
#[derive(Clone)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    /// The seed in `SEMJ_SEED`, or a new one, printed so that a failure can be repeated.
    pub(crate) fn from_env(test: &str) -> Self {
        let given = std::env::var("SEMJ_SEED").ok().and_then(|s| s.parse().ok());
        let seed = given.unwrap_or_else(|| RandomState::new().hash_one(0u8) >> 16);
        println!("{test}: SEMJ_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A record in memory.
pub(crate) struct MockSource {
    unit: UnitInfo,
    entries: Vec<Vec<u8>>,
    ids: HashMap<Uuid, u64>,
    locals: HashMap<Vec<u8>, u64>,
    /// Last sequence of each block but the open one.
    cuts: Vec<u64>,
    pub(crate) first: u64,
    pub(crate) damaged: Vec<(u64, u64)>,
    /// Damaged ranges whose blocks' headers are intact.
    pub(crate) headers_intact: bool,
    pub(crate) entries_read: AtomicU64,
    /// Made at the first question; a source does not change once it is asked.
    summaries: OnceLock<Vec<BlockSummary>>,
}

impl MockSource {
    pub(crate) fn new(nonce: u64) -> Self {
        Self {
            unit: UnitInfo { id_nonce: nonce, ..UnitInfo::default() },
            entries: Vec::new(),
            ids: HashMap::new(),
            locals: HashMap::new(),
            cuts: Vec::new(),
            first: 1,
            damaged: Vec::new(),
            headers_intact: false,
            entries_read: AtomicU64::new(0),
            summaries: OnceLock::new(),
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(crate) fn id(&self, sequence: u64) -> Uuid {
        self.entry(sequence).id()
    }

    /// Ends the block in progress.
    pub(crate) fn cut(&mut self) {
        if self.cuts.last().copied().unwrap_or(0) < self.len() {
            self.cuts.push(self.len());
        }
    }

    pub(crate) fn push(&mut self, event: Event<'static>) -> u64 {
        let sequence = self.len() + 1;
        let mut body = Vec::new();
        encode_body(&event, &mut body).unwrap();
        let causes: Vec<_> = event
            .causes()
            .map(|cause| match cause {
                Cause::Sequence(n) => ResolvedCause { id: self.id(n), sequence: Some(n) },
                Cause::Id(id) => ResolvedCause { id, sequence: self.ids.get(&id).copied() },
            })
            .collect();
        let local = self.locals.entry(event.stream_or_default().to_vec()).or_default();
        *local += 1;
        let (flags, key) = event.given_id().map_or((0, None), |id| (FLAG_KEYED, Some((id, [1; 16]))));
        let mut bytes = Vec::new();
        let boot_ns = sequence as i64 * 1_000;
        put_envelope(&mut bytes, flags, causes.len() as u16, body.len() as u32, *local, boot_ns, key);
        bytes.extend_from_slice(&body);
        causes.into_iter().for_each(|c| put_reference(&mut bytes, c));
        self.entries.push(bytes);
        self.ids.insert(self.id(sequence), sequence);
        sequence
    }

    pub(crate) fn extend(&mut self, events: impl IntoIterator<Item = Event<'static>>) {
        events.into_iter().for_each(|event| {
            self.push(event);
        });
    }

    /// A sequence without content.
    pub(crate) fn push_tombstone(&mut self) {
        let mut bytes = Vec::new();
        put_envelope(&mut bytes, FLAG_TOMBSTONE, 0, 0, 0, 0, None);
        self.entries.push(bytes);
    }

    /// An intact entry whose body is none.
    pub(crate) fn push_unreadable(&mut self) {
        let mut bytes = Vec::new();
        put_envelope(&mut bytes, 0, 0, 1, 1, 0, None);
        bytes.push(0xC1);
        self.entries.push(bytes);
    }

    pub(crate) fn entry(&self, sequence: u64) -> EntryRef<'_> {
        EntryRef::parse(&self.entries[sequence as usize - 1], sequence, self.unit).unwrap()
    }

    pub(crate) fn is_damaged(&self, sequence: u64) -> bool {
        self.damaged.iter().any(|(a, b)| (*a..=*b).contains(&sequence))
    }

    /// All matches among what can be read, by looking at everything; order and limit do not count.
    pub(crate) fn naive(&self, query: &Query) -> Vec<u64> {
        let readable = (self.first..=self.len()).filter(|s| !self.is_damaged(*s)).map(|s| self.entry(s));
        readable
            .filter(|e| e.event().is_some_and(|event| query.matches(e, &event)))
            .map(|e| e.sequence)
            .collect()
    }

    fn summary(&self, first: u64, last: u64) -> BlockSummary {
        let mut block = BlockSummary {
            first_sequence: first,
            last_sequence: last,
            types: 0,
            time_min: i64::MAX,
            time_max: i64::MIN,
            agents: [0; 32],
        };
        for entry in (first..=last).map(|s| self.entry(s)) {
            let Some(event) = entry.event() else { continue };
            block.types |= 1 << event.event_type().summary_bit();
            if let Some(time) = entry.time(&event) {
                block.time_min = block.time_min.min(time.0);
                block.time_max = block.time_max.max(time.0);
            }
            for text in [event.agent_text(), event.session_text()].into_iter().flatten() {
                block.agents.iter_mut().zip(agent_bits(text.as_bytes())).for_each(|(a, b)| *a |= b);
            }
        }
        block
    }
}

impl EventSource for MockSource {
    fn first_sequence(&self) -> u64 {
        self.first
    }

    fn last_sequence(&self) -> u64 {
        self.len()
    }

    fn blocks(&self, first: u64, last: u64) -> Result<Vec<BlockSummary>, ReadError> {
        let all = self.summaries.get_or_init(|| {
            let mut start = 1;
            let mut blocks = Vec::new();
            for end in self.cuts.iter().copied().chain([self.len()]) {
                let hurt = !self.headers_intact && (start..=end).any(|s| self.is_damaged(s));
                if start <= end && !hurt {
                    blocks.push(self.summary(start, end));
                }
                start = end + 1;
            }
            blocks
        });
        Ok(all.iter().filter(|b| b.first_sequence <= last && b.last_sequence >= first).copied().collect())
    }

    fn read(
        &self,
        first: u64,
        last: u64,
        visit: &mut dyn FnMut(&EntryRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        if first < self.first {
            return Err(ReadError::Retained { horizon: self.first - 1 });
        }
        for sequence in first..=last.min(self.len()) {
            if let Some((a, b)) = self.damaged.iter().find(|(a, b)| (*a..=*b).contains(&sequence)) {
                return Err(ReadError::from(Damage {
                    segment: PathBuf::from("mock"),
                    offset: 0,
                    length: BLOCK_BODY_BYTES_MAX as u64,
                    first_sequence: *a,
                    last_sequence: *b,
                    reason: "made for a test".into(),
                }));
            }
            self.entries_read.fetch_add(1, Ordering::Relaxed);
            if visit(&self.entry(sequence)).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn find_id(&self, id: &Uuid) -> Result<Option<u64>, ReadError> {
        Ok(self.ids.get(id).copied())
    }
}
