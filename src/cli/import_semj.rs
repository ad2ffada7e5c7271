//! `semj import --format semj`: streams of kernel records, from files and from pipes.

use super::import::{Import, Known, LossLine, Summary, Tickets, Work};
use super::out;
use super::outcome::{Ended, Outcome};
use super::{Context, escape};
use indicatif::ProgressBar;
use semj::event::{Event, TAG_TIME_UNKNOWN, Timestamp};
use semj::import::{KernelClock, KernelEvents};
use semj::{EmitError, Journal};
use std::fs::File;
use std::io::{self, Read};
use std::mem;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

/// Longest name of a boot, in bytes: it is part of every event's stream.
const BOOT_BYTES_MAX: usize = 128;
/// Tickets that are held at most before they are waited for.
const SETTLE_EVERY: usize = 65_536;
/// How long a signal may go unnoticed while nothing comes through a pipe.
const SIGNAL_POLL: Duration = Duration::from_millis(50);
/// Read at once from a pipe, in bytes.
const CHUNK_BYTES: usize = 64 << 10;
/// Records between two looks at the progress.
const TELL_EVERY: u64 = 4_096;

/// Parses the name of a boot.
pub(super) fn boot(text: &str) -> Result<String, String> {
    match text.len() {
        1..=BOOT_BYTES_MAX => Ok(text.to_owned()),
        n => Err(format!("expected 1 to {BOOT_BYTES_MAX} bytes, found {n}")),
    }
}

/// Parses when a boot's clock was 0: RFC 3339, or nanoseconds since 1970, which are the wall clock minus the boot's.
pub(super) fn boot_at(text: &str) -> Result<i64, String> {
    let found = text.parse().ok().or_else(|| Timestamp::parse(text).map(|t| t.0));
    found.ok_or_else(|| {
        "expected RFC 3339, e.g. 2026-02-09T08:10:31Z, or nanoseconds of wall clock minus boot clock".into()
    })
}

/// Opens what bytes of a kernel stream come from; `-` is stdin.
pub(super) fn open(path: &Path, context: &Context) -> io::Result<Box<dyn Read>> {
    let stdin = path.as_os_str() == "-";
    if !stdin && std::fs::metadata(path)?.is_file() {
        return Ok(Box::new(File::open(path)?));
    }
    // A file answers at once; a pipe may be opened by nobody, or written to an hour later.
    let path = path.to_owned();
    Ok(Box::new(Piped::start(context, move || {
        Ok(if stdin { Box::new(io::stdin()) } else { Box::new(File::open(path)?) })
    })?))
}

/// Bytes from a pipe, which end when a signal asks for it.
struct Piped {
    chunks: Receiver<io::Result<Vec<u8>>>,
    interrupt: super::interrupt::Interrupt,
    chunk: Vec<u8>,
    at: usize,
}

impl Piped {
    fn start(
        context: &Context,
        open: impl FnOnce() -> io::Result<Box<dyn Read>> + Send + 'static,
    ) -> io::Result<Self> {
        let (send, chunks) = sync_channel(4);
        // Never joined: it may sit in a read that nobody ends.
        std::thread::Builder::new().name("semj-import".into()).spawn(move || {
            let mut input = match open() {
                Ok(input) => input,
                Err(e) => return drop(send.send(Err(e))),
            };
            loop {
                let mut chunk = vec![0; CHUNK_BYTES];
                let read = input.read(&mut chunk).map(|n| {
                    chunk.truncate(n);
                    chunk
                });
                let is_last =
                    read.as_ref().map_or_else(|e| e.kind() != io::ErrorKind::Interrupted, Vec::is_empty);
                if send.send(read).is_err() || is_last {
                    return;
                }
            }
        })?;
        Ok(Piped { chunks, interrupt: context.interrupt().clone(), chunk: Vec::new(), at: 0 })
    }
}

impl Read for Piped {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() {
            match self.chunks.recv_timeout(SIGNAL_POLL) {
                Ok(chunk) => {
                    (self.chunk, self.at) = (chunk?, 0);
                    if self.chunk.is_empty() {
                        return Ok(0);
                    }
                }
                Err(RecvTimeoutError::Timeout) if !self.interrupt.requested() => {}
                Err(RecvTimeoutError::Timeout) => return Err(io::Error::other("interrupted")),
                Err(RecvTimeoutError::Disconnected) => return Ok(0),
            }
        }
        let rest = self.chunk.get(self.at..).unwrap_or_default();
        let n = rest.len().min(out.len());
        if let (Some(to), Some(from)) = (out.get_mut(..n), rest.get(..n)) {
            to.copy_from_slice(from);
        }
        self.at += n;
        Ok(n)
    }
}

