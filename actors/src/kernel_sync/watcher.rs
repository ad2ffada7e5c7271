//! The thread that sleeps until a source has something to read, or somebody sets the wall clock, and rings KernelSync.

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    clock_sets: Arc<AtomicU64>,
}

/// What becomes readable when somebody sets the wall clock: a timer at no time that ever comes, which the kernel takes
/// back then. `None` where the system has none; each anchor is compared with the one before all the same.
fn clock_watch() -> Option<OwnedFd> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let timer = timerfd_create(TimerfdClockId::Realtime, flags).ok()?;
    arm(&timer).ok()?;
    Some(timer)
}

fn arm(timer: &OwnedFd) -> io::Result<()> {
    let never = Timespec { tv_sec: i64::from(i32::MAX) * 4, tv_nsec: 0 };
    let none = Timespec { tv_sec: 0, tv_nsec: 0 };
    let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    timerfd_settime(timer, flags, &Itimerspec { it_interval: none, it_value: never })?;
    Ok(())
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
        let clock_sets = Arc::new(AtomicU64::new(0));
        let sets = clock_sets.clone();
        std::thread::Builder::new()
            .name("semj-watch".into())
            .spawn(move || look(&taken, &interrupted, &looking, &sets, &ring))?;
        Ok(Watcher { orders, is_looking, interrupt, clock_sets })
    }

    /// How often somebody set the wall clock.
    pub(crate) fn clock_sets(&self) -> u64 {
        self.clock_sets.load(Ordering::SeqCst)
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

fn look(
    orders: &Receiver<Watch>,
    interrupt: &OwnedFd,
    looking: &AtomicBool,
    sets: &AtomicU64,
    ring: &dyn Fn(),
) {
    let clock = clock_watch();
    for Watch { fds, at_most } in orders {
        let mut polled: Vec<PollFd<'_>> =
            fds.iter().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)).collect();
        polled.push(PollFd::new(interrupt, PollFlags::IN));
        polled.extend(clock.as_ref().map(|clock| PollFd::new(clock, PollFlags::IN)));
        let timeout = Timespec {
            tv_sec: i64::try_from(at_most.as_secs()).unwrap_or(1),
            tv_nsec: i64::from(at_most.subsec_nanos()),
        };
        // Whatever it says, the sources know better.
        let _ = poll(&mut polled, Some(&timeout));
        let _ = rustix::io::read(interrupt, &mut [0u8; 8]);
        if let Some(clock) = &clock
            && was_set(rustix::io::read(clock, &mut [0u8; 8]))
        {
            sets.fetch_add(1, Ordering::SeqCst);
            let _ = arm(clock);
        }
        looking.store(false, Ordering::SeqCst);
        ring();
    }
}

/// Whether reading the timer says that the clock was set.
fn was_set(read: rustix::io::Result<usize>) -> bool {
    matches!(read, Err(Errno::CANCELED) | Ok(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_nobody_sets_is_quiet() {
        let clock = clock_watch().expect("the system has such timers");
        assert!(!was_set(rustix::io::read(&clock, &mut [0u8; 8])), "nothing to read");
        assert!(was_set(Err(Errno::CANCELED)) && !was_set(Err(Errno::INTR)));
        arm(&clock).unwrap();
    }
}
