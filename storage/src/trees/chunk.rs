//! The postings of one chunk in memory, built event by event.

use super::bits::OFFSET_MAX;
use super::index::{chunk_first, offset_of};
use super::{Bits, ChunkMeta, ChunkView, Kind, TreeError, Wanted, cut, fingerprint};
use crate::event::{Event, Text};
use crate::limits::CHUNK_EVENTS;
use crate::log::entry::EntryRef;
use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

/// What one kind's dictionary may cost in memory; beyond it places are kept without their values.
const KIND_BYTES_MAX: usize = 2 << 20;
/// What a value costs beside its bytes, and a place.
const VALUE_COST: usize = 64;
const PLACE_COST: usize = 2;
/// From this many places on a bitmap is smaller than a list.
const LIST_MAX: usize = Bits::BYTES / PLACE_COST;

/// The places of one value, ascending.
#[derive(Clone, Debug)]
pub(crate) enum Places {
    /// Many values occur once; they should not cost an allocation.
    One(u16),
    List(Vec<u16>),
    Bitmap(Box<Bits>),
}

impl Places {
    /// Adds a place that is not before the last one; answers whether it was new.
    fn push(&mut self, offset: u16) -> bool {
        match self {
            Places::One(only) if *only == offset => return false,
            Places::One(only) => *self = Places::List(vec![*only, offset]),
            Places::List(list) if list.last() == Some(&offset) => return false,
            Places::List(list) if list.len() < LIST_MAX => list.push(offset),
            Places::List(list) => {
                let mut bits = Box::new(Bits::EMPTY);
                list.iter().for_each(|o| bits.insert(*o));
                bits.insert(offset);
                *self = Places::Bitmap(bits);
            }
            Places::Bitmap(bits) => bits.insert(offset),
        }
        true
    }

    /// All places in order.
    pub(crate) fn offsets(&self) -> Cow<'_, [u16]> {
        match self {
            Places::One(only) => Cow::Borrowed(std::slice::from_ref(only)),
            Places::List(list) => Cow::Borrowed(list),
            Places::Bitmap(bits) => Cow::Owned(bits.iter().collect()),
        }
    }

    fn add_to(&self, into: &mut Bits) {
        match self {
            Places::One(only) => into.insert(*only),
            Places::List(list) => list.iter().for_each(|o| into.insert(*o)),
            Places::Bitmap(bits) => into.union(bits),
        }
    }
}

#[derive(Clone, Debug)]
struct Value {
    bytes: Box<[u8]>,
    places: Places,
    /// The value before with the same hash.
    next: Option<u32>,
}

/// A hasher of what is a hash.
#[derive(Clone, Copy, Debug, Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|b| self.0 = self.0.rotate_left(8) ^ u64::from(*b));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// The values of one kind. Found by hash; a value is often the one before, which costs one comparison.
#[derive(Clone, Debug, Default)]
struct Dictionary {
    values: Vec<Value>,
    /// The newest value with a hash; the hash is keyed already, so it is not hashed again.
    by_hash: HashMap<u64, u32, BuildHasherDefault<Same>>,
    latest: u32,
    cost: usize,
    overflow: Option<Box<Bits>>,
}

impl Dictionary {
    fn find(&self, hash: u64, value: &[u8]) -> Option<u32> {
        let mut at = self.by_hash.get(&hash).copied();
        while let Some(index) = at {
            let candidate = self.values.get(index as usize)?;
            if *candidate.bytes == *value {
                return Some(index);
            }
            at = candidate.next;
        }
        None
    }

    fn add(&mut self, hasher: &RandomState, value: &[u8], offset: u16) {
        let value = cut(value);
        let again = self.values.get_mut(self.latest as usize).filter(|v| *v.bytes == *value);
        if let Some(known) = again.filter(|_| self.cost < KIND_BYTES_MAX) {
            self.cost += if known.places.push(offset) { PLACE_COST } else { 0 };
            return;
        }
        let hash = hasher.hash_one(&*value);
        let found = self.find(hash, &value);
        let more = PLACE_COST + if found.is_none() { VALUE_COST + value.len() } else { 0 };
        if self.cost + more > KIND_BYTES_MAX {
            self.overflow.get_or_insert_with(Box::default).insert(offset);
            return;
        }
        match found.and_then(|index| self.values.get_mut(index as usize)) {
            Some(known) => {
                known.places.push(offset);
            }
            None => {
                let next = self.by_hash.insert(hash, self.values.len() as u32);
                self.values.push(Value { bytes: value.into(), places: Places::One(offset), next });
            }
        }
        self.cost += more;
        self.latest = found.unwrap_or(self.values.len() as u32 - 1);
    }
}

/// The postings of one chunk in memory. Its size is bounded whatever the events hold.
#[derive(Clone, Debug)]
pub struct ChunkPostings {
    chunk: u64,
    meta: ChunkMeta,
    hasher: RandomState,
    kinds: [Dictionary; super::KINDS],
}

impl ChunkPostings {
    /// Empty postings of the chunk with this number.
    pub fn new(chunk: u64) -> Self {
        Self { chunk, meta: ChunkMeta::default(), hasher: RandomState::new(), kinds: Default::default() }
    }

    /// Which chunk.
    pub fn chunk(&self) -> u64 {
        self.chunk
    }

    /// The next sequence it waits for.
    pub fn next_sequence(&self) -> u64 {
        chunk_first(self.chunk) + u64::from(self.meta.events)
    }

