//! What observation costs: the tool under `semj run`, everybody else meanwhile, and how long an effect takes to the reader
//! and to the disk. The same tool runs in turn without anybody watching.
//!
//! Parts for `--only`: `tool`, and with the feature `ebpf` also `programs` (what the programs in the kernel cost the
//! caller when nobody reads) and `reader` (from the call to whoever reads the source).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unreachable_pub)]

mod common;

use common::{Args, Runs, Scratch, Table, short};
use semj::event::Category;
use semj::{Journal, Query};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What the tool measures.
const WHATS: [&str; 5] = [
    "make a file",
    "make a file, processor time",
    "remove a file",
    "remove a file, processor time",
    "getppid",
];

fn processor_ns() -> f64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    t.tv_sec as f64 * 1e9 + t.tv_nsec as f64
}

/// How long each of `paths` takes, in ns: by the clock, and of the processor's time, which neighbours disturb less.
fn each(paths: &[PathBuf], mut what: impl FnMut(&Path)) -> (f64, f64) {
    let (begin, used) = (Instant::now(), processor_ns());
    paths.iter().for_each(|p| what(p));
    let count = paths.len() as f64;
    (begin.elapsed().as_nanos() as f64 / count, (processor_ns() - used) / count)
}

/// The tool: makes and removes files, and asks for its parent's id; prints what each took, in ns.
fn tool(folder: &Path, files: u32) {
    let paths: Vec<_> = (0..files).map(|i| folder.join(format!("f{i}"))).collect();
    let create = each(&paths, |p| drop(File::create(p).unwrap()));
    let remove = each(&paths, |p| fs::remove_file(p).unwrap());
    let best = (0..50).map(|_| {
        let begin = Instant::now();
        (0..2_000).for_each(|_| {
            std::hint::black_box(rustix::process::getppid());
        });
        begin.elapsed().as_nanos() as f64 / 2_000.0
    });
    let (create, remove) = (format!("{} {}", create.0, create.1), format!("{} {}", remove.0, remove.1));
    println!("{create} {remove} {}", best.fold(f64::INFINITY, f64::min));
}

/// Makes files whose names tell when, 2 ms apart.
fn paced(folder: &Path, files: u32) {
    for _ in 0..files {
        std::thread::sleep(Duration::from_millis(2));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        File::create(folder.join(format!("at-{now}"))).unwrap();
    }
}

/// One source alone, without a witness.
fn observed(journal: &Path, folder: &Path, source: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_semj"));
    command
        .arg("-j")
        .arg(journal)
        .args(["--json", "run", "--source", source, "--witness", "none", "--"])
        .current_dir(folder);
    command
}

