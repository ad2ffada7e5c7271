//! The system calls that are recorded, by their numbers on x86-64, the only machine whose numbers and registers are
//! known here.

use crate::sources::Op;

/// How a call names what it works on: numbers of arguments.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A path below the working folder or below a folder that is open; a second path.
    Path { folder: Option<usize>, path: usize, target: Option<usize> },
    /// Opens a file: where its folder, its path and its flags are.
    Open { folder: Option<usize>, path: usize, flags: Flags },
    /// Changes the content of an open file.
    Write { fd: usize },
}

/// Where an opening call has its flags.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Flags {
    /// In an argument.
    Argument(usize),
    /// It makes the file, or cuts it.
    All,
    /// In the caller's memory.
    Elsewhere,
}

const fn path(folder: Option<usize>, path: usize, target: Option<usize>) -> Shape {
    Shape::Path { folder, path, target }
}

const fn open(folder: Option<usize>, path: usize, flags: Flags) -> Shape {
    Shape::Open { folder, path, flags }
}

/// What stands for an argument where a call has none: the working folder, nothing, and flags that change a file. The
/// programs keep them behind the four arguments.
pub(super) const WORKING_FOLDER: usize = 4;
pub(super) const NOTHING: usize = 5;
pub(super) const ALL_FLAGS: usize = 6;

/// The kinds of shapes.
pub(super) const PATHS: i32 = 0;
pub(super) const WRITES: i32 = 1;
pub(super) const OPENS: i32 = 2;

impl Shape {
    /// Where its path (or descriptor), folder, second path and flags stand, three bits each, and its kind above them.
    pub(super) fn code(self) -> i32 {
        let (path, folder, target, flags, kind) = match self {
            // The third argument says what `unlinkat` removes, and which the second folder of a rename is.
            Shape::Path { folder, path, target } => (path, folder, target, 2, PATHS),
            Shape::Open { folder, path, flags } => {
                let flags = match flags {
                    Flags::Argument(n) => n,
                    Flags::All => ALL_FLAGS,
                    Flags::Elsewhere => NOTHING,
                };
                (path, folder, None, flags, OPENS)
            }
            Shape::Write { fd } => (fd, None, None, NOTHING, WRITES),
        };
        let places = [path, folder.unwrap_or(WORKING_FOLDER), target.unwrap_or(NOTHING), flags];
        places.iter().rev().fold(kind, |code, place| (code << 3) | *place as i32)
    }
}

/// `ftruncate` and `fallocate`: they return 0 when they have done something.
pub(super) const CUT: [i32; 2] = [77, 285];
/// `symlink` and `symlinkat`: their second path is a text and leads nowhere by itself.
pub(super) const TEXT: [i32; 2] = [88, 266];

/// `fchmod`, `fchown` and `fsetxattr`: they name an open file and no path.
pub(super) const BY_DESCRIPTOR: [i32; 3] = [91, 93, 190];

/// The calls that are recorded, in the order of their numbers.
pub(super) const CALLS: [(i32, Shape); 46] = [
    (1, Shape::Write { fd: 0 }),
    (2, open(None, 0, Flags::Argument(1))),
    (18, Shape::Write { fd: 0 }),
    (20, Shape::Write { fd: 0 }),
    (40, Shape::Write { fd: 0 }),
    (76, path(None, 0, None)),
    (77, Shape::Write { fd: 0 }),
    (82, path(None, 0, Some(1))),
    (83, path(None, 0, None)),
    (84, path(None, 0, None)),
    (85, open(None, 0, Flags::All)),
    (86, path(None, 1, Some(0))),
    (87, path(None, 0, None)),
    (88, path(None, 1, Some(0))),
    (90, path(None, 0, None)),
    (91, path(Some(0), NOTHING, None)),
    (92, path(None, 0, None)),
    (93, path(Some(0), NOTHING, None)),
    (94, path(None, 0, None)),
    (132, path(None, 0, None)),
    (133, path(None, 0, None)),
    (188, path(None, 0, None)),
    (189, path(None, 0, None)),
    (190, path(Some(0), NOTHING, None)),
    (197, path(None, 0, None)),
    (198, path(None, 0, None)),
    (235, path(None, 0, None)),
    (257, open(Some(0), 1, Flags::Argument(2))),
    (258, path(Some(0), 1, None)),
    (259, path(Some(0), 1, None)),
    (260, path(Some(0), 1, None)),
    (261, path(Some(0), 1, None)),
    (263, path(Some(0), 1, None)),
    (264, path(Some(0), 1, Some(3))),
    (265, path(Some(2), 3, Some(1))),
    (266, path(Some(1), 2, Some(0))),
    (268, path(Some(0), 1, None)),
    (275, Shape::Write { fd: 2 }),
    (280, path(Some(0), 1, None)),
    (285, Shape::Write { fd: 0 }),
    (296, Shape::Write { fd: 0 }),
    (316, path(Some(0), 1, Some(3))),
    (326, Shape::Write { fd: 2 }),
    (328, Shape::Write { fd: 0 }),
    (437, open(Some(0), 1, Flags::Elsewhere)),
    (452, path(Some(0), 1, None)),
];

