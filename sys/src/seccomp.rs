//! `seccomp(2)`: a filter whose calls wait until a listener answers, and the listener's end of it.
//!
//! A call that was received and not answered waits for ever as long as anybody has the listener open. So what is received
//! lies in memory that others can map: whoever is left can answer it ([`Hand`]).

use crate::mapping::Mapping;
use crate::{done, owned};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

/// Bytes of a [`Hand`], which is more than any kernel writes there.
pub const HAND_BYTES: usize = 4096;
/// Bytes of it that the kernel may write.
const NOTICE_BYTES: usize = 1024;
/// Where it counts calls that somebody else let go.
const PASSED: usize = HAND_BYTES - 8;
/// Where it says which turn its owner is at.
const TURN: usize = HAND_BYTES - 16;
/// What the filter answers for calls that go on by themselves, and for those that wait for the listener.
pub const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
/// See [`ALLOW`].
pub const NOTIFY: u32 = libc::SECCOMP_RET_USER_NOTIF;

/// One instruction of a filter, as `struct sock_filter`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions to leave out where the comparison holds.
    pub then: u8,
    /// How many where it does not.
    pub or_else: u8,
    /// Its number.
    pub value: u32,
}

/// From now on this thread gains no privileges by running a program, nor does anything that comes from it.
///
/// # Errors
/// As `prctl(2)`.
pub fn gain_no_privileges() -> io::Result<()> {
    // SAFETY: the call takes five numbers.
    done(libc::c_long::from(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }))
}

/// Puts this thread, and all that comes from it, under the filter; gives back the listener's end. Where the kernel can,
/// a call that was received is interrupted by nothing but a deadly signal.
///
/// # Errors
/// `EACCES` without CAP_SYS_ADMIN, unless [`gain_no_privileges`] was called; `EBUSY` when a filter above has a listener;
/// `EINVAL` where the kernel knows no listeners.
pub fn listen(filter: &[Instruction]) -> io::Result<OwnedFd> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(io::Error::other)?,
        filter: filter.as_ptr().cast_mut().cast(),
    };
    let install = |flags: libc::c_ulong| {
        let place = &raw const program;
        // SAFETY: `program` describes `filter`, which has the layout of `struct sock_filter`, is only read, and outlives
        // the call.
        owned(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, place) })
    };
    let listener = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    match install(listener | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => install(listener),
        other => other,
    }
}

/// The caller and its listener take turns on one processor: cheaper, where the kernel can.
///
/// # Errors
/// `EINVAL` before Linux 6.6.
pub fn take_turns(listener: BorrowedFd<'_>) -> io::Result<()> {
    /// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`.
    const SYNC_WAKE_UP: u64 = 1;
    // SAFETY: the command takes a number.
    let returned =
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP) };
    done(libc::c_long::from(returned))
}

/// A call that waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waiting {
    /// By this it is answered.
    pub id: u64,
    /// The thread, as this process numbers threads; 0 where it cannot see it.
    pub thread: u32,
    /// Which call.
    pub number: u32,
    /// Its arguments.
    pub arguments: [u64; 6],
}

/// The call in hand: received and not answered. It lies in shared memory, where the kernel itself writes it.
#[derive(Debug)]
pub struct Hand(Mapping);

impl Hand {
    /// The hand in a file of [`HAND_BYTES`].
    ///
    /// # Errors
    /// As `mmap(2)`.
    pub fn map(file: BorrowedFd<'_>) -> io::Result<Self> {
        Mapping::new(file, HAND_BYTES, 0, true).map(Hand)
    }

    /// The id of the call in hand; 0 when it is empty.
    pub fn id(&self) -> u64 {
        self.0.atomic64(0).map_or(0, |id| id.load(Ordering::SeqCst))
    }

