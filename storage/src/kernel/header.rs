//! The head of a stream: 52 bytes as a kernel journal would begin, 80 bytes as userspace begins one.
//!
//! The kernel's sources have neither. The 80-byte form is the 52-byte form, a marker and reserved bytes; each has a
//! checksum of its own kind in the same place.

use super::checksum::{sha_with_hole, with_hole};
use super::layout::layout;
use super::{HEADER_CHECKSUM_AT, MAGIC, MARKER, Reject, VERSION_MAJOR};

layout! {
    /// The 52-byte head.
    pub struct JournalHeader: 52 {
        /// `0x53454D4A`, on disk `4A 4D 45 53`.
        magic: u32 = 0,
        /// 1; others cannot be read.
        version_major: u32 = 4,
        /// Any; later ones only add.
        version_minor: u32 = 8,
        /// Number of records.
        total_events: u64 = 12,
        /// The next id to be given.
        next_event_id: u64 = 20,
        /// Bytes of the whole.
        journal_size: u64 = 28,
        /// Where an index begins; 0: none.
        index_offset: u64 = 36,
        /// Flags.
        flags: u32 = 44,
        /// Over the bytes with this field zero.
        checksum: u32 = 48,
    }
}

layout! {
    /// What follows the 52 bytes in the 80-byte head.
    pub struct HeaderTail: 28 {
        /// `0x55535253`: written in userspace.
        userspace_marker: u32 = 0,
        /// Zero, but kept.
        reserved: Reserved = 4,
    }
}

/// The 24 reserved bytes of the 80-byte head.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reserved(pub [u8; 24]);

impl super::layout::Width for Reserved {
    const WIDTH: usize = 24;
}

impl<'a> super::layout::Field<'a> for Reserved {
    fn read(bytes: &'a [u8], at: usize) -> Self {
        Reserved(super::layout::get(bytes, at))
    }
    fn write(&self, out: &mut [u8], at: usize) {
        super::layout::put(out, at, &self.0);
    }
    fn from_json(value: &serde_json::Value) -> Result<Self, super::Unreadable> {
        let bytes = super::json_in::hex_value(value)?;
        let all = bytes.as_slice().try_into();
        all.map(Reserved).map_err(|_| super::Unreadable::value("24 bytes in hexadecimal", value))
    }
}

/// The 80-byte head.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UserspaceHeader {
    /// The first 52 bytes.
    pub journal: JournalHeader,
    /// The rest.
    pub tail: HeaderTail,
}

impl JournalHeader {
    /// A head of this version; its checksum comes with the bytes.
    pub fn new(total_events: u64, next_event_id: u64, journal_size: u64) -> Self {
        JournalHeader {
            magic: MAGIC,
            version_major: VERSION_MAJOR,
            total_events,
            next_event_id,
            journal_size,
            ..JournalHeader::default()
        }
    }

    fn check_magic(&self) -> Result<(), Reject> {
        if self.magic == MAGIC {
            Ok(())
        } else {
            Err(Reject::BadMagic { expected: MAGIC, found: self.magic })
        }
    }

    fn check_version(&self) -> Result<(), Reject> {
        if self.version_major == VERSION_MAJOR {
            Ok(())
        } else {
            Err(Reject::BadVersion { expected: VERSION_MAJOR, found: self.version_major })
        }
    }

    fn check_sum(&self, expected: u32) -> Result<(), Reject> {
        if self.checksum == expected {
            Ok(())
        } else {
            Err(Reject::BadChecksum { expected, found: self.checksum })
        }
    }

    /// Reads the head at the start of `bytes`.
    ///
    /// # Errors
    /// Length, magic number, major version, checksum: the first that is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, Reject> {
        let raw = bytes.first_chunk::<52>();
        let raw = raw.ok_or(Reject::TruncatedHeader { expected: 52, found: bytes.len() })?;
        let header = JournalHeader::read(raw);
        header.check_magic()?;
        header.check_version()?;
        header.check_sum(with_hole(raw, HEADER_CHECKSUM_AT))?;
        Ok(header)
    }

    /// The bytes, with the checksum that fits.
    pub fn encode(&self) -> [u8; 52] {
        let mut header = self.clone();
        header.checksum = with_hole(&header.to_bytes(), HEADER_CHECKSUM_AT);
        header.to_bytes()
    }
}

impl UserspaceHeader {
    /// A head of this version; its checksum comes with the bytes.
    pub fn new(total_events: u64, next_event_id: u64, journal_size: u64) -> Self {
        UserspaceHeader {
            journal: JournalHeader::new(total_events, next_event_id, journal_size),
            tail: HeaderTail { userspace_marker: MARKER, reserved: Reserved::default() },
        }
    }

    /// Reads the head at the start of `bytes`.
    ///
    /// # Errors
    /// Length, magic number, marker, major version, checksum: the first that is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, Reject> {
        let raw = bytes.first_chunk::<80>();
        let raw = raw.ok_or(Reject::TruncatedHeader { expected: 80, found: bytes.len() })?;
        let (head, tail) = raw.split_first_chunk().zip(raw.last_chunk()).map_or_else(
            || (JournalHeader::default(), HeaderTail::default()),
            |((head, _), tail)| (JournalHeader::read(head), HeaderTail::read(tail)),
        );
        head.check_magic()?;
        if tail.userspace_marker != MARKER {
            return Err(Reject::BadMarker { expected: MARKER, found: tail.userspace_marker });
        }
        head.check_version()?;
        head.check_sum(sha_with_hole(raw, HEADER_CHECKSUM_AT))?;
        Ok(UserspaceHeader { journal: head, tail })
    }

    /// The bytes, with the checksum that fits.
    pub fn encode(&self) -> [u8; 80] {
        let mut out = [0; 80];
        super::layout::put(&mut out, 0, &self.journal.to_bytes());
        super::layout::put(&mut out, JournalHeader::BYTES, &self.tail.to_bytes());
        let checksum = sha_with_hole(&out, HEADER_CHECKSUM_AT);
        super::layout::put(&mut out, HEADER_CHECKSUM_AT, &checksum.to_le_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_begin_with_the_swapped_magic_and_refuse_every_flipped_bit() {
        let (short, long) = (JournalHeader::new(3, 5, 90), UserspaceHeader::new(3, 5, 90));
        assert_eq!(&short.encode()[..4], b"JMES");
        assert_eq!((&long.encode()[..4], &long.encode()[52..56]), (&b"JMES"[..], &b"SRSU"[..]));
        assert_eq!(JournalHeader::decode(&short.encode()).unwrap().encode(), short.encode());
        assert_eq!(UserspaceHeader::decode(&long.encode()).unwrap().encode(), long.encode());
        for bit in 0..80 * 8 {
            let mut bytes = long.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(UserspaceHeader::decode(&bytes).is_err(), "bit {bit}");
            if bit < 52 * 8 {
                let mut bytes = short.encode();
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(JournalHeader::decode(&bytes).is_err(), "bit {bit}");
            }
        }
    }

    #[test]
    fn a_newer_major_version_is_named_and_a_newer_minor_one_is_read() {
        let mut header = UserspaceHeader::new(0, 1, 80);
        header.journal.version_minor = 7;
        assert_eq!(UserspaceHeader::decode(&header.encode()).unwrap().journal.version_minor, 7);
        header.journal.version_major = 2;
        let refused = UserspaceHeader::decode(&header.encode()).unwrap_err();
        assert_eq!(refused.to_string(), "this program reads version 1, found version 2");
    }
}
