//! Damage to every byte, sector and file of a record: it is found, named, never delivered as an event, and never shortens
//! the journal.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests are tests")]

mod common;

use common::{
    Content, OpenFailure, Random, Setup, TestLog, lock_info, seed, segments_folder, shared, verified,
};
use semj_storage::backend::{Backend, CrashMode, DirectoryRule, Fault, FaultClass, MemoryBackend};
use semj_storage::error::ReadError;
use semj_storage::log::{Codec, LogView, Segments, segment_files};
use semj_storage::query::EventSource;
use semj_storage::verify::VerifyLevel;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;

const SETUP: Setup = Setup { segment_bytes: 1_900, preallocate: false };

/// A journal at rest, and what it holds.
struct Subject {
    disk: MemoryBackend,
    model: Vec<Content>,
    segments: Vec<(u64, PathBuf)>,
    /// First and last event of each block.
    blocks: Vec<(u64, u64)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Closed,
    /// All synced and in LOCK, not closed.
    Synced,
}

fn subject(end: End, batches: &[(u64, usize, Codec)], setup: Setup) -> Subject {
    let disk = MemoryBackend::new(DirectoryRule::Strict);
    let mut subject = Subject { disk, model: Vec::new(), segments: Vec::new(), blocks: Vec::new() };
    // Two openings, so that one end mark stands between blocks.
    for half in batches.chunks(batches.len().div_ceil(2)) {
        let mut log = TestLog::open(&shared(&subject.disk), setup).unwrap();
        for (count, filler, codec) in half {
            let first = subject.model.len() as u64 + 1;
            let contents: Vec<_> =
                (first..first + count).map(|tag| Content { tag, filler: *filler }).collect();
            log.append(&contents, *codec).unwrap();
            subject.blocks.push((first, first + count - 1));
            subject.model.extend(contents);
            log.writer.sync().unwrap();
        }
        if end == End::Closed
            || half.len() < batches.len().div_ceil(2)
            || subject.blocks.len() < batches.len()
        {
            log.writer.close(1).unwrap();
        }
    }
    subject.segments = segment_files(&subject.disk, &segments_folder()).unwrap();
    subject
}

const SMALL: [(u64, usize, Codec); 7] = [
    (3, 8, Codec::None),
    (2, 150, Codec::Lz4),
    (2, 220, Codec::Zstd(1)),
    (4, 20, Codec::None),
    (2, 180, Codec::Zstd(3)),
    (1, 30, Codec::None),
    (3, 60, Codec::Lz4),
];

/// What was done to an image.
struct Harm<'a> {
    image: MemoryBackend,
    segment: Option<&'a Path>,
    /// The first byte that was changed.
    offset: u64,
    name: String,
}

impl Subject {
    fn last(&self) -> u64 {
        self.model.len() as u64
    }

