//! How the listener comes from the process that becomes the tool to the one that watches.

use super::{Unavailable, filter, unavailable};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use semj_sys::{process, seccomp};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// What the process says when it is under the filter, and when it is, but gains no privileges any more.
const LISTENS: u8 = 1;
const LISTENS_WITHOUT_PRIVILEGES: u8 = 2;
/// What it says before an error number.
const REFUSED: u8 = 3;

/// A listener on its way.
#[derive(Debug)]
pub struct Listener {
    pub(super) fd: OwnedFd,
    /// The tool gains no privileges by running a program: without CAP_SYS_ADMIN there is no other way.
    pub(super) forbids_privileges: bool,
}

/// Two ends that messages with descriptors go through.
///
/// # Errors
/// When there are no more descriptors.
pub fn ends() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Puts this thread under the filter. True when it gains no privileges any more.
pub(super) fn listen() -> io::Result<(OwnedFd, bool)> {
    let program = filter::program();
    match seccomp::listen(&program) {
        Err(e) if e.raw_os_error() == Some(Errno::ACCESS.raw_os_error()) => {
            seccomp::gain_no_privileges()?;
            seccomp::listen(&program).map(|fd| (fd, true))
        }
        other => other.map(|fd| (fd, false)),
    }
}

/// Whether a tool can be started so, tried on a thread that ends at once.
pub(super) fn probe() -> Result<(), Unavailable> {
    if super::calls::CALLS.is_empty() {
        return Err(unavailable(
            "an x86-64 or aarch64 machine",
            "its system calls are the only ones known so far",
        ));
    }
    let tried = std::thread::Builder::new().name("semj-probe".into()).spawn(|| listen().map(drop));
    let tried = tried.and_then(|t| t.join().unwrap_or_else(|_| Err(io::Error::other("the probe panicked"))));
    tried.map_err(|e| refused(&e))
}

/// Why there is no listener.
pub(super) fn refused(error: &io::Error) -> Unavailable {
    let busy = error.raw_os_error() == Some(Errno::BUSY.raw_os_error());
    let remedy = if busy {
        "another supervisor listens to this process already, and the kernel allows one"
    } else {
        "use Linux 5.5 or newer; in a container let its seccomp profile allow seccomp(2)"
    };
    unavailable("a listener to seccomp filters", remedy).because(error)
}

/// In the process that becomes the tool: puts it under the filter and sends the listener through descriptor `number`, which
/// is gone when this returns. It must have one thread.
///
/// # Errors
/// When nothing could be sent; a filter that was refused is the other end's to hear.
pub fn come_under(number: i32) -> io::Result<()> {
    let socket = process::handed_down(number)?;
    match listen() {
        Ok((listener, without)) => {
            let word = if without { LISTENS_WITHOUT_PRIVILEGES } else { LISTENS };
            send(&socket, &[word], &[listener.as_fd()])
        }
        Err(e) => {
            let [a, b, c, d] = e.raw_os_error().unwrap_or(0).to_le_bytes();
            send(&socket, &[REFUSED, a, b, c, d], &[])
        }
    }
}

/// Takes the listener that [`come_under`] sends through the other end.
///
/// # Errors
/// Why it could not have one.
pub fn take_over(socket: &OwnedFd) -> io::Result<Listener> {
    let (message, mut fds) = receive(socket)?;
    match (message.as_slice(), fds.pop()) {
        ([word @ (LISTENS | LISTENS_WITHOUT_PRIVILEGES)], Some(fd)) => {
            Ok(Listener { fd, forbids_privileges: *word == LISTENS_WITHOUT_PRIVILEGES })
        }
        ([REFUSED, a, b, c, d], None) => {
            Err(io::Error::from_raw_os_error(i32::from_le_bytes([*a, *b, *c, *d])))
        }
        _ => Err(io::Error::other("the process ended before it sent its listener")),
    }
}

pub(super) fn send(socket: &OwnedFd, message: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::from(Errno::NOBUFS));
    }
    sendmsg(socket, &[IoSlice::new(message)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// One message and its descriptors; an empty one when the other end is closed.
pub(super) fn receive(socket: &OwnedFd) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut message = vec![0; 16];
    let got = rustix::io::retry_on_intr(|| {
        let mut into = [IoSliceMut::new(&mut message)];
        recvmsg(socket, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::from(Errno::NOBUFS));
    }
    message.truncate(got.bytes);
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            fds.extend(rights);
        }
    }
    Ok((message, fds))
}
