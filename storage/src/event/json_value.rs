//! JSON text as a tree that hides nothing: numbers as they were written, keys in order and repeated.
//!
//! serde_json turns integers beyond 64 bits into floats and keeps the last of two equal keys; both would be silent
//! loss here. It still judges the syntax: this reader only ever sees text that serde_json has found well formed.

use super::json_in::InputError;
use super::validate::json_depth;
use crate::limits::NESTING_MAX;
use std::borrow::Cow;

/// Members of an object in the order of the text.
pub(super) type Members<'a> = Vec<(Cow<'a, str>, Json<'a>)>;

/// A value.
#[derive(Debug)]
pub(super) enum Json<'a> {
    Null,
    Bool(bool),
    /// The literal.
    Number(&'a str),
    String(Cow<'a, str>),
    /// A string, or the value under a key, with half a surrogate pair: no text at all.
    LoneSurrogate,
    Array(Vec<Json<'a>>),
    Object(Members<'a>),
    /// A container below the deepest level allowed; the number is the deepest level within.
    TooDeep(usize),
}

impl Json<'_> {
    /// The value in a few words, for messages.
    pub(super) fn describe(&self) -> String {
        match self {
            Json::Null => "null".into(),
            Json::Bool(b) => b.to_string(),
            Json::Number(n) => format!("the number {}", shorten(n)),
            Json::String(s) => format!("the text {:?}", shorten(s)),
            Json::LoneSurrogate => "text with half a surrogate pair".into(),
            Json::Array(_) => "a list".into(),
            Json::Object(_) => "an object".into(),
            Json::TooDeep(_) => "too deep a nesting".into(),
        }
    }

    /// The deepest level of a part below the limit, if there is one.
    pub(super) fn too_deep(&self) -> Option<usize> {
        match self {
            Json::TooDeep(level) => Some(*level),
            Json::Array(items) => items.iter().filter_map(Json::too_deep).max(),
            Json::Object(members) => members.iter().filter_map(|(_, v)| v.too_deep()).max(),
            _ => None,
        }
    }

    /// Compact text with sorted keys: what `serde_json::Value::to_string` gives for the same value.
    ///
    /// Refuses what that would lose: a repeated key, half a surrogate pair, a number that has no exact place.
    pub(super) fn canonical(self, out: &mut String) -> Result<(), Refusal> {
        match self {
            Json::Null => out.push_str("null"),
            Json::Bool(true) => out.push_str("true"),
            Json::Bool(false) => out.push_str("false"),
            Json::Number(literal) => match canonical_number(literal) {
                Ok(text) => out.push_str(&text),
                Err(why) => return Err(Refusal::new(format!("found {}: {why}", shorten(literal)))),
            },
            Json::String(text) => push_json_string(out, &text),
            Json::LoneSurrogate | Json::TooDeep(_) => {
                return Err(Refusal::new(format!("found {}", self.describe())));
            }
            Json::Array(items) => {
                out.push('[');
                for (i, item) in items.into_iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    item.canonical(out)?;
                }
                out.push(']');
            }
            Json::Object(mut members) => {
                members.sort_by(|a, b| a.0.cmp(&b.0));
                out.push('{');
                let mut last: Option<Cow<'_, str>> = None;
                for (key, value) in members {
                    if let Some(before) = &last {
                        if *before == key {
                            return Err(Refusal::new("the key is given twice".into()).within(&key));
                        }
                        out.push(',');
                    }
                    push_json_string(out, &key);
                    out.push(':');
                    value.canonical(out).map_err(|e| e.within(&key))?;
                    last = Some(key);
                }
                out.push('}');
            }
        }
        Ok(())
    }
}

/// Why a value has no canonical text, and where in it.
#[derive(Debug)]
pub(super) struct Refusal {
    why: String,
    /// Keys from the innermost to the outermost: they are only known while the refusal travels up.
    path: Vec<String>,
}

impl Refusal {
    fn new(why: String) -> Self {
        Refusal { why, path: Vec::new() }
    }

    fn within(mut self, key: &str) -> Self {
        self.path.push(shorten(key).into_owned());
        self
    }

    /// As the refusal of an event's key.
    pub(super) fn of(self, key: &str) -> InputError {
        let Refusal { why, mut path } = self.within(key);
        path.reverse();
        InputError::bad_value(&path.join("."), why)
    }
}

/// The start of a text that may be megabytes long.
pub(super) fn shorten(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(200) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", text.get(..end).unwrap_or_default())),
    }
}

