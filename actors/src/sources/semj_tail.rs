//! Follows a stream of kernel records that another process writes: a file, a FIFO or a block device.
//!
//! Two forms: a plain stream as docs/FORMAT.md has it (an optional head, then records or blocks of layout A), whose end is
//! the file's; and one with a committed length, u64 at byte 0, and the stream from byte [`super::DATA_AT`] on: the writer writes
//! the data first, then the length. A last record that is not whole is waited for. A file that was rewritten, replaced or
//! cut off is read from its start: as what it was where its records go on where it was left, the gap being exact then;
//! else as a new life, behind a gap.

use super::tail_file::TailFile;
use super::{
    Barrier, Caps, Gap, GapCause, Item, KernelRecord, KernelSource, Loss, Lost, NotSupported, Op, OpenSource,
    Phase, Pid, Progress, Resume, ResumeKind, Sequencing, Unavailable,
};
use semj_storage::event::EventType;
use semj_storage::kernel::{
    BLOCK_A_BYTES, Block, HEADER_BYTES, JournalHeader, Kind, Lives, RECORD_BYTES_MAX, Record, Reject,
    STREAM_HEADER_BYTES, event_of, next_record, set_wall_time,
};
use semj_storage::log::control::ClockAnchor;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use uuid::Uuid;

/// Read at once, in bytes: some of the largest records.
const CHUNK_BYTES: usize = 1 << 20;

/// How the end of the stream is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TailForm {
    /// It is the end of the file.
    #[default]
    Plain,
    /// The length stands at byte 0, the stream from [`super::DATA_AT`] on.
    CommittedLength,
}

/// Opens the source.
#[derive(Clone, Debug)]
pub struct SemjTail {
    name: String,
    path: PathBuf,
    form: TailForm,
    boot: Option<String>,
}

impl SemjTail {
    /// The stream in `path`, under the name `kernel:` and the file's name.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let file = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        SemjTail { name: format!("kernel:{file}"), path, form: TailForm::Plain, boot: None }
    }

    /// Under another name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// In another form.
    #[must_use]
    pub fn form(mut self, form: TailForm) -> Self {
        self.form = form;
        self
    }

    /// What its first life is called, as with `import --boot`; later ones get a number. Without it a life is known by its
    /// first record.
    #[must_use]
    pub fn boot(mut self, boot: impl Into<String>) -> Self {
        self.boot = Some(boot.into());
        self
    }
}

impl OpenSource for SemjTail {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&mut self, from: Option<&Resume>) -> Result<Box<dyn KernelSource>, Unavailable> {
        let file = TailFile::open(&self.path, self.form).map_err(|e| {
            let need = format!("the stream {}", self.path.display());
            Unavailable::new(need, "start the program that writes it, or name another file").because(&e)
        })?;
        let mut tail = Tail {
            lives: Lives::new(self.boot.as_deref()),
            file,
            path: self.path.clone(),
            base: 0,
            offset: 0,
            is_drained: false,
            last_sequence: 0,
            record_start: 0,
            pending: Vec::new(),
            was_damaged: false,
            was_rewritten: false,
            laps: None,
            clock: None,
        };
        match from {
            Some(resume) => tail.resume(&resume.0),
            None => tail.offset = tail.file.start(),
        }
        Ok(Box::new(tail))
    }
}

/// The open source.
#[derive(Debug)]
struct Tail {
    file: TailFile,
    path: PathBuf,
    lives: Lives,
    /// The lengths of the files that were read before this one: the source's measure never goes back.
    base: u64,
    /// Read up to here.
    offset: u64,
    is_drained: bool,
    last_sequence: u64,
    /// Where the newest record began.
    record_start: u64,
    /// To be handed out before anything else.
    pending: Vec<Item>,
    /// The bytes at the offset are no record, and that was told.
    was_damaged: bool,
    /// What the next record says of what was lost when the file was rewritten is to be told.
    was_rewritten: bool,
    /// How often the writer had begun again when the newest bytes were read.
    laps: Option<u64>,
    /// What the clocks said when that was handed out last.
    clock: Option<ClockAnchor>,
}