/// The 32-bit calls that may change files, by their own numbers, in order: they are counted.
pub(super) const FOREIGN: [i32; 44] = [
    4, 5, 8, 9, 10, 15, 16, 30, 38, 39, 40, 83, 92, 93, 94, 95, 146, 181, 182, 187, 193, 194, 198, 207, 212,
    239, 271, 295, 296, 298, 299, 301, 302, 303, 304, 306, 313, 320, 324, 334, 353, 377, 412, 437,
];
/// Those of them that open: the argument with their flags. They change something only with [`CHANGING`].
pub(super) const FOREIGN_OPEN: [(i32, &str); 2] = [(5, "cx"), (295, "dx")];
/// `O_WRONLY`, `O_RDWR`, `O_CREAT` and `O_TRUNC`
pub(super) const CHANGING: i32 = 0x243;
pub(super) const O_CREAT: i32 = 0x40;
pub(super) const O_TRUNC: i32 = 0x200;

/// The requests of io_uring that may change files, by their numbers: they are counted.
pub(super) const QUEUED: [i32; 12] = [2, 5, 17, 23, 30, 35, 36, 37, 38, 39, 55, 61];
/// Those that open.
pub(super) const QUEUED_OPEN: [i32; 2] = [18, 28];

/// Errors of writing that say something of the disk or the file; the descriptor was good.
pub(super) const TELLING: [i32; 4] = [-5, -27, -28, -122];

/// What was done, by the number of the call.
pub(super) fn op_of(kind: u32, created: bool, third: u64) -> Option<Op> {
    const AT_REMOVEDIR: u64 = 0x200;
    Some(match kind {
        2 | 257 | 85 | 437 if created => Op::Create,
        2 | 257 | 85 | 437 | 76 => Op::Truncate,
        1 | 18 | 20 | 296 | 328 | 77 | 285 | 40 | 326 | 275 => Op::Write,
        87 => Op::Delete,
        263 if third & AT_REMOVEDIR != 0 => Op::Rmdir,
        263 => Op::Delete,
        84 => Op::Rmdir,
        82 | 264 | 316 => Op::Rename,
        83 | 258 => Op::Mkdir,
        88 | 266 => Op::Symlink,
        86 | 265 => Op::Hardlink,
        133 | 259 => Op::Create,
        90 | 91 | 268 | 452 => Op::Chmod,
        92 | 93 | 94 | 260 => Op::Chown,
        280 | 132 | 235 | 261 | 188 | 189 | 190 | 197 | 198 => Op::Attribute,
        _ => return None,
    })
}

/// What an opening that failed was to do, by its flags.
pub(super) fn op_of_failed_open(flags: u64) -> Op {
    match () {
        () if flags & O_CREAT as u64 != 0 => Op::Create,
        () if flags & O_TRUNC as u64 != 0 => Op::Truncate,
        () => Op::Write,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_in_the_order_of_numbers() {
        assert!(CALLS.is_sorted_by(|a, b| a.0 < b.0) && FOREIGN.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn every_call_has_an_op() {
        assert!(CALLS.iter().all(|(number, _)| op_of(*number as u32, false, 0).is_some()));
    }
}
