//! `semj run`: a tool runs as an agent would run it, and what it does is journaled beside what was asked of it.
//!
//! The call is durable before the tool starts, and the tool waits until somebody looks. Its stdin, stdout, stderr,
//! signals and exit code are its own; what semj has to say goes to stderr, when the tool has ended.

pub(crate) mod keeper;
pub(crate) mod launch;
mod privileges;
mod report;
mod signals;

use super::outcome::{Ended, Outcome};
use super::{Context, when};
use clap::{Args, ValueEnum};
use launch::Tool;
use semj::event::{Event, EventType};
use semj::observe::{Call, Coverage, Finished, Observer, Plan, TAG_OBSERVED, Wanted, boot_ns};
use semj::{Emitter, Journal};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use uuid::Uuid;

/// `observability.trace_span_start` and `_end`, `observability.system_status`.
const SPAN_START: EventType = EventType::from_code(0x0803);
const SPAN_END: EventType = EventType::from_code(0x0804);
const STATUS: EventType = EventType::from_code(0x080A);
/// Bytes of arguments that the call's event keeps.
const ARGUMENTS_BYTES_MAX: usize = 64 << 10;

/// Run a tool and journal the call, its processes and what they do to files
///
/// The call is on disk before the tool starts. Each effect is linked to it, with the strength of the evidence; what was
/// not observed is journaled too. The exit code is the tool's (128 + n after signal n); semj speaks on stderr only.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit codes: the tool's; 127 when there is no such tool, 126 when it cannot be run; 2 and 4, with a message and before the tool starts, as everywhere.\n\nExample:\n  semj run --agent coder --session s1 -- sh -c 'make 2>&1 | tee build.log'\n  semj said-vs-did s1"
)]
pub(crate) struct Run {
    /// The run of the agent that this belongs to [default: one of its own]
    #[arg(long, value_name = "S")]
    session: Option<String>,
    /// Who calls the tool
    #[arg(long, value_name = "A", default_value = "semj-run")]
    agent: String,
    /// What to observe with
    #[arg(long, value_enum, default_value_t = Source::Auto)]
    source: Source,
    /// A folder where changes by others matter, too; where the source knows no processes, only these are observed [default: the working folder]
    #[arg(long, value_name = "DIR")]
    watch: Vec<PathBuf>,
    /// What sees changes by others, where the source sees only the tool's own
    #[arg(long, value_enum, default_value_t = Witness::Auto)]
    witness: Witness,
    /// How long to wait for another owner of the journal, e.g. 30s
    #[arg(long, value_name = "D", value_parser = when::duration, default_value = "0s")]
    wait: Duration,
    /// Say nothing about what was touched
    #[arg(short, long)]
    quiet: bool,
    /// The tool and its arguments
    #[arg(required = true, last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    Auto,
    Ebpf,
    Seccomp,
    Fanotify,
    Inotify,
    None,
}

impl From<Source> for Wanted {
    fn from(source: Source) -> Self {
        match source {
            Source::Auto => Wanted::Auto,
            Source::Ebpf => Wanted::Ebpf,
            Source::Seccomp => Wanted::Seccomp,
            Source::Fanotify => Wanted::Fanotify,
            Source::Inotify => Wanted::Inotify,
            Source::None => Wanted::Nothing,
        }
    }
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Witness {
    Auto,
    Fanotify,
    Inotify,
    None,
}

impl From<Witness> for Wanted {
    fn from(witness: Witness) -> Self {
        match witness {
            Witness::Auto => Wanted::Auto,
            Witness::Fanotify => Wanted::Fanotify,
            Witness::Inotify => Wanted::Inotify,
            Witness::None => Wanted::Nothing,
        }
    }
}

impl Run {
    pub(crate) fn run(&self, context: &Context) -> Outcome {
        let cwd = std::env::current_dir().map_err(|e| Ended::usage(format!("no working folder: {e}")))?;
        let folders = if self.watch.is_empty() { vec![cwd.clone()] } else { self.watch.clone() };
        if let Some(folder) = folders.iter().find(|f| !f.is_dir()) {
            return Err(Ended::usage(format!("{}: not a folder that can be watched", folder.display())));
        }
        let journal = context.open(self.wait)?;
        let plan = Plan {
            wanted: self.source.into(),
            witness: self.witness.into(),
            folders,
            left_out: vec![context.path()],
            under_filter: true,
            gives_privileges: privileges::giver(&self.command, &std::env::var_os("PATH").unwrap_or_default()),
            ..Plan::default()
        };
        let observed = self.observed(context, &journal, plan, &cwd);
        let closed = context.close(journal);
        let (code, said) = observed?;
        // The tool has run, and its caller asks for its exit code.
        if let Err(ended) = closed {
            super::out::complain(&ended.message);
        }
        if let Some(said) = said {
            eprint!("{said}");
        }
        if code == 0 { Ok(()) } else { Err(Ended::quiet(code)) }
    }

