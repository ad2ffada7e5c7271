//! The calls that change files or programs, by number, and where each keeps what it works on.

use crate::sources::Op;

/// Where a call names an object: numbers of arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct At {
    /// The folder that a relative path begins in; the working folder where there is none.
    pub(super) folder: Option<usize>,
    /// The path.
    pub(super) path: usize,
}

/// Where a call that opens keeps its flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Flags {
    /// In an argument, where the filter sees them.
    In(usize),
    /// In the caller's memory, at the address in an argument.
    Behind(usize),
    /// They are always the same: make, write, cut.
    Creat,
}

/// Whether a call follows a link that is the last part of its path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Links {
    /// Always.
    Follow,
    /// Never.
    Keep,
    /// Unless `AT_SYMLINK_NOFOLLOW` is in this argument.
    Unless(usize),
}

/// What a call does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Call {
    /// Opens a file, and may make or cut it.
    Open { at: At, flags: Flags },
    /// Makes a folder or a node.
    Make { op: Op, at: At },
    /// Removes a name; a folder's where `AT_REMOVEDIR` is in the argument `flags`.
    Remove { op: Op, at: At, flags: Option<usize> },
    /// Moves a name; `RENAME_EXCHANGE` may be in the argument `flags`.
    Rename { from: At, to: At, flags: Option<usize> },
    /// Gives an object one more name.
    Link { from: At, to: At, flags: Option<usize> },
    /// Makes a link that holds a text.
    Symlink { text: usize, at: At },
    /// Changes an object that is there.
    Change { op: Op, at: At, links: Links },
    /// Changes an open file.
    ChangeOpen { op: Op, file: usize },
    /// Runs a program.
    Exec { at: At },
    /// May give the caller another root.
    Moves,
}

const fn at(folder: usize, path: usize) -> At {
    At { folder: Some(folder), path }
}

/// A table of numbers and calls.
macro_rules! calls {
    ($($number:literal => $call:expr,)*) => { &[$(($number, $call),)*] };
}

/// The calls that are looked at. Those that open come first: they are the most frequent, and decided by their flags.
#[cfg(target_arch = "x86_64")]
pub(super) const CALLS: &[(u32, Call)] = {
    use Call::{Change, ChangeOpen, Exec, Link, Make, Moves, Open, Remove, Rename, Symlink};
    const fn here(path: usize) -> At {
        At { folder: None, path }
    }
    calls! {
        257 => Open { at: at(0, 1), flags: Flags::In(2) },
        2 => Open { at: here(0), flags: Flags::In(1) },
        437 => Open { at: at(0, 1), flags: Flags::Behind(2) },
        85 => Open { at: here(0), flags: Flags::Creat },
        82 => Rename { from: here(0), to: here(1), flags: None },
        264 => Rename { from: at(0, 1), to: at(2, 3), flags: None },
        316 => Rename { from: at(0, 1), to: at(2, 3), flags: Some(4) },
        87 => Remove { op: Op::Delete, at: here(0), flags: None },
        84 => Remove { op: Op::Rmdir, at: here(0), flags: None },
        263 => Remove { op: Op::Delete, at: at(0, 1), flags: Some(2) },
        83 => Make { op: Op::Mkdir, at: here(0) },
        258 => Make { op: Op::Mkdir, at: at(0, 1) },
        133 => Make { op: Op::Create, at: here(0) },
        259 => Make { op: Op::Create, at: at(0, 1) },
        86 => Link { from: here(0), to: here(1), flags: None },
        265 => Link { from: at(0, 1), to: at(2, 3), flags: Some(4) },
        88 => Symlink { text: 0, at: here(1) },
        266 => Symlink { text: 0, at: at(1, 2) },
        76 => Change { op: Op::Truncate, at: here(0), links: Links::Follow },
        77 => ChangeOpen { op: Op::Truncate, file: 0 },
        90 => Change { op: Op::Chmod, at: here(0), links: Links::Follow },
        91 => ChangeOpen { op: Op::Chmod, file: 0 },
        268 => Change { op: Op::Chmod, at: at(0, 1), links: Links::Follow },
        452 => Change { op: Op::Chmod, at: at(0, 1), links: Links::Unless(3) },
        92 => Change { op: Op::Chown, at: here(0), links: Links::Follow },
        93 => ChangeOpen { op: Op::Chown, file: 0 },
        94 => Change { op: Op::Chown, at: here(0), links: Links::Keep },
        260 => Change { op: Op::Chown, at: at(0, 1), links: Links::Unless(4) },
        188 => Change { op: Op::Attribute, at: here(0), links: Links::Follow },
        189 => Change { op: Op::Attribute, at: here(0), links: Links::Keep },
        190 => ChangeOpen { op: Op::Attribute, file: 0 },
        197 => Change { op: Op::Attribute, at: here(0), links: Links::Follow },
        198 => Change { op: Op::Attribute, at: here(0), links: Links::Keep },
        199 => ChangeOpen { op: Op::Attribute, file: 0 },
        463 => Change { op: Op::Attribute, at: at(0, 1), links: Links::Unless(2) },
        466 => Change { op: Op::Attribute, at: at(0, 1), links: Links::Unless(2) },
        132 => Change { op: Op::Attribute, at: here(0), links: Links::Follow },
        235 => Change { op: Op::Attribute, at: here(0), links: Links::Follow },
        261 => Change { op: Op::Attribute, at: at(0, 1), links: Links::Follow },
        280 => Change { op: Op::Attribute, at: at(0, 1), links: Links::Unless(3) },
        59 => Exec { at: here(0) },
        322 => Exec { at: at(0, 1) },
        155 => Moves,
        161 => Moves,
        272 => Moves,
        308 => Moves,
    }
};

