//! What the end-to-end tests share: a folder with a journal, the real binary, a running `append` that is talked to,
//! and random numbers that can be had again.
#![allow(dead_code, unreachable_pub, reason = "every test binary uses its own part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Longer than anything here takes; over it, something hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A folder of its own, with a journal `j` in it.
pub struct World(tempfile::TempDir);

impl World {
    pub fn new() -> Self {
        World(tempfile::tempdir().unwrap())
    }

    pub fn root(&self) -> &Path {
        self.0.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn journal(&self) -> PathBuf {
        self.path("j")
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_semj"));
        command
            .args(args)
            .current_dir(self.root())
            .env("SEMJ_JOURNAL", self.journal())
            .env_remove("NO_COLOR");
        command
    }

    pub fn spawn(&self, args: &[&str]) -> Child {
        let piped = Stdio::piped;
        self.command(args).stdin(piped()).stdout(piped()).stderr(piped()).spawn().unwrap()
    }

    pub fn run(&self, args: &[&str], input: &[u8]) -> Output {
        feed(self.spawn(args), input)
    }

    /// The JSON lines that a command prints; it must succeed.
    pub fn json(&self, args: &[&str]) -> Vec<Value> {
        let output = self.run(args, b"");
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", complaint(&output));
        lines(&output)
    }

    /// The only JSON line that a command prints; it must succeed.
    pub fn one(&self, args: &[&str]) -> Value {
        let mut all = self.json(args);
        assert_eq!(all.len(), 1, "{args:?}: {all:?}");
        all.remove(0)
    }

    /// Appends events, all of which must be taken; the answers.
    pub fn append(&self, events: &[Value]) -> Vec<Value> {
        let input: String = events.iter().map(|e| format!("{e}\n")).collect();
        let output = self.run(&["append"], input.as_bytes());
        assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
        lines(&output)
    }

    /// Names and contents of the segments, in order.
    pub fn segments(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = std::fs::read_dir(self.journal().join("segments")).unwrap();
        let mut paths: Vec<_> = entries.map(|e| e.unwrap().path()).collect();
        paths.sort();
        paths.into_iter().map(|p| (p.clone(), std::fs::read(&p).unwrap())).collect()
    }
}

/// The world and its folder `w` for everybody, with a binary that everybody may run; `None`, with the reason printed, where
/// this process cannot become somebody else.
pub fn for_everybody(world: &World) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can become somebody else");
        return None;
    }
    let open = |path: &Path| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    };
    open(world.root());
    open(&world.path("w"));
    let binary = world.path("semj");
    // By another process: one that this process starts meanwhile would hold the file open for writing.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_semj")).arg(&binary).status().unwrap();
    assert!(copied.success());
    open(&binary);
    Some(binary)
}

/// Writes all input to a child, closes its stdin and waits for its end.
pub fn feed(mut child: Child, input: &[u8]) -> Output {
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // A command that reads nothing closes its end; that is its right.
    let feed = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    feed.join().unwrap();
    output
}

pub fn lines(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
}

pub fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The sequences of events or answers.
pub fn sequences(values: &[Value]) -> Vec<u64> {
    values.iter().map(|v| v["sequence"].as_u64().unwrap_or_else(|| panic!("no sequence: {v}"))).collect()
}

pub fn error_kind(answer: &Value) -> Option<&str> {
    answer["error"]["kind"].as_str()
}

/// A running command that is talked to line by line.
pub struct Talk {
    pub child: Child,
    stdin: Option<ChildStdin>,
    answers: Receiver<Value>,
}

impl Talk {
    pub fn start(world: &World, args: &[&str]) -> Self {
        let mut child = world.spawn(args);
        let stdin = child.stdin.take();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let (to, answers) = channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            // A line without its feed was cut off by the end of the process: it was never said.
            while stdout.read_line(&mut line).is_ok_and(|_| line.ends_with('\n')) {
                if to.send(serde_json::from_str(&line).unwrap()).is_err() {
                    return;
                }
                line.clear();
            }
        });
        Talk { child, stdin, answers }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn say(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        if let Err(e) = stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()) {
            let status = self.child.wait().unwrap();
            let mut told = String::new();
            let _ = std::io::Read::read_to_string(&mut self.child.stderr.take().unwrap(), &mut told);
            panic!("nobody listens ({e}); ended with {status}: {told}");
        }
    }

    pub fn hear(&self) -> Value {
        self.answers.recv_timeout(PATIENCE).expect("an answer in time")
    }

    /// What was said and not heard yet; ends with the process.
    pub fn rest(&self) -> Vec<Value> {
        self.answers.iter().collect()
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Closes its stdin and waits for its end.
    pub fn end(mut self) -> Option<i32> {
        drop(self.stdin.take());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn interrupt(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
}

/// Looks until it is so; what is looked at has no other way to tell.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !so() {
        assert!(begin.elapsed() < PATIENCE, "never came: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Random numbers (splitmix64); the seed is printed, and taken from SEMJ_SEED where that is set.
pub struct Random(u64);

impl Random {
    pub fn new() -> Self {
        let given = std::env::var("SEMJ_SEED").ok().map(|s| s.parse().expect("SEMJ_SEED is a number"));
        let seed = given.unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            now.as_nanos() as u64 % 1_000_000_007
        });
        eprintln!("SEMJ_SEED={seed}");
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to `n`, `n` left out.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
