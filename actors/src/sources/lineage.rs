//! Which process came from which: what each way of knowing it tells.

use std::io;
use std::os::fd::BorrowedFd;

/// One change among the processes of the machine. Times are BOOTTIME in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// A process is there that was not.
    Started {
        /// Whose child it is.
        parent: u32,
        /// Its id.
        tgid: u32,
        /// When it was noticed.
        at_ns: u64,
        /// When it started: with the id the identity of a process.
        start_ns: u64,
    },
    /// It runs another program now.
    Executed {
        /// Its id.
        tgid: u32,
        /// When.
        at_ns: u64,
    },
    /// It is gone.
    Exited {
        /// Its id.
        tgid: u32,
        /// When.
        at_ns: u64,
        /// As `wait(2)` tells it, where it is known.
        status: Option<u32>,
    },
}

/// How a drain went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Drained {
    /// Some changes were lost before it.
    pub lost: bool,
}

/// A way of knowing which process came from which.
pub trait Lineage: Send {
    /// What it is called in the journal.
    fn name(&self) -> &'static str;
    /// What becomes readable when there is something; `None`: look every few milliseconds.
    fn pollable(&self) -> Option<BorrowedFd<'_>>;
    /// Whether every process is told, however short its life.
    fn exact(&self) -> bool;
    /// Tells every change so far.
    ///
    /// # Errors
    /// When the operating system does not answer.
    fn drain(&mut self, out: &mut Vec<Change>) -> io::Result<Drained>;
}
