//! Signals. A reading command ends at once; a writing one first commits what it has taken.

use super::outcome::code;
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The state behind Ctrl-C. Starts out so that the first signal ends the process.
#[derive(Clone)]
pub(crate) struct Interrupt {
    /// Set: the next signal ends the process at once. A signal sets it.
    armed: Arc<AtomicBool>,
    /// The handlers that end the process.
    ending: Vec<signal_hook::SigId>,
}

impl Interrupt {
    /// Installs the handlers.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub(crate) fn install() -> io::Result<Self> {
        let armed = Arc::new(AtomicBool::new(true));
        let mut ending = Vec::new();
        for signal in [SIGINT, SIGTERM] {
            // The order matters: look at the flag first, set it second.
            ending.push(signal_hook::flag::register_conditional_shutdown(
                signal,
                i32::from(code::INTERRUPTED),
                armed.clone(),
            )?);
            signal_hook::flag::register(signal, armed.clone())?;
        }
        // Over a file size limit, the default action would kill the process instead of failing the write.
        signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
        Ok(Interrupt { armed, ending })
    }

    /// From now on the first signal only asks; the second one ends the process.
    pub(crate) fn ask_first(&self) {
        self.armed.store(false, Ordering::SeqCst);
    }

    /// From now on no signal ends the process by itself.
    pub(crate) fn leave(&self) {
        for id in &self.ending {
            signal_hook::low_level::unregister(*id);
        }
    }

    /// Whether a signal has asked to stop. Only meaningful after `ask_first`.
    pub(crate) fn requested(&self) -> bool {
        self.armed.load(Ordering::SeqCst)
    }
}
