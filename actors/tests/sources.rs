//! Sources of the running kernel: what they must never leave out, and what they say when they lost something.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use semj_actors::sources::fanotify::{Fanotify, FanotifyOptions};
use semj_actors::sources::inotify::Inotify;
use semj_actors::sources::{Item, KernelRecord, KernelSource, Op, Phase};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TOOL_FOLDER: &str = "SEMJ_TEST_TOOL_FOLDER";
/// More than the kernel's queues hold by default, which is 16,384.
const MANY: usize = 20_000;
/// fanotify sees the whole file system: who makes many files there, and who counts on being read in time, come one by one.
static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn alone() -> std::sync::MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Everything up to now.
fn drain(source: &mut dyn KernelSource) -> Vec<Item> {
    let barrier = source.barrier().unwrap();
    let mut items = Vec::new();
    // The sentinel may be among what an overflow lost; then nothing more comes.
    let mut idle = 0;
    while idle < 1_000 {
        let progress = source.next_batch(1_000, &mut items).unwrap();
        if progress.passed >= barrier.0 {
            return items;
        }
        idle = if progress.more { 0 } else { idle + 1 };
    }
    items
}

fn records(items: &[Item]) -> Vec<&KernelRecord> {
    let each = items.iter().filter_map(|i| match i {
        Item::Record(record) => Some(record.as_ref()),
        _ => None,
    });
    each.collect()
}

fn gaps(items: &[Item]) -> usize {
    items.iter().filter(|i| matches!(i, Item::Gap(_))).count()
}

/// What the records say is there in the end.
fn outcome(folder: &Path, records: &[&KernelRecord]) -> BTreeSet<PathBuf> {
    let mut there = BTreeSet::new();
    let path = |bytes: &[u8]| PathBuf::from(String::from_utf8(bytes.to_vec()).unwrap());
    for record in records {
        let (from, to) = (path(&record.path.path), path(&record.path.target));
        match record.op {
            Op::Create | Op::Mkdir => drop(there.insert(from)),
            Op::Delete | Op::Rmdir => drop(there.remove(&from)),
            Op::Rename => {
                let moved: Vec<PathBuf> = there.iter().filter(|p| p.starts_with(&from)).cloned().collect();
                for old in moved {
                    there.remove(&old);
                    let rest = old.strip_prefix(&from).unwrap();
                    there.insert(if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) });
                }
            }
            _ => {}
        }
    }
    there.retain(|p| p.starts_with(folder));
    there
}

fn on_disk(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(on_disk(&path));
        }
        found.insert(path);
    }
    found
}

fn sh(folder: &Path, script: &str) {
    assert!(Command::new("sh").args(["-ec", script]).current_dir(folder).status().unwrap().success());
}

fn fanotify(unlimited_queue: bool) -> Option<Fanotify> {
    fanotify_in(FanotifyOptions { unlimited_queue, ..FanotifyOptions::default() })
}

fn fanotify_in(options: FanotifyOptions) -> Option<Fanotify> {
    match Fanotify::open(options) {
        Ok(source) => Some(source),
        Err(why) => {
            println!("skipped: no fanotify here: {why}");
            None
        }
    }
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = fs::canonicalize(folder.path()).unwrap();
    (folder, path)
}

const SCRIPT: &str = "mkdir -p a/b/c; echo x > a/b/c/f; mv a z; echo y >> z/b/c/f; mkdir z/e; : > z/e/g; \
                      mv z/b/c/f top; rm -r z/b; mkdir -p q/r; mv q z/e/; chmod 600 top";

#[test]
fn inotify_sees_what_is_made_in_folders_that_are_new_before_anybody_looks() {
    let (_keep, folder) = folder();
    let mut source = Inotify::open(std::slice::from_ref(&folder), &[]).unwrap();
    // Nobody reads meanwhile: each new folder is unwatched when its content is made.
    sh(&folder, "mkdir -p a/b/c; echo x > a/b/c/f; mkdir d");
    let items = drain(&mut source);
    let records = records(&items);
    assert_eq!(outcome(&folder, &records), on_disk(&folder));
    let hidden = records.iter().find(|r| r.path.path.ends_with(b"/f") && r.op == Op::Create).unwrap();
    assert_eq!(hidden.phase, Phase::Synthetic);
    sh(&folder, "echo y >> a/b/c/f");
    let items = drain(&mut source);
    assert!(
        items.iter().any(|i| matches!(i, Item::Record(r) if r.op == Op::Write && r.phase == Phase::Observed))
    );
}

