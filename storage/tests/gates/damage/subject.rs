//! A small journal to be harmed, and what must hold whatever the harm.

use super::*;

pub const SETUP: Setup = Setup { segment_bytes: 1_900, preallocate: false };

/// A journal at rest, and what it holds.
pub struct Subject {
    pub disk: MemoryBackend,
    pub model: Vec<Content>,
    pub segments: Vec<(u64, PathBuf)>,
    /// First and last event of each block.
    pub blocks: Vec<(u64, u64)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Closed,
    /// All synced and in LOCK, not closed.
    Synced,
    /// Closed, and all segments but the last have their seal.
    Sealed,
}

pub fn subject(end: End, batches: &[(u64, usize, Codec)], setup: Setup) -> Subject {
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
        if end != End::Synced || subject.blocks.len() < batches.len() {
            log.writer.close(1).unwrap();
        }
    }
    if end == End::Sealed {
        let mut log = TestLog::open(&shared(&subject.disk), setup).unwrap();
        assert!(log.seal_finished().unwrap() > 0, "nothing to seal");
        log.writer.close(1).unwrap();
    }
    subject.segments = segment_files(&subject.disk, &segments_folder()).unwrap();
    if end == End::Synced {
        // The room for an end mark holds nothing yet: what is changed there is harmless, and reported as torn.
        let cut = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - MARK_ROOM);
        subject.disk.damage(&subject.segments.last().unwrap().1, cut).unwrap();
    }
    subject
}

/// What an owner at work keeps free behind the last block.
const MARK_ROOM: usize = 128;

pub const SMALL: [(u64, usize, Codec); 7] = [
    (3, 8, Codec::None),
    (2, 150, Codec::Lz4),
    (2, 220, Codec::Zstd(1)),
    (4, 20, Codec::None),
    (2, 180, Codec::Zstd(3)),
    (1, 30, Codec::None),
    (3, 60, Codec::Lz4),
];

/// Where the blocks of a segment file start.
pub fn block_offsets(bytes: &[u8]) -> Vec<usize> {
    bytes.windows(8).enumerate().filter(|(_, window)| *window == b"SEMJBLK1").map(|(at, _)| at).collect()
}

/// What was done to an image.
pub struct Harm<'a> {
    pub image: MemoryBackend,
    pub segment: Option<&'a Path>,
    /// The first byte that was changed.
    pub offset: u64,
    pub name: String,
}

impl Subject {
    pub fn last(&self) -> u64 {
        self.model.len() as u64
    }

    pub fn harm(
        &self,
        path: &Path,
        offset: u64,
        name: String,
        change: impl FnOnce(&mut Vec<u8>),
    ) -> Harm<'_> {
        let image = self.disk.kill_image();
        image.damage(path, change).unwrap();
        let segment = self.segments.iter().map(|(_, p)| p.as_path()).find(|p| *p == path);
        Harm { image, segment, offset, name }
    }

    /// Verification names the segment, and a place at or before the first changed byte.
    pub fn check_verified(&self, harm: &Harm<'_>) -> bool {
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
    pub fn check_read(&self, harm: &Harm<'_>) -> Vec<u64> {
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

    pub fn segments_of(&self, image: &MemoryBackend) -> Vec<u64> {
        segment_files(image, &segments_folder()).unwrap().into_iter().map(|(first, _)| first).collect()
    }

    /// The damaged image opens, never behind an event that is proven, and goes on without touching what is damaged.
    pub fn check_recovered(&self, harm: &Harm<'_>, proven: bool, lost: &[u64]) {
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

    /// The image opens with every event in its place and goes on.
    pub fn check_kept(&self, harm: &Harm<'_>) {
        let mut log =
            TestLog::open(&shared(&harm.image), SETUP).unwrap_or_else(|e| panic!("{}: {e:?}", harm.name));
        assert_eq!((log.opened_at, log.damage.len()), (self.last(), 0), "{}", harm.name);
        let mut model = self.model.clone();
        model.push(Content { tag: 1 << 33, filler: 4 });
        log.append(&model[model.len() - 1..], Codec::None).unwrap();
        log.writer.sync().unwrap();
        log.assert_holds(&model, &harm.name);
    }

    /// The block that holds a byte loses its events, and no other does.
    pub fn check_neighbours(&self, harm: &Harm<'_>, lost: &[u64]) {
        let blocks: Vec<_> =
            self.blocks.iter().filter(|(f, l)| lost.iter().any(|s| (f..=l).contains(&s))).collect();
        assert!(blocks.len() <= 1, "{}: events of {} blocks are lost: {lost:?}", harm.name, blocks.len());
    }
}
