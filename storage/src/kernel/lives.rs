//! Which life of the kernel's counters a record belongs to, from the newest records alone.

use super::layout::get;
use super::{CHECKSUM_AT, Instance};
use std::collections::VecDeque;

/// Records remembered.
const NEWEST_MAX: usize = 64;
/// Clock readings of neighbours may be out of order by this much, ns.
const SLACK_NS: i64 = 10_000_000;

/// The first record of a life is no more than this before the ones that came ahead of it, ns.
const FIRST_NS: i64 = 1_000_000_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Seen {
    event_id: u64,
    ktime: i64,
    checksum: u32,
}

/// See the module.
///
/// A number that comes again is the same record where its checksum is the same, and begins a new life where it is not. One
/// that was not seen and is smaller than the newest is a late record if it has neighbours among the newest and its time fits
/// between them. What comes again from further back begins a new life: a record may come twice then, but none is ever lost.
#[derive(Clone, Debug, Default)]
pub struct Lives {
    boot: Option<String>,
    number: u64,
    current: Option<Instance>,
    newest: VecDeque<Seen>,
    max_id: u64,
}

impl Lives {
    /// Nothing was seen yet. `boot` names the first life; without it each is known by its first record.
    pub fn new(boot: Option<&str>) -> Self {
        Lives { boot: boot.map(str::to_owned), ..Lives::default() }
    }

    /// The name that was given.
    pub fn boot(&self) -> Option<String> {
        self.boot.clone()
    }

    /// With this name instead.
    #[must_use]
    pub fn with_boot(self, boot: Option<String>) -> Self {
        Lives { boot, ..self }
    }

    /// How many lives were seen.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The next record begins a new life, whatever it is.
    pub fn end(&mut self) {
        self.current = None;
        self.newest.clear();
        self.max_id = 0;
    }

    /// The checksum of the newest record.
    pub fn newest_checksum(&self) -> Option<u32> {
        self.newest.back().map(|seen| seen.checksum)
    }

    /// Whether a record begins a new life.
    pub fn begins_with(&self, record: &[u8]) -> bool {
        let number = |at| u64::from_le_bytes(get(record, at));
        let checksum = u32::from_le_bytes(get(record, CHECKSUM_AT));
        self.begins(Seen { event_id: number(0), ktime: number(16) as i64, checksum })
    }

    /// Whether a record that stands where another one stood before can only be a later one of this life: its number is
    /// greater than all, and its time not smaller.
    pub fn goes_on_with(&self, record: &[u8]) -> bool {
        let (event_id, ktime) = (u64::from_le_bytes(get(record, 0)), i64::from_le_bytes(get(record, 16)));
        let newest = self.newest.iter().map(|s| s.ktime).max();
        self.current.is_some()
            && event_id > self.max_id
            && newest.is_none_or(|newest| newest <= ktime.saturating_add(SLACK_NS))
    }

    fn begins(&self, seen: Seen) -> bool {
        if self.current.is_none() {
            return true;
        }
        if seen.event_id > self.max_id {
            return false;
        }
        if let Some(known) = self.newest.iter().rev().find(|s| s.event_id == seen.event_id) {
            return known.checksum != seen.checksum;
        }
        let before = self.newest.iter().filter(|s| s.event_id < seen.event_id).max_by_key(|s| s.event_id);
        let after = self.newest.iter().filter(|s| s.event_id > seen.event_id).min_by_key(|s| s.event_id);
        let ends_before = after.is_some_and(|s| seen.ktime <= s.ktime.saturating_add(SLACK_NS));
        let begins_behind = match before {
            Some(s) => s.ktime <= seen.ktime.saturating_add(SLACK_NS),
            // Nothing of this life is forgotten yet, and it may be its first record.
            None if self.newest.len() < NEWEST_MAX => {
                after.is_some_and(|s| s.ktime.saturating_sub(seen.ktime) <= FIRST_NS)
            }
            // One from before all that is remembered could be taken for a repetition of another's number, and be lost.
            None => false,
        };
        !(begins_behind && ends_before)
    }

    /// The life of a record, and whether it begins with it.
    pub fn of(&mut self, record: &[u8], event_id: u64, ktime: i64, checksum: u32) -> (Instance, bool) {
        let is_new = self.begins(Seen { event_id, ktime, checksum });
        self.put(record, event_id, ktime, checksum, is_new)
    }

    /// The same where somebody remembers more records than these, and knows that this one begins no life.
    pub(super) fn of_known(&mut self, record: &[u8], event_id: u64, ktime: i64, checksum: u32) -> Instance {
        self.put(record, event_id, ktime, checksum, self.current.is_none()).0
    }

