//! What a source told of the call, kept so that another source's view of the same is recognised.

use crate::sources::{KernelRecord, Op, Phase};
use std::collections::{HashMap, VecDeque};

/// How far apart two views of one effect may be, ns. One source takes its time when the call returns, the other when it is
/// read, and a call may take its time.
pub(super) const WINDOW_NS: i64 = 1_000_000_000;
/// Effects that are kept; beyond it the oldest are forgotten.
const TOLD_MAX: usize = 1 << 18;
/// A path of so many bytes may be cut in the middle of its last name.
const PATH_BYTES: usize = 255;
/// Names are looked up by so many bytes: a source may cut them at 63.
const NAME_BYTES: usize = 62;
/// What is found by no name.
const NO_NAME: &[u8] = b"";

/// Says where a folder really is, links resolved; `None` where it is gone.
pub(super) type Resolve<'a> = dyn FnMut(&[u8]) -> Option<Vec<u8>> + 'a;

/// What is looked for.
#[derive(Clone, Copy)]
struct Find<'a> {
    view: &'a KernelRecord,
    is_ours: bool,
    lost: Lost,
}

/// Whether what would explain a view may be lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lost {
    /// Nothing was lost up to then.
    No,
    /// Something was, earlier: views may have been taken for others of the same kind since.
    Earlier,
    /// It may.
    Then,
}

/// How what was told explains a view.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Explained {
    /// It is the same effect.
    Same,
    /// The call had the file open for writing; that write was not told.
    Opened,
    /// What would explain it is nothing that the other source tells for certain.
    MayBe,
    /// What would explain it may have been forgotten.
    Forgotten,
    /// Nothing explains it.
    No,
}

/// One effect that was told.
#[derive(Debug)]
struct Effect {
    op: Op,
    at_ns: i64,
    process: u32,
    path: Vec<u8>,
    target: Vec<u8>,
    is_cut: bool,
    /// When the view that it explains was read.
    seen_ns: Option<i64>,
    /// It has explained the way back, too: two names were exchanged.
    turned: bool,
}

/// All that was told, by name.
#[derive(Debug)]
pub(super) struct Told {
    effects: VecDeque<Effect>,
    /// The number of the oldest.
    first: u64,
    by_name: HashMap<Box<[u8]>, VecDeque<u64>>,
    most: usize,
    forgotten_until_ns: i64,
}

impl Default for Told {
    fn default() -> Self {
        Told {
            effects: VecDeque::new(),
            first: 0,
            by_name: HashMap::new(),
            most: TOLD_MAX,
            forgotten_until_ns: i64::MIN,
        }
    }
}

/// What kind of change an operation is; views of one effect agree on it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Appears,
    Folder,
    Goes,
    FolderGoes,
    Moves,
    Content,
    Attribute,
    Opens,
    Other,
}

fn kind(op: Op) -> Kind {
    match op {
        Op::Create | Op::Symlink | Op::Hardlink => Kind::Appears,
        Op::Mkdir => Kind::Folder,
        Op::Delete => Kind::Goes,
        Op::Rmdir => Kind::FolderGoes,
        Op::Rename => Kind::Moves,
        Op::Write | Op::Truncate => Kind::Content,
        Op::Chmod | Op::Chown | Op::Attribute => Kind::Attribute,
        Op::Open => Kind::Opens,
        _ => Kind::Other,
    }
}

/// The name under which a path is found.
pub(super) fn name(path: &[u8]) -> &[u8] {
    let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
    name.get(..NAME_BYTES).unwrap_or(name)
}

impl Told {
    /// Keeps at most so many.
    #[cfg(test)]
    pub(super) fn with_room(most: usize) -> Self {
        Told { most, ..Told::default() }
    }

    /// The call did this.
    pub(super) fn add(&mut self, record: &KernelRecord) {
        if kind(record.op) == Kind::Other {
            return;
        }
        while self.effects.len() >= self.most {
            self.forget();
        }
        let (path, target) = (record.path.path.clone(), record.path.target.clone());
        let number = self.first + self.effects.len() as u64;
        for name in names(record.op, &path, &target) {
            self.by_name.entry(name.into()).or_default().push_back(number);
        }
        self.effects.push_back(Effect {
            op: record.op,
            at_ns: record.boot_ns,
            process: record.who.process,
            path,
            target,
            is_cut: record.path.is_cut,
            seen_ns: None,
            turned: false,
        });
    }

