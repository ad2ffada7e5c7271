//! Reads a run that is one JSON document, and takes the records out of a damaged one.

use super::content::{Fields, find};
use super::lines::{Damage, Item, Record, first_value, mend, reason, replaced_reason};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// A run: its records, and what the document says beside them.
pub(super) struct Document<'a> {
    pub(super) items: Vec<Item<'a>>,
    /// The document's other fields; `None` where it is damaged.
    pub(super) fields: Option<Fields>,
}

/// Reads a document: an array of records, or an object that holds them under `key`. Lines count from `line`.
/// `is_record` tells records from other objects; it is asked only where the document is damaged.
pub(super) fn read<'a>(bytes: &'a [u8], line: u64, key: &str, is_record: fn(&Value) -> bool) -> Document<'a> {
    let mut reader = Reader { bytes, lines: Lines { at: 0, line }, ordinal: 0, items: Vec::new() };
    match reader.whole(key) {
        Ok(fields) => Document { items: reader.items, fields: Some(fields) },
        Err(why) => {
            reader.items.clear();
            reader.ordinal = 0;
            reader.lines = Lines { at: 0, line };
            reader.salvage(is_record);
            let at = line + why.line.saturating_sub(1);
            reader.items.push(Item::Damage(Damage { line: at, reason: why.reason, lost: b"" }));
            Document { items: reader.items, fields: None }
        }
    }
}

/// Counts lines up to an offset that only grows.
struct Lines {
    at: usize,
    line: u64,
}

impl Lines {
    fn upto(&mut self, bytes: &[u8], offset: usize) -> u64 {
        if let Some(passed) = bytes.get(self.at..offset) {
            self.line += passed.iter().filter(|b| **b == b'\n').count() as u64;
            self.at = offset;
        }
        self.line
    }
}

struct Broken {
    line: u64,
    reason: String,
}

impl From<serde_json::Error> for Broken {
    fn from(error: serde_json::Error) -> Self {
        let words = error.to_string();
        let words = words.split(" at line").next().unwrap_or_default();
        Broken { line: error.line() as u64, reason: format!("the document is damaged: {words}") }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    lines: Lines,
    ordinal: u64,
    items: Vec<Item<'a>>,
}

impl<'a> Reader<'a> {
    fn whole(&mut self, key: &str) -> Result<Fields, Broken> {
        let mut rest = Fields::new();
        let first = self.bytes.iter().find(|b| !b.is_ascii_whitespace());
        let records: Vec<&RawValue> = if first == Some(&b'[') {
            serde_json::from_slice(self.bytes)?
        } else {
            let mut document: BTreeMap<String, &RawValue> = serde_json::from_slice(self.bytes)?;
            let records = document.remove(key).map(RawValue::get).unwrap_or("null");
            for (name, raw) in document {
                rest.insert(name, tolerant(raw.get().as_bytes()).map_or(Value::Null, |(value, _)| value));
            }
            let none = |_| Broken { line: 1, reason: format!("the document has no list `{key}`") };
            serde_json::from_str(records).map_err(none)?
        };
        for raw in records {
            let raw = raw.get().as_bytes();
            // The text of a raw value lies inside the document, so the distance of their beginnings is its offset.
            let offset = (raw.as_ptr() as usize).saturating_sub(self.bytes.as_ptr() as usize);
            self.record(offset, raw);
        }
        Ok(rest)
    }

    fn record(&mut self, offset: usize, raw: &'a [u8]) {
        let line = self.lines.upto(self.bytes, offset);
        self.ordinal += 1;
        match tolerant(raw) {
            Some((value @ Value::Object(_), replaced)) => {
                if replaced > 0 {
                    self.items.push(Item::Damage(Damage {
                        line,
                        reason: replaced_reason(replaced),
                        lost: b"",
                    }));
                }
                self.items.push(Item::Record(Record { line, place: self.ordinal.to_string(), raw, value }));
            }
            _ => self.damage(offset, raw, false),
        }
    }

