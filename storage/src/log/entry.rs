//! One event inside a commit unit: a fixed envelope, the body, and what its references stand for.
//!
//! ```text
//!  0  u8   flags: 1 = id given by the caller, 2 = engine's own, 4 = tombstone
//!  1  u8   0
//!  2  u16  number of resolved references (26 bytes each, at the end)
//!  4  u32  length of the body
//!  8  u64  local sequence
//! 16  i64  boot-time clock at emission, ns
//! 24  [16] id, [16] content digest      only with flag 1
//! ..       body (MessagePack)
//! ..       references: u16 0, u64 sequence (0: foreign), [16] id; in the order of `Event::causes`
//! ```

use crate::event::{Event, Recorded, ResolvedCause, Timestamp, decode_body};
use uuid::Uuid;

/// The caller gave the id.
pub const FLAG_KEYED: u8 = 1;
/// The engine emitted the event itself.
pub const FLAG_ENGINE: u8 = 2;
/// The event was shed or set aside: a sequence without content.
pub const FLAG_TOMBSTONE: u8 = 4;

/// Length of the envelope without an id.
pub const ENVELOPE_BYTES: usize = 24;
/// Length of id and digest, where the caller gave the id.
pub const KEY_BYTES: usize = 32;
/// Length of one resolved reference.
pub const REFERENCE_BYTES: usize = 26;

/// What all events of a commit unit share.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct UnitInfo {
    /// Random part of derived ids.
    pub id_nonce: u64,
    /// When the unit was handed to the disk.
    pub recorded: Timestamp,
    /// Wall clock minus boot-time clock when the unit was made, ns.
    pub wall_offset_ns: i64,
    /// Which boot.
    pub boot_id: Uuid,
}

impl UnitInfo {
    /// The id of an event whose caller gave none: 60 bits of nonce and the sequence, as UUID version 8.
    pub fn derived_id(&self, sequence: u64) -> Uuid {
        let high = (self.id_nonce & 0xFFFF_FFFF_FFFF_0000) | 0x8000 | ((self.id_nonce >> 4) & 0x0FFF);
        Uuid::from_u64_pair(high, (0b10 << 62) | (sequence & !(0b11 << 62)))
    }
}

/// The sequence that a derived id would have; `None` for an id that cannot be derived.
pub fn derived_sequence(id: &Uuid) -> Option<u64> {
    let (high, low) = id.as_u64_pair();
    (high & 0xF000 == 0x8000 && low >> 62 == 0b10).then_some(low & !(0b11 << 62))
}

/// One stored event, borrowed from its block.
#[derive(Clone, Copy, Debug)]
pub struct EntryRef<'a> {
    /// Place in the one order.
    pub sequence: u64,
    /// Place in its stream's order.
    pub local_sequence: u64,
    /// Boot-time clock at emission, ns.
    pub boot_ns: i64,
    /// `FLAG_` bits.
    pub flags: u8,
    /// The caller's id, if one was given.
    pub given_id: Option<Uuid>,
    /// Digest of the content; zero unless an id was given.
    pub digest: [u8; 16],
    /// The body; empty for a tombstone.
    pub body: &'a [u8],
    /// The resolved references, still encoded.
    pub references: &'a [u8],
    /// What the unit's events share.
    pub unit: UnitInfo,
}

impl<'a> EntryRef<'a> {
    /// Splits the bytes of one entry; `None` when they do not add up.
    pub fn parse(bytes: &'a [u8], sequence: u64, unit: UnitInfo) -> Option<Self> {
        let (envelope, rest) = bytes.split_at_checked(ENVELOPE_BYTES)?;
        let flags = *envelope.first()?;
        if flags & !(FLAG_KEYED | FLAG_ENGINE | FLAG_TOMBSTONE) != 0 || *envelope.get(1)? != 0 {
            return None;
        }
        let references = usize::from(u16::from_le_bytes(envelope.get(2..4)?.try_into().ok()?));
        let body_len = u32::from_le_bytes(envelope.get(4..8)?.try_into().ok()?) as usize;
        let local_sequence = u64::from_le_bytes(envelope.get(8..16)?.try_into().ok()?);
        let boot_ns = i64::from_le_bytes(envelope.get(16..24)?.try_into().ok()?);
        let (given_id, digest, rest) = if flags & FLAG_KEYED != 0 {
            let (key, rest) = rest.split_at_checked(KEY_BYTES)?;
            let (id, digest) = key.split_at_checked(16)?;
            (Some(Uuid::from_slice(id).ok()?), digest.try_into().ok()?, rest)
        } else {
            (None, [0; 16], rest)
        };
        let (body, rest) = rest.split_at_checked(body_len)?;
        (rest.len() == references * REFERENCE_BYTES).then_some(EntryRef {
            sequence,
            local_sequence,
            boot_ns,
            flags,
            given_id,
            digest,
            body,
            references: rest,
            unit,
        })
    }

