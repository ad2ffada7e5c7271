//! The limits of an event, checked before it is admitted.

use super::{Event, Payload, Text};
use crate::limits::{
    LINKS_MAX, METADATA_BYTES_MAX, NAME_BYTES_MAX, NESTING_MAX, PAYLOAD_BYTES_MAX, TAG_BYTES_MAX, TAGS_MAX,
    TEXT_BYTES_MAX,
};

/// A value over its limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what} is {actual}, the limit is {limit}")]
pub struct LimitExceeded {
    /// Which value, with its unit, e.g. `payload bytes`.
    pub what: &'static str,
    /// The JSON key it belongs to.
    pub key: &'static str,
    /// What it was.
    pub actual: usize,
    /// What it may be at most.
    pub limit: usize,
}

fn at_most(what: &'static str, key: &'static str, actual: usize, limit: usize) -> Result<(), LimitExceeded> {
    if actual > limit { Err(LimitExceeded { what, key, actual, limit }) } else { Ok(()) }
}

/// The deepest level of JSON text that is known to be well formed; a scalar is level 0.
pub(crate) fn json_depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0usize, false, false);
    for &byte in text {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn nesting(key: &'static str, text: &str) -> Result<(), LimitExceeded> {
    // Every bracket that opens is closed: a short text cannot be deep.
    if text.len() < 2 * NESTING_MAX {
        return Ok(());
    }
    // Few texts hold that many brackets at all; only those are walked. The processor adds up counts of one byte many
    // at a time, so a piece is as long as such a count can be. `[` and `{` differ in one bit, which no other byte shares.
    let opens = |piece: &[u8]| piece.iter().map(|b| u8::from(*b | 0x20 == b'{')).sum::<u8>();
    let brackets = text.as_bytes().chunks(255).map(|piece| usize::from(opens(piece))).sum::<usize>();
    if brackets < NESTING_MAX {
        return Ok(());
    }
    at_most("nesting levels", key, json_depth(text.as_bytes()) + 1, NESTING_MAX)
}

impl Event<'_> {
    /// Checks every limit but that on the encoded whole.
    ///
    /// # Errors
    /// The first limit that is exceeded, by name.
    pub fn check_limits(&self) -> Result<(), LimitExceeded> {
        let text = |what, key, field: Option<&Text<'_>>, limit| {
            field.map_or(Ok(()), |t| at_most(what, key, t.as_bytes().len(), limit))
        };
        text("name bytes", "name", self.name.as_ref(), NAME_BYTES_MAX)?;
        text("stream bytes", "stream", self.stream.as_ref(), TEXT_BYTES_MAX)?;
        text("agent bytes", "agent", self.agent.as_ref(), TEXT_BYTES_MAX)?;
        text("session bytes", "session", self.session.as_ref(), TEXT_BYTES_MAX)?;
        text("path bytes", "path", self.path.as_ref(), TEXT_BYTES_MAX)?;
        text("intent bytes", "intent", self.intent.as_ref(), TEXT_BYTES_MAX)?;
        at_most("tags", "tags", self.tags.len(), TAGS_MAX)?;
        for tag in &self.tags {
            at_most("tag bytes", "tags", tag.as_bytes().len(), TAG_BYTES_MAX)?;
        }
        match &self.payload {
            Payload::None | Payload::Blob(_) => {}
            Payload::Json(json) => {
                at_most("payload bytes", "payload", json.as_str().len(), PAYLOAD_BYTES_MAX)?;
                nesting("payload", json.as_str())?;
            }
            Payload::Bytes(bytes) => at_most("payload bytes", "payload", bytes.len(), PAYLOAD_BYTES_MAX)?,
        }
        let Some(x) = self.extra.as_deref() else { return Ok(()) };
        text("agent_intent bytes", "agent_intent", x.agent_intent.as_ref(), TEXT_BYTES_MAX)?;
        text("transaction bytes", "transaction", x.transaction.as_ref(), TEXT_BYTES_MAX)?;
        text("chain bytes", "chain", x.chain.as_ref(), TEXT_BYTES_MAX)?;
        text("source bytes", "source", x.source.as_ref(), NAME_BYTES_MAX)?;
        at_most("links", "links", x.links.len(), LINKS_MAX)?;
        for link in &x.links {
            at_most("link strength", "links", link.strength.unwrap_or(0) as usize, 100)?;
            text("link kind bytes", "links", link.kind.as_ref(), NAME_BYTES_MAX)?;
            text("link description bytes", "links", link.description.as_ref(), TEXT_BYTES_MAX)?;
        }
        if let Some(metadata) = &x.metadata {
            at_most("metadata bytes", "metadata", metadata.as_str().len(), METADATA_BYTES_MAX)?;
            nesting("metadata", metadata.as_str())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn equal_passes_and_one_over_is_refused_by_name() {
        let of = |n: usize| Event::decision("x").payload(Value::String("p".repeat(n)));
        assert_eq!(of(PAYLOAD_BYTES_MAX - 2).check_limits(), Ok(()));
        let refused = of(PAYLOAD_BYTES_MAX - 1).check_limits().unwrap_err();
        assert_eq!(
            (refused.key, refused.actual, refused.limit),
            ("payload", PAYLOAD_BYTES_MAX + 1, PAYLOAD_BYTES_MAX)
        );
        assert_eq!(refused.to_string(), "payload bytes is 1048577, the limit is 1048576");
        assert!(Event::decision("x").name("n".repeat(128)).check_limits().is_ok());
        assert_eq!(Event::decision("x").name("n".repeat(129)).check_limits().unwrap_err().key, "name");
        let tags = |n| (0..n).fold(Event::decision("x"), |e, _| e.tag("t"));
        assert!(tags(64).check_limits().is_ok());
        assert_eq!(tags(65).check_limits().unwrap_err().key, "tags");
    }

    #[test]
    fn nesting_counts_the_event_as_level_one() {
        let deep = |n| (0..n).fold(json!(1), |v, _| json!([v]));
        assert!(Event::decision("x").payload(deep(127)).check_limits().is_ok());
        assert_eq!(
            Event::decision("x").payload(deep(128)).check_limits().unwrap_err().what,
            "nesting levels"
        );
        assert!(Event::decision("x").payload(json!("[".repeat(500))).check_limits().is_ok());
    }
}
