//! JSON objects, as [`super::show`] gives them, back to bytes.
//!
//! What an encoder derives (sizes, counts, hashes, checksums) may be left out; where it is given it must agree, so that
//! an edited object is never turned into bytes that say something else than it does.

use super::layout::Padded;
use super::{
    BlockHeader, CausalityLink, Context, EventHeader, HeaderTail, JournalHeader, Record, Reject,
    UserspaceHeader, encode_block,
};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// Why an object has no bytes: what is wrong, and at which keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unreadable {
    /// Keys from the innermost to the outermost.
    path: Vec<String>,
    why: String,
}

impl Unreadable {
    fn new(why: impl Into<String>) -> Self {
        Unreadable { path: Vec::new(), why: why.into() }
    }

    /// Not the value that was expected.
    pub(super) fn value(expected: &str, found: &Value) -> Self {
        let mut found = found.to_string();
        if let Some((end, _)) = found.char_indices().nth(100) {
            found.truncate(end);
            found.push('…');
        }
        Self::new(format!("expected {expected}, found {found}"))
    }

    /// A key that the object does not have.
    pub(super) fn unknown(key: &str) -> Self {
        Self::new("there is no such key").at(key)
    }

    /// The same, inside the value of `key`.
    pub(super) fn at(mut self, key: &str) -> Self {
        self.path.push(key.chars().take(100).collect());
        self
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path: Vec<&str> = self.path.iter().rev().map(String::as_str).collect();
        if path.is_empty() { f.write_str(&self.why) } else { write!(f, "{}: {}", path.join("."), self.why) }
    }
}

impl std::error::Error for Unreadable {}

impl From<Reject> for Unreadable {
    fn from(why: Reject) -> Self {
        Unreadable::new(format!("{}: {why}", why.name()))
    }
}

/// The members of an object.
pub(super) fn members(value: &Value) -> Result<&Map<String, Value>, Unreadable> {
    value.as_object().ok_or_else(|| Unreadable::value("an object", value))
}

/// Bytes from hexadecimal.
pub(super) fn hex_value(value: &Value) -> Result<Vec<u8>, Unreadable> {
    let wrong = || Unreadable::value("hexadecimal digits, two a byte", value);
    let digits = value.as_str().ok_or_else(wrong)?.as_bytes();
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return Err(wrong());
    }
    let digit = |b: &u8| char::from(*b).to_digit(16).map(|d| d as u8);
    let bytes: Option<Vec<u8>> = pairs
        .map(|pair| match pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        })
        .collect();
    bytes.ok_or_else(wrong)
}

/// A text field: an object with `hex` or `utf8`, or plain text.
pub(super) fn padded<const N: usize>(value: &Value) -> Result<Padded<'static, N>, Unreadable> {
    let too_long = |found: usize| Unreadable::new(format!("the field takes {N} bytes, found {found}"));
    if let Some(text) = value.as_str() {
        return Padded::exact(text.as_bytes().to_vec()).ok_or_else(|| too_long(text.len()));
    }
    let (mut text, mut utf8, mut terminated, mut marked, mut behind) = (None, None, None, false, None);
    for (key, value) in members(value)? {
        match key.as_str() {
            "hex" => text = Some(hex_value(value).map_err(|e| e.at(key))?),
            "utf8" => utf8 = value.as_str(),
            "nul_terminated" => terminated = value.as_bool(),
            "bytes_after_nul" => marked = value.as_bool().unwrap_or(true),
            "behind_hex" => behind = Some(hex_value(value).map_err(|e| e.at(key))?),
            _ => return Err(Unreadable::unknown(key)),
        }
    }
    if let (Some(hex), Some(utf8)) = (&text, utf8)
        && hex != utf8.as_bytes()
    {
        return Err(Unreadable::new("hex and utf8 are different texts").at("utf8"));
    }
    let mut bytes = text.or_else(|| utf8.map(|t| t.as_bytes().to_vec())).unwrap_or_default();
    if terminated.is_some_and(|t| t != (bytes.len() < N)) {
        let found = bytes.len();
        return Err(Unreadable::new(format!("{found} bytes of text in {N}")).at("nul_terminated"));
    }
    match behind {
        Some(behind) => {
            bytes.push(0);
            bytes.extend(behind);
        }
        None if marked => {
            return Err(Unreadable::new("the bytes are not there; decode --full gives them").at("behind_hex"));
        }
        None => {}
    }
    let found = bytes.len();
    Padded::exact(bytes).ok_or_else(|| too_long(found))
}

