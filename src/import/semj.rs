//! Streams of kernel records: each record becomes an event that gives the same bytes back.

use semj_storage::event::Event;
use semj_storage::kernel::{Broken, Instances, Kind, Record, Reject, STREAM_HEADER_BYTES, Stream, event_of};

/// Bytes of the head of a segment of our own; it begins with the head of a stream.
const SEGMENT_HEAD: usize = 256;
/// What begins every block of a segment.
const SEGMENT_BLOCK: &[u8] = b"SEMJBLK1";

/// Whether the bytes are a segment of a journal: where a stream has its first record, a segment has its format version,
/// reserved zeros at the end of its head, and then its first block.
fn is_segment(bytes: &[u8]) -> bool {
    let Some((head, rest)) = bytes.split_at_checked(SEGMENT_HEAD) else { return false };
    let version = head.get(STREAM_HEADER_BYTES..STREAM_HEADER_BYTES + 4);
    let reserved = head.get(192..).unwrap_or_default();
    let looks_so = Kind::guess(bytes) == Kind::UserspaceHeader
        && version == Some(&[1, 0, 0, 0])
        && reserved.iter().all(|b| *b == 0);
    rest.starts_with(SEGMENT_BLOCK)
        || looks_so && Record::decode(bytes.get(STREAM_HEADER_BYTES..).unwrap_or_default()).is_err()
}

/// Whether the bytes begin a stream of kernel records.
pub fn is_kernel_stream(bytes: &[u8]) -> bool {
    !is_segment(bytes) && Stream::is_one(bytes)
}

/// Why a stream cannot be read at all.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// Its head is damaged or of another version.
    #[error("the head of the stream cannot be read: {0}")]
    Head(Broken),
    /// It is part of a journal.
    #[error("this is a segment of a journal, no stream of records; open its journal with -j")]
    Segment,
}

/// The events of a stream of kernel records, one at a time: a record, or what is wrong in its place.
#[derive(Debug)]
pub struct KernelEvents<'a> {
    stream: Stream<'a>,
    instances: Instances,
    first: Option<String>,
}

impl<'a> KernelEvents<'a> {
    /// Opens a stream. `boot` names the kernel's boot, so that streams which begin at different records of one boot
    /// share their ids; without it a boot is known by its first record in the stream.
    ///
    /// # Errors
    /// When its head cannot be read.
    pub fn open(bytes: &'a [u8], boot: Option<&str>) -> Result<Self, StreamError> {
        if is_segment(bytes) {
            return Err(StreamError::Segment);
        }
        let stream = Stream::open(bytes).map_err(StreamError::Head)?;
        Ok(KernelEvents { stream, instances: Instances::new(boot), first: None })
    }

    /// The boot instance of the first record; several may follow.
    pub fn instance(&self) -> Option<&str> {
        self.first.as_deref()
    }

    fn event(&mut self, record: &[u8]) -> Result<Event<'static>, Reject> {
        let (head, _) = Record::decode(record)?;
        let instance = self.instances.of(head.header.event_id, head.header.checksum, record);
        self.first.get_or_insert_with(|| instance.name().to_owned());
        event_of(record, &instance)
    }
}

impl Iterator for KernelEvents<'_> {
    type Item = Result<Event<'static>, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = match self.stream.next()? {
            Ok(record) => record,
            Err(broken) => return Some(Err(broken)),
        };
        Some(self.event(record).map_err(|why| Broken { offset: 0, why }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use semj_storage::kernel::{EventHeader, UserspaceHeader};

    fn record(event_id: u64, sequence: u64) -> Vec<u8> {
        let header = EventHeader { event_id, sequence, ..EventHeader::default() };
        Record { header, ..Record::default() }.to_bytes().unwrap()
    }

    fn ids(bytes: &[u8], boot: Option<&str>) -> Vec<uuid::Uuid> {
        KernelEvents::open(bytes, boot).unwrap().map(|e| e.unwrap().given_id().unwrap()).collect()
    }

    #[test]
    fn the_same_stream_gives_the_same_ids_and_a_grown_one_adds() {
        let short = [record(2, 1), record(3, 2)].concat();
        let long = [short.clone(), record(4, 3), record(2, 9)].concat();
        assert_eq!(ids(&short, None), ids(&long, None)[..2]);
        let all: std::collections::BTreeSet<_> = ids(&long, None).into_iter().collect();
        assert_eq!(all.len(), 4, "a number that came again is another boot's");
        // A stream that begins later knows its boot by name only.
        assert_ne!(ids(&record(3, 2), None)[0], ids(&short, None)[1]);
        assert_eq!(ids(&record(3, 2), Some("b"))[0], ids(&short, Some("b"))[1]);
    }

    #[test]
    fn segments_of_journals_and_other_versions_are_refused_by_name() {
        let mut segment = UserspaceHeader::new(0, 0, 0).encode().to_vec();
        segment.extend_from_slice(&[1, 0, 0, 0]);
        segment.resize(4096, 0);
        for block in [&[][..], SEGMENT_BLOCK] {
            segment[256..256 + block.len()].copy_from_slice(block);
            assert!(!is_kernel_stream(&segment));
            assert_eq!(KernelEvents::open(&segment, None).unwrap_err(), StreamError::Segment);
        }
        let first = [UserspaceHeader::new(0, 0, 0).encode().to_vec(), record(1, 1)].concat();
        assert!(is_kernel_stream(&first) && KernelEvents::open(&first, None).is_ok());
        let mut header = UserspaceHeader::new(0, 1, 80);
        header.journal.version_major = 2;
        let refused = KernelEvents::open(&header.encode(), None).unwrap_err().to_string();
        assert!(refused.ends_with("this program reads version 1, found version 2"), "{refused}");
        assert!(is_kernel_stream(&record(2, 1)) && !is_kernel_stream(b"{}") && !is_kernel_stream(b""));
    }
}
