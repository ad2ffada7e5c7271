//! Records as the programs write them, as records for everybody.

use super::calls::{BY_DESCRIPTOR, TEXT, op_of, op_of_failed_open};
use super::layout::{BODY, CREATED, EXEC, EXIT, FORK, LEVELS, NAME, PATH, at};
use crate::sources::native::{u16_at, u32_at, u64_at};
use crate::sources::{KernelRecord, ObjectId, Op, Phase, Who};
use std::collections::HashMap;

/// Where file systems are mounted, by the kernel's device number.
pub(super) type Mounts = HashMap<u32, Vec<u8>>;

const AT_FDCWD: i32 = -100;

/// The bytes before the first zero.
fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|b| *b == 0).next().unwrap_or_default()
}

/// The names of a record.
struct Names<'a> {
    path: &'a [u8],
    target: &'a [u8],
    /// The path is there, if only as an empty one.
    has_path: bool,
    is_cut: bool,
    /// Folders from the object up, each behind its length.
    folders: &'a [u8],
}

impl<'a> Names<'a> {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let half = |at: i16| u16_at(bytes, usize::from(at.cast_unsigned())).map(usize::from);
        let (path_bytes, target_bytes) = (half(at::PATH_BYTES)?, half(at::TARGET_BYTES)?);
        let (path, rest) = bytes.get(usize::from(BODY.cast_unsigned())..)?.split_at_checked(path_bytes)?;
        let (target, folders) = rest.split_at_checked(target_bytes)?;
        let is_cut = path_bytes >= PATH || target_bytes >= PATH;
        Some(Names { path: text(path), target: text(target), has_path: path_bytes > 0, is_cut, folders })
    }

    /// The path that the folders' names lead to, and whether a part of it is missing.
    fn folder(&self, device: u32, mounts: &Mounts) -> (Vec<u8>, bool) {
        let (mut names, mut rest, mut cut) = (Vec::new(), self.folders, false);
        while let Some((length, behind)) = rest.split_first() {
            let (name, behind) = behind.split_at_checked(usize::from(*length)).unwrap_or((behind, &[]));
            rest = behind;
            // A name that was changed while it was read may be shorter than its length said.
            cut |= name.len() >= NAME || text(name).is_empty();
            names.push(text(name));
        }
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
        (path, cut || names.len() == LEVELS || mount.is_none())
    }
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
    let number = i32::try_from(kind).ok()?;
    let result = word(at::RESULT)?.cast_signed();
    let op = match number {
        FORK => Some(Op::Fork),
        EXEC => Some(Op::Exec),
        EXIT => Some(Op::Exit),
        2 | 85 | 257 | 437 if result < 0 => Some(op_of_failed_open(other)),
        _ => op_of(kind, half(at::MODE)? & CREATED != 0, other),
    };
    let Some(op) = op else { return Some((sequence, None)) };
    let mut record = KernelRecord::new(op, Phase::Done, word(at::BOOT_NS)?.cast_signed());
    let pid_tgid = word(at::PID_TGID)?;
    record.sequence = Some(sequence + 1);
    record.cpu = half(at::PROCESSOR);
    let command = usize::from(at::COMMAND.cast_unsigned());
    record.who = Who {
        process: (pid_tgid >> 32) as u32,
        thread: pid_tgid as u32,
        cgroup: word(at::CGROUP)?,
        tag: word(at::TAG)?,
        command: text(bytes.get(command..command + 16)?).to_vec(),
        start_boot_ns: 0,
    };
    let names = Names::of(bytes)?;
    match op {
        Op::Fork => record.who.process = other as u32,
        Op::Exec => record.path.path = names.path.to_vec(),
        Op::Exit => record.result = Some(other.cast_signed()),
        _ => {
            record.result = Some(result);
            let (inode, device) = (word(at::INODE)?, half(at::DEVICE)?);
            if inode != 0 {
                let device = (u64::from(device >> 20) << 32) | u64::from(device & 0xF_FFFF);
                record.object = Some(ObjectId { device, inode, handle: Vec::new() });
            }
            paths(&mut record, &names, half(at::BASE_DEVICE)?, mounts);
            // The folder of the second path is not recorded; it is the first one's where both are the working folder.
            let apart = matches!(kind, 264 | 265 | 316) && other as i32 != AT_FDCWD;
            record.path.is_cut |= apart && !names.target.starts_with(b"/");
            record.path.is_cut |= inode == 0 && !names.has_path && !BY_DESCRIPTOR.contains(&number);
            if TEXT.contains(&number) {
                record.path.target = names.target.to_vec();
            }
        }
    }
    Some((sequence, Some(record)))
}

fn paths(record: &mut KernelRecord, names: &Names<'_>, base: u32, mounts: &Mounts) {
    let (folder, cut) = names.folder(base, mounts);
    let is_relative = |p: &[u8]| !p.starts_with(b"/");
    record.path.is_cut = names.is_cut || (cut && is_relative(names.path));
    // Where only names from the kernel are there, they are those of the file itself.
    record.path.path = if names.path.is_empty() { folder.clone() } else { below(&folder, names.path) };
    record.path.target = if names.target.is_empty() { Vec::new() } else { below(&folder, names.target) };
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
