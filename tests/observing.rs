//! `semj::observe` as a host uses it, under conditions that the command line does not offer.
#![cfg(feature = "ebpf")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::World;
use semj::observe::{Call, Observer, Plan, Wanted, boot_ns};
use semj::{Event, Journal, Recorded};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Set in a process that is the tool of a test: the folder it works in.
const TOOL_FOLDER: &str = "SEMJ_TEST_TOOL_FOLDER";
/// Four effects each: many more than a small ring holds, and fewer than the witness's queue does.
const FILES: usize = 2_000;

/// Not a test by itself: the tool of the next one.
#[test]
fn tool_that_makes_moves_and_removes() {
    let Some(folder) = std::env::var_os(TOOL_FOLDER) else { return };
    for i in 0..FILES {
        let (one, two) =
            (Path::new(&folder).join(format!("one{i}")), Path::new(&folder).join(format!("two{i}")));
        fs::write(&one, b"x").unwrap();
        fs::rename(&one, &two).unwrap();
        fs::remove_file(&two).unwrap();
    }
}

/// Strength and evidence of each effect below `folder`, by what was done to which file; none where it is external.
fn effects(journal: &Journal, folder: &Path) -> BTreeMap<String, Vec<Option<u32>>> {
    let mut found: BTreeMap<String, Vec<Option<u32>>> = BTreeMap::new();
    for Recorded { event, .. } in journal.query().tag("observed").run().unwrap().map(|e| e.unwrap()) {
        let Some(path) = event.path_text().map(|p| p.to_string_lossy().into_owned()) else { continue };
        let Ok(path) = Path::new(&path).strip_prefix(folder) else { continue };
        let kind = event.event_type().to_string();
        let what = format!("{} {}", kind.trim_start_matches("filesystem."), path.display());
        let strength = event.links().first().map(|l| l.strength.unwrap());
        found.entry(what).or_default().push(strength);
    }
    found
}

#[test]
fn what_a_full_ring_lost_the_witness_tells_as_the_calls_and_nothing_is_told_twice() {
    for witness in [Wanted::Fanotify, Wanted::Inotify] {
        let world = World::new();
        fs::create_dir(world.path("w")).unwrap();
        let folder = fs::canonicalize(world.path("w")).unwrap();
        let folders = vec![folder.clone()];
        let plan = Plan { wanted: Wanted::Ebpf, witness, folders, limited_queue: true, ..Plan::default() };
        let observer = match Observer::open(plan) {
            Ok(observer) if observer.coverage().witness.is_some() => observer,
            Ok(observer) => {
                println!("skipped: no {witness:?} here: {:?}", observer.coverage().tried);
                continue;
            }
            Err(why) => {
                println!("skipped: no eBPF here: {why}");
                return;
            }
        };
        let journal = Journal::open(world.journal()).unwrap();
        let tool = std::env::current_exe().unwrap();
        let script = format!("read go; exec {} --exact tool_that_makes_moves_and_removes", tool.display());
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .env(TOOL_FOLDER, &folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let event = Event::decision("make, move and remove");
        let call = Call {
            id: journal.emitter("a").emit_blocking(event).unwrap().id(),
            agent: "a".to_owned(),
            session: None,
            arguments: Vec::new(),
            started_ns: boot_ns(),
            ended_ns: None,
        };
        let running = observer.start(journal.emitter("a"), call, child.id(), &folder).unwrap();
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        fs::write(folder.join("theirs"), b"by this process, which fanotify leaves out and inotify does not")
            .unwrap();
        assert!(child.wait().unwrap().success());
        let finished = running.finish();
        assert!(
            finished.lost > 0 && finished.gaps > 0 && !finished.is_complete,
            "the ring was meant to be too small"
        );
        journal.emitter("a").emit_blocking(Event::decision("over")).unwrap().wait().unwrap();
        let mut found = effects(&journal, &folder);
        let mut weaker = 0;
        for (kind, name) in [("create", "one"), ("write", "one"), ("rename", "one"), ("delete", "two")] {
            for i in 0..FILES {
                let what = format!("{kind} {name}{i}");
                let strengths = found.remove(&what).unwrap_or_default();
                assert_eq!(strengths.len(), 1, "{witness:?} {what}: {strengths:?}");
                let strength =
                    strengths[0].unwrap_or_else(|| panic!("{witness:?} {what} is told as external"));
                weaker += u64::from(strength < 100);
            }
        }
        println!("{witness:?}: {} lost, {weaker} told by the witness", finished.lost);
        assert!(weaker > 0 && weaker <= finished.lost);
        found.retain(|what, _| !what.ends_with("theirs"));
        assert_eq!(found, BTreeMap::new(), "{witness:?}");
        journal.close(common::PATIENCE).unwrap();
    }
}
