//! `semj kernel sync`, `watch` and `sources`: kernel records of another program, and what is changed in folders, journaled
//! once; and what there is to observe with.

use super::out::{Out, json_line};
use super::outcome::{Ended, Outcome};
use super::{Context, escape, when};
use clap::{Args, ValueEnum};
use semj::sources::{OpenSource, SemjTail, TailForm, Watch, WatchWith, offers};
use semj::{Condition, ErrorKind, Journal, SourceStatus};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// How often the state is looked at while it follows.
const LOOK: Duration = Duration::from_millis(100);
/// How long one look may take to read all there is.
const READ_WITHIN: Duration = Duration::from_secs(60);

#[derive(Args, Debug)]
pub(super) struct Sync {
    /// A file, a FIFO or a block device that another program writes records to
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Go on with new records until interrupted
    #[arg(short, long)]
    follow: bool,
    /// The source's name [default: kernel: and the file's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// What the kernel's current life is called, e.g. its boot id
    #[arg(long, value_name = "NAME")]
    boot: Option<String>,
    /// The committed length stands at byte 0, the records from byte 4096 on
    #[arg(long)]
    committed_length: bool,
    /// How long to wait for another owner of the journal, e.g. 30s
    #[arg(long, value_name = "D", value_parser = when::duration, default_value = "0s")]
    wait: Duration,
}

/// What is told of a source.
#[derive(Serialize)]
struct Answer {
    source: String,
    incarnation: u64,
    records: u64,
    last_sequence: u64,
    lost: u64,
    unknown_gaps: u64,
    duplicates: u64,
    late: u64,
    lag_events: Option<u64>,
    lag_ms: u64,
    clock_drift_ns: i64,
    clock_drift_error_ns: u64,
    resyncs: u64,
    alerts: u64,
    certificates: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    complete_boot_ns: Option<i64>,
    /// How long the last `sync now` took: read, certified and durable.
    #[serde(skip_serializing_if = "Option::is_none")]
    sync_now_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unavailable: Option<String>,
}

impl From<&SourceStatus> for Answer {
    fn from(s: &SourceStatus) -> Self {
        Answer {
            source: s.name.clone(),
            incarnation: s.incarnation,
            records: s.records,
            last_sequence: s.last_sequence,
            lost: s.lost,
            unknown_gaps: s.unknown_gaps,
            duplicates: s.duplicates,
            late: s.late,
            lag_events: s.lag_events,
            lag_ms: s.lag_ms,
            clock_drift_ns: s.clock_drift_ns,
            clock_drift_error_ns: s.clock_drift_error_ns,
            resyncs: s.resyncs,
            alerts: s.alerts,
            certificates: s.certificates,
            complete_boot_ns: s.complete_boot_ns,
            sync_now_us: s.sync_now.and_then(|time| u64::try_from(time.as_micros()).ok()),
            unavailable: s.condition.cause(),
        }
    }
}

impl Sync {
    pub(super) fn run(&self, context: &Context, out: &mut Out) -> Outcome {
        let mut tail = SemjTail::new(&self.file);
        if let Some(name) = &self.name {
            tail = tail.named(name);
        }
        if let Some(boot) = &self.boot {
            tail = tail.boot(boot);
        }
        if self.committed_length {
            tail = tail.form(TailForm::CommittedLength);
        }
        sync(context, out, self.wait, tail, self.follow)
    }
}

