//! Operations of a run that fail, each in several ways.

use super::Work;
use crate::common::{Content, OpenFailure, Setup, TestLog, seed, segments_folder, shared, verified};
use semj_storage::backend::{Backend, CrashMode, DirectoryRule, Fault, FaultClass, MemoryBackend, OpenMode};
use semj_storage::error::ReadError;
use semj_storage::log::{AppendError, Codec};
use semj_storage::verify::VerifyLevel;

const SETUP: Setup = Setup { segment_bytes: 2_500, preallocate: true };
/// How often a full disk is tried again before the run gives up.
const TRIES: u32 = 3;

/// What a run left.
#[derive(Debug, Default)]
struct Outcome {
    model: Vec<Content>,
    acknowledged: u64,
    /// What failed, and ended the run.
    error: Option<String>,
    full: u32,
}

impl Outcome {
    fn fail(&mut self, error: impl std::fmt::Debug) {
        self.error = Some(format!("{error:?}"));
    }

    /// One session: open, six batches, an unsynced rest or a clean close. `false` when it failed.
    fn session(&mut self, disk: &MemoryBackend, close: bool) -> bool {
        let mut log = match TestLog::open(&shared(disk), SETUP) {
            Ok(log) => log,
            Err(e) => {
                self.fail(e);
                return false;
            }
        };
        assert!(log.opened_at >= self.acknowledged, "{self:?}, opened at {}", log.opened_at);
        assert!(log.damage.is_empty(), "{:?}", log.damage);
        self.model.truncate(log.opened_at as usize);
        self.acknowledged = log.opened_at;
        for batch in 0..if close { 6 } else { 7u64 } {
            let tag = self.model.len() as u64 + batch * 1000;
            let contents: Vec<_> =
                (0..1 + batch % 3).map(|i| Content { tag: tag + i, filler: 250 }).collect();
            let length = self.model.len();
            self.model.extend(&contents);
            if !self.append(&mut log, &contents) {
                return false;
            }
            assert_eq!(log.writer.written() as usize, length + contents.len());
            if batch % 2 == 1 {
                match log.writer.sync() {
                    Ok(durable) => self.acknowledged = durable,
                    Err(e) => {
                        self.fail(e);
                        // Readers are given what the writer calls durable, whatever became of it.
                        self.acknowledged = log.writer.durable();
                        return false;
                    }
                }
                match log.try_holds(&self.model, &"synced") {
                    // A read that failed once is no reason to fail again.
                    Err(ReadError::Io { .. }) => log.assert_holds(&self.model, &"read again"),
                    Ok(()) => {}
                    Err(e) => panic!("{e}"),
                }
            }
        }
        if let Err(e) = log.seal_finished() {
            self.fail(e);
            return false;
        }
        if close {
            match log.writer.close(1) {
                Ok(()) => self.acknowledged = log.writer.durable(),
                Err(e) => {
                    self.fail(e);
                    return false;
                }
            }
        }
        true
    }

    /// As the persister does it: a full disk is waited for, any other error ends the run.
    fn append(&mut self, log: &mut TestLog, contents: &[Content]) -> bool {
        for _ in 0..TRIES {
            match log.append(contents, Codec::Lz4) {
                Ok(()) => return true,
                Err(AppendError::Full(_)) => self.full += 1,
                Err(e) => {
                    self.fail(e);
                    return false;
                }
            }
        }
        // Given up: what was admitted before can still be made durable.
        match log.writer.close(1) {
            Ok(()) => self.acknowledged = log.writer.durable(),
            Err(e) => self.fail(e),
        }
        self.error.get_or_insert("full".into());
        false
    }

    fn run(&mut self, disk: &MemoryBackend) {
        let _ = self.session(disk, true)
            && self.session(disk, false)
            && self.begin_segment(disk)
            && self.session(disk, true);
    }

    /// A segment that an owner had only begun when it was killed: the next one removes it.
    fn begin_segment(&mut self, disk: &MemoryBackend) -> bool {
        let path = segments_folder().join(format!("{:020}.semj", self.model.len() + 100));
        match disk.open(&path, OpenMode::CreateOrOpen).and_then(|file| file.write_at(b"begun", 0)) {
            Ok(()) => true,
            Err(e) => {
                self.fail(e);
                false
            }
        }
    }