    /// Whether it is a sequence without content.
    pub fn is_tombstone(&self) -> bool {
        self.flags & FLAG_TOMBSTONE != 0
    }

    /// The id: the one given, else the derived one.
    pub fn id(&self) -> Uuid {
        self.given_id.unwrap_or_else(|| self.unit.derived_id(self.sequence))
    }

    /// When it was emitted, by the wall clock.
    pub fn emitted(&self) -> Timestamp {
        Timestamp(self.boot_ns.saturating_add(self.unit.wall_offset_ns))
    }

    /// The event, borrowing text from the block; `None` when the body does not decode.
    pub fn event(&self) -> Option<Event<'a>> {
        decode_body(self.body).ok()
    }

    /// The effective time of `event`, which must be this entry's; `None` where its log knew none.
    pub fn time(&self, event: &Event<'_>) -> Option<Timestamp> {
        Recorded::time_of(event, self.emitted())
    }

    /// What the references stand for.
    pub fn causes(&self) -> impl Iterator<Item = ResolvedCause> + 'a {
        self.references.chunks_exact(REFERENCE_BYTES).filter_map(|r| {
            let sequence = u64::from_le_bytes(r.get(2..10)?.try_into().ok()?);
            let id = Uuid::from_slice(r.get(10..26)?).ok()?;
            Some(ResolvedCause { id, sequence: (sequence != 0).then_some(sequence) })
        })
    }

    /// The event with its place in the order, owning its bytes. `event` must be this entry's.
    pub fn recorded(&self, event: Event<'_>) -> Recorded {
        let time = self.time(&event);
        let mut event = event.into_owned();
        event.id = self.given_id;
        Recorded {
            sequence: self.sequence,
            local_sequence: self.local_sequence,
            id: self.id(),
            event,
            time,
            recorded: self.unit.recorded,
            boot_ns: self.boot_ns,
            boot_id: self.unit.boot_id,
            causes: self.causes().collect(),
        }
    }
}

/// Appends the envelope and key of an entry; the body and the references follow.
pub fn put_envelope(
    out: &mut Vec<u8>,
    flags: u8,
    references: u16,
    body_len: u32,
    local_sequence: u64,
    boot_ns: i64,
    key: Option<(Uuid, [u8; 16])>,
) {
    out.extend_from_slice(&[flags, 0]);
    out.extend_from_slice(&references.to_le_bytes());
    out.extend_from_slice(&body_len.to_le_bytes());
    out.extend_from_slice(&local_sequence.to_le_bytes());
    out.extend_from_slice(&boot_ns.to_le_bytes());
    if let Some((id, digest)) = key {
        out.extend_from_slice(id.as_bytes());
        out.extend_from_slice(&digest);
    }
}

/// Appends one resolved reference.
pub fn put_reference(out: &mut Vec<u8>, cause: ResolvedCause) {
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&cause.sequence.unwrap_or(0).to_le_bytes());
    out.extend_from_slice(cause.id.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::encode_body;

    #[test]
    fn entries_survive_and_every_cut_is_refused() {
        let event = Event::decision("x").agent("a").parent(Uuid::from_u128(9)).root(3u64);
        let mut body = Vec::new();
        encode_body(&event, &mut body).unwrap();
        let causes = [
            ResolvedCause { id: Uuid::from_u128(9), sequence: None },
            ResolvedCause { id: Uuid::from_u128(8), sequence: Some(3) },
        ];
        let key = Some((Uuid::from_u128(77), [5; 16]));
        let mut bytes = Vec::new();
        put_envelope(&mut bytes, FLAG_KEYED, 2, body.len() as u32, 12, -4, key);
        bytes.extend_from_slice(&body);
        causes.into_iter().for_each(|c| put_reference(&mut bytes, c));
        let unit = UnitInfo { wall_offset_ns: 1_000, ..UnitInfo::default() };
        let entry = EntryRef::parse(&bytes, 40, unit).unwrap();
        let recorded = entry.recorded(entry.event().unwrap());
        assert_eq!((recorded.sequence, recorded.local_sequence, recorded.id), (40, 12, Uuid::from_u128(77)));
        assert_eq!((recorded.parent(), recorded.root()), (Some(causes[0]), Some(causes[1])));
        assert_eq!(recorded.time, Some(Timestamp(996)));
        for end in 0..bytes.len() {
            assert!(EntryRef::parse(&bytes[..end], 40, unit).is_none(), "cut at {end}");
        }
    }

    #[test]
    fn derived_ids_name_their_sequence() {
        for nonce in [0, u64::MAX, 0x0123_4567_89AB_CDEF] {
            let unit = UnitInfo { id_nonce: nonce, ..UnitInfo::default() };
            for sequence in [1, 4_096, u64::MAX >> 2] {
                let id = unit.derived_id(sequence);
                assert_eq!((id.get_version_num(), derived_sequence(&id)), (8, Some(sequence)));
            }
        }
        assert_eq!(derived_sequence(&Uuid::new_v4()), None);
    }
}
