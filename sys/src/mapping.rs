//! Shared memory of this process and somebody else: the kernel, or another process.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// A shared mapping that ends with this.
#[derive(Debug)]
pub(crate) struct Mapping {
    at: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping belongs to whoever has this value; what it points to is not tied to a thread.
unsafe impl Send for Mapping {}
// SAFETY: all that is read or written through a shared reference are atomics, or bytes that the kernel has published.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(crate) fn new(fd: BorrowedFd<'_>, bytes: usize, offset: usize, writable: bool) -> io::Result<Self> {
        let protection = libc::PROT_READ | if writable { libc::PROT_WRITE } else { 0 };
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        let null = std::ptr::null_mut();
        // SAFETY: a new mapping at a place of the kernel's choice touches no memory that is in use.
        let at = unsafe { libc::mmap(null, bytes, protection, libc::MAP_SHARED, fd.as_raw_fd(), offset) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let at = NonNull::new(at.cast()).ok_or_else(|| io::Error::other("a mapping at address zero"))?;
        Ok(Mapping { at, bytes })
    }

    /// A pointer to `length` bytes at `offset`, if they lie within the mapping.
    pub(crate) fn place(&self, offset: usize, length: usize) -> Option<NonNull<u8>> {
        (offset.checked_add(length)? <= self.bytes).then_some(())?;
        // SAFETY: the place lies within the mapping.
        Some(unsafe { self.at.add(offset) })
    }

    pub(crate) fn atomic64(&self, offset: usize) -> Option<&AtomicU64> {
        let place = self.place(offset, 8).filter(|_| offset.is_multiple_of(8))?;
        // SAFETY: the place is mapped as long as `self`, aligned, and every access to it is atomic.
        Some(unsafe { place.cast::<AtomicU64>().as_ref() })
    }

    pub(crate) fn atomic32(&self, offset: usize) -> Option<&AtomicU32> {
        let place = self.place(offset, 4).filter(|_| offset.is_multiple_of(4))?;
        // SAFETY: the place is mapped as long as `self`, aligned, and every access to it is atomic.
        Some(unsafe { place.cast::<AtomicU32>().as_ref() })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this place and length, and no reference into it outlives `self`.
        let _ = unsafe { libc::munmap(self.at.as_ptr().cast(), self.bytes) };
    }
}
