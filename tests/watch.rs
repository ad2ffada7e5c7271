//! Folders that are watched for the journal: what anybody changes in them, and what was changed while nobody watched.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::{PATIENCE, World, until};
use rustix::process::{Pid, Signal, kill_process};
use semj::sources::{Watch, WatchWith};
use semj::{Condition, Event, Journal};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const BOTH: [WatchWith; 2] = [WatchWith::Fanotify, WatchWith::Inotify];

fn folder(world: &World) -> PathBuf {
    let folder = fs::canonicalize(world.root()).unwrap().join("w");
    fs::create_dir(&folder).unwrap();
    folder
}

fn sh(folder: &Path, script: &str) {
    let status = Command::new("sh").args(["-c", script]).current_dir(folder).status().unwrap();
    assert!(status.success(), "{script}");
}

/// A journal inside of the folder that it watches; `None`, with the reason printed, where the source cannot be had.
fn watching(folder: &Path, with: WatchWith) -> Option<Journal> {
    let journal = Journal::open(folder.join("j")).unwrap();
    journal.attach(Watch::new([folder]).with(with)).unwrap();
    if journal.sync_now(PATIENCE).is_err()
        && let Condition::Unavailable(why) = &journal.sync_status()[0].condition
    {
        println!("skipped: {with:?}: {why}");
        return None;
    }
    Some(journal)
}

/// Everything in the journal that has a path: type, path below the folder, and whether it was found by comparing.
fn told(journal: &Journal, folder: &Path) -> Vec<(String, String, bool)> {
    let events = journal.query().source("watch").run().unwrap().map(Result::unwrap);
    let each = events.filter_map(|e| {
        let path = e.event.path_text()?.as_str()?.to_owned();
        let payload = e.event.payload_value().as_json().unwrap();
        let below = path.strip_prefix(folder.to_str().unwrap()).unwrap().trim_start_matches('/').to_owned();
        Some((e.event.event_type().to_string(), below, payload["semj.phase"] == "synthetic"))
    });
    each.collect()
}

fn has(told: &[(String, String, bool)], kind: &str, path: &str, synthetic: bool) -> bool {
    told.iter().any(|(k, p, s)| k == kind && p == path && *s == synthetic)
}

/// Waits until the clock of file times is well past the newest change in the folder.
fn let_time_pass(world: &World, newest: &Path) {
    let time = |path: &Path| {
        let meta = fs::metadata(path).unwrap();
        meta.ctime() * 1_000_000_000 + meta.ctime_nsec()
    };
    let (probe, at) = (world.path("probe"), time(newest));
    until("file times have moved on", || {
        fs::write(&probe, b"x").unwrap();
        time(&probe) > at + 100_000_000
    });
}

#[test]
fn changes_stand_in_one_order_with_what_is_said_and_the_journals_own_files_are_none() {
    for with in BOTH {
        let world = World::new();
        let folder = folder(&world);
        let Some(journal) = watching(&folder, with) else { continue };
        let emitter = journal.emitter("a");
        let before = emitter.emit_blocking(Event::decision("write it")).unwrap();
        fs::write(folder.join("mine"), b"x").unwrap();
        sh(&folder, "mkdir d && echo x > d/theirs && mv d/theirs d/moved && rm mine");
        journal.sync_now(PATIENCE).unwrap();
        let after = emitter.emit_blocking(Event::decision("done")).unwrap();
        after.wait().unwrap();
        let told = told(&journal, &folder);
        for (kind, path) in [
            ("filesystem.create", "mine"),
            ("filesystem.mkdir", "d"),
            ("filesystem.create", "d/theirs"),
            ("filesystem.rename", "d/theirs"),
            ("filesystem.delete", "mine"),
        ] {
            // inotify finds what lies in a new folder by looking.
            let is_there =
                has(&told, kind, path, false) || path.starts_with("d/") && has(&told, kind, path, true);
            let moved = path == "d/theirs" && with == WatchWith::Inotify;
            assert!(is_there || moved, "{with:?}: no {kind} {path} in {told:?}");
        }
        assert!(told.iter().all(|(_, path, _)| !Path::new(path).starts_with("j")), "{with:?}: {told:?}");
        let events = journal.query().source("watch").run().unwrap().map(Result::unwrap);
        let effects: Vec<u64> =
            events.filter(|e| e.event.path_text().is_some()).map(|e| e.sequence).collect();
        let (first, last) = (effects[0], effects[effects.len() - 1]);
        assert!(before.sequence() < first && last < after.sequence(), "{with:?}: all lies between the two");
        journal.close(PATIENCE).unwrap();
    }
}

