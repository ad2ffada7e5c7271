//! A host starts a tool itself and journals what the tool really did, next to what the agent said.
//!
//! ```text
//! cargo run --example observed_tool
//! ```

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use semj::observe::{Call, Finished, Observer, Plan, boot_ns};
use semj::{Event, Journal};
use serde_json::json;
use std::error::Error;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// The agent means to do this much, and says so.
const SAID: &str = "write the report";
/// What its tool does.
const SCRIPT: &str =
    "echo draft > report.txt && mkdir notes && echo aside > notes/a && mv report.txt final.txt";

/// Runs the tool under observation. It waits, stopped, until somebody looks: nothing of it is missed.
fn run(journal: &Journal, call: &Call, folder: &Path) -> Result<(ExitStatus, Finished), Box<dyn Error>> {
    let plan = Plan { folders: vec![folder.to_owned()], ..Plan::default() };
    let observer = Observer::open(plan)?;
    println!("observed with {}, processes by {}", observer.coverage().source, observer.coverage().lineage);
    let mut tool = Command::new("sh")
        .args(["-c", "kill -STOP $$; exec sh -c \"$1\"", "sh", SCRIPT])
        .current_dir(folder)
        .spawn()?;
    let pid = Pid::from_child(&tool);
    waitpid(Some(pid), WaitOptions::UNTRACED)?;
    let running = observer.start(journal.emitter(&call.agent), call.clone(), tool.id(), folder)?;
    kill_process(pid, Signal::CONT)?;
    let status = tool.wait()?;
    Ok((status, running.finish()))
}

fn main() -> Result<(), Box<dyn Error>> {
    let root = tempfile::tempdir()?;
    let folder = root.path().join("work");
    std::fs::create_dir(&folder)?;
    let folder = std::fs::canonicalize(folder)?;
    let journal = Journal::open(root.path().join("journal"))?;

    // The call is durable before the tool starts: whatever happens then has a cause.
    let id = uuid::Uuid::new_v4();
    let said = Event::decision(SAID)
        .id(id)
        .tag("tool:sh")
        .payload(json!({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "sh"}));
    journal.emitter("coder").emit_blocking(said)?.wait()?;
    let call = Call {
        id,
        agent: "coder".to_owned(),
        session: None,
        arguments: vec!["sh".to_owned(), "-c".to_owned(), SCRIPT.to_owned()],
        started_ns: boot_ns(),
        ended_ns: None,
    };
    let (status, finished) = run(&journal, &call, &folder)?;
    println!("{status}; {} effects, everything read: {}", finished.touched.effects(), finished.is_complete);

    // What it did is linked to what was said, with the strength of the evidence.
    let last = journal.emitter("coder").emit_blocking(Event::interaction("done"))?;
    last.wait()?;
    println!("consequences of \"{SAID}\":");
    for event in journal.query().tag("observed").run()? {
        let event = event?;
        let Some(path) = event.event.path_text().and_then(|p| p.as_str()) else { continue };
        let link = event.event.links().first();
        let evidence =
            link.and_then(|l| l.description.as_ref()?.as_str()).unwrap_or("nobody's call explains it");
        println!(
            "  {:4} {:20} {:16} {:3}  {evidence}",
            event.sequence,
            event.event.event_type().to_string(),
            path.strip_prefix(folder.to_str().unwrap_or_default()).unwrap_or(path).trim_start_matches('/'),
            link.and_then(|l| l.strength).unwrap_or(0),
        );
    }
    let found = std::fs::read_to_string(folder.join("final.txt"))?;
    if !status.success() || found != "draft\n" || finished.touched.effects() == 0 {
        return Err("the tool did not do what it was to do, or nobody saw it".into());
    }
    journal.close(Duration::from_secs(5))?;
    Ok(())
}
