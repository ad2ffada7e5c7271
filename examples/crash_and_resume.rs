//! An agent loop that goes on where it stopped: ids as idempotency keys, `expect` as the position.
//!
//! ```text
//! cargo run --example crash_and_resume
//! ```
//! The step's id is made of the run and the step's number (UUID version 5), so doing a step twice is harmless: the
//! second time the journal answers with the first event. `expect` refuses a second worker on the same run.

use semj::{EmitError, Event, EventType, Journal, Ticket};
use serde_json::json;
use std::error::Error;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use uuid::Uuid;

const RUN: &str = "run-2026-07";
const STEPS: u64 = 12;
/// The argument that makes this program a worker that dies after so many steps.
const DIE_AFTER: &str = "--die-after";

/// The same step of the same run has the same id, in every process and after every crash.
fn step_id(step: u64) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{RUN}/{step}").as_bytes())
}

fn step(journal: &Journal, step: u64) -> Result<Ticket, EmitError> {
    let event = Event::decision(format!("step {step}")).id(step_id(step)).expect(step);
    let event = if step > 0 { event.parent(step_id(step - 1)) } else { event };
    journal.emitter(RUN).emit_blocking(event.payload(json!({"step": step, "result": step * step})))
}

/// How many steps are in the journal: the position to go on at.
fn position(journal: &Journal) -> Result<u64, Box<dyn Error>> {
    let newest = journal.query().in_stream(RUN).reverse(true).limit(1).run()?.next();
    Ok(newest.transpose()?.map_or(0, |e| e.local_sequence))
}

/// Goes on with the run; dies without warning after `die_after` steps.
fn work(path: &Path, die_after: u64) -> Result<u64, Box<dyn Error>> {
    let journal = Journal::options().lock_wait(Duration::from_secs(5)).open(path)?;
    let from = position(&journal)?;
    for n in from..STEPS {
        if n - from == die_after {
            // No destructor runs, nothing is flushed: as if the power were cut for this process.
            std::process::abort();
        }
        step(&journal, n)?.wait()?;
    }
    journal.close(Duration::from_secs(5))?;
    Ok(from)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, steps, path] = arguments.as_slice()
        && flag == DIE_AFTER
    {
        return work(Path::new(path), steps.parse()?).map(drop);
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("journal");

    for steps in ["5", "4"] {
        let mut worker = Command::new(std::env::current_exe()?);
        let ended = worker.args([DIE_AFTER, steps]).arg(&path).stderr(Stdio::null()).status()?;
        let there = Journal::open_read_only(&path)?.status()?.events;
        println!("a worker died after {steps} steps ({ended}); the journal holds {there}");
        assert!(!ended.success());
    }
    let from = work(&path, u64::MAX)?;
    println!("the last worker went on at step {from} and finished");
    assert_eq!(from, 9);

    let journal = Journal::open(&path)?;
    // A step that is repeated, after a lost answer for instance, adds nothing.
    let repeated = step(&journal, 3)?;
    assert!(repeated.is_duplicate() && repeated.sequence() == 4);
    println!("step 3 once more: it is event {}, nothing was added", repeated.sequence());
    // A second worker that believes it is elsewhere is refused.
    let stale = Event::decision("step 7, again, by somebody else").expect(7);
    match journal.emitter(RUN).try_emit(stale) {
        Err(EmitError::Position { actual, .. }) => {
            println!("a stale worker is refused: {actual} steps are done")
        }
        other => return Err(format!("expected a refusal, found {other:?}").into()),
    }
    // Each step exactly once, in order.
    let decision = EventType::parse("agent.decision").ok_or("no such type")?;
    let mut done = Vec::new();
    for event in journal.query().in_stream(RUN).event_type(decision).run()? {
        done.push(event?.id);
    }
    assert_eq!(done, (0..STEPS).map(step_id).collect::<Vec<_>>());
    journal.close(Duration::from_secs(5))?;
    Ok(())
}
