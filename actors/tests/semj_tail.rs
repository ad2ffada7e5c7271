//! The SEMJ tail by itself: who wakes it, what overwriting does to it, and block devices.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use semj_actors::sources::{
    CommittedWriter, DATA_AT, Gap, GapCause, Item, KernelSource, Lost, OpenSource as _, Resume, SemjTail,
    TailForm,
};
use semj_storage::kernel::{EventHeader, Record};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Longer than anything here takes.
const PATIENCE: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };
const RECORD: u64 = 5_415;

fn record(sequence: u64) -> Vec<u8> {
    let header = EventHeader {
        event_id: sequence + 1,
        event_type: 0x0104,
        ktime: 1_000_000 * sequence.cast_signed(),
        sequence,
        global_sequence: sequence,
        local_sequence: sequence,
        ..EventHeader::default()
    };
    // The last byte is none that an empty device has, too.
    Record { header, payload: b"end"[..].into(), ..Record::default() }.to_bytes().unwrap()
}

fn open(path: &Path, form: TailForm, from: Option<&Resume>) -> Box<dyn KernelSource> {
    SemjTail::new(path).form(form).open(from).unwrap()
}

/// Everything up to now.
fn drain(source: &mut dyn KernelSource) -> Vec<Item> {
    let mut items = Vec::new();
    for _ in 0..1_000 {
        let mut some = Vec::new();
        let progress = source.next_batch(10, &mut some).unwrap();
        items.append(&mut some);
        if !progress.more {
            return items;
        }
    }
    panic!("it never ends: {items:?}");
}

fn sequences(items: &[Item]) -> Vec<u64> {
    let each = items.iter().filter_map(|i| match i {
        Item::Record(record) => record.sequence,
        _ => None,
    });
    each.collect()
}

fn gaps(items: &[Item]) -> Vec<(Option<u64>, Lost, GapCause)> {
    let each = items.iter().filter_map(|i| match i {
        Item::Gap(Gap { after, lost, cause, .. }) => Some((*after, *lost, *cause)),
        _ => None,
    });
    each.collect()
}

fn is_readable(source: &dyn KernelSource, wait: Timespec) -> bool {
    let fd = source.pollable().unwrap();
    poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&wait)).unwrap() > 0
}

const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

fn word(path: &Path, at: u64) -> u32 {
    let mut bytes = [0; 4];
    File::open(path).unwrap().read_exact_at(&mut bytes, at).unwrap();
    u32::from_le_bytes(bytes)
}

/// The same for a file and for a block device.
fn a_writer_wakes_who_sleeps(path: &Path) {
    let mut writer = CommittedWriter::create(path, 1 << 20).unwrap();
    let mut source = open(path, TailForm::CommittedLength, None);
    assert!(drain(source.as_mut()).is_empty());
    assert_eq!(word(path, 8), 1, "the reader says that it sleeps");
    assert!(!is_readable(source.as_ref(), NOW));
    writer.append(&record(1)).unwrap();
    assert!(is_readable(source.as_ref(), PATIENCE), "nobody woke it");
    assert_eq!(word(path, 8), 0);
    // It is awake: what comes now needs no wake-up.
    writer.append(&record(2)).unwrap();
    assert_eq!(word(path, 8), 0);
    assert_eq!(sequences(&drain(source.as_mut())), [1, 2]);
    assert_eq!(word(path, 8), 1);
    // What is not committed wakes nobody.
    writer.write(&record(3)).unwrap();
    assert!(!is_readable(source.as_ref(), NOW));
    writer.commit().unwrap();
    assert!(is_readable(source.as_ref(), PATIENCE));
    assert_eq!(sequences(&drain(source.as_mut())), [3]);
}

#[test]
fn a_writer_wakes_who_sleeps_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    a_writer_wakes_who_sleeps(&folder.path().join("k"));
}

#[test]
fn a_writer_that_comes_later_is_asked_to_wake_and_one_that_does_not_is_noticed_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("k");
    File::create(&path).unwrap();
    let mut source = open(&path, TailForm::CommittedLength, None);
    assert!(drain(source.as_mut()).is_empty());
    // One that knows nothing of sleepers.
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&record(1), DATA_AT).unwrap();
    drain(source.as_mut());
    file.write_all_at(&RECORD.to_le_bytes(), 0).unwrap();
    assert!(is_readable(source.as_ref(), PATIENCE));
    assert_eq!(sequences(&drain(source.as_mut())), [1]);
    assert_eq!(word(&path, 8), 0, "who does not wake is not asked to");
    // It begins anew as one that wakes.
    let mut writer = CommittedWriter::create(&path, 1 << 20).unwrap();
    writer.append(&record(2)).unwrap();
    assert_eq!(sequences(&drain(source.as_mut())), [2]);
    assert_eq!(word(&path, 8), 1);
    writer.append(&record(3)).unwrap();
    assert!(is_readable(source.as_ref(), PATIENCE));
    assert_eq!(sequences(&drain(source.as_mut())), [3]);
}

