//! What is known to be in the watched folders, and what differs from it after events were lost.
//!
//! A comparison tells nothing that events have told before, nor do events tell again what it has told: those that happened
//! before it and are read behind it are repeats.

use super::{KernelRecord, Op};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, Metadata};
use std::ops::Bound;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// File times are those of the last clock tick, which was this long ago at most.
pub(super) const TICK_NS: i64 = 20_000_000;

/// Whether `path` is `folder` or lies below it.
pub(super) fn is_within(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/") || folder == b"/")
}

/// The folders that are looked at, links resolved.
#[derive(Clone, Debug, Default)]
pub(super) struct Folders {
    pub(super) roots: Vec<Vec<u8>>,
    /// Folders below them that are not.
    pub(super) left_out: Vec<PathBuf>,
}

impl Folders {
    /// Those that are there.
    pub(super) fn new(folders: &[PathBuf], left_out: &[PathBuf]) -> Self {
        let real = |paths: &[PathBuf]| -> Vec<PathBuf> {
            paths.iter().filter_map(|p| fs::canonicalize(p).ok()).collect()
        };
        let roots = real(folders).into_iter().map(|p| p.into_os_string().into_vec()).collect();
        Folders { roots, left_out: real(left_out) }
    }

    pub(super) fn is_left_out(&self, path: &[u8]) -> bool {
        self.left_out.iter().any(|l| l.as_os_str().as_bytes() == path)
    }

    pub(super) fn contain(&self, path: &[u8]) -> bool {
        let is_out = |l: &PathBuf| is_within(path, l.as_os_str().as_bytes());
        self.roots.iter().any(|root| is_within(path, root)) && !self.left_out.iter().any(is_out)
    }

    /// Everything in a folder, and below it.
    pub(super) fn each(&self, folder: &[u8], mut found: impl FnMut(Vec<u8>, &Metadata)) {
        let mut open = vec![folder.to_vec()];
        while let Some(folder) = open.pop() {
            let path = Path::new(std::ffi::OsStr::from_bytes(&folder));
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                let Ok(meta) = entry.metadata() else { continue };
                let path = entry.path().into_os_string().into_vec();
                if meta.is_dir() && !self.is_left_out(&path) {
                    open.push(path.clone());
                }
                found(path, &meta);
            }
        }
    }
}

/// What a comparison found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Found {
    pub(super) op: Op,
    pub(super) path: Vec<u8>,
}

/// What is known.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// Paths, and whether each is a folder.
    paths: BTreeMap<Vec<u8>, bool>,
    /// All that is there is known: what is not is new.
    is_all: bool,
    /// Wall clock: nothing that happened before waits to be read.
    complete_ns: i64,
    /// What was told as changed since, and when that was read, by the wall clock.
    told: HashMap<Vec<u8>, i64>,
    /// What the last comparison told, until all that happened before it has been read.
    compared: Option<Compared>,
}

#[derive(Clone, Debug, Default)]
struct Compared {
    wall_ns: i64,
    gone: HashSet<Vec<u8>>,
    made: HashSet<Vec<u8>>,
    written: HashSet<Vec<u8>>,
}

impl Known {
    /// Nothing is known yet.
    pub(super) fn new(wall_ns: i64) -> Self {
        let (paths, told) = (BTreeMap::new(), HashMap::new());
        Known { paths, is_all: true, complete_ns: wall_ns, told, compared: None }
    }

    /// Nothing will be known: a comparison goes by the times of files alone, and finds nothing that was removed.
    pub(super) fn nothing(wall_ns: i64) -> Self {
        Known { is_all: false, ..Known::new(wall_ns) }
    }

    /// Looks what is in a folder, and tells nothing of it.
    pub(super) fn look(&mut self, folder: &[u8], folders: &Folders) {
        if self.is_all {
            folders.each(folder, |path, meta| {
                self.paths.insert(path, meta.is_dir());
            });
        }
    }

    /// Something is there. True when it was not known.
    pub(super) fn add(&mut self, path: &[u8], folder: bool) -> bool {
        if let Some(compared) = &mut self.compared {
            compared.gone.remove(path);
        }
        !self.is_all || self.paths.insert(path.to_vec(), folder).is_none()
    }

