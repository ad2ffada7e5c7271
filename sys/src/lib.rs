//! The few system calls of Linux that semj needs and no safe crate offers: fanotify, files by handle, bpf,
//! seccomp and its listener, what a supervisor needs of another process, and shared pages.
//!
//! This is the only package with `unsafe` code. Each block says why it is sound; each function is safe to call with
//! any arguments and gives back either an owned descriptor or the error of the call. It decides nothing.

#[cfg(feature = "ebpf")]
pub mod bpf;
pub mod fanotify;
pub mod handle;
mod mapping;
pub mod page;
pub mod process;
#[cfg(feature = "ebpf")]
pub mod ring;
pub mod seccomp;

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

/// Takes what a system call returned: a new descriptor, or -1 and `errno`.
fn owned(returned: libc::c_long) -> io::Result<OwnedFd> {
    match libc::c_int::try_from(returned) {
        Ok(fd) if fd >= 0 => {
            // SAFETY: the call has just returned this descriptor as a new one, and nobody else was told of it.
            Ok(unsafe { OwnedFd::from_raw_fd(fd) })
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// Takes what a system call returned that tells nothing but success.
fn done(returned: libc::c_long) -> io::Result<()> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