    fn put(
        &mut self,
        record: &[u8],
        event_id: u64,
        ktime: i64,
        checksum: u32,
        is_new: bool,
    ) -> (Instance, bool) {
        let seen = Seen { event_id, ktime, checksum };
        if is_new {
            self.number += 1;
            self.newest.clear();
            self.max_id = 0;
        }
        let instance = match self.current.take().filter(|_| !is_new) {
            Some(instance) => instance,
            None => match (&self.boot, self.number) {
                (None, _) => Instance::of_first_record(record),
                (Some(name), 1) => Instance::named(name),
                (Some(name), n) => Instance::named(&format!("{name}#{n}")),
            },
        };
        self.current = Some(instance.clone());
        self.max_id = self.max_id.max(event_id);
        if self.newest.len() >= NEWEST_MAX {
            self.newest.pop_front();
        }
        self.newest.push_back(seen);
        (instance, is_new)
    }

    /// As bytes that [`Lives::decode`] reads; at most 1,600.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (name, bits) = self.current.as_ref().map_or(("", u64::MAX), |i| (i.name(), i.bits()));
        let name = name.get(..name.len().min(255)).unwrap_or_default();
        for n in [self.number, self.max_id, bits] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        out.extend_from_slice(&[name.len() as u8, self.newest.len() as u8]);
        out.extend_from_slice(name.as_bytes());
        for seen in &self.newest {
            out.extend_from_slice(&seen.event_id.to_le_bytes());
            out.extend_from_slice(&seen.ktime.to_le_bytes());
            out.extend_from_slice(&seen.checksum.to_le_bytes());
        }
    }

    /// From the bytes of [`Lives::encode`], without the name that was given.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let (name_len, count) = (usize::from(*bytes.get(24)?), usize::from(*bytes.get(25)?));
        let (name, rest) = bytes.get(26..)?.split_at_checked(name_len)?;
        let name = std::str::from_utf8(name).ok()?;
        (rest.len() == count * 20).then_some(())?;
        let seen = |b: &[u8]| {
            Some(Seen {
                event_id: u64::from_le_bytes(b.get(..8)?.try_into().ok()?),
                ktime: i64::from_le_bytes(b.get(8..16)?.try_into().ok()?),
                checksum: u32::from_le_bytes(b.get(16..20)?.try_into().ok()?),
            })
        };
        let bits = number(16)?;
        Some(Lives {
            boot: None,
            number: number(0)?,
            max_id: number(8)?,
            current: (bits != u64::MAX).then(|| Instance::known(name, bits)),
            newest: rest.chunks_exact(20).filter_map(seen).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For each (id, ktime, checksum): the number of its life.
    fn lives(lives: &mut Lives, records: &[(u64, i64, u32)]) -> Vec<u64> {
        let mut number = |(id, ktime, sum): &(u64, i64, u32)| {
            lives.of(b"r", *id, *ktime, *sum);
            lives.number()
        };
        records.iter().map(&mut number).collect()
    }

    #[test]
    fn repetitions_and_late_records_belong_to_their_life_and_others_begin_one() {
        let second = 1_000_000_000;
        let mut all = Lives::new(Some("x"));
        let found =
            lives(&mut all, &[(2, second, 1), (4, 3 * second, 2), (2, second, 1), (3, 2 * second, 3)]);
        assert_eq!(found, [1; 4]);
        // Known number, other record; then a number that was missing, but at a time that does not fit.
        assert_eq!(lives(&mut all, &[(2, 5 * second, 9), (3, 6 * second, 8)]), [2, 2]);
        let mut again = all.clone();
        assert_eq!(lives(&mut again, &[(5, 7 * second, 1), (4, 9 * second, 1)]), [2, 3], "in the same boot");
        assert_eq!(lives(&mut all, &[(5, 7 * second, 1), (4, second, 1)]), [2, 3], "after a reboot");
    }

    #[test]
    fn it_goes_on_after_it_was_stored() {
        let mut all = Lives::new(None);
        lives(&mut all, &(2..200).map(|n| (n, n as i64, n as u32)).collect::<Vec<_>>());
        let mut bytes = Vec::new();
        all.encode(&mut bytes);
        assert!(bytes.len() < 1_600);
        let mut stored = Lives::decode(&bytes).unwrap();
        let (a, b) = (all.of(b"", 200, 200, 200).0, stored.of(b"", 200, 200, 200).0);
        assert_eq!(a, b);
        assert_eq!(lives(&mut stored, &[(199, 199, 199), (199, 199, 198)]), [1, 2]);
        for end in 0..bytes.len() {
            assert!(Lives::decode(&bytes[..end]).is_none(), "cut at {end}");
        }
    }
}
