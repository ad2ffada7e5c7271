use super::*;
use crate::backend::{
    CrashMode, DirectoryRule, Fault, FaultClass, MemoryBackend, OperationKind, RealBackend,
};
use std::collections::BTreeMap;

const FOLDER: &str = "journal/blobs";

/// A disk with a journal's folder on it, and its blobs.
fn world(rule: DirectoryRule) -> (MemoryBackend, Blobs) {
    let disk = MemoryBackend::new(rule);
    disk.create_dir_all(Path::new("journal")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    (disk.clone(), Blobs::new(Arc::new(disk), FOLDER))
}

fn on(disk: &MemoryBackend) -> Blobs {
    Blobs::new(Arc::new(disk.clone()), FOLDER)
}

fn strict() -> (MemoryBackend, Blobs) {
    world(DirectoryRule::Strict)
}

#[test]
fn content_comes_back() {
    let (_, blobs) = strict();
    assert_eq!((blobs.list().unwrap(), blobs.remove_leftovers().unwrap()), (vec![], 0));
    let contents = [vec![], b"x".to_vec(), vec![7; PIECE_BYTES], vec![8; 3 * PIECE_BYTES + 1]];
    let mut hashes = Vec::new();
    for content in &contents {
        let blob = blobs.put(content).unwrap();
        assert_eq!(blob.bytes, content.len() as u64);
        assert_eq!(blobs.get(&blob).unwrap(), *content);
        blobs.verify(&blob).unwrap();
        hashes.push(blob.sha256);
    }
    hashes.sort_unstable();
    assert_eq!(blobs.list().unwrap(), hashes);
    let empty = "journal/blobs/e3/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(blobs.path(&Sha256::digest(b"").into()), Path::new(empty));
}

#[test]
fn the_head_is_the_first_characters_as_they_are() {
    assert_eq!(head(b"a\x1b[31m\0\n"), "a\u{1b}[31m\0\n");
    assert_eq!(head(b"\xFFa"), "\u{FFFD}a");
    for wide in ["\u{1F600}", "\u{20AC}", "e"] {
        for lead in ["", "x", "xy", "xyz"] {
            let text = format!("{lead}{}", wide.repeat(500));
            assert_eq!(head(text.as_bytes()), text.chars().take(200).collect::<String>());
        }
    }
    assert_eq!(head(&[0xF0; 5000]), "\u{FFFD}".repeat(200));
}

#[test]
fn equal_content_is_stored_once() {
    let (disk, blobs) = strict();
    let first = blobs.put(b"same").unwrap();
    disk.record(true);
    assert_eq!(blobs.put(b"same").unwrap(), first);
    let again: Vec<_> = disk.recorded().into_iter().map(|o| o.kind).collect();
    assert_eq!(again, [OperationKind::SyncData, OperationKind::SyncDir]);
    assert_eq!(disk.files().len(), 1);
}

#[test]
fn damage_is_named_and_healed_by_the_next_put() {
    let (disk, blobs) = strict();
    let content = vec![5; 100_000];
    let blob = blobs.put(&content).unwrap();
    let path = blobs.path(&blob.sha256);
    let refused = |what: &str| {
        let error = blobs.get(&blob).unwrap_err();
        let text = error.to_string();
        assert!(
            error.is_damage() && text.contains(&*path.to_string_lossy()) && text.contains(what),
            "{text}"
        );
        assert!(blobs.verify(&blob).is_err());
        assert_eq!(blobs.put(&content).unwrap(), blob);
        assert_eq!(blobs.get(&blob).unwrap(), content);
        assert_eq!(disk.crash_image(CrashMode::Drop, 0).contents(&path).unwrap(), content);
    };
    disk.damage(&path, |bytes| bytes[99_999] ^= 1).unwrap();
    refused(&hex(&blob.sha256));
    disk.damage(&path, |bytes| bytes.truncate(99_999)).unwrap();
    refused("expected 100000 bytes, found 99999 bytes");
    disk.damage(&path, |bytes| bytes.push(5)).unwrap();
    refused("found 100001 bytes");
    disk.damage(&path, Vec::clear).unwrap();
    refused("found 0 bytes");
    disk.remove_file(&path).unwrap();
    refused("no such blob");
    let lying = BlobRef { bytes: u64::MAX, ..blob };
    assert!(matches!(blobs.get(&lying), Err(BlobError::Damaged { .. })));
}

/// Everything that has a blob's name is whole, and everything that was acknowledged is there.
fn check(image: &MemoryBackend, acknowledged: &BTreeMap<[u8; 32], (BlobRef, Vec<u8>)>, context: &str) {
    let blobs = on(image);
    for sha256 in blobs.list().unwrap() {
        let found = image.contents(blobs.path(&sha256)).unwrap();
        assert_eq!(Sha256::digest(found)[..], sha256, "{context}: a torn blob has its name");
    }
    for (blob, content) in acknowledged.values() {
        assert_eq!(blobs.get(blob).unwrap(), *content, "{context}: an acknowledged blob");
    }
}

#[test]
fn a_power_cut_at_any_operation_leaves_whole_blobs() {
    for rule in [DirectoryRule::Strict, DirectoryRule::Journal] {
        let (disk, blobs) = world(rule);
        let acknowledged = Arc::new(Mutex::new(BTreeMap::new()));
        let known = acknowledged.clone();
        let images = Arc::new(Mutex::new(0));
        let count = images.clone();
        disk.set_observer(move |disk, operation| {
            for mode in CrashMode::EVERY {
                for seed in 0..12 {
                    let image = disk.crash_image(mode, seed);
                    let context = format!("{rule:?} {mode:?} {seed} after {operation:?}");
                    check(&image, &known.lock(), &context);
                    // The next process goes on where this one ended, whatever is left.
                    if seed == 0 {
                        let blobs = on(&image);
                        blobs.remove_leftovers().unwrap();
                        let blob = blobs.put(&[3; 3000]).unwrap();
                        let after = image.crash_image(CrashMode::Drop, seed);
                        assert_eq!(on(&after).get(&blob).unwrap(), [3; 3000], "{context}");
                        let names = image.files().into_iter().filter_map(|path| path.extension().map(drop));
                        assert_eq!(names.count(), 0, "{context}");
                    }
                    *count.lock() += 1;
                }
            }
        });
        for content in [vec![], vec![1; 10], vec![2; 700], vec![3; 3000], vec![2; 700], vec![4; 2000]] {
            let blob = blobs.put(&content).unwrap();
            acknowledged.lock().insert(blob.sha256, (blob, content));
        }
        disk.clear_observer();
        for mode in CrashMode::EVERY {
            check(&disk.crash_image(mode, 1), &acknowledged.lock(), "at the end");
        }
        assert!(*images.lock() > 2_000, "{} images", images.lock());
    }
}

#[test]
fn a_put_that_finds_an_interrupted_one_syncs_the_name() {
    let (disk, blobs) = strict();
    let kill = Arc::new(Mutex::new(Vec::new()));
    let images = kill.clone();
    disk.set_observer(move |disk, _| images.lock().push(disk.kill_image()));
    blobs.put(&[9; 1000]).unwrap();
    disk.clear_observer();
    for image in kill.lock().iter() {
        let blob = on(image).put(&[9; 1000]).unwrap();
        for mode in CrashMode::EVERY {
            assert_eq!(on(&image.crash_image(mode, 3)).get(&blob).unwrap(), [9; 1000]);
        }
    }
}

#[test]
fn every_fault_is_an_error_and_the_next_put_is_durable() {
    let faults = [
        Fault::on(FaultClass::Sync).forget(),
        Fault::on(FaultClass::Sync),
        Fault::on(FaultClass::Write).full().short(),
        Fault::on(FaultClass::Write),
    ];
    let meta = (1..=8).map(|nth| Fault::on(FaultClass::Meta).nth(nth));
    for fault in faults.into_iter().chain(meta) {
        let (disk, blobs) = strict();
        disk.fail(fault.clone());
        let failed = blobs.put(&[9; 1000]);
        assert_eq!(failed.is_err(), disk.faults_struck() == 1, "{fault:?}");
        if let Err(error) = failed {
            assert!(!error.is_damage());
            assert_eq!(on(&disk).remove_leftovers().unwrap(), 0, "{fault:?}");
        }
        disk.clear_faults();
        let blob = blobs.put(&[9; 1000]).unwrap();
        assert_eq!(on(&disk.crash_image(CrashMode::Drop, 0)).get(&blob).unwrap(), [9; 1000], "{fault:?}");
    }
}

#[test]
fn a_failed_sync_is_told_apart_from_a_full_disk() {
    let (disk, blobs) = strict();
    disk.fail(Fault::on(FaultClass::Sync).full());
    let error = blobs.put(b"x").unwrap_err();
    assert!(matches!(error, BlobError::Sync { .. }) && !error.is_storage_full());
    disk.set_quota(Some(10));
    assert!(blobs.put(&[1; 100]).unwrap_err().is_storage_full());
    assert_eq!(disk.used_bytes(), 0, "nothing is left in the way");
    blobs.put(&[1; 10]).unwrap();
}

#[test]
fn threads_may_put_the_same() {
    let (disk, blobs) = strict();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..20u8).for_each(|n| drop(blobs.put(&[n; 600]).unwrap())));
        }
    });
    assert_eq!((blobs.list().unwrap().len(), disk.files().len()), (20, 20));
}

#[test]
fn works_on_real_files() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::new(Arc::new(RealBackend), folder.path().join("blobs"));
    let blob = blobs.put(&[1; 100_000]).unwrap();
    assert_eq!(blobs.put(&[1; 100_000]).unwrap(), blob);
    assert_eq!(blobs.get(&blob).unwrap(), [1; 100_000]);
    let path = blobs.path(&blob.sha256);
    std::fs::write(path.with_extension("0"), b"left over").unwrap();
    std::fs::write(path.with_file_name("something else"), b"not ours").unwrap();
    assert_eq!((blobs.remove_leftovers().unwrap(), blobs.list().unwrap()), (1, vec![blob.sha256]));
    // A link in a blob's place is neither read nor written through.
    let target = folder.path().join("precious");
    std::fs::rename(&path, &target).unwrap();
    std::os::unix::fs::symlink(&target, &path).unwrap();
    assert!(blobs.get(&blob).is_err() && blobs.put(&[1; 100_000]).is_err());
}
