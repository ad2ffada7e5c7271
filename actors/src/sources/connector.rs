//! The process connector (`<linux/cn_proc.h>`): the kernel tells every fork, exec and exit as it happens.
//!
//! A fork is told before the child runs, and an exit after the process has closed its files. Whoever reads another
//! source first and the connector second therefore knows every process that the other source can name.

use super::lineage::{Change, Drained, Lineage};
use super::native::{put_u16, put_u32, u32_at, u64_at};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with, sockopt,
};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const CN_IDX_PROC: u32 = 1;
const CN_VAL_PROC: u32 = 1;
const PROC_CN_MCAST_LISTEN: u32 = 1;
const NLMSG_DONE: u16 = 3;
/// `struct nlmsghdr` and `struct cn_msg`, in bytes.
const HEADS: usize = 16 + 20;
/// Where the data of a `struct proc_event` begins: behind what, cpu and timestamp.
const DATA: usize = HEADS + 16;

const EVENT_NONE: u32 = 0;
const EVENT_FORK: u32 = 1;
const EVENT_EXEC: u32 = 2;
const EVENT_EXIT: u32 = 0x8000_0000;

/// Room for events not yet read, in bytes; the kernel doubles it. An event takes about 1 KiB of it.
const RECEIVE_BYTES: usize = 32 << 20;
/// How long the kernel's answer to the subscription may take. It comes at once, or never.
const ANSWER_WITHIN_MS: i64 = 200;

/// A subscription to the process connector.
#[derive(Debug)]
pub struct Connector {
    socket: OwnedFd,
    /// BOOTTIME - MONOTONIC when it was opened, in nanoseconds; grows by each suspend.
    ahead_ns: u64,
    buffer: Vec<u8>,
}

impl Connector {
    /// Subscribes, and waits for the kernel's answer: where processes have a namespace of their own there is none.
    ///
    /// # Errors
    /// `EPERM` where an ordinary user may not listen, `ETIMEDOUT` where the kernel does not answer.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::CONNECTOR))?;
        bind(&socket, &SocketAddrNetlink::new(0, CN_IDX_PROC))?;
        if sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BYTES).is_err() {
            sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BYTES)?;
        }
        send(&socket, &listen(), SendFlags::empty())?;
        let mut connector =
            Connector { socket, ahead_ns: super::boot_ahead_of_mono(), buffer: vec![0; 1 << 12] };
        connector.await_answer()?;
        Ok(connector)
    }

    fn await_answer(&mut self) -> io::Result<()> {
        let mut waits = 0;
        while waits < 4 {
            let mut watched = [PollFd::new(&self.socket, PollFlags::IN)];
            let within = Timespec { tv_sec: 0, tv_nsec: ANSWER_WITHIN_MS * 1_000_000 / 4 };
            if poll(&mut watched, Some(&within))? == 0 {
                waits += 1;
                continue;
            }
            let bytes = recv(&self.socket, self.buffer.as_mut_slice(), RecvFlags::empty())?.0;
            let message = self.buffer.get(..bytes).unwrap_or_default();
            if u32_at(message, HEADS) == Some(EVENT_NONE) {
                return match u32_at(message, DATA) {
                    Some(0) | None => Ok(()),
                    Some(error) => Err(io::Error::from_raw_os_error(error.cast_signed())),
                };
            }
        }
        Err(io::Error::from(Errno::TIMEDOUT))
    }
}

/// The message that subscribes.
fn listen() -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADS + 4);
    put_u32(&mut message, HEADS as u32 + 4);
    put_u16(&mut message, NLMSG_DONE);
    put_u16(&mut message, 0);
    for word in [0, 0, CN_IDX_PROC, CN_VAL_PROC, 0, 0] {
        put_u32(&mut message, word);
    }
    put_u16(&mut message, 4);
    put_u16(&mut message, 0);
    put_u32(&mut message, PROC_CN_MCAST_LISTEN);
    message
}

/// What one message tells; `None` for threads and for what is not followed.
fn parse(message: &[u8], ahead_ns: u64) -> Option<Change> {
    let word = |n: usize| u32_at(message, DATA + 4 * n);
    let at_ns = u64_at(message, HEADS + 8)?.saturating_add(ahead_ns);
    match u32_at(message, HEADS)? {
        EVENT_FORK => {
            let (parent, child, tgid) = (word(1)?, word(2)?, word(3)?);
            (child == tgid).then_some(Change::Started { parent, tgid, at_ns, start_ns: at_ns })
        }
        EVENT_EXEC => Some(Change::Executed { tgid: word(1)?, at_ns }),
        EVENT_EXIT => {
            let (pid, tgid, status) = (word(0)?, word(1)?, word(2)?);
            (pid == tgid).then_some(Change::Exited { tgid, at_ns, status: Some(status) })
        }
        _ => None,
    }
}

impl Lineage for Connector {
    fn name(&self) -> &'static str {
        "process connector"
    }

    fn pollable(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn exact(&self) -> bool {
        true
    }

    fn drain(&mut self, out: &mut Vec<Change>) -> io::Result<Drained> {
        let mut lost = false;
        loop {
            match recv(&self.socket, self.buffer.as_mut_slice(), RecvFlags::DONTWAIT) {
                Ok((bytes, _)) => {
                    out.extend(parse(self.buffer.get(..bytes).unwrap_or_default(), self.ahead_ns));
                }
                Err(Errno::AGAIN) => return Ok(Drained { lost }),
                Err(Errno::NOBUFS) => lost = true,
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(what: u32, data: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0; HEADS];
        put_u32(&mut bytes, what);
        put_u32(&mut bytes, 0);
        put_u32(&mut bytes, 5);
        put_u32(&mut bytes, 0);
        data.iter().for_each(|word| put_u32(&mut bytes, *word));
        bytes
    }

    #[test]
    fn processes_are_told_and_threads_are_not() {
        let fork = |child, tgid| parse(&message(EVENT_FORK, &[10, 10, child, tgid]), 100);
        let started = Change::Started { parent: 10, tgid: 11, at_ns: 105, start_ns: 105 };
        assert_eq!((fork(11, 11), fork(12, 11)), (Some(started), None));
        let exit = |pid, tgid| parse(&message(EVENT_EXIT, &[pid, tgid, 256, 17]), 0);
        assert_eq!(exit(11, 11), Some(Change::Exited { tgid: 11, at_ns: 5, status: Some(256) }));
        assert_eq!(exit(12, 11), None);
        let whole = message(EVENT_FORK, &[10, 10, 11, 11]);
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length], 0), None, "cut at {length}");
        }
    }
}
