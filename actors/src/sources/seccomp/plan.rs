//! What a waiting call is about: its places and what it would do there.

use super::aim::Aim;
use super::caller::{self, path_at};
use super::calls::{At, Call, Flags, Links};
use super::place::{Look, Lost, Place, Walk, open_file};
use crate::sources::Op;
use rustix::fs::{FileType, OFlags};
use semj_sys::seccomp::Waiting;

const AT_SYMLINK_NOFOLLOW: u64 = 0x100;
const AT_REMOVEDIR: u64 = 0x200;
const AT_SYMLINK_FOLLOW: u64 = 0x400;

/// A call that may have an effect.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) op: Op,
    pub(super) aim: Aim,
    /// For links the new name and the object; for moves the old name and the new one.
    pub(super) places: [Option<Place>; 2],
    /// What a symbolic link is to hold.
    pub(super) text: Vec<u8>,
    /// How the file is opened.
    pub(super) opening: Option<Opening>,
}

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Opening {
    pub(super) writes: bool,
    pub(super) makes: bool,
    pub(super) cuts: bool,
    /// It must not be there before.
    pub(super) is_new: bool,
}

/// What there is to do about a waiting call.
#[derive(Debug)]
pub(super) enum Planned {
    /// It may have an effect.
    Plan(Plan),
    /// It cannot have any.
    Futile,
    /// It is none that matters.
    Other,
    /// It would do this; to what cannot be seen. Its path as the caller gave it, if that was readable.
    Hidden(Op, Vec<u8>),
    /// It runs the program at this place.
    Exec(Option<Place>),
    /// Paths may begin elsewhere from now on.
    Moves,
}

/// Reads a call's arguments.
pub(super) struct Reading<'a> {
    pub(super) waiting: &'a Waiting,
    pub(super) walk: Walk,
}

/// Why there is no place: with the path, where that was read.
struct NoPlace(Lost, Vec<u8>);