    /// From the first event to the last; answers the exit code and what is to be said.
    fn observed(
        &self,
        context: &Context,
        journal: &Journal,
        plan: Plan,
        cwd: &Path,
    ) -> Result<(u8, Option<String>), Ended> {
        let mut observer = Observer::open(plan)
            .map_err(|why| Ended::usage(format!("cannot observe with {:?}: {why}", self.source)))?;
        // From here on signals are the tool's.
        let forward = signals::Forward::install(context.interrupt())
            .map_err(|e| Ended::usage(format!("cannot install signal handlers: {e}")))?;
        let started = if observer.needs_listener() {
            // The keeper first, while its parent's end makes it nobody's child here.
            let keeper = keeper::start();
            keeper.and_then(|k| Tool::listened(&self.command).map(|(tool, l)| (tool, Some((l, k)))))
        } else {
            Tool::stopped(&self.command).map(|tool| (tool, None))
        };
        let (tool, listener) = started.map_err(|e| Ended::usage(format!("cannot start a process: {e}")))?;
        forward.to(tool.pid());
        let id = Uuid::new_v4();
        let arguments: Vec<String> = self.command.iter().map(|a| a.to_string_lossy().into_owned()).collect();
        let call = Call {
            id,
            agent: self.agent.clone(),
            session: Some(self.session.clone().unwrap_or_else(|| format!("run-{}", id.simple()))),
            arguments,
            started_ns: boot_ns(),
            ended_ns: None,
        };
        let emitter = journal.emitter(&self.agent);
        let coverage = observer.coverage().clone();
        let emit = |event| emitter.emit_blocking(event).map_err(|e| context.unemitted(&e));
        emit(self.call_event(&call, cwd))?.wait().map_err(|e| context.uncommitted(&e))?;
        emit(coverage_event(&call, &coverage))?;
        emit(span(SPAN_START, &call, json!({ "semj.pid": tool.pid() })).pid(tool.pid()))?;
        if let Some((listener, keeper)) = listener {
            observer
                .listen(listener, Some(keeper))
                .map_err(|e| Ended::usage(format!("cannot watch the process: {e}")))?;
        }
        let running = observer
            .start(journal.emitter(&self.agent), call.clone(), tool.pid(), cwd)
            .map_err(|e| Ended::usage(format!("cannot observe: {e}")))?;
        let ended = tool.run().map_err(|e| Ended::usage(format!("cannot run the tool: {e}")))?;
        let duration_ns = boot_ns() - call.started_ns;
        let finished = running.finish();
        drop(forward);
        let last = self.end(&emitter, &call, ended, duration_ns, &finished);
        if let Some(failed) = finished.failed.clone().or(last.err()) {
            super::out::complain(&format!("the tool ran, but not all of it is in the journal: {failed}"));
        }
        for remark in &finished.remarks {
            super::out::complain(&super::escape::line(remark));
        }
        let report =
            report::Report { call: &call, cwd, coverage: &coverage, ended, duration_ns, finished: &finished };
        let said = match (self.quiet, context.json()) {
            (true, _) => None,
            (false, true) => Some(report.json()),
            (false, false) => Some(report.text()),
        };
        Ok((ended.code(), said))
    }

