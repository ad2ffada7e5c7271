//! What the platter may hold after the power went: decided by a mode and a seed.

use super::DirectoryRule;
use super::disk::{Body, Disk, FileNode, Node, Side, Sides, Unsynced, apply_to_bytes, put};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a disk writes at once or not at all.
const SECTOR_BYTES: usize = 512;

/// What survives of changes that no sync covered. What a sync did cover survives in every mode.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CrashMode {
    /// Nothing.
    Drop,
    /// Everything the system had not forgotten.
    All,
    /// Of each file a prefix of its writes, the last one cut at a sector.
    Prefix,
    /// Of each file a prefix of its writes, then some sectors of the next.
    Torn,
    /// Any sectors of any write: the disk reorders.
    Subset,
    /// As `Subset`, and a file's length may be ahead of its data: the gap reads as zeros.
    Zeros,
    /// As `Zeros`, with noise in the gap.
    Garbage,
}

impl CrashMode {
    /// Every mode, for tests that try them all.
    pub const EVERY: [CrashMode; 7] = [
        CrashMode::Drop,
        CrashMode::All,
        CrashMode::Prefix,
        CrashMode::Torn,
        CrashMode::Subset,
        CrashMode::Zeros,
        CrashMode::Garbage,
    ];
}

/// SplitMix64: a seed is a whole crash image.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    /// A number from 0 to `most`, both included.
    fn up_to(&mut self, most: usize) -> usize {
        (self.next() % (most as u64 + 1)) as usize
    }

    fn coin(&mut self) -> bool {
        self.next() >> 63 == 1
    }
}

impl Disk {
    /// A disk as it may be after a power cut now; no handles, no locks, nothing unsynced.
    pub(super) fn after_power_cut(&self, mode: CrashMode, seed: u64) -> Disk {
        let mut random = Random(seed);
        let mut image = Disk::new(self.rule);
        image.next = self.next;
        image.nodes = self.nodes.iter().map(|(id, node)| (*id, platter(node, mode, &mut random))).collect();
        match (mode, self.rule) {
            (CrashMode::Drop, _) => {}
            (CrashMode::All, _) => image.apply_all(&self.changes),
            // The file system's own journal keeps directory changes in order.
            (_, DirectoryRule::Journal) => {
                let kept = random.up_to(self.changes.len());
                image.apply_all(self.changes.get(..kept).unwrap_or_default());
            }
            (_, DirectoryRule::Strict) => {
                let kept: Vec<_> = self.changes.iter().filter(|_| random.coin()).cloned().collect();
                image.apply_all(&kept);
            }
        }
        image.collect();
        for node in image.nodes.values_mut() {
            node.place.live = node.place.durable.clone();
            if let Body::Directory(entries) = &mut node.body {
                entries.live = entries.durable.clone();
            }
        }
        image
    }

    fn apply_all(&mut self, changes: &[super::disk::Change]) {
        changes.iter().for_each(|change| self.apply(change, Side::Durable));
    }

    /// The disk as the next process finds it when this one was killed: the page cache lives on.
    pub(super) fn after_kill(&self) -> Disk {
        let mut image = self.clone();
        for node in image.nodes.values_mut() {
            if let Body::File(file) = &mut node.body {
                (file.handles, file.lock) = (0, None);
            }
        }
        image
    }
}

/// One node after the cut, its directory entries still without the unsynced changes.
fn platter(node: &Node, mode: CrashMode, random: &mut Random) -> Node {
    let body = match &node.body {
        Body::Directory(entries) => {
            Body::Directory(Sides { durable: entries.durable.clone(), live: entries.durable.clone() })
        }
        Body::File(file) => {
            let mut durable = file.bytes.durable.clone();
            if !file.pending.is_empty() && mode != CrashMode::Drop {
                survive(Arc::make_mut(&mut durable), file, mode, random);
            }
            let bytes = Sides { live: durable.clone(), durable };
            Body::File(FileNode { bytes, ..FileNode::default() })
        }
    };
    Node { place: Sides { live: None, durable: node.place.durable.clone() }, body }
}

