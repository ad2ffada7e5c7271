//! The simulated disk: what the running program sees (live) beside what is on the platter (durable).
//!
//! Invariants:
//! 1. A node has at most one place on each side: there are no hard links.
//! 2. `durable` plus `pending` in order gives `live`, except for bytes a failed sync made the system
//!    forget: those are in `live` only and nothing brings them to the platter.
//! 3. `changes` holds, in order, the directory changes that are live and not durable.

use super::DirectoryRule;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

pub(super) type NodeId = u64;
pub(super) type Place = (NodeId, OsString);

/// The root directory; it needs no sync to exist.
pub(super) const ROOT: NodeId = 0;
/// Longest simulated file: more is a broken length field, not a test.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// A change to a file that no sync has covered yet.
#[derive(Clone, Debug)]
pub(super) enum Unsynced {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

/// A change to directories that no sync has covered yet; each is atomic.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Link { to: Place, node: NodeId },
    Unlink { from: Place },
    Rename { from: Place, to: Place, node: NodeId },
}

impl Change {
    fn placed(&self) -> Option<NodeId> {
        match self {
            Change::Link { node, .. } | Change::Rename { node, .. } => Some(*node),
            Change::Unlink { .. } => None,
        }
    }

    fn touches(&self, directory: NodeId) -> bool {
        match self {
            Change::Link { to: place, .. } | Change::Unlink { from: place } => place.0 == directory,
            Change::Rename { from, to, .. } => from.0 == directory || to.0 == directory,
        }
    }
}

/// Which of the two worlds an operation works on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Live,
    Durable,
}

/// Two values, one for each side.
#[derive(Clone, Debug, Default)]
pub(super) struct Sides<T> {
    pub(super) live: T,
    pub(super) durable: T,
}

impl<T> Sides<T> {
    pub(super) fn of(&self, side: Side) -> &T {
        match side {
            Side::Live => &self.live,
            Side::Durable => &self.durable,
        }
    }

    pub(super) fn of_mut(&mut self, side: Side) -> &mut T {
        match side {
            Side::Live => &mut self.live,
            Side::Durable => &mut self.durable,
        }
    }
}

/// A file's content on both sides. The buffers are shared with crash images until one side writes.
#[derive(Clone, Debug, Default)]
pub(super) struct FileNode {
    pub(super) bytes: Sides<Arc<Vec<u8>>>,
    pub(super) pending: Vec<Unsynced>,
    /// Open handles; a file without a name lives as long as one is left.
    pub(super) handles: usize,
    /// The handle that holds the lock.
    pub(super) lock: Option<u64>,
}

#[derive(Clone, Debug)]
pub(super) enum Body {
    File(FileNode),
    Directory(Sides<BTreeMap<OsString, NodeId>>),
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Sides<Option<Place>>,
    pub(super) body: Body,
}

/// The whole disk.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    pub(super) rule: DirectoryRule,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) changes: Vec<Change>,
    pub(super) next: NodeId,
}

/// Writes into a buffer that grows as needed; a gap reads as zeros.
pub(super) fn put(buffer: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if buffer.len() < end {
        buffer.resize(end, 0);
    }
    if let Some(slot) = buffer.get_mut(offset..end) {
        slot.copy_from_slice(bytes);
    }
}

pub(super) fn apply_to_bytes(buffer: &mut Vec<u8>, change: &Unsynced) {
    match change {
        Unsynced::Write { offset, bytes } => put(buffer, *offset, bytes),
        Unsynced::SetLen(length) => buffer.resize(*length, 0),
    }
}

/// A position inside a simulated file, or `EFBIG`.
pub(super) fn checked_end(offset: u64, length: usize) -> io::Result<usize> {
    match offset.checked_add(length as u64) {
        Some(end) if end <= FILE_BYTES_MAX => Ok(end as usize),
        _ => Err(Errno::FBIG.into()),
    }
}

impl Disk {
    pub(super) fn new(rule: DirectoryRule) -> Self {
        let root = Node { place: Sides::default(), body: Body::Directory(Sides::default()) };
        Self { rule, nodes: BTreeMap::from([(ROOT, root)]), changes: Vec::new(), next: ROOT + 1 }
    }

