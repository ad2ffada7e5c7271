//! Power cuts, kills and failed syncs at every operation.

use super::Work;
use crate::common::{self, Content, Random, Setup, TestLog, seed, shared, verified};
use semj_storage::backend::{
    Backend, CrashMode, DirectoryRule, Fault, FaultClass, MemoryBackend, OpenMode, OperationKind,
};
use semj_storage::log::Codec;
use semj_storage::verify::VerifyLevel;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;

const SETUP: Setup = Setup { segment_bytes: 6_000, preallocate: true };
/// So small that most batches begin a segment, with and without a sync before.
const SMALL_SEGMENTS: Setup = Setup { segment_bytes: 2_500, preallocate: true };

/// What a run knows: shared with the observer, which looks at it in the middle of operations.
#[derive(Debug, Default)]
struct Run {
    model: Vec<Content>,
    acknowledged: u64,
    images: u64,
    /// Images by what survived in them.
    modes: BTreeMap<String, u64>,
    operations: u64,
    sealed: usize,
    /// Images of which recovery was cut, and the cuts.
    recut: (u64, u64),
    torn: u64,
    next_tag: u64,
    random: u64,
    step: String,
}

impl Run {
    fn new_contents(&mut self, count: u64, filler: usize) -> Vec<Content> {
        let contents: Vec<_> = (0..count).map(|i| Content { tag: self.next_tag + i, filler }).collect();
        self.next_tag += count;
        self.model.extend(&contents);
        contents
    }
}

/// What an image must be.
struct Expected<'a> {
    model: &'a [Content],
    acknowledged: u64,
    context: &'a dyn std::fmt::Debug,
}

impl Expected<'_> {
    /// Opens `image` and checks it; returns the last event. `image` is used up.
    fn check(&self, image: &MemoryBackend) -> (u64, bool) {
        let context = self.context;
        let before = verified(image, VerifyLevel::Full).unwrap_or_else(|e| panic!("{context:?}: {e}"));
        assert_eq!(before.damage, [], "{context:?}: a crash is no damage");
        let opened = TestLog::open(&shared(image), SETUP);
        let mut log = opened.unwrap_or_else(|e| panic!("{context:?}: {e:?}"));
        assert_eq!(log.damage, [], "{context:?}");
        let last = log.opened_at;
        assert!(last >= self.acknowledged, "{context:?}: {last} events, {} acknowledged", self.acknowledged);
        assert_eq!(last, before.head_sequence, "{context:?}: a reader and the next owner see the same");
        log.assert_holds(self.model, context);
        // A seal cut short takes no event with it: the next owner seals again.
        let torn = before.torn_tail.as_ref().filter(|t| !t.reason.starts_with("sealing was cut short"));
        if let Some(torn) = torn {
            self.check_quarantine(image, torn);
        }
        let mut model = self.model[..last as usize].to_vec();
        let more = [Content { tag: 1 << 40, filler: 10 }, Content { tag: 1 << 41, filler: 700 }];
        for content in more {
            log.append(&[content], Codec::None).unwrap();
            model.push(content);
        }
        log.writer.sync().unwrap();
        log.assert_holds(&model, context);
        drop(log);
        let again = image.crash_image(CrashMode::Drop, 0);
        let report = verified(&again, VerifyLevel::Full).unwrap();
        assert!(report.intact, "{context:?}: {:?}", report.damage);
        assert_eq!((report.events, report.head_sequence), (last + 2, last + 2), "{context:?}");
        let mut log = TestLog::open(&shared(&again), SETUP).unwrap();
        assert_eq!((log.opened_at, log.damage.len()), (last + 2, 0), "{context:?}");
        log.assert_holds(&model, context);
        // Sealed and closed, nothing in it may still look as if it would be repaired.
        log.seal_finished().unwrap_or_else(|e| panic!("{context:?}: {e}"));
        log.assert_holds(&model, context);
        log.writer.close(1).unwrap();
        let report = verified(&again, VerifyLevel::Deep).unwrap();
        assert!(report.intact && report.torn_tail.is_none(), "{context:?}: {report:?}");
        (last, torn.is_some())
    }

    /// What recovery cut off is in quarantine, durably.
    fn check_quarantine(&self, image: &MemoryBackend, torn: &semj_storage::log::TornTail) {
        let stem = torn.segment.file_stem().unwrap().to_string_lossy().into_owned();
        let durable = image.crash_image(CrashMode::Drop, 0);
        let folder = Path::new(common::ROOT).join("quarantine");
        // An earlier owner may have set something else aside from the same place.
        let kept = durable.files().into_iter().any(|f| {
            f.starts_with(&folder)
                && f.to_string_lossy().contains(&format!("{stem}-{}-", torn.offset))
                && durable.contents(&f).is_some_and(|bytes| bytes.len() as u64 == torn.length)
        });
        assert!(kept, "{:?}: {torn:?} is not in quarantine", self.context);
    }

    /// Cuts the recovery of `image` at each of its operations and recovers again.
    fn check_recovery(&self, image: &MemoryBackend, proven_last: Option<u64>, random: &mut Random) -> u64 {
        let cuts = Arc::new(Mutex::new(Vec::new()));
        let seed = random.next();
        image.set_observer({
            let cuts = cuts.clone();
            move |disk, operation| {
                let mut random = Random(seed ^ operation.index);
                let mode = CrashMode::EVERY[random.below(7) as usize];
                let mut cuts = cuts.lock().unwrap();
                cuts.push((format!("{operation:?} kill"), disk.kill_image()));
                for mode in [mode, CrashMode::Drop, CrashMode::Subset] {
                    let seed = random.next();
                    cuts.push((format!("{operation:?} {mode:?} {seed}"), disk.crash_image(mode, seed)));
                }
            }
        });
        TestLog::open(&shared(image), SETUP).unwrap().seal_finished().unwrap();
        image.clear_observer();
        let cuts = std::mem::take(&mut *cuts.lock().unwrap());
        for (name, cut) in &cuts {
            let context = format!("{:?}, recovery cut at {name}", self.context);
            let (last, _) = Expected { context: &context, ..*self }.check(cut);
            assert!(
                proven_last.is_none_or(|p| p == last),
                "{context}: {last} events, {proven_last:?} without the cut"
            );
        }
        cuts.len() as u64
    }
}