#[test]
fn inotify_leaves_out_what_it_is_told_to() {
    let (_keep, folder) = folder();
    fs::create_dir(folder.join("journal")).unwrap();
    let mut source = Inotify::open(std::slice::from_ref(&folder), &[folder.join("journal")]).unwrap();
    sh(&folder, "echo x > journal/secret; echo y > seen");
    let items = drain(&mut source);
    assert!(records(&items).iter().all(|r| r.path.path.ends_with(b"/seen")));
    assert!(!items.is_empty());
}

#[test]
fn inotify_follows_moves_within_out_and_in() {
    let ((_keep, folder), (_away, away)) = (folder(), folder());
    fs::create_dir_all(folder.join("a/b")).unwrap();
    let mut source = Inotify::open(std::slice::from_ref(&folder), &[]).unwrap();
    sh(&folder, "mv a z");
    drain(&mut source);
    sh(&folder, "echo x > z/b/f");
    let items = drain(&mut source);
    assert!(
        records(&items).iter().any(|r| r.path.path == folder.join("z/b/f").as_os_str().as_encoded_bytes())
    );
    fs::rename(folder.join("z/b"), away.join("b")).unwrap();
    let items = drain(&mut source);
    assert!(records(&items).iter().any(|r| r.op == Op::Rename && r.path.target.is_empty()));
    fs::write(away.join("b/elsewhere"), "x").unwrap();
    assert!(drain(&mut source).is_empty(), "what has left is watched no more");
    fs::rename(away.join("b"), folder.join("back")).unwrap();
    let items = drain(&mut source);
    assert!(records(&items).iter().any(|r| r.op == Op::Rename && r.path.path.is_empty()));
    fs::write(folder.join("back/again"), "x").unwrap();
    let items = drain(&mut source);
    assert!(records(&items).iter().any(|r| r.path.path.ends_with(b"/back/again")));
}

#[test]
fn an_overflow_of_inotify_is_told_and_what_is_there_is_found_all_the_same() {
    let _alone = alone();
    let (_keep, folder) = folder();
    fs::write(folder.join("before"), "x").unwrap();
    fs::write(folder.join("goes"), "x").unwrap();
    let mut source = Inotify::open(std::slice::from_ref(&folder), &[]).unwrap();
    let mut items = Vec::new();
    while source.next_batch(1_000, &mut items).unwrap().more {}
    for i in 0..MANY {
        fs::File::create(folder.join(format!("f{i}"))).unwrap();
    }
    fs::write(folder.join("before"), "changed").unwrap();
    fs::remove_file(folder.join("goes")).unwrap();
    sh(&folder, "mkdir -p deep/er; echo x > deep/er/f");
    items.extend(drain(&mut source));
    let records = records(&items);
    assert_eq!(gaps(&items), 1, "the kernel's queue was meant to overflow");
    none_twice(&folder, &records);
    let mut there = outcome(&folder, &records);
    there.insert(folder.join("before"));
    assert_eq!(there, on_disk(&folder));
    let synthetic = |op, name: &[u8]| {
        records.iter().any(|r| r.op == op && r.phase == Phase::Synthetic && r.path.path.ends_with(name))
    };
    assert!(synthetic(Op::Write, b"/before") && synthetic(Op::Delete, b"/goes"));
}

