//! The thread that sleeps until a source has something to read, and rings KernelSync.

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What to sleep for, once.
#[derive(Debug)]
struct Watch {
    fds: Vec<Arc<OwnedFd>>,
    at_most: Duration,
}

/// The thread. It looks once per order: whoever is rung reads first, then orders again, so a source that stays readable
/// does not ring without end.
#[derive(Debug)]
pub(crate) struct Watcher {
    orders: Sender<Watch>,
    is_looking: Arc<AtomicBool>,
    interrupt: Arc<OwnedFd>,
}

impl Watcher {
    /// Starts the thread. It ends when the watcher is dropped.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn start(ring: impl Fn() + Send + 'static) -> io::Result<Self> {
        let (orders, taken) = bounded(1);
        let interrupt = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
        let is_looking = Arc::new(AtomicBool::new(false));
        let (looking, interrupted) = (is_looking.clone(), interrupt.clone());
        std::thread::Builder::new()
            .name("semj-watch".into())
            .spawn(move || look(&taken, &interrupted, &looking, &ring))?;
        Ok(Watcher { orders, is_looking, interrupt })
    }

    /// Rings when one of these is readable, or after `at_most`.
    pub(crate) fn watch(&self, fds: Vec<Arc<OwnedFd>>, at_most: Duration) {
        if !self.is_looking.swap(true, Ordering::SeqCst) {
            let _ = self.orders.try_send(Watch { fds, at_most });
        }
    }

    /// Lets a look that is under way end now: what it looks at is not all any more.
    pub(crate) fn interrupt(&self) {
        let _ = rustix::io::write(&self.interrupt, &1u64.to_le_bytes());
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.interrupt();
    }
}

fn look(orders: &Receiver<Watch>, interrupt: &OwnedFd, looking: &AtomicBool, ring: &dyn Fn()) {
    for Watch { fds, at_most } in orders {
        let mut polled: Vec<PollFd<'_>> =
            fds.iter().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)).collect();
        polled.push(PollFd::new(interrupt, PollFlags::IN));
        let timeout = Timespec {
            tv_sec: i64::try_from(at_most.as_secs()).unwrap_or(1),
            tv_nsec: i64::from(at_most.subsec_nanos()),
        };
        // Whatever it says, the sources know better.
        let _ = poll(&mut polled, Some(&timeout));
        let _ = rustix::io::read(interrupt, &mut [0u8; 8]);
        looking.store(false, Ordering::SeqCst);
        ring();
    }
}
