//! `semj kernel where` and `semj kernel status`: source sequences and events, translated both ways, and where each source
//! stands, from the journal alone.

use super::out::{Out, json_line};
use super::outcome::{Ended, Outcome};
use super::{Context, escape};
use clap::Args;
use semj::{Origin, Standing};
use serde::Serialize;
use uuid::Uuid;

#[derive(Args, Debug)]
pub(super) struct Where {
    /// A source and a sequence of it, or the sequence of an event alone
    #[arg(value_name = "[SOURCE] SEQUENCE", num_args = 1..=2, required = true)]
    what: Vec<String>,
    /// Which life of the source, as `semj.epoch` numbers it [default: the newest]
    #[arg(long, value_name = "N")]
    life: Option<u64>,
    /// Which boot that life belongs to [default: unknown, as of streams of other programs]
    #[arg(long, value_name = "UUID", requires = "life")]
    boot: Option<Uuid>,
}

/// What is told of one place.
#[derive(Serialize)]
struct Answer {
    source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    boot_id: Option<Uuid>,
    life: u64,
    source_sequence: u64,
    sequence: u64,
}

impl From<Origin> for Answer {
    fn from(origin: Origin) -> Self {
        let Origin { source, boot_id, incarnation, source_sequence, sequence } = origin;
        let boot_id = (!boot_id.is_nil()).then_some(boot_id);
        Answer { source, boot_id, life: incarnation, source_sequence, sequence }
    }
}

impl Where {
    pub(super) fn run(&self, context: &Context, out: &mut Out) -> Outcome {
        let reader = context.read()?;
        let number =
            |text: &str| text.parse::<u64>().map_err(|_| Ended::usage(format!("{text}: not a sequence")));
        let found = match self.what.as_slice() {
            [source, sequence] => {
                let life = self.life.map(|life| (self.boot.unwrap_or_default(), life));
                reader.event_of(source, life, number(sequence)?)
            }
            [sequence] => reader.origin_of(number(sequence)?),
            _ => return Err(Ended::usage("expected a source and its sequence, or an event's")),
        };
        let Some(origin) = found.map_err(|e| context.failed(&e))? else {
            let what = escape::line(&self.what.join(" "));
            return Err(Ended::finding(format!(
                "{}: {what}: there is no such record",
                context.path().display()
            )));
        };
        let answer = Answer::from(origin);
        let Answer { life, source_sequence, sequence, .. } = &answer;
        let source = escape::line(&answer.source);
        let human = format!("{source} {source_sequence} of life {life} is event {sequence}");
        out.line(&if context.json() { json_line(&answer) } else { human })
    }
}

/// Where a source stands, with units.
#[derive(Serialize)]
pub(crate) struct Stand {
    source: String,
    /// `watching`, `unavailable`, `failed`, `hangs`: as the owner told it last; `closed` where there is no owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    coverage: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    boot_id: Option<Uuid>,
    life: u64,
    records: u64,
    last_sequence: u64,
    lost_records: u64,
    unknown_gaps: u64,
    /// The newest certificate, ns of the boot-time clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    complete_boot_ns: Option<i64>,
    /// How long ago that was; absent where it was another boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    complete_ago_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_drift_ns: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_drift_error_ns: Option<u64>,
}

impl Stand {
    fn of(standing: Standing, is_owned: bool) -> Self {
        let account = standing.point.as_ref().map(|p| p.account.clone()).unwrap_or_default();
        let drift = standing.drift();
        let certificate = standing.certificate;
        Stand {
            source: standing.source,
            coverage: standing.coverage.map(|told| if is_owned { told } else { "closed".to_owned() }),
            boot_id: (!account.boot_id.is_nil()).then_some(account.boot_id),
            life: account.incarnation,
            records: account.records,
            last_sequence: account.last_sequence,
            lost_records: account.lost,
            unknown_gaps: account.unknown_gaps,
            complete_boot_ns: certificate.as_ref().map(|c| c.complete_ns),
            complete_ago_ms: certificate.and_then(|c| semj::age_ms(&c)),
            clock_drift_ns: drift.map(|(drift, _)| drift),
            clock_drift_error_ns: drift.map(|(_, error)| error),
        }
    }

    pub(crate) fn human(&self) -> String {
        let Stand { life, records, last_sequence, lost_records, unknown_gaps, .. } = self;
        let mut text = format!(
            "{}: {}; life {life}, {records} records up to {last_sequence}; {lost_records} lost, {unknown_gaps} gaps of unknown length",
            escape::line(&self.source),
            self.coverage.as_deref().unwrap_or("unknown"),
        );
        text += &match (self.complete_ago_ms, self.complete_boot_ns) {
            (Some(ms), _) => format!("; complete up to {ms} ms ago"),
            (None, Some(_)) => "; complete up to a moment of another boot".to_owned(),
            (None, None) => "; never certified".to_owned(),
        };
        if let (Some(drift), Some(error)) = (self.clock_drift_ns, self.clock_drift_error_ns) {
            text += &format!("; clock drift {drift} ns, give or take {error} ns");
        }
        text
    }
}

/// Where each source of the journal stands.
pub(crate) fn stands(context: &Context) -> Result<Vec<Stand>, Ended> {
    let reader = context.read()?;
    let is_owned = reader.status().map_err(|e| context.failed(&e))?.owner.is_some();
    let sources = reader.sources().map_err(|e| context.failed(&e))?;
    Ok(sources.into_iter().map(|standing| Stand::of(standing, is_owned)).collect())
}

/// `semj kernel status`.
pub(super) fn status(context: &Context, out: &mut Out) -> Outcome {
    for stand in stands(context)? {
        out.line(&if context.json() { json_line(&stand) } else { stand.human() })?;
    }
    Ok(())
}
