//! `semj import`: logs of other agents become events.

use super::append::{emit_group, ends_everything};
use super::lines::{Line, Lines};
use super::out::{self, Out, count, json_line};
use super::outcome::{Ended, Outcome, code};
use super::{Context, escape, import_semj, when};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use semj::event::{Event, LineInput, parse_line};
use semj::import::{Format, KernelClock, detect, import_file, is_kernel_stream};
use semj::{Emitter, ErrorKind, Journal, Ticket};
use serde::Serialize;
use std::fmt::Display;
use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

/// Import logs of other agents; files that are known already add nothing
///
/// Folders are searched for logs of a known format; symbolic links in them are not followed.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  semj import ~/.claude/projects\n  semj import --format codex rollout.jsonl --json\n  semj import --format semj --boot 1a2b kernel.semj\n  nc -l 7000 | semj import --format semj --boot-at 2026-02-09T08:10:31Z -"
)]
pub(crate) struct Import {
    /// auto, jsonl, semj, claude-code, codex, pi, swe-agent or openhands
    #[arg(long, default_value = "auto", value_parser = kind)]
    format: Kind,
    /// With semj: a name for the kernel's boot, the same for every stream of it [default: known by its first record]
    #[arg(long, value_name = "NAME", value_parser = import_semj::boot)]
    pub(super) boot: Option<String>,
    /// With semj: when the boot's clock was 0, RFC 3339 or ns since 1970 (wall clock minus boot clock) [default: by clock
    /// readings of the boot --boot in the journal, else unknown]
    #[arg(long, visible_alias = "wall-offset", value_name = "TIME", value_parser = import_semj::boot_at, allow_hyphen_values = true)]
    pub(super) boot_at: Option<i64>,
    /// Files and folders; - for stdin
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// How long to wait for another owner of the journal, e.g. 30s
    #[arg(long, value_name = "D", value_parser = when::duration, default_value = "0s")]
    wait: Duration,
}

/// The format that was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Auto,
    /// Events of our own, as `append` takes them.
    Jsonl,
    /// The kernel's records.
    Semj,
    Log(Format),
}

fn kind(text: &str) -> Result<Kind, String> {
    match text {
        "auto" => Ok(Kind::Auto),
        "jsonl" => Ok(Kind::Jsonl),
        "semj" => Ok(Kind::Semj),
        name => Format::parse(name).map(Kind::Log).ok_or_else(|| {
            let known: Vec<_> = Format::ALL.iter().map(|f| f.name()).collect();
            format!("expected auto, jsonl, semj, {}", known.join(", "))
        }),
    }
}

/// What became of one session.
#[derive(Serialize, Default, Debug)]
pub(super) struct Summary {
    pub(super) file: String,
    pub(super) format: String,
    pub(super) session: String,
    pub(super) records: u64,
    pub(super) events: u64,
    pub(super) duplicates: u64,
    pub(super) losses: Vec<LossLine>,
}

#[derive(Serialize, Debug)]
pub(super) struct LossLine {
    pub(super) line: u64,
    pub(super) reason: String,
}

