//! Streams of kernel records: each record becomes an event that gives the same bytes back.

use super::KernelClock;
use semj_storage::event::{Event, Recorded};
use semj_storage::kernel::{
    Broken, Instances, Kind, Record, Reject, STREAM_HEADER_BYTES, Step, Stream, Walk, event_of, restore,
    set_wall_time,
};
use std::io::{self, Read};

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

/// What is wrong with a stream.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// Its head is damaged or of another version.
    #[error("the head of the stream cannot be read: {0}")]
    Head(Broken),
    /// It is part of a journal.
    #[error("this is a segment of a journal, no stream of records; open its journal with -j")]
    Segment,
    /// A record is broken; others may follow.
    #[error("{0}")]
    Record(Broken),
    /// Whoever hands out the bytes failed; none follow.
    #[error("at byte {offset}: cannot be read: {why}")]
    Read {
        /// So many bytes were read.
        offset: u64,
        /// Why there are no more.
        why: String,
    },
}

/// Read at once, in bytes.
const CHUNK_BYTES: usize = 256 << 10;

/// The bytes of a stream that were read and not yet taken: at most a block or a record, and a chunk.
#[derive(Debug)]
struct Buffer<R> {
    input: R,
    bytes: Vec<u8>,
    /// Taken up to here.
    at: usize,
    /// Where in the stream the bytes begin.
    start: u64,
    is_whole: bool,
}

impl<R: Read> Buffer<R> {
    fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn offset(&self) -> u64 {
        self.start + self.at as u64
    }

    /// Reads more; `false` at the end.
    fn fill(&mut self) -> Result<bool, StreamError> {
        if self.is_whole {
            return Ok(false);
        }
        self.bytes.drain(..self.at);
        self.start += self.at as u64;
        self.at = 0;
        let length = self.bytes.len();
        self.bytes.resize(length + CHUNK_BYTES, 0);
        let read = loop {
            match self.input.read(self.bytes.get_mut(length..).unwrap_or_default()) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.bytes.truncate(length + read.as_ref().copied().unwrap_or(0));
        let offset = self.start + length as u64;
        let read = read.map_err(|e| StreamError::Read { offset, why: e.to_string() });
        self.is_whole = !matches!(read, Ok(n) if n > 0);
        read.map(|n| n > 0)
    }
}

/// The events of a stream of kernel records, one at a time, as the bytes come: a record, or what is wrong in its place.
/// No more is kept of the stream than the record or block that is being read.
#[derive(Debug)]
pub struct KernelEvents<R> {
    buffer: Buffer<R>,
    walk: Walk,
    instances: Instances,
    clock: KernelClock,
    first: Option<String>,
    has_ended: bool,
    /// Length of the newest record.
    record: usize,
}

impl<R: Read> KernelEvents<R> {
    /// Opens a stream: bytes, a file, a pipe. `boot` names the kernel's boot, so that streams which begin at different
    /// records of one boot share their ids; without it a boot is known by its first record in the stream.
    ///
    /// # Errors
    /// When its head cannot be read.
    pub fn open(input: R, boot: Option<&str>) -> Result<Self, StreamError> {
        let mut buffer = Buffer { input, bytes: Vec::new(), at: 0, start: 0, is_whole: false };
        while buffer.rest().len() < SEGMENT_HEAD.max(Walk::OPEN_BYTES) && buffer.fill()? {}
        // A segment's first block begins behind its head; a stream may end there.
        if buffer.rest().len() == SEGMENT_HEAD {
            buffer.fill()?;
        }
        if is_segment(buffer.rest()) {
            return Err(StreamError::Segment);
        }
        let (walk, head) =
            Walk::open(buffer.rest()).map_err(|why| StreamError::Head(Broken { offset: 0, why }))?;
        buffer.at = head;
        Ok(KernelEvents {
            buffer,
            walk,
            instances: Instances::new(boot),
            clock: KernelClock::default(),
            first: None,
            has_ended: false,
            record: 0,
        })
    }

    /// With a clock: events of the first boot instance have times then. Of later ones nobody knows whether they are of the
    /// same boot.
    #[must_use]
    pub fn with_clock(mut self, clock: KernelClock) -> Self {
        self.clock = clock;
        self
    }

    /// The bytes of the record that the newest event was made of.
    pub fn record(&self) -> &[u8] {
        let start = self.buffer.at.saturating_sub(self.record);
        self.buffer.bytes.get(start..self.buffer.at).unwrap_or_default()
    }

    /// Whether a known event was made of the newest record, whatever it was called and when it was said to be: who journals
    /// a record first gives it source and time.
    pub fn is_record_of(&self, known: &Recorded) -> bool {
        let mut bytes = Vec::new();
        restore(&known.event, known.id, &known.causes, &mut bytes).is_some() && bytes == self.record()
    }

    /// The boot instance of the first record; several may follow.
    pub fn instance(&self) -> Option<&str> {
        self.first.as_deref()
    }

    /// So many bytes of the stream were read and made use of.
    pub fn offset(&self) -> u64 {
        self.buffer.offset()
    }

