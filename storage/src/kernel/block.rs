//! Storage blocks: layout A, declared in the kernel's public header, is written and read; layout B, of its storage
//! engine, holds no real event and is only looked at.

use super::checksum::with_hole;
use super::layout::{get, layout, put};
use super::record::frame;
use super::{
    BLOCK_A_BYTES, BLOCK_A_CHECKSUM_AT, BLOCK_B_BYTES, BLOCK_B_DATA_AT, BLOCK_B_DATA_BYTES, BLOCK_B_SLOTS,
    BLOCK_MAGIC, EventHeader, Record, Reject,
};

layout! {
    /// The head of a block of layout A.
    pub struct BlockHeader: 104 {
        /// `0x53544F52`, "STOR".
        block_magic: u32 = 0,
        /// 1.
        block_version: u32 = 4,
        /// Given by the writer.
        block_id: u64 = 8,
        /// 104 and the stored data.
        block_size: u32 = 16,
        /// Number of records.
        event_count: u32 = 20,
        /// 0: none.
        compression_type: u32 = 24,
        /// Bytes of the stored data.
        compressed_size: u32 = 28,
        /// Bytes of the records.
        uncompressed_size: u32 = 32,
        /// Over the whole block with this field zero.
        block_checksum: u32 = 36,
        /// Timestamp of the first record.
        first_ktime: i64 = 40,
        /// Timestamp of the first record.
        first_sequence: u64 = 48,
        /// Timestamp of the first record.
        first_cpu_id: u32 = 56,
        /// Timestamp of the first record.
        first_process_id: u32 = 60,
        /// Timestamp of the last record.
        last_ktime: i64 = 64,
        /// Timestamp of the last record.
        last_sequence: u64 = 72,
        /// Timestamp of the last record.
        last_cpu_id: u32 = 80,
        /// Timestamp of the last record.
        last_process_id: u32 = 84,
        /// Id of the first record.
        first_event_id: u64 = 88,
        /// Id of the last record.
        last_event_id: u64 = 96,
    }
}

/// A block of layout A.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block<'a> {
    /// The head.
    pub header: BlockHeader,
    /// The records, back to back; every one was decoded.
    pub records: &'a [u8],
}

impl<'a> Block<'a> {
    /// Reads the block at the start of `bytes` and every record in it. Nothing is allocated by a size of the block.
    ///
    /// # Errors
    /// The first thing that is wrong with the block, or with one of its records.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Reject> {
        let raw = bytes.first_chunk();
        let header = BlockHeader::read(
            raw.ok_or(Reject::TruncatedHeader { expected: BLOCK_A_BYTES, found: bytes.len() })?,
        );
        if header.block_magic != BLOCK_MAGIC {
            return Err(Reject::BadMagic { expected: BLOCK_MAGIC, found: header.block_magic });
        }
        if header.block_version != 1 {
            return Err(Reject::BadVersion { expected: 1, found: header.block_version });
        }
        let size = BLOCK_A_BYTES as u64 + u64::from(header.compressed_size);
        if u64::from(header.block_size) != size {
            return Err(Reject::SizeMismatch { expected: size, found: header.block_size.into() });
        }
        let whole = usize::try_from(size).ok().and_then(|n| bytes.get(..n));
        let whole = whole.ok_or(Reject::TruncatedBody { expected: size, found: bytes.len() })?;
        let expected = with_hole(whole, BLOCK_A_CHECKSUM_AT);
        if expected != header.block_checksum {
            return Err(Reject::BadChecksum { expected, found: header.block_checksum });
        }
        if header.compression_type != 0 {
            return Err(Reject::UnsupportedCompression(header.compression_type));
        }
        if header.uncompressed_size != header.compressed_size {
            return Err(Reject::SizeMismatch {
                expected: header.compressed_size.into(),
                found: header.uncompressed_size.into(),
            });
        }
        let block = Block { records: whole.get(BLOCK_A_BYTES..).unwrap_or_default(), header };
        block.check_records()?;
        Ok(block)
    }

    fn check_records(&self) -> Result<(), Reject> {
        let (mut rest, mut ids) = (self.records, None);
        for index in 0..self.header.event_count {
            let (record, used) =
                Record::decode(rest).map_err(|why| Reject::BadEvent { index, why: Box::new(why) })?;
            let id = record.header.event_id;
            ids = Some((ids.map_or(id, |(first, _)| first), id));
            rest = rest.get(used..).unwrap_or_default();
        }
        if !rest.is_empty() {
            return Err(Reject::TrailingData(rest.len()));
        }
        let found = (self.header.first_event_id, self.header.last_event_id);
        match ids {
            Some(expected) if expected != found => Err(Reject::IdRangeMismatch { expected, found }),
            _ => Ok(()),
        }
    }

    /// The bytes of each record, in order.
    pub fn each(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = self.records;
        std::iter::from_fn(move || {
            let (_, whole) = frame(rest).ok()?;
            rest = rest.get(whole.len()..).unwrap_or_default();
            Some(whole)
        })
    }

    /// Bytes of the whole block.
    pub fn bytes(&self) -> usize {
        BLOCK_A_BYTES + self.records.len()
    }
}

