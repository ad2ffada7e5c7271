//! Damage to bytes, sectors and files of a record.

mod subject;

use super::Work;
use crate::common::{
    self, Content, OpenFailure, Random, Setup, TestLog, lock_info, seed, segments_folder, shared, verified,
};
use semj_storage::backend::{Backend, CrashMode, DirectoryRule, Fault, FaultClass, MemoryBackend};
use semj_storage::error::ReadError;
use semj_storage::log::{Codec, LogView, Segments, segment_files};
use semj_storage::query::EventSource;
use semj_storage::verify::VerifyLevel;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
pub use subject::*;
use uuid::Uuid;

pub fn every_flipped_byte_is_found(work: Work) {
    let mut flips = 0;
    for end in [End::Closed, End::Synced, End::Sealed] {
        let subject = subject(end, &SMALL, SETUP);
        assert!(subject.segments.len() >= 3, "{:?}", subject.segments);
        for (_, path) in &subject.segments {
            let length = subject.disk.contents(path).unwrap().len();
            for offset in (0..length).filter(|offset| work.takes(*offset as u64, 7)) {
                for (number, mask) in [1 << (offset % 8), 0xFF].into_iter().enumerate() {
                    if end != End::Closed && (offset + number) % 3 != 0 {
                        continue;
                    }
                    let name = format!("{end:?}, {} byte {offset} ^ {mask:02x}", path.display());
                    let harm = subject.harm(path, offset as u64, name, |bytes| bytes[offset] ^= mask);
                    // All was durable, and LOCK says so: never a torn tail.
                    assert!(subject.check_verified(&harm), "{}: taken for a torn tail", harm.name);
                    let lost = subject.check_read(&harm);
                    subject.check_neighbours(&harm, &lost);
                    if (offset / 2 + number) % 5 == 0 {
                        subject.check_recovered(&harm, true, &lost);
                    }
                    flips += 1;
                }
            }
        }
    }
    println!("{flips} flips");
}

pub fn every_flipped_byte_is_found_without_lock(work: Work) {
    let subject = subject(End::Closed, &SMALL, SETUP);
    subject.disk.damage(Path::new(common::ROOT).join("LOCK"), Vec::clear).unwrap();
    let mut flips = 0;
    for (_, path) in &subject.segments {
        let length = subject.disk.contents(path).unwrap().len();
        for offset in (0..length).filter(|offset| work.takes(*offset as u64, 7)) {
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

/// Without LOCK and without an end mark, later blocks prove the ones before: only the very last may be taken for torn.
pub fn later_blocks_prove_the_ones_before(work: Work) {
    let setup = Setup { segment_bytes: 1 << 20, ..SETUP };
    let subject = subject(End::Synced, &SMALL, setup);
    subject.disk.damage(Path::new(common::ROOT).join("LOCK"), Vec::clear).unwrap();
    let path = &subject.segments[0].1;
    let last_block = *block_offsets(&subject.disk.contents(path).unwrap()).last().unwrap();
    let mut flips = 0;
    for offset in (256..last_block).filter(|offset| work.takes(*offset as u64, 7)) {
        let harm = subject.harm(path, offset as u64, format!("byte {offset}, no LOCK"), |b| b[offset] ^= 4);
        assert!(subject.check_verified(&harm), "{}: taken for a torn tail", harm.name);
        let opened =
            TestLog::open(&shared(&harm.image), setup).unwrap_or_else(|e| panic!("{}: {e:?}", harm.name));
        assert_eq!(opened.opened_at, subject.last(), "{}: the journal was shortened", harm.name);
        flips += 1;
    }
    println!("{flips} flips");
}

/// A journal of one segment with neither LOCK nor a header does not tell which journal it is. It must not be thrown away.
pub fn a_record_without_identity_is_left_alone() {
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

pub fn every_truncation_is_found() {
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
                if to % 4 == 0 || to + 200 > length {
                    subject.check_recovered(&harm, true, &lost);
                }
                cuts += 1;
            }
        }
    }
    println!("{cuts} cuts");
}

pub fn every_sector_is_found() {
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
pub fn events_read_alone_are_checked_too() {
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

pub fn lock_may_be_damaged_anyhow() {
    let lock = Path::new(common::ROOT).join("LOCK");
    let mut flips = 0;
    for end in [End::Closed, End::Synced] {
        let subject = subject(end, &SMALL, SETUP);
        let length = subject.disk.contents(&lock).unwrap().len();
        let recovered = |harm: &Harm<'_>| match end {
            // Nothing proves the last block any more: it is kept, and written again into a segment of its own.
            End::Synced => subject.check_kept(harm),
            _ => subject.check_recovered(harm, true, &[]),
        };
        for offset in 0..length {
            let harm = subject.harm(&lock, 0, format!("{end:?}, LOCK byte {offset}"), |b| b[offset] ^= 0x11);
            if offset % 8 == 0 {
                subject.check_verified(&harm);
                assert_eq!(subject.check_read(&harm), [0; 0]);
            }
            recovered(&harm);
            flips += 1;
        }
        for to in (0..length).step_by(13) {
            let harm = subject.harm(&lock, 0, format!("{end:?}, LOCK cut to {to}"), |b| b.truncate(to));
            recovered(&harm);
        }
        let gone = subject.disk.kill_image();
        gone.remove_file(&lock).unwrap();
        let harm = Harm { image: gone, segment: None, offset: 0, name: format!("{end:?}, LOCK deleted") };
        subject.check_verified(&harm);
        recovered(&harm);
    }
    println!("{flips} flips");
}

pub fn a_missing_segment_is_damage() {
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

pub fn a_segment_of_another_journal_is_refused() {
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

pub fn a_newer_format_is_told_apart_from_damage() {
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
pub fn damage_and_an_unclean_end_together() {
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
