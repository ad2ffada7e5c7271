//! Makes whole records of noise: a checksum and a sum of sizes are nothing that random changes hit.

use semj_storage::kernel::{
    CONTEXT_BYTES, FIXED_BYTES, LINK_BYTES, LINKS_MAX, METADATA_BYTES_MAX, PAYLOAD_BYTES_MAX, checksum,
};

fn put(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

/// The record that `data` would be with sizes that add up and the checksum that fits. What is behind the fixed part is
/// shared out to payload, metadata and links by the sizes in the head, as far as it goes.
pub fn record(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    bytes.resize(bytes.len().max(FIXED_BYTES), 0);
    let rest = bytes.len() - FIXED_BYTES;
    let links = (word(&bytes, 96) as usize % (LINKS_MAX + 1)).min(rest / LINK_BYTES);
    let rest = rest - links * LINK_BYTES;
    let metadata = (word(&bytes, 76) as usize % (METADATA_BYTES_MAX + 1)).min(rest);
    let payload = (rest - metadata).min(PAYLOAD_BYTES_MAX);
    let total = FIXED_BYTES + payload + metadata + links * LINK_BYTES;
    bytes.truncate(total);
    for (at, value) in
        [(64, total), (68, CONTEXT_BYTES), (72, payload), (76, metadata), (80, 1), (84, 0), (96, links)]
    {
        put(&mut bytes, at, value as u32);
    }
    let sum = checksum(&bytes);
    put(&mut bytes, 84, sum);
    bytes
}

/// The block of layout A that `data` would be with the checksum that fits.
pub fn block_a(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    put(&mut bytes, 36, 0);
    let sum = checksum(&bytes);
    put(&mut bytes, 36, sum);
    bytes
}
