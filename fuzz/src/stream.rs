//! Streams: every byte is in a record, passed over or told as broken, and behind damage the next whole record is found.

use super::{allocated, mend};
use semj_storage::kernel::{
    JournalHeader, Kind, Record, Step, Stream, UserspaceHeader, Walk, encode_block, next_record,
};

/// Checks the bytes as a stream, cut up at random, and as damage between two whole records, with and without a head,
/// as records and in blocks.
///
/// # Panics
/// When something is not true.
pub fn check(data: &[u8]) {
    as_it_is(data);
    // The first byte says what stands before the damage, the second where a piece ends.
    let (kind, rest) = data.split_first().unwrap_or((&0, &[]));
    let (first, last) = (mend::record(rest), mend::record(rest.get(rest.len() / 2..).unwrap_or_default()));
    let head: &[u8] = match kind & 3 {
        0 => &[],
        1 => &JournalHeader::new(2, 3, 0).encode(),
        _ => &UserspaceHeader::new(2, 3, 0).encode(),
    };
    let mut body = Vec::new();
    if kind & 4 == 0 {
        body.extend_from_slice(&first);
    } else {
        encode_block(1, &first, &mut body).expect("a whole record goes into a block");
    }
    let whole = [head, &body].concat();
    // A record may be a block's in every field of its head; no kernel gives such numbers.
    if kind & 4 != 0 || Kind::guess(&first) == Kind::Event {
        assert_eq!(records(&whole), 1, "a stream that was made is whole");
    }
    as_it_is(&whole);
    as_it_is(&[whole.as_slice(), rest, &last].concat());
    behind_damage(rest, &last);
}

/// How many records there are.
fn records(bytes: &[u8]) -> usize {
    Stream::open(bytes).map_or(0, |stream| stream.filter(Result::is_ok).count())
}

fn as_it_is(bytes: &[u8]) {
    // Only the place and the reason of what is broken are kept.
    let found = allocated::within(bytes.len(), || Stream::open(bytes));
    let Ok(stream) = found else {
        assert!(Walk::open(bytes).is_err());
        return;
    };
    let all: Vec<_> = stream.collect();
    for record in all.iter().flatten() {
        assert!(Record::decode(record).is_ok_and(|(_, used)| used == record.len()));
    }
    // The same, by somebody who gets the bytes piece by piece.
    let (mut walk, mut at) = Walk::open(bytes).expect("the head was read before");
    let piece = 1 + bytes.len() / 3;
    let (mut end, mut walked) = (piece.max(Walk::OPEN_BYTES).min(bytes.len()), Vec::new());
    loop {
        let rest = &bytes[at..end];
        let step = walk.step(rest);
        let length = match step {
            Step::End | Step::More(_) if end < bytes.len() => {
                end = (end + piece).min(bytes.len());
                continue;
            }
            Step::End => break,
            Step::Skip(length) => length,
            Step::Record(length) => {
                walked.push(Ok(&rest[..length]));
                length
            }
            Step::Damaged(length, why) => {
                walked.push(Err((at, why)));
                length
            }
            Step::More(why) | Step::Lost(why) => {
                walked.push(Err((at, why)));
                break;
            }
        };
        assert!(length > 0 && length <= rest.len(), "a step goes on, within the bytes");
        at += length;
    }
    let all: Vec<_> = all.into_iter().map(|r| r.map_err(|b| (b.offset, b.why))).collect();
    assert!(all == walked, "in one piece and piece by piece a stream is the same");
}

/// The first whole record behind the first byte is found, none earlier is passed over.
fn behind_damage(damage: &[u8], record: &[u8]) {
    // Every place is tried: what is long tells nothing more.
    let damage = &damage[..damage.len().min(600)];
    let bytes = [&[0xA5], damage, record].concat();
    let expected = (1..bytes.len()).find(|at| Record::decode(&bytes[*at..]).is_ok());
    assert_eq!(next_record(&bytes), expected);
    assert!(expected.is_some_and(|at| at <= 1 + damage.len()));
}