#[test]
fn fanotify_knows_process_and_path_though_both_are_gone() {
    let _alone = alone();
    let (_keep, folder) = folder();
    // Nobody has seen these being made, and they are gone, or elsewhere, before anybody asks for their paths.
    fs::create_dir_all(folder.join("old/deep")).unwrap();
    fs::create_dir(folder.join("was")).unwrap();
    let Some(mut source) = fanotify(true) else { return };
    sh(&folder, "echo x > old/deep/f; rm -r old; echo x > was/f; mv was is");
    let mut child = Command::new("sh").args(["-ec", SCRIPT]).current_dir(&folder).spawn().unwrap();
    let shell = child.id();
    assert!(child.wait().unwrap().success());
    sh(&folder, "rm -r z/e; mkdir z/e; : > z/e/last");
    let items = drain(&mut source);
    let records: Vec<&KernelRecord> = records(&items)
        .into_iter()
        .filter(|r| r.path.path.starts_with(folder.as_os_str().as_encoded_bytes()))
        .collect();
    let mut there = outcome(&folder, &records);
    there.insert(folder.join("is"));
    assert_eq!(there, on_disk(&folder));
    let of = |op: Op, name: &str| {
        let path = folder.join(name);
        records
            .iter()
            .find(|r| r.op == op && r.path.path == path.as_os_str().as_encoded_bytes())
            .map(|r| r.who.process)
    };
    assert!(of(Op::Create, "old/deep/f").is_some() && of(Op::Rmdir, "old/deep").is_some());
    assert!(of(Op::Write, "was/f").is_some() && of(Op::Rename, "was").is_some());
    assert_eq!(of(Op::Create, "a/b/c/f"), Some(shell), "the shell itself made it");
    // The same process wrote the same file twice; the kernel merged that, although a folder above was moved between.
    assert!(of(Op::Write, "a/b/c/f").is_some());
    assert!(of(Op::Rename, "a").is_some_and(|p| p != shell), "mv is another process");
    assert!(of(Op::Rmdir, "z/b").is_some() && of(Op::Attribute, "top").is_some());
}

/// Not a test by itself: a process other than the one that watches.
#[test]
fn tool_that_makes_many_files() {
    let Some(folder) = std::env::var_os(TOOL_FOLDER) else { return };
    for i in 0..MANY {
        fs::File::create(Path::new(&folder).join(format!("f{i}"))).unwrap();
    }
}

