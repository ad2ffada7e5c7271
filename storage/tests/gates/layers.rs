//! Each checksum alone: what one layer would catch for another hides that the other does not work.

use super::Work;
use super::damage::{End, SETUP, SMALL, Subject, block_offsets, subject};
use crate::common::{Setup, lock_info, segments_folder, shared, verified};
use semj_storage::backend::MemoryBackend;
use semj_storage::log::{Codec, LogView, Segments};
use semj_storage::query::EventSource;
use semj_storage::verify::VerifyLevel;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

const HEADER: usize = 192;
const PREAMBLE: usize = 80;

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

fn put_crc(bytes: &mut [u8], at: usize, crc: u32) {
    bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
}

/// Every byte of every block is found wrong by the checksum of just that part.
pub fn each_checksum_stands_alone(work: Work) {
    let subject = subject(End::Closed, &SMALL, SETUP);
    let mut flips = 0;
    for (_, path) in &subject.segments {
        let whole = subject.disk.contents(path).unwrap();
        for block in block_offsets(&whole) {
            let body = block + HEADER;
            let end = body + u32_at(&whole, block + 16);
            // The last bytes are the ones a wrong range leaves out.
            let chosen = |at: &usize| work.takes(*at as u64, 5) || end - at <= 8;
            for at in (block + 8..end).filter(chosen) {
                let name = format!("{} byte {at}", path.display());
                let harm = subject.harm(path, at as u64, name, |bytes| bytes[at] ^= 0x10);
                let report = verified(&harm.image, VerifyLevel::Full).unwrap();
                let part = if at < body { "block header" } else { "block body" };
                let found = report.damage.iter().any(|d| d.offset == block as u64 && d.reason.contains(part));
                assert!(found, "{}: the checksum of the {part} does not see it: {report:?}", harm.name);
                flips += 1;
            }
        }
    }
    println!("{flips} flips");
}

/// A journal with one plain block that is large enough for single events to be read alone.
fn large() -> Subject {
    let setup = Setup { segment_bytes: 1 << 20, ..SETUP };
    subject(End::Closed, &[(400, 20, Codec::None), (2, 20, Codec::None)], setup)
}

/// Where the entries of the large block lie, in order.
fn entries(bytes: &[u8]) -> Vec<(usize, usize)> {
    let body = block_offsets(bytes)[0] + HEADER;
    let (count, length) = (u32_at(bytes, body + 8), u32_at(bytes, body + 12));
    let base = body + PREAMBLE + count * 8;
    let start = |index: usize| {
        if index == count { length } else { u32_at(bytes, body + PREAMBLE + index * 8) }
    };
    (0..count).map(|index| (base + start(index), base + start(index + 1))).collect()
}

fn read_alone(subject: &Subject, image: &MemoryBackend, sequence: u64, name: &str) -> bool {
    let journal = lock_info(&subject.disk).unwrap().journal;
    let segments = Segments::open(shared(image), segments_folder(), journal).unwrap();
    let view = LogView::new(Arc::new(segments), subject.last());
    let read = view.read(sequence, sequence, &mut |entry| {
        let right = subject.model[sequence as usize - 1].is(entry);
        assert!(right, "{name}: another event is given for event {sequence}");
        ControlFlow::Continue(())
    });
    read.is_ok()
}

/// Two events of one length, with their checksums, in each other's place: neither is given for the other.
pub fn events_that_changed_places_are_refused(work: Work) {
    let subject = large();
    let path = &subject.segments[0].1;
    let whole = subject.disk.contents(path).unwrap();
    let rows = block_offsets(&whole)[0] + HEADER + PREAMBLE;
    let entries = entries(&whole);
    let mut pairs = 0;
    for (index, pair) in entries.windows(2).enumerate().filter(|(i, _)| work.takes(*i as u64, 10)) {
        let [(a, middle), (_, b)] = [pair[0], pair[1]];
        if middle - a != b - middle {
            continue;
        }
        let image = subject.disk.kill_image();
        let change = |bytes: &mut Vec<u8>| {
            bytes[a..b].rotate_left(middle - a);
            let (first, second) = (rows + index * 8 + 4, rows + index * 8 + 12);
            for at in 0..4 {
                bytes.swap(first + at, second + at);
            }
        };
        image.damage(path, change).unwrap();
        for sequence in [index as u64 + 1, index as u64 + 2] {
            let name = format!("events {} and {} swapped", index + 1, index + 2);
            assert!(!read_alone(&subject, &image, sequence, &name), "{name}: not noticed");
        }
        pairs += 1;
    }
    println!("{pairs} pairs");
    assert!(pairs > 10);
}

/// CRC-32 with the four bytes at `hole` as zero, seeded with `seed`.
fn crc_with_hole(seed: &[u8], bytes: &[u8], hole: usize) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    [seed, &bytes[..hole], &[0; 4], &bytes[hole + 4..]].iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}

/// Somebody changes one event and makes every checksum right again.
pub fn a_change_with_all_checksums_made_right_breaks_the_chain(work: Work) {
    let subject = large();
    let path: &Path = &subject.segments[0].1;
    let whole = subject.disk.contents(path).unwrap();
    let journal = lock_info(&subject.disk).unwrap().journal;
    let block = block_offsets(&whole)[0];
    let rows = block + HEADER + PREAMBLE;
    let stored = u32_at(&whole, block + 16);
    let mut edits = 0;
    for (index, (start, end)) in entries(&whole).into_iter().enumerate() {
        // The last byte of an entry is one of its text.
        for at in [end - 1, end - 7].into_iter().filter(|_| work.takes(index as u64, 20)) {
            let image = subject.disk.kill_image();
            let change = |bytes: &mut Vec<u8>| {
                bytes[at] = if bytes[at] == b'a' { b'b' } else { b'a' };
                let covered = [&(index as u32).to_le_bytes()[..], &bytes[start..end]].concat();
                put_crc(bytes, rows + index * 8 + 4, crc32fast::hash(&covered));
                let body = crc32fast::hash(&bytes[block + HEADER..block + HEADER + stored]);
                put_crc(bytes, block + 12, body);
                let header = crc_with_hole(journal.as_bytes(), &bytes[block..block + HEADER], 8);
                put_crc(bytes, block + 8, header);
            };
            image.damage(path, change).unwrap();
            let report = verified(&image, VerifyLevel::Full).unwrap();
            let name = format!("event {} changed at byte {at}", index + 1);
            let found = report.damage.first().unwrap_or_else(|| panic!("{name}: not noticed"));
            assert!(found.offset == block as u64 && found.reason.contains("hash chain"), "{name}: {found}");
            edits += 1;
        }
    }
    println!("{edits} edits");
}