    fn forget(&mut self) {
        let Some(effect) = self.effects.pop_front() else { return };
        for name in names(effect.op, &effect.path, &effect.target) {
            if let Some(numbers) = self.by_name.get_mut(name) {
                numbers.pop_front();
                if numbers.is_empty() {
                    self.by_name.remove(name);
                }
            }
        }
        self.first += 1;
        self.forgotten_until_ns = self.forgotten_until_ns.max(effect.at_ns);
    }

    /// What a view is of. `is_ours`: its process is known to be the call's, so that nothing else can be meant by the same
    /// words; otherwise each effect explains one view of it. With `resolve`, which says where a folder really is, more
    /// will not be known, and one source may have followed a link where the other did not.
    pub(super) fn explain(
        &mut self,
        view: &KernelRecord,
        is_ours: bool,
        lost: Lost,
        resolve: Option<&mut Resolve<'_>>,
    ) -> Explained {
        let find = Find { view, is_ours, lost };
        if view.phase == Phase::Synthetic {
            return self.explain_found(view);
        }
        if self.find(find, |e| e.is_same_path(view)) {
            return Explained::Same;
        }
        let is_same = |e: &Effect| is_ours && e.process == view.who.process;
        if self.find(find, |e| (is_same(e) || e.is_cut) && e.is_same_name(view)) {
            return Explained::Same;
        }
        if let Some(resolve) = resolve {
            let vague = self.is_vague(view, is_ours);
            let mut is_gone = false;
            if is_counted(view, is_ours)
                && self.find(find, |e| e.is_same_name(view) && e.leads_to(view, resolve, &mut is_gone))
            {
                return Explained::Same;
            }
            match (vague, is_ours) {
                (true, true) => return Explained::Same,
                (true, false) => return Explained::MayBe,
                (false, false) if is_gone => return Explained::MayBe,
                _ => {}
            }
        }
        let earliest = earliest_ns(view);
        let is_twin = |e: &Effect| kind(e.op) == kind(view.op) && e.at_ns >= earliest && e.is_same_path(view);
        if lost != Lost::No && self.of_name(name(view.path.any())).any(is_twin) {
            return Explained::MayBe;
        }
        match kind(view.op) {
            Kind::Content if self.was_open(view) => Explained::Opened,
            // A file may be written long after it was opened.
            Kind::Content if self.forgotten_until_ns > i64::MIN => Explained::Forgotten,
            _ if earliest <= self.forgotten_until_ns => Explained::Forgotten,
            // There are more ways to change an attribute than anybody tells.
            Kind::Attribute => Explained::MayBe,
            _ => Explained::No,
        }
    }

    /// Finds an effect of the same kind, in time, that the view may be of. Where views are counted, it is used up.
    fn find(&mut self, find: Find<'_>, mut is_it: impl FnMut(&Effect) -> bool) -> bool {
        let Find { view, is_ours, lost } = find;
        let wanted = kind(view.op);
        let until = view.boot_ns.saturating_add(WINDOW_NS);
        // Only the first write to an open file is told.
        let any_time = is_ours && lost != Lost::Then && wanted == Kind::Content;
        let from = if any_time { i64::MIN } else { earliest_ns(view) };
        for path in [&view.path.path, &view.path.target].into_iter().filter(|p| !p.is_empty()) {
            let Some(numbers) = self.by_name.get(name(path)) else { continue };
            for number in numbers {
                let at = usize::try_from(number - self.first).unwrap_or(usize::MAX);
                let Some(effect) = self.effects.get_mut(at) else { continue };
                let other = match (wanted, kind(effect.op)) {
                    // Opening may make a file, and setting its time may look like writing.
                    (Kind::Appears, Kind::Opens) | (Kind::Content, Kind::Attribute) => true,
                    _ => false,
                };
                let fits = kind(effect.op) == wanted || other;
                let turned = effect.is_turned(view);
                let is_free = match turned {
                    // Names that are exchanged in one call are seen to move both ways at once.
                    true => effect.seen_ns == Some(view.boot_ns) && !effect.turned,
                    false => effect.seen_ns.is_none() || !is_counted(view, is_ours),
                };
                if !fits || !is_free || !(from..=until).contains(&effect.at_ns) || !is_it(effect) {
                    continue;
                }
                effect.turned |= turned;
                if !turned && !other {
                    effect.seen_ns = Some(view.boot_ns);
                }
                return true;
            }
        }
        false
    }

    /// Whether something of that kind was told at that time by a path that says little.
    fn is_vague(&self, view: &KernelRecord, is_ours: bool) -> bool {
        let (from, until) = (earliest_ns(view), view.boot_ns.saturating_add(WINDOW_NS));
        self.of_name(NO_NAME).filter(|e| e.is_cut).any(|e| {
            let kind_fits = kind(e.op) == kind(view.op);
            let process_fits = !is_ours || e.process == view.who.process;
            kind_fits && process_fits && (from..=until).contains(&e.at_ns)
        })
    }

