//! Who an event of a kernel is: the kernel counts its ids anew at every boot, so identity is (boot instance, event id).
//!
//! Both are in a UUID of version 8: 58 bits that stand for the instance, and the 64 bits of the id. So the id can be
//! read back, and a link to an event that was never seen names it all the same.

use super::{EventHeader, Lives};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use uuid::Uuid;

/// One life of a kernel's counters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Instance {
    /// 58 bits.
    bits: u64,
    name: String,
}

impl Instance {
    /// The instance that somebody calls `name`, e.g. the boot id.
    pub fn named(name: &str) -> Self {
        Instance { bits: Self::hash(b"semj kernel boot v1", name.as_bytes()), name: name.to_owned() }
    }

    /// The instance that nobody named: it is known by the first record that was seen of it.
    pub fn of_first_record(record: &[u8]) -> Self {
        let bits = Self::hash(b"semj kernel first record v1", record);
        Instance { bits, name: format!("{bits:015x}") }
    }

    /// An instance that was known before, from its name and bits.
    pub fn known(name: &str, bits: u64) -> Self {
        Instance { bits: bits & (u64::MAX >> 6), name: name.to_owned() }
    }

    fn hash(tag: &[u8], input: &[u8]) -> u64 {
        let digest = Sha256::new().chain_update(tag).chain_update(input).finalize();
        u64::from_be_bytes(super::layout::get(&digest, 0)) >> 6
    }

    /// The name, or the 15 hexadecimal digits of the instance.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The 58 bits that stand for it in every id.
    pub fn bits(&self) -> u64 {
        self.bits
    }

    /// The id of its event with this number.
    pub fn event_id(&self, number: u64) -> Uuid {
        let high = (self.bits >> 10) << 16 | 0x8000 | (self.bits & 0x3FF) << 2 | number >> 62;
        let low = 0b10 << 62 | number & (u64::MAX >> 2);
        Uuid::from_u64_pair(high, low)
    }
}

/// The instance's bits and the event's number, where an id has that form. Other ids of version 8 have it too: the
/// bits tell whose it is.
pub fn split_id(id: Uuid) -> Option<(u64, u64)> {
    let (high, low) = id.as_u64_pair();
    let is_ours = high & 0xF000 == 0x8000 && low >> 62 == 0b10;
    is_ours.then_some(((high >> 16) << 10 | high >> 2 & 0x3FF, high << 62 | low & (u64::MAX >> 2)))
}

/// Finds out to which instance each record of a stream belongs: by [`Lives`], and with the memory of all that was read
/// of the current one, so that a record which comes again from far back is the same.
#[derive(Debug)]
pub struct Instances {
    lives: Lives,
    /// Checksums of the current instance's records by their numbers.
    seen: HashMap<u64, u32>,
}

impl Instances {
    /// With the name of the first instance, where somebody knows it; the second is then called `name#2`, and so on.
    pub fn new(name: Option<&str>) -> Self {
        Instances { lives: Lives::new(name), seen: HashMap::new() }
    }

    /// The instance of the next record.
    pub fn of(&mut self, header: &EventHeader, record: &[u8]) -> Instance {
        let EventHeader { event_id, ktime, checksum, .. } = *header;
        let instance = if self.seen.get(&event_id) == Some(&checksum) {
            self.lives.of_known(record, event_id, ktime, checksum)
        } else {
            let (instance, is_new) = self.lives.of(record, event_id, ktime, checksum);
            // A number that comes again with another record begins one, however far back the first was.
            let is_other = !is_new && self.seen.contains_key(&event_id);
            if is_new || is_other {
                self.seen.clear();
            }
            if is_other {
                self.lives.end();
                self.lives.of(record, event_id, ktime, checksum).0
            } else {
                instance
            }
        };
        self.seen.insert(event_id, checksum);
        instance
    }

    /// How many instances there were so far.
    pub fn count(&self) -> u64 {
        self.lives.number()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_8_and_can_be_read_back() {
        for instance in [Instance::named("a"), Instance::named("b"), Instance::of_first_record(b"r")] {
            for number in [0, 1, 2, u64::MAX >> 2, 1 << 62, u64::MAX - 1, u64::MAX] {
                let id = instance.event_id(number);
                assert_eq!((id.get_version_num(), id.get_variant()), (8, uuid::Variant::RFC4122));
                assert_eq!(split_id(id), Some((instance.bits(), number)));
            }
        }
        assert_ne!(Instance::named("a").event_id(1), Instance::named("b").event_id(1));
        assert_eq!(split_id(Uuid::new_v5(&Uuid::NAMESPACE_OID, b"x")), None);
        // Fixed for ever: another value would make every known record a new one.
        assert_eq!(Instance::named("boot").event_id(2).to_string(), "3507e0f4-8f2f-85b8-8000-000000000002");
    }

    fn header(event_id: u64, checksum: u32) -> EventHeader {
        EventHeader { event_id, ktime: 1_000 * event_id as i64, checksum, ..EventHeader::default() }
    }

    #[test]
    fn a_number_that_comes_again_with_another_record_begins_an_instance() {
        let mut all = Instances::new(Some("x"));
        let names: Vec<_> = [(2, 20), (3, 30), (2, 20), (5, 50), (3, 31), (4, 40), (3, 31)]
            .into_iter()
            .map(|(number, sum)| all.of(&header(number, sum), b"").name().to_owned())
            .collect();
        assert_eq!(names, ["x", "x", "x", "x", "x#2", "x#2", "x#2"]);
        let mut unnamed = Instances::new(None);
        let (a, b) = (unnamed.of(&header(2, 1), b"first"), unnamed.of(&header(2, 2), b"second"));
        assert_eq!((a, b), (Instance::of_first_record(b"first"), Instance::of_first_record(b"second")));
        assert_eq!(unnamed.count(), 2);
    }

    #[test]
    fn what_comes_again_from_far_back_is_the_same_record() {
        let mut all = Instances::new(Some("x"));
        let first = all.of(&header(2, 2), b"");
        (3..500).for_each(|n| drop(all.of(&header(n, n as u32), b"")));
        assert_eq!(all.of(&header(2, 2), b""), first);
        assert_eq!((all.of(&header(500, 500), b""), all.count()), (first, 1));
        assert_eq!(all.of(&header(90, 91), b"").name(), "x#2");
    }

    #[test]
    fn a_life_whose_first_record_was_lost_before_is_one_of_its_own() {
        // The first life lost its record 2; the second begins with it, much earlier in its boot.
        let mut all = Instances::new(Some("x"));
        let at =
            |event_id, ktime, checksum| EventHeader { event_id, ktime, checksum, ..EventHeader::default() };
        let second = 1_000_000_000;
        let records = [at(3, 9 * second, 3), at(4, 9 * second, 4), at(2, second, 22), at(3, second, 33)];
        let names = records.map(|r| all.of(&r, b"").name().to_owned());
        assert_eq!(names, ["x", "x", "x#2", "x#2"]);
    }
}