impl Reading<'_> {
    fn argument(&self, number: usize) -> u64 {
        self.waiting.arguments.get(number).copied().unwrap_or(0)
    }

    fn text(&self, argument: usize) -> Result<Vec<u8>, NoPlace> {
        path_at(self.waiting.thread, self.argument(argument)).map_err(|e| NoPlace(e.into(), Vec::new()))
    }

    fn place(&self, at: At, follow: bool) -> Result<Place, NoPlace> {
        let folder = at.folder.map(|n| self.argument(n));
        // Without a path the folder's descriptor itself is meant.
        let path = if self.argument(at.path) == 0 { Vec::new() } else { self.text(at.path)? };
        if let (true, Some(file)) = (path.is_empty(), folder) {
            return open_file(self.waiting.thread, file).map_err(|lost| NoPlace(lost, path));
        }
        let base = caller::base(self.waiting.thread, folder);
        self.walk.to(&base, &path, follow).map_err(|lost| NoPlace(lost, path))
    }

    /// What the call comes to.
    pub(super) fn plan(&self, call: Call) -> Planned {
        let (op, planned) = match call {
            Call::Open { at, flags } => return self.open(at, flags),
            Call::Exec { at } => return Planned::Exec(self.place(at, true).ok()),
            Call::Moves => return Planned::Moves,
            Call::Make { op, at } => (op, self.at(op, Aim::Make, at, false)),
            Call::Remove { op, at, flags } => {
                let folder = flags.is_some_and(|n| self.argument(n) & AT_REMOVEDIR != 0);
                let op = if folder { Op::Rmdir } else { op };
                (op, self.at(op, Aim::Remove, at, false))
            }
            Call::Symlink { text, at } => (Op::Symlink, self.symlink(text, at)),
            Call::Rename { from, to, flags: _ } => (Op::Rename, self.both(from, to)),
            Call::Link { from, to, flags } => {
                let follow = flags.is_some_and(|n| self.argument(n) & AT_SYMLINK_FOLLOW != 0);
                (Op::Hardlink, self.link(from, to, follow))
            }
            Call::Change { op, at, links } => {
                let follow = match links {
                    Links::Follow => true,
                    Links::Keep => false,
                    Links::Unless(n) => self.argument(n) & AT_SYMLINK_NOFOLLOW == 0,
                };
                (op, self.at(op, Aim::Change(op), at, follow))
            }
            Call::ChangeOpen { op, file } => {
                let place = open_file(self.waiting.thread, self.argument(file));
                let plan = place.map(|place| Plan::of(op, Aim::Change(op), [Some(place), None]));
                (op, plan.map_err(|lost| NoPlace(lost, Vec::new())))
            }
        };
        match planned {
            Ok(plan) => Planned::Plan(plan),
            Err(NoPlace(Lost::Nowhere, _)) => Planned::Futile,
            Err(NoPlace(Lost::Hidden, path)) => Planned::Hidden(op, path),
        }
    }

    fn at(&self, op: Op, aim: Aim, at: At, follow: bool) -> Result<Plan, NoPlace> {
        Ok(Plan::of(op, aim, [Some(self.place(at, follow)?), None]))
    }

    fn both(&self, from: At, to: At) -> Result<Plan, NoPlace> {
        Ok(Plan::of(Op::Rename, Aim::Rename, [Some(self.place(from, false)?), Some(self.place(to, false)?)]))
    }

    fn link(&self, from: At, to: At, follow: bool) -> Result<Plan, NoPlace> {
        let (from, to) = (self.place(from, follow)?, self.place(to, false)?);
        // A file that had no name is made by its first one.
        let is_nameless = matches!(from.look(), Look::There(state) if state.links == 0);
        let op = if is_nameless { Op::Create } else { Op::Hardlink };
        Ok(Plan::of(op, Aim::Link, [Some(to), Some(from)]))
    }

    fn symlink(&self, text: usize, at: At) -> Result<Plan, NoPlace> {
        let text = self.text(text)?;
        let mut plan = self.at(Op::Symlink, Aim::Make, at, false)?;
        plan.text = text;
        Ok(plan)
    }

    fn open(&self, at: At, flags: Flags) -> Planned {
        let bits = match flags {
            Flags::In(n) => self.argument(n),
            Flags::Creat => u64::from((OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC).bits()),
            Flags::Behind(n) => {
                let read = caller::number_at(self.waiting.thread, self.argument(n));
                read.unwrap_or(u64::from(OFlags::WRONLY.bits()))
            }
        };
        let flags = OFlags::from_bits_retain(bits as u32);
        let opening = Opening {
            writes: flags.intersects(OFlags::WRONLY | OFlags::RDWR),
            makes: flags.contains(OFlags::CREATE),
            cuts: flags.contains(OFlags::TRUNC),
            is_new: flags.contains(OFlags::CREATE | OFlags::EXCL),
        };
        let changes = opening.writes || opening.makes || opening.cuts;
        // A file without a name has no effect before it gets one.
        if !changes || flags.contains(OFlags::PATH) || flags.contains(OFlags::TMPFILE) {
            return Planned::Other;
        }
        let op = if opening.makes { Op::Create } else { Op::Truncate };
        let follow = !opening.is_new && !flags.contains(OFlags::NOFOLLOW);
        match self.place(at, follow) {
            Err(NoPlace(Lost::Nowhere, _)) => Planned::Futile,
            Err(NoPlace(Lost::Hidden, path)) if opening.makes || opening.cuts => Planned::Hidden(op, path),
            Err(_) => Planned::Other,
            Ok(place) => {
                let mut plan = Plan::of(op, Aim::Make, [Some(place), None]);
                plan.opening = Some(opening);
                Planned::Plan(plan)
            }
        }
    }
}

impl Plan {
    fn of(op: Op, aim: Aim, places: [Option<Place>; 2]) -> Self {
        Plan { op, aim, places, text: Vec::new(), opening: None }
    }

    /// What is at its places now.
    pub(super) fn looks(&self) -> [Look; 2] {
        let look = |place: &Option<Place>| place.as_ref().map_or(Look::Absent, Place::look);
        let [first, second] = &self.places;
        [look(first), look(second)]
    }

    /// Its paths: of what it is about, and where that is moved to, what it is linked to, or what it holds.
    pub(super) fn paths(&self) -> (Vec<u8>, Vec<u8>) {
        let path = |place: &Option<Place>| place.as_ref().map(Place::path).unwrap_or_default();
        let [first, second] = &self.places;
        let target = if self.text.is_empty() { path(second) } else { self.text.clone() };
        (path(first), if self.op == Op::Create { Vec::new() } else { target })
    }

    /// Whether it works at a place or on an object of the other.
    pub(super) fn meets(&self, mine: [Look; 2], other: &Plan, others: [Look; 2]) -> bool {
        let places = |plan: &Plan| -> Vec<usize> {
            (0..2).filter(|n| plan.places.get(*n).is_some_and(Option::is_some)).collect()
        };
        let same_name = |a: usize, b: usize| {
            let (a, b) = (self.places.get(a), other.places.get(b));
            matches!((a, b), (Some(Some(a)), Some(Some(b))) if a.is_same_name(b))
        };
        let object = |look: &Look| match look {
            Look::There(state) if state.kind() != FileType::Directory => Some(state.object()),
            _ => None,
        };
        let same_object =
            mine.iter().filter_map(object).any(|a| others.iter().filter_map(object).any(|b| a == b));
        same_object || places(self).iter().any(|a| places(other).iter().any(|b| same_name(*a, *b)))
    }
}
