//! Release beside admission and sealing: nothing goes before its commit, nothing is lost, all room comes back.

use crate::common::{admit, check, ledger};
use semj_actors::ledger::Pending;
use semj_storage::event::Event;
use shuttle::sync::mpsc::channel;
use shuttle::thread::spawn;
use uuid::Uuid;

const EMITTERS: u64 = 2;
/// One event, then a group of two.
const EVENTS: u64 = 3 * EMITTERS;

#[test]
fn what_is_released_was_committed_and_all_room_comes_back() {
    check(|| {
        let ledger = ledger();
        let (rang, rings) = channel();
        let emitters: Vec<_> = (0..EMITTERS)
            .map(|emitter| {
                let (ledger, rang) = (ledger.clone(), rang.clone());
                spawn(move || {
                    admit(&ledger, &[Event::query("q").id(Uuid::from_u64_pair(1, emitter))]);
                    rang.send(()).unwrap();
                    admit(&ledger, &[Event::query("q"), Event::query("q")]);
                    rang.send(()).unwrap();
                })
            })
            .collect();
        drop(rang);
        let (commit, committed) = channel();
        let releaser = {
            let ledger = ledger.clone();
            spawn(move || {
                for last in committed {
                    // Less than the whole chunk is committed: it stays.
                    ledger.release(last - 1);
                    assert!(ledger.id_of(last).is_some(), "event {last} went before its commit");
                    ledger.release(last);
                }
            })
        };
        let mut cursor = 0;
        for () in rings {
            ledger.seal();
            while let Some(chunk) = ledger.sealed_after(cursor) {
                assert_eq!(chunk.first_sequence, cursor + 1, "chunks follow each other");
                for (entry, sequence) in chunk.entries.iter().zip(chunk.first_sequence..) {
                    assert_eq!(ledger.id_of(sequence), Some(entry.id), "event {sequence} is lost");
                }
                let live = ledger.pending().events as u64;
                assert!(live >= chunk.last_sequence() - cursor, "events are alive until their commit");
                cursor = chunk.last_sequence();
                commit.send(cursor).unwrap();
            }
        }
        drop(commit);
        for thread in emitters.into_iter().chain([releaser]) {
            thread.join().unwrap();
        }
        assert_eq!(cursor, EVENTS, "everything admitted was committed");
        let left = ledger.pending();
        let nothing =
            Pending { open_since_ns: left.open_since_ns, open_first: EVENTS + 1, ..Pending::default() };
        assert_eq!(left, nothing);
    });
}