#[test]
fn a_file_that_is_cut_off_under_a_sleeper_kills_nobody_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("k");
    let mut writer = CommittedWriter::create(&path, 1 << 20).unwrap();
    writer.append(&record(1)).unwrap();
    let mut source = open(&path, TailForm::CommittedLength, None);
    assert_eq!(sequences(&drain(source.as_mut())), [1]);
    OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    for _ in 0..3 {
        assert!(drain(source.as_mut()).is_empty());
    }
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
}

/// The same for a file and for a block device with room for ten records.
fn what_is_overwritten_is_a_gap_of_so_many(path: &Path) {
    let mut writer = CommittedWriter::create(path, 10 * RECORD + 100).unwrap();
    (1..=4).for_each(|n| assert!(writer.append(&record(n)).is_ok()));
    let mut source = open(path, TailForm::CommittedLength, None);
    assert_eq!(sequences(&drain(source.as_mut())), [1, 2, 3, 4]);
    // The first lap ends with 10, the third begins with 21.
    let mut laps = 0;
    (5..=23).for_each(|n| laps += u64::from(writer.append(&record(n)).unwrap()));
    assert_eq!(laps, 2);
    let items = drain(source.as_mut());
    assert_eq!(sequences(&items), [21, 22, 23]);
    assert_eq!(gaps(&items), [(Some(4), Lost::Exactly(16), GapCause::Overwritten)]);
    assert!(!items.iter().any(|i| matches!(i, Item::Epoch { .. })), "it is the same life");
    // Overwritten where all was read: nothing is lost.
    (24..=32).for_each(|n| {
        writer.append(&record(n)).unwrap();
        let items = drain(source.as_mut());
        assert_eq!((sequences(&items), gaps(&items)), (vec![n], vec![]));
    });
    // While nobody looked.
    let resume = source.resume_point();
    (33..=51).for_each(|n| assert!(writer.append(&record(n)).is_ok()));
    let mut source = open(path, TailForm::CommittedLength, Some(&resume));
    let items = drain(source.as_mut());
    assert_eq!(sequences(&items), [51]);
    assert_eq!(gaps(&items), [(Some(32), Lost::Exactly(18), GapCause::Overwritten)]);
    // By another kernel: nobody knows how much is missing of the first.
    let mut writer = CommittedWriter::create(path, 10 * RECORD + 100).unwrap();
    writer.append(&record(1)).unwrap();
    let items = drain(source.as_mut());
    assert_eq!(
        (sequences(&items), gaps(&items)),
        (vec![1], vec![(None, Lost::Unknown, GapCause::Overwritten)])
    );
    assert!(items.iter().any(|i| matches!(i, Item::Epoch { .. })));
}

#[test]
fn what_is_overwritten_is_a_gap_of_so_many_records() {
    let folder = tempfile::tempdir().unwrap();
    what_is_overwritten_is_a_gap_of_so_many(&folder.path().join("k"));
}

#[test]
fn a_gap_that_was_not_told_before_the_end_is_told_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("k");
    let mut writer = CommittedWriter::create(&path, 10 * RECORD).unwrap();
    (1..=8).for_each(|n| assert!(writer.append(&record(n)).is_ok()));
    let mut source = open(&path, TailForm::CommittedLength, None);
    drain(source.as_mut());
    // Rewritten by another, who has committed nothing yet: the loss is known, its length is not.
    let mut writer = CommittedWriter::create(&path, 10 * RECORD).unwrap();
    assert!(drain(source.as_mut()).is_empty());
    let resume = source.resume_point();
    let mut source = open(&path, TailForm::CommittedLength, Some(&resume));
    writer.append(&record(1)).unwrap();
    let items = drain(source.as_mut());
    assert_eq!((sequences(&items), gaps(&items).len()), (vec![1], 1));
}

const READ_ONLY: &str = "SEMJ_TEST_READ_ONLY";

/// Not a test by itself: a reader that may not write to the file.
#[test]
fn reader_that_may_not_write() {
    let Some(path) = std::env::var_os(READ_ONLY) else { return };
    let path = Path::new(&path);
    assert!(OpenOptions::new().write(true).open(path).is_err());
    let mut source = open(path, TailForm::CommittedLength, None);
    assert!(drain(source.as_mut()).is_empty());
    println!("reads");
    assert!(is_readable(source.as_ref(), PATIENCE), "nothing told");
    // The length may come behind what told.
    let found = (0..1_000).find_map(|_| {
        let found = sequences(&drain(source.as_mut()));
        if found.is_empty() {
            is_readable(source.as_ref(), Timespec { tv_sec: 0, tv_nsec: 50_000_000 });
        }
        Some(found).filter(|f| !f.is_empty())
    });
    assert_eq!(found, Some(vec![1]));
    assert_eq!(word(path, 8), 0);
}

