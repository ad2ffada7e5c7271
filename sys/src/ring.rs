//! A ring buffer of bpf and an array of counters, mapped into memory.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
/// Length and page offset of a record, before its bytes.
const HEAD: u64 = 8;

/// A shared mapping that ends with this.
#[derive(Debug)]
struct Mapping {
    at: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping belongs to whoever has this value; what it points to is not tied to a thread.
unsafe impl Send for Mapping {}
// SAFETY: all that is read or written through a shared reference are atomics, or bytes that the kernel has published.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(fd: BorrowedFd<'_>, bytes: usize, offset: usize, writable: bool) -> io::Result<Self> {
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
    fn place(&self, offset: usize, length: usize) -> Option<NonNull<u8>> {
        (offset.checked_add(length)? <= self.bytes).then_some(())?;
        // SAFETY: the place lies within the mapping.
        Some(unsafe { self.at.add(offset) })
    }

    fn atomic64(&self, offset: usize) -> Option<&AtomicU64> {
        let place = self.place(offset, 8).filter(|_| offset.is_multiple_of(8))?;
        // SAFETY: the place is mapped as long as `self`, aligned, and every access to it is atomic.
        Some(unsafe { place.cast::<AtomicU64>().as_ref() })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this place and length, and no reference into it outlives `self`.
        let _ = unsafe { libc::munmap(self.at.as_ptr().cast(), self.bytes) };
    }
}

/// An array map of `u64` that was made mappable.
#[derive(Debug)]
pub struct Counters(Mapping);

impl Counters {
    /// Maps the first page of it.
    ///
    /// # Errors
    /// As `mmap(2)`.
    pub fn map(fd: BorrowedFd<'_>) -> io::Result<Self> {
        Mapping::new(fd, 4096, 0, true).map(Counters)
    }

    /// The value at `index` now; 0 beyond the first page.
    pub fn get(&self, index: usize) -> u64 {
        self.0.atomic64(index.saturating_mul(8)).map_or(0, |c| c.load(Ordering::SeqCst))
    }

    /// Sets the value at `index`.
    pub fn set(&self, index: usize, value: u64) {
        if let Some(counter) = self.0.atomic64(index.saturating_mul(8)) {
            counter.store(value, Ordering::SeqCst);
        }
    }
}

/// The reader's end of a ring.
#[derive(Debug)]
pub struct Ring {
    consumer: Mapping,
    /// The producer's page, and behind it the records, mapped twice in a row.
    records: Mapping,
    page: usize,
    mask: u64,
}

impl Ring {
    /// Maps a ring of `bytes`, a power of two and a multiple of `page`, which is the machine's page size.
    ///
    /// # Errors
    /// As `mmap(2)`.
    pub fn map(fd: BorrowedFd<'_>, bytes: usize, page: usize) -> io::Result<Self> {
        if !bytes.is_power_of_two() || page == 0 {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let consumer = Mapping::new(fd, page, 0, true)?;
        let records = Mapping::new(fd, page + 2 * bytes, page, false)?;
        Ok(Ring { consumer, records, page, mask: bytes as u64 - 1 })
    }

    /// Hands at most `max` records to `take`, in the order in which they were reserved. True when there may be more.
    pub fn read(&mut self, max: usize, mut take: impl FnMut(&[u8])) -> bool {
        let (Some(consumed), Some(produced)) = (self.consumer.atomic64(0), self.records.atomic64(0)) else {
            return false;
        };
        let mut at = consumed.load(Ordering::Acquire);
        let mut taken = 0;
        while at < produced.load(Ordering::Acquire) && taken < max {
            let offset = self.page + (at & self.mask) as usize;
            let Some(head) = self.records.place(offset, HEAD as usize) else { break };
            // SAFETY: heads are aligned to 8, mapped as long as `self`, and written by the kernel as one word.
            let head = unsafe { head.cast::<AtomicU32>().as_ref() }.load(Ordering::Acquire);
            if head & BUSY != 0 {
                break;
            }
            let length = head & !(BUSY | DISCARDED);
            if head & DISCARDED == 0
                && let Some(place) = self.records.place(offset + HEAD as usize, length as usize)
            {
                // SAFETY: the place is mapped as long as `self`; the kernel has published the record and does not
                // write to it again before `consumed` passes it, which happens below.
                take(unsafe { std::slice::from_raw_parts(place.as_ptr(), length as usize) });
            }
            at += (HEAD + u64::from(length)).next_multiple_of(8);
            consumed.store(at, Ordering::Release);
            taken += 1;
        }
        taken == max
    }
}
