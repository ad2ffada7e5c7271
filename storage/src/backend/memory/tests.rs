use super::*;
use parking_lot::Mutex as Cell;

const RULES: [DirectoryRule; 2] = [DirectoryRule::Strict, DirectoryRule::Journal];
const SEEDS: u64 = 40;

fn path(text: &str) -> &Path {
    Path::new(text)
}

fn create(disk: &MemoryBackend, name: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = disk.open(path(name), OpenMode::CreateNew).unwrap();
    file.write_at(bytes, 0).unwrap();
    file
}

/// A file that is wholly durable, name included.
fn durable(disk: &MemoryBackend, name: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = create(disk, name, bytes);
    file.sync_data().unwrap();
    disk.sync_dir(path(name).parent().unwrap()).unwrap();
    file
}

fn images(disk: &MemoryBackend) -> impl Iterator<Item = (CrashMode, MemoryBackend)> + '_ {
    let modes = CrashMode::EVERY.into_iter();
    modes.flat_map(move |mode| (0..SEEDS).map(move |seed| (mode, disk.crash_image(mode, seed))))
}

#[test]
fn behaves_as_files_do() {
    let disk = MemoryBackend::default();
    let kind = |result: io::Result<Arc<dyn File>>| result.unwrap_err().kind();
    assert_eq!(kind(disk.open(path("a"), OpenMode::Write)), io::ErrorKind::NotFound);
    assert_eq!(kind(disk.open(path("x/a"), OpenMode::CreateNew)), io::ErrorKind::NotFound);
    assert_eq!(kind(disk.open(path("../a"), OpenMode::CreateNew)), io::ErrorKind::InvalidInput);
    let file = create(&disk, "a", b"hello");
    assert_eq!(kind(disk.open(path("/a"), OpenMode::CreateNew)), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(disk.open(path("a/b"), OpenMode::CreateOrOpen)), io::ErrorKind::NotADirectory);
    file.write_at(b"!", 7).unwrap();
    let mut buffer = [9; 16];
    let reader = disk.open(path("./a"), OpenMode::Read).unwrap();
    assert_eq!(reader.read_at(&mut buffer, 3).unwrap(), 5);
    assert_eq!(&buffer[..6], b"lo\0\0!\x09");
    assert_eq!(reader.read_at(&mut buffer, u64::MAX).unwrap(), 0);
    assert!(reader.write_at(b"x", 0).is_err() && reader.set_len(0).is_err());
    file.set_len(2).unwrap();
    assert_eq!(reader.len().unwrap(), 2);
    for absurd in [1 << 31, u64::MAX] {
        assert_eq!(file.write_at(b"x", absurd).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(file.set_len(absurd).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
    disk.create_dir_all(path("x/y")).unwrap();
    assert!(disk.create_dir_all(path("a/y")).is_err());
    disk.rename(path("a"), path("x/y/b")).unwrap();
    assert_eq!(disk.list(path("x/y")).unwrap(), ["b"]);
    assert_eq!(disk.list(path("/")).unwrap(), ["x"]);
    assert!(disk.rename(path("x"), path("x/y/z")).is_err(), "a directory below itself");
    assert!(disk.rename(path("x/y/b"), path("x/y")).is_err(), "a file over a directory");
    assert!(disk.remove_file(path("x")).is_err());
    disk.remove_file(path("x/y/b")).unwrap();
    assert_eq!(reader.read_at(&mut buffer, 0).unwrap(), 2, "open handles outlive the name");
    assert_eq!((disk.files(), disk.real_path(path("x"))), (vec![], None));
}

#[test]
fn what_was_synced_survives_in_every_mode() {
    for rule in RULES {
        let disk = MemoryBackend::new(rule);
        disk.create_dir_all(path("d/e")).unwrap();
        disk.sync_dir(path("/")).unwrap();
        disk.sync_dir(path("d")).unwrap();
        let file = durable(&disk, "d/e/a", &[1; 3000]);
        file.write_at(&[2; 5000], 3000).unwrap();
        create(&disk, "d/e/b", b"at risk");
        for (mode, image) in images(&disk) {
            let bytes = image.contents("d/e/a").unwrap();
            assert_eq!(&bytes[..3000], &[1; 3000], "{mode:?}");
        }
        file.sync_data().unwrap();
        for (mode, image) in images(&disk) {
            assert_eq!(image.contents("d/e/a").unwrap().len(), 8000, "{mode:?}");
        }
    }
}

#[test]
fn a_name_needs_its_directory_synced() {
    let disk = MemoryBackend::new(DirectoryRule::Strict);
    disk.create_dir_all(path("d")).unwrap();
    let file = create(&disk, "d/a", b"x");
    file.sync_data().unwrap();
    disk.sync_dir(path("d")).unwrap();
    assert!(disk.crash_image(CrashMode::Drop, 0).files().is_empty(), "d itself is not synced");
    disk.sync_dir(path("/")).unwrap();
    assert_eq!(disk.crash_image(CrashMode::Drop, 0).files(), [path("/d/a")]);

    let other = create(&disk, "d/b", b"x");
    other.sync_data().unwrap();
    assert_eq!(disk.crash_image(CrashMode::Drop, 0).contents("d/b"), None);
    let kept = images(&disk).filter(|(_, image)| image.contents("d/b").is_some()).count();
    assert!(kept > SEEDS as usize, "it may survive, and does in some images");

    let disk = MemoryBackend::new(DirectoryRule::Journal);
    disk.create_dir_all(path("d")).unwrap();
    create(&disk, "d/a", b"lost");
    create(&disk, "d/b", b"kept").sync_data().unwrap();
    let image = disk.crash_image(CrashMode::Drop, 0);
    assert_eq!(image.contents("d/b").as_deref(), Some(&b"kept"[..]));
    assert_eq!(image.contents("d/a").as_deref(), Some(&b""[..]), "its name, not its data");
}

#[test]
fn rename_is_atomic_and_removal_comes_back() {
    for rule in RULES {
        let disk = MemoryBackend::new(rule);
        durable(&disk, "/a", b"old");
        let file = create(&disk, "/t", b"new");
        file.sync_data().unwrap();
        disk.rename(path("t"), path("a")).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for (_, image) in images(&disk) {
            let found = image.contents("a").expect("one of the two is always there");
            assert!(found == b"old" || found == b"new");
            assert!(found == b"old" || image.contents("t").is_none(), "one name only");
            seen.insert(found);
        }
        assert_eq!(seen.len(), 2);
        disk.sync_dir(path("/")).unwrap();
        assert!(images(&disk).all(|(_, image)| image.contents("a").unwrap() == b"new"));
        disk.remove_file(path("a")).unwrap();
        assert!(disk.crash_image(CrashMode::Drop, 0).contents("a").is_some());
        assert!(disk.crash_image(CrashMode::All, 0).contents("a").is_none());
    }
}

#[test]
fn a_durable_rename_leaves_no_second_name() {
    let disk = MemoryBackend::new(DirectoryRule::Strict);
    disk.create_dir_all(path("from")).unwrap();
    disk.create_dir_all(path("to")).unwrap();
    disk.sync_dir(path("/")).unwrap();
    let file = create(&disk, "from/t", b"x");
    file.sync_data().unwrap();
    disk.rename(path("from/t"), path("to/a")).unwrap();
    disk.sync_dir(path("to")).unwrap();
    assert!(images(&disk).all(|(_, image)| image.files() == [path("/to/a")]));
}

#[test]
fn modes_keep_what_they_say() {
    let disk = MemoryBackend::default();
    let file = durable(&disk, "/a", &[1; 700]);
    file.write_at(&[2; 1000], 700).unwrap();
    file.write_at(&[3; 1000], 1700).unwrap();
    file.write_at(&[4; 100], 0).unwrap();
    let live = disk.contents("a").unwrap();
    let of = |mode| move |seed| disk.crash_image(mode, seed).contents("a").unwrap();
    let every = |mode| (0..300).map(of.clone()(mode)).collect::<Vec<_>>();
    assert!(every(CrashMode::Drop).iter().all(|bytes| *bytes == [1; 700]));
    assert!(every(CrashMode::All).iter().all(|bytes| *bytes == live));
    for bytes in every(CrashMode::Prefix) {
        let overwritten = bytes.len() == live.len() && bytes[0] == 4;
        assert!(overwritten || bytes[..700] == [1; 700]);
        assert!(bytes[700..] == live[700..bytes.len()], "no holes");
        assert!(
            bytes.len() == 700 || bytes.len() == live.len() || bytes.len() % 512 == 0 || bytes.len() == 1700
        );
    }
    let holes = |bytes: &Vec<u8>| bytes.get(700..).is_some_and(|grown| grown.contains(&0));
    let torn = every(CrashMode::Torn);
    assert!(torn.iter().any(holes) && torn.iter().any(|bytes| !holes(bytes)));
    assert!(torn.iter().all(|bytes| !bytes.contains(&3) || bytes[700..1700] == [2; 1000]));
    let subset = every(CrashMode::Subset);
    assert!(subset.iter().any(|bytes| bytes.contains(&3) && !bytes.contains(&2)), "reordered");
    let ahead = |bytes: &Vec<u8>| bytes.len() == live.len() && bytes[2600..].iter().all(|b| *b == 0);
    assert!(!subset.iter().any(ahead) && every(CrashMode::Zeros).iter().any(ahead));
    let noise = |bytes: &Vec<u8>| bytes.iter().any(|b| *b > 4);
    assert!(every(CrashMode::Garbage).iter().any(noise));
    assert!(!every(CrashMode::Zeros).iter().any(noise));
}

#[test]
fn the_same_seed_gives_the_same_image() {
    let build = |rule| {
        let disk = MemoryBackend::new(rule);
        disk.create_dir_all(path("d")).unwrap();
        durable(&disk, "/d/a", &[1; 700]).write_at(&[2; 4000], 300).unwrap();
        create(&disk, "/d/b", &[3; 3000]);
        disk.rename(path("d/b"), path("d/c")).unwrap();
        disk
    };
    let snapshot = |disk: &MemoryBackend| -> Vec<_> {
        disk.files().into_iter().map(|path| (disk.contents(&path), path)).collect()
    };
    for rule in RULES {
        let all = |disk: MemoryBackend| images(&disk).map(|(_, image)| snapshot(&image)).collect::<Vec<_>>();
        let (first, second) = (all(build(rule)), all(build(rule)));
        assert!(first == second);
        assert!(first.iter().collect::<std::collections::HashSet<_>>().len() > 30);
    }
}

#[test]
fn a_failed_sync_keeps_or_forgets() {
    let disk = MemoryBackend::default();
    let file = durable(&disk, "/a", b"old");
    file.write_at(b"one", 0).unwrap();
    disk.fail(Fault::on(FaultClass::Sync));
    assert!(file.sync_data().is_err());
    assert_eq!(disk.crash_image(CrashMode::Drop, 0).contents("a").unwrap(), b"old");
    file.sync_data().unwrap();
    assert_eq!(disk.crash_image(CrashMode::Drop, 0).contents("a").unwrap(), b"one");

    file.write_at(b"two", 0).unwrap();
    disk.fail(Fault::on(FaultClass::Sync).forget());
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    assert_eq!(disk.contents("a").unwrap(), b"two", "still in the page cache");
    assert_eq!(disk.kill_image().contents("a").unwrap(), b"two");
    for (_, image) in images(&disk).chain(images(&disk.kill_image())) {
        assert_eq!(image.contents("a").unwrap(), b"one", "and never on the platter");
    }
    file.write_at(b"two", 0).unwrap();
    file.sync_data().unwrap();
    assert!(images(&disk).all(|(_, image)| image.contents("a").unwrap() == b"two"));
}

#[test]
fn a_killed_process_leaves_the_cache_and_no_lock() {
    let disk = MemoryBackend::default();
    let file = create(&disk, "a", b"unsynced");
    assert!(file.try_lock().unwrap());
    let next = disk.kill_image();
    let again = next.open(path("a"), OpenMode::Write).unwrap();
    assert!(again.try_lock().unwrap());
    assert_eq!(next.contents("a").unwrap(), b"unsynced");
    assert_eq!(next.crash_image(CrashMode::Drop, 0).contents("a"), None);
    again.write_at(b"U", 0).unwrap();
    assert_eq!(disk.contents("a").unwrap(), b"unsynced", "the two are apart");
}

#[test]
fn faults_hit_the_operation_they_name() {
    let disk = MemoryBackend::default();
    let file = create(&disk, "a", b"0123456789");
    disk.fail(Fault::on(FaultClass::Write).nth(2).times(2).full().path("a"));
    let other = create(&disk, "other", b"");
    other.write_at(b"not counted", 0).unwrap();
    let outcomes: Vec<_> = (0..4).map(|_| file.write_at(b"x", 0).map_err(|e| e.kind())).collect();
    let full = Err(io::ErrorKind::StorageFull);
    assert_eq!(outcomes, [Ok(()), full, full, Ok(())]);
    assert_eq!(disk.faults_struck(), 2);

    disk.fail(Fault::on(FaultClass::Write).short());
    assert!(file.write_at(b"ABCDE", 5).is_err());
    assert_eq!(disk.contents("a").unwrap(), b"x1234AB789");

    disk.fail(Fault::on(FaultClass::Read).forever());
    assert!(file.read_at(&mut [0], 0).is_err() && disk.list(path("/")).is_err());
    disk.clear_faults();
    file.read_at(&mut [0], 0).unwrap();
    disk.fail(Fault::on(FaultClass::Read).short());
    let mut buffer = *b"......";
    assert!(file.read_at(&mut buffer, 0).is_err());
    assert_eq!(&buffer, b"x12...");

    disk.fail(Fault::on(FaultClass::Truncate));
    assert!(file.set_len(1).is_err());
    assert_eq!(file.len().unwrap(), 10);

    let before = disk.files();
    disk.fail(Fault::on(FaultClass::Meta).times(6));
    assert!(disk.open(path("new"), OpenMode::CreateNew).is_err());
    assert!(disk.open(path("a"), OpenMode::Read).is_err());
    assert!(disk.rename(path("a"), path("b")).is_err());
    assert!(disk.remove_file(path("a")).is_err());
    assert!(disk.sync_dir(path("/")).is_err());
    assert!(disk.create_dir_all(path("d")).is_err());
    assert_eq!((disk.files(), disk.crash_image(CrashMode::Drop, 0).files()), (before, vec![]));

    disk.fail(Fault::on(FaultClass::Any));
    file.read_at(&mut [0], 0).unwrap();
    assert!(file.sync_data().is_err());
}

#[test]
fn faults_on_names_are_told_apart() {
    let (a, b) = (path("a"), path("b"));
    type Run = fn(&MemoryBackend, &Path, &Path) -> bool;
    let operations: [(FaultClass, Run); 4] = [
        (FaultClass::Open, |disk, a, _| disk.open(a, OpenMode::Read).is_ok()),
        (FaultClass::SyncDir, |disk, _, _| disk.sync_dir(Path::new("/")).is_ok()),
        (FaultClass::Rename, |disk, a, b| disk.rename(a, b).is_ok()),
        (FaultClass::Remove, |disk, _, b| disk.remove_file(b).is_ok()),
    ];
    for (class, _) in &operations {
        let disk = MemoryBackend::default();
        create(&disk, "a", b"x");
        create(&disk, "b", b"y");
        disk.fail(Fault::on(*class).forever());
        let failed: Vec<_> = operations.iter().filter(|(_, run)| !run(&disk, a, b)).map(|(c, _)| c).collect();
        assert_eq!(failed, [class]);
    }
}

#[test]
fn a_full_disk_takes_what_fits() {
    let disk = MemoryBackend::default();
    disk.set_quota(Some(10));
    let file = create(&disk, "a", b"12345678");
    let full = file.write_at(b"abcd", 8).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    assert_eq!((disk.contents("a").unwrap(), disk.used_bytes()), (b"12345678ab".to_vec(), 10));
    file.write_at(b"overwriting needs no room", 0).unwrap_err();
    file.write_at(b"0123456789", 0).unwrap();
    assert!(file.set_len(11).is_err());
    file.set_len(4).unwrap();
    file.write_at(b"xyz", 4).unwrap();
    let other = disk.open(path("b"), OpenMode::CreateNew).unwrap();
    assert!(other.write_at(b"1234", 0).is_err());
    drop(file);
    disk.remove_file(path("a")).unwrap();
    other.write_at(b"1234", 0).unwrap();
    disk.set_quota(None);
    other.write_at(&[0; 100], 4).unwrap();
}

#[test]
fn operations_are_numbered_and_seen() {
    let disk = MemoryBackend::default();
    let seen = Arc::new(Cell::new(Vec::new()));
    let images = seen.clone();
    disk.set_observer(move |disk, operation| {
        let files = disk.crash_image(CrashMode::Drop, operation.index).files().len();
        images.lock().push((operation.index, operation.kind, files));
    });
    disk.record(true);
    disk.create_dir_all(path("d/e")).unwrap();
    let file = create(&disk, "d/a", b"x");
    file.set_len(5).unwrap();
    file.sync_data().unwrap();
    disk.open(path("d/a"), OpenMode::CreateOrOpen).unwrap().read_at(&mut [0], 0).unwrap();
    disk.rename(path("d/a"), path("b")).unwrap();
    disk.sync_dir(path("/")).unwrap();
    disk.fail(Fault::on(FaultClass::Meta));
    assert!(disk.remove_file(path("b")).is_err());
    disk.remove_file(path("b")).unwrap();
    use OperationKind::*;
    let kinds = [CreateDir, CreateDir, Create, Write, SetLen, SyncData, Rename, SyncDir, Remove, Remove];
    let recorded = disk.recorded();
    assert_eq!(recorded.iter().map(|o| o.kind).collect::<Vec<_>>(), kinds);
    assert_eq!(recorded.iter().map(|o| o.index).collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
    assert_eq!(recorded.iter().filter(|o| !o.ok).map(|o| o.index).collect::<Vec<_>>(), [9]);
    assert_eq!(recorded[6].path, path("b"));
    let files: Vec<_> = seen.lock().iter().map(|(_, _, files)| *files).collect();
    assert_eq!(files, [0, 0, 0, 0, 0, 0, 0, 1, 1, 1]);
    disk.clear_observer();
    create(&disk, "c", b"");
    assert_eq!((seen.lock().len(), disk.operations()), (10, 12));
}

#[test]
fn a_frozen_disk_answers_nothing() {
    let disk = MemoryBackend::default();
    let file = durable(&disk, "/a", b"one");
    let made = disk.operations();
    disk.freeze_after(made + 1);
    file.read_at(&mut [0], 0).unwrap();
    file.write_at(b"two", 0).unwrap();
    assert!(disk.is_frozen());
    let eio = |result: io::Result<()>| assert_eq!(result.unwrap_err().raw_os_error(), Some(5));
    eio(file.write_at(b"x", 0));
    eio(file.sync_data());
    eio(file.set_len(0));
    eio(file.len().map(drop));
    eio(file.try_lock().map(drop));
    eio(file.read_at(&mut [0], 0).map(drop));
    eio(disk.open(path("a"), OpenMode::Read).map(drop));
    eio(disk.open(path("b"), OpenMode::CreateNew).map(drop));
    eio(disk.create_dir_all(path("d")));
    eio(disk.list(path("/")).map(drop));
    eio(disk.rename(path("a"), path("b")));
    eio(disk.remove_file(path("a")));
    eio(disk.sync_dir(path("/")));
    assert_eq!(disk.operations(), made + 1);
    let image = disk.crash_image(CrashMode::Drop, 0);
    assert_eq!(image.contents("a").unwrap(), b"one");
    assert!(!image.is_frozen() && image.operations() == 0);
    assert_eq!(disk.crash_image(CrashMode::All, 0).contents("a").unwrap(), b"two");
    disk.thaw();
    file.sync_data().unwrap();
}

#[test]
fn a_lock_belongs_to_one_handle() {
    let disk = MemoryBackend::default();
    let first = create(&disk, "LOCK", b"");
    let second = disk.clone().open(path("LOCK"), OpenMode::Write).unwrap();
    assert!(!second.is_locked_elsewhere().unwrap());
    assert!(first.try_lock().unwrap() && first.try_lock().unwrap());
    assert!(!first.is_locked_elsewhere().unwrap());
    assert!(second.is_locked_elsewhere().unwrap() && !second.try_lock().unwrap());
    drop(second);
    let third = disk.open(path("LOCK"), OpenMode::Write).unwrap();
    assert!(third.is_locked_elsewhere().unwrap(), "only the holder releases it");
    drop(first);
    assert!(third.try_lock().unwrap());
}

#[test]
fn damage_and_export_reach_the_bytes() {
    let disk = MemoryBackend::default();
    disk.create_dir_all(path("d")).unwrap();
    disk.sync_dir(path("/")).unwrap();
    let file = durable(&disk, "/d/a", b"abc");
    disk.damage("d/a", |bytes| bytes[1] ^= 1).unwrap();
    assert!(disk.damage("d", |_| ()).is_err());
    let mut buffer = [0; 3];
    file.read_at(&mut buffer, 0).unwrap();
    assert_eq!(&buffer, b"acc");
    assert_eq!(disk.crash_image(CrashMode::Drop, 0).contents("d/a").unwrap(), b"acc");
    let folder = tempfile::tempdir().unwrap();
    disk.export(folder.path()).unwrap();
    assert_eq!(std::fs::read(folder.path().join("d/a")).unwrap(), b"acc");
}

#[test]
fn threads_share_a_backend() {
    let disk = MemoryBackend::default();
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let disk = &disk;
            scope.spawn(move || {
                let file = disk.open(path("a"), OpenMode::CreateOrOpen).unwrap();
                for round in 0..50 {
                    file.write_at(&[thread], u64::from(thread) * 50 + round).unwrap();
                    file.sync_data().unwrap();
                }
            });
        }
    });
    let expected: Vec<u8> = (0..4u8).flat_map(|thread| [thread; 50]).collect();
    assert_eq!(disk.contents("a").unwrap(), expected);
    assert!((401..=404).contains(&disk.operations()), "up to four threads tried to create it");
}
