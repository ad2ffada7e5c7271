//! Torture: a journal on this disk whose actors are killed, hung and stopped, whose threads end, whose I/O fails, and
//! whose process gets SIGKILL, again and again; afterwards everything that was acknowledged is looked for.
//!
//! The process under torture is the own program, started again: it must hand the last argument to [`live`] when it is
//! called with [`Plan::arguments`]. `semj torture` and `benches/chaos.rs` are the two users.

mod check;
mod disturb;
mod drive;
mod life;
mod produce;
mod report;
mod tag;
mod wire;

pub use check::Findings;
pub use life::live;
pub use report::{IoFaults, Recovery, Report, Spread};
pub use tag::Tag;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// An empty folder on the disk to be tortured; what is written there stays.
    pub folder: PathBuf,
    /// How long the tortured lives last together. The undisturbed ones take as long again, the checks come on top.
    pub time: Duration,
    /// Disturbances of actors a second.
    pub kill_rate: f64,
    /// Threads that emit.
    pub producers: u32,
    /// What all random numbers come from.
    pub seed: u64,
    /// Whether the process is killed.
    pub sigkill: bool,
    /// Whether the disk is made to be full, slow and broken.
    pub io_faults: bool,
    /// Whether stages crash at failpoints; without the feature `chaos` there are none.
    pub failpoints: bool,
    /// The program that lives, usually the own one.
    pub program: PathBuf,
    /// Its arguments; the description of the life follows.
    pub arguments: Vec<OsString>,
    /// A lie for the check to notice, to show that it does.
    pub plant: Option<Plant>,
}

/// What the check is lied to about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plant {
    /// An event was acknowledged that nobody has emitted.
    Lost,
    /// Two events were acknowledged with each other's places.
    Reordered,
}

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Time of tortured lives so far.
    pub done: Duration,
    /// Lives so far.
    pub lives: u64,
    /// Restarts of actors so far.
    pub restarts: u64,
    /// Events acknowledged so far.
    pub acknowledged: u64,
}

/// The torture itself could not be done; nothing was found out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure(pub String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

/// Does what the plan says. `go_on` is asked all the time; its first no ends the torture with what was found so far.
///
/// # Errors
/// [`Failure`], e.g. when the program cannot be started.
pub fn run(plan: &Plan, go_on: &mut dyn FnMut(&Progress) -> bool) -> Result<Report, Failure> {
    drive::Torture::new(plan).run(go_on)
}

/// Takes a lock, whatever became of who held it before.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