#[test]
fn what_changed_while_nobody_watched_is_a_gap_and_what_still_shows_of_it() {
    for with in BOTH {
        let world = World::new();
        let folder = folder(&world);
        sh(&folder, "echo x > old; echo x > changed; echo x > gone");
        let Some(journal) = watching(&folder, with) else { continue };
        let_time_pass(&world, &folder.join("gone"));
        // Only what was read to its end counts as seen.
        journal.emitter("a").emit_blocking(Event::decision("look")).unwrap();
        fs::write(folder.join("seen"), b"x").unwrap();
        journal.sync_now(PATIENCE).unwrap();
        let first = told(&journal, &folder);
        assert!(has(&first, "filesystem.create", "seen", false), "{with:?}: {first:?}");
        journal.close(PATIENCE).unwrap();
        drop(journal);
        sh(&folder, "mkdir d && echo x > d/new && echo y >> changed && rm gone");

        let journal = watching(&folder, with).unwrap();
        let all = told(&journal, &folder);
        let news = &all[first.len()..];
        for (kind, path) in
            [("filesystem.mkdir", "d"), ("filesystem.create", "d/new"), ("filesystem.write", "changed")]
        {
            assert!(has(news, kind, path, true), "{with:?}: no {kind} {path} in {news:?}");
        }
        assert!(news.iter().all(|(_, path, _)| path != "old"), "{with:?}: nobody touched it: {news:?}");
        let gaps = journal.query().source("watch").name("semj.gap").run().unwrap();
        let causes: Vec<Value> =
            gaps.map(|e| e.unwrap().event.payload_value().as_json().unwrap()["semj.cause"].clone()).collect();
        assert_eq!(causes, ["not_observed"], "{with:?}: only after something was seen is there a gap");
        journal.close(PATIENCE).unwrap();
    }
}

#[test]
fn nothing_that_is_there_in_the_end_goes_untold_though_the_watcher_is_killed() {
    let world = World::new();
    let folder = folder(&world);
    let args = ["kernel", "watch", folder.to_str().unwrap()];
    let mut files = BTreeSet::new();
    for round in 0..4 {
        let mut watcher = world.spawn(&args);
        let is_open = || {
            let query = world.run(&["query", "--name", "semj.epoch", "--count", "--json"], b"");
            let count = common::lines(&query).first().and_then(|l| l["count"].as_u64());
            count == Some(round + 1)
        };
        until("it watches", is_open);
        for n in 0..200 {
            let name = format!("{round}-{n}");
            fs::write(folder.join(&name), b"x").unwrap();
            files.insert(name);
        }
        let pid = Pid::from_raw(watcher.id().cast_signed()).unwrap();
        let signal = if round == 3 { Signal::INT } else { Signal::KILL };
        kill_process(pid, signal).unwrap();
        watcher.wait().unwrap();
        for n in 200..210 {
            let name = format!("{round}-{n}");
            fs::write(folder.join(&name), b"x").unwrap();
            files.insert(name);
        }
    }
    let mut last = world.spawn(&args);
    let told = || -> BTreeSet<String> {
        let events = world.json(&["query", "--source", "watch", "--type", "filesystem.create", "--json"]);
        let name = |e: &Value| Path::new(e["path"].as_str().unwrap()).file_name().unwrap().to_owned();
        events.iter().map(|e| name(e).into_string().unwrap()).collect()
    };
    until("all files are told", || told().is_superset(&files));
    kill_process(Pid::from_raw(last.id().cast_signed()).unwrap(), Signal::INT).unwrap();
    let ended = last.wait().unwrap();
    assert_eq!(ended.code(), Some(0), "an interrupt is its end");
    let report = world.one(&["verify", "--json"]);
    assert_eq!(report["intact"], true);
}

#[test]
fn a_folder_that_is_not_there_is_told_with_what_to_do() {
    let world = World::new();
    let output = world.run(&["kernel", "watch", "nowhere"], b"");
    let said = common::complaint(&output);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("nowhere") && said.contains("make it, or name another"), "{said}");
}
