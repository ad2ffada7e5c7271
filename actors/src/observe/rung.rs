//! The best source that this user has on this machine, and what it does not see.

use crate::sources::connector::Connector;
use crate::sources::fanotify::{Fanotify, FanotifyOptions};
use crate::sources::inotify::Inotify;
use crate::sources::lineage::Lineage;
use crate::sources::procfs::Snapshots;
use crate::sources::seccomp::{Listener, Seccomp};
use crate::sources::{KernelSource, Unavailable};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Which source is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Wanted {
    /// The best there is.
    #[default]
    Auto,
    /// Programs in the kernel; only in builds with the feature `ebpf`.
    Ebpf,
    /// The tool's own calls wait until they have been looked at; needs a tool that is started so.
    Seccomp,
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
    /// Which witness, beside a source that sees only the tool's own processes: [`Wanted::Fanotify`], [`Wanted::Inotify`],
    /// [`Wanted::Nothing`], or the best of them.
    pub witness: Wanted,
    /// Where changes by others matter, and all that a source without processes looks at.
    pub folders: Vec<PathBuf>,
    /// Folders that are left out: the journal's own.
    pub left_out: Vec<PathBuf>,
    /// The process to be followed will come under a filter ([`super::come_under`]) and its listener be handed over, so that
    /// [`Wanted::Seccomp`] can be had.
    pub under_filter: bool,
    /// A program that the tool is known to run, and that gives privileges: where a filter would take them, the best source is
    /// another one.
    pub gives_privileges: Option<PathBuf>,
    /// A small queue in the kernel, so that tests can overflow it.
    pub limited_queue: bool,
}

/// What is observed, and what is not: it goes into the journal, so that "nothing happened" and "nobody looked" differ.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Coverage {
    /// The source's name.
    pub source: &'static str,
    /// The name of the source that sees what others change, where the first one does not.
    pub witness: Option<&'static str>,
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

/// Watches the calls of a process that was started under a filter.
pub(super) type Listen = Box<dyn FnOnce(Listener, Option<OwnedFd>) -> std::io::Result<()> + Send>;

/// A source that sees all changes in the watched folders, whoever makes them.
#[derive(Debug)]
pub(super) struct Witness {
    pub(super) source: Box<dyn KernelSource>,
    pub(super) name: &'static str,
}

/// A chosen source.
pub(super) struct Rung {
    pub(super) source: Option<Box<dyn KernelSource>>,
    pub(super) witness: Option<Witness>,
    pub(super) lineage: Option<Box<dyn Lineage>>,
    pub(super) adopt: Option<Adopt>,
    pub(super) listen: Option<Listen>,
    pub(super) coverage: Coverage,
}