impl Import {
    pub(crate) fn run(&self, context: &Context) -> Outcome {
        let files = self.files()?;
        let journal = context.open(self.wait)?;
        context.interrupt().ask_first();
        let bar = ProgressBar::with_draw_target(Some(files.len() as u64), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} files  {wide_msg}") {
            bar.set_style(style);
        }
        let mut work = Work {
            context,
            journal: &journal,
            emitter: journal.emitter_default(),
            clock: None,
            undated: false,
            out: Some(Out::new(context.json())),
        };
        let mut result = Ok(());
        let (mut unknown, mut broken) = (0, 0);
        for file in &files {
            bar.set_message(escape::line(&file.path.display().to_string()));
            match self.import(&mut work, file, &bar) {
                Ok(Known::Yes) => {}
                Ok(Known::No) => unknown += u64::from(file.named),
                Ok(Known::Broken) => broken += 1,
                Err(ended) => {
                    result = Err(ended);
                    break;
                }
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        work.tell_undated();
        drop(work);
        let closed = context.close(journal);
        let refused = |message| Err(Ended { code: code::REFUSED, message });
        result.and(closed).and(match (unknown, broken) {
            (0, 0) => Ok(()),
            (0, n) => refused(format!("{n} files of kernel records are not whole")),
            (n, _) => refused(format!("{n} files are in no known format; --format names one")),
        })
    }

    /// All files to import, those of a folder in the order of their names.
    fn files(&self) -> Result<Vec<Found>, Ended> {
        let mut files = Vec::new();
        for path in &self.paths {
            if path.as_os_str() == "-" {
                files.push(Found { path: path.clone(), named: true });
                continue;
            }
            let refused = |e: std::io::Error| Ended::usage(format!("{}: {e}", path.display()));
            // What is named may be a link; what lies in a folder may not.
            if !fs::metadata(path).map_err(refused)?.is_dir() {
                files.push(Found { path: path.clone(), named: true });
                continue;
            }
            let mut folders = vec![path.clone()];
            while let Some(folder) = folders.pop() {
                let mut entries: Vec<_> = fs::read_dir(&folder)
                    .and_then(Iterator::collect)
                    .map_err(|e| Ended::usage(format!("{}: {e}", folder.display())))?;
                entries.sort_by_key(fs::DirEntry::file_name);
                let mut inner = Vec::new();
                for entry in entries {
                    match entry.file_type() {
                        Ok(t) if t.is_dir() => inner.push(entry.path()),
                        Ok(t) if t.is_file() => files.push(Found { path: entry.path(), named: false }),
                        _ => {}
                    }
                }
                folders.extend(inner.into_iter().rev());
            }
        }
        Ok(files)
    }

    fn import(&self, work: &mut Work<'_>, file: &Found, bar: &ProgressBar) -> Result<Known, Ended> {
        let name = file.path.display().to_string();
        // A stream of records is read as it comes; a log is gone through more than once.
        if self.format == Kind::Semj && file.named {
            let input = import_semj::open(&file.path, work.context);
            let input = input.map_err(|e| Ended::usage(format!("{name}: {e}")))?;
            return self.kernel(work, input, name, bar);
        }
        let read = if file.path.as_os_str() == "-" { read_stdin() } else { fs::read(&file.path) };
        let bytes = match read {
            Ok(bytes) => bytes,
            Err(e) if file.named => return Err(Ended::usage(format!("{}: {e}", file.path.display()))),
            Err(e) => {
                bar.suspend(|| out::complain(&format!("{}: {e}", file.path.display())));
                return Ok(Known::No);
            }
        };
        let stem = file.path.file_stem().unwrap_or_default().to_string_lossy();
        let log = match self.format {
            Kind::Log(format) => Some(format),
            Kind::Jsonl => None,
            Kind::Semj => return self.kernel(work, bytes.as_slice(), name, bar),
            Kind::Auto if is_kernel_stream(&bytes) => return self.kernel(work, bytes.as_slice(), name, bar),
            Kind::Auto => match detect(&file.path, &bytes) {
                Some(format) => Some(format),
                None if is_own(&bytes) => None,
                None => {
                    if file.named {
                        bar.suspend(|| out::complain(&format!("{name}: no known format")));
                    }
                    return Ok(Known::No);
                }
            },
        };
        let Some(format) = log else {
            let mut summary = Summary {
                file: name,
                format: "jsonl".into(),
                session: stem.into_owned(),
                ..Summary::default()
            };
            work.lines(&bytes, &mut summary)?;
            return bar.suspend(|| work.tell(&summary)).map(|()| Known::Yes);
        };
        for session in import_file(format, &stem, &bytes) {
            let mut summary = Summary {
                file: name.clone(),
                format: session.format.name().into(),
                session: session.session,
                records: session.records,
                losses: session
                    .losses
                    .into_iter()
                    .map(|l| LossLine { line: l.line, reason: l.reason })
                    .collect(),
                ..Summary::default()
            };
            work.events(session.events, &mut summary)?;
            bar.suspend(|| work.tell(&summary))?;
        }
        Ok(Known::Yes)
    }
}

fn read_stdin() -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
}