/// Appends a block of layout A around `records`, which are whole and back to back.
///
/// # Errors
/// When `records` are not that, or take 4 GiB and more.
pub fn encode_block(block_id: u64, records: &[u8], out: &mut Vec<u8>) -> Result<(), Reject> {
    let (mut rest, mut count, mut first, mut last) = (records, 0u32, None::<EventHeader>, None);
    while !rest.is_empty() {
        let (record, used) =
            Record::decode(rest).map_err(|why| Reject::BadEvent { index: count, why: Box::new(why) })?;
        first.get_or_insert_with(|| record.header.clone());
        last = Some(record.header);
        count += 1;
        rest = rest.get(used..).unwrap_or_default();
    }
    let (first, last) = first.zip(last).unwrap_or_default();
    let size = |n: usize| {
        u32::try_from(n).map_err(|_| Reject::SizeMismatch { expected: n as u64, found: u32::MAX.into() })
    };
    let header = BlockHeader {
        block_magic: BLOCK_MAGIC,
        block_version: 1,
        block_id,
        block_size: size(BLOCK_A_BYTES + records.len())?,
        event_count: count,
        compressed_size: size(records.len())?,
        uncompressed_size: size(records.len())?,
        first_ktime: first.ktime,
        first_sequence: first.sequence,
        first_cpu_id: first.cpu_id,
        first_process_id: first.process_id,
        last_ktime: last.ktime,
        last_sequence: last.sequence,
        last_cpu_id: last.cpu_id,
        last_process_id: last.process_id,
        first_event_id: first.event_id,
        last_event_id: last.event_id,
        ..BlockHeader::default()
    };
    let start = out.len();
    out.extend_from_slice(&header.to_bytes());
    out.extend_from_slice(records);
    let whole = out.get_mut(start..).unwrap_or_default();
    let checksum = with_hole(whole, BLOCK_A_CHECKSUM_AT);
    put(whole, BLOCK_A_CHECKSUM_AT, &checksum.to_le_bytes());
    Ok(())
}

layout! {
    /// The head of a block of layout B.
    pub struct StoreHeader: 72 {
        /// `0x53544F52`, "STOR".
        magic: u32 = 0,
        /// 1.
        version: u32 = 4,
        /// Counted from 1.
        block_id: u64 = 8,
        /// Number of entries.
        event_count: u32 = 16,
        /// Bytes of the data area that are used.
        used_space: u32 = 20,
        /// 0: none.
        compression_type: u32 = 24,
        /// Never computed: 0.
        checksum: u32 = 28,
        /// Id of the first entry.
        first_event_id: u64 = 32,
        /// Id of the last entry.
        last_event_id: u64 = 40,
        /// Monotonic nanoseconds since boot.
        creation_time: i64 = 48,
        /// Zero.
        reserved_low: u64 = 56,
        /// Zero.
        reserved_high: u64 = 64,
    }
}

layout! {
    /// A slot of a block of layout B.
    pub struct StoreEntry: 24 {
        /// Id of the event.
        event_id: u64 = 0,
        /// Bytes of the event.
        event_size: u32 = 8,
        /// Bytes as stored.
        compressed_size: u32 = 12,
        /// Where, within the data area.
        offset: u32 = 16,
        /// The event's own checksum.
        checksum: u32 = 20,
    }
}

/// A block of layout B: 4,096 bytes, of which 2,488 are for events. A real event takes more, so the kernel's storage
/// engine writes past the end; such a block is refused by its length.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreBlock<'a> {
    /// The head.
    pub header: StoreHeader,
    /// The used slots, at most 64, with what each one names.
    pub entries: Vec<(StoreEntry, &'a [u8])>,
}

impl<'a> StoreBlock<'a> {
    /// Reads a block. The events in it are not decoded.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Reject> {
        if bytes.len() != BLOCK_B_BYTES {
            return Err(Reject::BadBlockLength(bytes.len()));
        }
        let header = StoreHeader::read(&get(bytes, 0));
        if header.magic != BLOCK_MAGIC {
            return Err(Reject::BadMagic { expected: BLOCK_MAGIC, found: header.magic });
        }
        if header.version != 1 {
            return Err(Reject::BadVersion { expected: 1, found: header.version });
        }
        if header.event_count as usize > BLOCK_B_SLOTS {
            return Err(Reject::TooManyEntries(header.event_count));
        }
        if header.used_space as usize > BLOCK_B_DATA_BYTES {
            return Err(Reject::UsedSpaceOutOfRange(header.used_space));
        }
        let data = bytes.get(BLOCK_B_DATA_AT..).unwrap_or_default();
        let mut entries = Vec::with_capacity(header.event_count as usize);
        for index in 0..header.event_count {
            let at = StoreHeader::BYTES + index as usize * StoreEntry::BYTES;
            let entry = StoreEntry::read(&get(bytes, at));
            let end = u64::from(entry.offset) + u64::from(entry.compressed_size);
            let out_of_range = || Reject::EntryOutOfRange { index, end, used: header.used_space };
            if end > u64::from(header.used_space) {
                return Err(out_of_range());
            }
            let stored = data.get(entry.offset as usize..end as usize).ok_or_else(out_of_range)?;
            entries.push((entry, stored));
        }
        Ok(StoreBlock { header, entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(ids: &[u64]) -> Vec<u8> {
        let mut out = Vec::new();
        for id in ids {
            let header = EventHeader { event_id: *id, ktime: -1, ..EventHeader::default() };
            Record { header, ..Record::default() }.encode(&mut out).unwrap();
        }
        out
    }

    #[test]
    fn blocks_give_their_records_back() {
        for ids in [&[][..], &[5], &[9, 2, 7]] {
            let records = records(ids);
            let mut bytes = vec![1, 2, 3];
            encode_block(4, &records, &mut bytes).unwrap();
            let bytes = &bytes[3..];
            let block = Block::decode(bytes).unwrap();
            assert_eq!((block.records, block.bytes(), block.header.block_id), (&records[..], bytes.len(), 4));
            assert_eq!(block.each().count(), ids.len());
            assert_eq!(block.each().flatten().copied().collect::<Vec<_>>(), records);
        }
        let torn = &records(&[1])[1..];
        assert!(matches!(encode_block(1, torn, &mut Vec::new()), Err(Reject::BadEvent { index: 0, .. })));
    }
}
