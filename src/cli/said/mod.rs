//! `semj said-vs-did`: what a session's agents said they did to files, beside what was seen.

mod compare;

use super::out::{Out, Style, json_line};
use super::outcome::{Ended, Outcome, code};
use super::query::walk;
use super::{Context, escape};
use clap::Args;
use compare::{Comparison, Finding};

/// Compare what a session's agents said with what was seen
///
/// Said: a path in the arguments of a call, or a filesystem event that is no observation. Seen: the effects that `semj
/// run` linked to the session's calls. A folder that is named stands for what is below it. Ends with 1 when a change was not announced, or an announced one was not seen;
/// changes by others are listed, and are nobody's lie.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit codes: 0 both agree, 1 they do not, or there is no such session, 4 the journal cannot be read.\n\nExample:\n  semj run --session s1 -- make\n  semj said-vs-did s1\n  semj said-vs-did --json s1 | jq 'select(.finding == \"not_said\")'"
)]
pub(crate) struct SaidVsDid {
    /// The session
    session: String,
}

impl SaidVsDid {
    pub(crate) fn run(&self, context: &Context) -> Outcome {
        let mut comparison = Comparison::default();
        let query = semj::Query::new().session(&self.session);
        let found = walk(context, &context.read()?, query, |event| {
            comparison.add(&event);
            Ok(())
        })?;
        if found == 0 {
            return Err(Ended::finding(format!(
                "there is no event of session {}",
                escape::line(&self.session)
            )));
        }
        let result = comparison.finish();
        let mut out = Out::new(context.json());
        if context.json() {
            for finding in &result.findings {
                out.line(&json_line(&finding.json()))?;
            }
            out.line(&json_line(&result.summary(&self.session)))?;
        } else {
            for (title, kind) in [
                ("did, not said", "not_said"),
                ("said, not seen", "not_seen"),
                ("covered by a named folder", "covered"),
                ("changed by others", "external"),
            ] {
                let of_kind: Vec<&Finding> = result.findings.iter().filter(|f| f.kind == kind).collect();
                if !of_kind.is_empty() {
                    let is_fine = matches!(kind, "external" | "covered");
                    let style = if is_fine { Style::Kind } else { Style::Bad };
                    out.line(&out.paint(style, title))?;
                }
                for finding in of_kind {
                    let did = escape::column(&finding.words(), 24);
                    let below = match finding.paths {
                        n if kind == "covered" => format!(" ({n} below)"),
                        _ => String::new(),
                    };
                    let path = escape::line(&finding.path);
                    out.line(&format!("  {did}  {path}{below}  {}", finding.events()))?;
                }
            }
            out.line(&result.words())?;
        }
        out.flush()?;
        if result.agrees() { Ok(()) } else { Err(Ended::quiet(code::FINDING)) }
    }
}
