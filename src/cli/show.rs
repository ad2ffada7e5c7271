//! `semj show`: one event with all its fields.

use super::out::Out;
use super::outcome::{Ended, Outcome};
use super::{Context, fields};
use clap::Args;
use semj::event::{Cause, to_json};
use semj::{Reader, Recorded};
use uuid::Uuid;

/// Show one event with all its fields
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  semj show 17\n  semj show --json 7c9e6679-7425-40de-944b-e07fc1f90ae7")]
pub(crate) struct Show {
    /// Sequence or id of the event
    #[arg(value_name = "SEQ|UUID", value_parser = reference)]
    event: Cause,
}

impl Show {
    pub(crate) fn run(&self, context: &Context) -> Outcome {
        let event = find(context, &context.read()?, self.event)?;
        let mut out = Out::new(context.json());
        if context.json() {
            out.line(&to_json(&event))?;
        } else {
            for line in fields::lines(&out, &event) {
                out.line(&line)?;
            }
        }
        out.flush()
    }
}

/// Parses a sequence or an id.
pub(crate) fn reference(text: &str) -> Result<Cause, String> {
    match (text.parse(), Uuid::try_parse(text)) {
        (Ok(sequence), _) => Ok(Cause::Sequence(sequence)),
        (_, Ok(id)) => Ok(Cause::Id(id)),
        _ => Err("expected a sequence, e.g. 17, or a UUID".into()),
    }
}

/// The event that `reference` names.
pub(crate) fn find(context: &Context, reader: &Reader, reference: Cause) -> Result<Recorded, Ended> {
    let found = reader.get(reference).map_err(|e| context.failed(&e))?;
    found.ok_or_else(|| unknown(context, reference))
}

/// There is no such event.
pub(crate) fn unknown(context: &Context, reference: Cause) -> Ended {
    let named = match reference {
        Cause::Sequence(sequence) => sequence.to_string(),
        Cause::Id(id) => id.to_string(),
    };
    Ended::finding(format!("{}: there is no event {named}", context.path().display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_sequences_or_ids() {
        assert_eq!(reference("17"), Ok(Cause::Sequence(17)));
        assert_eq!(reference("00000000-0000-0000-0000-000000000005"), Ok(Cause::Id(Uuid::from_u128(5))));
        assert!(reference("seven").is_err() && reference("-1").is_err());
    }
}
