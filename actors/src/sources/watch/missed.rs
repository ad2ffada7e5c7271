//! What was changed in folders while nobody watched, as far as it still shows: by the times of what is there now.
//!
//! A file system tells when something was last changed and when it was made. It does not tell what was removed, what was
//! changed before the last change, or under which name.

use crate::sources::known::{Folders, TICK_NS, born_ns, changed_ns};
use crate::sources::{KernelRecord, ObjectId, Op, Phase, boot_ns, wall_ns};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;

/// Something that was changed, and when, ns since 1970.
#[derive(Debug)]
pub(super) struct Missed {
    pub(super) wall_ns: i64,
    pub(super) record: KernelRecord,
}

/// What is in the folders and was changed at `since` or later; in the order of the changes.
pub(super) fn missed(folders: &Folders, since_wall_ns: i64) -> Vec<Missed> {
    let since = since_wall_ns.saturating_sub(TICK_NS);
    let wall_ahead = wall_ns().saturating_sub(boot_ns().cast_signed());
    let mut found = Vec::new();
    for root in &folders.roots {
        // What is gone by now, or may not be read, shows nothing.
        folders.each(root, |path, meta| {
            let changed = changed_ns(meta);
            let Some(op) = (changed >= since).then(|| what(meta, since)).flatten() else { return };
            let mut record =
                KernelRecord::new(op, Phase::Synthetic, changed.saturating_sub(wall_ahead).max(0));
            record.time_error_ns = TICK_NS as u32;
            record.object = Some(ObjectId { device: meta.dev(), inode: meta.ino(), handle: Vec::new() });
            record.path.path = path;
            found.push(Missed { wall_ns: changed, record });
        });
    }
    found.sort_by(|a, b| (a.wall_ns, &a.record.path.path).cmp(&(b.wall_ns, &b.record.path.path)));
    found
}

/// What the times tell was done. That something in a folder was made or removed shows at what was made, if at all.
fn what(meta: &Metadata, since: i64) -> Option<Op> {
    let is_new = born_ns(meta) >= since;
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
