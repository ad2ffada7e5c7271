//! What a supervisor needs of another process: its memory, whose thread a thread is, and a descriptor that was handed down.

use crate::{done, owned};
use std::io;
use std::os::fd::OwnedFd;

/// Reads memory of the process that `thread` belongs to; how many bytes of `into` it came to.
///
/// # Errors
/// `ESRCH` when it is gone, `EFAULT` where nothing is mapped, `EPERM` where it may not be looked at.
pub fn read_memory(thread: u32, address: u64, into: &mut [u8]) -> io::Result<usize> {
    let here = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    // The address is the other process's, and never used as one of ours.
    let there =
        libc::iovec { iov_base: std::ptr::without_provenance_mut(address as usize), iov_len: into.len() };
    // SAFETY: `here` describes `into`, which outlives the call and is borrowed for writing; the kernel checks `there`
    // against the other process.
    let read =
        unsafe { libc::process_vm_readv(thread.cast_signed(), &raw const here, 1, &raw const there, 1, 0) };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

/// Whether `thread` is a thread of process `process`.
pub fn is_thread_of(process: u32, thread: u32) -> bool {
    // SAFETY: the call takes three numbers, and signal 0 is none.
    let returned = unsafe { libc::syscall(libc::SYS_tgkill, process.cast_signed(), thread.cast_signed(), 0) };
    // Whoever may not be signalled is there all the same.
    returned == 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

/// A copy of the descriptor with this number, which the parent of this process left open for it. Neither outlives an exec.
///
/// # Errors
/// `EBADF` when there is none.
pub fn handed_down(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes three numbers.
    done(libc::c_long::from(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }))?;
    // SAFETY: the call takes three numbers and makes a new descriptor; the old one stays whose it is.
    owned(libc::c_long::from(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_far_as_there_is_some() {
        let text = *b"some text";
        let mut read = [0; 9];
        assert_eq!(read_memory(std::process::id(), text.as_ptr() as u64, &mut read).unwrap(), 9);
        assert_eq!(read, text);
        assert!(read_memory(std::process::id(), 0, &mut read).is_err());
    }

    #[test]
    fn a_thread_belongs_to_its_process_alone() {
        let me = std::process::id();
        assert!(is_thread_of(me, me));
        assert!(!is_thread_of(me, 1) || me == 1);
        assert!(!is_thread_of(me, u32::MAX));
        assert!(handed_down(-1).is_err());
    }
}
