//! Files that were opened to be written: whether they were is seen when their size or their time has changed.
//!
//! Writing itself is not looked at, for it is too frequent. A file is looked at again when a later call works on it, and now and
//! then, ever more seldom, until the first change was told.

use super::place::State;
use crate::sources::{KernelRecord, ObjectId, Op, Phase, Who};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// Files that are followed; beyond it any of them is given up for a new one.
pub(super) const FOLLOWED_MAX: usize = 65_536;
/// When a file is looked at first, in nanoseconds; each time after twice as long.
const FIRST_LOOK_NS: i64 = 10_000_000;

/// Device and inode.
type Object = (u64, u64);

#[derive(Debug)]
struct Follow {
    path: Vec<u8>,
    size: u64,
    written_ns: i128,
    who: Who,
    /// Several processes opened it.
    several: bool,
    /// Until then it was as it had been.
    as_it_was_ns: i64,
    wait_ns: i64,
    due_ns: i64,
}

/// Files that are followed.
#[derive(Debug, Default)]
pub(super) struct Follows {
    open: HashMap<Object, Follow>,
    /// What each thread opened last.
    last: HashMap<u32, Object>,
    /// When to look at which; one that is not due then any more is passed over.
    due: BinaryHeap<Reverse<(i64, Object)>>,
}

impl Follows {
    /// A process has it open from now on, as `state` shows it.
    pub(super) fn opened(&mut self, path: Vec<u8>, state: &State, who: Who, now_ns: i64) {
        if self.open.len() >= FOLLOWED_MAX {
            self.last.clear();
            let any = self.open.keys().next().copied();
            any.and_then(|object| self.open.remove(&object));
        }
        let due_ns = now_ns + FIRST_LOOK_NS;
        let several =
            self.open.get(&state.object()).is_some_and(|f| f.several || f.who.process != who.process);
        let follow = Follow {
            path,
            size: state.size,
            written_ns: state.written_ns,
            who,
            several,
            as_it_was_ns: now_ns,
            wait_ns: FIRST_LOOK_NS,
            due_ns,
        };
        self.last.insert(follow.who.thread, state.object());
        self.open.insert(state.object(), follow);
        self.due.push(Reverse((due_ns, state.object())));
    }

    /// What the file's state tells, if it is followed: a record when it was written.
    pub(super) fn seen(&mut self, state: &State, now_ns: i64) -> Option<KernelRecord> {
        let follow = self.open.get_mut(&state.object())?;
        if follow.size == state.size && follow.written_ns == state.written_ns {
            follow.as_it_was_ns = now_ns;
            return None;
        }
        let follow = self.open.remove(&state.object())?;
        self.last.remove(&follow.who.thread);
        let since = (follow.as_it_was_ns, now_ns);
        let mut record = written(follow.path, state, follow.who, since);
        record.merged = follow.several;
        Some(record)
    }

    /// What else than writing changed the file: it counts as unwritten as it is now.
    pub(super) fn changed_otherwise(&mut self, state: &State) {
        if let Some(follow) = self.open.get_mut(&state.object()) {
            (follow.size, follow.written_ns) = (state.size, state.written_ns);
        }
    }

    /// Its last name is gone.
    pub(super) fn removed(&mut self, state: &State) {
        self.open.remove(&state.object());
    }

    /// A file, or a folder and all below, has another name.
    pub(super) fn moved(&mut self, state: &State, from: &[u8], to: &[u8]) {
        if state.kind() != rustix::fs::FileType::Directory {
            if let Some(follow) = self.open.get_mut(&state.object()).filter(|f| f.path == from) {
                follow.path = to.to_vec();
            }
            return;
        }
        for follow in self.open.values_mut() {
            if let Some(rest) = follow.path.strip_prefix(from).filter(|r| r.starts_with(b"/")) {
                follow.path = [to, rest].concat();
            }
        }
    }

    /// What the thread opened last, if that is still followed: by its next call it has often written it.
    pub(super) fn last_of(&mut self, thread: u32) -> Option<(Object, Vec<u8>)> {
        let object = *self.last.get(&thread)?;
        let follow = self.open.get(&object).filter(|f| f.who.thread == thread);
        if follow.is_none() {
            self.last.remove(&thread);
        }
        follow.map(|f| (object, f.path.clone()))
    }

    /// When somebody has to be looked at.
    pub(super) fn next_due_ns(&self) -> Option<i64> {
        self.due.peek().map(|Reverse((due_ns, _))| *due_ns)
    }