    fn call_event(&self, call: &Call, cwd: &Path) -> Event<'static> {
        let tool = launch::name_of(&self.command);
        let mut argv: Vec<&str> = Vec::new();
        let mut bytes = 0;
        for argument in &call.arguments {
            bytes += argument.len() + 8;
            if bytes > ARGUMENTS_BYTES_MAX {
                break;
            }
            argv.push(argument);
        }
        let mut payload = json!({
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": tool,
            "gen_ai.tool.call.id": call.id.to_string(),
            "gen_ai.tool.call.arguments": { "argv": argv },
            "semj.cwd": cwd.to_string_lossy(),
        });
        if argv.len() < call.arguments.len()
            && let Some(map) = payload.as_object_mut()
        {
            map.insert("semj.argv_cut".into(), true.into());
        }
        let mut intent: String = argv.join(" ");
        intent.truncate(intent.floor_char_boundary(500));
        let event = Event::decision(intent).id(call.id).agent(call.agent.clone()).payload(payload);
        let event = event.tag(format!("tool:{tool}")).tag(format!("call:{}", call.id));
        with_session(event, call)
    }

    /// The last events of the call, durable when this returns.
    fn end(
        &self,
        emitter: &Emitter,
        call: &Call,
        ended: launch::End,
        duration_ns: i64,
        finished: &Finished,
    ) -> Result<(), String> {
        let outcome = if ended.code() == 0 { "outcome:ok" } else { "outcome:error" };
        let payload = json!({
            "semj.exit_code": ended.code(),
            "semj.signal": ended.signal(),
            "semj.duration_ns": duration_ns,
            "semj.effects": finished.touched.effects(),
            "semj.external_changes": finished.external,
            "semj.processes": finished.processes,
            "semj.gaps": finished.gaps,
            "semj.lost": finished.lost,
            "semj.complete": finished.is_complete,
        });
        let event = span(SPAN_END, call, payload).tag(outcome);
        let ticket = emitter.emit_blocking(event).map_err(|e| e.to_string())?;
        ticket.wait().map(drop).map_err(|e| e.to_string())
    }
}

fn with_session(event: Event<'static>, call: &Call) -> Event<'static> {
    match &call.session {
        Some(session) => event.session(session.clone()),
        None => event,
    }
}

fn span(kind: EventType, call: &Call, payload: Value) -> Event<'static> {
    let event = Event::new(kind).agent(call.agent.clone()).parent(call.id).payload(payload);
    with_session(event.tag(TAG_OBSERVED).tag(format!("call:{}", call.id)), call)
}

fn coverage_event(call: &Call, coverage: &Coverage) -> Event<'static> {
    let paths = |paths: &[PathBuf]| -> Vec<String> {
        paths.iter().map(|p| p.to_string_lossy().into_owned()).collect()
    };
    // A machine may have any number of mounts; a few of them say what is the matter.
    let refused: Vec<Value> =
        coverage.refused.iter().take(50).map(|(p, why)| json!([p.to_string_lossy(), why])).collect();
    let tried: Vec<Value> = coverage
        .tried
        .iter()
        .map(|(name, why)| json!({ "source": name, "need": why.need, "errno": why.errno, "remedy": why.remedy }))
        .collect();
    let payload = json!({
        "semj.source": coverage.source,
        "semj.witness": coverage.witness,
        "semj.lineage": coverage.lineage,
        "semj.observed": coverage.observed,
        "semj.not_observed": coverage.not_observed,
        "semj.folders": paths(&coverage.folders),
        "semj.refused": refused,
        "semj.refused_count": coverage.refused.len(),
        "semj.tried": tried,
    });
    let mut words = format!("observed with {}, processes by {}", coverage.source, coverage.lineage);
    if let Some(witness) = coverage.witness {
        words.push_str(&format!(", others by {witness}"));
    }
    span(STATUS, call, payload).name("semj.coverage").intent(words)
}
