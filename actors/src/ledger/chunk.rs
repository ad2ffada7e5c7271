//! A run of admitted events in one buffer: sealed as a whole, it becomes one batch, or several where one is halved.

use semj_storage::event::Cause;
use std::ops::RangeInclusive;
use uuid::Uuid;

/// Stands for "no time" in [`Entry::time`].
pub const TIME_UNKNOWN: i64 = i64::MIN;

/// Where an admitted event lies in its chunk, and what its block's summary needs.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Start of envelope, key and body in the chunk's bytes.
    pub start: u32,
    /// End of the body.
    pub end: u32,
    /// How many causes it has in the chunk's list.
    pub causes: u16,
    /// `EventType::summary_bit`.
    pub type_bit: u8,
    /// Effective time, ns since 1970; [`TIME_UNKNOWN`] where its log knew none; `i64::MAX` for the emission's own.
    pub time: i64,
    /// Boot-time clock at emission, ns.
    pub boot_ns: i64,
    /// The id, where the caller gave one.
    pub id: Option<Uuid>,
}

/// A control record and the group it came with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Control {
    /// Index of the group's first event.
    pub index: u32,
    /// What it is.
    pub kind: u16,
    /// Start in the chunk's control bytes.
    pub start: u32,
    /// End there.
    pub end: u32,
}

/// Admitted events in order.
#[derive(Clone, Debug, Default)]
pub struct Chunk {
    /// Sequence of the first entry.
    pub first_sequence: u64,
    /// The entries.
    pub entries: Vec<Entry>,
    /// Envelope, key and body of each entry, back to back.
    pub bytes: Vec<u8>,
    /// The causes of all entries, back to back, in the order of `Event::causes`.
    pub causes: Vec<Cause>,
    /// Filter bits of all agents and sessions.
    pub agents: [u8; 32],
    /// First index and length of each group of more than one event, in order.
    pub groups: Vec<(u32, u32)>,
    /// Control records, in the order of their groups.
    pub controls: Vec<Control>,
    /// Their bytes, back to back.
    pub control_bytes: Vec<u8>,
}

impl Chunk {
    /// Sequence of the last entry; one less than the first when empty.
    pub fn last_sequence(&self) -> u64 {
        self.first_sequence + self.entries.len() as u64 - 1
    }

    /// Ready to be filled again, keeping its memory.
    pub fn reset(&mut self, first_sequence: u64) {
        self.first_sequence = first_sequence;
        self.entries.clear();
        self.bytes.clear();
        self.causes.clear();
        self.agents = [0; 32];
        self.groups.clear();
        self.controls.clear();
        self.control_bytes.clear();
    }

    /// The bytes of a control record.
    pub fn bytes_of_control(&self, control: &Control) -> &[u8] {
        self.control_bytes.get(control.start as usize..control.end as usize).unwrap_or_default()
    }

    /// The bytes of an entry.
    pub fn bytes_of(&self, entry: &Entry) -> &[u8] {
        self.bytes.get(entry.start as usize..entry.end as usize).unwrap_or_default()
    }

    /// The last sequence of about the first half of a span of this chunk, with groups kept whole; `None` where the span
    /// is one event or one group.
    pub fn middle(&self, span: RangeInclusive<u64>) -> Option<u64> {
        let (first, last) = (*span.start(), *span.end());
        let half = first + (last.checked_sub(first)?) / 2;
        let inside = |sequence: u64| {
            let index = sequence.checked_sub(self.first_sequence)? as u32;
            let (start, length) =
                *self.groups.get(self.groups.partition_point(|g| g.0 <= index).checked_sub(1)?)?;
            (index < start + length).then(|| self.first_sequence + u64::from(start + length) - 1)
        };
        let group_last = inside(half).unwrap_or(half);
        if group_last < last {
            return Some(group_last);
        }
        // The middle lies in a group that ends the span: everything before the group is the first half.
        let group_first = (first..=half).rev().find(|s| inside(*s) != Some(group_last))?;
        (inside(half).is_some() && group_first >= first).then_some(group_first)
    }

