//! `fanotify_init(2)` and `fanotify_mark(2)`.

use crate::{done, owned};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

/// Flags of [`init`], as in `<linux/fanotify.h>`.
pub mod flag {
    pub use libc::{
        FAN_CLASS_NOTIF, FAN_CLOEXEC, FAN_NONBLOCK, FAN_REPORT_DIR_FID, FAN_REPORT_FID, FAN_REPORT_NAME,
        FAN_REPORT_TARGET_FID, FAN_UNLIMITED_QUEUE,
    };
}

/// Flags of [`mark`].
pub mod scope {
    pub use libc::{FAN_MARK_FILESYSTEM, FAN_MARK_INODE};
}

/// Bits of an event's mask.
pub mod mask {
    pub use libc::{
        FAN_ATTRIB, FAN_CLOSE_WRITE, FAN_CREATE, FAN_DELETE, FAN_EVENT_ON_CHILD, FAN_MODIFY, FAN_ONDIR,
        FAN_Q_OVERFLOW, FAN_RENAME,
    };
}

/// Makes a notification group. Its events carry handles, never open files.
///
/// # Errors
/// As `fanotify_init(2)`; `EPERM` where a flag asks for more than the caller may have.
pub fn init(flags: u32) -> io::Result<OwnedFd> {
    let event_files = (libc::O_RDONLY | libc::O_LARGEFILE | libc::O_CLOEXEC).cast_unsigned();
    // SAFETY: the call takes two numbers and reads no memory of ours.
    owned(libc::c_long::from(unsafe { libc::fanotify_init(flags, event_files) }))
}

/// Adds what `path` names to what the group watches.
///
/// # Errors
/// As `fanotify_mark(2)`.
pub fn mark(group: BorrowedFd<'_>, scope: u32, mask: u64, path: &CStr) -> io::Result<()> {
    let flags = libc::FAN_MARK_ADD | scope;
    // SAFETY: `path` ends with a zero byte and lives as long as the call; the group is open.
    let returned =
        unsafe { libc::fanotify_mark(group.as_raw_fd(), flags, mask, libc::AT_FDCWD, path.as_ptr()) };
    done(libc::c_long::from(returned))
}
