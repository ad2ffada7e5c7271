//! The event types that logs map to, by the names of the mapping table.

use semj_storage::event::EventType;

pub(super) const FILE_READ: EventType = EventType::from_code(0x0103);
pub(super) const FILE_WRITE: EventType = EventType::from_code(0x0104);
pub(super) const QUERY: EventType = EventType::from_code(0x0401);
pub(super) const REASONING: EventType = EventType::from_code(0x0402);
pub(super) const DECISION: EventType = EventType::from_code(0x0403);
pub(super) const ORCHESTRATION: EventType = EventType::from_code(0x0404);
pub(super) const LEARNING: EventType = EventType::from_code(0x0405);
pub(super) const INTERACTION: EventType = EventType::from_code(0x0406);
pub(super) const CHECKPOINT: EventType = EventType::from_code(0x0504);
pub(super) const TRANSACTION_BEGIN: EventType = EventType::from_code(0x0601);
pub(super) const TRANSACTION_END: EventType = EventType::from_code(0x0602);
pub(super) const INTENT_CAPTURE: EventType = EventType::from_code(0x0604);
pub(super) const CONTEXT_SWITCH: EventType = EventType::from_code(0x0605);
pub(super) const METRIC: EventType = EventType::from_code(0x0801);
pub(super) const LOG: EventType = EventType::from_code(0x0802);
pub(super) const SPAN_START: EventType = EventType::from_code(0x0803);
pub(super) const SPAN_END: EventType = EventType::from_code(0x0804);
pub(super) const ALERT: EventType = EventType::from_code(0x0805);
pub(super) const ERROR: EventType = EventType::from_code(0x0808);
pub(super) const STATUS: EventType = EventType::from_code(0x080A);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_names_they_are_used_for() {
        let named = [
            (FILE_READ, "filesystem.read"),
            (FILE_WRITE, "filesystem.write"),
            (QUERY, "agent.query"),
            (REASONING, "agent.reasoning"),
            (DECISION, "agent.decision"),
            (ORCHESTRATION, "agent.orchestration"),
            (LEARNING, "agent.learning"),
            (INTERACTION, "agent.interaction"),
            (CHECKPOINT, "system.checkpoint"),
            (TRANSACTION_BEGIN, "semantic.transaction_begin"),
            (TRANSACTION_END, "semantic.transaction_end"),
            (INTENT_CAPTURE, "semantic.intent_capture"),
            (CONTEXT_SWITCH, "semantic.context_switch"),
            (METRIC, "observability.metric_collected"),
            (LOG, "observability.log_generated"),
            (SPAN_START, "observability.trace_span_start"),
            (SPAN_END, "observability.trace_span_end"),
            (ALERT, "observability.alert_triggered"),
            (ERROR, "observability.error_reported"),
            (STATUS, "observability.system_status"),
        ];
        for (kind, name) in named {
            assert_eq!(kind.to_string(), name);
        }
    }
}
