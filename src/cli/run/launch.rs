//! A tool that is started stopped: the process is there, with its id, and runs nothing yet.
//!
//! semj starts itself under [`STOPPED`]; that process stops itself and, when it is let go, becomes the tool. If semj
//! dies meanwhile, it dies too. Nothing of this is left in the tool: same process, same descriptors, default signals. Where
//! its calls are to be watched, it comes under a filter before it stops ([`LISTENED`]), and that stays.

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, getppid, kill_process, set_child_subreaper,
    set_parent_process_death_signal, waitpid,
};
use semj::observe::{Listener, come_under, ends, take_over};
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

/// The first argument that makes semj the process which becomes a tool.
pub(crate) const STOPPED: &str = "__start-stopped";
/// The same under a filter; the second argument is the number of the descriptor that the listener goes through.
pub(crate) const LISTENED: &str = "__start-listened";
/// What shells answer when there is no such tool.
const NO_SUCH_TOOL: u8 = 127;
/// What shells answer when a tool cannot be run.
const CANNOT_RUN: u8 = 126;

/// A tool that waits to be run.
#[derive(Debug)]
pub(crate) struct Tool {
    pid: Pid,
}

/// How a tool ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// By itself, with this code.
    Exit(u8),
    /// By this signal.
    Signal(u8),
}

impl End {
    /// The exit code that tells it on.
    pub(crate) fn code(self) -> u8 {
        match self {
            End::Exit(code) => code,
            End::Signal(signal) => signal.saturating_add(128),
        }
    }

    /// The signal, if it was one.
    pub(crate) fn signal(self) -> Option<u8> {
        match self {
            End::Exit(_) => None,
            End::Signal(signal) => Some(signal),
        }
    }
}

/// The tool's name without its folder.
pub(crate) fn name_of(command: &[OsString]) -> String {
    let first = command.first().map(Path::new).unwrap_or(Path::new(""));
    let name = first.file_name().unwrap_or(first.as_os_str()).to_string_lossy();
    name.chars().take(100).collect()
}

impl Tool {
    /// Starts the process and waits until it has stopped. This process takes over what the tool leaves behind.
    pub(crate) fn stopped(command: &[OsString]) -> io::Result<Self> {
        set_child_subreaper(Some(getpid()))?;
        Tool::start(Command::new("/proc/self/exe").arg(STOPPED).args(command))
    }

    /// As [`Tool::stopped`], under a filter; and the listener to its calls.
    pub(crate) fn listened(command: &[OsString]) -> io::Result<(Self, Listener)> {
        set_child_subreaper(Some(getpid()))?;
        let (here, there) = ends()?;
        fcntl_setfd(&there, FdFlags::empty())?;
        let number = there.as_raw_fd().to_string();
        let tool = Tool::start(Command::new("/proc/self/exe").args([LISTENED, &number]).args(command));
        drop(there);
        let tool = tool?;
        match take_over(&here) {
            Ok(listener) => Ok((tool, listener)),
            Err(e) => {
                let _ = kill_process(tool.pid, Signal::KILL);
                let _ = waitpid(Some(tool.pid), WaitOptions::empty());
                Err(e)
            }
        }
    }

    fn start(command: &mut Command) -> io::Result<Self> {
        let child = command.spawn()?;
        let raw = i32::try_from(child.id()).map_err(io::Error::other)?;
        let pid = Pid::from_raw(raw).ok_or_else(|| io::Error::other("a process without an id"))?;
        match waitpid(Some(pid), WaitOptions::UNTRACED)? {
            Some((_, status)) if status.stopped() => Ok(Tool { pid }),
            _ => Err(io::Error::other("the process ended before it became the tool")),
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    /// Lets it go and waits for its end. Processes that it leaves behind are collected on the way.
    pub(crate) fn run(self) -> io::Result<End> {
        kill_process(self.pid, Signal::CONT)?;
        loop {
            let waited = rustix::io::retry_on_intr(|| waitpid(None, WaitOptions::empty()))?;
            let Some((pid, status)) = waited else { continue };
            if pid != self.pid {
                continue;
            }
            let small = |n: i32| u8::try_from(n).unwrap_or(u8::MAX);
            if let Some(code) = status.exit_status() {
                return Ok(End::Exit(small(code)));
            }
            if let Some(signal) = status.terminating_signal() {
                return Ok(End::Signal(small(signal)));
            }
        }
    }
}

/// This process comes under a filter, sends its listener through the descriptor with this number, and goes on as
/// [`become_tool`].
pub(crate) fn become_listened(arguments: &[OsString]) -> ExitCode {
    let Some((number, command)) = arguments.split_first() else { return ExitCode::from(CANNOT_RUN) };
    let number = number.to_str().and_then(|n| n.parse().ok());
    match number.map(come_under) {
        Some(Ok(())) => become_tool(command),
        _ => ExitCode::from(CANNOT_RUN),
    }
}

/// This process stops, and becomes the tool when it is let go.
pub(crate) fn become_tool(command: &[OsString]) -> ExitCode {
    let Some((program, arguments)) = command.split_first() else { return ExitCode::from(CANNOT_RUN) };
    let parent = getppid();
    let stopped = set_parent_process_death_signal(Some(Signal::KILL)).and_then(|()| {
        if getppid() != parent {
            return Err(rustix::io::Errno::SRCH);
        }
        kill_process(getpid(), Signal::STOP)?;
        set_parent_process_death_signal(None)
    });
    if stopped.is_err() {
        return ExitCode::from(CANNOT_RUN);
    }
    let error = Command::new(program).args(arguments).exec();
    let name = super::super::escape::line(&program.to_string_lossy());
    let _ = writeln!(io::stderr().lock(), "semj: cannot run {name}: {error}");
    ExitCode::from(if error.kind() == io::ErrorKind::NotFound { NO_SUCH_TOOL } else { CANNOT_RUN })
}
