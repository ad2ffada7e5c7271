//! The best source that this user has on this machine, and what it does not see.

use crate::sources::connector::Connector;
use crate::sources::fanotify::{Fanotify, FanotifyOptions};
use crate::sources::inotify::Inotify;
use crate::sources::lineage::Lineage;
use crate::sources::procfs::Snapshots;
use crate::sources::{KernelSource, Unavailable};
use std::path::PathBuf;

/// Which source is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Wanted {
    /// The best there is.
    #[default]
    Auto,
    /// Programs in the kernel; only in builds with the feature `ebpf`.
    Ebpf,
    /// Marks on file systems.
    Fanotify,
    /// Watches on folders.
    Inotify,
    /// None: only the call and its end.
    Nothing,
}

/// What to observe, and with what.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Which source.
    pub wanted: Wanted,
    /// Where changes by others matter, and all that a source without processes looks at.
    pub folders: Vec<PathBuf>,
    /// Folders that are left out: the journal's own.
    pub left_out: Vec<PathBuf>,
    /// A small queue in the kernel, so that tests can overflow it.
    pub limited_queue: bool,
}

/// What is observed, and what is not: it goes into the journal, so that "nothing happened" and "nobody looked" differ.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Coverage {
    /// The source's name.
    pub source: &'static str,
    /// How processes are followed.
    pub lineage: &'static str,
    /// What is seen.
    pub observed: Vec<String>,
    /// What is not.
    pub not_observed: Vec<String>,
    /// Where changes by others are told.
    pub folders: Vec<PathBuf>,
    /// What should have been watched and could not be.
    pub refused: Vec<(PathBuf, String)>,
    /// Better sources that were tried, and why they are not there.
    pub tried: Vec<(&'static str, Unavailable)>,
}

/// Lets a source carry a tag for a process and all that come from it.
pub(super) type Adopt = Box<dyn Fn(u32, u64) -> std::io::Result<()> + Send>;

/// A chosen source.
pub(super) struct Rung {
    pub(super) source: Option<Box<dyn KernelSource>>,
    pub(super) lineage: Option<Box<dyn Lineage>>,
    pub(super) adopt: Option<Adopt>,
    pub(super) coverage: Coverage,
}

/// What no source here sees.
const NEVER: [&str; 3] = [
    "reading of files",
    "stores through shared mappings",
    "network, devices and everything else that is no file",
];

/// Opens the best source of those that are wanted.
///
/// # Errors
/// Why the wanted source is not there; [`Wanted::Auto`] ends with [`Wanted::Nothing`] instead.
pub(super) fn open(plan: &Plan) -> Result<Rung, Unavailable> {
    let mut tried = Vec::new();
    let ladder = [Wanted::Ebpf, Wanted::Fanotify, Wanted::Inotify, Wanted::Nothing];
    let steps: Vec<Wanted> = if plan.wanted == Wanted::Auto { ladder.to_vec() } else { vec![plan.wanted] };
    for step in steps {
        let opened = match step {
            Wanted::Ebpf => ("ebpf", ebpf(plan)),
            Wanted::Fanotify => ("fanotify", fanotify(plan)),
            Wanted::Inotify => ("inotify", inotify(plan)),
            Wanted::Nothing | Wanted::Auto => ("none", Ok(nothing())),
        };
        match opened {
            (_, Ok(mut rung)) => {
                rung.coverage.folders.clone_from(&plan.folders);
                rung.coverage.tried = tried;
                return Ok(rung);
            }
            (name, Err(why)) if plan.wanted == Wanted::Auto => tried.push((name, why)),
            (_, Err(why)) => return Err(why),
        }
    }
    Ok(nothing())
}

/// Follows processes in the best way there is.
fn lineage(tried: &mut Vec<String>) -> Box<dyn Lineage> {
    match Connector::open() {
        Ok(connector) => Box::new(connector),
        Err(e) => {
            tried.push(format!("processes that live between two looks at /proc (process connector: {e})"));
            Box::new(Snapshots::new(std::process::id()))
        }
    }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|t| (*t).to_owned()).collect()
}

