//! Control records go through the ledger with their group, or not at all.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use semj_actors::EmitError;
use semj_actors::ledger::{IdIndex, Ledger, Prepared, Refused, Streams};
use semj_storage::backend::{DirectoryRule, MemoryBackend};
use semj_storage::event::Event;
use semj_storage::limits::CONTROL_BYTES_MAX;
use semj_storage::log::Segments;
use std::sync::Arc;
use uuid::Uuid;

fn ledger() -> Ledger {
    let disk = Arc::new(MemoryBackend::new(DirectoryRule::Journal));
    let segments = Arc::new(Segments::open(disk, "/data/j/segments".into(), Uuid::nil()).unwrap());
    Ledger::new(0, IdIndex::new(segments.clone(), 0), Streams::new(segments, 0))
}

fn group(ledger: &Ledger, ids: &[u128], controls: &[&[u8]]) -> Prepared {
    let mut prepared = Prepared::default();
    let stream = ledger.streams().slot(b"s").unwrap();
    for id in ids {
        prepared.add(&Event::query("q").stream("s").id(Uuid::from_u128(*id)), stream).unwrap();
    }
    controls.iter().for_each(|bytes| prepared.control(1, bytes));
    prepared
}

#[test]
fn they_name_the_first_event_of_their_group() {
    let ledger = ledger();
    let admit = |p: &Prepared| ledger.admit(p, 1, 0, &[]).unwrap();
    admit(&group(&ledger, &[1], &[]));
    admit(&group(&ledger, &[2, 3], &[b"first", b"second"]));
    admit(&group(&ledger, &[4], &[b"third"]));
    // A repetition brings nothing along.
    assert!(admit(&group(&ledger, &[2, 3], &[b"again"])).duplicate);
    ledger.seal();
    let chunk = ledger.sealed_after(0).unwrap();
    let found: Vec<_> = chunk.controls.iter().map(|c| (c.index, chunk.bytes_of_control(c))).collect();
    assert_eq!(found, [(1, &b"first"[..]), (1, b"second"), (3, b"third")]);
    ledger.release(4);
    assert_eq!(ledger.pending().bytes, 0, "their bytes are counted and given back");
}

#[test]
fn without_an_event_or_over_the_limit_they_are_refused() {
    let ledger = ledger();
    let refused =
        |p: &Prepared| matches!(ledger.admit(p, 1, 0, &[]), Err(Refused::Error(EmitError::Limit(_))));
    assert!(refused(&group(&ledger, &[], &[b"alone"])));
    assert!(refused(&group(&ledger, &[1], &[&vec![0; CONTROL_BYTES_MAX + 1]])));
    assert_eq!(ledger.admitted(), 0, "a refusal changes nothing");
    assert!(!refused(&group(&ledger, &[1], &[&vec![0; CONTROL_BYTES_MAX]])));
}
