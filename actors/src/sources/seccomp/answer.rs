//! The thread that receives calls and lets them go.

use super::desk::Desk;
use super::shared::Shared;
use crate::sources::boot_ns;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use semj_sys::seccomp::Hand;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

/// What the thread holds. When it ends, for whatever reason, the keeper sees its socket closed and goes on in its place.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) listener: OwnedFd,
    pub(super) hand: Hand,
    /// The socket to the keeper, where there is one: held, never used.
    pub(super) keeper: Option<OwnedFd>,
    pub(super) bell: Arc<OwnedFd>,
    pub(super) shared: Arc<Shared>,
    pub(super) desk: Desk,
    /// Calls that the keeper let go, as far as they were told.
    pub(super) passed: u64,
    /// When that was looked at, BOOTTIME in nanoseconds.
    pub(super) looked_ns: i64,
    /// Nobody is under the filter any more.
    pub(super) is_over: bool,
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.shared.end();
        drop(self.keeper.take());
    }
}

impl Answer {
    /// Until somebody says stop.
    pub(super) fn run(mut self) {
        let mut turn = 0;
        while !self.shared.stops() {
            let Ok(is_called) = self.wait() else { return };
            turn += 1;
            self.hand.set_turn(turn);
            if is_called {
                self.receive();
            }
            self.tell_passed();
            if self.desk.next_look_ns().is_some_and(|due| due <= boot_ns().cast_signed()) {
                self.desk.look();
            }
            if let Some(point) = self.shared.asked()
                && self.desk.mark(point)
            {
                self.shared.given(point);
            }
            // From here on the tool waits because records wait, as it should.
            self.hand.set_turn(0);
            self.desk.publish();
        }
    }

    /// Waits for a call, a bell, or the time of the next look. True when there is a call.
    fn wait(&mut self) -> io::Result<bool> {
        let marks_ns = self.shared.asked().map(|_| self.desk.next_mark_ns());
        let due = self.desk.next_look_ns().into_iter().chain(marks_ns).min().map(|due| {
            let ns = due.saturating_sub(boot_ns().cast_signed()).max(0);
            Timespec { tv_sec: ns / 1_000_000_000, tv_nsec: ns % 1_000_000_000 }
        });
        let bell = PollFd::new(&*self.bell, PollFlags::IN);
        let listener = PollFd::new(&self.listener, PollFlags::IN);
        let mut watched = if self.is_over { vec![bell] } else { vec![bell, listener] };
        match poll(&mut watched, due.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let events: Vec<PollFlags> = watched.iter().map(PollFd::revents).collect();
        if events.first().is_some_and(|e| e.contains(PollFlags::IN)) {
            let _ = rustix::io::read(&*self.bell, &mut [0; 8]);
        }
        let calls = events.get(1).copied().unwrap_or(PollFlags::empty());
        self.is_over |= calls.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL);
        Ok(calls.contains(PollFlags::IN))
    }

    fn receive(&mut self) {
        // It may have ended, or been interrupted, since.
        let Ok(waiting) = self.hand.receive(self.listener.as_fd()) else { return };
        let taken = self.desk.take(waiting);
        // An answer that arrives is proof that the caller was there all the time.
        let was_made = self.hand.go_on(self.listener.as_fd()).is_ok();
        self.desk.gone_on(taken, waiting.thread, was_made);
    }

    /// Tells what the keeper let go meanwhile.
    fn tell_passed(&mut self) {
        let (passed, now_ns) = (self.hand.passed(), boot_ns().cast_signed());
        if passed > self.passed {
            self.desk.missed(passed - self.passed, self.looked_ns);
        }
        (self.passed, self.looked_ns) = (passed, now_ns);
    }
}