/// The figures of one run of the tool, and the report of who watched.
fn figures(mut command: Command, folder: &Path, files: u32) -> ([f64; 5], Option<serde_json::Value>) {
    command.args(["--tool", folder.to_str().unwrap(), &files.to_string()]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<f64> = text.split_whitespace().map(|n| n.parse().unwrap()).collect();
    (numbers.try_into().unwrap(), serde_json::from_slice(&output.stderr).ok())
}

fn is_there(source: &str, scratch: &Scratch) -> bool {
    let folder = scratch.join("probe");
    fs::create_dir_all(&folder).unwrap();
    observed(&scratch.join("probe-journal"), &folder, source).arg("true").output().unwrap().status.success()
}

/// An observer that is up, with a tool that does nothing.
fn idle(journal: &Path, folder: &Path, source: &str) -> Child {
    let mut command = observed(journal, folder, source);
    let mut child = command
        .arg("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    child
}

fn main() {
    let all: Vec<String> = std::env::args().collect();
    if all.len() == 4 && all[1].starts_with("--") {
        let (folder, files) = (Path::new(&all[2]), all[3].parse().unwrap());
        if all[1] == "--told" {
            std::io::stdin().read_exact(&mut [0]).unwrap();
        }
        return if all[1] == "--tool" { tool(folder, files) } else { paced(folder, files) };
    }
    let Some(args) = Args::parse() else { return };
    let scratch = Scratch::new();
    // The tool's files are in memory: on the journal's own disk its syncs would be what is measured.
    let shm = Path::new("/dev/shm");
    let memory = tempfile::tempdir_in(if shm.is_dir() { shm } else { scratch.path() }).unwrap();
    let memory = memory.path();
    let table = Table::new("observe", scratch.path());
    let exe = std::env::current_exe().unwrap();
    let (files, rounds) = if args.quick { (5_000, 3) } else { (20_000, 5) };
    #[cfg(feature = "ebpf")]
    {
        if args.wants("programs") {
            ebpf::programs(&table, memory, 5_000, 4 * rounds + 1);
        }
        if args.wants("reader") {
            ebpf::reader(&table, memory, &exe, if args.quick { 500 } else { 2_000 });
        }
    }
    if !args.wants("tool") {
        return;
    }
    let sources: Vec<&str> = ["none", "inotify", "fanotify", "seccomp", "ebpf"]
        .into_iter()
        .filter(|s| is_there(s, &scratch))
        .collect();
    let plain = || Command::new(&exe);
    let mut bare = [(); 5].map(|()| Runs::default());
    for source in &sources {
        let mut own = [(); 5].map(|()| Runs::default());
        let mut others = [(); 5].map(|()| Runs::default());
        let mut rate = Runs::default();
        let mut complete = true;
        for round in 0..rounds {
            let folder = memory.join(format!("{source}{round}"));
            let away = memory.join(format!("{source}{round}-away"));
            fs::create_dir_all(&folder).unwrap();
            fs::create_dir_all(&away).unwrap();
            let journal = scratch.join(&format!("{source}{round}-journal"));
            let (numbers, _) = figures(plain(), &folder, files);
            bare.iter_mut().zip(numbers).for_each(|(r, n)| r.push(n));
            let mut command = observed(&journal, &folder, source);
            command.arg(&exe);
            let (numbers, report) = figures(command, &folder, files);
            own.iter_mut().zip(numbers).for_each(|(r, n)| r.push(n));
            let report = report.unwrap();
            complete &= report["complete"].as_bool().unwrap() || *source == "none";
            rate.push(report["effects"].as_f64().unwrap() / (report["duration_ns"].as_f64().unwrap() / 1e9));
            let mut watcher = idle(&scratch.join(&format!("{source}{round}-idle")), &folder, source);
            let (numbers, _) = figures(plain(), &away, files);
            others.iter_mut().zip(numbers).for_each(|(r, n)| r.push(n));
            drop(watcher.stdin.take());
            watcher.wait().unwrap();
        }
        for (n, what) in WHATS.iter().enumerate() {
            let rival = format!("nobody watches: {}", bare[n].show(" ns"));
            table.row(&format!("{source}: the tool, {what}"), "", &own[n].show(" ns"), &rival);
            table.row(&format!("{source}: somebody else, {what}"), "", &others[n].show(" ns"), "");
        }
        let told = if complete { "complete" } else { "with gaps" };
        table.row(&format!("{source}: effects journaled a second"), "", &rate.show(""), told);
        if *source != "none" {
            latency(&table, &scratch, memory, &exe, source, if args.quick { 300 } else { 2_000 });
        }
    }
}

/// From before the call that makes a file to its event being on disk.
fn latency(table: &Table, scratch: &Scratch, memory: &Path, exe: &Path, source: &str, files: u32) {
    let (folder, journal) =
        (memory.join(format!("{source}-paced")), scratch.join(&format!("{source}-paced-journal")));
    fs::create_dir_all(&folder).unwrap();
    let mut command = observed(&journal, &folder, source);
    command.arg(exe).args(["--paced", folder.to_str().unwrap(), &files.to_string()]);
    assert!(command.output().unwrap().status.success());
    let reader = Journal::open_read_only(&journal).unwrap();
    let mut delays = Vec::new();
    for event in reader.run(Query::new().category(Category::Filesystem)).unwrap() {
        let event = event.unwrap();
        let path = event.event.path_text().unwrap().to_string_lossy().into_owned();
        let Some(at) = path.rsplit_once("/at-").and_then(|(_, n)| n.parse::<i64>().ok()) else { continue };
        delays.push(((event.event.given_time().unwrap().0 - at) as f64, (event.recorded.0 - at) as f64));
    }
    let whole = format!("{} of {files}", delays.len());
    table.row(&format!("{source}: before the call to its time"), "", &percentiles(&delays, |d| d.0), &whole);
    table.row(&format!("{source}: before the call to committed"), "", &percentiles(&delays, |d| d.1), &whole);
}

fn percentiles(delays: &[(f64, f64)], pick: fn(&(f64, f64)) -> f64) -> String {
    let mut sorted: Vec<f64> = delays.iter().map(pick).collect();
    sorted.sort_by(f64::total_cmp);
    let at = |q: f64| short(sorted[((sorted.len() - 1) as f64 * q) as usize] / 1e3);
    format!("p50 {} us, p90 {} us, p99 {} us", at(0.5), at(0.9), at(0.99))
}

#[cfg(feature = "ebpf")]
mod ebpf {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use semj::sources::ebpf::{Ebpf, EbpfOptions};
    use semj::sources::{Item, KernelSource as _, Op};

    /// What one kind of call takes with and without the programs.
    type Pair = [Runs; 2];

    /// The processor time that each of `paths` takes, in ns, in the calmest tenth of the time: of groups of 50, the one
    /// that nine of ten are slower than.
    fn calmly(paths: &[PathBuf], mut what: impl FnMut(&Path)) -> f64 {
        let mut groups: Vec<f64> = paths.chunks(50).map(|group| each(group, &mut what).1).collect();
        groups.sort_by(f64::total_cmp);
        groups[groups.len() / 10]
    }

    fn nanoseconds(clock: rustix::time::ClockId) -> f64 {
        let t = rustix::time::clock_gettime(clock);
        t.tv_sec as f64 * 1e9 + t.tv_nsec as f64
    }

    /// What the programs cost whoever calls, in processor time: the ring is large enough, and nobody reads meanwhile. Medians
    /// of the rounds.
    pub(super) fn programs(table: &Table, memory: &Path, files: u32, rounds: usize) {
        let folder = memory.join("programs");
        fs::create_dir_all(folder.join("deep/er/still")).unwrap();
        let names: Vec<PathBuf> = (0..files).map(|i| PathBuf::from(format!("f{i}"))).collect();
        let paths: Vec<PathBuf> = names.iter().map(|n| folder.join("deep/er/still").join(n)).collect();
        let whats =
            ["make and close", "write", "rename", "chmod", "remove", "remove below the working folder"];
        let mut runs: Vec<Pair> = whats.iter().map(|_| [Runs::default(), Runs::default()]).collect();
        std::env::set_current_dir(folder.join("deep/er/still")).unwrap();
        for _ in 0..rounds {
            for watched in [false, true] {
                let options =
                    EbpfOptions { ring_bytes: 1 << 27, reads_by_itself: false, ..EbpfOptions::default() };
                let source = watched.then(|| Ebpf::open(options).unwrap());
                let adopted = source.as_ref().map(|s| s.adopt(std::process::id(), 1));
                adopted.into_iter().for_each(|a| a.unwrap());
                let moved: Vec<PathBuf> = paths.iter().map(|p| p.with_extension("x")).collect();
                let open: Vec<File> = paths.iter().take(500).map(|p| File::create(p).unwrap()).collect();
                let mut written = open.iter();
                let write = calmly(&paths[..open.len()], |_| {
                    assert_eq!(written.next().unwrap().write(b"x").unwrap(), 1)
                });
                paths.iter().take(500).for_each(|p| fs::remove_file(p).unwrap());
                drop(open);
                let create = calmly(&paths, |p| drop(File::create(p).unwrap()));
                let mut to = moved.iter();
                let rename = calmly(&paths, |p| fs::rename(p, to.next().unwrap()).unwrap());
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
                let chmod =
                    calmly(&moved, |p| fs::set_permissions(p, fs::Permissions::clone(&mode)).unwrap());
                let remove = calmly(&moved, |p| fs::remove_file(p).unwrap());
                paths.iter().for_each(|p| drop(File::create(p).unwrap()));
                let below = calmly(&names, |p| fs::remove_file(p).unwrap());
                for (pair, took) in runs.iter_mut().zip([create, write, rename, chmod, remove, below]) {
                    pair[usize::from(watched)].push(took);
                }
                assert_eq!(source.map_or(0, |s| s.lost()), 0);
            }
        }
        std::env::set_current_dir(memory).unwrap();
        for (what, [without, with]) in whats.iter().zip(&runs) {
            let rival = format!("without: {}", without.show(" ns"));
            let more = format!("{} more", short(with.median() - without.median()));
            table.row(
                &format!("programs: {what}"),
                "2,000 more",
                &format!("{}, {more}", with.show(" ns")),
                &rival,
            );
        }
        let mut opening = Runs::default();
        for _ in 0..rounds {
            let begin = Instant::now();
            let source = Ebpf::open(EbpfOptions::default()).unwrap();
            opening.push(begin.elapsed().as_secs_f64() * 1e3);
            drop(source);
        }
        table.row("programs: opening the source", "", &opening.show(" ms"), "");
        let options = EbpfOptions { ring_bytes: 1 << 20, reads_by_itself: false, ..EbpfOptions::default() };
        let source = Ebpf::open(options).unwrap();
        source.adopt(std::process::id(), 1).unwrap();
        while source.lost() == 0 {
            fs::remove_file(File::create(&paths[0]).map(|_| &paths[0]).unwrap()).unwrap();
        }
        let kept = short((source.made() - source.lost()) as f64);
        table.row("programs: records of files made and removed that 1 MiB holds", "", &kept, "");
    }

    /// From the call to whoever reads the source, with a tool that makes a file every 2 ms: the reader sleeps by then.
    pub(super) fn reader(table: &Table, memory: &Path, exe: &Path, files: u32) {
        let folder = memory.join("reader");
        fs::create_dir_all(&folder).unwrap();
        let mut source = Ebpf::open(EbpfOptions::default()).unwrap();
        let mut tool = Command::new(exe)
            .args(["--told", folder.to_str().unwrap(), &files.to_string()])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        source.adopt(tool.id(), 1).unwrap();
        tool.stdin.take().unwrap().write_all(b"x").unwrap();
        let ahead =
            nanoseconds(rustix::time::ClockId::Realtime) - nanoseconds(rustix::time::ClockId::Boottime);
        let (mut delays, mut items, mut ended) = (Vec::new(), Vec::new(), false);
        while !ended {
            let every = Timespec { tv_sec: 0, tv_nsec: source.poll_every().subsec_nanos().into() };
            let mut watched: Vec<PollFd<'_>> = Vec::new();
            watched.extend(source.pollable().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            poll(&mut watched, Some(&every)).unwrap();
            drop(watched);
            while source.next_batch(100, &mut items).unwrap().more {}
            let now = nanoseconds(rustix::time::ClockId::Boottime);
            for item in items.drain(..) {
                let Item::Record(record) = item else { continue };
                ended |= record.op == Op::Exit;
                let path = String::from_utf8_lossy(&record.path.path).into_owned();
                let Some(at) = path.rsplit_once("/at-").and_then(|(_, n)| n.parse::<f64>().ok()) else {
                    continue;
                };
                delays.push((now - record.boot_ns as f64, now + ahead - at));
            }
        }
        tool.wait().unwrap();
        let whole = format!("{} of {files}", delays.len());
        table.row(
            "ebpf: the kernel's time to the reader",
            "p90 50 us",
            &percentiles(&delays, |d| d.0),
            &whole,
        );
        table.row("ebpf: before the call to the reader", "", &percentiles(&delays, |d| d.1), &whole);
    }
}
