//! Whether the record keeps what was acknowledged: walked after each life of the process, and once more in the end.
//!
//! 1. Sequences are dense from 1, and so is each source's place in its stream.
//! 2. An acknowledged event is there, once, at the sequence that was told.
//! 3. Each source's events are in the order of their emission; a group is whole and in one piece.
//! 4. What a walk has seen never changes again: a digest over it must come out the same in the end.

use super::tag::{KEYED, Tag};
use semj_storage::error::ReadError;
use semj_storage::query::EventSource;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::ControlFlow;

/// Findings told in words; the others are only counted.
const TOLD_MAX: usize = 20;

/// What was found.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Findings {
    /// Events that were acknowledged.
    pub acknowledged: u64,
    /// Acknowledged events that are gone.
    pub lost: u64,
    /// Events that are there twice.
    pub repeated: u64,
    /// Events at another place than the one told, or before an event emitted earlier.
    pub reordered: u64,
    /// Places where the order has a hole.
    pub not_dense: u64,
    /// Groups of which only a part is there, or that lie in several pieces.
    pub torn_groups: u64,
    /// Whatever else should not have been, in words; also the first of those counted above.
    pub problems: Vec<String>,
}

impl Findings {
    /// Whether everything is as promised.
    pub fn is_clean(&self) -> bool {
        let counts = [self.lost, self.repeated, self.reordered, self.not_dense, self.torn_groups];
        counts.iter().all(|n| *n == 0) && self.problems.is_empty()
    }

    /// Adds a finding in words.
    pub(super) fn tell(&mut self, words: String) {
        if self.problems.len() < TOLD_MAX {
            self.problems.push(words);
        }
    }

    fn add(&mut self, count: impl Fn(&mut Self) -> &mut u64, words: String) {
        *count(self) += 1;
        self.tell(words);
    }
}

/// An acknowledgement as it was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ack {
    pub(super) sequence: u64,
    pub(super) tag: Tag,
}

/// An entry of the record as the check sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    pub(super) sequence: u64,
    pub(super) local_sequence: u64,
    /// `None` for an entry that is no producer's.
    pub(super) tag: Option<Tag>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Checker {
    last: u64,
    sources: BTreeMap<u64, (Tag, u64)>,
    digest: DefaultHasher,
    /// The group that is not at its end.
    open: Option<Tag>,
    /// The producers' events since the last settlement.
    fresh: HashMap<Tag, u64>,
    pub(super) findings: Findings,
}

impl Checker {
    /// How far it has walked.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// A number that stands for everything it has seen.
    pub(super) fn digest(&self) -> u64 {
        self.digest.finish()
    }

    /// Walks on to the end of `view`.
    pub(super) fn walk(&mut self, view: &impl EventSource) -> Result<(), ReadError> {
        let (from, to) = (self.last + 1, view.last_sequence());
        if to < self.last {
            let (last, lost) = (self.last, self.last - to);
            self.findings.lost += lost;
            self.findings.tell(format!("the record ends at event {to}, it was at {last} before"));
            return Ok(());
        }
        if from > to {
            return Ok(());
        }
        view.read(from, to, &mut |entry| {
            let event = entry.event();
            let intent = event.as_ref().and_then(|e| e.intent_text()).and_then(|t| t.as_str());
            let (sequence, local_sequence) = (entry.sequence, entry.local_sequence);
            self.see(Seen { sequence, local_sequence, tag: intent.and_then(Tag::parse) });
            ControlFlow::Continue(())
        })?;
        self.close_group();
        Ok(())
    }

