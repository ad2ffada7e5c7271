//! The values of single keys: what each accepts, and how it is refused.

use super::json_in::InputError;
use super::json_value::{Json, Members, shorten};
use super::{BlobRef, Cause, JsonText, Payload, Priority, Text, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::str::FromStr;
use uuid::Uuid;

type Field<T> = Result<T, InputError>;

fn wrong<T>(key: &str, expected: &str, found: &Json<'_>) -> Field<T> {
    Err(InputError::bad_value(key, format!("expected {expected}, found {}", found.describe())))
}

/// The members of an object whose keys are fixed: those that are `known` and not `null`.
///
/// Refuses unknown and repeated keys; passes over the `ignored` ones, whatever they hold. `prefix` goes before the key
/// in refusals.
pub(super) fn members<'a>(
    prefix: &str,
    fields: Members<'a>,
    known: &[&str],
    ignored: &[&str],
) -> Field<Members<'a>> {
    let mut kept: Members<'a> = Vec::with_capacity(fields.len().min(known.len()));
    // One bit for each known key, then one for each ignored key; there are fewer than 64.
    let mut seen = 0u64;
    for (key, value) in fields {
        let place = known.iter().chain(ignored).position(|k| *k == key);
        let named = || format!("{prefix}{}", shorten(&key));
        let Some(place) = place else { return Err(InputError::unknown_key(&named())) };
        if seen & (1 << place) != 0 {
            return Err(InputError::duplicate(&named()));
        }
        seen |= 1 << place;
        if place < known.len() && !matches!(value, Json::Null) {
            kept.push((key, value));
        }
    }
    Ok(kept)
}

/// An object.
pub(super) fn object<'a>(key: &str, value: Json<'a>) -> Field<Members<'a>> {
    match value {
        Json::Object(fields) => Ok(fields),
        other => wrong(key, "an object", &other),
    }
}

/// A list.
pub(super) fn list<'a>(key: &str, value: Json<'a>) -> Field<Vec<Json<'a>>> {
    match value {
        Json::Array(items) => Ok(items),
        other => wrong(key, "a list", &other),
    }
}

/// What stands under `wanted` when that is the object's only key.
fn only<'v, 'a>(value: &'v Json<'a>, wanted: &str) -> Option<&'v Json<'a>> {
    match value {
        Json::Object(fields) => match fields.as_slice() {
            [(key, inner)] if key == wanted => Some(inner),
            _ => None,
        },
        _ => None,
    }
}

fn base64(key: &str, value: &Json<'_>) -> Field<Vec<u8>> {
    let key = format!("{key}.$base64");
    match value {
        Json::String(digits) => BASE64
            .decode(digits.as_bytes())
            .map_err(|e| InputError::bad_value(&key, format!("not base64: {e}"))),
        other => wrong(&key, "text in base64", other),
    }
}