    fn harm(&self, path: &Path, offset: u64, name: String, change: impl FnOnce(&mut Vec<u8>)) -> Harm<'_> {
        let image = self.disk.kill_image();
        image.damage(path, change).unwrap();
        let segment = self.segments.iter().map(|(_, p)| p.as_path()).find(|p| *p == path);
        Harm { image, segment, offset, name }
    }

    /// Verification names the segment, and a place at or before the first changed byte.
    fn check_verified(&self, harm: &Harm<'_>) -> bool {
        let report =
            verified(&harm.image, VerifyLevel::Full).unwrap_or_else(|e| panic!("{}: {e}", harm.name));
        let Some(segment) = harm.segment else {
            assert!(report.intact && report.torn_tail.is_none(), "{}: {report:?}", harm.name);
            return true;
        };
        let named = report.damage.iter().any(|d| d.segment == segment && d.offset <= harm.offset);
        let torn = report.torn_tail.as_ref().is_some_and(|t| t.segment == segment && t.offset <= harm.offset);
        assert!(named || torn, "{}: not reported at or before byte {}: {report:?}", harm.name, harm.offset);
        assert_eq!(report.intact, report.damage.is_empty(), "{}", harm.name);
        named
    }

    /// Reads all with skipping; every event delivered is right. Returns those that were not delivered.
    fn check_read(&self, harm: &Harm<'_>) -> Vec<u64> {
        let journal = lock_info(&self.disk).unwrap().journal;
        let segments = Segments::open(shared(&harm.image), segments_folder(), journal).unwrap();
        let view = LogView::new(Arc::new(segments), self.last());
        let mut delivered = vec![false; self.model.len()];
        let (mut from, mut steps) = (1, 0);
        while from <= self.last() {
            steps += 1;
            assert!(steps <= self.model.len() + 1, "{}: no end", harm.name);
            let read = view.read(from, self.last(), &mut |entry| {
                let at = entry.sequence as usize - 1;
                assert!(self.model[at].is(entry), "{}: event {} is wrong", harm.name, entry.sequence);
                assert!(!delivered[at], "{}: event {} again", harm.name, entry.sequence);
                delivered[at] = true;
                ControlFlow::Continue(())
            });
            from = match read {
                Ok(()) => break,
                Err(ReadError::Damaged(d)) => {
                    assert!(d.last_sequence >= from && d.first_sequence >= 1, "{}: {d}", harm.name);
                    d.last_sequence + 1
                }
                Err(ReadError::Retained { .. }) => self.segments_of(&harm.image)[0],
                Err(e) => panic!("{}: {e}", harm.name),
            };
        }
        // One event at a time takes other ways, and must not deliver anything else.
        for sequence in 1..=self.last() {
            let mut found = None;
            let read = view.read(sequence, sequence, &mut |entry| {
                assert_eq!(entry.sequence, sequence, "{}", harm.name);
                found = Some(self.model[sequence as usize - 1].is(entry));
                ControlFlow::Continue(())
            });
            assert_ne!(found, Some(false), "{}: event {sequence} read alone is wrong", harm.name);
            assert_eq!(read.is_ok(), found.is_some(), "{}: event {sequence}: {read:?}", harm.name);
        }
        (1..=self.last()).filter(|s| !delivered[*s as usize - 1]).collect()
    }

    fn segments_of(&self, image: &MemoryBackend) -> Vec<u64> {
        segment_files(image, &segments_folder()).unwrap().into_iter().map(|(first, _)| first).collect()
    }

    /// The damaged image opens, never behind an event that is proven, and goes on without touching what is damaged.
    fn check_recovered(&self, harm: &Harm<'_>, proven: bool, lost: &[u64]) {
        let before: Vec<_> = self.segments.iter().map(|(_, p)| (p, harm.image.contents(p))).collect();
        let mut log =
            TestLog::open(&shared(&harm.image), SETUP).unwrap_or_else(|e| panic!("{}: {e:?}", harm.name));
        if proven {
            assert_eq!(log.opened_at, self.last(), "{}: the journal was shortened", harm.name);
        }
        let intact = (1..=self.last()).rfind(|s| !lost.contains(s)).unwrap_or(0);
        assert!(log.opened_at >= intact || !proven, "{}: {} is given again", harm.name, log.opened_at + 1);
        let next = log.opened_at + 1;
        log.append(&[Content { tag: 1 << 33, filler: 4 }], Codec::None).unwrap();
        log.writer.sync().unwrap();
        let mut found = false;
        log.view()
            .read(next, next, &mut |entry| {
                found = Content { tag: 1 << 33, filler: 4 }.is(entry);
                ControlFlow::Continue(())
            })
            .unwrap_or_else(|e| panic!("{}: {e}", harm.name));
        assert!(found, "{}", harm.name);
        if !proven {
            return;
        }
        for (path, bytes) in before {
            let after = harm.image.contents(path);
            match (&bytes, &after) {
                // Damage that opening does not see, in the body of a block, does not hinder going on behind it.
                (Some(b), Some(a)) if log.damage.is_empty() => {
                    assert!(a.starts_with(b), "{}: {} was changed", harm.name, path.display())
                }
                _ => assert_eq!(bytes, after, "{}", harm.name),
            }
        }
        // What was lost stays lost, and is still told.
        if !lost.is_empty() {
            log.writer.close(1).unwrap();
            let report = verified(&harm.image, VerifyLevel::Full).unwrap();
            assert!(!report.intact, "{}: forgotten", harm.name);
        }
    }

    /// The block that holds a byte loses its events, and no other does.
    fn check_neighbours(&self, harm: &Harm<'_>, lost: &[u64]) {
        let blocks: Vec<_> =
            self.blocks.iter().filter(|(f, l)| lost.iter().any(|s| (f..=l).contains(&s))).collect();
        assert!(blocks.len() <= 1, "{}: events of {} blocks are lost: {lost:?}", harm.name, blocks.len());
    }
}