    /// Takes in the next entry.
    pub(super) fn see(&mut self, seen: Seen) {
        let Seen { sequence, local_sequence, tag } = seen;
        (sequence, local_sequence, tag).hash(&mut self.digest);
        if sequence != self.last + 1 {
            let words = format!("event {sequence} follows event {}", self.last);
            self.findings.add(|f| &mut f.not_dense, words);
        }
        self.last = sequence;
        let Some(tag) = tag else { return self.close_group() };
        if self.open.is_some_and(|o| (Tag { at: o.at + 1, ..o }) != tag) {
            self.close_group();
        }
        if self.open.is_none() && tag.at != 0 {
            self.findings.add(|f| &mut f.torn_groups, format!("event {sequence} begins within {tag:?}"));
        }
        self.open = (tag.at + 1 < tag.of).then_some(tag);
        if let Some(first) = self.fresh.insert(tag, sequence) {
            self.findings.add(|f| &mut f.repeated, format!("{tag:?} is event {first} and event {sequence}"));
            return;
        }
        let before = self.sources.insert(tag.source, (tag, local_sequence));
        let Some((last, local)) = before else { return };
        if local_sequence != local + 1 {
            let words = format!("event {sequence} is {local_sequence} in its stream, behind {local}");
            self.findings.add(|f| &mut f.not_dense, words);
        }
        if (tag.item, tag.at) <= (last.item, last.at) {
            let words = format!("event {sequence}, {tag:?}, follows {last:?}");
            // Who gives ids emits an event again and again until it is acknowledged: behind later ones it is a copy.
            match tag.source {
                KEYED.. => self.findings.add(|f| &mut f.repeated, words),
                _ => self.findings.add(|f| &mut f.reordered, words),
            }
        }
    }

    fn close_group(&mut self) {
        if let Some(open) = self.open.take() {
            self.findings.add(|f| &mut f.torn_groups, format!("a group ends with {open:?}"));
        }
    }

    /// Looks for acknowledged events; `look_up` reads what an earlier walk has seen.
    pub(super) fn settle(&mut self, acks: &[Ack], mut look_up: impl FnMut(u64) -> Option<Tag>) {
        for Ack { sequence, tag } in acks.iter().copied() {
            self.findings.acknowledged += 1;
            match self.fresh.get(&tag).copied() {
                Some(found) if found == sequence => {}
                Some(found) => {
                    let words = format!("{tag:?} was acknowledged as event {sequence} and is event {found}");
                    self.findings.add(|f| &mut f.reordered, words);
                }
                // A repetition is acknowledged with its first sequence.
                None if look_up(sequence) == Some(tag) => {}
                None => {
                    let words = format!("{tag:?} was acknowledged as event {sequence} and is gone");
                    self.findings.add(|f| &mut f.lost, words);
                }
            }
        }
        self.fresh.clear();
    }
}

