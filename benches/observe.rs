//! What observation costs: the tool under `semj run`, everybody else meanwhile, and how long an effect takes to the disk.
//! The same tool runs in turn without anybody watching.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unreachable_pub)]

mod common;

use common::{Args, Runs, Scratch, Table, short};
use semj::event::Category;
use semj::{Journal, Query};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The tool: makes and removes files, and asks for its parent's id; prints what each took, in ns.
fn tool(folder: &Path, files: u32) {
    let paths: Vec<_> = (0..files).map(|i| folder.join(format!("f{i}"))).collect();
    let each = |begin: Instant| begin.elapsed().as_nanos() as f64 / f64::from(files);
    let begin = Instant::now();
    paths.iter().for_each(|p| drop(File::create(p).unwrap()));
    let create = each(begin);
    let begin = Instant::now();
    paths.iter().for_each(|p| fs::remove_file(p).unwrap());
    let remove = each(begin);
    let best = (0..50).map(|_| {
        let begin = Instant::now();
        (0..2_000).for_each(|_| {
            std::hint::black_box(rustix::process::getppid());
        });
        begin.elapsed().as_nanos() as f64 / 2_000.0
    });
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

/// The three figures of one run of the tool, and the report of who watched.
fn figures(mut command: Command, folder: &Path, files: u32) -> ([f64; 3], Option<serde_json::Value>) {
    command.args(["--tool", folder.to_str().unwrap(), &files.to_string()]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<f64> = text.split_whitespace().map(|n| n.parse().unwrap()).collect();
    ([numbers[0], numbers[1], numbers[2]], serde_json::from_slice(&output.stderr).ok())
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
    let sources: Vec<&str> = ["none", "inotify", "fanotify", "seccomp", "ebpf"]
        .into_iter()
        .filter(|s| is_there(s, &scratch))
        .collect();
    let plain = || Command::new(&exe);
    let mut bare = [Runs::default(), Runs::default(), Runs::default()];
    for source in &sources {
        let mut own = [Runs::default(), Runs::default(), Runs::default()];
        let mut others = [Runs::default(), Runs::default(), Runs::default()];
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
        for (n, what) in ["make a file", "remove a file", "getppid"].iter().enumerate() {
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
    let percentiles = |pick: fn(&(f64, f64)) -> f64| {
        let mut sorted: Vec<f64> = delays.iter().map(pick).collect();
        sorted.sort_by(f64::total_cmp);
        let at = |q: f64| short(sorted[((sorted.len() - 1) as f64 * q) as usize] / 1e3);
        format!("p50 {} us, p90 {} us, p99 {} us", at(0.5), at(0.9), at(0.99))
    };
    let whole = format!("{} of {files}", delays.len());
    table.row(&format!("{source}: before the call to its time"), "", &percentiles(|d| d.0), &whole);
    table.row(&format!("{source}: before the call to committed"), "", &percentiles(|d| d.1), &whole);
}