    /// It is gone.
    pub(super) fn remove(&mut self, path: &[u8]) {
        if let Some(compared) = &mut self.compared {
            compared.made.remove(path);
            compared.written.remove(path);
        }
        self.paths.remove(path);
    }

    /// All that is known at or below a folder, deepest last.
    pub(super) fn within(&self, folder: &[u8]) -> Vec<(Vec<u8>, bool)> {
        let from = self.paths.range::<[u8], _>((Bound::Included(folder), Bound::Unbounded));
        let near = from.take_while(|(path, _)| path.starts_with(folder));
        near.filter(|(path, _)| is_within(path, folder)).map(|(p, f)| (p.clone(), *f)).collect()
    }

    /// A path has moved, with all that is below it.
    pub(super) fn moved(&mut self, old: &[u8], new: &[u8]) {
        for (path, folder) in self.within(old) {
            self.paths.remove(&path);
            let rest = path.get(old.len()..).unwrap_or_default();
            self.paths.insert([new, rest].concat(), folder);
        }
    }

    /// That a path was changed was read at this time, and is told.
    pub(super) fn told(&mut self, path: &[u8], wall_ns: i64) {
        self.told.insert(path.to_vec(), wall_ns);
    }

    /// All that happened before this time has been read and taken.
    pub(super) fn complete(&mut self, wall_ns: i64) {
        self.complete_ns = wall_ns;
        self.told.retain(|_, read_ns| *read_ns >= wall_ns - TICK_NS);
        self.compared.take_if(|c| c.wall_ns <= wall_ns);
    }

    /// Whether the last comparison has told this already.
    pub(super) fn is_repeat(&self, record: &KernelRecord) -> bool {
        let Some(compared) = &self.compared else { return false };
        let (path, target) = (&record.path.path, &record.path.target);
        match record.op {
            Op::Create | Op::Mkdir => compared.made.contains(path),
            Op::Delete | Op::Rmdir => compared.gone.contains(path),
            Op::Rename => {
                let from = path.is_empty() || compared.gone.contains(path);
                from && (target.is_empty() || compared.made.contains(target))
            }
            Op::Write => compared.written.contains(path),
            _ => false,
        }
    }

    /// Compares the folders with what is known, knows what is there from then on, and says what differs: what is gone,
    /// deepest first, what is new, and what has changed since all was known.
    pub(super) fn compare(&mut self, folders: &Folders, wall_ns: i64) -> Vec<Found> {
        let since = self.complete_ns - TICK_NS;
        let (mut found, mut changed) = (Vec::new(), Vec::new());
        let mut compared = Compared { wall_ns, ..Compared::default() };
        for root in &folders.roots {
            let mut there = BTreeMap::new();
            folders.each(root, |path, meta| {
                there.insert(path, meta.clone());
            });
            let gone = self.within(root).into_iter().rev().filter(|(path, _)| !there.contains_key(path));
            for (path, is_folder) in gone.filter(|(path, _)| path != root) {
                self.paths.remove(&path);
                compared.gone.insert(path.clone());
                found.push(Found { op: if is_folder { Op::Rmdir } else { Op::Delete }, path });
            }
            for (path, meta) in there {
                let ctime_ns = changed_ns(&meta);
                let is_told = self.told.get(&path).is_some_and(|read_ns| ctime_ns <= *read_ns);
                let is_new = match self.is_all {
                    true => self.paths.insert(path.clone(), meta.is_dir()).is_none(),
                    false => ctime_ns >= since && born_ns(&meta) >= since && !is_told,
                };
                if is_new {
                    let op = if meta.is_dir() { Op::Mkdir } else { Op::Create };
                    compared.made.insert(path.clone());
                    found.push(Found { op, path: path.clone() });
                }
                let is_changed = if is_new { meta.len() > 0 } else { ctime_ns >= since && !is_told };
                if is_changed && !meta.is_dir() {
                    compared.written.insert(path.clone());
                    changed.push(Found { op: Op::Write, path });
                }
            }
        }
        self.compared = Some(compared);
        found.append(&mut changed);
        found
    }
}

