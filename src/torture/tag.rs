//! Which event of a torture an event is: told by the event itself, so that the record alone can be checked.

use semj_storage::event::Event;
use uuid::Uuid;

/// Sources from here on give ids and go on where the life before them ended.
pub(super) const KEYED: u64 = 1 << 32;

/// SplitMix64: the same numbers from the same seed.
#[derive(Clone, Debug)]
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `0..n`.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// A number in `low..high`.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low))
    }

    /// A time until the next of events that come `rate` times a second, in seconds.
    pub(super) fn interval(&mut self, rate: f64) -> f64 {
        let u = ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64;
        -u.ln() / rate
    }
}

/// Place of an event among all that the producers emit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tag {
    /// Who: one producer of one life, or one that goes on across lives.
    pub source: u64,
    /// Counts the source's emissions, upwards; a number may be missing where an emission failed.
    pub item: u64,
    /// Place in its group, from 0.
    pub at: u64,
    /// Size of its group; 1 for an event of its own.
    pub of: u64,
}

impl Tag {
    /// The event that carries it. The same tag gives the same event, byte for byte.
    pub(super) fn event(self, seed: u64) -> Event<'static> {
        let mut rng = Rng(seed ^ self.source.rotate_left(17) ^ self.item.rotate_left(40) ^ self.at);
        let filler = rng.below(200) as usize;
        let text = format!("{} {} {} {} {:.<filler$}", self.source, self.item, self.at, self.of, "");
        let event = Event::decision(text).stream(format!("source-{}", self.source));
        if self.source < KEYED {
            return event;
        }
        let (high, low) = (rng.next() ^ self.source, rng.next() ^ self.item);
        event.id(Uuid::new_v8((u128::from(high) << 64 | u128::from(low)).to_be_bytes()))
    }

    /// The tag that an event's intent tells; `None` for an event that is none of ours.
    pub(super) fn parse(intent: &str) -> Option<Tag> {
        let mut numbers = intent.split(' ').map(|n| n.parse::<u64>().ok());
        let mut next = || numbers.next().flatten();
        Some(Tag { source: next()?, item: next()?, at: next()?, of: next()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_tells_its_tag_and_is_the_same_each_time() {
        for source in [3, KEYED + 3] {
            let tag = Tag { source, item: 7, at: 1, of: 4 };
            let event = tag.event(9);
            let intent = event.intent_text().unwrap().to_string();
            assert_eq!(Tag::parse(&intent), Some(tag));
            assert_eq!(event.given_id(), tag.event(9).given_id());
            assert_eq!(event.given_id().is_some(), source >= KEYED);
            assert_ne!(Tag { item: 8, ..tag }.event(9).given_id().or(Some(Uuid::nil())), event.given_id());
        }
        assert_eq!(Tag::parse("run the tests"), None);
    }
}
