//! Records as the programs write them, as records for everybody.

use super::programs::{CREATED, EXEC, EXIT, FORK, LEVELS, NAME, PATH, at};
use crate::sources::native::{u32_at, u64_at};
use crate::sources::{KernelRecord, ObjectId, Op, Phase, Who};
use std::collections::HashMap;

/// Where file systems are mounted, by the kernel's device number.
pub(super) type Mounts = HashMap<u32, Vec<u8>>;

const AT_FDCWD: i32 = -100;
const AT_REMOVEDIR: u64 = 0x200;

/// What was done, by the number of the call on x86-64.
fn op_of(kind: u32, created: bool, third: u64) -> Option<Op> {
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

fn text(record: &[u8], at: i16, length: usize) -> &[u8] {
    let begin = usize::from(at.cast_unsigned());
    let bytes = record.get(begin..begin + length).unwrap_or_default();
    bytes.split(|b| *b == 0).next().unwrap_or_default()
}

/// The path that the names in a record lead to, and whether a part of it is missing.
fn folder(record: &[u8], mounts: &Mounts) -> (Vec<u8>, bool) {
    let names: Vec<&[u8]> = (0..LEVELS)
        .map(|level| text(record, at::LEVELS + (NAME * level) as i16, NAME))
        .take_while(|name| !name.is_empty())
        .collect();
    let cut = names.len() == LEVELS || names.iter().any(|n| n.len() >= NAME - 1);
    let device = u32_at(record, usize::from(at::BASE_DEVICE.cast_unsigned())).unwrap_or(0);
    let mount = mounts.get(&device);
    let mut path = mount.cloned().unwrap_or_default();
    if path == b"/" {
        path.clear();
    }
    for name in names.iter().rev() {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    if path.is_empty() {
        path.push(b'/');
    }
    (path, cut || mount.is_none())
}

/// `path` below `folder`, without `.` and `..`.
fn below(folder: &[u8], path: &[u8]) -> Vec<u8> {
    let start: &[u8] = if path.starts_with(b"/") { b"" } else { folder };
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in start.split(|b| *b == b'/').chain(path.split(|b| *b == b'/')) {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    [b"/", parts.join(&b'/').as_slice()].concat()
}

/// One record and its sequence, from 0 on; `None` where it is none.
pub(super) fn record(bytes: &[u8], mounts: &Mounts) -> Option<(u64, Option<KernelRecord>)> {
    let word = |at: i16| u64_at(bytes, usize::from(at.cast_unsigned()));
    let half = |at: i16| u32_at(bytes, usize::from(at.cast_unsigned()));
    let sequence = word(at::SEQUENCE)?;
    let (kind, other) = (half(at::KIND)?, word(at::OTHER)?);
    let op = match i32::try_from(kind).ok()? {
        FORK => Some(Op::Fork),
        EXEC => Some(Op::Exec),
        EXIT => Some(Op::Exit),
        _ => op_of(kind, half(at::MODE)? & CREATED != 0, other),
    };
    let Some(op) = op else { return Some((sequence, None)) };
    let mut record = KernelRecord::new(op, Phase::Done, word(at::BOOT_NS)?.cast_signed());
    let pid_tgid = word(at::PID_TGID)?;
    record.sequence = Some(sequence + 1);
    record.cpu = half(at::PROCESSOR);
    record.who = Who {
        process: (pid_tgid >> 32) as u32,
        thread: pid_tgid as u32,
        cgroup: word(at::CGROUP)?,
        tag: word(at::TAG)?,
        command: text(bytes, at::COMMAND, 16).to_vec(),
        start_boot_ns: 0,
    };
    match op {
        Op::Fork => record.who.process = other as u32,
        Op::Exec => record.path.path = text(bytes, at::PATH, PATH).to_vec(),
        Op::Exit => record.result = Some(other.cast_signed()),
        _ => {
            paths(&mut record, bytes, mounts);
            // The folder of the second path is not recorded; it is the first one's where both are the working folder.
            let apart = matches!(kind, 264 | 265 | 316) && other as i32 != AT_FDCWD;
            record.path.is_cut |= apart && !text(bytes, at::TARGET, PATH).starts_with(b"/");
        }
    }
    if !matches!(op, Op::Fork | Op::Exec | Op::Exit) {
        record.result = word(at::RESULT).map(u64::cast_signed);
    }
    let (inode, device) = (word(at::INODE)?, half(at::DEVICE)?);
    if inode != 0 {
        let device = (u64::from(device >> 20) << 32) | u64::from(device & 0xF_FFFF);
        record.object = Some(ObjectId { device, inode, handle: Vec::new() });
    }
    Some((sequence, Some(record)))
}

fn paths(record: &mut KernelRecord, bytes: &[u8], mounts: &Mounts) {
    let (folder, cut) = folder(bytes, mounts);
    let (path, target) = (text(bytes, at::PATH, PATH), text(bytes, at::TARGET, PATH));
    let is_relative = |p: &[u8]| !p.starts_with(b"/");
    record.path.is_cut = path.len() >= PATH - 1 || target.len() >= PATH - 1 || (cut && is_relative(path));
    // Where only names from the kernel are there, they are those of the file itself.
    record.path.path = if path.is_empty() { folder.clone() } else { below(&folder, path) };
    record.path.target = match record.op {
        Op::Symlink => target.to_vec(),
        _ if target.is_empty() => Vec::new(),
        _ => below(&folder, target),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_plain() {
        for (folder, path, expected) in [
            ("/w/a", "x", "/w/a/x"),
            ("/w/a", "../x/./y", "/w/x/y"),
            ("/w/a", "/x//y/", "/x/y"),
            ("/", "../..", "/"),
        ] {
            assert_eq!(below(folder.as_bytes(), path.as_bytes()), expected.as_bytes(), "{folder} {path}");
        }
    }
}
