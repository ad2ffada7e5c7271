//! The keeper: a process that lets calls go when nobody else does any more.
//!
//! Whoever is under the filter stays so until its end, however long after the watcher's. Without anybody at the listener
//! its calls would fail. So a small process holds the listener, too, and a socket to the watcher. When that is closed, be it
//! by an orderly end or by a kill, the keeper lets the call go that was in hand, then every other, and ends with the last
//! process under the filter.
//!
//! While the watcher lives it may hang: it looks at places whose file system may answer only when another call of the very tool
//! has gone on. When one turn of its work takes too long, the keeper lets the call go that is in hand, and all others until the
//! turn is over; the watcher hears how many went on unlooked at.

use super::handover::{receive, send};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::process::{chdir, setsid};
use semj_sys::seccomp::{HAND_BYTES, Hand};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

/// What the keeper says when it holds the listener.
const HOLDS: u8 = 1;
/// How often the keeper looks at the watcher: one who is twice at the same turn hangs.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it looks whether a turn that hung is over.
const LOOK_AGAIN_EVERY: Duration = Duration::from_millis(50);

/// Gives the listener and the hand to the keeper at the other end, and waits until it holds them.
pub(super) fn employ(socket: &OwnedFd, listener: BorrowedFd<'_>, hand: BorrowedFd<'_>) -> io::Result<()> {
    send(socket, &[HOLDS], &[listener, hand])?;
    match receive(socket)?.0.as_slice() {
        [HOLDS] => Ok(()),
        _ => Err(io::Error::other("the keeper of the listener ended")),
    }
}

/// A file for a hand, and the hand.
pub(super) fn new_hand() -> io::Result<(OwnedFd, Hand)> {
    let file = memfd_create("semj-hand", MemfdFlags::CLOEXEC)?;
    ftruncate(&file, HAND_BYTES as u64)?;
    let hand = Hand::map(file.as_fd())?;
    Ok((file, hand))
}

/// Is the keeper whose watcher is at the other end of this process's stdin, until nobody is under the filter any more.
///
/// # Errors
/// When the watcher ended before it gave anything to keep.
pub fn keep() -> io::Result<()> {
    // Nobody's terminal, and nobody's folder: neither Ctrl-C nor an unmounting is any business of it.
    let _ = setsid();
    let _ = chdir("/");
    keep_for(&io::stdin().as_fd().try_clone_to_owned()?)
}

fn keep_for(socket: &OwnedFd) -> io::Result<()> {
    let (_, mut fds) = receive(socket)?;
    let (Some(file), Some(listener)) = (fds.pop(), fds.pop()) else {
        return Err(io::Error::other("there is nothing to keep"));
    };
    let hand = Hand::map(file.as_fd())?;
    let mut keeper = Keeper { listener, socket, hand, own: new_hand()?.1 };
    send(socket, &[HOLDS], &[])?;
    keeper.watch()
}

/// How long a turn of the keeper goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    /// The watcher is there.
    Watched,
    /// The watcher is gone.
    Alone,
    /// Nobody is under the filter any more.
    Over,
}

struct Keeper<'a> {
    listener: OwnedFd,
    socket: &'a OwnedFd,
    /// The watcher's.
    hand: Hand,
    /// The keeper's own.
    own: Hand,
}

impl Keeper<'_> {
    fn watch(&mut self) -> io::Result<()> {
        let mut before = 0;
        let mut next = Next::Watched;
        while next == Next::Watched {
            next = self.wait(PollFlags::empty(), Some(LOOK_EVERY))?.0;
            let turn = self.hand.turn();
            if next == Next::Watched && turn != 0 && turn == before {
                next = self.stand_in(turn)?;
            }
            before = turn;
        }
        if next == Next::Alone && self.hand.id() != 0 {
            let _ = self.hand.go_on(self.listener.as_fd());
        }
        while next != Next::Over {
            next = self.let_one_go(None)?.0;
        }
        Ok(())
    }

    /// Lets calls go until the turn is over. The call in hand stays in it, for its owner to find out.
    fn stand_in(&mut self, turn: u64) -> io::Result<Next> {
        let mut next = Next::Watched;
        let id = self.hand.id();
        let mut went = id != 0 && self.hand.pass(self.listener.as_fd(), id).is_ok();
        while next == Next::Watched && self.hand.turn() == turn {
            self.hand.add_passed(u64::from(went));
            (next, went) = self.let_one_go(Some(LOOK_AGAIN_EVERY))?;
        }
        self.hand.add_passed(u64::from(went));
        Ok(next)
    }

    /// Waits for a call and lets it go. True when there was one.
    fn let_one_go(&mut self, within: Option<Duration>) -> io::Result<(Next, bool)> {
        let (next, is_there) = self.wait(PollFlags::IN, within)?;
        // One that is gone meanwhile needs no answer.
        let went = is_there
            && self.own.receive(self.listener.as_fd()).is_ok()
            && self.own.go_on(self.listener.as_fd()).is_ok();
        Ok((next, went))
    }

    /// Waits for what is wanted of the listener, or for its end or the watcher's.
    fn wait(&self, wanted: PollFlags, within: Option<Duration>) -> io::Result<(Next, bool)> {
        let listener = PollFd::new(&self.listener, wanted);
        let mut watched = [listener, PollFd::new(self.socket, PollFlags::IN)];
        // A watcher that is gone would wake the keeper for ever.
        let count = if within.is_some() { 2 } else { 1 };
        let watched = watched.get_mut(..count).unwrap_or_default();
        let within =
            within.map(|w| Timespec { tv_sec: w.as_secs() as i64, tv_nsec: w.subsec_nanos().into() });
        match poll(watched, within.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let events = |n: usize| watched.get(n).map_or(PollFlags::empty(), PollFd::revents);
        let is_there = events(0).contains(PollFlags::IN);
        let next = if events(0).intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) && !is_there {
            Next::Over
        } else if within.is_none() || !events(1).is_empty() {
            Next::Alone
        } else {
            Next::Watched
        };
        Ok((next, is_there))
    }
}

#[cfg(test)]
mod tests {
    use super::super::handover::{self, ends};
    use super::*;
    use std::fs;
    use std::sync::mpsc::channel;

    #[test]
    fn a_watcher_that_hangs_with_a_call_in_hand_holds_up_nobody_for_long() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["one", "two", "three"].map(|n| folder.path().join(n));
        let (to, from) = channel();
        let made = names.clone();
        // Only this thread is under the filter.
        let tool = std::thread::spawn(move || {
            let listener = handover::listen();
            let listens = listener.is_ok();
            to.send(listener).unwrap();
            listens && made.iter().all(|name| fs::create_dir(name).is_ok())
        });
        let listener = match from.recv().unwrap() {
            Ok((listener, _)) => listener,
            Err(e) => return println!("skipped: nobody can listen to calls here: {e}"),
        };
        let (here, there) = ends().unwrap();
        let keeper = std::thread::spawn(move || keep_for(&there));
        let (file, mut hand) = new_hand().unwrap();
        employ(&here, listener.as_fd(), file.as_fd()).unwrap();
        hand.set_turn(7);
        hand.receive(listener.as_fd()).unwrap();
        // The watcher hangs; the tool does all it wants to.
        assert!(tool.join().unwrap());
        assert!(names.iter().all(|n| n.is_dir()));
        assert!(hand.go_on(listener.as_fd()).is_err(), "somebody else has answered");
        drop((here, listener));
        keeper.join().unwrap().unwrap();
        assert_eq!(hand.passed(), 3);
    }
}
