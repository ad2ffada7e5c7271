//! `semj export --format semj`: events as the kernel's records, behind a head that says how many they are.
//!
//! The head comes first and must be right, so the events are gone through twice: to measure, and to write.

use super::Context;
use super::out::{self, Out, count};
use super::outcome::{Ended, Outcome, code};
use super::query::{Selection, walk};
use semj::kernel::{Cut, How, Numbering, UserspaceHeader, encode_block};
use semj::{Query, Reader, Recorded};
use std::collections::BTreeMap;

/// Most records in a block.
const BLOCK_RECORDS_MAX: usize = 256;
/// Most bytes of records in a block; one record alone may not be more.
const BLOCK_BYTES_MAX: usize = 1 << 20;

/// Bytes in front of the records of a block.
const BLOCK_HEAD: usize = semj::kernel::BLOCK_A_BYTES;

/// Where one block ends and the next begins.
#[derive(Default)]
struct Blocks {
    records: usize,
    bytes: usize,
    /// The last block that was begun; 0 before the first.
    id: u64,
}

impl Blocks {
    /// Takes a record of this length; whether it begins a block.
    fn take(&mut self, length: usize) -> bool {
        let begins =
            self.id == 0 || self.records == BLOCK_RECORDS_MAX || self.bytes + length > BLOCK_BYTES_MAX;
        if begins {
            *self = Blocks { records: 0, bytes: 0, id: self.id + 1 };
        }
        self.records += 1;
        self.bytes += length;
        begins
    }
}

/// What was learnt by measuring.
#[derive(Default)]
struct Measure {
    records: u64,
    imported: u64,
    last_id: u64,
    bytes: u64,
    cut_events: u64,
    cuts: BTreeMap<(&'static str, String), u64>,
    instances: usize,
}

impl Measure {
    fn note(&mut self, cuts: &[Cut]) {
        self.cut_events += u64::from(!cuts.is_empty());
        for cut in cuts {
            let how = match cut.how {
                How::Shortened { .. } => "shortened".to_owned(),
                how => how.to_string(),
            };
            *self.cuts.entry((cut.field, how)).or_default() += 1;
        }
    }

    /// Says on stderr what the stream does not hold as it was.
    fn tell(&self) {
        for ((field, how), events) in &self.cuts {
            out::complain(&format!("{field} {how}: {} events", count(*events)));
        }
        if self.cut_events > 0 {
            out::complain(&format!(
                "{} of {} events were cut to fit the kernel's records; --strict refuses instead",
                count(self.cut_events),
                count(self.records)
            ));
        }
        let origins = self.instances + usize::from(self.imported < self.records);
        if origins > 1 {
            out::complain(&format!(
                "the stream holds records of {origins} origins, which each count from the start: their ids may repeat; --stream keeps them apart"
            ));
        }
    }
}

/// Encodes every event of the question and hands its bytes to `each`.
fn encode_each(
    events: &mut dyn FnMut(&mut dyn FnMut(Recorded) -> Outcome) -> Result<u64, Ended>,
    mut each: impl FnMut(&Recorded, &semj::kernel::Encoded, &[u8], usize) -> Outcome,
) -> Result<u64, Ended> {
    let mut numbering = Numbering::default();
    let mut bytes = Vec::new();
    events(&mut |event| {
        numbering.learn(&event);
        bytes.clear();
        let encoded = numbering.encode(&event, &mut bytes).map_err(|why| Ended {
            code: code::REFUSED,
            message: format!("event {}: {why}", event.sequence),
        })?;
        each(&event, &encoded, &bytes, numbering.instances())
    })
}

fn measure(
    context: &Context,
    reader: &Reader,
    query: &Query,
    blocks: bool,
    strict: bool,
) -> Result<Measure, Ended> {
    let mut all = Measure { bytes: semj::kernel::STREAM_HEADER_BYTES as u64, ..Measure::default() };
    let mut shape = Blocks::default();
    encode_each(
        &mut |each| walk(context, reader, query.clone(), each),
        |event, encoded, bytes, instances| {
            if let Some(cut) = encoded.cuts.first().filter(|_| strict) {
                return Err(Ended {
                    code: code::REFUSED,
                    message: format!(
                        "event {} does not fit a kernel record: {cut} (--strict)",
                        event.sequence
                    ),
                });
            }
            all.note(&encoded.cuts);
            all.records += 1;
            all.imported += u64::from(encoded.is_imported);
            all.last_id = all.last_id.max(encoded.event_id);
            all.bytes += bytes.len() as u64;
            if blocks && shape.take(bytes.len()) {
                all.bytes += BLOCK_HEAD as u64;
            }
            all.instances = instances;
            Ok(())
        },
    )?;
    Ok(all)
}

/// Writes the selected events as one stream.
pub(super) fn run(context: &Context, selection: &Selection, blocks: bool, strict: bool) -> Outcome {
    let reader = context.read()?;
    let last = reader.durable_sequence().map_err(|e| context.failed(&e))?;
    let mut query = selection.query();
    // Both times the same events, whatever is emitted meanwhile.
    query.before = Some(query.before.map_or(last + 1, |b| b.min(last + 1)));
    let all = measure(context, &reader, &query, blocks, strict)?;
    let mut out = Out::new(true);
    out.bytes(&UserspaceHeader::new(all.records, all.last_id.saturating_add(1), all.bytes).encode())?;
    let (mut shape, mut records, mut block) = (Blocks::default(), Vec::new(), Vec::new());
    let mut whole = |out: &mut Out, id: u64, records: &mut Vec<u8>| {
        block.clear();
        encode_block(id, records, &mut block)
            .map_err(|why| Ended { code: code::REFUSED, message: why.to_string() })?;
        records.clear();
        out.bytes(&block)
    };
    let mut again = |each: &mut dyn FnMut(Recorded) -> Outcome| {
        let mut found = 0;
        for event in reader.run(query.clone()).map_err(|e| context.failed(&e))? {
            found += 1;
            each(event.map_err(|e| context.failed(&e))?)?;
        }
        Ok(found)
    };
    encode_each(&mut again, |_, _, bytes, _| {
        if !blocks {
            return out.bytes(bytes);
        }
        if shape.take(bytes.len()) && !records.is_empty() {
            whole(&mut out, shape.id - 1, &mut records)?;
        }
        records.extend_from_slice(bytes);
        Ok(())
    })?;
    if !records.is_empty() {
        whole(&mut out, shape.id, &mut records)?;
    }
    out.flush()?;
    all.tell();
    selection.judge(all.records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_end_by_records_and_by_bytes() {
        let begins = |lengths: &[usize]| {
            let mut blocks = Blocks::default();
            lengths.iter().filter(|l| blocks.take(**l)).count()
        };
        assert_eq!((begins(&[]), begins(&[5412]), begins(&[1; 256]), begins(&[1; 257])), (0, 1, 1, 2));
        assert_eq!((begins(&[1 << 19, 1 << 19]), begins(&[1 << 19, 1 << 19, 1])), (1, 2));
    }
}

const _: () = assert!(semj::kernel::RECORD_BYTES_MAX < BLOCK_BYTES_MAX);