#[test]
fn every_flipped_byte_is_found() {
    let mut flips = 0;
    for end in [End::Closed, End::Synced] {
        let subject = subject(end, &SMALL, SETUP);
        assert!(subject.segments.len() >= 3, "{:?}", subject.segments);
        for (_, path) in &subject.segments {
            let length = subject.disk.contents(path).unwrap().len();
            for offset in 0..length {
                for mask in [1 << (offset % 8), 0xFF] {
                    let name = format!("{end:?}, {} byte {offset} ^ {mask:02x}", path.display());
                    let harm = subject.harm(path, offset as u64, name, |bytes| bytes[offset] ^= mask);
                    // All was durable, and LOCK says so: never a torn tail.
                    assert!(subject.check_verified(&harm), "{}: taken for a torn tail", harm.name);
                    let lost = subject.check_read(&harm);
                    subject.check_neighbours(&harm, &lost);
                    subject.check_recovered(&harm, true, &lost);
                    flips += 1;
                }
            }
        }
    }
    println!("{flips} flips");
}

#[test]
fn every_flipped_byte_is_found_without_lock() {
    let subject = subject(End::Closed, &SMALL, SETUP);
    subject.disk.damage(Path::new(common::ROOT).join("LOCK"), Vec::clear).unwrap();
    let mut flips = 0;
    for (_, path) in &subject.segments {
        let length = subject.disk.contents(path).unwrap().len();
        for offset in 0..length {
            let name = format!("{} byte {offset}, no LOCK", path.display());
            let harm = subject.harm(path, offset as u64, name, |bytes| bytes[offset] ^= 0x20);
            let image = harm.image.kill_image();
            let named = subject.check_verified(&harm);
            // Known: only the end mark of the last segment has nothing behind it that proves it.
            let mark = path == &subject.segments.last().unwrap().1 && offset >= length - 128;
            assert!(named || mark, "{}: taken for a torn tail", harm.name);
            let opened =
                TestLog::open(&shared(&image), SETUP).unwrap_or_else(|e| panic!("{}: {e:?}", harm.name));
            assert_eq!(opened.opened_at, subject.last(), "{}", harm.name);
            flips += 1;
        }
    }
    println!("{flips} flips");
}

/// A journal of one segment with neither LOCK nor a header does not tell which journal it is. It must not be thrown away.
#[test]
fn a_record_without_identity_is_left_alone() {
    let subject = subject(End::Closed, &SMALL[..2], Setup { segment_bytes: 1 << 20, ..SETUP });
    let path = &subject.segments[0].1;
    subject.disk.damage(Path::new(common::ROOT).join("LOCK"), Vec::clear).unwrap();
    for offset in 80..256 {
        let harm = subject.harm(path, offset, format!("byte {offset}"), |bytes| bytes[offset as usize] ^= 1);
        let bytes = harm.image.contents(path);
        match TestLog::open(&shared(&harm.image), SETUP) {
            Err(OpenFailure::Read(ReadError::NotAJournal { .. })) => {}
            other => panic!("{}: {other:?}", harm.name),
        }
        assert_eq!(harm.image.contents(path), bytes, "{}", harm.name);
    }
}

