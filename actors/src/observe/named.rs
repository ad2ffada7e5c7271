//! Which paths the words of a call name.

use std::path::{Component, Path, PathBuf};

/// The path without `.` and `..`, as far as names alone tell.
pub fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(out.pop()),
            other => out.push(other),
        }
    }
    out
}

/// What a call was given, and where.
#[derive(Clone, Debug, Default)]
pub struct Words {
    cwd: PathBuf,
    words: Vec<String>,
    /// Each word as a path.
    paths: Vec<PathBuf>,
}

impl Words {
    /// The words of a call that was made in `cwd`.
    pub fn new(words: Vec<String>, cwd: &Path) -> Self {
        let paths = words.iter().filter(|w| !w.is_empty()).map(|w| plain(&cwd.join(w))).collect();
        Words { cwd: plain(cwd), words, paths }
    }

    /// Whether a word as a whole is this path.
    pub fn are(&self, path: &Path) -> bool {
        self.paths.iter().any(|p| p == path)
    }

    /// Whether this path is named, as a word or within one: a command line may be one word.
    pub fn name(&self, path: &Path) -> bool {
        let last = |rest: &str| !rest.starts_with(|c: char| c != '/' && is_part(c));
        self.are(path) || self.mention(path, last)
    }

    /// The nearest folder above this path that is named, and so what is below it. Where the call was made says nothing of
    /// what it does: the working folder and those above it have to be named relatively, as `.` is.
    pub fn folder_above<'p>(&self, path: &'p Path) -> Option<&'p Path> {
        // Of `src/x` it is `x` that is named.
        let last = |rest: &str| !rest.trim_start_matches('/').starts_with(is_part);
        path.ancestors().skip(1).find(|folder| {
            if self.cwd.starts_with(folder) {
                let relative = |w: &&String| !w.is_empty() && !Path::new(w).is_absolute();
                return self.words.iter().filter(relative).any(|w| plain(&self.cwd.join(w)) == **folder);
            }
            self.are(folder) || self.mention(folder, last)
        })
    }

    /// Whether a word contains the path, as such or as seen from the working folder, and what is behind it there ends it.
    fn mention(&self, path: &Path, ends: impl Fn(&str) -> bool) -> bool {
        let near = path.strip_prefix(&self.cwd).ok().filter(|p| !p.as_os_str().is_empty());
        let forms = [Some(path), near].into_iter().flatten().map(Path::to_string_lossy);
        forms.into_iter().any(|form| self.words.iter().any(|w| contains(w, &form, &ends)))
    }
}

/// Whether a letter may belong to a path.
fn is_part(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/')
}

/// Whether `text` names `path` as a whole: no letter of a longer name stands before or behind it.
fn contains(text: &str, path: &str, ends: impl Fn(&str) -> bool) -> bool {
    !path.is_empty()
        && text.match_indices(path).any(|(at, _)| {
            let before = text.get(..at).unwrap_or_default();
            let behind = text.get(at + path.len()..).unwrap_or_default();
            // A full stop may end a sentence as well as begin an extension.
            let behind = behind.strip_prefix('.').filter(|rest| !rest.starts_with(is_part)).unwrap_or(behind);
            ends(behind) && (!before.ends_with(is_part) || before.ends_with("./"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Words {
        Words::new(words.iter().map(|w| (*w).to_owned()).collect(), Path::new("/w"))
    }

    #[test]
    fn a_path_is_named_only_as_a_whole() {
        for (text, path, expected) in [
            ("echo x > a.txt", "/w/a.txt", true),
            ("echo x > ba.txt", "/w/a.txt", false),
            ("echo x > a.txt.bak", "/w/a.txt", false),
            ("see a.txt.", "/w/a.txt", true),
            ("rm -r dir/", "/w/dir", true),
            ("mkdir -p dir/x", "/w/dir", true),
            ("rm ./dir", "/w/dir", true),
            ("rm ../dir", "/w/dir", true),
            ("rm x/dir", "/w/dir", false),
            ("cat '/w/a b'", "/w/a b", true),
            ("../b", "/b", true),
        ] {
            assert_eq!(words(&[text]).name(Path::new(path)), expected, "{text} {path}");
        }
        assert!(words(&["cp", "./x/../out"]).are(Path::new("/w/out")));
        assert!(!words(&["cp out"]).are(Path::new("/w/out")), "that is no path but a command line");
    }

    #[test]
    fn a_named_folder_covers_what_is_below_it() {
        for (given, path, expected) in [
            (&["rm", "-r", "dir"][..], "/w/dir/a/b", Some("/w/dir")),
            (&["rm -r dir/"], "/w/dir/a", Some("/w/dir")),
            (&["rm -r dir; true"], "/w/dir/a", Some("/w/dir")),
            (&["rm -r /x/dir"], "/x/dir/a", Some("/x/dir")),
            (&["rm", "-r", "dir", "dir/a"], "/w/dir/a/b", Some("/w/dir/a")),
            (&["../x"], "/x/a", Some("/x")),
            // It is the file that is named, not its folder.
            (&["cat dir/x"], "/w/dir/a", None),
            (&["cat", "dir/x"], "/w/dir/a", None),
            (&["rm -r mydir"], "/w/dir/a", None),
            // Where a call is made is not what it does.
            (&["cd /w && make"], "/w/a", None),
            (&["/w"], "/w/a", None),
            (&["/"], "/w/a", None),
            (&["fmt", "."], "/w/a", Some("/w")),
            (&["fmt", ".."], "/w/a", Some("/")),
        ] {
            let found = words(given).folder_above(Path::new(path)).map(Path::to_path_buf);
            assert_eq!(found, expected.map(PathBuf::from), "{given:?} {path}");
        }
    }
}
