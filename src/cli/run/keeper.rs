//! The process that keeps a tool going whose watcher is gone.

use semj::observe::{ends, keep};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The first argument that makes semj a keeper, or the process that starts one and ends.
pub(crate) const KEEPER: &str = "__keep-answering";
/// The second argument of the keeper itself.
const ITSELF: &str = "itself";

/// Starts a keeper, and gives back the socket to it. It is no child of this process, so that nobody takes it for one of the
/// tool's: this must come before this process takes over orphans.
pub(crate) fn start() -> io::Result<OwnedFd> {
    let (here, there) = ends()?;
    let status = keeper(&[], there).status()?;
    if status.success() {
        Ok(here)
    } else {
        Err(io::Error::other("the keeper of the listener did not start"))
    }
}

fn keeper(arguments: &[&str], socket: OwnedFd) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg(KEEPER).args(arguments);
    command.stdin(socket).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// This process is a keeper, or starts one.
pub(crate) fn main(arguments: &[OsString]) -> ExitCode {
    let done = if arguments.first().is_some_and(|a| a == ITSELF) { be_keeper() } else { start_keeper() };
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn start_keeper() -> io::Result<()> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    keeper(&[ITSELF], socket).spawn().map(drop)
}

fn be_keeper() -> io::Result<()> {
    // It ends with the last process that needs it, and no sooner.
    for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    keep()
}
