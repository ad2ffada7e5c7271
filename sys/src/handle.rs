//! `open_by_handle_at(2)`: from the handle that an event carries back to a file.

use crate::{done, owned};
use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

/// The longest handle of the kernel, in bytes.
pub const HANDLE_BYTES_MAX: usize = 128;

/// `struct file_handle` with room for the longest handle.
#[repr(C)]
struct FileHandle {
    bytes: u32,
    kind: i32,
    handle: [u8; HANDLE_BYTES_MAX],
}

/// Opens the file with this handle, for its name only (`O_PATH`), on the file system that `mount` is on.
///
/// # Errors
/// `ESTALE` when the file is gone, `EPERM` without CAP_DAC_READ_SEARCH, `EINVAL` for a handle of impossible length.
pub fn open_by_handle(mount: BorrowedFd<'_>, kind: i32, handle: &[u8]) -> io::Result<OwnedFd> {
    let mut file =
        FileHandle { bytes: u32::try_from(handle.len()).unwrap_or(0), kind, handle: [0; HANDLE_BYTES_MAX] };
    let room = file.handle.get_mut(..handle.len());
    room.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?.copy_from_slice(handle);
    let place: *mut FileHandle = &raw mut file;
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    // SAFETY: `file` has the layout of `struct file_handle`, its length field is within its array, and it outlives
    // the call.
    owned(unsafe { libc::syscall(libc::SYS_open_by_handle_at, mount.as_raw_fd(), place, flags) })
}

/// The id of the file system that `path` is on, in the bytes that events of fanotify carry.
///
/// # Errors
/// As `statfs(2)`.
pub fn file_system_id(path: &CStr) -> io::Result<[u8; 8]> {
    let mut answer = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: `path` ends with a zero byte, `answer` has room for the structure, and both outlive the call.
    done(libc::c_long::from(unsafe { libc::statfs(path.as_ptr(), answer.as_mut_ptr()) }))?;
    // SAFETY: the call succeeded and has filled the structure.
    let id = unsafe { answer.assume_init() }.f_fsid;
    // SAFETY: `fsid_t` is two integers of 4 bytes without padding, so all of its bytes are initialised.
    Ok(unsafe { std::mem::transmute::<libc::fsid_t, [u8; 8]>(id) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;

    #[test]
    fn a_handle_that_is_too_long_is_refused_before_the_call() {
        let root = std::fs::File::open("/").unwrap();
        let error = open_by_handle(root.as_fd(), 1, &[0; HANDLE_BYTES_MAX + 1]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
}