/// Appends `text` as a JSON string.
pub(super) fn push_json_string(out: &mut String, text: &str) {
    if text.bytes().any(|b| b < 0x20 || b == b'"' || b == b'\\') {
        // Serialising a str to memory has no way to fail.
        out.push_str(&serde_json::to_string(text).unwrap_or_default());
    } else {
        out.push('"');
        out.push_str(text);
        out.push('"');
    }
}

fn canonical_number(literal: &str) -> Result<Cow<'_, str>, &'static str> {
    let is_float = literal.bytes().any(|b| matches!(b, b'.' | b'e' | b'E')) || literal == "-0";
    if !is_float {
        let fits = literal.parse::<i64>().is_ok() || literal.parse::<u64>().is_ok();
        return if fits {
            Ok(Cow::Borrowed(literal))
        } else {
            Err("an integer must fit 64 bits; write it as text")
        };
    }
    let finite = literal.parse::<f64>().ok().and_then(serde_json::Number::from_f64);
    finite.map(|n| Cow::Owned(n.to_string())).ok_or("a number must be finite; write it as text")
}

/// Reads values one after the other from well-formed text.
pub(super) struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `text`.
    pub(super) fn new(text: &'a str) -> Self {
        Reader { text, at: 0 }
    }

    /// The next byte that is no white space.
    pub(super) fn peek(&mut self) -> Option<u8> {
        let rest = self.text.as_bytes().get(self.at..)?;
        self.at += rest.iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')).count();
        self.text.as_bytes().get(self.at).copied()
    }

    /// Takes `byte` if it comes next.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    /// The next value, which stands at `level`; `None` only where the text is not well formed after all.
    pub(super) fn value(&mut self, level: usize) -> Option<Json<'a>> {
        match self.peek()? {
            b'{' | b'[' if level > NESTING_MAX => self.skip_container(level),
            b'{' => self.object(level),
            b'[' => self.array(level),
            b'"' => Some(self.string()?.map_or(Json::LoneSurrogate, Json::String)),
            _ => {
                let rest = self.text.get(self.at..)?;
                let end = rest.find([',', ']', '}', ' ', '\t', '\n', '\r']).unwrap_or(rest.len());
                self.at += end;
                Some(match rest.get(..end)? {
                    "null" => Json::Null,
                    "true" => Json::Bool(true),
                    "false" => Json::Bool(false),
                    number => Json::Number(number),
                })
            }
        }
    }

    fn array(&mut self, level: usize) -> Option<Json<'a>> {
        self.at += 1;
        let mut items = Vec::new();
        if self.take(b']') {
            return Some(Json::Array(items));
        }
        loop {
            items.push(self.value(level + 1)?);
            if self.take(b']') {
                return Some(Json::Array(items));
            }
            self.take(b',').then_some(())?;
        }
    }

    fn object(&mut self, level: usize) -> Option<Json<'a>> {
        self.at += 1;
        let mut members = Vec::new();
        if self.take(b'}') {
            return Some(Json::Object(members));
        }
        loop {
            (self.peek()? == b'"').then_some(())?;
            let key = self.string()?;
            self.take(b':').then_some(())?;
            let value = self.value(level + 1)?;
            members.push(match key {
                Ok(key) => (key, value),
                Err(()) => (Cow::Borrowed("\u{FFFD}"), Json::LoneSurrogate),
            });
            if self.take(b'}') {
                return Some(Json::Object(members));
            }
            self.take(b',').then_some(())?;
        }
    }

    /// The string that starts here; `Err` inside for half a surrogate pair.
    fn string(&mut self) -> Option<Result<Cow<'a, str>, ()>> {
        let body = self.text.get(self.at + 1..)?;
        let plain = body.find(['"', '\\'])?;
        if body.as_bytes().get(plain) == Some(&b'"') {
            self.at += plain + 2;
            return body.get(..plain).map(|s| Ok(Cow::Borrowed(s)));
        }
        let (mut decoded, mut rest, mut whole) = (String::new(), body, true);
        loop {
            let run = rest.find(['"', '\\'])?;
            decoded.push_str(rest.get(..run)?);
            let escape = *rest.as_bytes().get(run + 1).unwrap_or(&b'"');
            if rest.as_bytes().get(run) == Some(&b'"') {
                self.at = self.text.len() - rest.get(run + 1..)?.len();
                return Some(if whole { Ok(Cow::Owned(decoded)) } else { Err(()) });
            }
            rest = rest.get(run + 2..)?;
            decoded.push(match escape {
                b'b' => '\u{8}',
                b'f' => '\u{C}',
                b'n' => '\n',
                b'r' => '\r',
                b't' => '\t',
                b'u' => {
                    let (c, after) = unicode_escape(rest)?;
                    rest = after;
                    whole &= c.is_some();
                    c.unwrap_or('\u{FFFD}')
                }
                other => char::from(other),
            });
        }
    }

    /// Steps over a container without descending into it: its depth is the input's choice.
    fn skip_container(&mut self, level: usize) -> Option<Json<'a>> {
        let rest = self.text.get(self.at..)?;
        let (mut open, mut in_string, mut escaped) = (0usize, false, false);
        for (i, byte) in rest.bytes().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_string => escaped = true,
                b'"' => in_string = !in_string,
                _ if in_string => {}
                b'{' | b'[' => open += 1,
                b'}' | b']' => open = open.checked_sub(1)?,
                _ => {}
            }
            if open == 0 {
                self.at += i + 1;
                let inside = rest.as_bytes().get(..=i)?;
                return Some(Json::TooDeep(level - 1 + json_depth(inside)));
            }
        }
        None
    }
}