#[test]
fn every_truncation_is_found() {
    let mut cuts = 0;
    for end in [End::Closed, End::Synced] {
        let subject = subject(end, &SMALL, SETUP);
        for (_, path) in &subject.segments {
            let length = subject.disk.contents(path).unwrap().len();
            for to in 0..length {
                let name = format!("{end:?}, {} cut to {to}", path.display());
                let harm = subject.harm(path, to as u64, name, |bytes| bytes.truncate(to));
                assert!(subject.check_verified(&harm), "{}: taken for a torn tail", harm.name);
                let lost = subject.check_read(&harm);
                subject.check_recovered(&harm, true, &lost);
                cuts += 1;
            }
        }
    }
    println!("{cuts} cuts");
}

#[test]
fn every_sector_is_found() {
    const SECTOR: usize = 512;
    let mut harms = 0;
    for end in [End::Closed, End::Synced] {
        let subject = subject(end, &SMALL, SETUP);
        for (_, path) in &subject.segments {
            let whole = subject.disk.contents(path).unwrap();
            for at in (0..whole.len()).step_by(SECTOR) {
                let until = (at + SECTOR).min(whole.len());
                let mut variants = Vec::new();
                let mut zeroed = whole.clone();
                zeroed[at..until].fill(0);
                variants.push(("zeroed", zeroed));
                if until + SECTOR <= whole.len() {
                    let mut doubled = whole.clone();
                    doubled.copy_within(at..until, until);
                    variants.push(("doubled", doubled));
                    let mut swapped = whole.clone();
                    let (a, b) = swapped[at..until + SECTOR].split_at_mut(SECTOR);
                    a.swap_with_slice(b);
                    variants.push(("swapped", swapped));
                }
                for (what, bytes) in variants {
                    let Some(first) = bytes.iter().zip(&whole).position(|(a, b)| a != b) else { continue };
                    let name = format!("{end:?}, {} sector at {at} {what}", path.display());
                    let harm = subject.harm(path, first as u64, name, |b| *b = bytes);
                    assert!(subject.check_verified(&harm), "{}: taken for a torn tail", harm.name);
                    let lost = subject.check_read(&harm);
                    subject.check_recovered(&harm, true, &lost);
                    harms += 1;
                }
            }
        }
    }
    println!("{harms} sectors");
}

/// Blocks that are large enough for single events to be read alone.
#[test]
fn events_read_alone_are_checked_too() {
    let seed = seed(5);
    let setup = Setup { segment_bytes: 1 << 20, ..SETUP };
    let subject = subject(End::Closed, &[(400, 20, Codec::None), (2, 20, Codec::None)], setup);
    let path = &subject.segments[0].1;
    let whole = subject.disk.contents(path).unwrap();
    let journal = lock_info(&subject.disk).unwrap().journal;
    let mut random = Random(seed);
    let mut harms = Vec::new();
    // The unit's fixed part and the start of its table byte by byte, then sectors, then bytes anywhere.
    for offset in 256 + 192..256 + 192 + 120 {
        let mut bytes = whole.clone();
        bytes[offset] ^= 1 << random.below(8);
        harms.push((format!("byte {offset}"), bytes));
    }
    for at in (512..whole.len() - 1024).step_by(512) {
        let mut bytes = whole.clone();
        bytes.copy_within(at..at + 512, at + 512);
        harms.push((format!("sector at {at} doubled"), bytes));
    }
    // Two neighbouring rows of the table, and what they stand for, change places.
    for row in 0..40 {
        let mut bytes = whole.clone();
        let at = 256 + 192 + 80 + row * 8;
        bytes.copy_within(at..at + 8, at + 8);
        harms.push((format!("row {row} doubled"), bytes));
    }
    let mut refused = 0;
    for (name, bytes) in &harms {
        let image = subject.disk.kill_image();
        image.damage(path, |b| b.clone_from(bytes)).unwrap();
        let segments = Arc::new(Segments::open(shared(&image), segments_folder(), journal).unwrap());
        let view = LogView::new(segments, subject.last());
        let chosen = (1..=80).chain((0..20).map(|_| 1 + random.below(subject.last())));
        for sequence in chosen {
            let read = view.read(sequence, sequence, &mut |entry| {
                assert_eq!(entry.sequence, sequence);
                assert!(subject.model[sequence as usize - 1].is(entry), "{name}: event {sequence} is wrong");
                ControlFlow::Continue(())
            });
            refused += u32::from(read.is_err_and(|e| e.is_damage()));
        }
    }
    println!("{} harms, {refused} reads refused", harms.len());
    assert!(refused > 1000);
}

