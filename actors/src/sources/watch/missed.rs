//! What was changed in folders while nobody watched, as far as it still shows: by the times of what is there now.
//!
//! A file system tells when something was last changed and when it was made. It does not tell what was removed, what was
//! changed before the last change, or under which name.

use crate::sources::{KernelRecord, ObjectId, Op, Phase, boot_ns, wall_ns};
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

/// File times are those of the last clock tick, which was this long ago at most, ns.
pub(super) const TICK_NS: i64 = 20_000_000;

/// Something that was changed, and when, ns since 1970.
#[derive(Debug)]
pub(super) struct Missed {
    pub(super) wall_ns: i64,
    pub(super) record: KernelRecord,
}

/// What is below `folders`, but not below `left_out`, and was changed at `since` or later; in the order of the changes.
pub(super) fn missed(folders: &[PathBuf], left_out: &[PathBuf], since_wall_ns: i64) -> Vec<Missed> {
    let since = since_wall_ns.saturating_sub(TICK_NS);
    let wall_ahead = wall_ns().saturating_sub(boot_ns().cast_signed());
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = folders.to_vec();
    while let Some(folder) = open.pop() {
        if left_out.contains(&folder) {
            continue;
        }
        // What is gone by now, or may not be read, shows nothing.
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            let changed = meta.ctime().saturating_mul(1_000_000_000).saturating_add(meta.ctime_nsec());
            if changed >= since
                && let Some(op) = what(&meta, since)
            {
                let mut record =
                    KernelRecord::new(op, Phase::Synthetic, changed.saturating_sub(wall_ahead).max(0));
                record.time_error_ns = TICK_NS as u32;
                record.object = Some(ObjectId { device: meta.dev(), inode: meta.ino(), handle: Vec::new() });
                record.path.path = entry.path().into_os_string().into_vec();
                found.push(Missed { wall_ns: changed, record });
            }
            if meta.is_dir() {
                open.push(entry.path());
            }
        }
    }
    found.sort_by(|a, b| (a.wall_ns, &a.record.path.path).cmp(&(b.wall_ns, &b.record.path.path)));
    found
}

/// What the times tell was done. That something in a folder was made or removed shows at what was made, if at all.
fn what(meta: &Metadata, since: i64) -> Option<Op> {
    let born = meta.created().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
    let is_new = born.is_some_and(|born| born.as_nanos() >= since.max(0) as u128);
    match (is_new, meta.is_dir()) {
        (true, true) => Some(Op::Mkdir),
        (true, false) if meta.is_symlink() => Some(Op::Symlink),
        (true, false) => Some(Op::Create),
        (false, true) => None,
        (false, false) => {
            let written = meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec());
            // A new name or other attributes change the one time and not the other.
            Some(if written >= since { Op::Write } else { Op::Attribute })
        }
    }
}