/// Looks at images of the disk as it is now. Every `recut`-th is also used to cut its recovery.
fn look(disk: &MemoryBackend, run: &Mutex<Run>, name: &str, seeds: u64, recut: u64) {
    let (model, acknowledged, step, mut random) = {
        let mut run = run.lock().unwrap();
        run.random += 1;
        (run.model.clone(), run.acknowledged, run.step.clone(), Random(run.random << 20))
    };
    let mut count = (0, 0, 0, 0);
    let mut modes = BTreeMap::new();
    let mut images = vec![("Kill".to_owned(), disk.kill_image(), false)];
    for mode in CrashMode::EVERY {
        let seeds = if matches!(mode, CrashMode::Drop | CrashMode::All) { 1 } else { seeds };
        for _ in 0..seeds {
            let seed = random.next();
            images.push((format!("{mode:?} {seed}"), disk.crash_image(mode, seed), true));
        }
    }
    for (mode, image, power_cut) in images {
        let context = format!("{step}, {name}, {mode}");
        *modes.entry(mode.split(' ').next().unwrap_or_default().to_owned()).or_insert(0) += 1;
        let expected = Expected { model: &model, acknowledged, context: &context };
        let copy = image.kill_image();
        let (last, torn) = expected.check(&image);
        count.0 += 1;
        count.1 += u64::from(torn);
        if random.below(recut) == 0 {
            count.2 += 1;
            count.3 += expected.check_recovery(&copy, power_cut.then_some(last), &mut random);
        }
    }
    let mut run = run.lock().unwrap();
    run.operations += 1;
    modes.into_iter().for_each(|(mode, n)| *run.modes.entry(mode).or_default() += n);
    run.images += count.0;
    run.torn += count.1;
    run.recut.0 += count.2;
    run.recut.1 += count.3;
}

/// Calls `look` after each operation from now on.
fn watch(disk: &MemoryBackend, run: &Arc<Mutex<Run>>, seeds: u64, recut: u64) {
    let run = run.clone();
    disk.set_observer(move |disk, operation| {
        let name = format!("{} {:?} {}", operation.index, operation.kind, operation.path.display());
        look(disk, &run, &name, seeds, recut);
    });
}

