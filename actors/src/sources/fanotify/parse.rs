//! The events of fanotify as bytes: `struct fanotify_event_metadata` and the records behind it, in `<linux/fanotify.h>`.

use super::super::native::{u16_at, u32_at, u64_at};

/// `event_len`, `vers`, `reserved`, `metadata_len`, `mask`, `fd`, `pid`.
const METADATA: usize = 24;
const MASK: usize = 8;
const PID: usize = 20;
/// A record begins with its type, a padding byte and its length.
const RECORD_HEAD: usize = 4;
/// Where the length of the handle stands in a record: behind the head and the file system's id.
const HANDLE: usize = RECORD_HEAD + 8;
/// Where the bytes of the handle begin: behind its length and its type.
const HANDLE_BYTES: usize = HANDLE + 8;

const TYPE_FID: u8 = 1;
const TYPE_FOLDER_AND_NAME: u8 = 2;
const TYPE_FOLDER: u8 = 3;
const TYPE_OLD_NAME: u8 = 10;
const TYPE_NEW_NAME: u8 = 12;

/// A file by its handle: file system id, length and type of the handle, and its bytes, as they came.
pub(super) type Fid<'b> = &'b [u8];

/// The file system's id in a [`Fid`].
pub(super) fn file_system(fid: Fid<'_>) -> Option<[u8; 8]> {
    fid.first_chunk().copied()
}

/// Type and bytes of the handle in a [`Fid`].
pub(super) fn handle(fid: Fid<'_>) -> Option<(i32, &[u8])> {
    Some((u32_at(fid, 12)?.cast_signed(), fid.get(16..)?))
}

/// One event. Names are the last part of a path, in the folder named by the handle beside them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Raw<'b> {
    /// What happened: several bits where the kernel merged events.
    pub(super) mask: u64,
    /// The process; 0 where the caller may not know.
    pub(super) pid: u32,
    /// The object itself.
    pub(super) object: Option<Fid<'b>>,
    /// The folder and the name.
    pub(super) place: Option<(Fid<'b>, &'b [u8])>,
    /// The folder and the name before a rename.
    pub(super) old: Option<(Fid<'b>, &'b [u8])>,
    /// The folder and the name after a rename.
    pub(super) new: Option<(Fid<'b>, &'b [u8])>,
}

/// The first event of `bytes` and its length; `None` at the end, or where the bytes are no event.
pub(super) fn first(bytes: &[u8]) -> Option<(Raw<'_>, usize)> {
    let length = u32_at(bytes, 0)? as usize;
    let event = bytes.get(..length).filter(|e| e.len() >= METADATA)?;
    let mut raw = Raw { mask: u64_at(event, MASK)?, pid: u32_at(event, PID)?, ..Raw::default() };
    let mut rest = event.get(usize::from(u16_at(event, 6)?)..)?;
    while let Some((kind, record, behind)) = record(rest) {
        rest = behind;
        match kind {
            TYPE_FID => raw.object = fid(record).map(|(fid, _)| fid),
            TYPE_FOLDER_AND_NAME => raw.place = named(record),
            TYPE_FOLDER => raw.place = fid(record).map(|(fid, _)| (fid, &b"."[..])),
            TYPE_OLD_NAME => raw.old = named(record),
            TYPE_NEW_NAME => raw.new = named(record),
            _ => {}
        }
    }
    Some((raw, length))
}

/// The type of the first record, the record, and what is behind it.
fn record(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let kind = *bytes.first()?;
    let length = usize::from(u16_at(bytes, 2)?);
    (length >= RECORD_HEAD).then_some(())?;
    Some((kind, bytes.get(..length)?, bytes.get(length..)?))
}

/// The handle in a record, and where it ends.
fn fid(record: &[u8]) -> Option<(Fid<'_>, usize)> {
    let end = HANDLE_BYTES.checked_add(u32_at(record, HANDLE)? as usize)?;
    Some((record.get(RECORD_HEAD..end)?, end))
}

/// The handle in a record and the name behind it, up to its zero byte.
fn named(record: &[u8]) -> Option<(Fid<'_>, &[u8])> {
    let (fid, end) = fid(record)?;
    let name = record.get(end..)?.split(|b| *b == 0).next()?;
    Some((fid, name))
}

#[cfg(test)]
mod tests {
    use super::super::super::native::{put_u16, put_u32};
    use super::*;

    /// A record with a handle of 8 bytes, and a name.
    fn record_of(kind: u8, handle: u64, name: &str) -> Vec<u8> {
        let mut body = vec![7; 8];
        put_u32(&mut body, 8);
        put_u32(&mut body, 1);
        body.extend(handle.to_be_bytes());
        if kind != TYPE_FID {
            body.extend(name.as_bytes());
            body.push(0);
        }
        body.resize(body.len().next_multiple_of(4), 0);
        let mut bytes = vec![kind, 0];
        put_u16(&mut bytes, body.len() as u16 + 4);
        bytes.extend(body);
        bytes
    }

    /// An event with these records.
    fn event_of(mask: u64, pid: u32, records: &[Vec<u8>]) -> Vec<u8> {
        let records = records.concat();
        let mut bytes = Vec::new();
        put_u32(&mut bytes, (METADATA + records.len()) as u32);
        bytes.extend([3, 0]);
        put_u16(&mut bytes, METADATA as u16);
        put_u32(&mut bytes, mask as u32);
        put_u32(&mut bytes, (mask >> 32) as u32);
        put_u32(&mut bytes, u32::MAX);
        put_u32(&mut bytes, pid);
        bytes.extend(records);
        bytes
    }

    #[test]
    fn names_and_handles_come_out_as_they_went_in() {
        let records = [record_of(10, 1, "old"), record_of(12, 2, "a longer name"), record_of(1, 3, "")];
        let bytes = event_of(1 << 28, 42, &records);
        let (raw, length) = first(&bytes).unwrap();
        assert_eq!((length, raw.mask, raw.pid), (bytes.len(), 1 << 28, 42));
        assert_eq!(raw.old.map(|o| o.1), Some(&b"old"[..]));
        assert_eq!(raw.new.map(|n| n.1), Some(&b"a longer name"[..]));
        assert_eq!(handle(raw.object.unwrap()), Some((1, &3u64.to_be_bytes()[..])));
        assert_eq!(file_system(raw.object.unwrap()), Some([7; 8]));
    }

    #[test]
    fn bytes_that_are_cut_or_wrong_are_never_read_beyond_their_end() {
        let bytes = event_of(2, 42, &[record_of(2, 1, "name"), record_of(1, 3, "")]);
        for length in 0..bytes.len() {
            assert_eq!(first(&bytes[..length]), None, "cut at {length}");
        }
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7F, 0xFF] {
                let mut wrong = bytes.clone();
                wrong[at] = value;
                let _ = first(&wrong);
            }
        }
    }
}
