//! Random streams against what really happened.

use super::{Account, Counts, SourceCore};
use crate::sources::{Item, KernelRecord, Op, Phase};
use std::collections::{BTreeSet, HashSet};
use uuid::Uuid;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % below
    }
}

fn record(sequence: u64) -> Item {
    let mut record = KernelRecord::new(Op::Write, Phase::Done, sequence as i64 * 1_000);
    record.sequence = Some(sequence);
    Item::Record(Box::new(record))
}

/// What became events: sequences of records in order, the sum of gaps without what came late, how many came late.
#[derive(Default)]
struct Journal {
    ids: HashSet<Uuid>,
    sequences: Vec<u64>,
    lost: u64,
    late: u64,
}

impl Journal {
    fn take(&mut self, core: &mut SourceCore) {
        while let Some(group) = core.next_group(0) {
            for event in &group.events {
                assert!(self.ids.insert(event.given_id().unwrap()), "an id is never given twice");
                let payload = event.payload_value().as_json().unwrap();
                match event.name_text().and_then(|n| n.as_str()) {
                    Some("semj.gap") => self.lost += payload["semj.lost"].as_u64().unwrap(),
                    Some("semj.gap_filled") => (self.lost, self.late) = (self.lost - 1, self.late + 1),
                    Some(_) => {}
                    None => self.sequences.push(payload["semj.source_sequence"].as_u64().unwrap()),
                }
            }
            let account = &group.account;
            assert_eq!((account.records, account.lost), (self.sequences.len() as u64, self.lost));
            assert_eq!(
                account.last_sequence,
                account.records + account.lost,
                "every sequence is accounted for"
            );
            for run in &group.extents {
                for n in 0..run.length {
                    let event = &group.events[(run.offset + n) as usize];
                    let payload = event.payload_value().as_json().unwrap();
                    assert_eq!(payload["semj.source_sequence"], run.source_sequence + u64::from(n));
                }
            }
        }
    }
}

#[test]
fn every_sequence_is_a_record_once_or_lost() {
    let base = std::env::var("SEMJ_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1u64);
    for seed in base..base + 200 {
        println!("SEMJ_SEED={seed}");
        let mut dice = Dice(seed);
        let (drop, twice, disorder) = (dice.roll(30), dice.roll(30), 1 + dice.roll(100));
        let mut arrivals = Vec::new();
        let mut written = BTreeSet::from([1, 400]);
        for sequence in 1..=400u64 {
            if written.contains(&sequence) || dice.roll(100) >= drop {
                written.insert(sequence);
                for _ in 0..=u64::from(dice.roll(100) < twice) {
                    arrivals.push((sequence + dice.roll(disorder), sequence));
                }
            }
        }
        // The first tells where the life begins, the last that nothing is missing behind it.
        arrivals.retain(|(_, s)| !matches!(s, 1 | 400));
        arrivals.sort_unstable();
        let all = [1].into_iter().chain(arrivals.iter().map(|(_, s)| *s)).chain([400]);
        let mut core = SourceCore::new("k", Account::default(), Counts::default());
        let (mut journal, mut now) = (Journal::default(), 0);
        for (sequence, number) in all.zip(1u64..) {
            now += dice.roll(100_000) as i64;
            let known = std::mem::take(&mut journal.ids);
            core.take((number, 0), record(sequence), now, &|id| Ok(known.contains(id))).unwrap();
            core.end_batch(number);
            journal.ids = known;
            if dice.roll(4) == 0 {
                core.wait_no_longer(now);
                journal.take(&mut core);
            }
        }
        core.wait_no_longer(i64::MAX);
        journal.take(&mut core);
        assert!(!core.is_waiting());
        let found: BTreeSet<u64> = journal.sequences.iter().copied().collect();
        assert_eq!((found.len(), &found), (journal.sequences.len(), &written), "seed {seed}");
        assert_eq!(journal.lost, 400 - written.len() as u64, "seed {seed}");
        let behind = journal.sequences.windows(2).filter(|w| w[0] > w[1]).count() as u64;
        assert!(behind <= journal.late, "seed {seed}: only what came late is out of order");
    }
}