impl Import {
    /// The clock of the boot that was named: as it was given, or as the journal knows it.
    pub(super) fn kernel_clock(&self, context: &Context, journal: &Journal) -> Result<KernelClock, Ended> {
        match (self.boot_at, self.boot.as_deref().and_then(|b| b.parse().ok())) {
            (Some(at), _) => Ok(KernelClock::boot_at(at)),
            (None, Some(boot_id)) => journal.kernel_clock(boot_id).map_err(|e| context.failed(&e)),
            (None, None) => Ok(KernelClock::default()),
        }
    }

    /// Imports a stream of kernel records.
    pub(super) fn kernel(
        &self,
        work: &mut Work<'_>,
        input: impl Read,
        file: String,
        bar: &ProgressBar,
    ) -> Result<Known, Ended> {
        let clock = match &work.clock {
            Some(clock) => clock.clone(),
            None => work.clock.insert(self.kernel_clock(work.context, work.journal)?).clone(),
        };
        let events = match KernelEvents::open(input, self.boot.as_deref()) {
            Ok(events) => events.with_clock(clock),
            Err(e) => {
                work.go_on()?;
                bar.suspend(|| out::complain(&format!("{file}: {e}")));
                return Ok(Known::Broken);
            }
        };
        let mut summary = Summary { file, format: "semj".into(), ..Summary::default() };
        work.kernel(events, &mut summary, bar)?;
        bar.suspend(|| work.tell(&summary))?;
        Ok(if summary.losses.is_empty() { Known::Yes } else { Known::Broken })
    }
}

impl Work<'_> {
    /// Emits the events of a stream of kernel records as they come; refusals are counted by record.
    fn kernel<R: Read>(
        &mut self,
        mut events: KernelEvents<R>,
        summary: &mut Summary,
        bar: &ProgressBar,
    ) -> Outcome {
        let mut tickets = Tickets::default();
        let mut number = 0;
        while let Some(next) = events.next() {
            self.go_on()?;
            number += 1;
            if number % TELL_EVERY == 0 {
                let name = escape::line(&summary.file);
                bar.set_message(format!(
                    "{name}: {} records, {} MiB",
                    out::count(number),
                    events.offset() >> 20
                ));
                bar.tick();
            }
            match next {
                Ok(event) => {
                    summary.records += 1;
                    summary.events += 1;
                    self.undated |= event.has_tag(TAG_TIME_UNKNOWN);
                    self.record(event, &events, number, &mut tickets, summary)?;
                }
                Err(broken) => summary.losses.push(LossLine { line: number, reason: broken.to_string() }),
            }
            if tickets.ones.len() >= SETTLE_EVERY {
                self.settle(mem::take(&mut tickets), summary)?;
            }
        }
        summary.session = events.instance().map(|boot| format!("kernel:{boot}")).unwrap_or_default();
        self.settle(tickets, summary)
    }

    /// Emits the event of a record. A record that is known by another source, or with another time, is known all the same.
    fn record<R: Read>(
        &self,
        event: Event<'static>,
        events: &KernelEvents<R>,
        number: u64,
        tickets: &mut Tickets,
        summary: &mut Summary,
    ) -> Outcome {
        let error = match self.emitter.emit_blocking(event) {
            Ok(ticket) => {
                summary.duplicates += u64::from(ticket.is_duplicate());
                tickets.ones.push(ticket);
                return Ok(());
            }
            Err(error) => error,
        };
        let EmitError::Conflict { id, .. } = &error else {
            return self.refused(error.kind(), &error, number, summary);
        };
        // What was emitted in this run may not be durable yet.
        self.settle(mem::take(tickets), summary)?;
        let known = self.journal.get(*id).map_err(|e| self.context.failed(&e))?;
        if known.is_some_and(|known| events.is_record_of(&known)) {
            summary.duplicates += 1;
            return Ok(());
        }
        let offset = events.offset().saturating_sub(events.record().len() as u64);
        let reason = format!("at byte {offset}: conflict: another record has this identity: {error}");
        summary.losses.push(LossLine { line: number, reason });
        Ok(())
    }

    /// Says once what a reader of the journal would wonder about.
    pub(super) fn tell_undated(&self) {
        if self.undated {
            out::complain(
                "kernel records have no wall-clock time: their clock counts from a boot; --boot-at TIME says when that was",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_boot_is_a_date_or_nanoseconds() {
        assert_eq!(boot_at("1970-01-01T00:00:01Z"), Ok(1_000_000_000));
        assert_eq!((boot_at("-5"), boot_at("1700000000000000000")), (Ok(-5), Ok(1_700_000_000_000_000_000)));
        assert!(boot_at("yesterday").is_err() && boot_at("5s").is_err());
        assert!(boot("").is_err() && boot(&"b".repeat(129)).is_err() && boot("b").is_ok());
    }
}
