//! What `/proc` tells of processes: the fallback for lineage, and names for people.

use super::lineage::{Change, Drained, Lineage};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::fd::BorrowedFd;

/// Arguments of one process that are kept, in bytes.
const ARGUMENTS_BYTES_MAX: usize = 1 << 10;

/// When a process started, as BOOTTIME in nanoseconds, to a clock tick; `None` when it is gone.
pub fn start_ns(tgid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{tgid}/stat")).ok()?;
    // The name in parentheses may hold anything, so counting starts behind the last one: field 3 is the first.
    let ticks: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(22 - 3)?.parse().ok()?;
    Some(ticks.saturating_mul(1_000_000_000 / rustix::param::clock_ticks_per_second().max(1)))
}

/// The arguments of a process, as far as they are kept; empty when it is gone or has none.
pub fn arguments(tgid: u32) -> Vec<String> {
    let mut bytes = fs::read(format!("/proc/{tgid}/cmdline")).unwrap_or_default();
    bytes.truncate(ARGUMENTS_BYTES_MAX);
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_end_matches('\0');
    if text.is_empty() { Vec::new() } else { text.split('\0').map(str::to_owned).collect() }
}

/// The children of all threads of a process.
fn children(tgid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{tgid}/task")) else { return Vec::new() };
    let lists = threads.flatten().filter_map(|t| fs::read_to_string(t.path().join("children")).ok());
    lists.flat_map(|l| l.split_whitespace().filter_map(|p| p.parse().ok()).collect::<Vec<u32>>()).collect()
}

/// All that came from a process and is still there: every one of them, where the process is its own subreaper.
pub fn descendants(of: u32) -> Vec<(u32, u32)> {
    let (mut found, mut seen) = (Vec::new(), HashSet::from([of]));
    let mut open = vec![of];
    while let Some(parent) = open.pop() {
        for child in children(parent).into_iter().filter(|c| seen.insert(*c)) {
            found.push((parent, child));
            open.push(child);
        }
    }
    found
}

/// Lineage by looking at `/proc` again and again. What lives between two looks is never seen.
#[derive(Debug)]
pub struct Snapshots {
    of: u32,
    known: HashMap<u32, u64>,
}

impl Snapshots {
    /// Looks at all that comes from process `of`.
    pub fn new(of: u32) -> Self {
        Snapshots { of, known: HashMap::new() }
    }
}

impl Lineage for Snapshots {
    fn name(&self) -> &'static str {
        "/proc snapshots"
    }

    fn pollable(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn exact(&self) -> bool {
        false
    }

    fn drain(&mut self, out: &mut Vec<Change>) -> io::Result<Drained> {
        let at_ns = super::boot_ns();
        let mut now = HashMap::new();
        for (parent, tgid) in descendants(self.of) {
            let Some(start_ns) = start_ns(tgid) else { continue };
            if self.known.get(&tgid) != Some(&start_ns) {
                out.push(Change::Started { parent, tgid, at_ns, start_ns });
                out.push(Change::Executed { tgid, at_ns });
            }
            now.insert(tgid, start_ns);
        }
        let gone = self.known.iter().filter(|(tgid, start)| now.get(*tgid) != Some(*start));
        out.extend(gone.map(|(tgid, _)| Change::Exited { tgid: *tgid, at_ns, status: None }));
        self.known = now;
        Ok(Drained::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_started_before_now_and_has_arguments() {
        let me = std::process::id();
        let start = start_ns(me).unwrap();
        assert!(start > 0 && start <= super::super::boot_ns());
        assert!(!arguments(me).is_empty());
        assert_eq!(start_ns(u32::MAX), None);
    }
}