/// The producer's event at `sequence`.
pub(super) fn look_up(view: &impl EventSource, sequence: u64) -> Option<Tag> {
    let mut found = None;
    let read = view.read(sequence, sequence, &mut |entry| {
        let event = entry.event();
        let intent = event.as_ref().and_then(|e| e.intent_text()).and_then(|t| t.as_str());
        found = intent.and_then(Tag::parse);
        ControlFlow::Continue(())
    });
    read.ok().and(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(item: u64) -> Tag {
        Tag { source: 1, item, at: 0, of: 1 }
    }

    fn group(item: u64, at: u64) -> Tag {
        Tag { source: 1, item, at, of: 3 }
    }

    /// A record of these events, with places in their streams as they should be, and all of them acknowledged.
    fn record(tags: &[Tag]) -> (Vec<Seen>, Vec<Ack>) {
        let seen = tags.iter().enumerate().map(|(i, tag)| {
            let local = tags[..=i].iter().filter(|t| t.source == tag.source).count() as u64;
            Seen { sequence: i as u64 + 1, local_sequence: local, tag: Some(*tag) }
        });
        let seen: Vec<Seen> = seen.collect();
        let acks = seen.iter().map(|s| Ack { sequence: s.sequence, tag: s.tag.unwrap() }).collect();
        (seen, acks)
    }

    fn check(seen: &[Seen], acks: &[Ack]) -> Findings {
        let mut checker = Checker::default();
        seen.iter().for_each(|s| checker.see(*s));
        checker.close_group();
        checker.settle(acks, |_| None);
        checker.findings
    }

    fn sound() -> (Vec<Seen>, Vec<Ack>) {
        record(&[tag(0), group(1, 0), group(1, 1), group(1, 2), tag(2), Tag { source: KEYED, ..tag(0) }])
    }

    #[test]
    fn a_sound_record_is_clean() {
        let (seen, acks) = sound();
        let findings = check(&seen, &acks);
        assert!(findings.is_clean(), "{findings:?}");
        assert_eq!(findings.acknowledged, 6);
        assert!(check(&seen, &[]).is_clean(), "what was not acknowledged may be there");
    }

    #[test]
    fn a_missing_event_is_lost() {
        let (mut seen, acks) = sound();
        seen.pop();
        assert_eq!(check(&seen, &acks).lost, 1);
        let never = Ack { sequence: 99, tag: tag(77) };
        assert_eq!(check(&seen, &[never]).lost, 1);
    }

    #[test]
    fn an_event_that_is_there_twice_is_repeated() {
        let (seen, acks) = record(&[tag(0), tag(1), tag(1)]);
        assert_eq!(check(&seen, &acks[..2]).repeated, 1);
        // Also across lives, for whoever gives ids.
        let keyed = |item| Tag { source: KEYED, ..tag(item) };
        let (seen, _) = record(&[keyed(0), keyed(1), keyed(0)]);
        let mut checker = Checker::default();
        checker.see(seen[0]);
        checker.settle(&[], |_| None);
        checker.see(seen[1]);
        checker.see(seen[2]);
        assert_eq!((checker.findings.repeated, checker.findings.reordered), (1, 0));
    }

    #[test]
    fn events_that_changed_places_are_reordered() {
        let (seen, acks) = record(&[tag(1), tag(0)]);
        assert_eq!(check(&seen, &acks).reordered, 1);
        let (seen, mut acks) = sound();
        acks[0].sequence = 5;
        acks[4].sequence = 1;
        assert_eq!(check(&seen, &acks).reordered, 2);
    }

    #[test]
    fn holes_are_found_in_the_order_and_in_streams() {
        let (mut seen, acks) = sound();
        seen.remove(0);
        assert!(check(&seen, &acks[1..]).not_dense >= 1);
        let (mut seen, acks) = sound();
        seen[4].local_sequence += 1;
        assert_eq!(check(&seen, &acks).not_dense, 1);
    }

    #[test]
    fn groups_in_parts_are_torn() {
        for tags in [
            &[group(0, 0), group(0, 1)][..],
            &[group(0, 1), group(0, 2)],
            &[group(0, 0), Tag { source: 2, ..tag(0) }, group(0, 1), group(0, 2)],
        ] {
            let (seen, acks) = record(tags);
            assert!(check(&seen, &acks).torn_groups >= 1, "{tags:?}");
        }
    }

    #[test]
    fn a_repetition_is_looked_up_where_it_was_told() {
        let (seen, acks) = sound();
        let mut checker = Checker::default();
        seen.iter().for_each(|s| checker.see(*s));
        checker.settle(&acks, |_| None);
        checker.settle(&acks[..1], |sequence| (sequence == 1).then(|| tag(0)));
        assert!(checker.findings.is_clean());
        checker.settle(&acks[..1], |_| Some(tag(9)));
        assert_eq!(checker.findings.lost, 1);
    }

    #[test]
    fn the_digest_notices_any_change() {
        let (seen, _) = sound();
        let digest = |seen: &[Seen]| {
            let mut checker = Checker::default();
            seen.iter().for_each(|s| checker.see(*s));
            checker.digest()
        };
        assert_eq!(digest(&seen), digest(&seen));
        let mut other = seen.clone();
        other[2].tag = None;
        assert_ne!(digest(&seen), digest(&other));
    }
}
