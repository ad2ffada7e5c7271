//! Who calls: whose thread it is, what stands in its memory, and where its paths begin.
//!
//! All of it is read while the call waits, so that the caller is there and does nothing meanwhile; another thread of it may
//! change what the call has been given. Whoever could not be answered was not the one that was looked at: what was read of
//! it is thrown away then.

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, open, statx};
use rustix::io::Errno;
use semj_sys::process::{is_thread_of, read_memory};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;

/// Longest path, in bytes, as the kernel takes it.
const PATH_BYTES_MAX: usize = 4096;
/// Pages of memory are this long or longer, in bytes.
const PAGE: u64 = 4096;
/// Read at once of a path: most are shorter, in bytes.
const FIRST_READ: u64 = 256;
/// Threads that are remembered; beyond it all are forgotten at once.
const KNOWN_MAX: usize = 16_384;

/// What is known of a thread.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// Its process.
    pub(super) process: u32,
    /// Its name.
    pub(super) command: Vec<u8>,
    /// Its paths do not begin in this process's root.
    pub(super) has_other_root: bool,
}

/// Threads that called before.
#[derive(Debug, Default)]
pub(super) struct Callers {
    known: HashMap<u32, Caller>,
    /// The root of this process.
    root: Option<(u64, u64)>,
}

/// What tells roots apart: mount and inode.
fn root_of(path: &str) -> Option<(u64, u64)> {
    let wanted = StatxFlags::INO | StatxFlags::MNT_ID;
    let found = statx(CWD, path, AtFlags::empty(), wanted).ok()?;
    Some((found.stx_mnt_id, found.stx_ino))
}

impl Callers {
    pub(super) fn new() -> Self {
        Callers { known: HashMap::new(), root: root_of("/proc/self/root") }
    }

    /// Who this thread is; `None` when it is gone or may not be looked at.
    pub(super) fn of(&mut self, thread: u32) -> Option<&Caller> {
        let is_known = self.known.get(&thread).is_some_and(|k| is_thread_of(k.process, thread));
        if !is_known {
            if self.known.len() >= KNOWN_MAX {
                self.known.clear();
            }
            let caller = Caller {
                process: process_of(thread)?,
                command: command(thread),
                has_other_root: root_of(&format!("/proc/{thread}/root")) != self.root,
            };
            self.known.insert(thread, caller);
        }
        self.known.get(&thread)
    }

    /// It may run another program from now on, or have another root.
    pub(super) fn forget(&mut self, thread: u32) {
        self.known.remove(&thread);
    }
}

fn process_of(thread: u32) -> Option<u32> {
    if is_thread_of(thread, thread) {
        return Some(thread);
    }
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    status.lines().find_map(|l| l.strip_prefix("Tgid:"))?.trim().parse().ok()
}

fn command(thread: u32) -> Vec<u8> {
    let mut name = fs::read(format!("/proc/{thread}/comm")).unwrap_or_default();
    name.truncate(name.trim_ascii_end().len());
    name
}

/// The path at this address of a thread's memory, without its zero byte.
///
/// # Errors
/// `ENAMETOOLONG` where it has none within the longest path; else why the memory cannot be read.
pub(super) fn path_at(thread: u32, address: u64) -> io::Result<Vec<u8>> {
    let mut path = Vec::new();
    let mut wanted = FIRST_READ;
    while path.len() < PATH_BYTES_MAX {
        let at = address.wrapping_add(path.len() as u64);
        // What lies on the next page may not be there.
        let length = wanted.min(PAGE - at % PAGE) as usize;
        let begin = path.len();
        path.resize(begin + length, 0);
        let read = read_memory(thread, at, path.get_mut(begin..).unwrap_or_default())?;
        path.truncate(begin + read);
        if let Some(end) = path.iter().skip(begin).position(|b| *b == 0) {
            path.truncate(begin + end);
            return Ok(path);
        }
        if read == 0 {
            return Err(Errno::FAULT.into());
        }
        wanted = PAGE;
    }
    Err(Errno::NAMETOOLONG.into())
}

