//! Whose doing an effect is: the ladder of evidence from a tag that the kernel carries down to place and time alone.

use super::named::Words;
use super::tree::{Place, Tree};
use crate::sources::{KernelRecord, Phase};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// What connects an effect with the call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Evidence {
    /// The record carries the call's tag, inherited in the kernel.
    Tag,
    /// The process is in the call's tree, and the kernel told every fork.
    Tree,
    /// The process is in the call's tree as `/proc` showed it.
    Snapshot,
    /// A process of the tree had this id, and somebody else has it now.
    ReusedId,
    /// The call names the path, and the time is right; the process is not known.
    NamedPath,
    /// The call had the file open for writing; whether it wrote then, and which process did, is not known.
    Opened,
    /// It happened in a watched folder while the call ran; the process is not known.
    PlaceAndTime,
    /// As [`Evidence::PlaceAndTime`], found by comparing.
    Compared,
}

impl Evidence {
    /// How strong, 0 to 100.
    pub const fn strength(self) -> u32 {
        match self {
            Evidence::Tag => 100,
            Evidence::Tree => 95,
            Evidence::Snapshot | Evidence::NamedPath => 70,
            Evidence::ReusedId | Evidence::Opened => 50,
            Evidence::PlaceAndTime => 40,
            Evidence::Compared => 30,
        }
    }

    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Evidence::Tag => "tag inherited in the kernel",
            Evidence::Tree => "process in the call's tree, from fork events",
            Evidence::Snapshot => "process in the call's tree, from snapshots of /proc",
            Evidence::ReusedId => "process id of the call's tree, used again since",
            Evidence::NamedPath => "path named by the call, within its time; process not known",
            Evidence::Opened => "the call had the file open for writing; process not known",
            Evidence::PlaceAndTime => "in a watched folder, within the call's time; process not known",
            Evidence::Compared => "found by comparing watched folders; process and time not known",
        }
    }
}

/// The verdict on one effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The call did it.
    Call(Evidence),
    /// Somebody else did it, in a watched folder: the process is known, and none of the call's.
    External,
    /// It happened in a watched folder, the process is not known, and no call of the tool explains it.
    Unexplained,
    /// Somebody else did it somewhere else: none of our business.
    Elsewhere,
}

impl Verdict {
    /// Why it is somebody else's, how sure that is from 0 to 100, and in words; `None` where it is not.
    pub const fn others(self) -> Option<(u32, &'static str)> {
        match self {
            Verdict::Call(_) | Verdict::Elsewhere => None,
            Verdict::External => Some((95, "process outside the call's tree")),
            Verdict::Unexplained => Some((50, "no call of the tool explains it; process not known")),
        }
    }
}

/// What verdicts go by.
#[derive(Debug)]
pub struct Judge {
    folders: Vec<Vec<u8>>,
    words: Words,
    tag: u64,
    /// Every fork was told so far.
    pub(super) exact: bool,
}

impl Judge {
    /// Verdicts for the call with this tag in these folders; its arguments name paths below `cwd`.
    pub fn new(folders: Vec<Vec<u8>>, arguments: &[String], cwd: &Path, tag: u64, exact: bool) -> Self {
        Judge { folders, words: Words::new(arguments.to_vec(), cwd), tag, exact }
    }

    fn is_watched(&self, path: &[u8]) -> bool {
        let within = |folder: &Vec<u8>| {
            path.strip_prefix(folder.as_slice())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/") || folder == b"/")
        };
        self.folders.iter().any(within)
    }

    /// Whose doing it is.
    pub fn verdict(&self, tree: &Tree, record: &KernelRecord) -> Verdict {
        if self.tag != 0 && record.who.tag == self.tag {
            return Verdict::Call(Evidence::Tag);
        }
        let path = record.path.any();
        let watched = self.is_watched(path) || self.is_watched(&record.path.target);
        let unknown = || match () {
            () if !watched => Verdict::Elsewhere,
            () if self.words.are(Path::new(OsStr::from_bytes(path))) => Verdict::Call(Evidence::NamedPath),
            () if record.phase == Phase::Synthetic => Verdict::Call(Evidence::Compared),
            () => Verdict::Call(Evidence::PlaceAndTime),
        };
        if record.who.process == 0 {
            return unknown();
        }
        let not_before = record.boot_ns.saturating_sub(i64::from(record.time_error_ns));
        match tree.place_at(record.who.process, not_before.max(0).cast_unsigned()) {
            Place::Inside { .. } if self.exact => Verdict::Call(Evidence::Tree),
            Place::Inside { .. } => Verdict::Call(Evidence::Snapshot),
            Place::Reused => Verdict::Call(Evidence::ReusedId),
            Place::Outside if self.exact => {
                if watched {
                    Verdict::External
                } else {
                    Verdict::Elsewhere
                }
            }
            // Somebody who is still there and is none of ours is somebody else; one who is gone may have been ours.
            Place::Outside if crate::sources::procfs::start_ns(record.who.process).is_some() => {
                if watched {
                    Verdict::External
                } else {
                    Verdict::Elsewhere
                }
            }
            Place::Outside => unknown(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::Op;

    fn record(process: u32, path: &str) -> KernelRecord {
        let mut record = KernelRecord::new(Op::Write, Phase::Observed, 0);
        record.who.process = process;
        record.path.path = path.as_bytes().to_vec();
        record
    }

    fn judge(exact: bool) -> Judge {
        let arguments = ["cp".to_owned(), "./x/../out".to_owned()];
        Judge::new(vec![b"/w".to_vec()], &arguments, Path::new("/w"), 7, exact)
    }

    #[test]
    fn each_rung_of_the_ladder_has_its_evidence() {
        let mut tree = Tree::new(None, 10, 1);
        let me = std::process::id();
        let call = |e| Verdict::Call(e);
        let mut tagged = record(99, "/elsewhere");
        tagged.who.tag = 7;
        assert_eq!(judge(true).verdict(&tree, &tagged), call(Evidence::Tag));
        assert_eq!(judge(true).verdict(&tree, &record(10, "/elsewhere")), call(Evidence::Tree));
        assert_eq!(judge(false).verdict(&tree, &record(10, "/elsewhere")), call(Evidence::Snapshot));
        assert_eq!(judge(true).verdict(&tree, &record(0, "/w/out")), call(Evidence::NamedPath));
        assert_eq!(judge(true).verdict(&tree, &record(0, "/w/other")), call(Evidence::PlaceAndTime));
        let mut compared = record(0, "/w/other");
        compared.phase = Phase::Synthetic;
        assert_eq!(judge(true).verdict(&tree, &compared), call(Evidence::Compared));
        use crate::sources::lineage::Change;
        tree.take(&Change::Exited { tgid: 10, at_ns: 2, status: None });
        tree.take(&Change::Started { parent: 2, tgid: 10, at_ns: 3, start_ns: 3 });
        assert_eq!(judge(true).verdict(&tree, &record(10, "/w/x")), call(Evidence::ReusedId));
        assert_eq!(judge(true).verdict(&tree, &record(me, "/w/x")), Verdict::External);
        assert_eq!(judge(false).verdict(&tree, &record(me, "/w/x")), Verdict::External);
        assert_eq!(judge(true).verdict(&tree, &record(me, "/wx")), Verdict::Elsewhere);
        assert_eq!(judge(false).verdict(&tree, &record(u32::MAX, "/w/x")), call(Evidence::PlaceAndTime));
    }
}
