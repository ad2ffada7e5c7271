//! Complete chunks in sled.
//!
//! sled is never trusted: every call is guarded against panics, every row has its own checksum and number, and an
//! error of any kind ends the use of this handle. It may also hang, so the caller opens it on a thread of its own.

use super::rows::{self, META, OVERFLOW, Row, Step};
use super::{Bits, ChunkMeta, ChunkPostings, ChunkView, Kind, TreeError, Wanted};
use crate::limits::CHUNK_EVENTS;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// sled's cache, in bytes. It is no bound on memory; small values keep its habits small.
const CACHE_BYTES: u64 = 16 << 20;
/// How often and how long at a time a lock that is held is waited for: half a second in all.
const LOCK_WAITS: u32 = 100;
const LOCK_WAIT: Duration = Duration::from_millis(5);
const TREE: &[u8] = b"postings";
/// Sorts behind all rows.
const CURSOR_KEY: &[u8] = &[0xFF];
const CURSOR_KIND: u8 = 0xFF;
const CURSOR_BYTES: usize = 4 + 1 + 8 + 8 + 32;

/// How far the trees go, and what the record looked like there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cursor {
    /// The last sequence of the last chunk in the trees.
    pub sequence: u64,
    /// The last event at or before it that could be read; 0 when there was none.
    pub witness: u64,
    /// What that event looked like: proof that the trees belong to this record.
    pub digest: [u8; 32],
}

impl Cursor {
    fn encode(&self) -> Vec<u8> {
        let mut rest = vec![rows::ROW_VERSION];
        rest.extend_from_slice(&self.sequence.to_le_bytes());
        rest.extend_from_slice(&self.witness.to_le_bytes());
        rest.extend_from_slice(&self.digest);
        [crc32fast::hash(&rest).to_le_bytes().as_slice(), &rest].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (crc, rest) = bytes.split_at_checked(4)?;
        if bytes.len() != CURSOR_BYTES || u32::from_le_bytes(crc.try_into().ok()?) != crc32fast::hash(rest) {
            return None;
        }
        (*rest.first()? == rows::ROW_VERSION).then_some(())?;
        Some(Self {
            sequence: u64::from_le_bytes(rest.get(1..9)?.try_into().ok()?),
            witness: u64::from_le_bytes(rest.get(9..17)?.try_into().ok()?),
            digest: rest.get(17..)?.try_into().ok()?,
        })
    }
}

fn sled_error(action: &'static str) -> impl Fn(sled::Error) -> TreeError {
    move |source| TreeError::Sled { action, source }
}

/// Runs calls into sled; a panic becomes an error.
fn guarded<T>(action: &'static str, run: impl FnOnce() -> Result<T, TreeError>) -> Result<T, TreeError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
        let message = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(TreeError::Panicked { action, message })
    })
}

/// Opens sled. A handle dropped a moment ago may live on in its threads, so a lock that is held is waited for.
fn open_db(folder: &Path) -> Result<sled::Db, TreeError> {
    let mut waits = LOCK_WAITS;
    loop {
        let config = sled::Config::new().path(folder).flush_every_ms(None).cache_capacity(CACHE_BYTES);
        match config.open() {
            Err(sled::Error::Io(e)) if waits > 0 && e.to_string().contains("could not acquire lock") => {
                waits -= 1;
                std::thread::sleep(LOCK_WAIT);
            }
            other => return other.map_err(sled_error("open")),
        }
    }
}

/// The open trees of a journal.
pub struct Trees {
    folder: PathBuf,
    db: sled::Db,
    tree: sled::Tree,
}

impl std::fmt::Debug for Trees {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trees").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Trees {
    /// Opens the trees in `folder`, or makes empty ones. Blocks, and may hang: call it on a thread that can be lost.
    ///
    /// # Errors
    /// When sled fails or panics, or has made files of large values.
    pub fn open(folder: &Path) -> Result<Self, TreeError> {
        crate::chaos::point("trees:open");
        guarded("open", || {
            let db = open_db(folder)?;
            let tree = db.open_tree(TREE).map_err(sled_error("open tree"))?;
            let trees = Self { folder: folder.to_owned(), db, tree };
            trees.check_no_blobs()?;
            Ok(trees)
        })
    }

