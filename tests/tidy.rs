//! A test that checks the sources: who may know whom, how long a file may be, and that what is listed exists.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const LINES_MAX: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below the folders that end in `extension`, with their text.
fn files(folders: &[&str], extension: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = folders.iter().map(|f| root().join(f)).filter(|f| f.exists()).collect();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|e| e == extension) {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
        }
    }
    assert!(!found.is_empty(), "nothing in {folders:?}: has a folder moved?");
    found.sort();
    found
}

/// The code of a line, without its comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or(line)
}

/// Asserts that no code below `folders` says one of `words`, but for the files in `except`.
fn never_says(folders: &[&str], words: &[&str], except: &[&str]) {
    for (path, text) in files(folders, "rs") {
        if except.iter().any(|e| path == Path::new(e)) {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            for word in words {
                assert!(!code(line).contains(word), "{}:{}: says {word}", path.display(), number + 1);
            }
        }
    }
}

#[test]
fn packages_know_only_what_lies_below_them() {
    never_says(&["storage/src"], &["actix", "tokio", "semj_actors", "semj::", "Instant::now"], &[]);
    never_says(&["actors/src"], &["semj::"], &[]);
    never_says(&["sys/src"], &["actix", "tokio", "semj_actors", "semj_storage", "semj::"], &[]);
    never_says(&["src"], &["actix::", "actix_rt", "tokio", "sled::"], &["src/actix.rs"]);
    let manifest = fs::read_to_string(root().join("storage/Cargo.toml")).unwrap();
    for name in ["actix", "tokio", "crossbeam"] {
        assert!(!manifest.contains(name), "storage depends on {name}");
    }
}

#[test]
fn what_outlives_actors_and_pure_logic_know_no_actix() {
    let pure = [
        "actors/src/ledger",
        "actors/src/cores",
        "actors/src/stages",
        "actors/src/supervision",
        "actors/src/watermark.rs",
        "actors/src/pipeline.rs",
        "actors/src/run.rs",
        "actors/src/restart.rs",
    ];
    never_says(&pure, &["actix", "tokio"], &["actors/src/supervision/cell.rs"]);
}

#[test]
fn unsafe_code_is_in_one_package_and_every_block_says_why() {
    never_says(
        &["src", "actors", "storage", "examples", "tests"],
        &[["uns", "afe {"].concat().as_str()],
        &[],
    );
    let block = ["uns", "afe {"].concat();
    for (path, text) in files(&["sys"], "rs") {
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate().filter(|(_, l)| code(l).contains(&block)) {
            let reason = lines[number.saturating_sub(4)..number].iter().any(|l| l.contains("// SAFETY: "));
            assert!(reason, "{}:{}: {line}: no reason", path.display(), number + 1);
        }
    }
}

#[test]
fn no_source_is_too_long() {
    for (path, text) in files(&["src", "actors/src", "storage/src", "sys/src", "examples"], "rs") {
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{}: {lines} lines, the limit is {LINES_MAX}", path.display());
    }
}

#[test]
fn nothing_is_left_undone_and_nothing_points_outside() {
    // Put together, so that this file does not find itself.
    let words = [["to", "do!("], ["unimple", "mented!("], ["/wo", "rk/"], [".lib", "rary"], ["/tmp", "/wt"]];
    let words = words.map(|[a, b]| format!("{a}{b}"));
    let mut all = files(&["src", "actors", "storage", "sys", "tests", "examples"], "rs");
    all.extend(files(&["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs"], "md"));
    for (path, text) in all {
        for word in &words {
            assert!(!text.contains(word.as_str()), "{}: says {word}", path.display());
        }
    }
}

#[test]
fn every_message_is_in_the_architecture_document() {
    let document = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut messages = 0;
    for (path, text) in files(&["actors/src/messages", "src/actix.rs"], "rs") {
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if !(line.starts_with("#[derive(") && line.contains("Message")) {
                continue;
            }
            let item = lines.find(|l| l.starts_with("pub struct ")).unwrap();
            let name = item.trim_start_matches("pub struct ");
            let name = name.split(|c: char| !c.is_alphanumeric()).next().unwrap();
            assert!(
                document.contains(&format!("`{name}`")),
                "{}: {name} is not in ARCHITECTURE.md",
                path.display()
            );
            messages += 1;
        }
    }
    assert!(messages >= 9, "only {messages} messages found: does this test still see them?");
}

#[test]
fn every_metric_is_described() {
    let text = fs::read_to_string(root().join("actors/src/metrics.rs")).unwrap();
    let mut metrics = 0;
    for line in text.lines().filter(|l| l.starts_with("const ") && l.contains("\"semj_")) {
        let name = line.trim_start_matches("const ").split(':').next().unwrap();
        let described = text.lines().any(|l| l.contains("describe_") && l.contains(&format!("({name},")));
        assert!(described, "{name} is not described");
        metrics += 1;
    }
    assert!(metrics > 0, "no metric found: does this test still see them?");
}

#[test]
fn links_in_documents_lead_somewhere() {
    for (path, text) in files(&["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs"], "md") {
        let folder = root().join(path.parent().unwrap());
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap();
            if !file.is_empty() && !file.contains("://") {
                assert!(folder.join(file).exists(), "{}: {target} does not exist", path.display());
            }
        }
    }
}

#[test]
fn every_failpoint_is_listed_and_stands_for_one_place() {
    let lists =
        [("storage/src", semj_storage::chaos::POINTS), ("actors/src", semj_actors::chaos::STAGE_POINTS)];
    for (folder, listed) in lists {
        let call = ["chaos::", "point(\""].concat();
        let mut found = Vec::new();
        for (_, text) in files(&[folder], "rs") {
            let names = text.split(&call).skip(1).filter_map(|rest| rest.split('"').next());
            found.extend(names.map(str::to_owned));
        }
        // A handler has the same name in each of its messages.
        let is_shared =
            |name: &str| [":message", ":recover", ":start", ":timer"].iter().any(|e| name.ends_with(e));
        let once: Vec<_> = found.iter().filter(|name| !is_shared(name)).collect();
        let unique: BTreeSet<_> = once.iter().collect();
        assert_eq!(once.len(), unique.len(), "{folder}: a name stands for one place: {once:?}");
        let found: BTreeSet<&str> = found.iter().map(String::as_str).collect();
        assert_eq!(found, listed.iter().copied().collect(), "{folder}");
        assert_eq!(found.len(), listed.len(), "{folder}: listed twice");
    }
}