/// Length of the fixed part of a resume point.
const RESUME_FIXED: usize = 33;
/// How a resume point begins: behind a record, or at the start of a file that was rewritten.
const READ: u8 = 2;
const REWRITTEN: u8 = 3;

impl Tail {
    fn resume(&mut self, bytes: &[u8]) {
        let number =
            |at: usize| bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
        let is_whole = bytes.len() >= RESUME_FIXED && matches!(bytes.first(), Some(&(READ | REWRITTEN)));
        let lives = bytes.get(RESUME_FIXED..).and_then(Lives::decode).filter(|_| is_whole);
        let (Some(lives), false) = (lives, self.file.is_pipe()) else {
            // What was written meanwhile went through the pipe, or nobody can tell.
            self.offset = self.file.start();
            self.begin_anew(GapCause::NotObserved);
            return;
        };
        let boot = self.lives.boot();
        self.lives = lives.with_boot(boot);
        self.was_rewritten = bytes.first() == Some(&REWRITTEN);
        self.laps = Some(number(25)).filter(|_| !self.was_rewritten);
        (self.offset, self.last_sequence, self.record_start) = (number(1), number(9), number(17));
        // Whether it is still the same file is found out by the first call.
    }

    /// Finds out whether the file is still the one that was read; what it is now is read from its start.
    fn was_rewritten(&mut self, laps: u64) -> io::Result<bool> {
        let is_same = match self.lives.newest_checksum() {
            _ if self.laps.is_some_and(|known| known != laps) => false,
            Some(checksum) if self.offset > self.file.start() => {
                self.file.still_holds(self.record_start, checksum)?
            }
            _ => true,
        };
        if is_same && self.file.end()? >= self.offset && !self.file.was_replaced(&self.path)? {
            return Ok(false);
        }
        self.was_rewritten = self.lives.number() > 0 || self.offset > self.file.start();
        self.file.reopen(&self.path)?;
        self.base = self.base.saturating_add(self.offset);
        self.offset = self.file.start();
        (self.was_damaged, self.laps) = (false, None);
        Ok(true)
    }

    /// The first record of a file that was rewritten says what was lost: so many, or nobody knows.
    fn tell_rewritten(&mut self, record: &[u8], out: &mut Vec<Item>) {
        if !std::mem::take(&mut self.was_rewritten) {
            return;
        }
        let cause = GapCause::Overwritten;
        let mut gap = Gap { after: None, lost: Lost::Unknown, from_ns: 0, to_ns: 0, cause };
        if self.lives.goes_on_with(record) {
            let sequence = Record::decode(record).map_or(0, |(r, _)| r.header.global_sequence);
            let lost = sequence.saturating_sub(self.last_sequence).saturating_sub(1);
            gap.after = Some(self.last_sequence);
            gap.lost = Lost::Exactly(lost);
        } else {
            self.lives.end();
        }
        if gap.lost != Lost::Exactly(0) {
            out.push(Item::Gap(gap));
        }
    }

    fn begin_anew(&mut self, cause: GapCause) {
        self.lives.end();
        self.was_damaged = false;
        let gap = Gap { after: None, lost: Lost::Unknown, from_ns: 0, to_ns: 0, cause };
        self.pending.push(Item::Gap(gap));
    }

