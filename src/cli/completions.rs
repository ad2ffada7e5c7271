//! `semj completions`: what a shell needs to complete this command line.

use super::Cli;
use super::out::Out;
use super::outcome::Outcome;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

/// Write a completion script for a shell
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  semj completions bash > ~/.local/share/bash-completion/completions/semj")]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "semj", &mut script);
        let mut out = Out::new(true);
        out.bytes(&script)?;
        out.flush()
    }
}
