//! Blobs through power cuts and damage.

use crate::common::seed;
use semj_storage::backend::{Backend, CrashMode, DirectoryRule, MemoryBackend};
use semj_storage::blobs::{BlobError, Blobs};
use std::path::Path;
use std::sync::{Arc, Mutex};

const FOLDER: &str = "/journal/blobs";

fn on(disk: &MemoryBackend) -> Blobs {
    Blobs::new(Arc::new(disk.clone()), FOLDER)
}

/// What has a blob's name is whole, whenever the power goes; what a put returned for is there.
pub fn a_blob_is_whole_or_not_there() {
    let seed = seed(8);
    let contents: Vec<Vec<u8>> = (1..=3u8).map(|n| vec![n; 300 * usize::from(n)]).collect();
    for rule in [DirectoryRule::Strict, DirectoryRule::Journal] {
        let disk = MemoryBackend::new(rule);
        disk.create_dir_all(Path::new("/journal")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let kept = Arc::new(Mutex::new(Vec::new()));
        let images = Arc::new(Mutex::new(0));
        let check = {
            let (kept, images) = (kept.clone(), images.clone());
            move |disk: &MemoryBackend, name: &str| {
                for mode in CrashMode::EVERY {
                    for seed in seed..seed + 4 {
                        let image = disk.crash_image(mode, seed);
                        let blobs = on(&image);
                        let context = format!("{rule:?}, {name}, {mode:?} {seed}");
                        let found = blobs.list().unwrap();
                        for sha256 in &found {
                            let bytes = image.contents(blobs.path(sha256)).unwrap();
                            let again = Blobs::new(Arc::new(MemoryBackend::default()), "/x");
                            let hash = again.put(&bytes).unwrap().sha256;
                            assert_eq!(
                                &hash,
                                sha256,
                                "{context}: {} bytes have a whole blob's name",
                                bytes.len()
                            );
                        }
                        for blob in kept.lock().unwrap().iter() {
                            blobs.get(blob).unwrap_or_else(|e| panic!("{context}: {e}"));
                        }
                        *images.lock().unwrap() += 1;
                    }
                }
            }
        };
        let blobs = on(&disk);
        disk.set_observer({
            let check = check.clone();
            move |disk, operation| check(disk, &format!("{operation:?}"))
        });
        for content in &contents {
            let blob = blobs.put(content).unwrap();
            kept.lock().unwrap().push(blob);
            check(&disk, "put returned");
        }
        disk.clear_observer();
        println!("{rule:?}: {} images", images.lock().unwrap());
    }
}

/// A changed byte of a blob is never given out.
pub fn every_flipped_byte_of_a_blob_is_found() {
    let disk = MemoryBackend::default();
    disk.create_dir_all(Path::new("/journal")).unwrap();
    let blobs = on(&disk);
    let blob = blobs.put(&[7; 700]).unwrap();
    let path = blobs.path(&blob.sha256);
    for at in 0..700 {
        disk.damage(&path, |bytes| bytes[at] ^= 1).unwrap();
        assert!(matches!(blobs.get(&blob), Err(BlobError::Damaged { .. })), "byte {at} is not noticed");
        disk.damage(&path, |bytes| bytes[at] ^= 1).unwrap();
    }
    assert_eq!(blobs.get(&blob).unwrap(), [7; 700]);
}