    /// Moves trees that cannot be used out of the way to `aside`, which must not exist yet.
    ///
    /// # Errors
    /// When the folder cannot be renamed.
    pub fn set_aside(folder: &Path, aside: &Path) -> Result<(), TreeError> {
        crate::chaos::point("trees:set_aside");
        match std::fs::rename(folder, aside) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(TreeError::Folder { path: folder.to_owned(), reason: format!("set aside: {e}") })
            }
            _ => Ok(()),
        }
    }

    /// The folder they live in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How far the trees go; `None` when they are empty.
    ///
    /// # Errors
    /// When sled fails, or the cursor is damaged or of another version.
    pub fn cursor(&self) -> Result<Option<Cursor>, TreeError> {
        guarded("read cursor", || {
            let Some(bytes) = self.tree.get(CURSOR_KEY).map_err(sled_error("read cursor"))? else {
                return Ok(None);
            };
            let damaged =
                TreeError::Damaged { chunk: 0, kind: CURSOR_KIND, reason: "not a cursor of this version" };
            let cursor = Cursor::decode(&bytes).ok_or(damaged)?;
            let at_end = cursor.sequence.is_multiple_of(CHUNK_EVENTS) && cursor.sequence > 0;
            if !at_end || cursor.witness > cursor.sequence {
                return Err(TreeError::Stale { reason: "the cursor is not at the end of a chunk" });
            }
            Ok(Some(cursor))
        })
    }

    /// Writes all rows of a complete chunk, then the cursor behind it. Doing it again changes nothing.
    ///
    /// The cursor is written after the rows were flushed: a crash leaves rows without a cursor, never the reverse.
    ///
    /// # Errors
    /// When sled fails, a row would be too long, or the chunk is not complete.
    pub fn apply(&self, postings: &ChunkPostings, cursor: Cursor) -> Result<(), TreeError> {
        let chunk = postings.chunk();
        if !postings.is_complete() || cursor.sequence + 1 != postings.next_sequence() {
            return Err(TreeError::Damaged { chunk, kind: META, reason: "not complete" });
        }
        let rows = rows::encode(chunk, postings)?;
        crate::chaos::point("trees:apply");
        guarded("apply", || {
            let mut batch = sled::Batch::default();
            // Rows of an earlier attempt may have other keys. A batch is written whole, so one row tells of all.
            let again =
                self.tree.contains_key(rows::key(META, chunk, b"")).map_err(sled_error("look for rows"))?;
            let numbers = Kind::ALL.iter().map(|k| *k as u8);
            for kind in numbers.clone().chain(numbers.map(|n| n + OVERFLOW)).filter(|_| again) {
                for key in self.tree.scan_prefix(rows::key(kind, chunk, b"")).keys() {
                    batch.remove(key.map_err(sled_error("scan"))?);
                }
            }
            rows.into_iter().for_each(|(key, value)| batch.insert(key, value));
            self.tree.apply_batch(batch).map_err(sled_error("write rows"))?;
            self.db.flush().map_err(sled_error("flush rows"))?;
            crate::chaos::point("trees:rows");
            self.tree.insert(CURSOR_KEY, cursor.encode()).map_err(sled_error("write cursor"))?;
            crate::chaos::point("trees:cursor");
            self.db.flush().map_err(sled_error("flush cursor"))?;
            self.check_no_blobs()
        })
    }

    /// Looks into one chunk that the cursor covers.
    ///
    /// # Errors
    /// When sled fails or the chunk's own row is missing or damaged.
    pub fn chunk(&self, chunk: u64) -> Result<StoredChunk<'_>, TreeError> {
        let meta = self.single(META, chunk, ChunkMeta::decode)?;
        if u64::from(meta.events) != CHUNK_EVENTS {
            return Err(TreeError::Damaged { chunk, kind: META, reason: "not complete" });
        }
        Ok(StoredChunk { trees: self, chunk, meta })
    }

    /// Where a value may occur in a chunk that the cursor covers.
    ///
    /// # Errors
    /// When sled fails or a row is missing or damaged.
    pub fn lookup(&self, kind: Kind, wanted: &Wanted, chunk: u64) -> Result<Bits, TreeError> {
        let mut bits = Bits::EMPTY;
        self.chunk(chunk)?.lookup(kind, wanted, &mut bits)?;
        Ok(bits)
    }

    #[cfg(test)]
    pub(super) fn tree_for_test(&self) -> &sled::Tree {
        &self.tree
    }

    /// Reads a row that stands alone under its key.
    fn single<T>(&self, kind: u8, chunk: u64, read: impl FnOnce(&[u8]) -> Option<T>) -> Result<T, TreeError> {
        guarded("read row", || {
            let key = rows::key(kind, chunk, b"");
            let value = self.tree.get(&key).map_err(sled_error("read row"))?;
            let value = value.ok_or(TreeError::Damaged { chunk, kind, reason: "row is missing" })?;
            let read = Row::open(&key, &value).and_then(|row| read(row.body));
            read.ok_or(TreeError::Damaged { chunk, kind, reason: "row is damaged" })
        })
    }

    /// A large value would be a file that sled never syncs: its next `open` may panic or lose data.
    fn check_no_blobs(&self) -> Result<(), TreeError> {
        let path = self.folder.join("blobs");
        match std::fs::read_dir(&path).map(|mut entries| entries.next().is_some()) {
            Ok(true) => Err(TreeError::Folder { path, reason: "holds files of large values".into() }),
            _ => Ok(()),
        }
    }
}