/// The number at this address of a thread's memory.
pub(super) fn number_at(thread: u32, address: u64) -> io::Result<u64> {
    let mut bytes = [0; 8];
    let read = read_memory(thread, address, &mut bytes)?;
    let number = crate::sources::native::u64_at(bytes.get(..read).unwrap_or_default(), 0);
    number.ok_or_else(|| Errno::FAULT.into())
}

/// Where a relative path of the thread begins: its working folder (`None`, or `AT_FDCWD`), or a folder that it has open.
pub(super) fn base(thread: u32, folder: Option<u64>) -> String {
    // Descriptors are of type int, whatever the upper half of the register holds.
    match folder.map(|f| f as u32 as i32).filter(|f| *f != AT_FDCWD) {
        None => format!("/proc/{thread}/cwd"),
        Some(folder) => format!("/proc/{thread}/fd/{folder}"),
    }
}

/// "The working folder" among descriptors.
const AT_FDCWD: i32 = -100;

/// The root of a thread's paths, to look below.
pub(super) fn root(thread: u32) -> rustix::io::Result<OwnedFd> {
    open(format!("/proc/{thread}/root"), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Whether the thread has left the call with this number and these arguments, as far as that can be told now.
pub(super) fn has_left(thread: u32, number: u32, arguments: &[u64; 6]) -> bool {
    match fs::read_to_string(format!("/proc/{thread}/syscall")) {
        Ok(text) => is_elsewhere(&text, number, arguments),
        Err(e) => {
            matches!(e.raw_os_error().map(Errno::from_raw_os_error), Some(Errno::NOENT | Errno::SRCH))
        }
    }
}

/// What `/proc/PID/syscall` says: "running", or the number, the arguments and two addresses.
fn is_elsewhere(text: &str, number: u32, arguments: &[u64; 6]) -> bool {
    let mut words = text.split_whitespace();
    let Some(Ok(current)) = words.next().map(str::parse::<i64>) else { return false };
    if current != i64::from(number) {
        return true;
    }
    let hex = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok();
    words.map(hex).zip(arguments).any(|(now, then)| now != Some(*then))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_up_to_its_zero_byte_and_no_further_than_a_path_is_long() {
        let me = std::process::id();
        for length in [0, 1, 255, 256, 257, 4_095] {
            let text = [vec![b'x'; length], vec![0], vec![b'y'; 9_000]].concat();
            assert_eq!(path_at(me, text.as_ptr() as u64).unwrap(), vec![b'x'; length]);
        }
        let endless = vec![b'x'; 20_000];
        assert!(path_at(me, endless.as_ptr() as u64).is_err());
        assert!(path_at(me, 0).is_err());
    }

    #[test]
    fn a_thread_has_left_a_call_when_it_sleeps_in_another_or_with_other_arguments() {
        let arguments = [0xff, 2, 0, 0, 0, 0];
        let at = |text: &str| is_elsewhere(text, 83, &arguments);
        assert!(!at("83 0xff 0x2 0x0 0x0 0x0 0x0 0x7ffe 0x7f00\n"));
        assert!(at("83 0xff 0x3 0x0 0x0 0x0 0x0 0x7ffe 0x7f00\n"));
        assert!(at("0 0xff 0x2 0x0 0x0 0x0 0x0 0x7ffe 0x7f00\n"));
        assert!(at("-1 0x7ffe 0x7f00\n"));
        assert!(!at("running\n"));
        assert!(has_left(u32::MAX, 83, &arguments));
    }

    #[test]
    fn this_thread_is_known_by_its_process() {
        let mut callers = Callers::new();
        let me = std::process::id();
        let known = callers.of(me).unwrap();
        assert_eq!((known.process, known.has_other_root), (me, false));
        let thread = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
        assert_eq!(callers.of(thread).unwrap().process, me);
        assert!(callers.of(u32::MAX).is_none());
    }
}