/// Payload or metadata.
fn blob(value: &Value) -> Result<Vec<u8>, Unreadable> {
    let (mut bytes, mut len, mut sha256) = (None, None, None);
    for (key, value) in members(value)? {
        match key.as_str() {
            "hex" => bytes = Some(hex_value(value).map_err(|e| e.at(key))?),
            "len" => len = Some(value),
            "sha256" => sha256 = Some(value),
            _ => return Err(Unreadable::unknown(key)),
        }
    }
    let absent = bytes.is_none();
    let bytes = bytes.unwrap_or_default();
    if let Some(len) = len
        && len.as_u64() != Some(bytes.len() as u64)
    {
        let why = if absent {
            format!("{len} bytes that are not there; decode --full gives them")
        } else {
            format!("{} bytes, found {len}", bytes.len())
        };
        return Err(Unreadable::new(why).at("hex"));
    }
    agree("sha256", sha256, &Value::from(super::json_out::hex(&Sha256::digest(&bytes))))?;
    Ok(bytes)
}

/// Refuses a derived value that is given and is another.
fn agree(key: &str, given: Option<&Value>, derived: &Value) -> Result<(), Unreadable> {
    match given {
        Some(given) if given != derived => {
            Err(Unreadable::new(format!("derived from the rest as {derived}, found {given}")).at(key))
        }
        _ => Ok(()),
    }
}

fn links(value: &Value) -> Result<Vec<CausalityLink<'static>>, Unreadable> {
    let list = value.as_array().ok_or_else(|| Unreadable::value("a list", value))?;
    list.iter()
        .enumerate()
        .map(|(i, v)| CausalityLink::from_json(v).map_err(|e| e.at(&i.to_string())))
        .collect()
}

fn event(object: &Map<String, Value>) -> Result<Vec<u8>, Unreadable> {
    let mut record = Record::default();
    let (mut has_context, mut consumed) = (false, None);
    for (key, value) in object {
        match key.as_str() {
            "header" => record.header = EventHeader::from_json(value).map_err(|e| e.at(key))?,
            "context" => {
                record.context = Context::from_json(value).map_err(|e| e.at(key))?;
                has_context = true;
            }
            "payload" => record.payload = blob(value).map_err(|e| e.at(key))?.into(),
            "metadata" => record.metadata = blob(value).map_err(|e| e.at(key))?.into(),
            "links" => record.links = links(value).map_err(|e| e.at(key))?,
            "consumed" => consumed = Some(value),
            "links_first_last" | "links_sha256" => {
                return Err(Unreadable::new("all links are needed; decode --full gives them").at("links"));
            }
            _ => return Err(Unreadable::unknown(key)),
        }
    }
    if !has_context {
        return Err(Unreadable::new("the context is needed; decode --full gives it").at("context"));
    }
    let bytes = record.to_bytes()?;
    let (derived, used) = Record::decode(&bytes)?;
    agree("consumed", consumed, &used.into())?;
    let given = object.get("header");
    let derived = derived.header;
    for (key, value) in [
        ("event_size", derived.event_size),
        ("context_size", derived.context_size),
        ("payload_size", derived.payload_size),
        ("metadata_size", derived.metadata_size),
        ("event_version", derived.event_version),
        ("causality_link_count", derived.causality_link_count),
        ("checksum", derived.checksum),
    ] {
        agree(key, given.and_then(|h| h.get(key)), &value.into()).map_err(|e| e.at("header"))?;
    }
    Ok(bytes)
}

fn block(object: &Map<String, Value>) -> Result<Vec<u8>, Unreadable> {
    let (mut header, mut records) = (None, Vec::new());
    for (key, value) in object {
        match key.as_str() {
            "block" => header = Some(value),
            "events" => {
                let list = value.as_array().ok_or_else(|| Unreadable::value("a list", value).at(key))?;
                for (i, one) in list.iter().enumerate() {
                    let at = |e: Unreadable| e.at(&i.to_string()).at(key);
                    records.extend(event(members(one).map_err(at)?).map_err(at)?);
                }
            }
            "entries" => {
                return Err(Unreadable::new("blocks of layout B are only looked at, never written").at(key));
            }
            _ => return Err(Unreadable::unknown(key)),
        }
    }
    let header = header.ok_or_else(|| Unreadable::new("the head of the block is needed").at("block"))?;
    let given = BlockHeader::from_json(header).map_err(|e| e.at("block"))?;
    let mut bytes = Vec::new();
    encode_block(given.block_id, &records, &mut bytes)?;
    let derived = super::Block::decode(&bytes)?.header;
    let derived = serde_json::to_value(super::Shown { value: &derived, full: true }).unwrap_or_default();
    for (key, value) in members(header)? {
        agree(key, Some(value), derived.get(key).unwrap_or(&Value::Null)).map_err(|e| e.at("block"))?;
    }
    Ok(bytes)
}

