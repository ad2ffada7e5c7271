//! What this user could observe on this machine, found by trying each source.

use super::rung::{self, Plan, Wanted};
use crate::sources::Unavailable;
use crate::sources::connector::Connector;
use std::path::PathBuf;

/// One source and whether it is there.
#[derive(Debug)]
pub struct Probe {
    /// Its name.
    pub name: &'static str,
    /// What it is for, in a line.
    pub sees: &'static str,
    /// The strength of the evidence it gives, in percent.
    pub strength: u32,
    /// Nothing, or what it needs.
    pub answer: Result<(), Unavailable>,
}

/// Opens every source once and closes it again; best first.
pub fn probe(folder: PathBuf) -> Vec<Probe> {
    let open = |wanted| {
        let plan = Plan { wanted, folders: vec![folder.clone()], shallow: true, ..Plan::default() };
        rung::open(&plan).map(drop)
    };
    let connector = Connector::open().map(drop).map_err(|e| {
        Unavailable::new(
            "the process connector, in the first namespaces of the machine",
            "run as root or on a kernel of 6.6 or newer, outside containers",
        )
        .because(&e)
        .or_else("/proc snapshots: processes that live for less than 5 ms are not seen")
    });
    vec![
        Probe {
            name: "ebpf",
            sees: "calls of tagged processes with result and time, in one sequence; losses counted",
            strength: 100,
            answer: open(Wanted::Ebpf),
        },
        Probe {
            name: "fanotify",
            sees: "changes of files on whole file systems, with the process",
            strength: 95,
            answer: open(Wanted::Fanotify),
        },
        Probe {
            name: "inotify",
            sees: "changes of files in watched folders, without the process",
            strength: 40,
            answer: open(Wanted::Inotify),
        },
        Probe {
            name: "process connector",
            sees: "which process came from which, every one of them",
            strength: 95,
            answer: connector,
        },
        Probe {
            name: "/proc snapshots",
            sees: "which process came from which, as far as they live long enough",
            strength: 70,
            answer: Ok(()),
        },
    ]
}