#[test]
fn lock_may_be_damaged_anyhow() {
    let lock = Path::new(common::ROOT).join("LOCK");
    let mut flips = 0;
    for end in [End::Closed, End::Synced] {
        let subject = subject(end, &SMALL, SETUP);
        let length = subject.disk.contents(&lock).unwrap().len();
        for offset in 0..length {
            let harm = subject.harm(&lock, 0, format!("{end:?}, LOCK byte {offset}"), |b| b[offset] ^= 0x11);
            subject.check_verified(&harm);
            assert_eq!(subject.check_read(&harm), [0; 0]);
            subject.check_recovered(&harm, true, &[]);
            flips += 1;
        }
        for to in 0..length {
            let harm = subject.harm(&lock, 0, format!("{end:?}, LOCK cut to {to}"), |b| b.truncate(to));
            subject.check_recovered(&harm, true, &[]);
        }
        let gone = subject.disk.kill_image();
        gone.remove_file(&lock).unwrap();
        let harm = Harm { image: gone, segment: None, offset: 0, name: format!("{end:?}, LOCK deleted") };
        subject.check_verified(&harm);
        subject.check_recovered(&harm, true, &[]);
    }
    println!("{flips} flips");
}

#[test]
fn a_missing_segment_is_damage() {
    for end in [End::Closed, End::Synced] {
        let subject = subject(end, &SMALL, SETUP);
        for at in 1..subject.segments.len() {
            let (first, path) = &subject.segments[at];
            let last = subject.segments.get(at + 1).map_or(subject.last(), |(f, _)| f - 1);
            let image = subject.disk.kill_image();
            image.remove_file(path).unwrap();
            let harm = Harm {
                image,
                segment: None,
                offset: 0,
                name: format!("{end:?}, {} deleted", path.display()),
            };
            let report = verified(&harm.image, VerifyLevel::Full).unwrap();
            assert!(
                report.damage.iter().any(|d| d.first_sequence == *first && d.last_sequence == last),
                "{}: {report:?}",
                harm.name
            );
            let lost = subject.check_read(&harm);
            assert_eq!(lost, (*first..=last).collect::<Vec<_>>(), "{}", harm.name);
            let image = harm.image.kill_image();
            let mut log = TestLog::open(&shared(&image), SETUP).unwrap();
            assert_eq!(log.opened_at, subject.last(), "{}", harm.name);
            log.append(&[Content { tag: 1, filler: 1 }], Codec::None).unwrap();
            log.writer.sync().unwrap();
        }
        // With all of them gone LOCK still tells how far it went.
        let image = subject.disk.kill_image();
        subject.segments.iter().for_each(|(_, path)| image.remove_file(path).unwrap());
        assert!(!verified(&image, VerifyLevel::Full).unwrap().intact);
        let log = TestLog::open(&shared(&image), SETUP).unwrap();
        assert_eq!((log.opened_at, log.damage.len()), (subject.last(), 1));
    }
}

/// Copies a file to a name on another disk.
fn put(image: &MemoryBackend, path: &Path, bytes: &[u8]) {
    let file = image.open(path, semj_storage::backend::OpenMode::CreateOrOpen).unwrap();
    file.set_len(0).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
    image.sync_dir(&segments_folder()).unwrap();
}

/// A journal like `subject`, with another identity.
fn stranger() -> Subject {
    let found = subject(End::Closed, &SMALL, SETUP);
    // All checksums are seeded with the identity, so only a journal that was written with it will do.
    let disk = MemoryBackend::new(DirectoryRule::Strict);
    disk.create_dir_all(&segments_folder()).unwrap();
    let lock =
        disk.open(&Path::new(common::ROOT).join("LOCK"), semj_storage::backend::OpenMode::CreateNew).unwrap();
    semj_storage::log::LockFile::new(lock).write_head(&Uuid::from_u128(0xBAD), 1, 1).unwrap();
    let mut log = TestLog::open(&shared(&disk), SETUP).unwrap();
    for (first, last) in &found.blocks {
        log.append(&found.model[*first as usize - 1..*last as usize], Codec::None).unwrap();
        log.writer.sync().unwrap();
    }
    log.writer.close(1).unwrap();
    let segments = segment_files(&disk, &segments_folder()).unwrap();
    Subject { disk, segments, ..found }
}