    /// Waits for the next call. One that is in hand is put aside unanswered.
    ///
    /// # Errors
    /// `ENOENT` when the caller has ended, `EINTR` after a signal: there may be another.
    pub fn receive(&mut self, listener: BorrowedFd<'_>) -> io::Result<Waiting> {
        let place =
            self.0.place(0, NOTICE_BYTES).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        // SAFETY: the mapping is that long, and `self` is borrowed for writing.
        unsafe { place.as_ptr().write_bytes(0, NOTICE_BYTES) };
        let at = place.cast::<libc::seccomp_notif>();
        // SAFETY: the place is aligned to a page, zero as the kernel wants it, and longer than what it writes.
        let returned =
            unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, at.as_ptr()) };
        done(libc::c_long::from(returned))?;
        // SAFETY: the kernel has filled the structure, which is made of numbers.
        let notice = unsafe { at.read() };
        Ok(Waiting {
            id: notice.id,
            thread: notice.pid,
            number: notice.data.nr.cast_unsigned(),
            arguments: notice.data.args,
        })
    }

    /// Lets the call in hand go on as if nobody had asked, and empties the hand.
    ///
    /// # Errors
    /// `ENOENT` when nobody waits for it any more: the caller was killed or interrupted, and the call was not made; or
    /// somebody else has let it go.
    pub fn go_on(&self, listener: BorrowedFd<'_>) -> io::Result<()> {
        let sent = self.pass(listener, self.id());
        if let Some(id) = self.0.atomic64(0) {
            id.store(0, Ordering::SeqCst);
        }
        sent
    }

    /// Lets the call with this id go on, which is in a hand that somebody else empties.
    ///
    /// # Errors
    /// As [`Hand::go_on`].
    pub fn pass(&self, listener: BorrowedFd<'_>, id: u64) -> io::Result<()> {
        let flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
        let mut answer = libc::seccomp_notif_resp { id, val: 0, error: 0, flags };
        let place = &raw mut answer;
        // SAFETY: the structure is as long as the command says and outlives the call.
        let returned = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, place) };
        done(libc::c_long::from(returned))
    }

    /// Its owner begins this turn of his work, which must be over soon; 0: he waits for something to do.
    pub fn set_turn(&self, turn: u64) {
        if let Some(place) = self.0.atomic64(TURN) {
            place.store(turn, Ordering::SeqCst);
        }
    }

    /// Which turn its owner is at; 0 when he waits for something to do.
    pub fn turn(&self) -> u64 {
        self.0.atomic64(TURN).map_or(0, |turn| turn.load(Ordering::SeqCst))
    }

    /// So many more calls went on that the hand's owner did not see.
    pub fn add_passed(&self, calls: u64) {
        if let Some(passed) = self.0.atomic64(PASSED) {
            passed.fetch_add(calls, Ordering::SeqCst);
        }
    }

    /// How many calls went on that the hand's owner did not see.
    pub fn passed(&self) -> u64 {
        self.0.atomic64(PASSED).map_or(0, |passed| passed.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;
    use std::sync::mpsc::channel;

    /// Lets `getppid` wait for the listener, and everything else go on.
    fn filter() -> [Instruction; 4] {
        let instruction = |code, value, then, or_else| Instruction { code, then, or_else, value };
        [
            instruction(0x20, 0, 0, 0),
            instruction(0x15, libc::SYS_getppid as u32, 0, 1),
            instruction(0x06, NOTIFY, 0, 0),
            instruction(0x06, ALLOW, 0, 0),
        ]
    }

    #[test]
    fn a_call_in_hand_can_be_let_go_by_whoever_shares_the_memory() {
        let (to, from) = channel();
        let caller = std::thread::spawn(move || {
            let listener = listen(&filter()).or_else(|_| {
                gain_no_privileges()?;
                listen(&filter())
            });
            let listens = listener.is_ok();
            to.send(listener).unwrap();
            listens.then(std::os::unix::process::parent_id)
        });
        let listener = match from.recv().unwrap() {
            Ok(listener) => listener,
            Err(e) => return println!("skipped: nobody can listen to calls here: {e}"),
        };
        // SAFETY: the name ends with a zero byte.
        let file = owned(libc::c_long::from(unsafe { libc::memfd_create(c"hand".as_ptr(), 0) })).unwrap();
        // SAFETY: the call takes two numbers.
        done(libc::c_long::from(unsafe { libc::ftruncate(file.as_raw_fd(), HAND_BYTES as i64) })).unwrap();
        let (mut first, second) = (Hand::map(file.as_fd()).unwrap(), Hand::map(file.as_fd()).unwrap());
        assert_eq!(second.id(), 0);
        let waiting = first.receive(listener.as_fd()).unwrap();
        assert_eq!(i64::from(waiting.number), libc::SYS_getppid);
        assert!(waiting.id != 0 && waiting.id == second.id());
        // Whoever received it is gone without an answer.
        drop(first);
        second.go_on(listener.as_fd()).unwrap();
        assert_eq!(second.id(), 0);
        assert_eq!(caller.join().unwrap(), Some(std::os::unix::process::parent_id()));
        assert!(second.go_on(listener.as_fd()).is_err(), "nobody waits any more");
    }
}
