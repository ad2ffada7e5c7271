//! A tool that is started stopped: the process is there, with its id, and runs nothing yet.
//!
//! semj starts itself under [`STOPPED`]; that process stops itself and, when it is let go, becomes the tool. If semj
//! dies meanwhile, it dies too. Nothing of this is left in the tool: same process, same descriptors, default signals.

use rustix::process::{
    Pid, Signal, WaitOptions, getpid, getppid, kill_process, set_child_subreaper,
    set_parent_process_death_signal, waitpid,
};
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

/// The first argument that makes semj the process which becomes a tool.
pub(crate) const STOPPED: &str = "__start-stopped";
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
        let child = Command::new("/proc/self/exe").arg(STOPPED).args(command).spawn()?;
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