    /// Reads items out of `bytes`, which stand at the offset.
    fn parse(&mut self, bytes: &[u8], max: usize, out: &mut Vec<Item>) -> Stop {
        let start = self.offset;
        let mut at = 0usize;
        loop {
            self.offset = start + at as u64;
            let rest = bytes.get(at..).unwrap_or_default();
            if out.len() >= max {
                return Stop::Enough;
            }
            at += match self.thing(rest, self.offset == self.file.start()) {
                Thing::Skip(length) => length,
                Thing::Record(length) => {
                    let record = rest.get(..length).unwrap_or_default();
                    self.tell_rewritten(record, out);
                    // A new life begins with a call of its own, so that the place before it can be gone back to.
                    if self.lives.begins_with(record) && !out.is_empty() {
                        return Stop::Enough;
                    }
                    self.was_damaged = false;
                    self.hand_out(record, out);
                    self.record_start = start + at as u64;
                    length
                }
                Thing::Wait => return Stop::Waits,
                Thing::Damage => {
                    let Some(length) = next_record(rest) else { return Stop::Damaged };
                    self.tell_damage(out);
                    length
                }
            };
        }
    }

    /// Damage is told once for a spot.
    fn tell_damage(&mut self, out: &mut Vec<Item>) {
        if !std::mem::replace(&mut self.was_damaged, true) {
            let cause = GapCause::Damaged;
            out.push(Item::Gap(Gap { after: None, lost: Lost::Unknown, from_ns: 0, to_ns: 0, cause }));
        }
    }

    fn thing(&self, rest: &[u8], is_start: bool) -> Thing {
        if rest.len() < 8 {
            return Thing::Wait;
        }
        match Kind::guess(rest) {
            Kind::UserspaceHeader if is_start => return whole(rest, STREAM_HEADER_BYTES),
            Kind::JournalHeader if is_start => return whole(rest, JournalHeader::BYTES),
            Kind::BlockA => {
                return match Block::decode(rest) {
                    Ok(_) => Thing::Skip(BLOCK_A_BYTES),
                    Err(Reject::TruncatedHeader { .. } | Reject::TruncatedBody { .. }) => Thing::Wait,
                    Err(_) => Thing::Damage,
                };
            }
            _ => {}
        }
        match Record::decode(rest) {
            Ok((_, length)) => Thing::Record(length),
            Err(Reject::TruncatedHeader { .. } | Reject::TruncatedBody { .. }) => Thing::Wait,
            // Space that was made ahead of the writer.
            Err(_) if rest.iter().take(HEADER_BYTES).all(|b| *b == 0) => Thing::Wait,
            Err(_) => Thing::Damage,
        }
    }

    /// What the writer says of the clocks, where it says something new; of which boot, a record says first.
    fn tell_clock(&mut self, out: &mut Vec<Item>) {
        let clock = self.file.clock();
        if let Some(ClockAnchor { boot_ns, wall_ns, mono_ns, error_ns, .. }) = clock
            && clock != self.clock
            && self.lives.number() > 0
        {
            self.clock = clock;
            out.push(Item::Clock { boot_ns, wall_ns, mono_ns, error_ns });
        }
    }

    fn hand_out(&mut self, bytes: &[u8], out: &mut Vec<Item>) {
        let Ok((record, _)) = Record::decode(bytes) else { return };
        let header = &record.header;
        let (instance, is_new) = self.lives.of(bytes, header.event_id, header.ktime, header.checksum);
        if is_new {
            let boot_id = self.file.clock().map_or(Uuid::nil(), |clock| clock.boot_id);
            let incarnation = self.lives.number();
            // The kernel counts from 1.
            out.push(Item::Epoch { boot_id, incarnation, first_sequence: Some(1) });
        }
        let Ok(mut event) = event_of(bytes, &instance) else { return };
        if let Some(clock) = self.file.clock() {
            let offset = clock.wall_ns.saturating_sub(clock.mono_ns);
            set_wall_time(&mut event, header.ktime.saturating_add(offset));
        }
        let op = Op::Event(EventType::from_code(header.event_type));
        let mut item = KernelRecord::new(op, Phase::Done, header.ktime);
        item.sequence = Some(header.global_sequence);
        item.cpu = Some(header.cpu_id);
        item.who.thread = header.process_id;
        item.event = Some(Box::new(event));
        self.last_sequence = header.global_sequence;
        out.push(Item::Record(Box::new(item)));
    }
}

