//! `semj append`: JSON Lines in, one answer a line out, each only once it is true.
//!
//! Two threads. One reads and emits and never waits for an acknowledgement, so that whatever arrives while a batch is
//! being synced shares the next sync. The other answers in the order of the lines: it waits for one ticket at a time,
//! and hands its buffer over before it waits for anything, be it a sync or more input.

use super::lines::{Line, Lines};
use super::out::{Out, json_line};
use super::outcome::{Ended, Outcome, code};
use super::{Context, when};
use clap::Args;
use semj::event::{Event, InputError, LineInput, parse_line};
use semj::limits::LINE_BYTES_MAX;
use semj::{CommitError, EmitError, Emitter, ErrorKind, GroupTicket, Ticket};
use serde::Serialize;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

/// Lines that may await their answer; the reading thread waits when there are more.
const UNANSWERED_MAX: usize = 16_384;
/// How long a signal may go unnoticed while there is nothing to do.
const SIGNAL_POLL: Duration = Duration::from_millis(50);

/// Append events, one JSON object a line; a line that is an array is one atomic group
///
/// Answers in the order of the lines, each as soon as its event is on disk: {"line":1,"sequence":1,"id":"..."}, with
/// "duplicate":true when the id was known. A refused line is answered by {"line":2,"error":{"kind","message","key"}},
/// the others go on, and the exit code is 3 in the end.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  echo '{\"type\":\"agent.decision\",\"agent\":\"planner\",\"intent\":\"run the tests\"}' | semj append"
)]
pub(crate) struct Append {
    /// JSON Lines [default: stdin]
    file: Option<PathBuf>,
    /// Stop at the first refused line; what came before it is committed
    #[arg(long)]
    strict: bool,
    /// How long to wait for another owner of the journal, e.g. 30s
    #[arg(long, value_name = "D", value_parser = when::duration, default_value = "0s")]
    wait: Duration,
}

impl Append {
    pub(crate) fn run(&self, context: &Context) -> Outcome {
        // First, so that a mistyped file name does not create a journal.
        let input = open_input(self.file.as_deref())?;
        let journal = context.open(self.wait)?;
        context.interrupt().ask_first();
        let (to_answer, answers) = sync_channel(UNANSWERED_MAX);
        let control = Arc::new(Control::default());
        let feed = Feed {
            emitter: journal.emitter_default(),
            to_answer,
            control: control.clone(),
            strict: self.strict,
        };
        // Never joined: it may sit in a read of stdin that nobody ends.
        std::thread::Builder::new()
            .name("semj-append".into())
            .spawn(move || feed.run(input))
            .map_err(|e| Ended::usage(format!("cannot start a thread: {e}")))?;
        let mut clerk =
            Clerk { context, control, out: Some(Out::new(true)), lines: 0, refused: 0, end: None };
        clerk.run(&answers);
        let closed = context.close(journal);
        clerk.outcome().and(closed)
    }
}

fn open_input(file: Option<&Path>) -> Result<Box<dyn BufRead + Send>, Ended> {
    match file.filter(|f| *f != Path::new("-")) {
        None => Ok(Box::new(BufReader::with_capacity(1 << 16, io::stdin()))),
        Some(path) => {
            let refused = |e: &dyn std::fmt::Display| Ended::usage(format!("{}: {e}", path.display()));
            let file = File::open(path).map_err(|e| refused(&e))?;
            if file.metadata().is_ok_and(|m| m.is_dir()) {
                return Err(refused(&"is a folder; `semj import` takes folders"));
            }
            Ok(Box::new(BufReader::with_capacity(1 << 16, file)))
        }
    }
}

/// What the two threads know of each other.
///
/// Invariant: after `stop` is set and `busy` was seen unset, nothing more is emitted and every emitted line is in the
/// channel. The feed sets `busy` before it looks at `stop` and unsets it after it has sent.
#[derive(Default)]
struct Control {
    stop: AtomicBool,
    busy: AtomicBool,
}

impl Control {
    fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }
    fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
    fn is_busy(&self) -> bool {
        self.busy.load(Ordering::SeqCst)
    }
}

/// One line on its way to its answer.
enum Pending {
    One(u64, Ticket),
    Group(u64, GroupTicket),
    Refused(u64, Refusal),
    /// The input could not be read any further.
    Unreadable(io::Error),
}

/// Why a line was refused.
#[derive(Serialize, Clone, Debug)]
struct Refusal {
    kind: String,
    message: String,
    key: Option<String>,
    /// Whether no further line can fare better.
    #[serde(skip)]
    fatal: Option<ErrorKind>,
}

