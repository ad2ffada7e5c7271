//! An audit trail: events come in, are asked for by session, tag and time, leave as JSON lines, and a flipped byte shows.
//!
//! ```text
//! cargo run --example audit_trail
//! ```

use semj::event::{LineInput, Timestamp, parse_line, to_json};
use semj::{Event, Journal, Query, VerifyLevel};
use serde_json::{Value, json};
use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Duration;

const SESSIONS: [&str; 3] = ["morning", "noon", "evening"];

/// One event a minute over three sessions, with the times at which they happened.
fn fill(journal: &Journal, begin: Timestamp) -> Result<u64, Box<dyn Error>> {
    let agent = journal.emitter("clerk");
    let mut last = None;
    for minute in 0..90 {
        let session = SESSIONS.get(minute / 30).ok_or("no such session")?;
        let time = Timestamp(begin.0 + minute as i64 * 60_000_000_000);
        let event = match minute % 3 {
            0 => Event::query(format!("request {minute}")).tag("role:user"),
            1 => Event::decision("transfer")
                .tag("tool:bank")
                .payload(json!({"amount": minute * 100, "memo": format!("Invoice {minute}")})),
            _ => Event::interaction("confirmed"),
        };
        last = Some(agent.emit_blocking(event.session(*session).time(time))?);
    }
    let last = last.ok_or("nothing was emitted")?;
    last.wait()?;
    Ok(last.sequence())
}

/// Everything as JSON lines: the output is valid input of any journal.
fn export(journal: &Path, file: &Path) -> Result<usize, Box<dyn Error>> {
    let mut lines = String::new();
    let mut count = 0;
    for event in Journal::open_read_only(journal)?.run(Query::new())? {
        lines.push_str(&to_json(&event?));
        lines.push('\n');
        count += 1;
    }
    fs::write(file, lines)?;
    Ok(count)
}

/// JSON lines into another journal. Ids come along, so that importing twice adds nothing.
fn import(journal: &Path, file: &Path) -> Result<(u64, u64), Box<dyn Error>> {
    let journal = Journal::open(journal)?;
    let emitter = journal.emitter_default();
    let (mut added, mut known) = (0, 0);
    for line in fs::read_to_string(file)?.lines() {
        let LineInput::Event(event) = parse_line(line.as_bytes())? else { return Err("not an event".into()) };
        let ticket = emitter.emit_blocking(*event)?;
        if ticket.is_duplicate() { known += 1 } else { added += 1 }
    }
    journal.close(Duration::from_secs(5))?;
    Ok((added, known))
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("journal");
    let begin = Timestamp::parse("2026-03-02T08:00:00Z").ok_or("no such time")?;

    let journal = Journal::open(&path)?;
    let events = fill(&journal, begin)?;
    let transfers = journal.query().tag("tool:bank").session("noon").count()?;
    let hour = Timestamp(begin.0 + 3_600_000_000_000);
    let first_hour = journal.query().since(begin).until(hour).count()?;
    let large = journal.query().text("invoice 88").run()?.next().ok_or("no such invoice")??;
    println!("{events} events: {transfers} transfers at noon, {first_hour} events in the first hour");
    println!("invoice 88 is event {} of session {:?}", large.sequence, large.event.session_text());
    assert_eq!((transfers, first_hour, large.sequence), (10, 60, 89));
    journal.close(Duration::from_secs(5))?;

    let file = folder.path().join("trail.jsonl");
    let exported = export(&path, &file)?;
    let first: Value = serde_json::from_str(fs::read_to_string(&file)?.lines().next().ok_or("empty")?)?;
    let (kind, id) = (first.get("type").ok_or("no type")?, first.get("id").ok_or("no id")?);
    println!("{exported} lines exported; the first is {kind} {id}");
    let copy = folder.path().join("copy");
    println!("imported elsewhere: {:?} added and known", import(&copy, &file)?);
    assert_eq!(import(&copy, &file)?, (0, events), "a second import adds nothing");

    let sound = Journal::open_read_only(&path)?.verify(VerifyLevel::Deep)?.record;
    assert!(sound.intact && sound.events == events);
    let segment = path.join("segments/00000000000000000001.semj");
    let mut bytes = fs::read(&segment)?;
    let middle = bytes.len() / 2;
    *bytes.get_mut(middle).ok_or("an empty segment")? ^= 0x01;
    fs::write(&segment, bytes)?;
    let damaged = Journal::open_read_only(&path)?.verify(VerifyLevel::Deep)?.record;
    for damage in &damaged.damage {
        println!("one bit was flipped at byte {middle}: {damage}");
    }
    assert!(!damaged.intact && !damaged.damage.is_empty(), "a flipped bit must show");
    Ok(())
}