/// The character of the escape whose four digits come next (with its second half where it is a pair), and what
/// follows it; no character for half a pair.
fn unicode_escape(rest: &str) -> Option<(Option<char>, &str)> {
    let unit = |s: &str| u32::from_str_radix(s.get(..4)?, 16).ok();
    let first = unit(rest)?;
    let rest = rest.get(4..)?;
    if let Some(c) = char::from_u32(first) {
        return Some((Some(c), rest));
    }
    let second = rest.strip_prefix("\\u").and_then(unit).filter(|u| (0xDC00..0xE000).contains(u));
    match second {
        Some(low) if first < 0xDC00 => {
            let c = char::from_u32(0x1_0000 + ((first - 0xD800) << 10) + (low - 0xDC00));
            Some((c, rest.get(6..)?))
        }
        _ => Some((None, rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn canonical(text: &str) -> Result<String, InputError> {
        let mut out = String::new();
        Reader::new(text).value(2).unwrap().canonical(&mut out).map_err(|e| e.of("payload"))?;
        Ok(out)
    }

    #[test]
    fn what_serde_json_would_lose_is_refused_by_path() {
        let refused = |text: &str| canonical(text).unwrap_err().key.unwrap();
        assert_eq!(refused(r#"{"a":{"b":1,"b":1}}"#), "payload.a.b");
        assert_eq!(refused(r#"{"a":[{"n":18446744073709551616}]}"#), "payload.a.n");
        assert_eq!(refused("-9223372036854775809"), "payload");
        assert_eq!(refused("[1e999]"), "payload");
        assert_eq!(refused(r#"["\ud800"]"#), "payload");
        assert_eq!(refused(r#"["\ud800\ud800"]"#), "payload");
        assert_eq!(refused(r#"["\udc00\ud800"]"#), "payload");
        assert_eq!(refused(r#"{"x":{"\udfff":1}}"#), "payload.x.\u{FFFD}");
        assert_eq!(
            canonical("[18446744073709551615,-9223372036854775808,-0,1e2]").unwrap(),
            "[18446744073709551615,-9223372036854775808,-0.0,100.0]"
        );
        assert_eq!(canonical(r#""\ud83d\ude00\u0041\/""#).unwrap(), "\"\u{1F600}A/\"");
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn canonical_text_is_that_of_serde_json(value in value()) {
            prop_assert_eq!(canonical(&value.to_string()).unwrap(), value.to_string());
            let spread = serde_json::to_string_pretty(&value).unwrap();
            prop_assert_eq!(canonical(&spread).unwrap(), value.to_string());
        }

        #[test]
        fn any_text_of_json_characters_agrees_with_serde_json(text in r#"[\[\]{},:"\\u0-9a-eE.+\- ]{0,30}"#) {
            if let Ok(value) = serde_json::from_str::<Value>(&text)
                && let Ok(mine) = canonical(&text)
            {
                prop_assert_eq!(mine, value.to_string());
            }
        }
    }
}
