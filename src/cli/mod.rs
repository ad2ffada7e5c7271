//! The command line: arguments here, one file per command, everything through the public face.

mod append;
mod bench;
mod completions;
mod doctor;
mod escape;
mod export;
mod export_semj;
mod fields;
mod filters;
mod import;
mod import_semj;
mod interrupt;
mod kernel;
mod kernel_sync;
mod kernel_where;
mod lines;
mod out;
mod outcome;
mod query;
mod run;
mod said;
mod show;
mod status;
mod tail;
mod timeline;
mod torture;
mod tree;
mod verify;
mod when;
mod why;

use clap::{Args, Parser, Subcommand};
use interrupt::Interrupt;
use outcome::{Ended, Outcome, code};
use semj::{Journal, Options, Reader};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// How long the end of a command waits for the journal to close.
const CLOSE_WITHIN: Duration = Duration::from_secs(30);

/// An embedded journal of semantic events for agent runtimes.
#[derive(Parser, Debug)]
#[command(
    name = "semj",
    version,
    disable_help_subcommand = true,
    after_help = "Exit codes: 0 ok, 1 negative finding, 2 wrong use, 3 input refused, 4 journal missing, locked, poisoned, full or unreadable, 130 interrupted.\n\nExample:\n  echo '{\"type\":\"agent.decision\",\"agent\":\"planner\",\"intent\":\"run the tests\"}' | semj -j ./journal append\n  semj -j ./journal query --agent planner"
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options that every command takes, before or after its name.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The journal's folder [default: $SEMJ_JOURNAL, else ./journal]
    #[arg(short, long, global = true, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// One JSON object a line on stdout
    #[arg(long, global = true)]
    json: bool,
    /// Settings of the engine, as TOML
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
enum Command {
    Append(append::Append),
    Query(query::Query),
    Export(export::Export),
    Show(show::Show),
    Why(why::Why),
    Impact(why::Impact),
    Tail(tail::Tail),
    Status(status::Status),
    Verify(verify::Verify),
    Doctor(doctor::Doctor),
    Import(import::Import),
    Run(run::Run),
    SaidVsDid(said::SaidVsDid),
    Kernel(kernel::Kernel),
    Bench(bench::Bench),
    Torture(torture::Torture),
    Completions(completions::Completions),
}

/// What every command works with.
pub(crate) struct Context {
    global: Global,
    interrupt: Interrupt,
}

impl Context {
    /// The journal's folder.
    pub(crate) fn path(&self) -> PathBuf {
        let named = self.global.journal.clone().map(PathBuf::into_os_string);
        journal_path(named, std::env::var_os("SEMJ_JOURNAL"))
    }

    /// Whether stdout is for programs.
    pub(crate) fn json(&self) -> bool {
        self.global.json
    }

    /// The engine's options with the configuration file applied.
    pub(crate) fn options(&self) -> Result<Options, Ended> {
        let options = Journal::options();
        match &self.global.config {
            None => Ok(options),
            Some(file) => {
                options.config_file(file).map_err(|e| Ended::usage(format!("{}: {e}", file.display())))
            }
        }
    }

    /// Opens the journal for writing and creates it if need be.
    pub(crate) fn open(&self, lock_wait: Duration) -> Result<Journal, Ended> {
        let path = self.path();
        self.options()?
            .create(true)
            .lock_wait(lock_wait)
            .open(&path)
            .map_err(|e| Ended::journal(&path, e.kind(), &e))
    }

    /// Opens the journal for reading, beside its owner if there is one.
    pub(crate) fn read(&self) -> Result<Reader, Ended> {
        let path = self.path();
        Journal::open_read_only(&path).map_err(|e| Ended::journal(&path, e.kind(), &e))
    }

    /// A failure of the journal in the middle of a command.
    pub(crate) fn failed(&self, error: &semj::Error) -> Ended {
        Ended::journal(&self.path(), error.kind(), error)
    }

    /// An event could not be emitted.
    pub(crate) fn unemitted(&self, error: &semj::EmitError) -> Ended {
        Ended::journal(&self.path(), error.kind(), error)
    }

    /// An event did not become durable.
    pub(crate) fn uncommitted(&self, error: &semj::CommitError) -> Ended {
        Ended::journal(&self.path(), error.kind(), error)
    }