fn fanotify(plan: &Plan) -> Result<Rung, Unavailable> {
    let source = Fanotify::open(FanotifyOptions { unlimited_queue: !plan.limited_queue })?;
    let mut coverage = Coverage {
        source: "fanotify",
        observed: texts(&[
            "files made, written, renamed, removed and given other attributes, by process, on every watched file system",
        ]),
        not_observed: texts(&NEVER),
        refused: source.refused().to_vec(),
        ..Coverage::default()
    };
    let watched: Vec<String> = source.watched().iter().map(|p| p.display().to_string()).collect();
    coverage.observed.push(format!("file systems: {}", watched.join(" ")));
    coverage.not_observed.extend(texts(&[
        "results of calls, and calls that failed",
        "how often a file was modified before it was closed",
        "whether a new file is a link",
        "file systems mounted later",
    ]));
    let lineage = lineage(&mut coverage.not_observed);
    coverage.lineage = lineage.name();
    Ok(Rung { source: Some(Box::new(source)), lineage: Some(lineage), adopt: None, coverage })
}

fn inotify(plan: &Plan) -> Result<Rung, Unavailable> {
    let source = Inotify::open(&plan.folders, &plan.left_out)?;
    let mut coverage = Coverage {
        source: "inotify",
        observed: texts(&[
            "files made, written, renamed, removed and given other attributes, in watched folders",
        ]),
        not_observed: texts(&NEVER),
        refused: source.refused().to_vec(),
        ..Coverage::default()
    };
    coverage.observed.push(format!("{} folders", source.watched()));
    coverage.not_observed.extend(texts(&[
        "which process did it: time and place are the only evidence",
        "anything outside the watched folders",
        "what was made and removed again in a folder that was just made",
        "results of calls, and calls that failed",
        "how often a file was modified before it was closed",
    ]));
    let lineage = lineage(&mut coverage.not_observed);
    coverage.lineage = lineage.name();
    Ok(Rung { source: Some(Box::new(source)), lineage: Some(lineage), adopt: None, coverage })
}

#[cfg(feature = "ebpf")]
fn ebpf(plan: &Plan) -> Result<Rung, Unavailable> {
    use crate::sources::ebpf::{Ebpf, EbpfOptions};
    let mut options = EbpfOptions::default();
    if plan.limited_queue {
        // Two pages, which nobody empties but the observing thread.
        (options.ring_bytes, options.reads_by_itself) = (1 << 13, false);
    }
    let source = Ebpf::open(options)?;
    let tags = source.tags().map_err(|e| {
        Unavailable::new("one more open file", "raise the limit of open files (ulimit -n)").because(&e)
    })?;
    let coverage = Coverage {
        source: "ebpf",
        lineage: "tags inherited in the kernel",
        observed: texts(&[
            "calls of the tool's processes that succeeded and made, wrote, cut, renamed, linked or removed files or changed their attributes, with result and time",
            "calls of theirs that would have done so and failed, as attempts",
            "each process that began, ran another program or ended",
        ]),
        not_observed: [
            &texts(&NEVER)[..],
            &texts(&[
                "changes by others",
                "opening to read that failed, and calls that were interrupted",
                "writes to an open file after the first one",
                "io_uring and 32-bit calls: those that may have changed files are counted, as a gap",
                "folders beyond 16 levels, names beyond 62 bytes, paths beyond 254",
            ]),
        ]
        .concat(),
        ..Coverage::default()
    };
    let adopt: Adopt = Box::new(move |tgid, tag| tags.adopt(tgid, tag));
    Ok(Rung { source: Some(Box::new(source)), lineage: None, adopt: Some(adopt), coverage })
}

#[cfg(not(feature = "ebpf"))]
fn ebpf(_: &Plan) -> Result<Rung, Unavailable> {
    Err(crate::sources::no_ebpf())
}

fn nothing() -> Rung {
    let coverage = Coverage {
        source: "none",
        lineage: "none",
        not_observed: texts(&["everything but the call itself, its exit code and its duration"]),
        ..Coverage::default()
    };
    Rung { source: None, lineage: None, adopt: None, coverage }
}