    /// Everything acknowledged is there, whichever way the process ended.
    fn check(&self, disk: &MemoryBackend, seed: u64, context: &str) -> u64 {
        let mut images = 0;
        let mode = CrashMode::EVERY[1 + seed as usize % 6];
        let crashes = [disk.kill_image(), disk.crash_image(CrashMode::Drop, 0), disk.crash_image(mode, seed)];
        for image in crashes {
            images += 1;
            let before = verified(&image, VerifyLevel::Full).unwrap_or_else(|e| panic!("{context}: {e}"));
            assert_eq!(before.damage, [], "{context}: a fault of the disk is no damage");
            let mut log =
                TestLog::open(&shared(&image), SETUP).unwrap_or_else(|e| panic!("{context}: {e:?}"));
            assert!(log.opened_at >= self.acknowledged, "{context}: {} events, {self:?}", log.opened_at);
            assert_eq!(log.damage, [], "{context}");
            log.assert_holds(&self.model, &context);
            let mut model = self.model[..log.opened_at as usize].to_vec();
            let content = Content { tag: 1 << 34, filler: 9 };
            log.append(&[content], Codec::None).unwrap();
            log.writer.sync().unwrap();
            model.push(content);
            drop(log);
            let again = image.crash_image(CrashMode::Drop, 0);
            let report = verified(&again, VerifyLevel::Full).unwrap();
            assert!(report.intact && report.events == model.len() as u64, "{context}: {report:?}");
            let mut log = TestLog::open(&shared(&again), SETUP).unwrap();
            log.assert_holds(&model, &context);
            // Whatever was left of sealing is made good.
            log.seal_finished().unwrap();
            log.writer.close(1).unwrap();
            let report = verified(&again, VerifyLevel::Deep).unwrap();
            assert!(report.intact && report.torn_tail.is_none(), "{context}: {report:?}");
        }
        images
    }
}

/// What a fault is called, and how it is made.
pub type Named<'a> = (&'a str, fn(Fault) -> Fault);

