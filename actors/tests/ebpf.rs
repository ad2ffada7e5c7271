//! The eBPF source: whom it wakes, what it counts, and what it says of what it does not see.
#![cfg(feature = "ebpf")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use semj_actors::observe::{Call, Observer, Plan, Wanted};
use semj_actors::sources::ebpf::{Ebpf, EbpfOptions};
use semj_actors::sources::{Gap, GapCause, Item, KernelRecord, KernelSource, Lost, Op};
use semj_actors::{Engine, EngineOptions, read_one};
use semj_storage::event::Event;
use semj_storage::query::EventSource as _;
use std::fs;
use std::io::{BufRead as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const TOOL_FOLDER: &str = "SEMJ_TEST_TOOL_FOLDER";
const TAG: u64 = 0x5E_4D1A;
const SCRIPT: &str = "set -e; mkdir -p a/b/c; echo x > a/b/c/f; mv a z; echo y >> z/b/c/f; mkdir z/e; : > z/e/g; \
                      mv z/b/c/f top; rm -r z/b; mkdir -p q/r; mv q z/e/; chmod 600 top";

fn open(options: EbpfOptions) -> Option<Ebpf> {
    match Ebpf::open(options) {
        Ok(source) => Some(source),
        Err(why) => {
            println!("skipped: no eBPF here: {why}");
            None
        }
    }
}

/// Only what the test itself reads, and nothing in between.
fn unread(ring_bytes: u32) -> EbpfOptions {
    EbpfOptions { ring_bytes, reads_by_itself: false, ..EbpfOptions::default() }
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = fs::canonicalize(folder.path()).unwrap();
    (folder, path)
}

/// A process that has the tag, and waits for a line before it does what `command` says.
fn tagged(source: &Ebpf, command: &mut Command) -> Child {
    let child = command.stdin(Stdio::piped()).spawn().unwrap();
    source.adopt(child.id(), TAG).unwrap();
    child
}

/// The tool `name` of this file, which works in `folder`.
fn tool(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture"]).env(TOOL_FOLDER, folder).stdout(Stdio::null());
    command
}

/// Runs a script in a process that waits for its tag; the process.
fn sh(source: &Ebpf, folder: &Path, script: &str) -> u32 {
    let script = format!("read go; {script}");
    let mut child = tagged(source, Command::new("sh").args(["-c", &script]).current_dir(folder));
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert!(child.wait().unwrap().success());
    child.id()
}

/// Everything up to now.
fn drain(source: &mut Ebpf) -> Vec<Item> {
    let barrier = source.barrier().unwrap();
    let mut items = Vec::new();
    while source.next_batch(1_000, &mut items).unwrap().passed < barrier.0 {}
    items
}

fn records(items: &[Item]) -> Vec<&KernelRecord> {
    let each = items.iter().filter_map(|i| match i {
        Item::Record(record) => Some(record.as_ref()),
        _ => None,
    });
    each.collect()
}

fn gaps(items: &[Item], cause: GapCause) -> Vec<(Option<u64>, u64)> {
    let each = items.iter().filter_map(|i| match i {
        Item::Gap(Gap { after, lost: Lost::Exactly(n), cause: c, .. }) if *c == cause => Some((*after, *n)),
        _ => None,
    });
    each.collect()
}

fn seed() -> u64 {
    let given = std::env::var("SEMJ_SEED").ok().and_then(|s| s.parse().ok());
    let seed = given.unwrap_or_else(|| u64::from(std::process::id()));
    println!("SEMJ_SEED={seed}");
    seed
}

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[test]
fn calls_come_with_path_process_and_tag_in_one_dense_order() {
    let (_keep, folder) = folder();
    let Some(mut source) = open(EbpfOptions { failed_calls: false, ..EbpfOptions::default() }) else {
        return;
    };
    let mut stranger =
        Command::new("sh").args(["-c", "echo x > stranger"]).current_dir(&folder).spawn().unwrap();
    let shell = sh(&source, &folder, &format!("{SCRIPT}; sh -c 'cd z && ln -s up link; ln ../top hard'"));
    assert!(stranger.wait().unwrap().success());
    let items = drain(&mut source);
    assert_eq!(gaps(&items, GapCause::Overflow), []);
    let records = records(&items);
    let mut sequences: Vec<u64> = records.iter().map(|r| r.sequence.unwrap()).collect();
    sequences.sort_unstable();
    assert!(sequences.iter().copied().eq(1..=source.made()), "{sequences:?}");
    assert!(records.iter().all(|r| r.who.tag == TAG));
    assert!(records.iter().all(|r| !r.path.path.ends_with(b"stranger")));
    let of = |op: Op, name: &str| {
        let path = folder.join(name);
        records.iter().find(|r| r.op == op && r.path.path == path.as_os_str().as_encoded_bytes())
    };
    for (op, name) in [
        (Op::Mkdir, "a"),
        (Op::Mkdir, "a/b/c"),
        (Op::Create, "a/b/c/f"),
        (Op::Write, "a/b/c/f"),
        (Op::Rename, "a"),
        (Op::Write, "z/b/c/f"),
        (Op::Rename, "z/b/c/f"),
        (Op::Create, "z/e/g"),
        (Op::Chmod, "top"),
        (Op::Symlink, "z/link"),
        (Op::Hardlink, "z/hard"),
        (Op::Rmdir, "z/b/c"),
        (Op::Rmdir, "z/b"),
    ] {
        assert!(
            of(op, name).is_some(),
            "{op:?} {name}: {:#?}",
            records
                .iter()
                .map(|r| (
                    r.op,
                    String::from_utf8_lossy(&r.path.path),
                    String::from_utf8_lossy(&r.path.target)
                ))
                .collect::<Vec<_>>()
        );
    }
    assert_eq!(of(Op::Create, "a/b/c/f").unwrap().who.process, shell);
    let hard = of(Op::Hardlink, "z/hard").unwrap();
    assert_eq!(hard.path.target, folder.join("top").as_os_str().as_encoded_bytes());
}

#[test]
fn gaps_add_up_to_what_the_kernel_counted_when_nobody_reads() {
    let (_keep, folder) = folder();
    let Some(mut source) = open(unread(1 << 16)) else { return };
    sh(&source, &folder, "i=0; while [ $i -lt 4000 ]; do : > f$i; i=$((i+1)); done");
    let items = drain(&mut source);
    let missing: u64 = gaps(&items, GapCause::Overflow).iter().map(|(_, n)| n).sum();
    let read = records(&items).len() as u64;
    assert!(source.lost() > 0, "the ring was meant to be too small");
    assert_eq!((missing, read + missing), (source.lost(), source.made()));
}
/// Not a test by itself: changes a file through its descriptor, and makes what is no file.
#[test]
fn tool_that_changes_by_descriptor() {
    let Some(folder) = std::env::var_os(TOOL_FOLDER) else { return };
    std::io::stdin().lock().read_line(&mut String::new()).unwrap();
    let path = Path::new(&folder).join("by-fd");
    let file = fs::File::create(&path).unwrap();
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::os::unix::fs::fchown(&file, None, Some(0)).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    rustix::fs::fsetxattr(&file, "user.semj", b"by", rustix::fs::XattrFlags::empty()).unwrap();
    let fifo = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
    rustix::fs::mknodat(rustix::fs::CWD, Path::new(&folder).join("fifo"), fifo.0, fifo.1, 0).unwrap();
}

#[test]
fn what_is_changed_through_a_descriptor_comes_with_its_path() {
    let (_keep, folder) = folder();
    let Some(mut source) = open(EbpfOptions::default()) else { return };
    let mut child = tagged(&source, &mut tool("tool_that_changes_by_descriptor", &folder));
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert!(child.wait().unwrap().success());
    let items = drain(&mut source);
    let here = folder.as_os_str().as_encoded_bytes();
    let of_folder = records(&items).into_iter().filter(|r| r.path.path.starts_with(here));
    let found: Vec<(Op, &str, bool)> = of_folder
        .map(|r| (r.op, std::str::from_utf8(&r.path.path[here.len()..]).unwrap(), r.path.is_cut))
        .collect();
    let expected = [
        (Op::Create, "/by-fd", false),
        (Op::Chmod, "/by-fd", false),
        (Op::Chown, "/by-fd", false),
        // No path was given, or none could be read: the call alone does not say which.
        (Op::Attribute, "/by-fd", true),
        (Op::Attribute, "/by-fd", false),
        (Op::Create, "/fifo", false),
    ];
    assert_eq!(found, expected);
}

/// Not a test by itself: makes as many files as a line says, with that much to do between them.
#[test]
fn tool_that_makes_files_when_told() {
    let Some(folder) = std::env::var_os(TOOL_FOLDER) else { return };
    let mut made = 0;
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let (files, work) = line.split_once(' ').unwrap();
        for _ in 0..files.parse::<u32>().unwrap() {
            (0..work.parse::<u32>().unwrap()).for_each(|n| assert_eq!(std::hint::black_box(n), n));
            fs::File::create(Path::new(&folder).join(format!("f{made}"))).unwrap();
            made += 1;
        }
    }
}