fn open(disk: &MemoryBackend, run: &Mutex<Run>) -> TestLog {
    open_with(disk, run, SETUP)
}

fn open_with(disk: &MemoryBackend, run: &Mutex<Run>, setup: Setup) -> TestLog {
    let log = TestLog::open(&shared(disk), setup).unwrap();
    let mut run = run.lock().unwrap();
    assert!(log.opened_at >= run.acknowledged);
    run.model.truncate(log.opened_at as usize);
    // What an open journal tells may be relied on.
    run.acknowledged = log.opened_at;
    log
}

fn append(log: &mut TestLog, run: &Mutex<Run>, count: u64, filler: usize, codec: Codec) {
    let contents = run.lock().unwrap().new_contents(count, filler);
    log.append(&contents, codec).unwrap();
}

fn sync(log: &mut TestLog, run: &Mutex<Run>) {
    let durable = log.writer.sync().unwrap();
    run.lock().unwrap().acknowledged = durable;
}

fn step(run: &Mutex<Run>, name: &str) {
    run.lock().unwrap().step = name.to_owned();
}

/// A run of several owners, looked at after each of its operations.
pub fn workload(rule: DirectoryRule, seed: u64, work: Work) {
    let run = Arc::new(Mutex::new(Run { random: seed, ..Run::default() }));
    let mut random = Random(seed);
    for number in 0..work.times() {
        {
            let mut run = run.lock().unwrap();
            run.model.clear();
            run.acknowledged = 0;
        }
        let recut = (200 / work.times()).max(20);
        one_journal(rule, &format!("{rule:?}, journal {number}"), &mut random, &run, recut);
    }
    let run = run.lock().unwrap();
    println!(
        "{rule:?}: {} images at {} operations {:?} ({} torn), recovery of {} cut {} times, {} seals, {} events",
        run.images, run.operations, run.modes, run.torn, run.recut.0, run.recut.1, run.sealed, run.next_tag
    );
    assert!(run.images > 500 && run.torn > 20 && run.recut.1 > 20 && run.sealed > 2, "{run:?}");
}

fn one_journal(rule: DirectoryRule, name: &str, random: &mut Random, run: &Arc<Mutex<Run>>, recut: u64) {
    let mut disk = MemoryBackend::new(rule);
    let codecs = [Codec::None, Codec::Lz4, Codec::Zstd(1)];
    for round in 0..5u64 {
        watch(&disk, run, 1, recut);
        step(run, &format!("{name}, round {round}"));
        let mut log = open_with(&disk, run, SMALL_SEGMENTS);
        let sealed = log.seal_finished().unwrap();
        run.lock().unwrap().sealed += sealed;
        for batch in 0..6 {
            let filler = [3, 40, 600][random.below(3) as usize];
            let codec = codecs[random.below(3) as usize];
            append(&mut log, run, 1 + random.below(5), filler, codec);
            if batch % 2 == random.below(2) {
                sync(&mut log, run);
            }
        }
        match round {
            0 | 3 => {
                step(run, &format!("{name}, round {round}, close"));
                log.writer.close(1).unwrap();
                run.lock().unwrap().acknowledged = log.writer.durable();
                drop(log);
            }
            1 => {
                drop(log);
                disk.clear_observer();
                disk = disk.kill_image();
            }
            _ => {
                drop(log);
                disk.clear_observer();
                disk = disk.crash_image(CrashMode::EVERY[random.below(7) as usize], random.next());
            }
        }
    }
    disk.clear_observer();
}

/// Sealing writes over the start of a segment that was durable for long: whatever is cut, no event is harmed.
pub fn sealing_may_be_cut_anywhere(work: Work) {
    let seed = seed(7);
    for rule in [DirectoryRule::Strict, DirectoryRule::Journal] {
        let run = Arc::new(Mutex::new(Run { random: seed, next_tag: seed, ..Run::default() }));
        let disk = MemoryBackend::new(rule);
        let mut log = open_with(&disk, &run, SMALL_SEGMENTS);
        for batch in 0..8 {
            let codec = if batch % 2 == 0 { Codec::None } else { Codec::Lz4 };
            append(&mut log, &run, 3, 250, codec);
            sync(&mut log, &run);
        }
        step(&run, &format!("seed {seed}, {rule:?}, sealing"));
        watch(&disk, &run, work.times(), 100);
        let sealed = log.seal_finished().unwrap();
        disk.clear_observer();
        let run = run.lock().unwrap();
        println!("{rule:?}: {sealed} segments sealed, {} images, {} operations", run.images, run.operations);
        assert!(sealed > 1 && run.images > 100, "{run:?}");
    }
}