pub const WRITES: &[Named<'_>] = &[
    ("EIO", |f| f),
    ("EIO short", |f| f.short()),
    ("ENOSPC once, short", |f| f.full().short()),
    ("ENOSPC twice", |f| f.full().times(2)),
    ("ENOSPC for long, short", |f| f.full().short().times(5)),
];
pub const SYNCS: &[Named<'_>] =
    &[("EIO", |f| f), ("EIO, forgotten", |f| f.forget()), ("ENOSPC, forgotten", |f| f.full().forget())];
pub const READS: &[Named<'_>] = &[("EIO", |f| f), ("EIO short", |f| f.short())];
pub const OTHERS: &[Named<'_>] = &[("EIO", |f| f), ("ENOSPC", |f| f.full())];

/// Each operation of a class in a run of three owners fails once: in one of the ways, then in the next.
pub fn each_operation_fails(class: FaultClass, faults: &[Named<'_>], work: Work) {
    let seed = seed(11);
    let (mut struck, mut images, mut ended, mut full) = (0u64, 0, 0, 0);
    for rule in [DirectoryRule::Strict, DirectoryRule::Journal] {
        for (name, shape) in faults {
            for nth in (1..).filter(|nth| work.takes(*nth, 2)) {
                let context = format!("seed {seed}, {rule:?}, {class:?} {nth} {name}");
                let disk = MemoryBackend::new(rule);
                disk.fail(shape(Fault::on(class).nth(nth)));
                let mut outcome = Outcome::default();
                outcome.run(&disk);
                if disk.faults_struck() == 0 {
                    assert!(outcome.error.is_none(), "{context}: {outcome:?}");
                    assert!(nth > 1, "{context}: no operation of this kind");
                    break;
                }
                struck += 1;
                ended += u64::from(outcome.error.is_some());
                full += u64::from(outcome.full > 0);
                disk.clear_faults();
                images += outcome.check(&disk, seed + nth, &context);
            }
        }
    }
    println!(
        "{class:?}: {struck} faults, {ended} runs ended by them, {full} waited for room, {images} images"
    );
    assert!(ended + full > 0);
}

/// Reads fail while the journal is opened: an error, and the next opening finds everything.
pub fn every_read_of_an_opening_fails() {
    let mut outcome = Outcome::default();
    let origin = MemoryBackend::default();
    assert!(outcome.session(&origin, true) && outcome.session(&origin, false), "{outcome:?}");
    let mut refused = 0;
    for nth in 1.. {
        let disk = origin.kill_image();
        disk.fail(Fault::on(FaultClass::Read).nth(nth));
        let opened = TestLog::open(&shared(&disk), SETUP);
        if disk.faults_struck() == 0 {
            break;
        }
        match opened {
            Err(OpenFailure::Read(_) | OpenFailure::Io(_)) => refused += 1,
            Ok(log) => panic!("read {nth} failed and was passed over: opened at {}", log.opened_at),
        }
        disk.clear_faults();
        outcome.check(&disk, nth, &format!("read {nth}"));
    }
    println!("{refused} openings refused");
    assert!(refused > 10);
}

/// The disk is full at every number of bytes: what was acknowledged stays, and with room again all goes on.
pub fn the_disk_is_full_at_every_size() {
    let (mut runs, mut images) = (0, 0);
    for quota in (0..14_000).step_by(97) {
        let disk = MemoryBackend::default();
        disk.set_quota(Some(quota));
        let mut outcome = Outcome::default();
        outcome.run(&disk);
        disk.set_quota(None);
        images += outcome.check(&disk, quota, &format!("quota {quota}"));
        runs += 1;
    }
    println!("{runs} sizes, {images} images");
}

/// Space ahead of the tail is a convenience: no room for it, or an error, hinders nothing but itself.
pub fn space_ahead_may_not_be_had() {
    for (room, fault) in
        [(0, None), (300_000, None), (1 << 30, Some(Fault::on(FaultClass::Write).nth(2).short()))]
    {
        let disk = MemoryBackend::default();
        let mut model = Vec::new();
        let mut log = TestLog::open(&shared(&disk), SETUP).unwrap();
        for tag in 0..12 {
            let content = Content { tag, filler: 300 };
            disk.set_quota(None);
            log.append(&[content], Codec::None).unwrap();
            model.push(content);
            disk.set_quota(Some(disk.used_bytes() + room));
            if let Some(fault) = &fault {
                disk.fail(fault.clone());
            }
            log.prealloc().fill();
            disk.clear_faults();
            log.writer.sync().unwrap();
            log.assert_holds(&model, &room);
        }
        disk.set_quota(None);
        log.writer.close(1).unwrap();
        let report = verified(&disk, VerifyLevel::Full).unwrap();
        assert!(report.intact && report.events == 12, "{report:?}");
    }
}

pub fn no_space_is_filled_ahead_when_that_is_off() {
    let setup = Setup { preallocate: false, ..SETUP };
    let disk = MemoryBackend::default();
    for tag in 0..3 {
        let mut log = TestLog::open(&shared(&disk), setup).unwrap();
        assert!(!log.prealloc().wants_fill(), "opening {tag}");
        log.append(&[Content { tag, filler: 3 }], Codec::None).unwrap();
        assert!(!log.prealloc().wants_fill(), "opening {tag}");
        log.writer.close(1).unwrap();
    }
}

/// LOCK only tells how far the record is durable: where there is no room for it, it lags, and nothing is poisoned.
pub fn a_watermark_without_room_costs_no_event() {
    let disk = MemoryBackend::default();
    let mut log = TestLog::open(&shared(&disk), SETUP).unwrap();
    let contents: Vec<_> = (0..9).map(|tag| Content { tag, filler: 30 }).collect();
    for (content, sequence) in contents.iter().zip(1..) {
        log.append(&[*content], Codec::None).unwrap();
        disk.fail(Fault::on(FaultClass::Write).path("LOCK").full().short().times(1));
        assert_eq!(log.writer.sync().unwrap(), sequence, "synced, whatever LOCK says");
        assert_eq!(disk.faults_struck(), sequence, "LOCK was to be written");
    }
    drop(log);
    disk.clear_faults();
    let image = disk.crash_image(CrashMode::Drop, 0);
    let log = TestLog::open(&shared(&image), SETUP).unwrap();
    assert_eq!((log.opened_at, log.damage.len()), (9, 0));
    log.assert_holds(&contents, &"LOCK was never written");
}
