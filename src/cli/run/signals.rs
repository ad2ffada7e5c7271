//! Signals that reach semj while a tool runs are meant for the tool.

use crate::cli::interrupt::Interrupt;
use rustix::process::{Pid, Signal, getpgrp, kill_process};
use rustix::termios::tcgetpgrp;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::{Handle, Signals};
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Hands signals on as long as it lives.
pub(super) struct Forward {
    handle: Handle,
    to: Arc<AtomicU32>,
}

impl Forward {
    /// From now on no signal ends this process; what comes before [`Forward::to`] is dropped.
    pub(super) fn install(interrupt: &Interrupt) -> io::Result<Self> {
        let mut signals = Signals::new([SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2])?;
        interrupt.leave();
        let handle = signals.handle();
        let to = Arc::new(AtomicU32::new(0));
        let target = to.clone();
        std::thread::Builder::new().name("semj-signals".into()).spawn(move || {
            for number in signals.forever() {
                let pid = i32::try_from(target.load(Ordering::SeqCst)).ok().and_then(Pid::from_raw);
                let from_terminal = matches!(number, SIGINT | SIGQUIT) && is_in_foreground();
                if let (Some(pid), Some(signal), false) = (pid, named(number), from_terminal) {
                    let _ = kill_process(pid, signal);
                }
            }
        })?;
        Ok(Forward { handle, to })
    }

    /// Whom to hand them to.
    pub(super) fn to(&self, pid: u32) {
        self.to.store(pid, Ordering::SeqCst);
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.to.store(0, Ordering::SeqCst);
        self.handle.close();
    }
}

fn named(number: i32) -> Option<Signal> {
    match number {
        SIGINT => Some(Signal::INT),
        SIGQUIT => Some(Signal::QUIT),
        SIGTERM => Some(Signal::TERM),
        SIGHUP => Some(Signal::HUP),
        SIGUSR1 => Some(Signal::USR1),
        SIGUSR2 => Some(Signal::USR2),
        _ => None,
    }
}

/// A terminal sends Ctrl-C to the whole group in its foreground: the tool has it already.
fn is_in_foreground() -> bool {
    File::open("/dev/tty").is_ok_and(|tty| tcgetpgrp(&tty).is_ok_and(|group| group == getpgrp()))
}
