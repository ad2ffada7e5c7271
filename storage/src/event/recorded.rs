//! An event as the journal hands it back: with its place in the order and what its references stand for.

use super::{Event, TAG_TIME_UNKNOWN, Text, Timestamp};
use uuid::Uuid;

/// What a reference stands for, settled once before the event was committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResolvedCause {
    /// The referenced event's id.
    pub id: Uuid,
    /// Its number in this journal; `None` for a foreign event.
    pub sequence: Option<u64>,
}

/// An event with its place in the order.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Recorded {
    /// Place in the one order of the whole journal, dense from 1.
    pub sequence: u64,
    /// Place in the order of its stream, dense from 1.
    pub local_sequence: u64,
    /// The event's id: the one given, else derived.
    pub id: Uuid,
    /// What was emitted.
    pub event: Event<'static>,
    /// When it happened: the time given, else the emission's; `None` where the log it came from knew none.
    pub time: Option<Timestamp>,
    /// When its batch was handed to the disk.
    pub recorded: Timestamp,
    /// Boot-time clock of the emission, in nanoseconds; comparable within one boot.
    pub boot_ns: i64,
    /// Which boot.
    pub boot_id: Uuid,
    /// What its references stand for, in the order of [`Event::causes`].
    pub causes: Vec<ResolvedCause>,
}

impl Recorded {
    /// The stream it belongs to.
    pub fn stream(&self) -> String {
        String::from_utf8_lossy(self.event.stream_or_default()).into_owned()
    }

    /// Where it comes from: `user`, `import:FORMAT`, or a kernel source's name.
    pub fn source(&self) -> &str {
        self.event.source_text().and_then(Text::as_str).unwrap_or("user")
    }

    /// The parent, if any.
    pub fn parent(&self) -> Option<ResolvedCause> {
        self.event.parent.and_then(|_| self.causes.first().copied())
    }

    /// The root cause, if any.
    pub fn root(&self) -> Option<ResolvedCause> {
        self.event.root_cause()?;
        self.causes.get(usize::from(self.event.parent.is_some())).copied()
    }

    /// Cause and explicit effect of each link, in order.
    pub fn links(
        &self,
    ) -> impl Iterator<Item = (&super::Link<'static>, Option<ResolvedCause>, Option<ResolvedCause>)> {
        let skip = usize::from(self.event.parent.is_some()) + usize::from(self.event.root_cause().is_some());
        let mut rest = self.causes.iter().skip(skip).copied();
        self.event.links().iter().map(move |link| {
            let cause = rest.next();
            let effect = link.effect.and_then(|_| rest.next());
            (link, cause, effect)
        })
    }

    /// Whether `event`, which names this event's id, has this event's content: what the caller left out may be what the
    /// journal filled in, so that an event that was exported and comes back is the same.
    pub fn is_same_content(&self, event: &Event<'_>) -> bool {
        let same_causes = {
            let mut resolved = self.causes.iter();
            event.causes().all(|cause| {
                resolved.next().is_some_and(|r| match cause {
                    super::Cause::Id(id) => r.id == id,
                    super::Cause::Sequence(n) => r.sequence == Some(n),
                })
            }) && resolved.next().is_none()
        };
        if !same_causes || event.stream_or_default() != self.event.stream_or_default() {
            return false;
        }
        let mut given = event.clone().into_owned();
        let mut stored = self.event.clone();
        for side in [&mut given, &mut stored] {
            side.time = side.time.or(self.time);
            (side.stream, side.id, side.expect) = (None, None, None);
            // Compared above, as what they stand for.
            side.parent = side.parent.map(|_| super::Cause::Sequence(0));
            if let Some(extra) = side.extra.as_deref_mut() {
                extra.source = None;
                extra.root = extra.root.map(|_| super::Cause::Sequence(0));
                for link in &mut extra.links {
                    link.cause = super::Cause::Sequence(0);
                    link.effect = link.effect.map(|_| super::Cause::Sequence(0));
                }
                if *extra == super::Extra::default() {
                    side.extra = None;
                }
            }
        }
        given == stored
    }

    /// The effective time of an event: none when its log knew none.
    pub(crate) fn time_of(event: &Event<'_>, emitted: Timestamp) -> Option<Timestamp> {
        match event.time {
            Some(t) => Some(t),
            None if event.has_tag(TAG_TIME_UNKNOWN) => None,
            None => Some(emitted),
        }
    }
}