#[derive(Args, Debug)]
pub(super) struct Watching {
    /// Folders, watched with all that is below them [default: the working folder]
    #[arg(value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// What to watch with
    #[arg(long, value_enum, default_value_t = With::Auto)]
    source: With,
    /// The source's name
    #[arg(long, value_name = "NAME", default_value = "watch")]
    name: String,
    /// Leave this folder out; the journal's own always is
    #[arg(long, value_name = "DIR")]
    without: Vec<PathBuf>,
    /// How long to wait for another owner of the journal, e.g. 30s
    #[arg(long, value_name = "D", value_parser = when::duration, default_value = "0s")]
    wait: Duration,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum With {
    Auto,
    Fanotify,
    Inotify,
}

impl Watching {
    pub(super) fn run(&self, context: &Context, out: &mut Out) -> Outcome {
        let with = match self.source {
            With::Auto => WatchWith::Best,
            With::Fanotify => WatchWith::Fanotify,
            With::Inotify => WatchWith::Inotify,
        };
        let here = [PathBuf::from(".")];
        let folders = if self.folders.is_empty() { here.as_slice() } else { &self.folders };
        let watch = Watch::new(folders).named(&self.name).with(with);
        let watch = self.without.iter().fold(watch, Watch::without);
        sync(context, out, self.wait, watch, true)
    }
}

/// Journals what a source has, and with `follow` what comes, until interrupted; then tells what it came to.
fn sync(
    context: &Context,
    out: &mut Out,
    wait: Duration,
    source: impl OpenSource + 'static,
    follow: bool,
) -> Outcome {
    let journal = context.open(wait)?;
    context.interrupt().ask_first();
    let ended = read(context, &journal, source, follow);
    for status in journal.sync_status() {
        let answer = Answer::from(&status);
        out.line(&if context.json() { json_line(&answer) } else { human(&answer) })?;
    }
    context.close(journal)?;
    ended
}

fn read(context: &Context, journal: &Journal, source: impl OpenSource + 'static, follow: bool) -> Outcome {
    let failed = |kind: ErrorKind, e: &dyn std::fmt::Display| Ended::journal(&context.path(), kind, &e);
    journal.attach(source).map_err(|e| failed(e.kind(), &e))?;
    journal.sync_now(READ_WITHIN).map_err(|e| failed(e.kind(), &e))?;
    while follow && !context.interrupt().requested() {
        std::thread::sleep(LOOK);
        let ended = journal.sync_status().into_iter().find_map(|s| match s.condition {
            Condition::Ended(why) => Some(why),
            _ => None,
        });
        if let Some(why) = ended {
            return Err(failed(ErrorKind::Unreadable, &why));
        }
    }
    // What happened until now is still told.
    if follow {
        journal.sync_now(READ_WITHIN).map_err(|e| failed(e.kind(), &e))?;
    }
    Ok(())
}

fn human(answer: &Answer) -> String {
    let Answer { records, lost, unknown_gaps, duplicates, late, .. } = answer;
    // A source without sequences has no last one.
    let up_to = match answer.last_sequence {
        0 => String::new(),
        last => format!(" up to {last}"),
    };
    let mut text = format!(
        "{}: life {}, {records} records{up_to}; {lost} lost, {unknown_gaps} gaps of unknown length, {duplicates} repeated, {late} late",
        escape::line(&answer.source),
        answer.incarnation,
    );
    if let Some(us) = answer.sync_now_us {
        text += &format!("; read up to now in {us} us");
    }
    if let Some(why) = &answer.unavailable {
        text += &format!("; unavailable: {}", escape::line(why));
    }
    text
}

/// What `sources` tells of one.
#[derive(Serialize)]
struct Offered {
    source: &'static str,
    available: bool,
    sees: &'static str,
    misses: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    need: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fallback: Option<String>,
}

/// Shows what this machine can observe, and what each missing source needs.
pub(super) fn sources(context: &Context, out: &mut Out) -> Outcome {
    for offer in offers() {
        let why = offer.unavailable.clone();
        let offered = Offered {
            source: offer.name,
            available: why.is_none(),
            sees: offer.sees,
            misses: offer.misses,
            need: why.as_ref().map(|w| w.need.clone()),
            errno: why.as_ref().and_then(|w| w.errno),
            remedy: why.as_ref().map(|w| w.remedy.clone()),
            fallback: why.as_ref().and_then(|w| w.fallback.clone()),
        };
        let text = match &why {
            _ if context.json() => json_line(&offered),
            None => format!("{:18} yes  {}; misses {}", offer.name, offer.sees, offer.misses),
            Some(why) => format!("{:18} no   {why}", offer.name),
        };
        out.line(&text)?;
    }
    Ok(())
}