    /// The path of one that is due by `now_ns`, which will be due again later.
    pub(super) fn due(&mut self, now_ns: i64) -> Option<(Object, Vec<u8>)> {
        while self.next_due_ns()? <= now_ns {
            let Reverse((due_ns, object)) = self.due.pop()?;
            let Some(follow) = self.open.get_mut(&object).filter(|f| f.due_ns == due_ns) else { continue };
            follow.wait_ns = follow.wait_ns.saturating_mul(2);
            follow.due_ns = now_ns.saturating_add(follow.wait_ns);
            self.due.push(Reverse((follow.due_ns, object)));
            return Some((object, follow.path.clone()));
        }
        None
    }

    /// All that are followed, in the order in which they were opened or last looked at.
    pub(super) fn all(&self) -> Vec<(Object, Vec<u8>)> {
        let mut all: Vec<_> = self.open.iter().map(|(o, f)| (f.as_it_was_ns, *o, f.path.clone())).collect();
        all.sort();
        all.into_iter().map(|(_, object, path)| (object, path)).collect()
    }

    /// Something else has its name, or nothing.
    pub(super) fn give_up(&mut self, object: Object) {
        self.open.remove(&object);
    }
}

/// The record of a file that was written between two looks at it.
pub(super) fn written(path: Vec<u8>, state: &State, who: Who, (from_ns, to_ns): (i64, i64)) -> KernelRecord {
    let mut record = KernelRecord::new(Op::Write, Phase::Observed, to_ns);
    record.time_error_ns = u32::try_from(to_ns - from_ns).unwrap_or(u32::MAX);
    record.who = who;
    record.path.path = path;
    record.object = Some(ObjectId { device: state.device, inode: state.inode, handle: Vec::new() });
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(inode: u64, size: u64) -> State {
        State {
            device: 1,
            inode,
            mode: 0o100_644,
            owner: (0, 0),
            links: 1,
            size,
            read_ns: 0,
            written_ns: 0,
            changed_ns: 0,
        }
    }

    fn opened(follows: &mut Follows, inode: u64, process: u32) {
        let path = format!("/w/{inode}").into_bytes();
        follows.opened(path, &state(inode, 0), Who { process, ..Who::default() }, 1_000);
    }

    #[test]
    fn a_write_is_told_once_and_by_the_name_that_the_file_has_by_then() {
        let mut follows = Follows::default();
        opened(&mut follows, 1, 7);
        assert_eq!(follows.seen(&state(1, 0), 2_000), None);
        follows.moved(&state(1, 0), b"/w/1", b"/w/one");
        let folder = State { mode: 0o040_755, ..state(9, 0) };
        follows.moved(&folder, b"/w", b"/x");
        let record = follows.seen(&state(1, 3), 5_000).unwrap();
        assert_eq!((record.path.path.as_slice(), record.who.process), (&b"/x/one"[..], 7));
        assert_eq!((record.boot_ns, record.time_error_ns, record.merged), (5_000, 3_000, false));
        assert_eq!(follows.seen(&state(1, 9), 6_000), None);
    }

    #[test]
    fn what_is_no_write_is_not_told() {
        let mut follows = Follows::default();
        opened(&mut follows, 1, 7);
        follows.changed_otherwise(&State { written_ns: 5, ..state(1, 0) });
        assert_eq!(follows.seen(&State { written_ns: 5, ..state(1, 0) }, 2_000), None);
        follows.removed(&state(1, 0));
        assert_eq!(follows.seen(&state(1, 8), 3_000), None);
    }

    #[test]
    fn two_writers_are_one_record_that_says_so() {
        let mut follows = Follows::default();
        opened(&mut follows, 1, 7);
        opened(&mut follows, 1, 8);
        assert!(follows.seen(&state(1, 3), 5_000).unwrap().merged);
    }

    #[test]
    fn a_file_is_looked_at_ever_more_seldom() {
        let mut follows = Follows::default();
        opened(&mut follows, 1, 7);
        let (mut now, mut looks) = (1_000, 0);
        while now < 10_000_000_000 {
            now = follows.next_due_ns().unwrap();
            looks += u32::from(follows.due(now).is_some());
        }
        assert_eq!(looks, 10);
        assert_eq!(follows.due(now), None);
    }

    #[test]
    fn there_is_an_end_to_what_is_followed() {
        let mut follows = Follows::default();
        (0..=FOLLOWED_MAX as u64).for_each(|inode| opened(&mut follows, inode, 7));
        assert_eq!(follows.all().len(), FOLLOWED_MAX);
    }
}
