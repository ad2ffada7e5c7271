//! `bpf(2)`: maps, programs and their attachment to raw tracepoints.

use crate::{done, owned};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_RAW_TRACEPOINT_OPEN: libc::c_long = 17;

/// `BPF_PROG_TYPE_TRACING`, and its attach type `BPF_TRACE_RAW_TP`.
const PROG_TYPE_TRACING: u32 = 26;
const TRACE_RAW_TP: u32 = 23;
/// Bytes kept of what the verifier says.
const LOG_BYTES: usize = 1 << 16;

/// The kinds of maps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapKind {
    /// Key to value.
    Hash = 1,
    /// Index to value.
    Array = 2,
    /// Index to a value that each processor has for itself.
    ArrayPerProcessor = 6,
    /// Key to value; the least recently used goes when it is full.
    LruHash = 9,
    /// Records for a reader.
    Ring = 27,
}

/// Lets the values of an array be mapped into memory.
pub const MAPPABLE: u32 = 1 << 10;

/// The argument of a command, at most 152 bytes, as in `union bpf_attr`: zeros, and numbers at places.
struct Attr([u8; 152]);

impl Attr {
    fn new() -> Self {
        Attr([0; 152])
    }

    fn put<const N: usize>(mut self, at: usize, bytes: [u8; N]) -> Self {
        if let Some(place) = self.0.get_mut(at..).and_then(|b| b.first_chunk_mut()) {
            *place = bytes;
        }
        self
    }

    fn u32(self, at: usize, value: u32) -> Self {
        self.put(at, value.to_ne_bytes())
    }

    fn u64(self, at: usize, value: u64) -> Self {
        self.put(at, value.to_ne_bytes())
    }

    /// # Safety
    /// Every address in it must be good for what `command` does with it, as long as the call lasts.
    unsafe fn call(mut self, command: libc::c_long) -> libc::c_long {
        // SAFETY: the argument is as long as is said; its addresses are the caller's promise.
        unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_mut_ptr(), self.0.len()) }
    }
}

/// A new map.
///
/// # Errors
/// `EPERM` without CAP_BPF.
pub fn map(kind: MapKind, key_bytes: u32, value_bytes: u32, entries: u32, flags: u32) -> io::Result<OwnedFd> {
    let attr = Attr::new().u32(0, kind as u32).u32(4, key_bytes).u32(8, value_bytes);
    let attr = attr.u32(12, entries).u32(16, flags);
    // SAFETY: the argument holds no address.
    owned(unsafe { attr.call(BPF_MAP_CREATE) })
}

/// Sets a value in a map from `u32` to `u64`; for maps of another shape it does nothing good, and nothing bad either
/// unless their keys or values are longer, which is why there are none.
///
/// # Errors
/// `E2BIG` when the map is full.
pub fn set(map: BorrowedFd<'_>, key: u32, value: u64) -> io::Result<()> {
    // Room for longer keys and values than the map should have: the kernel never reads beyond.
    let (mut long_key, mut long_value) = ([0u64; 512], [0u64; 512]);
    long_key.first_mut().into_iter().for_each(|k| *k = u64::from_ne_bytes(word(key)));
    long_value.first_mut().into_iter().for_each(|v| *v = value);
    let attr = Attr::new().u32(0, map.as_raw_fd().cast_unsigned());
    let attr = attr.u64(8, long_key.as_ptr() as u64).u64(16, long_value.as_ptr() as u64);
    // SAFETY: key and value are 4 KiB each, more than any map made by this module has, and outlive the call.
    done(unsafe { attr.call(BPF_MAP_UPDATE_ELEM) })
}

/// A `u32` as the first four bytes of eight.
fn word(value: u32) -> [u8; 8] {
    let [a, b, c, d] = value.to_ne_bytes();
    [a, b, c, d, 0, 0, 0, 0]
}

/// Loads a program for a raw tracepoint of this BTF type and attaches it; it stays attached as long as both live.
///
/// # Errors
/// The error of the call, and what the verifier said.
pub fn attach(program: &[u64], btf_type: u32) -> Result<(OwnedFd, OwnedFd), (io::Error, String)> {
    // What the verifier says makes loading several times slower: it is asked for only where the program is refused.
    let program = load(program, btf_type, &mut []).or_else(|_| {
        let mut log = vec![0u8; LOG_BYTES];
        load(program, btf_type, &mut log).map_err(|e| (e, last_words(&log)))
    })?;
    let attr = Attr::new().u32(8, program.as_raw_fd().cast_unsigned());
    // SAFETY: the argument holds no address but a null one, which is right for typed tracepoints.
    let link = owned(unsafe { attr.call(BPF_RAW_TRACEPOINT_OPEN) }).map_err(|e| (e, String::new()))?;
    Ok((program, link))
}

/// Loads a program; an empty `log` stays empty.
fn load(program: &[u64], btf_type: u32, log: &mut [u8]) -> io::Result<OwnedFd> {
    let licence = c"Dual MIT/GPL";
    let mut attr = Attr::new()
        .u32(0, PROG_TYPE_TRACING)
        .u32(4, u32::try_from(program.len()).unwrap_or(0))
        .u64(8, program.as_ptr() as u64)
        .u64(16, licence.as_ptr() as u64)
        .u32(68, TRACE_RAW_TP)
        .u32(108, btf_type);
    if !log.is_empty() {
        let bytes = u32::try_from(log.len()).unwrap_or(u32::MAX);
        attr = attr.u32(24, 1).u32(28, bytes).u64(32, log.as_mut_ptr() as u64);
    }
    // SAFETY: program, licence and log are as long as is said and outlive the call; the kernel verifies the program.
    owned(unsafe { attr.call(BPF_PROG_LOAD) })
}

/// The end of what the verifier said.
fn last_words(log: &[u8]) -> String {
    let end = log.iter().position(|b| *b == 0).unwrap_or(log.len());
    let text = String::from_utf8_lossy(log.get(..end).unwrap_or_default()).into_owned();
    text.get(text.floor_char_boundary(text.len().saturating_sub(2_000))..).unwrap_or_default().to_owned()
}
