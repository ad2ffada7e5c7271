//! Checking beside a live owner: what the owner is writing just now is no damage.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]
#![allow(dead_code, reason = "not every test uses every helper")]

mod common;

use common::{Content, Setup, TestLog, lock_info, segments_folder, shared};
use semj_storage::backend::{DirectoryRule, MemoryBackend, OpenMode};
use semj_storage::log::{Codec, segment_files};
use semj_storage::verify::{VerifyLevel, verify};

#[test]
fn a_seal_that_is_being_written_is_no_damage() {
    let disk = MemoryBackend::new(DirectoryRule::Strict);
    let backend = shared(&disk);
    let mut log = TestLog::open(&backend, Setup { segment_bytes: 1_900, preallocate: false }).unwrap();
    for tag in 1..=12 {
        log.append(&[Content { tag, filler: 200 }], Codec::None).unwrap();
        log.writer.sync().unwrap();
    }
    let segments = segment_files(backend.as_ref(), &segments_folder()).unwrap();
    assert!(segments.len() > 1, "the first segment must be finished");
    let file = backend.open(&segments.first().unwrap().1, OpenMode::Write).unwrap();
    // The footer is there, the seal is not.
    file.write_at(b"SEMJDIR1 and so on", file.len().unwrap()).unwrap();
    let lock = lock_info(&disk);
    let report =
        verify(backend.as_ref(), &segments_folder(), lock.as_ref(), true, VerifyLevel::Deep, &mut |_, _| {})
            .unwrap();
    assert!(report.intact && report.events == 12, "{report:?}");
}

#[test]
fn an_owner_that_goes_on_meanwhile_is_no_damage() {
    let disk = MemoryBackend::new(DirectoryRule::Strict);
    let backend = shared(&disk);
    let mut log = TestLog::open(&backend, Setup { segment_bytes: 1_900, preallocate: false }).unwrap();
    let mut seen = Vec::new();
    for tag in 1..=12 {
        log.append(&[Content { tag, filler: 200 }], Codec::None).unwrap();
        log.writer.sync().unwrap();
        log.seal_finished().unwrap();
        seen.push((tag, lock_info(&disk)));
    }
    // The watermark was read long ago; the segment it lies in has been finished and sealed since.
    for (last, lock) in &seen {
        let lock = lock.as_ref();
        let report =
            verify(backend.as_ref(), &segments_folder(), lock, true, VerifyLevel::Deep, &mut |_, _| {})
                .unwrap();
        assert!(report.intact && report.events == *last, "{last}: {report:?}");
    }
}