    /// Whether the call had a file of this path open for writing, whenever that was.
    fn was_open(&self, view: &KernelRecord) -> bool {
        let opened = |e: &Effect| {
            matches!(kind(e.op), Kind::Appears | Kind::Content | Kind::Opens)
                || (kind(e.op) == Kind::Moves && e.target == view.path.path)
        };
        self.of_name(name(&view.path.path)).any(|e| opened(e) && e.touches(&view.path.path))
    }

    /// What was found by comparing has no time of its own: whatever touched it, or moved a folder above it, explains it.
    fn explain_found(&self, view: &KernelRecord) -> Explained {
        let path = view.path.any();
        if self.of_name(name(path)).any(|e| e.touches(path)) {
            return Explained::Same;
        }
        let ends = path.iter().enumerate().filter(|(at, b)| **b == b'/' && *at > 0).map(|(at, _)| at);
        for above in ends.filter_map(|end| path.get(..end)) {
            if self.of_name(name(above)).any(|e| kind(e.op) == Kind::Moves && e.touches(above)) {
                return Explained::Same;
            }
        }
        if self.forgotten_until_ns > i64::MIN { Explained::Forgotten } else { Explained::No }
    }

    fn of_name(&self, name: &[u8]) -> impl Iterator<Item = &Effect> {
        let numbers = self.by_name.get(name).into_iter().flatten();
        numbers.filter_map(|n| self.effects.get(usize::try_from(n - self.first).unwrap_or(usize::MAX)))
    }
}

/// The earliest time that another source may give to what was seen so.
pub(super) fn earliest_ns(view: &KernelRecord) -> i64 {
    view.boot_ns.saturating_sub(i64::from(view.time_error_ns)).saturating_sub(WINDOW_NS)
}

/// Whether each effect explains one view only: of writes and attributes nobody tells how often.
fn is_counted(view: &KernelRecord, is_ours: bool) -> bool {
    !is_ours && !matches!(kind(view.op), Kind::Content | Kind::Attribute | Kind::Opens | Kind::Other)
}

/// The names by which an effect is found, each once.
fn names<'a>(op: Op, path: &'a [u8], target: &'a [u8]) -> Vec<&'a [u8]> {
    let mut names = vec![name(path)];
    if op == Op::Rename {
        names.push(name(target));
    }
    if path.len().max(target.len()) >= PATH_BYTES {
        names.push(NO_NAME);
    }
    names.sort_unstable();
    names.dedup();
    names
}

fn folder(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|b| *b == b'/').unwrap_or(0);
    path.get(..end.max(1)).unwrap_or_default()
}

impl Effect {
    fn touches(&self, path: &[u8]) -> bool {
        self.path == path || (self.op == Op::Rename && self.target == path)
    }

    /// Whether a view of a rename is of its way back.
    fn is_turned(&self, view: &KernelRecord) -> bool {
        self.op == Op::Rename
            && name(&self.path) != name(&self.target)
            && (name(&view.path.path) == name(&self.target) || name(&view.path.target) == name(&self.path))
    }

    /// Whether all paths that both know are the same.
    fn is_same(&self, view: &KernelRecord, mut same: impl FnMut(&[u8], &[u8]) -> bool) -> bool {
        let (path, target) = (&view.path.path, &view.path.target);
        if self.op != Op::Rename {
            return !path.is_empty() && same(&self.path, path);
        }
        let mut are = |pairs: [(&[u8], &[u8]); 2]| {
            let mut known =
                pairs.into_iter().filter(|(own, its)| !own.is_empty() && !its.is_empty()).peekable();
            known.peek().is_some() && known.all(|(own, its)| same(own, its))
        };
        are([(&self.path, path), (&self.target, target)]) || are([(&self.target, path), (&self.path, target)])
    }

    fn is_same_path(&self, view: &KernelRecord) -> bool {
        self.is_same(view, |own, its| own == its)
    }

    fn is_same_name(&self, view: &KernelRecord) -> bool {
        self.is_same(view, |own, its| name(own) == name(its))
    }

    /// Whether it was where the view is; `is_gone` where that can no longer be said.
    fn leads_to(&self, view: &KernelRecord, resolve: &mut Resolve<'_>, is_gone: &mut bool) -> bool {
        self.is_same(view, |own, its| {
            let really = resolve(folder(own));
            *is_gone |= really.is_none();
            really.is_some_and(|f| f == folder(its))
        })
    }
}