/// A file to import.
struct Found {
    path: PathBuf,
    /// Named on the command line, rather than found in a folder.
    named: bool,
}

/// Whether a file was in a known format.
pub(super) enum Known {
    Yes,
    No,
    /// It was, but some of it was refused, and that matters: kernel records are exact.
    Broken,
}

/// Whether the first line that is not blank is an event of our own.
fn is_own(bytes: &[u8]) -> bool {
    let mut lines = Lines::new(bytes);
    while let Ok(Some((_, line))) = lines.next() {
        match line {
            Line::Whole(bytes) => match parse_line(bytes) {
                Ok(LineInput::Blank) => {}
                other => return other.is_ok(),
            },
            Line::TooLong(_) => return false,
        }
    }
    false
}

pub(super) struct Work<'c> {
    pub(super) context: &'c Context,
    pub(super) journal: &'c Journal,
    pub(super) emitter: Emitter,
    /// The clock of the kernel's boot, once it was asked for.
    pub(super) clock: Option<KernelClock>,
    /// There were kernel records whose time is not known.
    pub(super) undated: bool,
    /// `None` once nobody reads the summaries any more: the import goes on.
    out: Option<Out>,
}

impl Work<'_> {
    /// Emits the events of one session and waits until all are durable.
    fn events(&mut self, events: Vec<Event<'static>>, summary: &mut Summary) -> Outcome {
        let mut tickets = Tickets::default();
        for event in events {
            self.go_on()?;
            summary.events += 1;
            self.emit(event, 0, &mut tickets, summary)?;
        }
        self.settle(tickets, summary)
    }

    /// Emits our own JSON Lines.
    fn lines(&mut self, bytes: &[u8], summary: &mut Summary) -> Outcome {
        let mut tickets = Tickets::default();
        let mut lines = Lines::new(bytes);
        while let Ok(Some((number, line))) = lines.next() {
            self.go_on()?;
            let parsed = match line {
                Line::Whole(bytes) => parse_line(bytes).map_err(|e| e.message),
                Line::TooLong(length) => Err(format!("line bytes is {length}: over the limit")),
            };
            match parsed {
                Ok(LineInput::Blank) => continue,
                Ok(LineInput::Event(event)) => {
                    summary.events += 1;
                    self.emit(*event, number, &mut tickets, summary)?;
                }
                Ok(LineInput::Group(events)) => {
                    summary.events += events.len() as u64;
                    match emit_group(&self.emitter, events) {
                        Ok(ticket) => {
                            let known = if ticket.is_duplicate() { ticket.sequences().count() } else { 0 };
                            summary.duplicates += known as u64;
                            tickets.groups.push(ticket);
                        }
                        Err(e) => self.refused(e.kind(), &e, number, summary)?,
                    }
                }
                Err(reason) => summary.losses.push(LossLine { line: number, reason }),
            }
            summary.records += 1;
        }
        self.settle(tickets, summary)
    }

    fn emit(
        &self,
        event: Event<'static>,
        line: u64,
        tickets: &mut Tickets,
        summary: &mut Summary,
    ) -> Outcome {
        match self.emitter.emit_blocking(event) {
            Ok(ticket) => {
                summary.duplicates += u64::from(ticket.is_duplicate());
                tickets.ones.push(ticket);
                Ok(())
            }
            Err(e) => self.refused(e.kind(), &e, line, summary),
        }
    }

    /// A refused event is a loss of its session; a failed journal is the end.
    pub(super) fn refused(
        &self,
        kind: ErrorKind,
        error: &dyn Display,
        line: u64,
        summary: &mut Summary,
    ) -> Outcome {
        if ends_everything(kind) {
            return Err(Ended::journal(&self.context.path(), kind, error));
        }
        summary.losses.push(LossLine { line, reason: format!("refused: {error}") });
        Ok(())
    }

    pub(super) fn settle(&self, tickets: Tickets, summary: &mut Summary) -> Outcome {
        let waits =
            tickets.ones.iter().map(Ticket::wait).chain(tickets.groups.iter().map(semj::GroupTicket::wait));
        for waited in waits {
            if let Err(e) = waited {
                self.refused(e.kind(), &e, 0, summary)?;
            }
        }
        Ok(())
    }

    /// Ends the import when a signal asks for it; what was emitted is committed when the journal closes.
    pub(super) fn go_on(&self) -> Outcome {
        if self.context.interrupt().requested() { Err(Ended::quiet(code::INTERRUPTED)) } else { Ok(()) }
    }

    /// Tells what became of a session.
    pub(super) fn tell(&mut self, summary: &Summary) -> Outcome {
        let Some(out) = self.out.as_mut() else { return Ok(()) };
        let text = if self.context.json() { json_line(summary) } else { for_people(summary) };
        match out.line(&text).and_then(|()| out.flush()) {
            Err(ended) if ended.code == code::OK => self.out = None,
            other => return other,
        }
        Ok(())
    }
}

