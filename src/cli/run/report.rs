//! What is said about a call when it has ended.

use super::launch::End;
use crate::cli::{escape, out};
use semj::observe::{Call, Coverage, Done, Finished, Op};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;

/// Paths that people are shown.
const PATHS_SHOWN: usize = 20;

/// All that is known at the end.
pub(super) struct Report<'a> {
    pub(super) call: &'a Call,
    pub(super) cwd: &'a Path,
    pub(super) coverage: &'a Coverage,
    pub(super) ended: End,
    pub(super) duration_ns: i64,
    pub(super) finished: &'a Finished,
}

impl Report<'_> {
    /// For people: a line, then a line per path.
    pub(super) fn text(&self) -> String {
        let (f, touched) = (self.finished, &self.finished.touched);
        let how = match self.ended {
            End::Exit(code) => format!("exit {code}"),
            End::Signal(signal) => format!("signal {signal}"),
        };
        let mut text = format!(
            "semj: {how} after {:.1} ms; {} processes, {} effects on {} paths, seen by {}{}\n",
            self.duration_ns as f64 / 1e6,
            out::count(f.processes),
            out::count(touched.effects()),
            out::count(touched.paths.len() as u64),
            self.coverage.source,
            if f.is_complete { "" } else { ", not complete" },
        );
        for (path, done) in touched.paths.iter().take(PATHS_SHOWN) {
            let _ = writeln!(text, "  {}  {}", escape::column(&words(done), 36), self.shown(path, done));
        }
        let more = touched.paths.len().saturating_sub(PATHS_SHOWN);
        if more > 0 {
            let all: Vec<String> =
                touched.ops.iter().map(|(op, n)| format!("{} {}", out::count(*n), word(*op))).collect();
            let _ = writeln!(text, "  and {} more paths; in all {}", out::count(more as u64), all.join(", "));
        }
        if f.external > 0 {
            let _ = writeln!(
                text,
                "  {} changes in the watched folders were not its own",
                out::count(f.external)
            );
        }
        if f.failed_calls > 0 {
            let _ = writeln!(text, "  {} calls that failed", out::count(f.failed_calls));
        }
        if f.gaps > 0 {
            let _ = writeln!(text, "  {} gaps, {} or more records missing", f.gaps, out::count(f.lost));
        }
        if !f.orphans.is_empty() {
            let names: Vec<String> = f.orphans.iter().map(|(pid, name)| format!("{name} ({pid})")).collect();
            let _ = writeln!(text, "  still running: {}", escape::line(&names.join(", ")));
        }
        let _ = writeln!(text, "  semj impact {}", self.call.id);
        text
    }

    /// For programs: one object on one line.
    pub(super) fn json(&self) -> String {
        let f = self.finished;
        let paths: Vec<Value> = f
            .touched
            .paths
            .iter()
            .map(|(path, done)| {
                let ops: serde_json::Map<String, Value> =
                    done.ops.iter().map(|(op, n)| (word(*op).to_owned(), (*n).into())).collect();
                let mut line = json!({ "path": String::from_utf8_lossy(path), "did": ops });
                if !done.target.is_empty()
                    && let Some(line) = line.as_object_mut()
                {
                    line.insert("target".into(), String::from_utf8_lossy(&done.target).into());
                }
                line
            })
            .collect();
        let orphans: Vec<Value> =
            f.orphans.iter().map(|(pid, name)| json!({ "pid": pid, "name": name })).collect();
        let value = json!({
            "call": self.call.id.to_string(),
            "session": self.call.session,
            "source": self.coverage.source,
            "exit_code": self.ended.code(),
            "signal": self.ended.signal(),
            "duration_ns": self.duration_ns,
            "processes": f.processes,
            "effects": f.touched.effects(),
            "external_changes": f.external,
            "failed_calls": f.failed_calls,
            "gaps": f.gaps,
            "lost": f.lost,
            "complete": f.is_complete,
            "orphans": orphans,
            "paths": paths,
        });
        format!("{}\n", out::json_line(&value))
    }

    fn shown(&self, path: &[u8], done: &Done) -> String {
        let short = |path: &[u8]| {
            use std::os::unix::ffi::OsStrExt as _;
            let path = Path::new(std::ffi::OsStr::from_bytes(path));
            let near = path.strip_prefix(self.cwd).ok().filter(|p| !p.as_os_str().is_empty());
            escape::line(&near.unwrap_or(path).to_string_lossy())
        };
        if path.is_empty() {
            "(path not known)".to_owned()
        } else if done.target.is_empty() {
            short(path)
        } else {
            format!("{} -> {}", short(path), short(&done.target))
        }
    }
}

fn words(done: &Done) -> String {
    let each = done.ops.iter().map(|(op, n)| match n {
        1 => word(*op).to_owned(),
        n => format!("{} x{n}", word(*op)),
    });
    each.collect::<Vec<_>>().join(", ")
}

/// An effect in a word.
pub(crate) fn word(op: Op) -> &'static str {
    match op {
        Op::Create => "created",
        Op::Write => "written",
        Op::Delete => "deleted",
        Op::Rename => "renamed",
        Op::Mkdir => "mkdir",
        Op::Rmdir => "rmdir",
        Op::Symlink => "symlink",
        Op::Hardlink => "hardlink",
        Op::Truncate => "truncated",
        Op::Sync => "synced",
        Op::Chmod | Op::Chown | Op::Attribute => "attributes",
        _ => "other",
    }
}
