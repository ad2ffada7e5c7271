//! `semj export --format semj`: events as the kernel's records, behind a head that says how many they are.
//!
//! The head comes first and must be right, so the events are gone through twice: to measure, and to write.

use super::Context;
use super::out::{self, Out, count};
use super::outcome::{Ended, Outcome, code};
use super::query::{Selection, walk};
use semj::kernel::{Cut, Encoded, How, Numbering, UserspaceHeader, encode_block};
use semj::{Query, Reader, Recorded};
use std::collections::BTreeMap;

/// Most records in a block.
const BLOCK_RECORDS_MAX: usize = 256;
/// Most bytes of records in a block; one record alone may not be more.
const BLOCK_BYTES_MAX: usize = 1 << 20;

/// Bytes in front of the records of a block.
const BLOCK_HEAD: usize = semj::kernel::BLOCK_A_BYTES;

const _: () = assert!(semj::kernel::RECORD_BYTES_MAX < BLOCK_BYTES_MAX);

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

/// Encodes one event after the other; the same events in the same order give the same bytes.
#[derive(Default)]
struct Encoder {
    numbering: Numbering,
    bytes: Vec<u8>,
}

impl Encoder {
    /// The record of the next event is in `bytes` then.
    fn next(&mut self, event: &Recorded) -> Result<Encoded, Ended> {
        self.numbering.learn(event);
        self.bytes.clear();
        self.numbering
            .encode(event, &mut self.bytes)
            .map_err(|why| Ended { code: code::REFUSED, message: format!("event {}: {why}", event.sequence) })
    }
}

fn measure(
    context: &Context,
    reader: &Reader,
    query: &Query,
    blocks: bool,
    strict: bool,
) -> Result<Measure, Ended> {
    let mut all = Measure { bytes: semj::kernel::STREAM_HEADER_BYTES as u64, ..Measure::default() };
    let (mut shape, mut encoder) = (Blocks::default(), Encoder::default());
    walk(context, reader, query.clone(), |event| {
        let encoded = encoder.next(&event)?;
        if let Some(cut) = encoded.cuts.first().filter(|_| strict) {
            return Err(Ended {
                code: code::REFUSED,
                message: format!("event {} does not fit a kernel record: {cut} (--strict)", event.sequence),
            });
        }
        all.note(&encoded.cuts);
        all.records += 1;
        all.imported += u64::from(encoded.is_imported);
        all.last_id = all.last_id.max(encoded.event_id);
        all.bytes += encoder.bytes.len() as u64;
        if blocks && shape.take(encoder.bytes.len()) {
            all.bytes += BLOCK_HEAD as u64;
        }
        Ok(())
    })?;
    all.instances = encoder.numbering.instances();
    Ok(all)
}

/// Puts records into a block and writes it.
fn write_block(out: &mut Out, id: u64, records: &mut Vec<u8>, block: &mut Vec<u8>) -> Outcome {
    block.clear();
    encode_block(id, records, block)
        .map_err(|why| Ended { code: code::REFUSED, message: why.to_string() })?;
    records.clear();
    out.bytes(block)
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
    let (mut shape, mut encoder) = (Blocks::default(), Encoder::default());
    let (mut records, mut block) = (Vec::new(), Vec::new());
    for event in reader.run(query).map_err(|e| context.failed(&e))? {
        encoder.next(&event.map_err(|e| context.failed(&e))?)?;
        if !blocks {
            out.bytes(&encoder.bytes)?;
            continue;
        }
        if shape.take(encoder.bytes.len()) && !records.is_empty() {
            write_block(&mut out, shape.id - 1, &mut records, &mut block)?;
        }
        records.extend_from_slice(&encoder.bytes);
    }
    if !records.is_empty() {
        write_block(&mut out, shape.id, &mut records, &mut block)?;
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