    /// A copy of the events of a span, which must lie in this chunk.
    pub fn part(&self, span: RangeInclusive<u64>) -> Chunk {
        let index = |sequence: u64| sequence.saturating_sub(self.first_sequence) as usize;
        let (from, to) = (index(*span.start()), index(*span.end() + 1).min(self.entries.len()));
        let causes_before: usize = self.entries.iter().take(from).map(|e| usize::from(e.causes)).sum();
        let entries = self.entries.get(from..to).unwrap_or_default();
        let start = entries.first().map_or(0, |e| e.start);
        let end = entries.last().map_or(0, |e| e.end);
        let causes: usize = entries.iter().map(|e| usize::from(e.causes)).sum();
        let inside = |index: u32| (from..to).contains(&(index as usize));
        let controls = || self.controls.iter().filter(|c| inside(c.index));
        let controls_start = controls().next().map_or(0, |c| c.start);
        let controls_end = controls().next_back().map_or(0, |c| c.end);
        Chunk {
            first_sequence: *span.start(),
            entries: entries
                .iter()
                .map(|e| Entry { start: e.start - start, end: e.end - start, ..*e })
                .collect(),
            bytes: self.bytes.get(start as usize..end as usize).unwrap_or_default().to_vec(),
            causes: self.causes.iter().skip(causes_before).take(causes).copied().collect(),
            agents: self.agents,
            groups: self
                .groups
                .iter()
                .filter(|(first, _)| inside(*first))
                .map(|(first, length)| (first - from as u32, *length))
                .collect(),
            controls: controls()
                .map(|c| Control {
                    index: c.index - from as u32,
                    start: c.start - controls_start,
                    end: c.end - controls_start,
                    ..*c
                })
                .collect(),
            control_bytes: self
                .control_bytes
                .get(controls_start as usize..controls_end as usize)
                .unwrap_or_default()
                .to_vec(),
        }
    }

    /// Without causes: a tombstone has none to be resolved.
    #[must_use]
    pub fn without_causes(mut self) -> Chunk {
        self.causes.clear();
        self.entries.iter_mut().for_each(|e| e.causes = 0);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk() -> Chunk {
        let entry = |n: u32| Entry {
            start: n * 10,
            end: n * 10 + 10,
            causes: u16::from(n % 2 == 1),
            type_bit: 0,
            time: 0,
            boot_ns: 0,
            id: None,
        };
        Chunk {
            first_sequence: 101,
            entries: (0..10).map(entry).collect(),
            bytes: (0..100).collect(),
            causes: [1, 3, 5, 7, 9].map(Cause::Sequence).to_vec(),
            groups: vec![(2, 3), (6, 4)],
            controls: [(0, 0, 2), (2, 2, 5), (6, 5, 6), (6, 6, 9)]
                .map(|(index, start, end)| Control { index, kind: 1, start, end })
                .to_vec(),
            control_bytes: (0..9).collect(),
            ..Chunk::default()
        }
    }

    #[test]
    fn a_span_is_halved_between_units() {
        let chunk = chunk();
        assert_eq!(chunk.middle(101..=102), Some(101));
        assert_eq!(chunk.middle(101..=101), None);
        assert_eq!(chunk.middle(101..=110), Some(105), "the group around the middle stays whole");
        assert_eq!(chunk.middle(103..=105), None, "one group");
        assert_eq!(chunk.middle(107..=110), None, "one group");
        assert_eq!(chunk.middle(106..=110), Some(106), "what comes before the group");
        assert_eq!(chunk.middle(102..=105), Some(102));
    }

    #[test]
    fn a_part_is_a_chunk_of_its_own() {
        let part = chunk().part(104..=108);
        assert_eq!((part.first_sequence, part.last_sequence()), (104, 108));
        assert_eq!(part.bytes, (30..80).collect::<Vec<u8>>());
        assert_eq!(part.bytes_of(&part.entries[1]), (40..50).collect::<Vec<u8>>());
        assert_eq!(part.causes, [3, 5, 7].map(Cause::Sequence));
        assert_eq!(part.groups, [(3, 4)]);
        // A group's control records go where the group goes.
        assert_eq!(
            part.controls,
            [(3, 0, 1), (3, 1, 4)].map(|(index, start, end)| Control { index, kind: 1, start, end })
        );
        assert_eq!(part.control_bytes, [5, 6, 7, 8]);
        let first = chunk().part(101..=102);
        assert_eq!((first.controls.len(), first.control_bytes), (1, vec![0, 1]));
        let bare = part.without_causes();
        assert!(bare.causes.is_empty() && bare.entries.iter().all(|e| e.causes == 0));
    }
}
