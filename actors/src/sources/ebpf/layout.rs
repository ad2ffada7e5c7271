//! A record as the programs write it and the reader reads it: fixed fields, then as many bytes as its names need.
//!
//! Behind the fixed fields stand the path and the second path, as the caller gave them, each with its zero at the end;
//! then folders' names from the kernel, from the object up, each with its length in the byte before it.

/// Where the names begin.
pub(super) const BODY: i16 = 104;
/// Levels of folders that are recorded, and most bytes of each name.
pub(super) const LEVELS: usize = 16;
pub(super) const NAME: usize = 63;
/// Most bytes of a path from the caller's memory, with its zero.
pub(super) const PATH: usize = 256;
/// Room in which a record is put together. Most of it is only for the verifier, who takes every name for as long as it
/// may be.
pub(super) const SCRATCH: usize = 4_096;
/// In it, where a length is put down so that the verifier forgets how it came about; lengths of paths are below this.
pub(super) const ASIDE: i16 = 4_088;
/// Where the shape of the call is put down, for the same reason.
pub(super) const SHAPE: i16 = 4_090;
/// Where the arguments of the call stand, and what may be taken for one: eight words.
pub(super) const ARGUMENTS: i16 = 4_000;
pub(super) const PATHS_BELOW: usize = 1_024;
const _: () = assert!(BODY as usize + 2 * PATH < PATHS_BELOW && PATHS_BELOW.is_power_of_two());
const _: () = assert!(PATHS_BELOW + (LEVELS + 1) * (NAME + 1) < ARGUMENTS as usize);

/// Where fields stand in a record.
pub(super) mod at {
    pub(crate) const SEQUENCE: i16 = 0;
    pub(crate) const BOOT_NS: i16 = 8;
    pub(crate) const PID_TGID: i16 = 16;
    pub(crate) const CGROUP: i16 = 24;
    pub(crate) const PROCESSOR: i16 = 32;
    pub(crate) const KIND: i16 = 36;
    pub(crate) const TAG: i16 = 40;
    pub(crate) const RESULT: i16 = 48;
    pub(crate) const INODE: i16 = 56;
    pub(crate) const DEVICE: i16 = 64;
    pub(crate) const MODE: i16 = 68;
    pub(crate) const COMMAND: i16 = 72;
    /// What the kind makes of it: a flag, a folder, a child, a status.
    pub(crate) const OTHER: i16 = 88;
    /// The file system that the folders' names begin at.
    pub(crate) const BASE_DEVICE: i16 = 96;
    /// Bytes of the path with its zero; 0 where it could not be read or there is none.
    pub(crate) const PATH_BYTES: i16 = 100;
    pub(crate) const TARGET_BYTES: i16 = 102;
}

/// Kinds beside the numbers of system calls.
pub(super) const FORK: i32 = 1_000;
pub(super) const EXEC: i32 = 1_001;
pub(super) const EXIT: i32 = 1_002;
/// `FMODE_CREATED`
pub(super) const CREATED: u32 = 0x10_0000;

/// The words that programs and reader share, by index.
pub(super) mod word {
    /// Records made, whether there was room for them or not. It only grows.
    pub(crate) const MADE: usize = 0;
    /// Records for which there was no room.
    pub(crate) const LOST: usize = 1;
    /// Not 0 while the reader sleeps.
    pub(crate) const SLEEPS: usize = 2;
    /// 32-bit calls that may have changed files.
    pub(crate) const FOREIGN: usize = 3;
    /// Requests through io_uring that may have changed files.
    pub(crate) const QUEUED: usize = 4;
}
