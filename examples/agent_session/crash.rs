//! The same binary again, as a child that is killed without warning; and what is left of what it was promised.

use semj::{Event, Journal};
use serde_json::json;
use std::collections::HashMap;
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// The argument that makes this program the child.
pub(crate) const CHILD: &str = "--emit-until-killed";
const WORKERS: u64 = 4;

/// What a kill left.
pub(crate) struct Killed {
    pub(crate) acknowledged: usize,
    pub(crate) missing: usize,
    pub(crate) kept_beyond: usize,
    alive: Duration,
    reopened_in: Duration,
}

impl fmt::Display for Killed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "killed after {:>3.0} ms: {:>5} acknowledged, {} missing, {:>2} kept beyond; reopened in {:.1} ms",
            self.alive.as_secs_f64() * 1e3,
            self.acknowledged,
            self.missing,
            self.kept_beyond,
            self.reopened_in.as_secs_f64() * 1e3
        )
    }
}

/// The child: several workers emit, and each acknowledgement is told only after the event is durable.
pub(crate) fn child(path: &Path) -> Result<(), crate::agents::Failure> {
    let journal = Journal::open(path)?;
    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let emitter = journal.emitter(&format!("worker-{worker}"));
            scope.spawn(move || {
                for step in 0u64.. {
                    let event = Event::decision("take the next step").payload(json!({"step": step}));
                    let Ok(ticket) = emitter.emit_blocking(event) else { return };
                    // Nobody may be told before the disk has it.
                    if ticket.wait().is_err() {
                        return;
                    }
                    let mut out = std::io::stdout().lock();
                    let told = writeln!(out, "{} {}", ticket.sequence(), ticket.id());
                    if told.and_then(|()| out.flush()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok(())
}

/// Starts the child, kills it at a random moment, opens the journal again and looks for every acknowledged event.
pub(crate) fn kill_one(path: &Path) -> Result<Killed, crate::agents::Failure> {
    let before = Journal::open_read_only(path)?.status()?.durable_sequence;
    let mut child = Command::new(std::env::current_exe()?)
        .arg(CHILD)
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().ok_or("the child has no output")?;
    let (first, told) = channel();
    let listening = thread::spawn(move || {
        let mut acknowledged = Vec::new();
        let mut lines = BufReader::new(output);
        let mut line = String::new();
        // A line without an end was cut by the kill: that acknowledgement did not arrive.
        while lines.read_line(&mut line).is_ok_and(|n| n > 0) && line.ends_with('\n') {
            if let Some((sequence, id)) = line.trim_end().split_once(' ') {
                acknowledged.push((sequence.parse::<u64>(), id.parse::<Uuid>()));
                let _ = first.send(());
            }
            line.clear();
        }
        acknowledged
    });
    told.recv_timeout(Duration::from_secs(10)).map_err(|_| "the child acknowledged nothing")?;
    let alive = Duration::from_millis(100 + Uuid::new_v4().as_u64_pair().1 % 300);
    thread::sleep(alive);
    child.kill()?;
    child.wait()?;
    let acknowledged = listening.join().map_err(|_| "the listener panicked")?;

    let opening = Instant::now();
    let journal = Journal::open(path)?;
    let reopened_in = opening.elapsed();
    let mut found = HashMap::new();
    for event in journal.query().after(before).run()? {
        let event = event?;
        found.insert(event.id, event.sequence);
    }
    let mut missing = 0;
    for (sequence, id) in &acknowledged {
        let (sequence, id) = (sequence.clone()?, id.clone()?);
        missing += usize::from(found.get(&id) != Some(&sequence));
    }
    assert!(journal.verify()?.record.intact, "the record is damaged");
    journal.close(Duration::from_secs(5))?;
    let kept_beyond = (found.len() + missing).saturating_sub(acknowledged.len());
    Ok(Killed { acknowledged: acknowledged.len(), missing, kept_beyond, alive, reopened_in })
}
