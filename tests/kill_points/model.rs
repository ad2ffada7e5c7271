//! What must be in the journal, whatever was killed: everything acknowledged, once, in its place; groups whole; of each
//! thread's events a prefix; and whatever was seen once.

use super::child::{self, NUMBERS, Operation, numbers};
use semj::event::Recorded;
use semj::{Query, Reader, VerifyLevel};
use semj_storage::backend::MemoryBackend;
use semj_storage::blobs::Blobs;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Events behind which a check of the newest begins; all are looked at in a full one.
const NEWEST: u64 = 400;

#[derive(Debug, Default)]
pub struct Model {
    /// Acknowledged operations and their first places.
    acknowledged: BTreeMap<u64, u64>,
    /// Acknowledged blobs: run and number.
    blobs: BTreeSet<(u64, u64)>,
    /// Operations that were tried again in a later run, which may have put them there.
    again: BTreeSet<u64>,
    /// The number of each event that was there after the last kill.
    seen: Vec<u64>,
    pub checks: u64,
}

impl Model {
    /// Takes in what a child said.
    pub fn hear(&mut self, run: u64, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        match words[0] {
            "ack" => {
                let (first, place) = (number(1), number(2));
                let before = self.acknowledged.insert(first, place);
                assert!(
                    before.is_none_or(|b| b == place),
                    "operation {first}: first at {before:?}, then {place}"
                );
                assert!(before.is_none() || words[3] == "true", "operation {first} was added twice");
            }
            "blob" => drop(self.blobs.insert((run, number(1)))),
            "error" => panic!("run {run}: {line}"),
            _ => {}
        }
    }

    /// Some operations of a run that have ids, acknowledged or not: to be tried again.
    pub fn to_try_again(&mut self, run: u64) -> Vec<u64> {
        let mut operation = Operation::of(Operation::start(run, 0));
        let mut again = Vec::new();
        // Those around the last acknowledged one may be there or not.
        let last = self.acknowledged.range(operation.first..Operation::start(run, 1)).next_back();
        let last = last.map_or(0, |(first, _)| *first);
        while again.len() < 4 {
            if operation.has_id && operation.first >= last {
                again.push(operation.first);
            }
            operation = operation.next();
        }
        self.again.extend(&again);
        again
    }

    /// Looks at the journal without changing it. All of it, or the newest events.
    pub fn check(&mut self, reader: &Reader, all: bool, context: &str) {
        self.checks += 1;
        let from = if all { 1 } else { (self.seen.len() as u64).saturating_sub(NEWEST).max(1) };
        let events = reader.run(Query::new().after(from - 1)).unwrap();
        let events: Vec<Recorded> = events.map(|e| e.unwrap_or_else(|e| panic!("{context}: {e}"))).collect();
        let mut at = HashMap::new();
        for (event, place) in events.iter().zip(from..) {
            assert_eq!(event.sequence, place, "{context}: dense from 1");
            let (n, _) = numbers(event);
            assert!(at.insert(n, place).is_none(), "{context}: event {n} is there twice");
            if let Some(before) = self.seen.get(place as usize - 1) {
                assert_eq!(n, *before, "{context}: place {place} holds another event than before");
            } else {
                self.seen.push(n);
            }
        }
        let last = from - 1 + events.len() as u64;
        assert_eq!(self.seen.len() as u64, last, "{context}: events that were seen are gone");
        for (first, place) in &self.acknowledged {
            assert!(
                *place <= last,
                "{context}: acknowledged operation {first} at {place} is lost, of {last}"
            );
            if *place >= from {
                assert_eq!(at.get(first), Some(place), "{context}: acknowledged operation {first}");
            }
        }
        self.check_operations(&events, &at, from, context);
        if all {
            let report = reader.verify(VerifyLevel::Deep).unwrap().record;
            assert!(report.intact && report.events == last, "{context}: {report:?}");
            for (run, number) in &self.blobs {
                self.check_blob(reader, *run, *number, context);
            }
        }
    }

    fn check_blob(&self, reader: &Reader, run: u64, number: u64, context: &str) {
        let content = child::blob(run, number);
        let memory = Blobs::new(Arc::new(MemoryBackend::default()), "/blobs");
        let blob = memory.put(content.as_bytes()).unwrap();
        let found =
            reader.get_blob(&blob).unwrap_or_else(|e| panic!("{context}: blob {number} of run {run}: {e}"));
        assert_eq!(found, content.as_bytes(), "{context}");
    }

    /// Groups are whole; of each thread's operations a prefix is there, in order.
    fn check_operations(&self, events: &[Recorded], at: &HashMap<u64, u64>, from: u64, context: &str) {
        let mut lanes: BTreeMap<u64, Vec<(u64, Operation)>> = BTreeMap::new();
        for event in events {
            let (n, of) = numbers(event);
            let operation = Operation::of(of);
            let place = event.sequence + of - n.min(of) - (n - of);
            assert!(n < of + operation.count, "{context}: event {n} is not of operation {of}");
            if place >= from {
                for member in 0..operation.count {
                    let found = at.get(&(of + member));
                    assert_eq!(found, Some(&(place + member)), "{context}: operation {of} is not whole");
                }
            }
            if n == of && !self.again.contains(&of) {
                lanes.entry(operation.lane()).or_default().push((event.sequence, operation));
            }
        }
        for (lane, operations) in lanes {
            let mut expected = (from == 1).then(|| Operation::of(lane * NUMBERS));
            for (place, operation) in operations {
                let mut next: Operation = expected.unwrap_or(operation);
                while self.again.contains(&next.first) {
                    next = next.next();
                }
                assert_eq!(operation, next, "{context}: hole or disorder in lane {lane}, at place {place}");
                expected = Some(operation.next());
            }
        }
    }

    /// Acknowledged operations and blobs.
    pub fn acknowledged(&self) -> (usize, usize) {
        (self.acknowledged.len(), self.blobs.len())
    }

    /// Events at the last look.
    pub fn events(&self) -> usize {
        self.seen.len()
    }
}
