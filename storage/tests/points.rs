//! A crash at every failpoint of storage: nothing acknowledged is lost, and the next owner goes on.
//!
//! `cargo test -p semj-storage --features chaos --test points`

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests are tests")]

mod common;

use common::{Content, Setup, TestLog, segments_folder, shared, verified};
use semj_storage::backend::{Backend, CrashMode, MemoryBackend, OpenMode};
use semj_storage::blobs::{BlobError, Blobs};
use semj_storage::chaos::{self, Action, Injected, POINTS};
use semj_storage::log::{Codec, LockFile};
use semj_storage::trees::{Index, IndexCore, TreeError, Trees};
use semj_storage::verify::VerifyLevel;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Arc;

const SETUP: Setup = Setup { segment_bytes: 1_500, preallocate: true };

/// What was written so far, and what of it is acknowledged.
#[derive(Debug, Default)]
struct World {
    disk: MemoryBackend,
    model: Vec<Content>,
    acknowledged: u64,
    tag: u64,
}

impl World {
    fn open(&mut self) -> TestLog {
        let log = TestLog::open(&shared(&self.disk), SETUP).unwrap();
        assert!(log.opened_at >= self.acknowledged && log.damage.is_empty(), "{self:?}");
        log.assert_holds(&self.model, &"opened");
        self.model.truncate(log.opened_at as usize);
        self.acknowledged = log.opened_at;
        log
    }

    fn append(&mut self, log: &mut TestLog) {
        self.tag += 2;
        let contents = [self.tag, self.tag + 1].map(|tag| Content { tag, filler: 120 });
        self.model.extend(contents);
        log.append(&contents, Codec::None).unwrap();
    }

    fn sync(&mut self, log: &mut TestLog) {
        self.acknowledged = log.writer.sync().unwrap();
    }

    /// The last segment's path.
    fn last_segment(&self) -> std::path::PathBuf {
        semj_storage::log::segment_files(&self.disk, &segments_folder()).unwrap().pop().unwrap().1
    }

    /// Whatever the crash left opens, also after a power cut, and goes on.
    fn check(&self, context: &str) {
        let crashes = [CrashMode::Drop, CrashMode::All, CrashMode::Subset, CrashMode::Torn];
        let images = crashes.map(|mode| self.disk.crash_image(mode, 3));
        for image in images.into_iter().chain([self.disk.kill_image()]) {
            let mut after = World { disk: image, model: self.model.clone(), tag: 1 << 20, ..*self };
            let mut log = after.open();
            after.append(&mut log);
            after.sync(&mut log);
            log.seal_finished().unwrap();
            log.writer.close(1).unwrap();
            log.assert_holds(&after.model, &context);
            let report = verified(&after.disk, VerifyLevel::Deep).unwrap();
            assert!(report.intact && report.torn_tail.is_none(), "{context}: {report:?}");
        }
    }
}

/// What owners do one after the other; each step is one owner's life.
const STEPS: [fn(&mut World); 5] = [
    |world| {
        let mut log = world.open();
        world.append(&mut log);
        log.prealloc().fill();
        for _ in 0..4 {
            world.append(&mut log);
            world.sync(&mut log);
        }
        log.writer.close(1).unwrap();
        world.acknowledged = log.writer.durable();
    },
    // Seals, and is killed with events that nothing proves.
    |world| {
        let mut log = world.open();
        log.seal_finished().unwrap();
        world.append(&mut log);
        world.sync(&mut log);
        world.append(&mut log);
    },
    // Writes them again, and is killed in the middle of a write.
    |world| {
        let mut log = world.open();
        world.append(&mut log);
        world.sync(&mut log);
        world.append(&mut log);
        drop(log);
        let path = world.last_segment();
        let length = world.disk.contents(&path).unwrap().iter().rposition(|b| *b != 0).unwrap();
        let file = world.disk.open(&path, OpenMode::Write).unwrap();
        file.set_len(length as u64 - 40).unwrap();
        world.model.truncate(world.model.len() - 2);
    },
    // Sets the torn block aside, and is killed when it had only begun the next segment.
    |world| {
        let mut log = world.open();
        world.append(&mut log);
        world.sync(&mut log);
        drop(log);
        let path = segments_folder().join(format!("{:020}.semj", world.model.len() + 1));
        let file = world.disk.open(&path, OpenMode::CreateOrOpen).unwrap();
        file.write_at(b"begun", 0).unwrap();
    },
    // Closes cleanly, but LOCK does not tell.
    |world| {
        let mut log = world.open();
        world.append(&mut log);
        log.writer.close(1).unwrap();
        world.acknowledged = log.writer.durable();
        drop(log);
        world.disk.remove_file(&Path::new(common::ROOT).join("LOCK")).unwrap();
        world.open();
    },
];

/// Runs `body` and tells at which point it crashed.
fn crashes_at(body: impl FnOnce()) -> Option<&'static str> {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(()) => None,
        Err(panic) => match panic.downcast_ref::<Injected>() {
            Some(injected) => Some(injected.point),
            None => resume_unwind(panic),
        },
    }
}

/// The steps, with one crash at a pass of `point`; `false` when it has fewer passes.
fn run_steps(point: &'static str, nth: u64) -> bool {
    let mut world = World::default();
    chaos::disarm_all();
    chaos::arm(point, nth, Action::Panic);
    let mut crashed = false;
    for (number, step) in STEPS.iter().enumerate() {
        if let Some(at) = crashes_at(|| step(&mut world)) {
            assert_eq!(at, point);
            crashed = true;
            world.check(&format!("{point}, pass {nth}, step {number}"));
        }
    }
    chaos::disarm_all();
    world.check(&format!("{point}, pass {nth}, the end"));
    crashed
}