#[test]
fn whoever_sleeps_is_woken_by_the_next_record_and_by_nothing_later() {
    let (_keep, folder) = folder();
    // The reader lies down whenever a look finds nothing: with every record, and while the next is made.
    let asleep_every = Duration::from_secs(4);
    let eager = EbpfOptions { look_every: Duration::ZERO, asleep_every, ..EbpfOptions::default() };
    let Some(mut source) = open(eager) else { return };
    let mut child = tagged(&source, &mut tool("tool_that_makes_files_when_told", &folder));
    let mut stdin = child.stdin.take().unwrap();
    let (mut state, mut items, mut made) = (seed(), Vec::new(), 0);
    for _ in 0..3_000 {
        let (files, work) = (1 + random(&mut state) % 3, random(&mut state) % 20_000);
        stdin.write_all(format!("{files} {work}\n").as_bytes()).unwrap();
        made += files as usize;
        while records(&items).iter().filter(|r| r.op == Op::Create).count() < made {
            let mut watched = [PollFd::from_borrowed_fd(source.pollable().unwrap(), PollFlags::IN)];
            let long = Timespec { tv_sec: 60, tv_nsec: 0 };
            assert_eq!(poll(&mut watched, Some(&long)), Ok(1), "nobody told of the record");
            source.next_batch(1_000, &mut items).unwrap();
        }
        items.retain(|i| matches!(i, Item::Record(r) if r.op == Op::Create));
        // Each is counted once, and forgotten.
        made = 0;
        items.clear();
        assert_eq!(source.unwoken(), 0, "a record lay in the ring and its reader slept on");
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn records_and_gaps_together_leave_no_sequence_out_and_none_twice() {
    let (_keep, folder) = folder();
    let Some(mut source) = open(unread(1 << 15)) else { return };
    let mut state = seed();
    let children: Vec<Child> = ["a", "b"]
        .map(|name| {
            let place = folder.join(name);
            fs::create_dir_all(&place).unwrap();
            // Names of all lengths, so that records have all lengths.
            let script = "read go; n=x; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do \
                          for j in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do : > $n$i-$j; done; \
                          n=${n}xxxxxx; mkdir $n; cd $n; done";
            let mut child = tagged(&source, Command::new("sh").args(["-c", script]).current_dir(&place));
            child.stdin.take().unwrap().write_all(b"go\n").unwrap();
            child
        })
        .into_iter()
        .collect();
    let mut items = Vec::new();
    // Reads while they are made and lost, a few at a time, and seldom enough to lose some.
    while source.lost() == 0 {
        std::thread::yield_now();
    }
    while source.made() < 600 {
        if random(&mut state).is_multiple_of(64) {
            source.next_batch(1 + (random(&mut state) % 50) as usize, &mut items).unwrap();
        }
    }
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    items.extend(drain(&mut source));
    let mut told: Vec<(u64, u64)> = records(&items).iter().map(|r| (r.sequence.unwrap(), 1)).collect();
    let missing = gaps(&items, GapCause::Overflow);
    let lost: u64 = missing.iter().map(|(_, n)| n).sum();
    told.extend(missing.iter().map(|(after, n)| (after.unwrap() + 1, *n)));
    told.sort_unstable();
    let mut next = 1;
    for (first, count) in told {
        assert_eq!(first, next, "sequences {next} and on");
        next += count;
    }
    assert_eq!((next - 1, lost), (source.made(), source.lost()));
    assert!(lost > 0, "the ring was meant to be too small");
}

#[test]
fn names_are_whole_or_marked_however_they_are_read() {
    for helpers_only in [false, true] {
        let (_keep, folder) = folder();
        let Some(mut source) = open(EbpfOptions { helpers_only, ..EbpfOptions::default() }) else { return };
        let deep: PathBuf = (0..20).map(|n| format!("d{n}")).collect();
        let long = "l".repeat(62);
        let longer = "m".repeat(63);
        fs::create_dir_all(folder.join(&deep)).unwrap();
        fs::create_dir(folder.join(&long)).unwrap();
        fs::create_dir(folder.join(&longer)).unwrap();
        sh(
            &source,
            &folder,
            &format!(
                "mkdir {0}/abs {1}/kept {2}/cut; (cd {0}; mkdir rel); (cd {1}; mkdir rel); (cd {2}; mkdir rel); \
                 mv {1}/rel top; (cd {1}; ln -s ../nowhere link; ln ../file hard; mv kept ../moved)",
                folder.join(&deep).display(),
                long,
                longer,
            )
            .replacen("mkdir", ": > file; mkdir", 1),
        );
        let items = drain(&mut source);
        let records = records(&items);
        let of = |op: Op, name: &str| {
            let path = folder.join(name);
            let found = records.iter().find(|r| r.op == op && r.path.path == path.as_os_str().as_bytes());
            found.map(|r| (r.path.is_cut, String::from_utf8(r.path.target.clone()).unwrap()))
        };
        let target = |name: &str| folder.join(name).display().to_string();
        let whole = Some((false, String::new()));
        assert_eq!(
            of(Op::Mkdir, deep.join("abs").to_str().unwrap()),
            whole,
            "from the root no folder is needed"
        );
        assert_eq!(of(Op::Mkdir, &format!("{long}/kept")), whole);
        assert_eq!(of(Op::Mkdir, &format!("{long}/rel")), whole);
        assert_eq!(of(Op::Rename, &format!("{long}/rel")), Some((false, target("top"))));
        assert_eq!(of(Op::Rename, &format!("{long}/kept")), Some((false, target("moved"))));
        assert_eq!(of(Op::Hardlink, &format!("{long}/hard")), Some((false, target("file"))));
        assert_eq!(of(Op::Symlink, &format!("{long}/link")), Some((false, "../nowhere".to_owned())));
        assert!(of(Op::Create, "file").is_some());
        let cut = records.iter().filter(|r| r.op == Op::Mkdir && r.path.is_cut).count();
        assert_eq!(cut, 2, "one below 20 folders, one below a name of 63 bytes");
    }
}

#[test]
fn calls_that_failed_are_told_as_failed_or_not_at_all() {
    for failed_calls in [true, false] {
        let (_keep, folder) = folder();
        let Some(mut source) = open(EbpfOptions { failed_calls, ..EbpfOptions::default() }) else { return };
        sh(
            &source,
            &folder,
            "rm -f missing; rmdir nowhere; mkdir there; mkdir there; true > nowhere/f; \
             true > there; mv missing there; exit 0",
        );
        let items = drain(&mut source);
        let failed: Vec<(Op, String, i64)> = records(&items)
            .iter()
            .filter(|r| r.result.is_some_and(|r| r < 0))
            .map(|r| {
                let path = Path::new(std::ffi::OsStr::from_bytes(&r.path.path));
                let name = path.strip_prefix(&folder).unwrap().display().to_string();
                (r.op, name, r.result.unwrap())
            })
            .collect();
        if !failed_calls {
            assert_eq!(failed, []);
            continue;
        }
        for (op, name, error) in [
            (Op::Rmdir, "nowhere", -2),
            (Op::Mkdir, "there", -17),
            (Op::Create, "nowhere/f", -2),
            (Op::Create, "there", -21),
        ] {
            assert!(failed.contains(&(op, name.to_owned(), error)), "{op:?} {name} {error}: {failed:?}");
        }
        let made: Vec<_> =
            records(&items).into_iter().filter(|r| r.result == Some(0) && r.op == Op::Mkdir).collect();
        assert_eq!(made.len(), 1, "one of two calls made the folder");
    }
}

/// A program of a few lines of C; `None` where there is no compiler.
fn compiled(folder: &Path, source: &str) -> Option<PathBuf> {
    let (text, program) = (folder.join("tool.c"), folder.join("tool"));
    fs::write(&text, source).unwrap();
    let mut cc = Command::new("cc");
    let output = cc.args(["-O1", "-no-pie", "-o"]).args([&program, &text]).output();
    if output.as_ref().is_ok_and(|o| o.status.success()) {
        return Some(program);
    }
    println!("skipped: no C compiler here: {output:?}");
    None
}

/// Runs a program that says with 77 that this kernel lets it do nothing; what was told, and what was counted.
fn counted(source: &str) -> Option<(Vec<Item>, u64)> {
    let ((_keep, folder), (_tools, tools)) = (folder(), folder());
    let program = compiled(&tools, source)?;
    let mut source = open(EbpfOptions::default())?;
    let script = format!("{}; c=$?; [ $c = 77 ] && touch not-here && exit 0; exit $c", program.display());
    sh(&source, &folder, &script);
    if folder.join("not-here").exists() {
        println!("skipped: this kernel does not offer such calls");
        return None;
    }
    let items = drain(&mut source);
    let counts = gaps(&items, GapCause::NotObserved);
    assert!(counts.iter().all(|(after, _)| after.is_none()), "none of them has a sequence");
    Some((items, counts.iter().map(|(_, n)| n).sum()))
}

#[test]
fn calls_of_32_bits_are_counted_and_never_taken_for_others() {
    // `int 0x80` makes a 32-bit call of a 64-bit program, too: its addresses have to be low, which -no-pie sees to.
    let told = counted(
        r#"
        static char name[] = "by32", none[] = "none/none", buffer[16];
        static long call(long number, long a, long b, long c) {
            long result;
            __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c)
                             : "memory", "r8", "r9", "r10", "r11");
            return result;
        }
        int main(void) {
            long file = call(5, (long)name, 0x41, 0600);
            if (file < 0) return 77;
            call(4, file, (long)name, 4);
            call(5, (long)name, 0, 0);
            call(5, (long)none, 0x41, 0600);
            call(85, (long)name, (long)buffer, 16);
            call(82, 0, 0, 0);
            return call(10, (long)name, 0, 0) != 0;
        }"#,
    );
    let Some((items, count)) = told else { return };
    // Number 85 makes a file in 64 bits and reads a link in 32; 82 renames and waits.
    assert_eq!(count, 3, "made, written and removed; neither opened to read nor failed");
    let files: Vec<_> =
        records(&items).into_iter().filter(|r| r.op != Op::Exec && r.op != Op::Fork).collect();
    assert!(files.iter().all(|r| r.op == Op::Exit), "{files:?}");
}