    fn damage(&mut self, offset: usize, lost: &'a [u8], another_follows: bool) {
        let line = self.lines.upto(self.bytes, offset);
        let error = first_value(lost).err();
        let mut text = reason(lost, error.as_ref(), false);
        if another_follows {
            text.push_str(", another record follows");
        }
        self.items.push(Item::Damage(Damage { line, reason: text, lost }));
    }

    /// Takes every record that is still whole; what lies between two of them is a loss.
    fn salvage(&mut self, is_record: fn(&Value) -> bool) {
        let (mut at, mut end) = (0, None);
        while let Some(found) = find(self.bytes, at, b"{") {
            at = found + 1;
            let here = self.bytes.get(found..).unwrap_or_default();
            let Ok((value, length)) = first_value(here) else { continue };
            if !is_record(&value) {
                continue;
            }
            if let Some(end) = end {
                self.gap(end, found, true);
            }
            let raw = here.get(..length).unwrap_or(here);
            self.record(found, raw);
            at = found + length;
            end = Some(at);
        }
        if let Some(end) = end {
            self.gap(end, self.bytes.len(), false);
        }
    }

    /// Reports what lies between two records, unless it is the end of their list.
    fn gap(&mut self, from: usize, to: usize, another_follows: bool) {
        let gap = self.bytes.get(from..to).unwrap_or_default();
        let separators = |b: &&u8| b.is_ascii_whitespace() || **b == b',';
        let skipped = gap.iter().take_while(separators).count();
        let lost = gap.get(skipped..).unwrap_or_default().trim_ascii_end();
        if !lost.is_empty() && lost.first() != Some(&b']') {
            // The lost record keeps its number, so that the ones behind it keep theirs.
            self.ordinal += 1;
            self.damage(from + skipped, lost, another_follows);
        }
    }
}

/// A value, with characters replaced where that is all that is wrong.
fn tolerant(raw: &[u8]) -> Option<(Value, usize)> {
    if let Ok(value) = serde_json::from_slice(raw) {
        return Some((value, 0));
    }
    let (mended, replaced) = mend(raw)?;
    serde_json::from_slice(&mended).ok().map(|value| (value, replaced))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str) -> (Vec<String>, Option<String>) {
        let document = read(text.as_bytes(), 1, "list", |v| v.get("r").is_some());
        let items = document.items.into_iter().map(|item| match item {
            Item::Record(r) => format!("{}:{} {}", r.line, r.place, r.value),
            Item::Damage(d) => format!("{}! {}", d.line, d.reason),
        });
        (items.collect(), document.fields.map(|f| Value::Object(f).to_string()))
    }

    #[test]
    fn whole_documents() {
        let (items, fields) = show("{\"x\":1,\n\"list\":[{\"r\":1},\n\n{\"r\":2}]}");
        assert_eq!(items, ["2:1 {\"r\":1}", "4:2 {\"r\":2}"]);
        assert_eq!(fields.as_deref(), Some("{\"x\":1}"));
        assert_eq!(show("[{\"r\":1},2]").0, ["1:1 {\"r\":1}", "1! 1 bytes that are no record"]);
        assert_eq!(show("{\"x\":1}").0, ["1! the document has no list `list`"]);
    }

    #[test]
    fn a_torn_document_gives_its_whole_records() {
        let (items, fields) = show("{\"list\":[{\"r\":1},\n{\"r\":{\"s\":2}},\n{\"r\":\"to");
        assert_eq!(
            items,
            [
                "1:1 {\"r\":1}",
                "2:2 {\"r\":{\"s\":2}}",
                "3! a record cut off after 8 bytes",
                "3! the document is damaged: EOF while parsing a string"
            ]
        );
        assert_eq!(fields, None);
    }

    #[test]
    fn a_damaged_middle_keeps_the_numbers_of_what_follows() {
        let (items, _) = show("[{\"r\":1},\n{\"r\":\0\0\0},\n{\"r\":3}]");
        assert_eq!(items[0], "1:1 {\"r\":1}");
        assert!(items[1].starts_with("2! 10 bytes of a record that 3 NUL bytes"), "{}", items[1]);
        assert_eq!(items[2], "3:3 {\"r\":3}");
    }
}
