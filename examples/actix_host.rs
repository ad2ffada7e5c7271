//! A host that is an actix system itself: its actors talk to the journal by typed messages.
//!
//! ```text
//! cargo run --example actix_host
//! ```
//! The journal keeps its own threads; `JournalActor` only stands in front of it, on the host's arbiter.

use actix::{Actor, Addr, Context, Handler, Message, ResponseFuture, System};
use semj::actix::{Ask, Emit, EmitDurable, Flush, JournalActor};
use semj::{Event, Journal, Query};
use serde_json::json;
use std::error::Error;
use std::time::Duration;

/// The host's own actor: it does what a person asks and journals it first.
struct Assistant {
    journal: Addr<JournalActor>,
}

/// What a person asks; the answer is the sequence of the event that tells of the work.
#[derive(Message)]
#[rtype(result = "Result<u64, String>")]
struct Task(&'static str);

impl Actor for Assistant {
    type Context = Context<Self>;
}

impl Handler<Task> for Assistant {
    type Result = ResponseFuture<Result<u64, String>>;

    fn handle(&mut self, task: Task, _: &mut Context<Self>) -> Self::Result {
        let journal = self.journal.clone();
        Box::pin(async move {
            let asked = Event::query(task.0).tag("role:user");
            let ticket = journal.send(Emit(asked)).await.map_err(|e| e.to_string())?;
            let ticket = ticket.map_err(|e| e.to_string())?;
            // The work itself would be here. Its event is answered when it survives a power cut.
            let done = Event::decision("done").parent(ticket.id()).payload(json!({"task": task.0}));
            let sequence = journal.send(EmitDurable(done)).await.map_err(|e| e.to_string())?;
            sequence.map_err(|e| e.to_string())
        })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let journal = Journal::open(folder.path().join("journal"))?;
    let handle = journal.clone();
    let found = System::new().block_on(async move {
        let journal = JournalActor::new(handle, "assistant").start();
        let assistant = Assistant { journal: journal.clone() }.start();
        // Several tasks at once: their commits share syncs, and no arbiter blocks.
        let tasks = ["read the mail", "plan the day", "book a table"].map(|t| assistant.send(Task(t)));
        for task in tasks {
            println!("done: event {}", task.await??);
        }
        journal.send(Flush).await??;
        let found = journal.send(Ask(Query::new().agent("assistant"))).await??;
        Ok::<_, Box<dyn Error>>(found)
    })?;
    for event in &found {
        let intent = event.event.intent_text().map(ToString::to_string).unwrap_or_default();
        println!("#{} {} {intent}", event.sequence, event.event.event_type());
    }
    assert_eq!(found.len(), 6, "three questions and three answers");
    assert!(found.iter().filter(|e| e.parent().is_some()).count() == 3, "each answer names its question");
    journal.close(Duration::from_secs(5))?;
    Ok(())
}
