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
            "semj: {how} after {:.1} ms; {}, {} on {}, seen by {}{}{}\n",
            self.duration_ns as f64 / 1e6,
            out::counted(f.processes, "process"),
            out::counted(touched.effects(), "effect"),
            out::counted(touched.paths.len() as u64, "path"),
            self.coverage.source,
            self.coverage.witness.map(|w| format!(" beside {w}")).unwrap_or_default(),
            if f.is_complete { "" } else { ", not complete" },
        );
        for (path, done) in touched.paths.iter().take(PATHS_SHOWN) {
            let _ = writeln!(text, "  {:<36}  {}", words(done), self.shown(path, done));
        }
        let more = touched.paths.len().saturating_sub(PATHS_SHOWN);
        if more > 0 {
            let all = by_word(&touched.ops).into_iter().map(|(word, n)| format!("{} {word}", out::count(n)));
            let all: Vec<String> = all.collect();
            let _ =
                writeln!(text, "  and {}; in all {}", out::counted(more as u64, "more path"), all.join(", "));
        }
        if f.external > 0 {
            let _ = writeln!(
                text,
                "  {} in the watched folders made by others",
                out::counted(f.external, "change")
            );
        }
        if f.failed_calls > 0 {
            let _ = writeln!(text, "  {} that failed", out::counted(f.failed_calls, "call"));
        }
        if f.intents > 0 {
            let _ = writeln!(
                text,
                "  {} more, of which nobody could see the outcome",
                out::counted(f.intents, "call")
            );
        }
        if f.gaps > 0 {
            let _ = writeln!(
                text,
                "  {}, {} or more records missing",
                out::counted(f.gaps, "gap"),
                out::count(f.lost)
            );
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
                    by_word(&done.ops).into_iter().map(|(word, n)| (word.to_owned(), n.into())).collect();
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
            "witness": self.coverage.witness,
            "exit_code": self.ended.code(),
            "signal": self.ended.signal(),
            "duration_ns": self.duration_ns,
            "processes": f.processes,
            "effects": f.touched.effects(),
            "external_changes": f.external,
            "intents": f.intents,
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
    let each = by_word(&done.ops).into_iter().map(|(word, n)| match n {
        1 => word.to_owned(),
        n => format!("{word} x{n}"),
    });
    each.collect::<Vec<_>>().join(", ")
}

/// How often what was done, in the given order; what has one word is one thing.
fn by_word(ops: &[(Op, u64)]) -> Vec<(&'static str, u64)> {
    let mut words: Vec<(&'static str, u64)> = Vec::new();
    for (op, n) in ops {
        match words.iter_mut().find(|(w, _)| *w == word(*op)) {
            Some((_, sum)) => *sum += n,
            None => words.push((word(*op), *n)),
        }
    }
    words
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_one_word_is_counted_as_one_thing() {
        let ops = [(Op::Chmod, 2), (Op::Write, 1), (Op::Attribute, 3)];
        assert_eq!(by_word(&ops), [("attributes", 5), ("written", 1)]);
        let done = Done { ops: ops.to_vec(), ..Done::default() };
        assert_eq!(words(&done), "attributes x5, written");
    }
}