/// Recovery with everything to do - proven, whole and torn blocks, a segment that was only begun - is cut everywhere.
pub fn recovery_may_be_cut_anywhere(work: Work) {
    let seed = seed(6);
    let mut cuts = 0;
    for (proven, whole, torn, begun) in (0..2)
        .flat_map(|p| (0..3).flat_map(move |w| (0..2).flat_map(move |t| [(p, w, t, false), (p, w, t, true)])))
    {
        let context =
            format!("seed {seed}, {proven} proven, {whole} whole, {torn} torn, next begun: {begun}");
        let run = Mutex::new(Run { next_tag: seed, ..Run::default() });
        let disk = MemoryBackend::default();
        let mut log = open(&disk, &run);
        for _ in 0..proven {
            append(&mut log, &run, 2, 200, Codec::None);
            sync(&mut log, &run);
        }
        for _ in 0..whole + torn {
            append(&mut log, &run, 2, 200, Codec::None);
        }
        drop(log);
        let folder = common::segments_folder();
        let segments = semj_storage::log::segment_files(&disk, &folder).unwrap();
        if let (1, Some((_, path))) = (torn, segments.first()) {
            // Behind the last block lies the room for an end mark.
            let torn = |bytes: &mut Vec<u8>| {
                bytes.truncate(bytes.iter().rposition(|b| *b != 0).unwrap_or(0) - 40);
            };
            disk.damage(path, torn).unwrap();
            run.lock().unwrap().model.truncate(2 * (proven + whole));
        }
        if begun {
            let path = folder.join(format!("{:020}.semj", 50));
            let file = disk.open(&path, OpenMode::CreateNew).unwrap();
            file.write_at(b"the first bytes of a header", 0).unwrap();
            file.sync_data().unwrap();
            disk.sync_dir(&folder).unwrap();
        }
        let run = run.into_inner().unwrap();
        let image = disk.crash_image(CrashMode::All, 0);
        let expected = Expected { model: &run.model, acknowledged: run.acknowledged, context: &context };
        let last = run.model.len() as u64;
        let copy = image.kill_image();
        assert_eq!(expected.check(&copy).0, last, "{context}: whole blocks are kept");
        let set_aside = copy.files().iter().filter(|f| f.to_string_lossy().contains("quarantine")).count();
        assert_eq!(set_aside, torn + usize::from(begun), "{context}: each torn piece is kept");
        for round in 0..if work == Work::Small { 1 } else { 2 * work.times() } {
            cuts += expected.check_recovery(&image.kill_image(), Some(last), &mut Random(seed + round));
        }
    }
    println!("{cuts} cuts of recoveries");
}

/// As above with space filled ahead; images of megabytes, so fewer.
pub fn space_ahead_of_the_tail_changes_nothing() {
    let seed = seed(3);
    let run = Arc::new(Mutex::new(Run { random: seed, ..Run::default() }));
    let disk = MemoryBackend::default();
    let mut log = open(&disk, &run);
    append(&mut log, &run, 2, 40, Codec::None);
    sync(&mut log, &run);
    append(&mut log, &run, 3, 40, Codec::None);
    step(&run, "fill");
    assert!(log.prealloc().wants_fill());
    disk.set_observer({
        let run = run.clone();
        move |disk, operation| {
            if operation.kind == OperationKind::SyncData || operation.index.is_multiple_of(3) {
                look(disk, &run, &format!("{operation:?}"), 1, 1000);
            }
        }
    });
    log.prealloc().fill();
    append(&mut log, &run, 3, 400, Codec::Lz4);
    sync(&mut log, &run);
    step(&run, "close");
    append(&mut log, &run, 1, 4, Codec::None);
    log.writer.close(1).unwrap();
    println!("{} images", run.lock().unwrap().images);
    assert!(disk.used_bytes() < 10_000, "a closed journal keeps no empty space");
}

