use super::*;
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

type Model = BTreeMap<u64, BTreeSet<u32>>;

/// Splitmix64: fingerprints as uniform as real ones, without their cost.
fn uniform(number: u64) -> u64 {
    let mut word = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

fn encode(pairs: impl IntoIterator<Item = (u64, u32)>) -> Vec<u8> {
    let mut builder = IdSetBuilder::new();
    pairs.into_iter().for_each(|(fingerprint, value)| builder.add(fingerprint, value));
    builder.encode()
}

/// A reader as careful as a file: what is not there is not given.
fn reader(bytes: &[u8]) -> impl Fn(u64, usize) -> io::Result<Vec<u8>> + '_ {
    move |offset, length| {
        assert!(length <= bytes.len(), "asked for {length} of {} bytes", bytes.len());
        let start = usize::try_from(offset).unwrap().min(bytes.len());
        Ok(bytes[start..bytes.len().min(start + length)].to_vec())
    }
}

fn open(bytes: &[u8]) -> Result<IdSet, IdSetError> {
    IdSet::open(&reader(bytes), bytes.len() as u64)
}

fn expect(model: &Model, fingerprint: u64) -> Vec<u32> {
    model.get(&fingerprint).into_iter().flatten().copied().collect()
}

#[test]
fn fingerprints_are_stable_for_ever() {
    let uuid = uuid::uuid!("0190163d-8694-739b-aea5-966c26f8ad91");
    assert_eq!(fingerprint(uuid.as_bytes()), 0x27E9_2014_CE23_DA3E);
    // Version 7 ids of one millisecond differ in few bits; their fingerprints must not.
    let bits: u32 = (0..1_000u128)
        .map(|n| {
            let id = |n: u128| uuid::Uuid::from_u128(uuid.as_u128() + n).into_bytes();
            (fingerprint(&id(n)) ^ fingerprint(&id(n + 1))).count_ones()
        })
        .sum();
    assert!((31_000..33_000).contains(&bits), "{bits} of 64,000");
}

#[test]
fn the_bytes_are_stable_for_ever() {
    let empty = encode([]);
    assert_eq!((empty.len(), &empty[..8]), (HEADER_BYTES, &MAGIC[..]));
    assert!(open(&empty).unwrap().is_empty());
    assert!(open(&empty).unwrap().lookup(&reader(&empty), 7).unwrap().is_empty());
    let pairs = (0..1_000u32).map(|n| (uniform(n.into()), n));
    let bytes = encode(pairs.clone());
    assert_eq!(encode(pairs.rev().chain([(uniform(3), 3)])), bytes, "order and repetition do not matter");
    assert_eq!(bytes.len(), 24 + 3 * 8 + 20 * 64 + 1_000 * 12 + 3 * 4);
    assert_eq!(
        fingerprint(&bytes),
        0x1A0E_18B3_F4F9_0F39,
        "as an encoder written from the format's description makes them"
    );
}

#[test]
fn a_lookup_reads_one_page_and_an_absent_id_mostly_none() {
    let count = 100_000;
    let bytes = encode((0..count).map(|n| (uniform(n), n as u32)));
    let set = open(&bytes).unwrap();
    assert_eq!(set.len(), count);
    assert!((set.memory_bytes() as u64) < count * 13 / 10);
    let reads = Cell::new(0);
    let plain = reader(&bytes);
    let counting = |offset, length| {
        assert!(length <= 4096);
        reads.set(reads.get() + 1);
        plain(offset, length)
    };
    for n in (0..count).step_by(97) {
        reads.set(0);
        assert_eq!(set.lookup(&counting, uniform(n)).unwrap(), [n as u32]);
        assert!(reads.get() == 1 || (reads.get() == 2 && set.fences.contains(&uniform(n))));
    }
    reads.set(0);
    for n in count..count + 20_000 {
        assert!(set.lookup(&counting, uniform(n)).unwrap().is_empty());
    }
    assert!(reads.get() < 400, "{} of 20,000 absent ids read a page", reads.get());
}

#[test]
fn one_fingerprint_may_fill_several_pages() {
    let pairs = (0..1_500).map(|n| (77, n)).chain([(76, 1), (78, 2), (0, 3), (u64::MAX, 4)]);
    let bytes = encode(pairs);
    let set = open(&bytes).unwrap();
    let find = |fingerprint| set.lookup(&reader(&bytes), fingerprint).unwrap();
    assert_eq!(find(77), (0..1_500).collect::<Vec<_>>());
    assert_eq!((find(76), find(78), find(0), find(u64::MAX)), (vec![1], vec![2], vec![3], vec![4]));
    assert_eq!((find(1), find(75), find(79)), (vec![], vec![], vec![]));
    let mut all = Vec::new();
    set.for_each(&reader(&bytes), |fingerprint, value| all.push((fingerprint, value))).unwrap();
    assert!(all.len() == 1_504 && all.is_sorted());
}

/// Every answer about a damaged set is an error or right.
fn never_wrong(bytes: &[u8], model: &Model, asked: &[u64], context: &str) -> bool {
    let Ok(set) = open(bytes) else { return true };
    let mut refused = false;
    for fingerprint in asked {
        match set.lookup(&reader(bytes), *fingerprint) {
            Ok(values) => assert_eq!(values, expect(model, *fingerprint), "{context}"),
            Err(_) => refused = true,
        }
    }
    refused
}