fn head(object: &Map<String, Value>) -> Result<Vec<u8>, Unreadable> {
    let (mut journal, mut tail) = (Map::new(), Map::new());
    for (key, value) in object {
        match key.as_str() {
            "userspace_marker" => tail.insert(key.clone(), value.clone()),
            "reserved_hex" => tail.insert("reserved".into(), value.clone()),
            _ => journal.insert(key.clone(), value.clone()),
        };
    }
    let checksum = journal.get("checksum").cloned();
    let journal = JournalHeader::from_json(&journal.into())?;
    let bytes = if tail.is_empty() {
        journal.encode().to_vec()
    } else {
        let tail = HeaderTail::from_json(&tail.into())?;
        let bytes = UserspaceHeader { journal, tail }.encode();
        UserspaceHeader::decode(&bytes)?;
        bytes.to_vec()
    };
    let derived = JournalHeader::read(&super::layout::get(&bytes, 0));
    if bytes.len() == JournalHeader::BYTES {
        JournalHeader::decode(&bytes)?;
    }
    agree("checksum", checksum.as_ref(), &derived.checksum.into())?;
    Ok(bytes)
}

/// The bytes of an object: an event, a link, a block of layout A or a head, told apart by its keys.
///
/// # Errors
/// A key or value that it cannot have, a derived value that does not agree, a limit that is exceeded.
pub fn bytes_of(value: &Value) -> Result<Vec<u8>, Unreadable> {
    let object = members(value)?;
    let has = |key: &str| object.contains_key(key);
    match () {
        () if has("header") || has("context") => event(object),
        () if has("block") || has("events") => block(object),
        () if has("cause_event_id") || has("effect_event_id") => {
            Ok(CausalityLink::from_json(value)?.to_bytes().to_vec())
        }
        () if has("magic") || has("total_events") => head(object),
        () => Err(Unreadable::new(
            "expected an event (header, context), a link (cause_event_id), a block (block, events) or a head (magic)",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_derived_may_be_left_out_and_must_agree_where_it_is_given() {
        let plain = json!({"header": {"event_id": 5, "event_type": 257}, "context": {"path": "/a"}});
        let bytes = bytes_of(&plain).unwrap();
        assert_eq!(&bytes[156..159], b"/a\0");
        let (text, used) = super::super::show(super::super::Kind::Event, &bytes, false, false).unwrap();
        let mut shown: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((used, bytes_of(&shown).unwrap() == bytes), (5412, true));
        shown["header"]["checksum"] = json!(1);
        assert!(bytes_of(&shown).unwrap_err().to_string().starts_with("header.checksum: derived"));
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_key() {
        for (object, expected) in [
            (json!({"header": {"event_idd": 5}, "context": {}}), "header.event_idd: there is no such key"),
            (json!({"header": {"event_type": -1}, "context": {}}), "header.event_type: expected an integer"),
            (json!({"header": {}}), "context: the context is needed"),
            (
                json!({"header": {}, "context": {"agent_id": "x".repeat(65)}}),
                "context.agent_id: the field takes 64",
            ),
            (json!({"header": {}, "context": {"path": {"hex": "0g"}}}), "context.path.hex: expected hexa"),
            (
                json!({"header": {}, "context": {}, "payload": {"len": 300, "sha256": ""}}),
                "payload.hex: 300 bytes",
            ),
            (json!({"block": {"block_id": 1}, "entries": []}), "entries: blocks of layout B"),
            (json!({}), "expected an event"),
            (json!([]), "expected an object"),
        ] {
            let refused = bytes_of(&object).unwrap_err().to_string();
            assert!(refused.starts_with(expected), "{refused}");
        }
    }

    #[test]
    fn bytes_behind_a_nul_come_back_from_the_full_form_only() {
        let path = Padded::exact(b"/a\0hidden".to_vec()).unwrap();
        let record = Record { context: Context { path, ..Context::default() }, ..Record::default() };
        let bytes = record.to_bytes().unwrap();
        for (full, expected) in [(true, Ok(bytes.clone())), (false, Err("context.path.behind_hex"))] {
            let (text, _) = super::super::show(super::super::Kind::Event, &bytes, full, true).unwrap();
            match (bytes_of(&serde_json::from_str(&text).unwrap()), expected) {
                (Ok(found), Ok(expected)) => assert!(found == expected),
                (Err(found), Err(expected)) => assert!(found.to_string().starts_with(expected), "{found}"),
                (found, _) => panic!("{full}: {found:?}"),
            }
        }
    }
}
