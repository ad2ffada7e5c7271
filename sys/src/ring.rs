//! A ring buffer of bpf and an array of counters, mapped into memory.

use crate::mapping::Mapping;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, Ordering};

const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
/// Length and page offset of a record, before its bytes.
const HEAD: u64 = 8;

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