/// Text, or `{"$base64": ..}` for bytes that are not UTF-8.
pub(super) fn text(key: &str, value: Json<'_>) -> Field<Text<'static>> {
    if let Some(digits) = only(&value, "$base64") {
        return base64(key, digits).map(Text::from_bytes);
    }
    match value {
        Json::String(s) => Ok(Text::from(s.into_owned())),
        other => wrong(key, "text", &other),
    }
}

/// A non-negative integer of 32 bits.
pub(super) fn integer(key: &str, value: Json<'_>) -> Field<u32> {
    match &value {
        Json::Number(literal) => {
            literal.parse().or_else(|_| wrong(key, "an integer from 0 to 4294967295", &value))
        }
        _ => wrong(key, "an integer from 0 to 4294967295", &value),
    }
}

/// An integer from 0 to 100.
pub(super) fn percent(key: &str, value: Json<'_>) -> Field<u32> {
    match &value {
        Json::Number(literal) => match literal.parse() {
            Ok(n) if n <= 100 => Ok(n),
            _ => wrong(key, "an integer from 0 to 100", &value),
        },
        _ => wrong(key, "an integer from 0 to 100", &value),
    }
}

/// A non-negative integer of 64 bits, as a number only.
pub(super) fn number_u64(key: &str, value: Json<'_>) -> Field<u64> {
    match &value {
        Json::Number(literal) => {
            literal.parse().or_else(|_| wrong(key, "a non-negative integer of 64 bits", &value))
        }
        _ => wrong(key, "a non-negative integer of 64 bits", &value),
    }
}

/// An integer of 64 bits, as a number or as decimal text: numbers beyond 2^53 do not survive many JSON programs.
pub(super) fn wide<T: FromStr>(key: &str, value: Json<'_>) -> Field<T> {
    let literal = match &value {
        Json::Number(literal) => literal,
        // `parse` takes a plus sign, JSON does not.
        Json::String(digits) if !digits.starts_with('+') => digits.as_ref(),
        _ => return wrong(key, "an integer of 64 bits", &value),
    };
    literal.parse().or_else(|_| wrong(key, "an integer of 64 bits", &value))
}

/// A mask of 64 bits: a number, decimal text, or `0x` and hexadecimal digits.
pub(super) fn visibility(key: &str, value: Json<'_>) -> Field<u64> {
    let hex = match &value {
        Json::String(text) => text.strip_prefix("0x").map(str::to_owned),
        _ => None,
    };
    match hex {
        Some(digits) if !digits.starts_with('+') => u64::from_str_radix(&digits, 16)
            .or_else(|_| wrong(key, "0x and up to 16 hexadecimal digits", &value)),
        _ => wide(key, value),
    }
}

/// A priority's name or number.
pub(super) fn priority(key: &str, value: Json<'_>) -> Field<Priority> {
    match &value {
        Json::String(name) => Priority::parse(name)
            .map_or_else(|| wrong(key, "critical, high, normal, low, background or a number", &value), Ok),
        Json::Number(_) => integer(key, value).map(Priority::from_code),
        _ => wrong(key, "critical, high, normal, low, background or a number", &value),
    }
}

/// A UUID.
pub(super) fn uuid(key: &str, value: Json<'_>) -> Field<Uuid> {
    match &value {
        Json::String(text) => Uuid::try_parse(text).or_else(|_| wrong(key, "a UUID", &value)),
        _ => wrong(key, "a UUID", &value),
    }
}

/// A reference to an event: its sequence or its id.
pub(super) fn cause(key: &str, value: Json<'_>) -> Field<Cause> {
    const EXPECTED: &str = "a sequence from 1 on or a UUID";
    match &value {
        Json::Number(literal) => match literal.parse::<u64>() {
            Ok(sequence) if sequence > 0 => Ok(Cause::Sequence(sequence)),
            _ => wrong(key, EXPECTED, &value),
        },
        Json::String(text) => Uuid::try_parse(text).map(Cause::Id).or_else(|_| wrong(key, EXPECTED, &value)),
        _ => wrong(key, EXPECTED, &value),
    }
}

/// A time.
pub(super) fn time(key: &str, value: Json<'_>) -> Field<Timestamp> {
    const EXPECTED: &str = "a time as in RFC 3339 between 1677 and 2262, e.g. 2026-02-09T08:10:31.821Z";
    match &value {
        Json::String(text) => Timestamp::parse(text).map_or_else(|| wrong(key, EXPECTED, &value), Ok),
        _ => wrong(key, EXPECTED, &value),
    }
}

/// Any JSON, raw bytes, or content beside the journal.
pub(super) fn payload(value: Json<'_>) -> Field<Payload<'static>> {
    if let Some(digits) = only(&value, "$base64") {
        return base64("payload", digits).map(|bytes| Payload::Bytes(bytes.into()));
    }
    if only(&value, "$blob").is_some() {
        return blob(value).map(Payload::Blob);
    }
    json_text("payload", value).map(Payload::Json)
}

/// A JSON object.
pub(super) fn metadata(value: Json<'_>) -> Field<JsonText<'static>> {
    match value {
        Json::Object(_) => json_text("metadata", value),
        other => wrong("metadata", "an object", &other),
    }
}

fn json_text(key: &str, value: Json<'_>) -> Field<JsonText<'static>> {
    let mut text = String::new();
    value.canonical(&mut text).map_err(|e| e.of(key))?;
    Ok(JsonText(text.into()))
}

fn blob(value: Json<'_>) -> Field<BlobRef> {
    let inner = object("payload", value)?.into_iter().next().map_or(Json::Null, |(_, inner)| inner);
    let fields = object("payload.$blob", inner)?;
    let (mut sha256, mut bytes, mut head) = (None, None, String::new());
    for (key, value) in members("payload.$blob.", fields, &["sha256", "bytes", "head"], &[])? {
        match key.as_ref() {
            "sha256" => sha256 = Some(hash("payload.$blob.sha256", &value)?),
            "bytes" => bytes = Some(wide("payload.$blob.bytes", value)?),
            _ => match value {
                Json::String(text) => head = text.into_owned(),
                other => return wrong("payload.$blob.head", "text", &other),
            },
        }
    }
    let missing = |key: &str| InputError::bad_value(key, "required");
    Ok(BlobRef {
        sha256: sha256.ok_or_else(|| missing("payload.$blob.sha256"))?,
        bytes: bytes.ok_or_else(|| missing("payload.$blob.bytes"))?,
        head,
    })
}

fn hash(key: &str, value: &Json<'_>) -> Field<[u8; 32]> {
    const EXPECTED: &str = "64 hexadecimal digits";
    let Json::String(digits) = value else { return wrong(key, EXPECTED, value) };
    if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return wrong(key, EXPECTED, value);
    }
    let mut hash = [0u8; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok().and_then(|p| u8::from_str_radix(p, 16).ok());
        *byte = pair.unwrap_or_default();
    }
    Ok(hash)
}