#[test]
fn a_segment_of_another_journal_is_refused() {
    let (own, other) = (subject(End::Closed, &SMALL, SETUP), stranger());
    let lock = Path::new(common::ROOT).join("LOCK");
    for with_lock in [true, false] {
        for at in 0..own.segments.len() {
            let path = &own.segments[at].1;
            for (_, from) in &other.segments {
                let harm =
                    own.harm(path, 0, format!("{} from {}", path.display(), from.display()), |bytes| {
                        bytes.clone_from(&other.disk.contents(from).unwrap());
                    });
                if !with_lock {
                    harm.image.remove_file(&lock).unwrap();
                }
                let reported = match verified(&harm.image, VerifyLevel::Full) {
                    Ok(report) => report.damage.iter().any(|d| &d.segment == path),
                    Err(ReadError::NotAJournal { .. }) => true,
                    Err(e) => panic!("{}: {e}", harm.name),
                };
                assert!(reported, "{}, LOCK {with_lock}: not reported", harm.name);
                own.check_read(&harm);
                match TestLog::open(&shared(&harm.image), SETUP) {
                    Ok(log) => assert_eq!(
                        (log.opened_at, at + 1 < own.segments.len()),
                        (own.last(), true),
                        "{}, LOCK {with_lock}",
                        harm.name
                    ),
                    Err(OpenFailure::Read(ReadError::NotAJournal { .. })) => {}
                    Err(e) => panic!("{}: {e:?}", harm.name),
                }
            }
        }
        // One of the own journal under another name.
        for name in [5, 100] {
            let image = own.disk.kill_image();
            if !with_lock {
                image.remove_file(&lock).unwrap();
            }
            let bytes = own.disk.contents(&own.segments[1].1).unwrap();
            let path = segments_folder().join(format!("{name:020}.semj"));
            put(&image, &path, &bytes);
            match verified(&image, VerifyLevel::Full) {
                Ok(report) => assert!(!report.intact, "{name}"),
                Err(ReadError::NotAJournal { .. }) => {}
                Err(e) => panic!("{name}: {e}"),
            }
            match TestLog::open(&shared(&image), SETUP) {
                Ok(log) => assert_eq!(log.opened_at, own.last(), "{name}"),
                Err(OpenFailure::Read(ReadError::NotAJournal { .. })) => {}
                Err(e) => panic!("{name}: {e:?}"),
            }
            assert_eq!(image.contents(&path), Some(bytes), "{name}: changed");
        }
    }
    // A LOCK of another journal beside segments that agree proves nothing and hinders nothing.
    let image = own.disk.kill_image();
    image.damage(&lock, |bytes| bytes.clone_from(&other.disk.contents(&lock).unwrap())).unwrap();
    assert_eq!(TestLog::open(&shared(&image), SETUP).unwrap().opened_at, own.last());
}

#[test]
fn a_newer_format_is_told_apart_from_damage() {
    let subject = subject(End::Closed, &SMALL, SETUP);
    let (_, path) = subject.segments.last().unwrap();
    let harm = subject.harm(path, 80, "newer".into(), |bytes| {
        bytes[80..84].copy_from_slice(&7u32.to_le_bytes());
        bytes[84..88].fill(0);
        let crc = crc32fast::hash(&bytes[80..256]);
        bytes[84..88].copy_from_slice(&crc.to_le_bytes());
    });
    let before = harm.image.contents(path);
    let newer = |e: &ReadError| matches!(e, ReadError::NewerFormat { found: 7, supported: 1, .. });
    assert!(verified(&harm.image, VerifyLevel::Full).is_err_and(|e| newer(&e)));
    match TestLog::open(&shared(&harm.image), SETUP) {
        Err(OpenFailure::Read(e)) => assert!(newer(&e)),
        other => panic!("{other:?}"),
    }
    assert_eq!(harm.image.contents(path), before);
}