    /// Whether all of its sequences were looked at.
    pub fn is_complete(&self) -> bool {
        u64::from(self.meta.events) == CHUNK_EVENTS
    }

    /// Takes note that no sequence before this one exists or can be read: a query must look for itself.
    ///
    /// Sequences of other chunks are cut off.
    pub fn skip_to(&mut self, sequence: u64) {
        let next = self.next_sequence();
        let end = chunk_first(self.chunk) + CHUNK_EVENTS;
        if sequence > next && next < end {
            let last = sequence.min(end) - 1;
            self.meta.unread.insert_range(offset_of(next), offset_of(last));
            self.meta.events = offset_of(last) + 1;
        }
    }

    /// Takes note of the next sequence; one before it that was left out counts as unread.
    ///
    /// Answers whether the sequence was due: one that was seen already, or of another chunk, changes nothing.
    fn advance(&mut self, sequence: u64) -> Option<u16> {
        self.skip_to(sequence);
        if self.is_complete() || self.next_sequence() != sequence {
            return None;
        }
        self.meta.events += 1;
        Some(offset_of(sequence))
    }

    /// Takes note of an event that has a place and no content, or none that can be read.
    pub fn add_bare(&mut self, entry: &EntryRef<'_>) {
        if let Some(offset) = self.advance(entry.sequence).filter(|_| !entry.is_tombstone()) {
            self.meta.unread.insert(offset);
        }
    }

    /// Adds an event; `event` must be the entry's.
    pub fn add(&mut self, entry: &EntryRef<'_>, event: &Event<'_>) {
        let Some(offset) = self.advance(entry.sequence) else { return };
        let hasher = &self.hasher;
        let [
            kind_type,
            name,
            agent,
            stream,
            session,
            path,
            transaction,
            tag,
            priority,
            source,
            cause,
            effect,
            id,
        ] = &mut self.kinds;
        let put = |dictionary: &mut Dictionary, value: &[u8]| dictionary.add(hasher, value, offset);
        put(kind_type, &event.event_type().code().to_be_bytes());
        put(priority, &event.priority_value().code().to_be_bytes());
        put(stream, event.stream_or_default());
        put(source, event.source_text().and_then(Text::as_str).unwrap_or("user").as_bytes());
        for (dictionary, value) in [
            (name, event.name_text()),
            (agent, event.agent_text()),
            (session, event.session_text()),
            (path, event.path_text()),
            (transaction, event.transaction_text()),
        ] {
            if let Some(text) = value {
                put(dictionary, text.as_bytes());
            }
        }
        event.tags().iter().for_each(|t| put(tag, t.as_bytes()));
        if let Some(given) = &entry.given_id {
            put(id, &fingerprint(given));
        }
        let mut resolved = entry.causes();
        let single = usize::from(event.parent_cause().is_some()) + usize::from(event.root_cause().is_some());
        resolved.by_ref().take(single).for_each(|c| put(cause, &fingerprint(&c.id)));
        for link in event.links() {
            if let Some(c) = resolved.next() {
                put(cause, &fingerprint(&c.id));
            }
            if let Some(e) = link.effect.and_then(|_| resolved.next()) {
                put(effect, &fingerprint(&e.id));
            }
        }
        if let Some(time) = entry.time(event) {
            self.meta.times.add(offset, time.0);
        }
        self.note_overflow();
    }

    fn note_overflow(&mut self) {
        for (bit, dictionary) in self.kinds.iter().enumerate() {
            self.meta.overflowed |= u16::from(dictionary.overflow.is_some()) << bit;
        }
    }

    /// The values of one kind in the order of their bytes.
    pub(crate) fn sorted(&self, kind: Kind) -> Vec<(&[u8], &Places)> {
        let values = self.kinds.get(kind.index()).map(|d| d.values.as_slice()).unwrap_or_default();
        let mut sorted: Vec<_> = values.iter().map(|v| (&*v.bytes, &v.places)).collect();
        sorted.sort_unstable_by_key(|(value, _)| *value);
        sorted
    }

    /// Places of one kind whose values were not kept.
    pub(crate) fn overflow(&self, kind: Kind) -> Bits {
        self.kinds.get(kind.index()).and_then(|d| d.overflow.as_deref()).copied().unwrap_or_default()
    }

    /// What the dictionaries cost in memory, about, in bytes.
    pub fn cost(&self) -> usize {
        self.kinds.iter().map(|d| d.cost).sum()
    }
}

impl ChunkView for ChunkPostings {
    fn meta(&self) -> &ChunkMeta {
        &self.meta
    }

    fn lookup(&self, kind: Kind, wanted: &Wanted, into: &mut Bits) -> Result<(), TreeError> {
        let Some(dictionary) = self.kinds.get(kind.index()) else { return Ok(()) };
        let (target, is_prefix) = wanted.target();
        if is_prefix {
            let under = dictionary.values.iter().filter(|v| v.bytes.starts_with(&target));
            under.for_each(|v| v.places.add_to(into));
        } else {
            let found = dictionary.find(self.hasher.hash_one(&*target), &target);
            if let Some(value) = found.and_then(|index| dictionary.values.get(index as usize)) {
                value.places.add_to(into);
            }
        }
        if let Some(overflow) = &dictionary.overflow {
            into.union(overflow);
        }
        Ok(())
    }
}

const _: () = assert!(OFFSET_MAX as u64 + 1 == CHUNK_EVENTS);
