//! `semj export`: events for other programs.

use super::out::Out;
use super::outcome::{Ended, Outcome};
use super::query::Selection;
use super::{Context, export_semj};
use clap::{Args, ValueEnum};
use semj::event::to_json;

/// What to write.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Format {
    /// JSON Lines: what `append` takes, in any journal
    Jsonl,
    /// The kernel's binary records
    Semj,
}

/// Write events for other programs, oldest first
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  semj export --format jsonl --since 7d > week.jsonl\n  semj -j ./copy append week.jsonl\n  semj export --format semj --source import:semj > kernel.semj"
)]
pub(crate) struct Export {
    /// What to write
    #[arg(long, value_enum, default_value = "jsonl")]
    format: Format,
    /// With semj: records in storage blocks rather than back to back
    #[arg(long)]
    blocks: bool,
    /// With semj: end with 3 at an event that would be cut, before anything is written
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    selection: Selection,
}

impl Export {
    pub(crate) fn run(&self, context: &Context) -> Outcome {
        if self.format == Format::Semj {
            return export_semj::run(context, &self.selection, self.blocks, self.strict);
        }
        if self.blocks || self.strict {
            return Err(Ended::usage("--blocks and --strict go with --format semj"));
        }
        let mut out = Out::new(true);
        let ended = self.selection.for_each(context, |event| out.line(&to_json(&event)));
        out.flush()?;
        ended.map(drop)
    }
}
