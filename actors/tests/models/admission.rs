//! Admission: sequences, ids, and the lane that goes to sleep.

use crate::common::{admit, check, ledger};
use semj_actors::ledger::Ledger;
use semj_storage::event::Event;
use shuttle::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use uuid::Uuid;

/// All admitted events in order: (sequence, local sequence, id).
fn contents(ledger: &Ledger) -> Vec<(u64, u64, Option<Uuid>)> {
    ledger.seal();
    let mut found = Vec::new();
    let mut cursor = 0;
    while let Some(chunk) = ledger.sealed_after(cursor) {
        for (entry, sequence) in chunk.entries.iter().zip(chunk.first_sequence..) {
            let envelope = &chunk.bytes[entry.start as usize..entry.end as usize];
            let local = u64::from_le_bytes(envelope[8..16].try_into().unwrap());
            found.push((sequence, local, entry.id));
        }
        cursor = chunk.last_sequence();
    }
    found
}

#[test]
fn sequences_are_dense_ordered_and_groups_stay_whole() {
    check(|| {
        let ledger = ledger();
        let threads: Vec<_> = (0..3u64)
            .map(|t| {
                let ledger = ledger.clone();
                shuttle::thread::spawn(move || {
                    let id = |n: u64| Uuid::from_u64_pair(t + 1, n);
                    let event = |n| Event::query("q").stream("shared").id(id(n));
                    let single = admit(&ledger, &[event(0)]);
                    let group = admit(&ledger, &[event(1), event(2)]);
                    assert!(group > single, "an emission that returned comes before one that began later");
                    if t == 0 {
                        ledger.seal();
                    }
                    assert_eq!(admit(&ledger, &[event(0)]), single, "the same id again is the same event");
                    [(single, id(0)), (group, id(1)), (group + 1, id(2))]
                })
            })
            .collect();
        let mut told: Vec<_> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
        told.sort_unstable();
        let found = contents(&ledger);
        let expected: Vec<_> = told.iter().map(|(sequence, id)| (*sequence, *sequence, Some(*id))).collect();
        assert_eq!(
            found, expected,
            "dense from 1, the local order is the global one, every ticket tells the truth"
        );
        assert_eq!(found.first().map(|f| f.0), Some(1));
        assert_eq!(found.len(), 9);
    });
}

#[test]
fn one_id_emitted_by_two_threads_is_one_event() {
    check(|| {
        let ledger = ledger();
        let id = Uuid::from_u128(7);
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let ledger = ledger.clone();
                shuttle::thread::spawn(move || admit(&ledger, &[Event::query("q").id(id)]))
            })
            .collect();
        let told: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
        assert_eq!((told, contents(&ledger).len()), (vec![1, 1], 1));
    });
}

#[test]
fn an_emission_is_never_overlooked_by_a_lane_that_goes_to_sleep() {
    check(|| {
        let ledger = ledger();
        ledger.set_parked(false);
        let rings = Arc::new(AtomicU64::new(0));
        let emitter = {
            let (ledger, rings) = (ledger.clone(), rings.clone());
            shuttle::thread::spawn(move || {
                admit(&ledger, &[Event::query("q")]);
                if ledger.is_parked() && ledger.claim_wake() {
                    rings.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        // The lane: nothing to do, so it parks, and looks once more.
        let idle = ledger.pending().events == 0;
        let mut awake = !idle;
        if idle {
            ledger.set_parked(true);
            awake = ledger.pending().events > 0 && ledger.claim_wake();
        }
        emitter.join().unwrap();
        assert!(awake || rings.load(Ordering::SeqCst) > 0, "nobody would commit the event");
    });
}