#[test]
fn who_may_not_write_to_the_file_is_told_by_inotify() {
    use std::io::{BufRead as _, BufReader};
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root becomes another user");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = folder.path().join("k");
    // Where the other user may run it. A file that this process had open for writing, children of other tests would
    // have, too, and it could not be run meanwhile.
    let program = folder.path().join("reader");
    let copied = Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&program).status();
    assert!(copied.unwrap().success());
    let mut writer = CommittedWriter::create(&path, 1 << 20).unwrap();
    let mut child = Command::new(&program)
        .args(["--exact", "reader_that_may_not_write", "--nocapture"])
        .env(READ_ONLY, &path)
        .current_dir("/")
        .stdout(std::process::Stdio::piped())
        .uid(65_534)
        .gid(65_534)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|l| l.unwrap().contains("reads")), "it never began");
    writer.append(&record(1)).unwrap();
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(child.wait().unwrap().success(), "{rest:?}");
}

/// A block device over a file in memory or on disk; it is gone when this is.
struct Loop {
    node: PathBuf,
    _folder: tempfile::TempDir,
}

impl Loop {
    /// `None`, and the reason printed, where there can be none.
    fn make(bytes: u64) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("disk");
        File::create(&file).unwrap().set_len(bytes).unwrap();
        let made = Command::new("losetup").args(["--find", "--show"]).arg(&file).output();
        let why = match made {
            Ok(out) if out.status.success() => {
                let node = PathBuf::from(String::from_utf8(out.stdout).unwrap().trim());
                return Some(Loop { node, _folder: folder });
            }
            Ok(out) => String::from_utf8_lossy(&out.stderr).trim().to_owned(),
            Err(e) => e.to_string(),
        };
        println!("skipped: no loop device here: losetup: {why}");
        None
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let detached = Command::new("losetup").arg("--detach").arg(&self.node).status();
        assert!(detached.is_ok_and(|s| s.success()) || std::thread::panicking(), "{:?} is left", self.node);
    }
}

#[test]
fn a_block_device_wakes_is_overwritten_and_waits_as_a_file_does() {
    let Some(device) = Loop::make(4_096 + 62 * 1_024) else { return };
    a_writer_wakes_who_sleeps(&device.node);
    // 62 KiB have room for eleven records; the device's size decides.
    let mut writer = CommittedWriter::create(&device.node, 1).unwrap();
    let mut source = open(&device.node, TailForm::CommittedLength, None);
    writer.append(&record(1)).unwrap();
    assert_eq!(sequences(&drain(source.as_mut())), [1]);
    let mut laps = 0;
    (2..=25).for_each(|n| laps += u64::from(writer.append(&record(n)).unwrap()));
    assert_eq!(laps, 2);
    let items = drain(source.as_mut());
    assert_eq!(sequences(&items), [23, 24, 25]);
    assert_eq!(gaps(&items), [(Some(1), Lost::Exactly(21), GapCause::Overwritten)]);
}

const DEVICE: &str = "SEMJ_TEST_BLOCK_DEVICE";
const PART: &str = "SEMJ_TEST_BLOCK_PART";

/// Not a test by itself: a process other than the one that reads.
#[test]
fn writer_of_a_plain_stream() {
    let Some(device) = std::env::var_os(DEVICE) else { return };
    let file = OpenOptions::new().write(true).open(device).unwrap();
    match std::env::var(PART).unwrap().as_str() {
        "torn" => {
            file.write_all_at(&record(1), 0).unwrap();
            file.write_all_at(&record(2)[..3_000], RECORD).unwrap();
        }
        _ => file.write_all_at(&record(2)[3_000..], RECORD + 3_000).unwrap(),
    }
}

fn write_part(device: &Path, part: &str) {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer_of_a_plain_stream"])
        .env(DEVICE, device)
        .env(PART, part)
        .stdout(std::process::Stdio::null())
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn a_plain_stream_on_a_block_device_is_followed_and_its_torn_end_is_waited_for() {
    let Some(device) = Loop::make(1 << 20) else { return };
    let mut source = open(&device.node, TailForm::Plain, None);
    assert!(drain(source.as_mut()).is_empty());
    assert!(!is_readable(source.as_ref(), NOW));
    write_part(&device.node, "torn");
    assert!(is_readable(source.as_ref(), PATIENCE), "writes through the node are noticed");
    assert_eq!(sequences(&drain(source.as_mut())), [1]);
    let resume = source.resume_point();
    write_part(&device.node, "rest");
    assert!(is_readable(source.as_ref(), PATIENCE));
    assert_eq!(sequences(&drain(source.as_mut())), [2]);
    let mut again = open(&device.node, TailForm::Plain, Some(&resume));
    assert_eq!(sequences(&drain(again.as_mut())), [2]);
}