    /// The boot instance of the newest record, counted from 1; 0 before the first.
    pub fn instances(&self) -> u64 {
        self.instances.count()
    }

    fn event(&mut self, length: usize) -> Result<Event<'static>, Reject> {
        let record = self.buffer.rest().get(..length).unwrap_or_default();
        let (head, _) = Record::decode(record)?;
        let instance = self.instances.of(&head.header, record);
        self.first.get_or_insert_with(|| instance.name().to_owned());
        let mut event = event_of(record, &instance)?;
        let wall_ns = self.clock.wall_ns(head.header.ktime).filter(|_| self.instances.count() == 1);
        if let Some(wall_ns) = wall_ns {
            set_wall_time(&mut event, wall_ns);
        }
        Ok(event)
    }
}

impl<R: Read> Iterator for KernelEvents<R> {
    type Item = Result<Event<'static>, StreamError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.has_ended {
            let offset = usize::try_from(self.buffer.offset()).unwrap_or(usize::MAX);
            let broken = |why| StreamError::Record(Broken { offset, why });
            let (length, answer) = match self.walk.step(self.buffer.rest()) {
                Step::Skip(length) => (length, None),
                Step::Record(length) => (length, Some(self.event(length).map_err(broken))),
                Step::Damaged(length, why) => (length, Some(Err(broken(why)))),
                Step::Lost(why) => {
                    self.has_ended = true;
                    return Some(Err(broken(why)));
                }
                step => match (self.buffer.fill(), step) {
                    (Ok(true), _) => continue,
                    (Ok(false), Step::More(why)) => (self.buffer.rest().len(), Some(Err(broken(why)))),
                    (Ok(false), _) => break,
                    (Err(e), _) => {
                        self.has_ended = true;
                        return Some(Err(e));
                    }
                },
            };
            self.buffer.at += length;
            self.record = length;
            if answer.is_some() {
                return answer;
            }
        }
        self.has_ended = true;
        None
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

    /// Hands out so many bytes at a time, and fails in the end.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let n = self.1.min(self.0.len()).min(out.len());
            if n == 0 {
                return Err(io::Error::other("the line is cut"));
            }
            out[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    #[test]
    fn a_stream_that_trickles_gives_the_same_and_its_end_is_told_with_the_byte() {
        let records = [record(2, 1), record(3, 2), record(4, 3)].concat();
        let mut blocks = UserspaceHeader::new(3, 5, 0).encode().to_vec();
        semj_storage::kernel::encode_block(1, &records, &mut blocks).unwrap();
        for bytes in [&records, &blocks] {
            let want = ids(bytes, None);
            for piece in [1, 80, 132, 5_411, 5_412, 100_000] {
                let mut found = Vec::new();
                let mut events = KernelEvents::open(Trickle(bytes, piece), None).unwrap();
                let end = loop {
                    match events.next().unwrap() {
                        Ok(event) => found.push(event.given_id().unwrap()),
                        Err(end) => break end,
                    }
                };
                assert_eq!((found.len(), &found), (3, &want), "{piece}");
                assert_eq!(
                    end.to_string(),
                    format!("at byte {}: cannot be read: the line is cut", bytes.len())
                );
                assert!(events.next().is_none() && events.offset() == bytes.len() as u64);
            }
        }
    }

    #[test]
    fn a_torn_end_is_told_at_its_place() {
        let bytes = [record(2, 1), record(3, 2)].concat();
        let mut events = KernelEvents::open(&bytes[..9_000], None).unwrap();
        assert!(events.next().unwrap().is_ok());
        let torn = events.next().unwrap().unwrap_err().to_string();
        assert!(torn.starts_with("at byte 5412: truncated_body: "), "{torn}");
        assert!(events.next().is_none());
    }

    #[test]
    fn segments_of_journals_and_other_versions_are_refused_by_name() {
        let mut segment = UserspaceHeader::new(0, 0, 0).encode().to_vec();
        segment.extend_from_slice(&[1, 0, 0, 0]);
        segment.resize(4096, 0);
        for block in [&[][..], SEGMENT_BLOCK] {
            segment[256..256 + block.len()].copy_from_slice(block);
            assert!(!is_kernel_stream(&segment));
            assert_eq!(KernelEvents::open(segment.as_slice(), None).unwrap_err(), StreamError::Segment);
        }
        let first = [UserspaceHeader::new(0, 0, 0).encode().to_vec(), record(1, 1)].concat();
        assert!(is_kernel_stream(&first) && KernelEvents::open(first.as_slice(), None).is_ok());
        let mut header = UserspaceHeader::new(0, 1, 80);
        header.journal.version_major = 2;
        let refused = KernelEvents::open(&header.encode()[..], None).unwrap_err().to_string();
        assert!(refused.ends_with("this program reads version 1, found version 2"), "{refused}");
        assert!(is_kernel_stream(&record(2, 1)) && !is_kernel_stream(b"{}") && !is_kernel_stream(b""));
    }
}
