//! The first page of a file, mapped and shared with whoever else has it.

use crate::mapping::Mapping;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// Bytes that are mapped.
pub const PAGE_BYTES: usize = 4_096;

/// See the module. Who looks at a word of a file that was cut off meanwhile is killed by SIGBUS: a process that does not
/// own the file hands words to calls of the kernel only, which answer EFAULT.
#[derive(Debug)]
pub struct Page(Mapping);

impl Page {
    /// Maps the page; it may be written to with `writable`.
    ///
    /// # Errors
    /// As `mmap(2)`.
    pub fn map(fd: BorrowedFd<'_>, writable: bool) -> io::Result<Self> {
        Mapping::new(fd, PAGE_BYTES, 0, writable).map(Page)
    }

    /// The word of 4 bytes at `offset`; `None` where there is none, or it is not aligned.
    pub fn word(&self, offset: usize) -> Option<&AtomicU32> {
        self.0.atomic32(offset)
    }

    /// The word of 8 bytes at `offset`; `None` where there is none, or it is not aligned.
    pub fn long(&self, offset: usize) -> Option<&AtomicU64> {
        self.0.atomic64(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::FileExt as _;
    use std::sync::atomic::Ordering;

    #[test]
    fn words_are_those_of_the_file_and_lie_within_the_page() {
        let name = format!("semj-page-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let file =
            std::fs::File::options().create(true).truncate(true).read(true).write(true).open(&path).unwrap();
        file.set_len(PAGE_BYTES as u64).unwrap();
        let page = Page::map(file.as_fd(), true).unwrap();
        page.long(8).unwrap().store(7, Ordering::SeqCst);
        let mut bytes = [0; 16];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes[8..], 7u64.to_le_bytes());
        file.write_all_at(&9u32.to_le_bytes(), 4_092).unwrap();
        assert_eq!(page.word(4_092).unwrap().load(Ordering::SeqCst), 9);
        assert!(page.word(4_096).is_none() && page.word(2).is_none() && page.long(4_092).is_none());
        std::fs::remove_file(&path).unwrap();
    }
}