    /// Closes the journal: whatever was admitted is committed first.
    pub(crate) fn close(&self, journal: Journal) -> Outcome {
        journal.close(CLOSE_WITHIN).map_err(|e| Ended::journal(&self.path(), e.kind(), &e))
    }

    /// The signals' state.
    pub(crate) fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }
}

/// The folder named on the command line, else by the environment, else `./journal`.
fn journal_path(named: Option<OsString>, environment: Option<OsString>) -> PathBuf {
    named
        .or(environment.filter(|e| !e.is_empty()))
        .map_or_else(|| Path::new("journal").to_owned(), PathBuf::from)
}

/// Runs the command line of this process.
pub(crate) fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next().unwrap_or_default();
    let rest = || arguments.collect::<Vec<_>>();
    match first.to_str() {
        Some(run::launch::STOPPED) => return run::launch::become_tool(&rest()),
        Some(run::launch::LISTENED) => return run::launch::become_listened(&rest()),
        Some(run::keeper::KEEPER) => return run::keeper::main(&rest()),
        _ => {}
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version come this way too; a closed pipe is no reason to complain about either.
            let _ = e.print();
            return ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(code::USAGE));
        }
    };
    match Interrupt::install().map_err(|e| Ended::usage(format!("cannot install signal handlers: {e}"))) {
        Ok(interrupt) => finish(run(&cli.command, &Context { global: cli.global, interrupt })),
        Err(ended) => finish(Err(ended)),
    }
}

fn run(command: &Command, context: &Context) -> Outcome {
    match command {
        Command::Append(args) => args.run(context),
        Command::Query(args) => args.run(context),
        Command::Export(args) => args.run(context),
        Command::Show(args) => args.run(context),
        Command::Why(args) => args.run(context),
        Command::Impact(args) => args.run(context),
        Command::Tail(args) => args.run(context),
        Command::Status(args) => args.run(context),
        Command::Verify(args) => args.run(context),
        Command::Doctor(args) => args.run(context),
        Command::Import(args) => args.run(context),
        Command::Run(args) => args.run(context),
        Command::SaidVsDid(args) => args.run(context),
        Command::Kernel(args) => args.run(context),
        Command::Bench(args) => args.run(context),
        Command::Torture(args) => args.run(context),
        Command::Completions(args) => args.run(),
    }
}

fn finish(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::from(code::OK),
        Err(ended) => {
            if !ended.message.is_empty() {
                out::complain(&ended.message);
            }
            ExitCode::from(ended.code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example") && help.contains("semj"), "{}", command.get_name());
            assert!(command.get_about().is_some(), "{}", command.get_name());
        }
    }

    #[test]
    fn global_options_stand_before_or_after_the_command() {
        for line in [
            ["semj", "-j", "/j", "--json", "--config", "/c", "query", "--reverse"],
            ["semj", "query", "--reverse", "-j", "/j", "--json", "--config", "/c"],
            ["semj", "--json", "query", "--reverse", "--config", "/c", "-j", "/j"],
        ] {
            let cli = Cli::try_parse_from(line).unwrap();
            assert!(cli.global.json);
            assert_eq!(cli.global.journal.as_deref(), Some(Path::new("/j")));
            assert_eq!(cli.global.config.as_deref(), Some(Path::new("/c")));
        }
    }

    #[test]
    fn wrong_use_ends_with_two() {
        for line in [
            vec!["semj"],
            vec!["semj", "nope"],
            vec!["semj", "query", "--type", "agent.decisoin"],
            vec!["semj", "query", "--since", "yesterday"],
            vec!["semj", "query", "--limit", "-1"],
            vec!["semj", "show"],
            vec!["semj", "show", "seven"],
            vec!["semj", "verify", "--quick", "--deep"],
            vec!["semj", "append", "--wait", "5"],
            vec!["semj", "export", "--format", "csv"],
        ] {
            assert_eq!(Cli::try_parse_from(&line).unwrap_err().exit_code(), 2, "{line:?}");
        }
    }

    #[test]
    fn the_journal_is_named_by_option_environment_or_default() {
        let path = |a: Option<&str>, b: Option<&str>| journal_path(a.map(Into::into), b.map(Into::into));
        assert_eq!(path(Some("a"), Some("b")), Path::new("a"));
        assert_eq!(path(None, Some("b")), Path::new("b"));
        assert_eq!(path(None, Some("")), Path::new("journal"));
        assert_eq!(path(None, None), Path::new("journal"));
    }
}