#[test]
fn a_flipped_byte_is_an_error_or_changes_nothing() {
    let pairs: Vec<(u64, u32)> = (0..700).map(|n| (uniform(n / 2), n as u32)).collect();
    let bytes = encode(pairs.iter().copied());
    let mut model = Model::new();
    for (fingerprint, value) in &pairs {
        model.entry(*fingerprint).or_default().insert(*value);
    }
    let known: Vec<u64> = model.keys().copied().collect();
    let mut asked: Vec<u64> = known.iter().copied().step_by(90).collect();
    asked.extend((1_000..1_004).map(uniform));
    asked.extend([0, u64::MAX, known[0], known[known.len() - 1]]);
    for at in 0..bytes.len() {
        for mask in [1 << (at % 8), 0xFF] {
            let mut damaged = bytes.clone();
            damaged[at] ^= mask;
            let found = never_wrong(&damaged, &model, &asked, &format!("byte {at} ^ {mask}"));
            assert!(found, "byte {at} ^ {mask} went unnoticed with every page asked");
        }
    }
    for end in 0..bytes.len() {
        assert!(open(&bytes[..end]).is_err(), "cut at {end}");
        // The file was cut behind the back of an open set.
        let set = open(&bytes).unwrap();
        let cut = reader(&bytes[..end]);
        let careful = |offset, length: usize| if length > end { Ok(vec![]) } else { cut(offset, length) };
        if let Ok(values) = set.lookup(&careful, known[known.len() - 1]) {
            assert_eq!(values, expect(&model, known[known.len() - 1]));
        }
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(open(&longer).is_err());
    let failing = |_, _| Err(io::Error::from(io::ErrorKind::PermissionDenied));
    assert!(matches!(IdSet::open(&failing, 100), Err(IdSetError::Io { offset: 0, .. })));
}

#[test]
fn swapped_pages_are_found_out() {
    let bytes = encode((0..1_023).map(|n| (uniform(n), n as u32)));
    let set = open(&bytes).unwrap();
    let (first, _) = set.layout.page(0);
    let (a, b) = (first as usize, first as usize + 4096);
    let mut swapped = bytes.clone();
    swapped[a..b].copy_from_slice(&bytes[b..b + 4096]);
    swapped[b..b + 4096].copy_from_slice(&bytes[a..b]);
    assert!(set.for_each(&reader(&swapped), |_, _| ()).is_err());
}

/// Right checksums over whatever the counts and bytes say: what an attacker would write.
fn forged(pairs: u32, blocks: u32, fill: &[u8]) -> Vec<u8> {
    let layout = Layout::of(pairs.into(), blocks.into());
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&pairs.to_le_bytes());
    bytes.extend_from_slice(&blocks.to_le_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend(fill.iter().copied().cycle().take(layout.end() as usize - HEADER_BYTES));
    for number in 0..layout.pages() {
        let (start, pairs) = layout.page(number);
        let end = start as usize + pairs * PAIR_BYTES;
        let crc = page_crc(number, &bytes[start as usize..end]);
        bytes[end..end + 4].copy_from_slice(&crc.to_le_bytes());
    }
    let crc = crc_of(&[&bytes[..CRC_AT], &bytes[HEADER_BYTES..layout.first_page() as usize]]);
    bytes[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    #[test]
    fn answers_as_a_map_does(
        spread in prop_oneof![Just(1u64), Just(1 << 20), Just(u64::MAX / 4_000)],
        pairs in prop::collection::vec((0u64..4_000, 0u32..3), 0..2_500),
        absent in prop::collection::vec(any::<u64>(), 20),
    ) {
        let mut model = Model::new();
        for (number, value) in &pairs {
            model.entry(number * spread).or_default().insert(*value);
        }
        let bytes = encode(pairs.iter().map(|(number, value)| (number * spread, *value)));
        let set = open(&bytes).unwrap();
        prop_assert_eq!(set.len() as usize, model.values().map(BTreeSet::len).sum::<usize>());
        let near = (0..4_000).step_by(41).flat_map(|n| [n * spread, n * spread + 1]);
        for fingerprint in near.chain(absent).chain(model.keys().copied().step_by(17)) {
            let found = set.lookup(&reader(&bytes), fingerprint).unwrap();
            prop_assert_eq!(found, expect(&model, fingerprint));
        }
    }

    #[test]
    fn whatever_the_bytes_nothing_breaks(
        pairs in 0u32..1_100,
        blocks in 0u32..4,
        fill in prop::collection::vec(any::<u8>(), 1..200),
        zeros in any::<bool>(),
        asked in prop::collection::vec(any::<u64>(), 8),
    ) {
        let fill = if zeros { vec![0xFF; 8] } else { fill };
        let bytes = forged(pairs, blocks, &fill);
        if let Ok(set) = open(&bytes) {
            for fingerprint in asked.into_iter().chain([0, u64::MAX]).chain(set.fences.first().copied()) {
                let _ = set.lookup(&reader(&bytes), fingerprint);
            }
            let _ = set.for_each(&reader(&bytes), |_, _| ());
        }
        prop_assert!(open(&fill).is_err());
    }

    #[test]
    fn absurd_counts_allocate_nothing(pairs in any::<u32>(), blocks in any::<u32>(), length in any::<u64>()) {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&pairs.to_le_bytes());
        bytes.extend_from_slice(&blocks.to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        let careful = |offset, wanted: usize| {
            assert!(offset == 0 && wanted == HEADER_BYTES, "asked for {wanted} bytes at {offset}");
            Ok(bytes.clone())
        };
        prop_assume!(Layout::of(pairs.into(), blocks.into()).end() != length);
        prop_assert!(IdSet::open(&careful, length).is_err());
    }
}
