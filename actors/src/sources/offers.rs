//! Which sources there are, and whether this machine has them.

use super::connector::Connector;
use super::fanotify::{self, Fanotify, FanotifyOptions};
use super::inotify::{self, Inotify};
use super::seccomp::Seccomp;
use super::{SemjTail, Unavailable};

/// A kind of source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    /// What it is called.
    pub name: &'static str,
    /// What it sees.
    pub sees: &'static str,
    /// What it does not see, or cannot tell.
    pub misses: &'static str,
    /// Why it cannot be had here and now; found by trying.
    pub unavailable: Option<Unavailable>,
}

/// All kinds of sources, the best first. Each is tried.
pub fn offers() -> Vec<Offer> {
    vec![
        Offer {
            name: "ebpf",
            sees: "calls of a tool's processes, failed ones too, with result and time, in one sequence; losses counted",
            misses: "others, stores through mappings; io_uring and 32-bit calls are only counted",
            unavailable: ebpf().err(),
        },
        Offer {
            name: "seccomp",
            sees: "calls of a tool that semj starts, before they are made; none is lost",
            misses: "others, results, single writes, io_uring, 32-bit calls, stores through mappings",
            unavailable: Seccomp::open().err(),
        },
        Offer {
            name: "fanotify",
            sees: "changes of files on whole file systems, with the process",
            misses: fanotify::MISSES,
            unavailable: Fanotify::open(FanotifyOptions::default()).err(),
        },
        Offer {
            name: "inotify",
            sees: "changes of files in watched folders",
            misses: inotify::MISSES,
            unavailable: Inotify::open(&[], &[]).err(),
        },
        Offer {
            name: "process connector",
            sees: "which process came from which, every one of them",
            misses: "files",
            unavailable: Connector::open().err().map(|e| {
                Unavailable::new(
                    "the process connector, in the first namespaces of the machine",
                    "run as root or on a kernel of 6.6 or newer, outside containers",
                )
                .because(&e)
                .or_else("/proc snapshots: processes that live for less than 5 ms are not seen")
            }),
        },
        Offer {
            name: "/proc snapshots",
            sees: "which process came from which",
            misses: "short lives; files",
            unavailable: None,
        },
        SemjTail::offer(),
    ]
}

#[cfg(feature = "ebpf")]
fn ebpf() -> Result<(), Unavailable> {
    super::ebpf::Ebpf::open(super::ebpf::EbpfOptions::default()).map(drop)
}

#[cfg(not(feature = "ebpf"))]
fn ebpf() -> Result<(), Unavailable> {
    Err(super::no_ebpf())
}

impl SemjTail {
    /// What it is. It can be had wherever there are files.
    pub fn offer() -> Offer {
        Offer {
            name: "semj_tail",
            sees: "records that another program writes to a file, a FIFO or a block device",
            misses: "whatever that program leaves out",
            unavailable: None,
        }
    }
}