#[test]
fn requests_to_io_uring_are_counted() {
    let told = counted(
        r#"
        #include <fcntl.h>
        #include <linux/io_uring.h>
        #include <string.h>
        #include <sys/mman.h>
        #include <sys/syscall.h>
        #include <unistd.h>
        int main(void) {
            struct io_uring_params p;
            memset(&p, 0, sizeof p);
            int ring = syscall(__NR_io_uring_setup, 8, &p);
            if (ring < 0) return 77;
            char *sq = mmap(0, p.sq_off.array + 32, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
            struct io_uring_sqe *sqes =
                mmap(0, 8 * sizeof *sqes, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
            if (sq == MAP_FAILED || sqes == MAP_FAILED) return 77;
            for (int n = 0; n < 3; n++) {
                memset(&sqes[n], 0, sizeof *sqes);
                sqes[n].opcode = n == 2 ? IORING_OP_UNLINKAT : IORING_OP_OPENAT;
                sqes[n].fd = AT_FDCWD;
                sqes[n].addr = (unsigned long)"queued";
                sqes[n].len = n == 2 ? 0 : 0600;
                sqes[n].open_flags = n == 0 ? O_CREAT | O_WRONLY : 0;
                ((unsigned *)(sq + p.sq_off.array))[n] = n;
                *(volatile unsigned *)(sq + p.sq_off.tail) = n + 1;
                if (syscall(__NR_io_uring_enter, ring, 1, n + 1, IORING_ENTER_GETEVENTS, 0, 0) != 1) return 77;
            }
            return access("queued", F_OK) == 0;
        }"#,
    );
    let Some((_, count)) = told else { return };
    assert_eq!(count, 2, "made and removed, but not opened to read");
}

#[test]
fn an_observation_that_fell_behind_ends_with_every_loss_told() {
    let ((_keep, place), (_journal, journal)) = (folder(), folder());
    let witness = Wanted::Nothing;
    let plan = Plan { wanted: Wanted::Ebpf, witness, limited_queue: true, ..Plan::default() };
    let observer = match Observer::open(plan) {
        Ok(observer) => observer,
        Err(why) => return println!("skipped: no eBPF here: {why}"),
    };
    let engine = Engine::open(&journal.join("j"), EngineOptions::default()).unwrap();
    let script = "echo ready; read go; i=0; while [ $i -lt 6000 ]; do : > f$i; i=$((i+1)); done";
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).current_dir(&place).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = shell.spawn().unwrap();
    // From here on its own program runs: that it began is no record.
    std::io::BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
    let call = Call {
        id: uuid::Uuid::from_u128(0xCA11),
        agent: "a".to_owned(),
        session: None,
        arguments: Vec::new(),
        started_ns: semj_actors::observe::boot_ns(),
        ended_ns: None,
    };
    let emitter = engine.emitter(Some("a"));
    emitter.emit_blocking(Event::decision("d").id(call.id)).unwrap();
    let running = observer.start(emitter, call, child.id(), &place).unwrap();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert!(child.wait().unwrap().success());
    let finished = running.finish();
    engine.close(Duration::from_secs(30)).unwrap();
    let view = engine.view();
    let (mut told, mut lost) = (Vec::new(), 0);
    for sequence in 1..=view.last_sequence() {
        let event = read_one(&view, sequence).unwrap().unwrap().event;
        let payload = event.payload_value().as_json().unwrap_or_default();
        let number = |key: &str| payload[key].as_u64().unwrap();
        if event.name_text().is_some_and(|n| n.to_string_lossy() == "semj.gap") {
            assert_eq!(payload["semj.cause"], "overflow", "the end waits for all of it");
            told.push((number("semj.after") + 1, number("semj.lost")));
            lost += number("semj.lost");
        } else if payload.get("semj.source_sequence").is_some() {
            told.push((number("semj.source_sequence"), 1));
        }
    }
    told.sort_unstable();
    let mut next = 1;
    for (first, count) in told {
        assert_eq!(first, next, "sequences {next} and on");
        next += count;
    }
    // Each file, and the shell's end.
    assert_eq!((next - 1, finished.lost), (6_001, lost));
    assert!(lost > 0 && !finished.is_complete, "two pages were meant to be too few");
}
