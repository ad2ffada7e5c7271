//! What is known to be in the watched folders: what a rescan is compared with.

use std::collections::BTreeMap;
use std::ops::Bound;

/// Paths, and whether each is a folder.
#[derive(Clone, Debug, Default)]
pub(super) struct Known(BTreeMap<Vec<u8>, bool>);

/// Whether `path` is `folder` or lies below it.
pub(super) fn is_within(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/") || folder == b"/")
}

impl Known {
    /// Something is there. True when it was not known.
    pub(super) fn add(&mut self, path: &[u8], folder: bool) -> bool {
        self.0.insert(path.to_vec(), folder).is_none()
    }

    /// It is gone.
    pub(super) fn remove(&mut self, path: &[u8]) {
        self.0.remove(path);
    }

    /// All that is known at or below a folder, deepest last.
    pub(super) fn within(&self, folder: &[u8]) -> Vec<(Vec<u8>, bool)> {
        let from = self.0.range::<[u8], _>((Bound::Included(folder), Bound::Unbounded));
        let near = from.take_while(|(path, _)| path.starts_with(folder));
        near.filter(|(path, _)| is_within(path, folder)).map(|(p, f)| (p.clone(), *f)).collect()
    }

    /// A path has moved, with all that is below it.
    pub(super) fn moved(&mut self, old: &[u8], new: &[u8]) {
        for (path, folder) in self.within(old) {
            self.0.remove(&path);
            let rest = path.get(old.len()..).unwrap_or_default();
            self.0.insert([new, rest].concat(), folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_takes_along_what_is_below_and_nothing_else() {
        let mut known = Known::default();
        for path in ["/w/a", "/w/a/x", "/w/a/b/y", "/w/a-b", "/w/ab"] {
            assert!(known.add(path.as_bytes(), false));
        }
        known.moved(b"/w/a", b"/w/c");
        let all: Vec<String> =
            known.within(b"/w").into_iter().map(|(p, _)| String::from_utf8(p).unwrap()).collect();
        assert_eq!(all, ["/w/a-b", "/w/ab", "/w/c", "/w/c/b/y", "/w/c/x"]);
        assert!(!known.add(b"/w/c", false));
    }
}