impl From<InputError> for Refusal {
    fn from(e: InputError) -> Self {
        Refusal { kind: e.kind.to_string(), message: e.message, key: e.key, fatal: None }
    }
}

impl From<EmitError> for Refusal {
    fn from(e: EmitError) -> Self {
        let fatal = ends_everything(e.kind()).then_some(e.kind());
        Refusal { kind: e.kind().to_string(), message: e.to_string(), key: e.key().map(str::to_owned), fatal }
    }
}

impl From<CommitError> for Refusal {
    fn from(e: CommitError) -> Self {
        let fatal = ends_everything(e.kind()).then_some(e.kind());
        Refusal { kind: e.kind().to_string(), message: e.to_string(), key: None, fatal }
    }
}

/// Whether a failure is the journal's rather than the event's.
pub(super) fn ends_everything(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Full | ErrorKind::Poisoned | ErrorKind::Stalled | ErrorKind::Closed)
}

/// The reading half.
struct Feed {
    emitter: Emitter,
    to_answer: SyncSender<Pending>,
    control: Arc<Control>,
    strict: bool,
}

impl Feed {
    fn run(&self, input: impl BufRead) {
        let mut lines = Lines::new(input);
        loop {
            let next = lines.next();
            self.control.busy.store(true, Ordering::SeqCst);
            let go_on = !self.control.is_stopping()
                && match next {
                    Ok(Some((number, line))) => self.take(number, &line),
                    Ok(None) => false,
                    Err(e) => {
                        // The other side is there until the channel is empty.
                        let _ = self.to_answer.send(Pending::Unreadable(e));
                        false
                    }
                };
            self.control.busy.store(false, Ordering::SeqCst);
            if !go_on {
                return;
            }
        }
    }

    /// Takes one line; tells whether to go on.
    fn take(&self, number: u64, line: &Line<'_>) -> bool {
        let pending = match self.emit(line) {
            Ok(None) => return true,
            Ok(Some(Emitted::One(ticket))) => Pending::One(number, ticket),
            Ok(Some(Emitted::Group(ticket))) => Pending::Group(number, ticket),
            Err(refusal) => Pending::Refused(number, refusal),
        };
        let last = match &pending {
            Pending::Refused(_, refusal) => self.strict || refusal.fatal.is_some(),
            _ => false,
        };
        self.to_answer.send(pending).is_ok() && !last
    }

    fn emit(&self, line: &Line<'_>) -> Result<Option<Emitted>, Refusal> {
        let bytes = match line {
            Line::Whole(bytes) => bytes,
            Line::TooLong(length) => {
                let message = format!("line bytes is {length}, the limit is {LINE_BYTES_MAX}");
                return Err(Refusal { kind: ErrorKind::Limit.to_string(), message, key: None, fatal: None });
            }
        };
        Ok(match parse_line(bytes)? {
            LineInput::Blank => None,
            LineInput::Event(event) => Some(Emitted::One(self.emitter.emit_blocking(*event)?)),
            LineInput::Group(events) => Some(Emitted::Group(emit_group(&self.emitter, events)?)),
        })
    }
}

/// Emits a group, waiting for room. A full ledger gives no group back, so the group is kept for another try.
///
/// # Errors
/// As the emission of a single event that waits for room.
pub(super) fn emit_group(emitter: &Emitter, events: Vec<Event<'static>>) -> Result<GroupTicket, EmitError> {
    loop {
        match emitter.emit_all(events.clone()) {
            Err(EmitError::Full(_)) => std::thread::sleep(Duration::from_millis(1)),
            other => return other,
        }
    }
}

enum Emitted {
    One(Ticket),
    Group(GroupTicket),
}

/// The answer to one line.
#[derive(Serialize)]
#[serde(untagged)]
enum Answer {
    One {
        line: u64,
        sequence: u64,
        id: String,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        duplicate: bool,
    },
    Group {
        line: u64,
        sequences: Vec<u64>,
        ids: Vec<String>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        duplicate: bool,
    },
    Refused {
        line: u64,
        error: Refusal,
    },
}

/// The answering half.
struct Clerk<'c> {
    context: &'c Context,
    control: Arc<Control>,
    /// `None` once nobody reads the answers any more: the input is committed all the same.
    out: Option<Out>,
    lines: u64,
    refused: u64,
    /// Why it ended before the input did.
    end: Option<Ended>,
}