/// Two pages: a ring that holds some fifty records.
#[cfg(feature = "ebpf")]
const SMALL_RING_BYTES: u32 = 2 << 12;

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
    let ladder = [Wanted::Ebpf, Wanted::Seccomp, Wanted::Fanotify, Wanted::Inotify, Wanted::Nothing];
    let can_be_had = |step: &Wanted| *step != Wanted::Seccomp || plan.under_filter;
    let steps: Vec<Wanted> = match plan.wanted {
        Wanted::Auto => ladder.into_iter().filter(can_be_had).collect(),
        wanted => vec![wanted],
    };
    for step in steps {
        let opened = match step {
            Wanted::Ebpf => ("ebpf", ebpf(plan)),
            Wanted::Seccomp => match takes_privileges(plan) {
                Some(why) if plan.wanted == Wanted::Auto => ("seccomp", Err(why)),
                _ => ("seccomp", seccomp(plan)),
            },
            Wanted::Fanotify => ("fanotify", fanotify(plan)),
            Wanted::Inotify => ("inotify", inotify(plan)),
            Wanted::Nothing | Wanted::Auto => ("none", Ok(nothing())),
        };
        match opened {
            (_, Ok(mut rung)) => {
                rung.coverage.folders.clone_from(&plan.folders);
                tried.append(&mut rung.coverage.tried);
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

fn fanotify_options(plan: &Plan) -> FanotifyOptions {
    let (folders, left_out) = (plan.folders.clone(), plan.left_out.clone());
    FanotifyOptions { unlimited_queue: !plan.limited_queue, folders, left_out, own_process: false }
}

/// A source that tells no processes, beside what does.
fn beside_processes(source: impl KernelSource + 'static, mut coverage: Coverage) -> Rung {
    let lineage = lineage(&mut coverage.not_observed);
    coverage.lineage = lineage.name();
    Rung {
        source: Some(Box::new(source)),
        witness: None,
        lineage: Some(lineage),
        adopt: None,
        listen: None,
        coverage,
    }
}

fn fanotify(plan: &Plan) -> Result<Rung, Unavailable> {
    let source = Fanotify::open(fanotify_options(plan))?;
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
    Ok(beside_processes(source, coverage))
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
    Ok(beside_processes(source, coverage))
}

/// Opens the best source that sees what others change in the watched folders, for use beside one that sees only the tool's
/// own processes; what it adds goes into the coverage, and so does that there is none.
pub(super) fn witness(plan: &Plan, coverage: &mut Coverage) -> Option<Witness> {
    let ladder = [Wanted::Fanotify, Wanted::Inotify];
    let is_wanted = |step: &&Wanted| plan.witness == Wanted::Auto || plan.witness == **step;
    for step in ladder.iter().filter(is_wanted) {
        let opened = match step {
            Wanted::Fanotify => fanotify_witness(plan, coverage),
            _ => inotify_witness(plan, coverage),
        };
        match opened {
            Ok(witness) => {
                coverage.witness = Some(witness.name);
                return Some(witness);
            }
            Err((name, why)) => coverage.tried.push((name, why)),
        }
    }
    coverage.not_observed.push("changes by others".to_owned());
    None
}

fn fanotify_witness(plan: &Plan, coverage: &mut Coverage) -> Result<Witness, (&'static str, Unavailable)> {
    let source = Fanotify::open(fanotify_options(plan)).map_err(|why| ("fanotify as witness", why))?;
    coverage.refused.extend_from_slice(source.refused());
    coverage
        .observed
        .push("changes by others in watched folders, by process, as fanotify sees them".to_owned());
    Ok(Witness { source: Box::new(source), name: "fanotify" })
}

fn inotify_witness(plan: &Plan, coverage: &mut Coverage) -> Result<Witness, (&'static str, Unavailable)> {
    let source = Inotify::open(&plan.folders, &plan.left_out).map_err(|why| ("inotify as witness", why))?;
    coverage.refused.extend_from_slice(source.refused());
    coverage.observed.push(format!(
        "changes in {} watched folders that no call of the tool explains, as inotify sees them",
        source.watched()
    ));
    coverage.not_observed.extend(texts(&[
        "which process made a change that no call of the tool explains",
        "changes by others to a file that the tool changed in the same way within a second",
    ]));
    Ok(Witness { source: Box::new(source), name: "inotify" })
}

#[cfg(feature = "ebpf")]
fn ebpf(plan: &Plan) -> Result<Rung, Unavailable> {
    use crate::sources::ebpf::{Ebpf, EbpfOptions};
    let mut options = EbpfOptions::default();
    if plan.limited_queue {
        // Nobody empties it but the observing thread.
        (options.ring_bytes, options.reads_by_itself) = (SMALL_RING_BYTES, false);
    }
    let source = Ebpf::open(options)?;
    let tags = source.tags().map_err(|e| {
        Unavailable::new("one more open file", "raise the limit of open files (ulimit -n)").because(&e)
    })?;
    let mut coverage = Coverage {
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
    let witness = witness(plan, &mut coverage);
    Ok(Rung {
        source: Some(Box::new(source)),
        witness,
        lineage: None,
        adopt: Some(adopt),
        listen: None,
        coverage,
    })
}

#[cfg(not(feature = "ebpf"))]
fn ebpf(_plan: &Plan) -> Result<Rung, Unavailable> {
    Err(crate::sources::no_ebpf())
}

/// Why a tool that counts on a program's privileges is better left without a filter.
fn takes_privileges(plan: &Plan) -> Option<Unavailable> {
    use rustix::thread::{CapabilitySet, capabilities};
    let program = plan.gives_privileges.as_ref()?;
    let keeps = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN));
    (!keeps).then(|| {
        Unavailable::new(
            format!("a tool that gains no privileges: {} would not give any", program.display()),
            "take it all the same with --source seccomp",
        )
    })
}

fn seccomp(plan: &Plan) -> Result<Rung, Unavailable> {
    if !plan.under_filter {
        return Err(Unavailable::new(
            "a process that comes under its filter before it is followed",
            "start it so, and set `under_filter`",
        ));
    }
    let source = Seccomp::open()?;
    let mut coverage = Coverage {
        source: "seccomp",
        observed: texts(&[
            "calls of the tool's processes that made, wrote, cut, renamed, linked or removed files or changed their attributes, in the order in which they were entered",
        ]),
        not_observed: texts(&NEVER),
        ..Coverage::default()
    };
    coverage.not_observed.extend(texts(&[
        "results: what was there before and after a call tells whether it had an effect, and calls without one are only counted",
        "each write: a file that was opened to be written is told once when its size or time has changed, whoever wrote it",
        "io_uring and 32-bit calls, sockets made by bind",
    ]));
    let lineage = lineage(&mut coverage.not_observed);
    coverage.lineage = lineage.name();
    let watch = source.watch();
    let adopted = watch.clone();
    let adopt: Adopt = Box::new(move |_, tag| {
        adopted.adopt(tag);
        Ok(())
    });
    let listen: Listen = Box::new(move |listener, keeper| watch.begin(listener, keeper));
    let witness = witness(plan, &mut coverage);
    Ok(Rung {
        source: Some(Box::new(source)),
        witness,
        lineage: Some(lineage),
        adopt: Some(adopt),
        listen: Some(listen),
        coverage,
    })
}

fn nothing() -> Rung {
    let coverage = Coverage {
        source: "none",
        lineage: "none",
        not_observed: texts(&["everything but the call itself, its exit code and its duration"]),
        ..Coverage::default()
    };
    Rung { source: None, witness: None, lineage: None, adopt: None, listen: None, coverage }
}