/// A damaged segment from which nothing can be kept: its bytes go to quarantine, then it is removed.
fn run_removal(armed: bool) -> Option<&'static str> {
    let mut world = World::default();
    let setup = Setup { segment_bytes: 1 << 20, ..SETUP };
    let mut log = TestLog::open(&shared(&world.disk), setup).unwrap();
    world.append(&mut log);
    world.sync(&mut log);
    drop(log);
    let mut log = TestLog::open(&shared(&world.disk), setup).unwrap();
    world.append(&mut log);
    world.append(&mut log);
    drop(log);
    world
        .disk
        .damage(world.last_segment(), |bytes| [100, 270].iter().for_each(|at| bytes[*at] ^= 4))
        .unwrap();
    chaos::disarm_all();
    if armed {
        chaos::arm("recover:removed", 1, Action::Panic);
    }
    let crashed = crashes_at(|| drop(TestLog::open(&shared(&world.disk), setup)));
    chaos::disarm_all();
    for image in [world.disk.kill_image(), world.disk.crash_image(CrashMode::Drop, 0)] {
        let log = TestLog::open(&shared(&image), setup).unwrap();
        assert_eq!(log.opened_at, 2, "{crashed:?}");
        log.assert_holds(&world.model, &crashed);
        let kept = image.files().iter().any(|f| f.to_string_lossy().contains("quarantine"));
        assert!(kept, "{crashed:?}: the damaged bytes are gone");
    }
    crashed
}

fn run_blobs() {
    let disk = MemoryBackend::default();
    disk.create_dir_all(Path::new("/j")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    let on = |disk: &MemoryBackend| Blobs::new(Arc::new(disk.clone()), "/j/blobs");
    for point in POINTS.iter().copied().filter(|point| point.starts_with("blobs:")) {
        let content = point.repeat(50);
        chaos::arm(point, 1, Action::Panic);
        assert_eq!(crashes_at(|| drop(on(&disk).put(content.as_bytes()))), Some(point));
        on(&disk).remove_leftovers().unwrap();
        let blob = on(&disk).put(content.as_bytes()).unwrap();
        let image = disk.crash_image(CrashMode::Drop, 0);
        assert_eq!(on(&image).get(&blob).unwrap(), content.as_bytes(), "{point}");
        assert!(!matches!(on(&image).verify(&blob), Err(BlobError::Damaged { .. })));
    }
}

/// Trees that crashed anywhere are opened or made again, and know every event in the end.
fn run_trees() {
    let disk = MemoryBackend::default();
    let setup = Setup { segment_bytes: 1 << 20, preallocate: false };
    let mut log = TestLog::open(&shared(&disk), setup).unwrap();
    for batch in 0..5u64 {
        let contents: Vec<_> = (0..1_000).map(|n| Content { tag: batch * 1_000 + n, filler: 0 }).collect();
        log.append(&contents, Codec::None).unwrap();
    }
    log.writer.sync().unwrap();
    let lock = disk.open(&Path::new(common::ROOT).join("LOCK"), OpenMode::Write).unwrap();
    chaos::arm("lock:indexed", 1, Action::Panic);
    let told = || LockFile::new(lock.clone()).write_indexed(&log.writer.journal(), 5).unwrap();
    assert_eq!(crashes_at(told), Some("lock:indexed"));
    told();
    let folder = tempfile::tempdir().unwrap();
    for point in POINTS.iter().copied().filter(|point| point.starts_with("trees:")) {
        let path = folder.path().join(point.replace(':', "-"));
        let aside = path.with_extension("aside");
        let run = |trees: Trees| -> Result<u64, TreeError> {
            let index = Arc::new(Index::new());
            index.install(trees, &log.view())?;
            let mut core = IndexCore::new(index.clone());
            while !core.step(&log.view(), 1_000).unwrap().is_caught_up() {}
            assert_eq!(index.failure().is_some(), !index.has_trees());
            Ok(index.indexed_sequence())
        };
        chaos::arm(point, 1, Action::Panic);
        let crashed = crashes_at(|| {
            let _ = Trees::open(&path).and_then(run);
            Trees::set_aside(&path, &aside).unwrap();
        });
        // Within sled a crash is taken for one of sled's: the trees go out of use, and nothing else.
        let inside = matches!(point, "trees:rows" | "trees:cursor");
        assert_eq!(crashed, (!inside).then_some(point));
        chaos::disarm_all();
        assert_eq!(Trees::open(&path).and_then(run).unwrap(), 5_000, "{point}");
    }
}

// One test: failpoints belong to the whole process.
#[test]
fn a_crash_at_any_point_loses_nothing() {
    // These panics are meant; their traces would bury everything else.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.payload().is::<Injected>() {
            usual(info);
        }
    }));
    let of_record = |point: &&str| !point.starts_with("blobs:") && !point.starts_with("trees:");
    let mut crashes = 0;
    for point in POINTS.iter().copied().filter(of_record) {
        let passes = (1..).take_while(|nth| run_steps(point, *nth)).count();
        assert!(
            passes > 0 || ["recover:removed", "lock:indexed"].contains(&point),
            "{point} is never passed"
        );
        crashes += passes;
    }
    assert_eq!(run_removal(false), None);
    assert_eq!(run_removal(true), Some("recover:removed"));
    run_blobs();
    run_trees();
    let passed = chaos::passes();
    let missed: Vec<_> = POINTS.iter().filter(|point| !passed.contains_key(**point)).collect();
    assert!(missed.is_empty(), "never passed: {missed:?}");
    println!("{} points, {crashes} crashes of the record's", POINTS.len());
}
