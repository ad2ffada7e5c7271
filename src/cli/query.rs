//! `semj query`: events by filter, as a timeline or as JSON.

use super::filters::Filters;
use super::out::{self, Out};
use super::outcome::{Ended, Outcome, code};
use super::{Context, timeline};
use clap::Args;
use semj::{Reader, Recorded};

/// Filters, how many, and in which direction.
#[derive(Args, Debug)]
pub(crate) struct Selection {
    #[command(flatten)]
    filters: Filters,
    /// At most this many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Newest first; the limit counts from there
    #[arg(long)]
    reverse: bool,
    /// End with 1 when nothing was found
    #[arg(long)]
    fail_empty: bool,
}

impl Selection {
    /// The question, seen from now.
    pub(crate) fn query(&self) -> semj::Query {
        let mut query = self.filters.query_now().reverse(self.reverse);
        query.limit = self.limit;
        query
    }

    /// Hands every selected event to `each`, in order.
    pub(crate) fn for_each(
        &self,
        context: &Context,
        each: impl FnMut(Recorded) -> Result<(), Ended>,
    ) -> Result<u64, Ended> {
        let found = walk(context, &context.read()?, self.query(), each)?;
        self.judge(found).map(|()| found)
    }

    /// Ends with a negative finding where nothing was found and that was asked for.
    pub(crate) fn judge(&self, found: u64) -> Outcome {
        if self.fail_empty && found == 0 { Err(Ended::quiet(code::FINDING)) } else { Ok(()) }
    }
}

/// Hands every event that answers `query` to `each`, and counts them.
///
/// Damage ends it with the place of the damage, or is passed over and told on stderr.
pub(crate) fn walk(
    context: &Context,
    reader: &Reader,
    query: semj::Query,
    mut each: impl FnMut(Recorded) -> Result<(), Ended>,
) -> Result<u64, Ended> {
    let mut found = 0;
    let mut events = reader.run(query).map_err(|e| context.failed(&e))?;
    for next in events.by_ref() {
        match next {
            Ok(event) => {
                found += 1;
                each(event)?;
            }
            Err(e) => return Err(context.failed(&e)),
        }
    }
    for damage in events.damage_passed() {
        out::complain(&format!("passed over: {damage}"));
    }
    Ok(found)
}

/// Show events, oldest first
///
/// A filter that is repeated takes any of its values; different filters must all hold.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  semj query --agent planner --type agent.decision --since 2h\n  semj query --json --tag tool:bash | jq .payload"
)]
pub(crate) struct Query {
    #[command(flatten)]
    selection: Selection,
    /// Only how many there are, whatever the limit
    #[arg(long)]
    count: bool,
}

impl Query {
    pub(crate) fn run(&self, context: &Context) -> Outcome {
        let mut out = Out::new(context.json());
        if self.count {
            let found = context.read()?.count(self.selection.query()).map_err(|e| context.failed(&e))?;
            let text = if context.json() { format!("{{\"count\":{found}}}") } else { found.to_string() };
            out.line(&text)?;
            out.flush()?;
            return self.selection.judge(found);
        }
        let ended =
            self.selection.for_each(context, |event| timeline::show(&mut out, context.json(), &event));
        // What was found before a failure is shown before the failure is told.
        out.flush()?;
        ended.map(drop)
    }
}