/// The last owner was killed after a failed sync, and a segment is damaged besides: what the next owner claims is durable,
/// and the damaged bytes are still somewhere.
#[test]
fn damage_and_an_unclean_end_together() {
    let setup = Setup { segment_bytes: 1 << 20, ..SETUP };
    // Where the damage is: the header, the first block's header, its body; and how much is proven in that segment.
    for (offset, batches, torn) in
        [20, 100, 270, 500].into_iter().flat_map(|o| (0..3).flat_map(move |b| [(o, b, false), (o, b, true)]))
    {
        let context = format!("byte {offset}, {batches} synced batches, torn {torn}");
        let disk = MemoryBackend::new(DirectoryRule::Strict);
        let mut model = Vec::new();
        let mut log = TestLog::open(&shared(&disk), setup).unwrap();
        let mut append = |log: &mut TestLog, tag| {
            let content = Content { tag, filler: 300 };
            log.append(&[content], Codec::None).map(|()| model.push(content))
        };
        append(&mut log, 1).unwrap();
        log.writer.sync().unwrap();
        drop(log);
        // An unclean end, so that the next block starts a segment.
        let mut log = TestLog::open(&shared(&disk), setup).unwrap();
        for tag in 0..batches {
            append(&mut log, 10 + tag).unwrap();
            log.writer.sync().unwrap();
        }
        if batches == 0 && torn {
            disk.fail(Fault::on(FaultClass::Write).nth(2).short().path("segments/"));
            append(&mut log, 20).unwrap_err();
        } else {
            append(&mut log, 20).unwrap();
        }
        let path = segments_folder().join(format!("{:020}.semj", 2));
        disk.damage(&path, |bytes| bytes[offset] ^= 4).unwrap();
        if !torn {
            append(&mut log, 21).unwrap();
        }
        disk.fail(Fault::on(FaultClass::Sync).forget().path("segments/"));
        log.writer.sync().unwrap_err();
        drop(log);
        let next = disk.kill_image();
        let bytes = next.contents(&path).unwrap();
        let mut log = TestLog::open(&shared(&next), setup).unwrap_or_else(|e| panic!("{context}: {e:?}"));
        let claimed = log.opened_at;
        assert!(claimed > batches, "{context}: {claimed}");
        let content = Content { tag: 1 << 35, filler: 3 };
        log.append(&[content], Codec::None).unwrap();
        log.writer.sync().unwrap();
        drop(log);
        let after = next.crash_image(CrashMode::Drop, 0);
        // The damaged bytes are where they were, or in quarantine. (The 80 bytes for the kernel's tools tell nothing.)
        let spot = &bytes[offset - 10..offset + 10];
        let kept =
            after.files().iter().filter_map(|f| after.contents(f)).any(|k| k.windows(20).any(|w| w == spot));
        assert!(kept || offset < 80, "{context}: the damaged bytes are gone");
        let log = TestLog::open(&shared(&after), setup).unwrap();
        assert_eq!(log.opened_at, claimed + 1, "{context}");
        let mut delivered = Vec::new();
        let mut from = 1;
        while from <= claimed + 1 {
            let read = log.view().read(from, claimed + 1, &mut |entry| {
                delivered.push(entry.sequence);
                let sequence = entry.sequence as usize - 1;
                let right = if entry.sequence > claimed { content } else { model[sequence] };
                assert!(right.is(entry), "{context}: event {}", entry.sequence);
                ControlFlow::Continue(())
            });
            from = match read {
                Ok(()) => break,
                Err(ReadError::Damaged(d)) => d.last_sequence + 1,
                Err(e) => panic!("{context}: {e}"),
            };
        }
        let lost = (1..=claimed + 1).filter(|s| !delivered.contains(s)).count();
        assert!(lost <= 1, "{context}: only {delivered:?} of {} are there", claimed + 1);
    }
}
