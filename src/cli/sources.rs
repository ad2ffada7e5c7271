//! `semj kernel sources`: what this user can observe here.

use super::out::{Out, Style, json_line};
use super::outcome::Outcome;
use super::{Context, escape};
use semj::observe::probe;
use serde_json::json;

pub(super) fn run(context: &Context, out: &mut Out) -> Outcome {
    for source in probe(std::env::temp_dir()) {
        let why = source.answer.as_ref().err();
        if context.json() {
            out.line(&json_line(&json!({
                "source": source.name,
                "sees": source.sees,
                "strength": source.strength,
                "available": why.is_none(),
                "need": why.map(|w| &w.need),
                "errno": why.and_then(|w| w.errno),
                "remedy": why.map(|w| &w.remedy),
                "fallback": why.and_then(|w| w.fallback.as_ref()),
            })))?;
            continue;
        }
        let state = if why.is_none() { out.paint(Style::Good, "yes") } else { out.paint(Style::Bad, "no ") };
        out.line(&format!("{}  {state}  {}", escape::column(source.name, 18), source.sees))?;
        if let Some(why) = why {
            let error = why.errno.map(|e| format!(" ({})", std::io::Error::from_raw_os_error(e)));
            out.line(&format!("{:25}needs {}{}", "", why.need, error.unwrap_or_default()))?;
            out.line(&format!("{:25}{}", "", why.remedy))?;
            if let Some(fallback) = &why.fallback {
                out.line(&format!("{:25}else {fallback}", ""))?;
            }
        }
    }
    Ok(())
}
