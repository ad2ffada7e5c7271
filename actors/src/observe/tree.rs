//! The processes that came from one: who is in, who was, and how sure that is.

use crate::sources::lineage::Change;
use std::collections::HashMap;

/// What is known of a process id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// It is, or was, a process of the tree, and nobody else had the id meanwhile.
    Inside {
        /// When the process started, BOOTTIME in nanoseconds.
        start_ns: u64,
    },
    /// A process of the tree had it and has ended; another process has had it since.
    Reused,
    /// It never was one.
    Outside,
}

/// How long after its end a process may still be what an effect names, ns: ends and effects are told by different sources.
const LINGERS_NS: u64 = 1_000_000_000;

/// A process of the tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Member {
    start_ns: u64,
    /// When it ended; `None` while it runs.
    ended_ns: Option<u64>,
    reused: bool,
}

/// The tree below one process.
#[derive(Clone, Debug)]
pub struct Tree {
    /// A process that takes over the orphans of this tree, and has no children of its own besides.
    reaper: Option<u32>,
    members: HashMap<u32, Member>,
}

impl Tree {
    /// The tree of `root`; with a `reaper`, all of whose children belong to the tree.
    pub fn new(reaper: Option<u32>, root: u32, start_ns: u64) -> Self {
        let root = (root, Member { start_ns, ended_ns: None, reused: false });
        Tree { reaper, members: HashMap::from([root]) }
    }

    /// Takes a change in. True when it is about a process of the tree.
    pub fn take(&mut self, change: &Change) -> bool {
        match *change {
            Change::Started { parent, tgid, start_ns, .. } => {
                let inside = self.reaper == Some(parent) || self.is_running(parent);
                match self.members.get_mut(&tgid) {
                    // The same process told once more, be it the root: an id in use is given to nobody else.
                    Some(member) if member.ended_ns.is_none() => return false,
                    Some(member) if !inside => member.reused = true,
                    // An id that comes back within the tree belongs to the tree all the same.
                    _ if inside => {
                        self.members.insert(tgid, Member { start_ns, ended_ns: None, reused: false });
                    }
                    _ => {}
                }
                inside
            }
            Change::Executed { tgid, .. } => self.is_running(tgid),
            Change::Exited { tgid, at_ns, .. } => match self.members.get_mut(&tgid) {
                Some(member) if member.ended_ns.is_none() => {
                    member.ended_ns = Some(at_ns);
                    true
                }
                _ => false,
            },
        }
    }

    /// A process that is known to belong to the tree, whoever its parent is.
    pub fn join(&mut self, tgid: u32, start_ns: u64) {
        self.members.insert(tgid, Member { start_ns, ended_ns: None, reused: false });
    }

    fn is_running(&self, tgid: u32) -> bool {
        self.members.get(&tgid).is_some_and(|m| m.ended_ns.is_none())
    }

    /// What is known of a process id.
    pub fn place(&self, tgid: u32) -> Place {
        match self.members.get(&tgid) {
            Some(member) if member.reused => Place::Reused,
            Some(member) => Place::Inside { start_ns: member.start_ns },
            None => Place::Outside,
        }
    }

    /// As [`Tree::place`], for what happened at `not_before_ns` or later: long after the end of a process its id is
    /// somebody else's, though nobody told so.
    pub fn place_at(&self, tgid: u32, not_before_ns: u64) -> Place {
        let ended = self.members.get(&tgid).and_then(|m| m.ended_ns);
        match ended {
            Some(ended) if not_before_ns > ended.saturating_add(LINGERS_NS) => Place::Outside,
            _ => self.place(tgid),
        }
    }

    /// The processes that have not ended, in the order of their ids.
    pub fn running(&self) -> Vec<u32> {
        let mut running: Vec<u32> =
            self.members.iter().filter(|(_, m)| m.ended_ns.is_none()).map(|(tgid, _)| *tgid).collect();
        running.sort_unstable();
        running
    }

    /// How many processes there were, the root counted.
    pub fn count(&self) -> usize {
        self.members.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: u32 = 10;

    fn start(parent: u32, tgid: u32) -> Change {
        Change::Started { parent, tgid, at_ns: 5, start_ns: 5 }
    }

    fn exit(tgid: u32) -> Change {
        Change::Exited { tgid, at_ns: 6, status: None }
    }

    #[test]
    fn whoever_comes_from_the_root_is_inside_and_stays_so_after_its_end() {
        let mut tree = Tree::new(None, ROOT, 1);
        assert!(tree.take(&start(ROOT, 11)) && tree.take(&start(11, 12)));
        assert!(!tree.take(&start(2, 20)));
        assert!(tree.take(&exit(11)) && !tree.take(&exit(20)));
        assert_eq!(tree.place(11), Place::Inside { start_ns: 5 });
        assert_eq!(tree.place(20), Place::Outside);
        assert_eq!(tree.running(), [ROOT, 12]);
    }

    #[test]
    fn an_orphan_that_a_reaper_takes_over_is_inside() {
        assert!(!Tree::new(None, ROOT, 1).take(&start(1, 30)));
        let mut tree = Tree::new(Some(1), ROOT, 1);
        assert!(tree.take(&start(1, 30)));
        assert_eq!(tree.place(30), Place::Inside { start_ns: 5 });
    }

    #[test]
    fn an_id_that_somebody_else_gets_is_no_longer_sure() {
        let mut tree = Tree::new(None, ROOT, 1);
        tree.take(&start(ROOT, 11));
        tree.take(&exit(11));
        assert!(!tree.take(&start(2, 11)));
        assert_eq!(tree.place(11), Place::Reused);
        // A child of that stranger is none of the tree.
        assert!(!tree.take(&start(11, 12)));
        assert_eq!(tree.place(12), Place::Outside);
        // The id comes back within the tree.
        assert!(tree.take(&start(ROOT, 11)));
        assert_eq!(tree.place(11), Place::Inside { start_ns: 5 });
    }

    #[test]
    fn what_happens_long_after_the_end_of_a_process_is_none_of_its() {
        let mut tree = Tree::new(None, ROOT, 1);
        tree.take(&start(ROOT, 11));
        tree.take(&exit(11));
        assert_eq!(tree.place_at(11, 6 + LINGERS_NS), Place::Inside { start_ns: 5 });
        assert_eq!(tree.place_at(11, 7 + LINGERS_NS), Place::Outside);
        assert_eq!(tree.place_at(ROOT, u64::MAX), Place::Inside { start_ns: 1 });
    }

    #[test]
    fn a_process_told_twice_is_one() {
        let mut tree = Tree::new(None, ROOT, 1);
        assert!(!tree.take(&start(2, ROOT)), "the root itself, whose parent is outside");
        assert!(tree.take(&start(ROOT, 11)) && !tree.take(&start(ROOT, 11)));
        assert_eq!((tree.count(), tree.running()), (2, vec![ROOT, 11]));
    }
}
