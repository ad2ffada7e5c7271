//! Reads JSON Lines that may be damaged: every record that is still whole, and a reason for every byte that is not.
//!
//! A line normally holds one object. Crashes and races leave others: a record cut off, a cut-off record with a whole
//! one behind it, two records on one line, runs of NUL bytes where blocks never reached the disk. Inside a damaged
//! line a record is taken up again at the next object that parses, looks like a record, and is not part of another
//! one: an inner object is followed by a comma or a bracket, a record by the line's end or by another record.

use super::content::find;
use serde_json::Value;
use std::borrow::Cow;

/// Most of the lost bytes that are shown beside the reason.
const HEAD_BYTES_MAX: usize = 1_024;

/// A record that was read whole.
#[derive(Debug)]
pub(super) struct Record<'a> {
    /// The physical line it begins on, from 1.
    pub(super) line: u64,
    /// Its place in the file as part of its identity: the line, with the part where a line holds several records.
    pub(super) place: String,
    /// Its bytes.
    pub(super) raw: &'a [u8],
    /// What it says.
    pub(super) value: Value,
}

/// Bytes that no record could be made of.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Damage<'a> {
    /// The physical line, from 1.
    pub(super) line: u64,
    /// What is wrong.
    pub(super) reason: String,
    /// The lost bytes; empty where they tell nothing.
    pub(super) lost: &'a [u8],
}

impl Damage<'_> {
    /// The first of the lost bytes, readable.
    pub(super) fn head(&self) -> String {
        String::from_utf8_lossy(self.lost.get(..HEAD_BYTES_MAX).unwrap_or(self.lost)).into_owned()
    }
}

/// What a log yields, in file order.
#[derive(Debug)]
pub(super) enum Item<'a> {
    /// A record.
    Record(Record<'a>),
    /// A loss.
    Damage(Damage<'a>),
}

/// Reads all lines. `is_record` tells a record from other objects; it is asked only inside damaged lines.
pub(super) fn read(bytes: &[u8], is_record: fn(&Value) -> bool) -> Vec<Item<'_>> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut items = Vec::new();
    for (index, line) in bytes.split(|b| *b == b'\n').enumerate() {
        let mut reader =
            LineReader { line: index as u64 + 1, bytes: line, records: 0, is_record, items: &mut items };
        if !reader.whole() {
            reader.salvage();
        }
    }
    items
}

/// The first JSON value of `bytes` and where it ends.
pub(super) fn first_value(bytes: &[u8]) -> Result<(Value, usize), serde_json::Error> {
    let mut stream = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    match stream.next() {
        Some(Ok(value)) => Ok((value, stream.byte_offset())),
        Some(Err(error)) => Err(error),
        None => Ok((Value::Null, bytes.len())),
    }
}

fn rest(bytes: &[u8], from: usize) -> &[u8] {
    bytes.get(from..).unwrap_or_default()
}

struct LineReader<'a, 'i> {
    line: u64,
    bytes: &'a [u8],
    records: u32,
    is_record: fn(&Value) -> bool,
    items: &'i mut Vec<Item<'a>>,
}

impl<'a> LineReader<'a, '_> {
    /// Takes the line as one record, or as blank; with characters replaced where that is all that is wrong.
    fn whole(&mut self) -> bool {
        if self.bytes.iter().all(u8::is_ascii_whitespace) {
            return true;
        }
        if let Ok(value @ Value::Object(_)) = serde_json::from_slice(self.bytes) {
            self.record(self.bytes, value);
            return true;
        }
        let Some((mended, replaced)) = mend(self.bytes) else { return false };
        let Ok(value @ Value::Object(_)) = serde_json::from_slice(&mended) else { return false };
        self.damage(replaced_reason(replaced), b"");
        self.record(self.bytes, value);
        true
    }

    fn record(&mut self, raw: &'a [u8], value: Value) {
        self.records += 1;
        let place = match self.records {
            1 => self.line.to_string(),
            part => format!("{}.{part}", self.line),
        };
        self.items.push(Item::Record(Record { line: self.line, place, raw, value }));
    }

    fn damage(&mut self, reason: String, lost: &'a [u8]) {
        self.items.push(Item::Damage(Damage { line: self.line, reason, lost }));
    }

    /// Takes what is whole out of a damaged line.
    fn salvage(&mut self) {
        let mut at = 0;
        loop {
            at += rest(self.bytes, at).iter().take_while(|b| b.is_ascii_whitespace()).count();
            let here = rest(self.bytes, at);
            if here.is_empty() {
                return;
            }
            let nuls = here.iter().take_while(|b| **b == 0).count();
            if nuls > 0 {
                self.damage(format!("a run of {nuls} NUL bytes"), b"");
                at += nuls;
                continue;
            }
            let error = match first_value(here) {
                Ok((value @ Value::Object(_), length)) => {
                    self.record(here.get(..length).unwrap_or(here), value);
                    at += length;
                    continue;
                }
                Ok(_) => None,
                Err(error) => Some(error),
            };
            let next = self.next_record(at + 1);
            let bytes = self.bytes;
            let lost = bytes.get(at..next.unwrap_or(bytes.len())).unwrap_or_default();
            self.damage(reason(lost, error.as_ref(), next.is_some()), lost);
            match next {
                Some(next) => at = next,
                None => return,
            }
        }
    }

    /// Where the next whole record begins, looking from `from` on.
    fn next_record(&self, mut from: usize) -> Option<usize> {
        while let Some(at) = find(self.bytes, from, b"{") {
            from = at + 1;
            let begins_key = rest(self.bytes, from).iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'"');
            if !begins_key {
                continue;
            }
            let Ok((value, length)) = first_value(rest(self.bytes, at)) else { continue };
            let after = rest(self.bytes, at + length).iter().find(|b| !b.is_ascii_whitespace());
            if matches!(after, None | Some(b'{' | 0)) && (self.is_record)(&value) {
                return Some(at);
            }
        }
        None
    }
}