/// Why reading stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stop {
    /// There is more to be had.
    Enough,
    /// What follows is not whole yet, or empty space.
    Waits,
    /// What follows is no record, and none was found behind it.
    Damaged,
}

/// What stands at a place of the stream.
enum Thing {
    Skip(usize),
    Record(usize),
    Wait,
    Damage,
}

fn whole(rest: &[u8], length: usize) -> Thing {
    if rest.len() >= length { Thing::Skip(length) } else { Thing::Wait }
}

impl KernelSource for Tail {
    fn caps(&self) -> Caps {
        Caps {
            sequence: Sequencing::Global,
            loss: Loss::Counted,
            pid: Pid::Thread,
            result: false,
            kernel_time: true,
            merges: false,
            gates: false,
            resume: if self.file.is_pipe() { ResumeKind::None } else { ResumeKind::Durable },
        }
    }

    fn pollable(&self) -> Option<BorrowedFd<'_>> {
        self.file.pollable()
    }

    fn poll_every(&self) -> Duration {
        // Stores into a mapping, and writes from inside the kernel, wake nobody.
        Duration::from_millis(50)
    }

    fn next_batch(&mut self, max: usize, out: &mut Vec<Item>) -> io::Result<Progress> {
        self.file.heard();
        let laps = self.file.laps()?;
        let end = self.file.end()?;
        let bytes = self.file.read(self.offset, end, CHUNK_BYTES)?;
        // Only now: bytes that were overwritten while they were read are not what they seem.
        if self.was_rewritten(laps)? || self.file.laps()? != laps {
            return Ok(Progress { more: true, passed: self.base });
        }
        self.laps = Some(laps);
        if !self.pending.is_empty() {
            out.append(&mut self.pending);
            return Ok(Progress { more: true, passed: self.base });
        }
        let from = self.offset;
        let mut stop = self.parse(&bytes, max, out);
        let read_to_end = from.saturating_add(bytes.len() as u64) >= end;
        if stop == Stop::Damaged && !read_to_end && self.offset == from {
            // No record is that long: whatever this was, it is over.
            self.tell_damage(out);
            self.offset += bytes.len().saturating_sub(RECORD_BYTES_MAX) as u64;
            stop = Stop::Enough;
        }
        self.file.consumed(self.offset);
        self.is_drained = stop != Stop::Enough && (read_to_end || self.offset == from);
        let passed = self.base.saturating_add(if self.is_drained { end } else { self.offset });
        if self.is_drained {
            self.tell_clock(out);
        }
        let sleeps = self.is_drained && self.file.sleep(&self.path, end)?;
        Ok(Progress { more: !sleeps, passed })
    }

    fn barrier(&mut self) -> Result<Barrier, NotSupported> {
        let laps = self.file.laps();
        match laps.and_then(|laps| self.was_rewritten(laps)).and_then(|_| self.file.end()) {
            Ok(end) => Ok(Barrier(self.base.saturating_add(end))),
            Err(_) => Err(NotSupported),
        }
    }

    fn resume_point(&self) -> Resume {
        if self.file.is_pipe() {
            return Resume::default();
        }
        let mut bytes = vec![if self.was_rewritten { REWRITTEN } else { READ }];
        bytes.extend_from_slice(&self.offset.to_le_bytes());
        bytes.extend_from_slice(&self.last_sequence.to_le_bytes());
        bytes.extend_from_slice(&self.record_start.to_le_bytes());
        bytes.extend_from_slice(&self.laps.unwrap_or(0).to_le_bytes());
        self.lives.encode(&mut bytes);
        Resume(bytes)
    }

    fn newest_sequence(&self) -> Option<u64> {
        self.is_drained.then_some(self.last_sequence)
    }
}

/// Whether a path can be followed: it exists and is a file, a FIFO or a block device.
pub fn is_followable(path: &Path) -> bool {
    TailFile::open(path, TailForm::Plain).is_ok()
}