fn make_many(folder: &Path) {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tool_that_makes_many_files"])
        .env(TOOL_FOLDER, folder)
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn an_overflow_of_fanotify_is_told_and_an_unlimited_queue_has_none() {
    let _alone = alone();
    for unlimited in [false, true] {
        let (_keep, folder) = folder();
        let Some(mut source) = fanotify(unlimited) else { return };
        make_many(&folder);
        let items = drain(&mut source);
        let made = records(&items)
            .iter()
            .filter(|r| r.op == Op::Create && r.path.path.starts_with(folder.as_os_str().as_encoded_bytes()))
            .count();
        if unlimited {
            assert_eq!((made, gaps(&items)), (MANY, 0));
        } else {
            assert!(made < MANY && gaps(&items) == 1, "{made} of {MANY}, {} gaps", gaps(&items));
        }
    }
}

/// No effect on a path below `folder` is told twice; but what is gone may be made again, and what was made may go again.
fn none_twice(folder: &Path, records: &[&KernelRecord]) {
    let mut told = BTreeSet::new();
    for record in records.iter().filter(|r| r.path.path.starts_with(folder.as_os_str().as_encoded_bytes())) {
        let path = String::from_utf8_lossy(&record.path.path);
        assert!(told.insert(format!("{:?} {path}", record.op)), "{:?} {path} is told twice", record.op);
        match record.op {
            Op::Create => {
                told.remove(&format!("Delete {path}"));
            }
            Op::Delete => {
                told.remove(&format!("Create {path}"));
                told.remove(&format!("Write {path}"));
            }
            _ => {}
        }
    }
}

#[test]
fn after_an_overflow_of_fanotify_what_is_there_is_found_and_nothing_told_twice() {
    let _alone = alone();
    let ((_keep, folder), (_away, away)) = (folder(), folder());
    for name in ["before", "early", "goes", "moves", "written"] {
        fs::write(folder.join(name), "x").unwrap();
    }
    fs::create_dir_all(folder.join("dir/below")).unwrap();
    let folders = vec![folder.clone()];
    let Some(mut source) = fanotify_in(FanotifyOptions { folders, ..FanotifyOptions::default() }) else {
        return;
    };
    // Nobody reads meanwhile: these are told as events, and what comes when the queue is full is not.
    sh(&folder, "echo y > written; echo y > first; mkdir made; chmod 700 dir; echo y > one; mv one two");
    make_many(&away);
    sh(
        &folder,
        "echo y > before; rm goes; mv moves moved; mkdir -p deep/er; echo x > deep/er/f; mv dir far; mv made named",
    );
    let mut items = Vec::new();
    source.next_batch(1_000, &mut items).unwrap();
    // Now there is room again: these come behind the mark, and the comparison that the mark calls for sees them, too.
    sh(
        &folder,
        "echo x > between; rm early; mkdir in; echo x > in/it; mv deep/er up; rm -r far; echo z > before",
    );
    while gaps(&items) == 0 {
        assert!(source.next_batch(1_000, &mut items).unwrap().more, "the queue was meant to overflow");
    }
    sh(&folder, "echo x > last; rm moved; echo x > moved; echo x > goes; rm goes; rm between; : > named/x");
    items.extend(drain(&mut source));
    let records = records(&items);
    assert_eq!(gaps(&items), 1);
    none_twice(&folder, &records);
    let mut there = outcome(&folder, &records);
    there.extend(["before", "written"].map(|name| folder.join(name)));
    assert_eq!(there, on_disk(&folder));
    let phase = |op, name: &str| {
        let path = folder.join(name);
        let of = |r: &&&KernelRecord| r.op == op && r.path.path == path.as_os_str().as_encoded_bytes();
        records.iter().find(of).map(|r| r.phase)
    };
    for (op, name) in [
        (Op::Write, "before"),
        (Op::Delete, "goes"),
        (Op::Create, "moved"),
        (Op::Create, "between"),
        (Op::Delete, "early"),
        (Op::Create, "in/it"),
        (Op::Mkdir, "up"),
        (Op::Create, "up/f"),
        (Op::Rmdir, "dir/below"),
    ] {
        assert_eq!(phase(op, name), Some(Phase::Synthetic), "{op:?} {name}");
    }
    for (op, name) in
        [(Op::Write, "written"), (Op::Create, "first"), (Op::Create, "last"), (Op::Delete, "moved")]
    {
        assert_eq!(phase(op, name), Some(Phase::Observed), "{op:?} {name}");
    }
    let again = |r: &&&KernelRecord| r.op == Op::Write && r.path.path.ends_with(b"/moved");
    assert_eq!(records.iter().filter(again).count(), 2, "found, then removed, then written anew");
    assert_eq!(phase(Op::Create, "two"), None, "its new name was told by an event");
    // What is written before a read finds nothing more may have been seen by the comparison.
    while source.next_batch(1_000, &mut Vec::new()).unwrap().more {}
    sh(&folder, "echo w >> before");
    let later = drain(&mut source);
    let is_write =
        |i: &Item| matches!(i, Item::Record(r) if r.op == Op::Write && r.path.path.ends_with(b"/before"));
    assert!(later.iter().any(is_write), "events tell again what the comparison told long ago");
}

#[test]
fn a_rescan_that_is_asked_for_tells_what_events_have_not_told_yet_and_nothing_twice() {
    let _alone = alone();
    let (_keep, folder) = folder();
    fs::write(folder.join("before"), "x").unwrap();
    fs::write(folder.join("goes"), "x").unwrap();
    let folders = vec![folder.clone()];
    let mut sources: Vec<Box<dyn KernelSource>> = vec![Box::new(Inotify::open(&folders, &[]).unwrap())];
    let options = FanotifyOptions { folders, ..FanotifyOptions::default() };
    sources.extend(fanotify_in(options).map(|s| Box::new(s) as Box<dyn KernelSource>));
    sh(&folder, "echo x > made; rm goes; mkdir d; echo x > d/in");
    for source in &mut sources {
        source.rescan().unwrap();
        let items = drain(source.as_mut());
        let records = records(&items);
        none_twice(&folder, &records);
        let mut there = outcome(&folder, &records);
        there.insert(folder.join("before"));
        assert_eq!(there, on_disk(&folder));
        for (op, name) in [(Op::Create, "made"), (Op::Delete, "goes"), (Op::Create, "d/in")] {
            let path = folder.join(name);
            let is_it = |r: &&&KernelRecord| r.op == op && r.path.path == path.as_os_str().as_encoded_bytes();
            assert_eq!(records.iter().find(is_it).map(|r| r.phase), Some(Phase::Synthetic), "{op:?} {name}");
        }
        assert!(!source.misses().is_empty());
    }
}
