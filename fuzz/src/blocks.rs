//! Blocks: the records of layout A go into a block again, and what a slot of layout B names lies within its data.

use super::{allocated, mend};
use semj_storage::kernel::{
    BLOCK_B_BYTES, BLOCK_B_DATA_BYTES, BLOCK_B_SLOTS, Block, Record, StoreBlock, encode_block,
};

/// Checks the bytes as they are, as a block of layout A with the right checksum, as records in one, and as a block of
/// layout B.
///
/// # Panics
/// When something is not true.
pub fn check(data: &[u8]) {
    layout_a(data);
    layout_a(&mend::block_a(data));
    let mut block = Vec::new();
    let records = [mend::record(data), mend::record(data.get(data.len() / 2..).unwrap_or_default())].concat();
    encode_block(data.len() as u64, &records, &mut block).expect("whole records go into a block");
    assert_eq!(layout_a(&block), Some(2), "a block that was made is whole");
    let mut page = data.to_vec();
    page.resize(BLOCK_B_BYTES, 0);
    layout_b(&page);
    layout_b(data);
}

fn layout_a(bytes: &[u8]) -> Option<usize> {
    let block = allocated::within(bytes.len(), || Block::decode(bytes)).ok()?;
    assert_eq!(block.each().count(), block.header.event_count as usize);
    assert!(block.each().all(|r| Record::decode(r).is_ok_and(|(_, used)| used == r.len())));
    let mut again = Vec::new();
    encode_block(block.header.block_id, block.records, &mut again)
        .expect("its records go into a block again");
    let again = Block::decode(&again).expect("which is whole");
    assert_eq!((again.records, again.bytes()), (block.records, block.bytes()));
    Some(block.each().count())
}

fn layout_b(bytes: &[u8]) {
    let Ok(block) = allocated::within(bytes.len(), || StoreBlock::decode(bytes)) else { return };
    assert!(block.entries.len() <= BLOCK_B_SLOTS);
    for (entry, stored) in &block.entries {
        assert_eq!(stored.len(), entry.compressed_size as usize);
        assert!(stored.len() <= BLOCK_B_DATA_BYTES);
    }
    assert_eq!(block.header.to_bytes().as_slice(), &bytes[..72]);
}
