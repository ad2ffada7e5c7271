//! Footers that name sources, and those that were made before they did.

use super::super::account::Account;
use super::super::control::Certificate;
use super::super::footer::AS_BEFORE;
use super::*;
use crate::backend::{Backend, DirectoryRule, MemoryBackend, OpenMode};
use crate::event::{Event, Timestamp, encode_body};
use crate::log::control::{CERTIFICATE, Run};
use crate::log::entry::{UnitInfo, put_envelope};
use crate::log::{
    Codec, LockFile, LogWriter, Place, PreparedBlock, SummaryBuilder, UnitBuilder, WriterOptions, recover,
};
use crate::verify::{VerifyLevel, verify};
use std::path::Path;

const FOLDER: &str = "/j/segments";

/// A block of one event, with a resume point of `source` up to `sequence` where there is one.
fn block(first: u64, source: Option<(&str, u64)>) -> PreparedBlock {
    let (mut unit, mut body) = (UnitBuilder::with_capacity(1, 64), Vec::new());
    encode_body(&Event::decision("x".repeat(2_000)), &mut body).unwrap();
    unit.entry(|out| {
        put_envelope(out, 0, 0, body.len() as u32, first, 1, None);
        out.extend_from_slice(&body);
    });
    if let Some((source, last_sequence)) = source {
        let account = Account { incarnation: 1, last_sequence, ..Account::default() };
        let extents = vec![Run { source_sequence: last_sequence, offset: 0, length: 1 }];
        let point = ResumePoint { source: source.into(), account, extents, resume: vec![1] };
        unit.control(RESUME_POINT, 0, &point.encode());
        let certificate = Certificate { source: source.into(), complete_ns: 5, ..Certificate::default() };
        unit.control(CERTIFICATE, 0, &certificate.encode());
    }
    let mut summary = SummaryBuilder::new(first);
    summary.add(Event::decision("").event_type().summary_bit(), Some(1));
    let info = UnitInfo { id_nonce: 7, recorded: Timestamp(1), wall_offset_ns: 0, boot_id: Uuid::nil() };
    let mut bytes = vec![0; PreparedBlock::header_room()];
    unit.finish(first, &info, (0, 0), &mut bytes);
    PreparedBlock::new(bytes, Codec::None, summary.finish())
}

/// Writes 60 events into small segments, every tenth of them a source's, and seals what is finished.
fn journal(disk: &Arc<dyn Backend>) -> Arc<Segments> {
    let folder = Path::new(FOLDER);
    disk.create_dir_all(folder).unwrap();
    let lock = LockFile::new(disk.open(Path::new("/j/LOCK"), OpenMode::CreateOrOpen).unwrap());
    let place = Place { backend: disk.clone(), segments: folder.into(), quarantine: "/j/quarantine".into() };
    let recovered = recover(&place, None, Uuid::from_u128(5), Uuid::nil(), 1).unwrap();
    let options = WriterOptions { segment_bytes: 16 << 10, preallocate: false, boot_id: Uuid::nil() };
    let mut writer = LogWriter::new(disk.clone(), folder.into(), lock, &recovered, options).unwrap();
    let segments = Arc::new(Segments::open(disk.clone(), folder.into(), recovered.journal).unwrap());
    for n in 1..=60 {
        let source = (n % 10 == 1).then_some((if n == 1 { "early" } else { "often" }, n));
        let epoch = writer.epoch();
        writer.append(&mut block(n, source), epoch, 1).unwrap();
        writer.sync().unwrap();
        if let Some(first) = writer.segment() {
            segments.add(first);
        }
    }
    let unsealed = segments.unsealed(60).unwrap();
    assert!(unsealed.len() > 5, "{unsealed:?}");
    for (first, last) in unsealed.iter().take(unsealed.len() - 1) {
        segments.seal(*first, *last, 2).unwrap();
    }
    segments
}

#[test]
fn segments_sealed_before_footers_named_sources_are_walked_and_as_valid() {
    for as_before in [true, false] {
        let disk: Arc<dyn Backend> = Arc::new(MemoryBackend::new(DirectoryRule::Journal));
        AS_BEFORE.set(as_before);
        let segments = journal(&disk);
        AS_BEFORE.set(false);
        let told: Vec<Option<bool>> =
            segments.segments_back(60).iter().map(|(s, _)| segments.tells_of_sources(s).unwrap()).collect();
        assert_eq!(told.iter().all(Option::is_none), as_before, "{told:?}");
        assert_eq!(told.contains(&Some(false)), !as_before, "{told:?}");
        for (source, last, wanted) in
            [("early", 60, Some(1)), ("often", 60, Some(51)), ("often", 50, Some(41)), ("never", 60, None)]
        {
            let found = segments.resume_point(source, last).unwrap();
            assert_eq!(
                found.map(|f| (f.point.account.last_sequence, f.event, f.damaged)),
                match wanted {
                    Some(n) => Ok((n, n, 0)),
                    None => Err(0),
                }
            );
        }
        let origin = segments.event_of("often", None, 21, 60).unwrap().unwrap();
        assert_eq!((origin.incarnation, origin.sequence), (1, 21));
        assert_eq!(segments.origin_of(21).unwrap(), Some(origin));
        let standings = segments.standings(60).unwrap();
        assert_eq!(standings.iter().map(|s| s.source.as_str()).collect::<Vec<_>>(), ["early", "often"]);
        assert!(standings.iter().all(|s| s.certificate.as_ref().is_some_and(|c| c.complete_ns == 5)));
        let report =
            verify(disk.as_ref(), Path::new(FOLDER), None, false, VerifyLevel::Deep, &mut |_, _| {}).unwrap();
        assert!(report.intact, "{report:?}");
    }
}