/// Brings part of a file's unsynced changes to the platter.
fn survive(durable: &mut Vec<u8>, file: &FileNode, mode: CrashMode, random: &mut Random) {
    match mode {
        CrashMode::Drop => {}
        CrashMode::All => file.pending.iter().for_each(|change| apply_to_bytes(durable, change)),
        CrashMode::Prefix | CrashMode::Torn => {
            let whole = random.up_to(file.pending.len());
            file.pending.iter().take(whole).for_each(|change| apply_to_bytes(durable, change));
            if let Some(Unsynced::Write { offset, bytes }) = file.pending.get(whole) {
                let pieces = sectors(*offset, bytes);
                let first = random.up_to(pieces.len());
                for (number, (at, piece)) in pieces.into_iter().enumerate() {
                    if if mode == CrashMode::Prefix { number < first } else { random.coin() } {
                        put(durable, at, piece);
                    }
                }
            }
        }
        CrashMode::Subset => {
            scatter(durable, file, random);
        }
        CrashMode::Zeros | CrashMode::Garbage => {
            let before = durable.len();
            let written = scatter(durable, file, random);
            if durable.len() < file.bytes.live.len() && random.coin() {
                durable.resize(file.bytes.live.len(), 0);
            }
            if mode == CrashMode::Garbage {
                add_noise(durable, before.div_ceil(SECTOR_BYTES), &written, random);
            }
        }
    }
}

/// Applies any sectors of any unsynced write; returns the numbers of those that were written.
fn scatter(durable: &mut Vec<u8>, file: &FileNode, random: &mut Random) -> BTreeSet<usize> {
    let mut written = BTreeSet::new();
    for change in &file.pending {
        match change {
            Unsynced::Write { offset, bytes } => {
                for (at, piece) in sectors(*offset, bytes) {
                    if random.coin() {
                        put(durable, at, piece);
                        written.insert(at / SECTOR_BYTES);
                    }
                }
            }
            Unsynced::SetLen(_) if random.coin() => apply_to_bytes(durable, change),
            Unsynced::SetLen(_) => {}
        }
    }
    written
}

/// Fills the sectors from `first` on that nothing was written to.
fn add_noise(durable: &mut [u8], first: usize, written: &BTreeSet<usize>, random: &mut Random) {
    let unwritten = |(number, _): &(usize, _)| !written.contains(number);
    for (_, sector) in durable.chunks_mut(SECTOR_BYTES).enumerate().skip(first).filter(unwritten) {
        sector.fill_with(|| random.next() as u8);
    }
}

/// The pieces of a write, cut where sectors of the file begin.
fn sectors(offset: usize, bytes: &[u8]) -> Vec<(usize, &[u8])> {
    let head = (SECTOR_BYTES - offset % SECTOR_BYTES).min(bytes.len());
    let (first, rest) = bytes.split_at(head);
    let mut at = offset;
    let mut pieces = Vec::new();
    for piece in std::iter::once(first).chain(rest.chunks(SECTOR_BYTES)).filter(|piece| !piece.is_empty()) {
        pieces.push((at, piece));
        at += piece.len();
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_cut_at_sectors_of_the_file() {
        let bytes = [7; 1200];
        let cut = |offset, length| -> Vec<(usize, usize)> {
            sectors(offset, &bytes[..length]).into_iter().map(|(at, piece)| (at, piece.len())).collect()
        };
        assert_eq!(cut(0, 0), []);
        assert_eq!(cut(0, 512), [(0, 512)]);
        assert_eq!(cut(500, 1036), [(500, 12), (512, 512), (1024, 512)]);
        assert_eq!(cut(513, 3), [(513, 3)]);
    }

    #[test]
    fn the_generator_is_the_published_one() {
        let mut random = Random(1_234_567);
        assert_eq!([random.next(), random.next()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }
}