/// What is to become durable before a session is told.
#[derive(Default)]
pub(super) struct Tickets {
    pub(super) ones: Vec<Ticket>,
    groups: Vec<semj::GroupTicket>,
}

fn for_people(summary: &Summary) -> String {
    let mut text = format!(
        "{}: {} session {}: {} records, {} events",
        escape::line(&summary.file),
        summary.format,
        escape::cut(&summary.session, 60),
        count(summary.records),
        count(summary.events)
    );
    if summary.duplicates > 0 {
        text.push_str(&format!(", {} known already", count(summary.duplicates)));
    }
    for loss in &summary.losses {
        text.push_str(&format!("\n  lost at line {}: {}", loss.line, escape::cut(&loss.reason, 160)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn found(paths: &[&Path]) -> Result<Vec<(PathBuf, bool)>, Ended> {
        let paths = paths.iter().map(|p| p.to_path_buf()).collect();
        let import = Import { format: Kind::Auto, boot: None, boot_at: None, paths, wait: Duration::ZERO };
        Ok(import.files()?.into_iter().map(|f| (f.path, f.named)).collect())
    }

    #[test]
    fn folders_are_searched_in_order_and_links_in_them_are_left() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("b")).unwrap();
        for file in ["c.jsonl", "a.jsonl", "b/x"] {
            fs::write(at(file), "").unwrap();
        }
        std::os::unix::fs::symlink(dir.path(), at("b/loop")).unwrap();
        std::os::unix::fs::symlink(at("a.jsonl"), at("link")).unwrap();
        let names = found(&[dir.path(), &at("link")]).unwrap();
        let expected =
            [(at("a.jsonl"), false), (at("c.jsonl"), false), (at("b/x"), false), (at("link"), true)];
        assert_eq!(names, expected);
        assert_eq!(found(&[&at("nothing")]).unwrap_err().code, code::USAGE);
    }

    #[test]
    fn our_own_lines_are_known_by_the_first_that_is_not_blank() {
        assert!(is_own(b"\n  \n{\"type\":\"agent.query\"}\nnonsense"));
        assert!(!is_own(b"{\"kind\":\"x\"}\n") && !is_own(b"") && !is_own(b"\x7fELF"));
    }

    #[test]
    fn formats_are_named() {
        assert_eq!(kind("auto"), Ok(Kind::Auto));
        assert_eq!(kind("codex"), Format::parse("codex").map(Kind::Log).ok_or_else(String::new));
        assert_eq!(kind("semj"), Ok(Kind::Semj));
        assert!(kind("csv").unwrap_err().contains("codex"));
    }

    #[test]
    fn summaries_have_the_documented_keys() {
        let mut summary = Summary { file: "f".into(), ..Summary::default() };
        summary.losses.push(LossLine { line: 3, reason: "torn".into() });
        assert_eq!(
            json_line(&summary),
            r#"{"file":"f","format":"","session":"","records":0,"events":0,"duplicates":0,"losses":[{"line":3,"reason":"torn"}]}"#
        );
    }
}
