//! Three agents repair a program, the journal explains the result, and a SIGKILL shows what an acknowledgement is worth.
//!
//! ```text
//! cargo run --release --example agent_session            in a temporary folder
//! cargo run --release --example agent_session -- DIR     in DIR, kept: try `semj -j DIR/journal query` on it
//! ```

mod agents;
mod crash;
mod show;

use semj::{Category, EventType, Journal, VerifyLevel};
use show::Screen;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn main() -> Result<(), agents::Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [child, journal] if child == crash::CHILD => crash::child(Path::new(journal)),
        [] => {
            let folder = tempfile::tempdir()?;
            run(folder.path(), false)
        }
        [folder] => run(&PathBuf::from(folder), true),
        _ => Err("usage: agent_session [DIR]".into()),
    }
}

fn run(folder: &Path, kept: bool) -> Result<(), agents::Failure> {
    let begun = Instant::now();
    let path = folder.join("journal");
    let screen = Screen::new();
    let journal = Journal::open(&path)?;

    screen.title("1  Three agents repair a program");
    let session = agents::work(&journal, &folder.join("workspace"))?;
    println!("The last thing said: {}\n", session.said);
    let events: Vec<_> =
        journal.query().session(&session.name).covering(&session.end).run()?.collect::<Result<_, _>>()?;
    screen.timeline(&events);
    assert!(session.rounds > 1, "one repair must not be enough, or there is nothing to explain");

    screen.title("2  Why does slug.sh look like this?");
    let write = EventType::parse("filesystem.write").ok_or("no such type")?;
    let newest = journal.query().session(&session.name).event_type(write).path(agents::PROGRAM);
    let newest = newest.reverse(true).limit(1).run()?.next().ok_or("no write of the program")??;
    let graph = journal.why(newest.id)?;
    screen.causes(&graph);
    let reached = |kind: &str| graph.events.values().any(|e| e.event.event_type().to_string() == kind);
    assert!(reached("agent.query"), "the causes must lead back to what the person asked for");
    assert!(reached("observability.error_reported"), "and through the tests that failed");
    let touched = journal.query().session(&session.name).category(Category::Filesystem);
    let touched = touched.path(agents::PROGRAM).count()?;
    println!("\n{} causes explain it; {touched} events touched the file.", graph.events.len() - 1);
    journal.close(Duration::from_secs(5))?;

    screen.title("3  The process is killed while it works");
    let mut acknowledged = 0;
    let mut kept_beyond = 0;
    for round in 1..=3 {
        let killed = crash::kill_one(&path)?;
        println!("  {round}. {killed}");
        assert_eq!(killed.missing, 0, "an acknowledged event is missing");
        acknowledged += killed.acknowledged;
        kept_beyond += killed.kept_beyond;
    }

    screen.title("4  What stands at the end");
    let reader = Journal::open_read_only(&path)?;
    let checking = Instant::now();
    let checked = reader.verify(VerifyLevel::Deep)?.record;
    let (checked_in, status) = (checking.elapsed(), reader.status()?);
    assert!(checked.intact && checked.torn_tail.is_none(), "{checked:?}");
    assert_eq!(checked.events, status.events);
    let head: String = checked.head_chain.iter().take(8).map(|b| format!("{b:02x}")).collect();
    screen
        .row("events", &format!("{} in {} segments, {} bytes", status.events, status.segments, status.bytes));
    screen.row("session", &format!("{} events by 3 agents, {} repairs", events.len(), session.rounds));
    screen.row("killed", "3 times, with SIGKILL, at a random moment");
    screen.row("acknowledged", &format!("{acknowledged} events before the kills, 0 of them missing"));
    screen.row("kept beyond", &format!("{kept_beyond} events that nobody had been told about yet"));
    screen.row("verified", &format!("every byte, in {:.1} ms: intact", checked_in.as_secs_f64() * 1e3));
    screen.row("chain head", &format!("#{} sha256 {head}...", checked.head_sequence));
    screen.row("all of this", &format!("{:.1} s", begun.elapsed().as_secs_f64()));
    if kept {
        println!("\nThe journal is yours to look at: semj -j {} query --limit 20", path.display());
    }
    Ok(())
}
