//! `semj tail`: the newest events, and those to come.

use super::filters::Filters;
use super::out::Out;
use super::outcome::{Ended, Outcome};
use super::query::walk;
use super::{Context, timeline};
use clap::Args;
use semj::Reader;
use std::time::Duration;

/// How often to look for new events.
const FOLLOW_POLL: Duration = Duration::from_millis(20);

/// Show the newest events, and follow those to come
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  semj tail -f --agent planner\n  semj tail -n 100 --json")]
pub(crate) struct Tail {
    /// How many
    #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 10)]
    lines: u64,
    /// Go on with new events as they become durable, until interrupted
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    filters: Filters,
}

impl Tail {
    pub(crate) fn run(&self, context: &Context) -> Outcome {
        let reader = context.read()?;
        let mut out = Out::new(context.json());
        // Taken first: what becomes durable while the newest are shown is new.
        let mut seen = self.durable(context, &reader)?;
        let newest = until(self.filters.query_now(), seen).reverse(true).limit(self.lines);
        let mut events = Vec::new();
        let ended = if self.lines == 0 {
            Ok(0)
        } else {
            walk(context, &reader, newest, |event| {
                events.push(event);
                Ok(())
            })
        };
        for event in events.iter().rev() {
            timeline::show(&mut out, context.json(), event)?;
        }
        out.flush()?;
        ended?;
        if !self.follow {
            return Ok(());
        }
        loop {
            std::thread::sleep(FOLLOW_POLL);
            out.check_reader()?;
            let durable = self.durable(context, &reader)?;
            if durable > seen {
                self.show_new(context, &reader, &mut out, seen, durable)?;
                seen = durable;
            }
        }
    }

    /// Shows the events after `seen` up to `durable`.
    fn show_new(
        &self,
        context: &Context,
        reader: &Reader,
        out: &mut Out,
        seen: u64,
        durable: u64,
    ) -> Outcome {
        let filters = self.filters.query_now();
        let after = filters.after.unwrap_or(0).max(seen);
        let new = until(filters, durable).after(after);
        let ended = walk(context, reader, new, |event| timeline::show(out, context.json(), &event));
        out.flush()?;
        ended.map(drop)
    }

    fn durable(&self, context: &Context, reader: &Reader) -> Result<u64, Ended> {
        reader.durable_sequence().map_err(|e| context.failed(&e))
    }
}

/// The same question, about nothing behind `last`.
fn until(query: semj::Query, last: u64) -> semj::Query {
    let before = query.before.unwrap_or(u64::MAX).min(last.saturating_add(1));
    query.before(before)
}