impl Clerk<'_> {
    fn run(&mut self, pending: &Receiver<Pending>) {
        loop {
            let next = match pending.try_recv() {
                Ok(next) => next,
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {
                    self.flush();
                    match pending.recv_timeout(SIGNAL_POLL) {
                        Ok(next) => next,
                        Err(RecvTimeoutError::Disconnected) => break,
                        Err(RecvTimeoutError::Timeout) if self.is_stopping() && !self.control.is_busy() => {
                            match pending.try_recv() {
                                Ok(next) => next,
                                Err(_) => break,
                            }
                        }
                        Err(RecvTimeoutError::Timeout) => continue,
                    }
                }
            };
            self.is_stopping();
            self.answer(next);
        }
        self.flush();
    }

    /// Whether nothing more is to be taken; passes a signal on to the feed.
    fn is_stopping(&mut self) -> bool {
        if self.context.interrupt().requested() && self.end.is_none() {
            self.end = Some(Ended::quiet(code::INTERRUPTED));
            self.control.stop();
        }
        self.control.is_stopping()
    }

    fn answer(&mut self, pending: Pending) {
        self.lines += 1;
        let answer = match pending {
            Pending::One(line, ticket) => match self.settle(ticket.is_durable(), || ticket.wait()) {
                Ok(()) => Answer::One {
                    line,
                    sequence: ticket.sequence(),
                    id: ticket.id().to_string(),
                    duplicate: ticket.is_duplicate(),
                },
                Err(error) => Answer::Refused { line, error },
            },
            Pending::Group(line, ticket) => match self.settle(ticket.is_durable(), || ticket.wait()) {
                Ok(()) => Answer::Group {
                    line,
                    sequences: ticket.sequences().collect(),
                    ids: ticket.ids().iter().map(ToString::to_string).collect(),
                    duplicate: ticket.is_duplicate(),
                },
                Err(error) => Answer::Refused { line, error },
            },
            Pending::Refused(line, error) => Answer::Refused { line, error },
            Pending::Unreadable(e) => {
                self.end =
                    Some(Ended { code: code::REFUSED, message: format!("cannot read the input: {e}") });
                return;
            }
        };
        if let Answer::Refused { error, .. } = &answer {
            self.refused += 1;
            if let Some(kind) = error.fatal {
                self.control.stop();
                self.end = Some(Ended::journal(&self.context.path(), kind, &error.message));
            }
        }
        let written = self.out.as_mut().map_or(Ok(()), |out| out.line(&json_line(&answer)));
        self.written(written);
    }

    /// Waits for an event to be durable. What was written before is handed over first.
    fn settle(
        &mut self,
        durable: bool,
        wait: impl FnOnce() -> Result<(), CommitError>,
    ) -> Result<(), Refusal> {
        if durable {
            return Ok(());
        }
        self.flush();
        // Each wait on a full disk takes its time; after the first, the others need not try.
        if let Some(Ended { code: code::JOURNAL, message }) = &self.end {
            let message = message.lines().next().unwrap_or_default().to_owned();
            return Err(Refusal { kind: ErrorKind::Full.to_string(), message, key: None, fatal: None });
        }
        wait().map_err(Refusal::from)
    }

    fn flush(&mut self) {
        let flushed = self.out.as_mut().map_or(Ok(()), Out::flush);
        self.written(flushed);
    }

    fn written(&mut self, result: Result<(), Ended>) {
        if let Err(ended) = result {
            self.out = None;
            if ended.code != code::OK && self.end.is_none() {
                self.end = Some(ended);
            }
        }
    }

    fn outcome(self) -> Outcome {
        match self.end {
            Some(ended) => Err(ended),
            None if self.refused == 0 => Ok(()),
            None => {
                let message = format!("{} of {} lines refused", self.refused, self.lines);
                Err(Ended { code: code::REFUSED, message })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_the_documented_form() {
        let one = |duplicate| json_line(&Answer::One { line: 1, sequence: 7, id: "i".into(), duplicate });
        assert_eq!(one(false), r#"{"line":1,"sequence":7,"id":"i"}"#);
        assert_eq!(one(true), r#"{"line":1,"sequence":7,"id":"i","duplicate":true}"#);
        let error = Refusal::from(parse_line(br#"{"type":1,"x":1}"#).unwrap_err());
        assert_eq!(
            json_line(&Answer::Refused { line: 2, error }),
            r#"{"line":2,"error":{"kind":"unknown_key","message":"unknown key \"x\"","key":"x"}}"#
        );
        let group = Answer::Group { line: 3, sequences: vec![1, 2], ids: vec![], duplicate: false };
        assert_eq!(json_line(&group), r#"{"line":3,"sequences":[1,2],"ids":[]}"#);
    }
}