/// When it was last changed, ns since 1970.
pub(super) fn changed_ns(meta: &Metadata) -> i64 {
    meta.ctime().saturating_mul(1_000_000_000).saturating_add(meta.ctime_nsec())
}

/// When it was made, ns since 1970; the smallest number where the file system does not say.
pub(super) fn born_ns(meta: &Metadata) -> i64 {
    let born = meta.created().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
    born.map_or(i64::MIN, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::{Phase, wall_ns};

    #[test]
    fn a_move_takes_along_what_is_below_and_nothing_else() {
        let mut known = Known::new(0);
        for path in ["/w/a", "/w/a/x", "/w/a/b/y", "/w/a-b", "/w/ab"] {
            assert!(known.add(path.as_bytes(), false));
        }
        known.moved(b"/w/a", b"/w/c");
        let all: Vec<String> =
            known.within(b"/w").into_iter().map(|(p, _)| String::from_utf8(p).unwrap()).collect();
        assert_eq!(all, ["/w/a-b", "/w/ab", "/w/c", "/w/c/b/y", "/w/c/x"]);
        assert!(!known.add(b"/w/c", false));
    }

    fn record(op: Op, path: &[u8]) -> KernelRecord {
        let mut record = KernelRecord::new(op, Phase::Observed, 0);
        record.path.path = path.to_vec();
        record
    }

    #[test]
    fn a_comparison_and_events_tell_nothing_twice() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        let path = |name: &str| root.join(name).into_os_string().into_vec();
        let folders =
            Folders { roots: vec![path("").split_last().unwrap().1.to_vec()], left_out: Vec::new() };
        let write = |name: &str| fs::write(root.join(name), "x").unwrap();
        ["goes", "told", "lost", "same"].iter().for_each(|name| write(name));
        let mut known = Known::new(wall_ns());
        known.look(&folders.roots[0], &folders);
        known.complete(wall_ns() + TICK_NS);
        std::fs::remove_file(root.join("goes")).unwrap();
        write("new");
        let later = known.complete_ns + 1;
        let touch = |name: &str| {
            let file = fs::File::options().append(true).open(root.join(name)).unwrap();
            // Until a tick has come that is later than all that was known.
            while ctime(&root.join(name)) < later {
                std::io::Write::write_all(&mut (&file), b"y").unwrap();
            }
        };
        ["told", "lost"].iter().for_each(|name| touch(name));
        known.told(&path("told"), wall_ns());
        let found = known.compare(&folders, wall_ns());
        let expected = [(Op::Delete, "goes"), (Op::Create, "new"), (Op::Write, "lost"), (Op::Write, "new")];
        assert_eq!(found, expected.map(|(op, name)| Found { op, path: path(name) }));
        for (op, name) in expected {
            assert!(known.is_repeat(&record(op, &path(name))), "{op:?} {name}");
        }
        assert!(!known.is_repeat(&record(Op::Delete, &path("new"))));
        assert!(!known.is_repeat(&record(Op::Write, &path("told"))));
        assert!(known.compare(&folders, wall_ns()).iter().all(|f| f.op == Op::Write), "that is known now");
        known.complete(wall_ns());
        assert!(!known.is_repeat(&record(Op::Create, &path("new"))));
    }

    #[test]
    fn who_knows_nothing_goes_by_the_times_of_files() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap().into_os_string().into_vec();
        let folders = Folders { roots: vec![root], left_out: Vec::new() };
        let path = folder.path().join("f");
        fs::write(&path, "x").unwrap();
        let ops = |mut known: Known| -> Vec<Op> {
            known.compare(&folders, wall_ns()).into_iter().map(|f| f.op).collect()
        };
        let made = ctime(&path);
        assert_eq!(ops(Known::nothing(made)), [Op::Create, Op::Write]);
        while ctime(&path) <= made + TICK_NS {
            fs::write(&path, "y").unwrap();
        }
        assert_eq!(ops(Known::nothing(ctime(&path))), [Op::Write]);
        assert_eq!(ops(Known::nothing(ctime(&path) + 2 * TICK_NS)), []);
    }

    fn ctime(path: &Path) -> i64 {
        let meta = fs::metadata(path).unwrap();
        meta.ctime() * 1_000_000_000 + meta.ctime_nsec()
    }
}
