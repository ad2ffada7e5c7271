//! The keeper: a process that lets calls go when nobody else does any more.
//!
//! Whoever is under the filter stays so until its end, however long after the watcher's. Without anybody at the listener
//! its calls would fail. So a small process holds the listener, too, and a socket to the watcher. When that is closed, be it
//! by an orderly end or by a kill, the keeper lets the call go that was in hand, then every other, and ends with the last
//! process under the filter.

use super::handover::{receive, send};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{chdir, setsid};
use semj_sys::seccomp::Hand;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// What the keeper says when it holds the listener.
const HOLDS: u8 = 1;

/// Gives the listener and the hand to the keeper at the other end, and waits until it holds them.
pub(super) fn employ(socket: &OwnedFd, listener: BorrowedFd<'_>, hand: BorrowedFd<'_>) -> io::Result<()> {
    send(socket, &[HOLDS], &[listener, hand])?;
    match receive(socket)?.0.as_slice() {
        [HOLDS] => Ok(()),
        _ => Err(io::Error::other("the keeper of the listener ended")),
    }
}

/// Is the keeper whose watcher is at the other end of this process's stdin, until nobody is under the filter any more.
///
/// # Errors
/// When the watcher ended before it gave anything to keep.
pub fn keep() -> io::Result<()> {
    // Nobody's terminal, and nobody's folder: neither Ctrl-C nor an unmounting is any business of it.
    let _ = setsid();
    let _ = chdir("/");
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    let (_, mut fds) = receive(&socket)?;
    let (Some(file), Some(listener)) = (fds.pop(), fds.pop()) else {
        return Err(io::Error::other("there is nothing to keep"));
    };
    let mut hand = Hand::map(file.as_fd())?;
    send(&socket, &[HOLDS], &[])?;
    loop {
        let mut watched = [PollFd::new(&listener, PollFlags::empty()), PollFd::new(&socket, PollFlags::IN)];
        wait(&mut watched)?;
        let [tools, watcher] = watched.map(|w| !w.revents().is_empty());
        if tools {
            return Ok(());
        }
        if watcher {
            break;
        }
    }
    if hand.id() != 0 {
        let _ = hand.go_on(listener.as_fd());
    }
    loop {
        let mut watched = [PollFd::new(&listener, PollFlags::IN)];
        wait(&mut watched)?;
        let [events] = watched.map(|w| w.revents());
        // One that is gone meanwhile needs no answer.
        if events.contains(PollFlags::IN) && hand.receive(listener.as_fd()).is_ok() {
            let _ = hand.go_on(listener.as_fd());
        } else if events.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            return Ok(());
        }
    }
}

fn wait(watched: &mut [PollFd<'_>]) -> io::Result<()> {
    match poll(watched, None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}