    fn entries(&self, directory: NodeId) -> io::Result<&BTreeMap<OsString, NodeId>> {
        match self.nodes.get(&directory).map(|node| &node.body) {
            Some(Body::Directory(entries)) => Ok(&entries.live),
            Some(Body::File(_)) => Err(Errno::NOTDIR.into()),
            None => Err(Errno::NOENT.into()),
        }
    }

    /// The node at a path. `/a`, `a` and `./a` are the same; `..` is refused.
    pub(super) fn find(&self, path: &Path) -> io::Result<NodeId> {
        let mut node = ROOT;
        for component in path.components() {
            match component {
                Component::RootDir | Component::CurDir => {}
                Component::Normal(name) => {
                    node = *self.entries(node)?.get(name).ok_or(Errno::NOENT)?;
                }
                Component::ParentDir | Component::Prefix(_) => return Err(Errno::INVAL.into()),
            }
        }
        Ok(node)
    }

    /// The directory that holds a path, and the name in it.
    pub(super) fn place(&self, path: &Path) -> io::Result<Place> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let parent = self.find(path.parent().unwrap_or(Path::new("")))?;
        self.entries(parent)?;
        Ok((parent, name.to_owned()))
    }

    pub(super) fn at(&self, place: &Place) -> Option<NodeId> {
        self.entries(place.0).ok()?.get(&place.1).copied()
    }

    pub(super) fn names(&self, path: &Path) -> io::Result<Vec<String>> {
        let entries = self.entries(self.find(path)?)?;
        Ok(entries.keys().filter_map(|name| name.to_str()).map(str::to_owned).collect())
    }

    pub(super) fn is_directory(&self, node: NodeId) -> bool {
        matches!(self.nodes.get(&node), Some(Node { body: Body::Directory(_), .. }))
    }

    pub(super) fn file(&self, node: NodeId) -> io::Result<&FileNode> {
        match self.nodes.get(&node).map(|node| &node.body) {
            Some(Body::File(file)) => Ok(file),
            Some(Body::Directory(_)) => Err(Errno::ISDIR.into()),
            None => Err(Errno::NOENT.into()),
        }
    }

    pub(super) fn file_mut(&mut self, node: NodeId) -> io::Result<&mut FileNode> {
        match self.nodes.get_mut(&node).map(|node| &mut node.body) {
            Some(Body::File(file)) => Ok(file),
            Some(Body::Directory(_)) => Err(Errno::ISDIR.into()),
            None => Err(Errno::NOENT.into()),
        }
    }

    /// Makes an empty file or directory at a free place.
    pub(super) fn create(&mut self, to: Place, directory: bool) -> NodeId {
        let node = self.next;
        self.next += 1;
        let body =
            if directory { Body::Directory(Sides::default()) } else { Body::File(FileNode::default()) };
        self.nodes.insert(node, Node { place: Sides::default(), body });
        self.change(Change::Link { to, node });
        node
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (self.place(from)?, self.place(to)?);
        let node = self.at(&from).ok_or(Errno::NOENT)?;
        match self.at(&to) {
            Some(target) if target == node => return Ok(()),
            Some(target) if self.is_directory(target) => return Err(Errno::ISDIR.into()),
            Some(_) if self.is_directory(node) => return Err(Errno::NOTDIR.into()),
            _ => {}
        }
        let mut above = Some(to.0);
        while let Some(directory) = above {
            if directory == node {
                return Err(Errno::INVAL.into());
            }
            above = self.nodes.get(&directory).and_then(|n| n.place.live.as_ref()).map(|place| place.0);
        }
        self.change(Change::Rename { from, to, node });
        Ok(())
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        let from = self.place(path)?;
        self.file(self.at(&from).ok_or(Errno::NOENT)?)?;
        self.change(Change::Unlink { from });
        Ok(())
    }

    fn change(&mut self, change: Change) {
        self.apply(&change, Side::Live);
        self.changes.push(change);
    }

    /// Applies a directory change to one side, whatever that side holds at the moment.
    pub(super) fn apply(&mut self, change: &Change, side: Side) {
        match change {
            Change::Link { to, node } | Change::Rename { to, node, .. } => {
                if let Some(old) = self.nodes.get_mut(node).and_then(|n| n.place.of_mut(side).take()) {
                    self.unplace(&old, side);
                }
                self.unplace(to, side);
                if let Some(node) = self.nodes.get_mut(node) {
                    *node.place.of_mut(side) = Some(to.clone());
                }
                if let Some(entries) = self.entries_mut(to.0, side) {
                    entries.insert(to.1.clone(), *node);
                }
            }
            Change::Unlink { from } => self.unplace(from, side),
        }
    }

    fn entries_mut(&mut self, directory: NodeId, side: Side) -> Option<&mut BTreeMap<OsString, NodeId>> {
        match self.nodes.get_mut(&directory).map(|node| &mut node.body) {
            Some(Body::Directory(entries)) => Some(entries.of_mut(side)),
            _ => None,
        }
    }

    /// Empties a place and tells its node so (invariant 1).
    fn unplace(&mut self, place: &Place, side: Side) {
        let removed = self.entries_mut(place.0, side).and_then(|entries| entries.remove(&place.1));
        if let Some(node) = removed.and_then(|node| self.nodes.get_mut(&node)) {
            *node.place.of_mut(side) = None;
        }
    }

    /// Makes directory changes durable: all of them, or those that touch one directory.
    fn commit_changes(&mut self, only: Option<NodeId>) {
        let mut kept: Vec<Change> = Vec::new();
        for change in std::mem::take(&mut self.changes) {
            if only.is_some_and(|directory| !change.touches(directory)) {
                kept.push(change);
                continue;
            }
            if let Some(node) = change.placed() {
                // An older place of the node must not come back after the newer one is durable.
                kept.retain(|older| older.placed() != Some(node));
            }
            self.apply(&change, Side::Durable);
        }
        self.changes = kept;
        self.collect();
    }

    pub(super) fn sync_file(&mut self, node: NodeId) -> io::Result<()> {
        let file = self.file_mut(node)?;
        let pending = std::mem::take(&mut file.pending);
        if !pending.is_empty() {
            let durable = Arc::make_mut(&mut file.bytes.durable);
            pending.iter().for_each(|change| apply_to_bytes(durable, change));
        }
        if self.rule == DirectoryRule::Journal {
            self.commit_changes(None);
        }
        Ok(())
    }

    pub(super) fn sync_directory(&mut self, path: &Path) -> io::Result<()> {
        let directory = self.find(path)?;
        self.entries(directory)?;
        self.commit_changes((self.rule == DirectoryRule::Strict).then_some(directory));
        Ok(())
    }

    /// Frees the nodes that nothing can reach any more.
    pub(super) fn collect(&mut self) {
        let changes = &self.changes;
        self.nodes.retain(|id, node| {
            let open = matches!(&node.body, Body::File(file) if file.handles > 0);
            let placed = node.place.live.is_some() || node.place.durable.is_some() || *id == ROOT;
            placed || open || changes.iter().any(|change| change.placed() == Some(*id))
        });
    }

    /// Bytes of all files that have a name or an open handle.
    pub(super) fn used_bytes(&self) -> u64 {
        let held =
            |node: &&Node| node.place.live.is_some() || matches!(&node.body, Body::File(f) if f.handles > 0);
        let length = |node: &Node| match &node.body {
            Body::File(file) => file.bytes.live.len() as u64,
            Body::Directory(_) => 0,
        };
        self.nodes.values().filter(held).map(length).sum()
    }

    /// The paths of all files on one side, sorted.
    pub(super) fn files(&self, side: Side) -> Vec<(PathBuf, NodeId)> {
        let mut found = Vec::new();
        let mut open = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, node)) = open.pop() {
            match self.nodes.get(&node).map(|node| &node.body) {
                Some(Body::Directory(entries)) => {
                    open.extend(entries.of(side).iter().map(|(name, node)| (path.join(name), *node)));
                }
                Some(Body::File(_)) => found.push((path, node)),
                None => {}
            }
        }
        found.sort();
        found
    }
}
