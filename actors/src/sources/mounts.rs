//! Which file systems keep files: read from `/proc/self/mountinfo`.

use std::collections::HashSet;
use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// File systems without files of anybody's own: views of the kernel, and devices.
const NO_FILES: [&str; 24] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "rootfs",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "smackfs",
    "sysfs",
    "tracefs",
    "xenfs",
];

/// A mounted file system.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Mount {
    /// Where.
    pub(super) path: PathBuf,
    /// Its id as `statfs(2)` gives it, in the bytes that fanotify uses.
    pub(super) id: [u8; 8],
}

/// One mount of each file system that keeps files and can be reached.
pub(super) fn of_files() -> Vec<Mount> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut seen = HashSet::new();
    let candidates = table.lines().filter_map(line).filter(|(_, kind)| !NO_FILES.contains(&kind.as_str()));
    candidates
        .filter_map(|(path, _)| Some(Mount { id: id(&path)?, path }))
        .filter(|m| seen.insert(m.id))
        .collect()
}

/// Where each file system is mounted as a whole, by the kernel's own device number.
#[cfg(feature = "ebpf")]
pub(super) fn by_device() -> std::collections::HashMap<u32, Vec<u8>> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut found = std::collections::HashMap::new();
    for line in table.lines() {
        let mut fields = line.split(' ').skip(2);
        let device = fields.next().and_then(|d| d.split_once(':'));
        let device = device.and_then(|(a, b)| Some((a.parse::<u32>().ok()?, b.parse::<u32>().ok()?)));
        let (Some((major, minor)), Some("/"), Some(path)) = (device, fields.next(), fields.next()) else {
            continue;
        };
        found.entry((major << 20) | minor).or_insert_with(|| unescape(path));
    }
    found
}

/// The devices of all mounted file systems that hold no files of anybody's own, as `stat(2)` gives them.
pub(super) fn without_files() -> HashSet<u64> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let without = table.lines().filter_map(|line| {
        let kind = line.split_once(" - ")?.1.split(' ').next()?;
        let (major, minor) = line.split(' ').nth(2)?.split_once(':')?;
        let device = rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?);
        // A tmpfs on /dev may well hold files.
        (NO_FILES.contains(&kind) && kind != "devtmpfs").then_some(device)
    });
    without.collect()
}

/// Where a line says that which kind of file system is mounted.
fn line(line: &str) -> Option<(PathBuf, String)> {
    let (before, behind) = line.split_once(" - ")?;
    let path = unescape(before.split(' ').nth(4)?);
    let path = PathBuf::from(std::ffi::OsString::from_vec(path));
    // A tmpfs on /dev holds device nodes; what is written to them is no file.
    (path.as_os_str() != "/dev").then_some((path, behind.split(' ').next()?.to_owned()))
}

/// The kernel writes blanks, tabs, newlines and backslashes as three octal digits.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let octal = behind.get(..3).filter(|_| *first == b'\\');
        let value = octal.and_then(|o| u8::from_str_radix(std::str::from_utf8(o).ok()?, 8).ok());
        bytes.push(value.unwrap_or(*first));
        rest = if value.is_some() { behind.get(3..).unwrap_or_default() } else { behind };
    }
    bytes
}

fn id(path: &Path) -> Option<[u8; 8]> {
    semj_sys::handle::file_system_id(&CString::new(path.as_os_str().as_bytes()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_with_their_escapes_and_devices_are_left_out() {
        let text = r"36 35 98:0 / /mnt/a\040b rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(line(text), Some((PathBuf::from("/mnt/a b"), "ext3".to_owned())));
        assert_eq!(line("1 1 0:1 / /dev rw - tmpfs tmpfs rw"), None);
        assert_eq!(line("nonsense"), None);
    }

    #[test]
    fn what_proc_holds_are_no_files() {
        use std::os::unix::fs::MetadataExt as _;
        assert!(without_files().contains(&fs::metadata("/proc/self/status").unwrap().dev()));
        assert!(!without_files().contains(&fs::metadata(std::env::current_exe().unwrap()).unwrap().dev()));
    }
}