/// A chunk in sled.
#[derive(Debug)]
pub struct StoredChunk<'a> {
    trees: &'a Trees,
    chunk: u64,
    meta: ChunkMeta,
}

impl StoredChunk<'_> {
    fn damaged(&self, kind: Kind, reason: &'static str) -> TreeError {
        TreeError::Damaged { chunk: self.chunk, kind: kind as u8, reason }
    }

    /// Walks the rows of a kind from the one that may hold `target` until `decide` stops.
    fn walk(
        &self,
        kind: Kind,
        target: &[u8],
        into: &mut Bits,
        mut decide: impl FnMut(&[u8]) -> Step,
    ) -> Result<(), TreeError> {
        let of = self.meta.rows_of(kind);
        if of == 0 {
            return Ok(());
        }
        let start = rows::key(kind as u8, self.chunk, b"");
        let end = rows::key(kind as u8, self.chunk + 1, b"");
        let tree = &self.trees.tree;
        let found = tree.range(start.clone()..=rows::key(kind as u8, self.chunk, target)).next_back();
        let found = found.transpose().map_err(sled_error("look up"))?;
        let (mut due, from) = match &found {
            Some((key, _)) => (None, Bound::Excluded(key.to_vec())),
            None => (Some(0), Bound::Included(start)),
        };
        for row in found.map(Ok).into_iter().chain(tree.range((from, Bound::Excluded(end)))) {
            let (key, value) = row.map_err(sled_error("look up"))?;
            let row = Row::open(&key, &value).ok_or_else(|| self.damaged(kind, "row is damaged"))?;
            if row.of != of || due.is_some_and(|n| n != row.number) {
                return Err(self.damaged(kind, "row is missing"));
            }
            due = Some(row.number + 1);
            let on = row.entries(into, &mut decide).ok_or_else(|| self.damaged(kind, "row is damaged"))?;
            if !on || row.number + 1 == of {
                return Ok(());
            }
        }
        Err(self.damaged(kind, "row is missing"))
    }
}

impl ChunkView for StoredChunk<'_> {
    fn meta(&self) -> &ChunkMeta {
        &self.meta
    }

    fn lookup(&self, kind: Kind, wanted: &Wanted, into: &mut Bits) -> Result<(), TreeError> {
        let (target, is_prefix) = wanted.target();
        guarded("look up", || {
            self.walk(kind, &target, into, |value| match value.cmp(&target) {
                std::cmp::Ordering::Less => Step::Skip,
                std::cmp::Ordering::Equal => Step::Take,
                std::cmp::Ordering::Greater if is_prefix && value.starts_with(&target) => Step::Take,
                std::cmp::Ordering::Greater => Step::Stop,
            })
        })?;
        if self.meta.has_overflow(kind) {
            self.trees
                .single(OVERFLOW + kind as u8, self.chunk, |mut body| rows::read_postings(&mut body, into))?;
        }
        Ok(())
    }
}
