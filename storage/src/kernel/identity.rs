//! Who an event of a kernel is: the kernel counts its ids anew at every boot, so identity is (boot instance, event id).
//!
//! Both are in a UUID of version 8: 58 bits that stand for the instance, and the 64 bits of the id. So the id can be
//! read back, and a link to an event that was never seen names it all the same.

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

/// Finds out to which instance each record of a stream belongs. An id that comes again with another record proves that
/// the kernel began to count anew.
#[derive(Debug)]
pub struct Instances {
    given: Option<String>,
    current: Option<Instance>,
    begun: u64,
    /// Checksums of the current instance's records by their numbers.
    seen: HashMap<u64, u32>,
}

impl Instances {
    /// With the name of the first instance, where somebody knows it; the second is then called `name#2`, and so on.
    pub fn new(name: Option<&str>) -> Self {
        Instances { given: name.map(str::to_owned), current: None, begun: 0, seen: HashMap::new() }
    }

    /// The instance of the next record.
    pub fn of(&mut self, number: u64, checksum: u32, record: &[u8]) -> Instance {
        let begins_anew = self.seen.get(&number).is_some_and(|known| *known != checksum);
        let instance = match &self.current {
            Some(current) if !begins_anew => current.clone(),
            _ => {
                self.seen.clear();
                self.begun += 1;
                match (&self.given, self.begun) {
                    (None, _) => Instance::of_first_record(record),
                    (Some(name), 1) => Instance::named(name),
                    (Some(name), n) => Instance::named(&format!("{name}#{n}")),
                }
            }
        };
        self.seen.insert(number, checksum);
        self.current = Some(instance.clone());
        instance
    }

    /// How many instances there were so far.
    pub fn count(&self) -> u64 {
        self.begun
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

    #[test]
    fn a_number_that_comes_again_with_another_record_begins_an_instance() {
        let mut all = Instances::new(Some("x"));
        let names: Vec<_> = [(2, 20), (3, 30), (2, 20), (5, 50), (3, 31), (4, 40), (3, 31)]
            .into_iter()
            .map(|(number, sum)| all.of(number, sum, b"").name().to_owned())
            .collect();
        assert_eq!(names, ["x", "x", "x", "x", "x#2", "x#2", "x#2"]);
        let mut unnamed = Instances::new(None);
        let (a, b) = (unnamed.of(2, 1, b"first"), unnamed.of(2, 2, b"second"));
        assert_eq!((a, b), (Instance::of_first_record(b"first"), Instance::of_first_record(b"second")));
        assert_eq!(unnamed.count(), 2);
    }
}