/// After a failed sync Linux calls pages clean that never reached the disk: the next owner must not believe them.
pub fn what_a_failed_sync_forgot_is_written_again() {
    let seed = seed(4);
    let (mut tried, mut failed) = (0, 0);
    for rule in [DirectoryRule::Strict, DirectoryRule::Journal] {
        // Which step fails, and at which of its syncs; each of several batches before.
        for (ending, before, nth) in
            (0..4).flat_map(|e| (0..4).flat_map(move |b| (1..5).map(move |n| (e, b, n))))
        {
            let context =
                format!("seed {seed}, {rule:?}, ending {ending}, {before} batches, sync {nth} fails");
            let run = Mutex::new(Run { random: seed, next_tag: seed, ..Run::default() });
            let disk = MemoryBackend::new(rule);
            let mut log = open(&disk, &run);
            for batch in 0..before {
                append(&mut log, &run, 1 + batch, 300, Codec::None);
                sync(&mut log, &run);
            }
            let arm = || disk.fail(Fault::on(FaultClass::Sync).nth(nth).forget().path("segments/"));
            let result = match ending {
                0 => {
                    arm();
                    (0..8).try_for_each(|_| {
                        let contents = run.lock().unwrap().new_contents(3, 300);
                        log.append(&contents, Codec::None).map_err(std::io::Error::other)?;
                        log.writer.sync().map(|durable| run.lock().unwrap().acknowledged = durable)
                    })
                }
                1 => {
                    append(&mut log, &run, 3, 300, Codec::None);
                    arm();
                    log.writer.close(1).map(|()| run.lock().unwrap().acknowledged = log.writer.durable())
                }
                // The next segment is begun without a sync in between.
                2 => {
                    arm();
                    let mut result = Ok(());
                    for _ in 0..9 {
                        let contents = run.lock().unwrap().new_contents(2, 600);
                        if let Err(e) = log.append(&contents, Codec::None) {
                            result = Err(std::io::Error::other(e));
                            break;
                        }
                    }
                    result.and_then(|()| log.writer.sync().map(|d| run.lock().unwrap().acknowledged = d))
                }
                // The sync of a fill swallows the error of the data.
                _ => {
                    append(&mut log, &run, 2, 300, Codec::None);
                    arm();
                    log.prealloc().fill();
                    let mut result = Ok(());
                    for _ in 0..before * 3 {
                        let contents = run.lock().unwrap().new_contents(2, 600);
                        if let Err(e) = log.append(&contents, Codec::None) {
                            result = Err(std::io::Error::other(e));
                            break;
                        }
                    }
                    let ended =
                        if before % 2 == 0 { log.writer.close(1) } else { log.writer.sync().map(drop) };
                    result.and(ended).map(|()| run.lock().unwrap().acknowledged = log.writer.durable())
                }
            };
            tried += 1;
            failed += u32::from(result.is_err());
            disk.clear_faults();
            drop(log);
            let (model, acknowledged) = {
                let run = run.lock().unwrap();
                (run.model.clone(), run.acknowledged)
            };
            let expected = Expected { model: &model, acknowledged, context: &context };
            if disk.used_bytes() < 100_000 {
                expected.check(&disk.crash_image(CrashMode::Drop, 0));
                expected.check(&disk.crash_image(CrashMode::Subset, seed));
            }
            // The next owner, then a power cut: what the owner had claimed is there.
            let next = disk.kill_image();
            let log = TestLog::open(&shared(&next), SETUP).unwrap_or_else(|e| panic!("{context}: {e:?}"));
            assert!(log.opened_at >= acknowledged, "{context}");
            let claimed = log.opened_at;
            let expected = Expected { acknowledged: claimed, ..expected };
            expected.check(&next.crash_image(CrashMode::Drop, 0));
            // Also when that owner goes on, in whichever segment.
            let mut log = log;
            let mut model = model[..claimed as usize].to_vec();
            let content = Content { tag: 1 << 50, filler: 30 };
            log.append(&[content], Codec::None).unwrap();
            model.push(content);
            log.writer.sync().unwrap();
            Expected { model: &model, acknowledged: claimed + 1, context: &context }
                .check(&next.crash_image(CrashMode::Drop, 0));
        }
    }
    println!("{tried} runs, {failed} with a failed sync");
    assert!(failed > tried / 2);
}