/// See above.
#[cfg(target_arch = "aarch64")]
pub(super) const CALLS: &[(u32, Call)] = {
    use Call::{Change, ChangeOpen, Exec, Link, Make, Moves, Open, Remove, Rename, Symlink};
    const fn here(path: usize) -> At {
        At { folder: None, path }
    }
    calls! {
        56 => Open { at: at(0, 1), flags: Flags::In(2) },
        437 => Open { at: at(0, 1), flags: Flags::Behind(2) },
        38 => Rename { from: at(0, 1), to: at(2, 3), flags: None },
        276 => Rename { from: at(0, 1), to: at(2, 3), flags: Some(4) },
        35 => Remove { op: Op::Delete, at: at(0, 1), flags: Some(2) },
        34 => Make { op: Op::Mkdir, at: at(0, 1) },
        33 => Make { op: Op::Create, at: at(0, 1) },
        37 => Link { from: at(0, 1), to: at(2, 3), flags: Some(4) },
        36 => Symlink { text: 0, at: at(1, 2) },
        45 => Change { op: Op::Truncate, at: here(0), links: Links::Follow },
        46 => ChangeOpen { op: Op::Truncate, file: 0 },
        52 => ChangeOpen { op: Op::Chmod, file: 0 },
        53 => Change { op: Op::Chmod, at: at(0, 1), links: Links::Follow },
        452 => Change { op: Op::Chmod, at: at(0, 1), links: Links::Unless(3) },
        54 => Change { op: Op::Chown, at: at(0, 1), links: Links::Unless(4) },
        55 => ChangeOpen { op: Op::Chown, file: 0 },
        5 => Change { op: Op::Attribute, at: here(0), links: Links::Follow },
        6 => Change { op: Op::Attribute, at: here(0), links: Links::Keep },
        7 => ChangeOpen { op: Op::Attribute, file: 0 },
        14 => Change { op: Op::Attribute, at: here(0), links: Links::Follow },
        15 => Change { op: Op::Attribute, at: here(0), links: Links::Keep },
        16 => ChangeOpen { op: Op::Attribute, file: 0 },
        463 => Change { op: Op::Attribute, at: at(0, 1), links: Links::Unless(2) },
        466 => Change { op: Op::Attribute, at: at(0, 1), links: Links::Unless(2) },
        88 => Change { op: Op::Attribute, at: at(0, 1), links: Links::Unless(3) },
        221 => Exec { at: here(0) },
        281 => Exec { at: at(0, 1) },
        41 => Moves,
        51 => Moves,
        97 => Moves,
        268 => Moves,
    }
};

/// None are known.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) const CALLS: &[(u32, Call)] = calls! {};

/// What the call with this number does.
pub(super) fn call(number: u32) -> Option<Call> {
    CALLS.iter().find(|(n, _)| *n == number).map(|(_, call)| *call)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_stands_twice() {
        let numbers: std::collections::HashSet<u32> = CALLS.iter().map(|(n, _)| *n).collect();
        assert_eq!(numbers.len(), CALLS.len());
    }
}
