//! Two kernel records under one identity: an import and a source that name different streams alike.

use crate::pipeline::Pipeline;
use semj_storage::error::ReadError;
use semj_storage::event::{Event, EventType, Priority, Text};
use semj_storage::kernel::restore;
use std::ops::ControlFlow;
use uuid::Uuid;

/// `observability.alert_triggered`.
const ALERT: EventType = EventType::from_code(0x0805);

/// What is to be journaled in the place of a record whose id the event at `sequence` has, which is durable; `None` where
/// both are the same record, whoever journaled it first and with whatever time, and where it is no kernel's record.
///
/// # Errors
/// When the record cannot be read.
pub(super) fn conflict(
    pipeline: &Pipeline,
    event: &Event<'_>,
    id: Uuid,
    sequence: u64,
) -> Result<Option<Event<'static>>, ReadError> {
    let (mut mine, mut known) = (Vec::new(), Vec::new());
    if restore(event, id, &[], &mut mine).is_none() {
        return Ok(None);
    }
    pipeline.segments().read(sequence, sequence, &mut |entry| {
        if let Some(found) = entry.event() {
            let found = entry.recorded(found);
            restore(&found.event, found.id, &found.causes, &mut known);
        }
        ControlFlow::Break(())
    })?;
    if mine == known {
        return Ok(None);
    }
    let source = event.source_text().and_then(Text::as_str).unwrap_or_default().to_owned();
    let words = format!("a record of {source} has the identity of event {sequence}, which is another record");
    let payload = serde_json::json!({
        "semj.source": source,
        "semj.record": id.to_string(),
        "semj.known_as": sequence,
    });
    let told = Event::new(ALERT)
        .stream("semj")
        .name("semj.record_conflict")
        .id(Uuid::new_v5(&id, &mine))
        .source(source)
        .priority(Priority::HIGH)
        .intent(words)
        .payload(payload);
    Ok(Some(told))
}