/// Why a record with replaced characters is no longer what it was.
pub(super) fn replaced_reason(replaced: usize) -> String {
    format!("{replaced} characters that are not Unicode were replaced")
}

/// Why `lost` is no record.
pub(super) fn reason(lost: &[u8], error: Option<&serde_json::Error>, another_follows: bool) -> String {
    let bytes = lost.len();
    let nuls = lost.iter().filter(|b| **b == 0).count();
    let mut text = if nuls > 0 {
        format!("{bytes} bytes of a record that {nuls} NUL bytes have overwritten")
    } else if lost.first() != Some(&b'{') {
        format!("{bytes} bytes that are no record")
    } else if another_follows || error.is_some_and(serde_json::Error::is_eof) {
        format!("a record cut off after {bytes} bytes")
    } else {
        // The position inside the line says nothing to a reader; the words before it do.
        let words = error.map(ToString::to_string).unwrap_or_default();
        format!("{bytes} bytes that are not JSON: {}", words.split(" at line").next().unwrap_or_default())
    };
    if another_follows {
        text.push_str(", another record follows on the same line");
    }
    text
}

/// The bytes as valid Unicode, and how many characters were replaced; `None` where nothing had to be.
///
/// Runtimes cut long outputs in the middle of a character, which leaves half a surrogate pair in an escape.
pub(super) fn mend(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let text = String::from_utf8_lossy(bytes);
    let mut replaced = match &text {
        Cow::Borrowed(_) => 0,
        Cow::Owned(_) => bytes.utf8_chunks().filter(|c| !c.invalid().is_empty()).count(),
    };
    let source = text.as_bytes();
    let mut out = Vec::with_capacity(source.len());
    let mut at = 0;
    while let Some(&byte) = source.get(at) {
        if byte != b'\\' {
            out.push(byte);
            at += 1;
            continue;
        }
        let length = match (surrogate(source, at), surrogate(source, at + 6)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
            (Some(_), _) => {
                replaced += 1;
                out.extend_from_slice(b"\\ufffd");
                at += 6;
                continue;
            }
            (None, _) => 2,
        };
        out.extend_from_slice(source.get(at..at + length).unwrap_or(rest(source, at)));
        at += length;
    }
    (replaced > 0).then_some((out, replaced))
}

/// The surrogate that the escape at `at` stands for, if it is one.
fn surrogate(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    let code = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    (0xD800..=0xDFFF).contains(&code).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(bytes: &[u8]) -> Vec<String> {
        read(bytes, |v| v.get("r").is_some())
            .into_iter()
            .map(|item| match item {
                Item::Record(r) => format!("{} {}", r.place, r.value),
                Item::Damage(d) => format!("{}! {}", d.line, d.reason),
            })
            .collect()
    }

    #[test]
    fn intact_lines_are_numbered_physically() {
        assert_eq!(show(b"\xef\xbb\xbf{\"r\":1}\n\n \r\n{\"r\":2}"), ["1 {\"r\":1}", "4 {\"r\":2}"]);
    }

    #[test]
    fn what_is_whole_is_taken_out_of_damaged_lines() {
        assert_eq!(show(b"{\"r\":1}{\"r\":2}\n"), ["1 {\"r\":1}", "1.2 {\"r\":2}"]);
        assert_eq!(show(b"{\"r\":1}\n{\"r\":\"ab"), ["1 {\"r\":1}", "2! a record cut off after 8 bytes"]);
        assert_eq!(
            show(b"{\"x\":{\"r\":0},\"y\":\"cut {\"r\":2}\n"),
            ["1! a record cut off after 22 bytes, another record follows on the same line", "1 {\"r\":2}"]
        );
        assert_eq!(
            show(b"\0\0\0{\"r\":1}\0\0\n"),
            ["1! a run of 3 NUL bytes", "1 {\"r\":1}", "1! a run of 2 NUL bytes"]
        );
        assert_eq!(
            show(b"{\"r\":\"a\0\0b\"}"),
            ["1! 12 bytes of a record that 2 NUL bytes have overwritten"]
        );
        assert_eq!(show(b"17\n"), ["1! 2 bytes that are no record"]);
        assert_eq!(show(b"{\"r\":nix}\n"), ["1! 9 bytes that are not JSON: expected ident"]);
    }

    #[test]
    fn an_inner_object_is_not_taken_for_a_record() {
        assert_eq!(show(b"{\"a\":[{\"r\":1},{\"r\":2}],\"b"), ["1! a record cut off after 25 bytes"]);
    }

    #[test]
    fn half_characters_are_replaced_and_told() {
        let replaced = "1! 1 characters that are not Unicode were replaced";
        assert_eq!(show(br#"{"r":"\ud83d cut"}"#), [replaced, "1 {\"r\":\"\u{fffd} cut\"}"]);
        assert_eq!(show(b"{\"r\":\"\xe2\x82 cut\"}"), [replaced, "1 {\"r\":\"\u{fffd} cut\"}"]);
        assert_eq!(show(br#"{"r":"\ud83d\ude00 \\ud83d"}"#), ["1 {\"r\":\"\u{1f600} \\\\ud83d\"}"]);
    }
}
