//! What a person sees: a timeline and a tree of causes. Colours only on a terminal, and not where NO_COLOR is set.

use semj::{Edge, Graph, Recorded};
use std::collections::HashSet;
use std::io::IsTerminal;

const FAINT: &str = "2";
const BOLD: &str = "1";
const RED: &str = "31";
const GREEN: &str = "32";

/// The terminal, or what stands in its place.
pub(crate) struct Screen {
    colours: bool,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let forbidden = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Screen { colours: std::io::stdout().is_terminal() && !forbidden }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(crate) fn title(&self, text: &str) {
        println!("\n{}\n", self.paint(BOLD, text));
    }

    pub(crate) fn row(&self, name: &str, value: &str) {
        println!("  {}  {value}", self.paint(FAINT, &format!("{name:<13}")));
    }

    /// One row per event: when, which, who, what.
    pub(crate) fn timeline(&self, events: &[Recorded]) {
        let begun = events.first().map_or(0, |e| e.boot_ns);
        for event in events {
            let after = format!("{:>8.1} ms", (event.boot_ns - begun) as f64 / 1e6);
            let sequence = format!("{:>5}", format!("#{}", event.sequence));
            println!(
                "{}  {}  {}  {}  {}",
                self.paint(FAINT, &after),
                self.paint(FAINT, &sequence),
                self.agent(event, 8),
                self.verb(event, 9),
                about(event, 96)
            );
        }
    }

    /// The tree from the start back to its causes; each event is opened once.
    pub(crate) fn causes(&self, graph: &Graph) {
        let mut opened = HashSet::new();
        // What stands before a row, the edge that leads to it, and whether more follow on its level.
        let mut rows: Vec<(String, Option<&Edge>, bool)> = vec![(String::new(), None, true)];
        while let Some((prefix, edge, is_last)) = rows.pop() {
            let id = edge.map_or(graph.start.id, |e| e.cause);
            let event = graph.events.values().find(|e| e.id == id);
            let corner = match (edge, is_last) {
                (None, _) => "",
                (_, true) => "└ ",
                (_, false) => "├ ",
            };
            let kind = edge.map_or(String::new(), |e| self.paint(FAINT, &format!("{}: ", e.kind)));
            let causes: Vec<&Edge> = graph.edges.iter().filter(|e| e.effect == id).collect();
            let known = !opened.insert(id) && !causes.is_empty();
            let what = event.map_or_else(|| id.to_string(), |e| self.in_tree(e, known));
            let note = if known { self.paint(FAINT, "(see above)") } else { String::new() };
            println!("  {prefix}{corner}{kind}{what}{note}");
            if known {
                continue;
            }
            let below = match (edge, is_last) {
                (None, _) => prefix,
                (_, true) => format!("{prefix}  "),
                (_, false) => format!("{prefix}│ "),
            };
            let last = causes.len().saturating_sub(1);
            // The longest way back, through `parent`, comes last, so that short branches are out of the way.
            let mut ordered = causes;
            ordered.sort_by_key(|e| e.kind == "parent");
            rows.extend(
                ordered.into_iter().enumerate().rev().map(|(i, e)| (below.clone(), Some(e), i == last)),
            );
        }
    }

    fn in_tree(&self, event: &Recorded, known: bool) -> String {
        let sequence = self.paint(FAINT, &format!("#{}", event.sequence));
        let text = if known { String::new() } else { about(event, 72) };
        format!("{sequence} {} {} {text}", self.agent(event, 0), self.verb(event, 0))
    }

    fn agent(&self, event: &Recorded, width: usize) -> String {
        let name = event.stream();
        let colour = match name.as_str() {
            "planner" => "35",
            "coder" => "36",
            "tester" => "33",
            _ => "34",
        };
        self.paint(colour, &format!("{name:<width$}"))
    }

    fn verb(&self, event: &Recorded, width: usize) -> String {
        let kind = event.event.event_type().to_string();
        let (verb, colour) = match kind.as_str() {
            "agent.query" => ("is asked", BOLD),
            "agent.decision" => ("decides", BOLD),
            "agent.orchestration" => ("delegates", BOLD),
            "agent.interaction" => ("says", GREEN),
            "filesystem.read" => ("reads", "0"),
            "filesystem.write" => ("writes", GREEN),
            "observability.trace_span_end" => ("sees", "0"),
            "observability.error_reported" => ("reports", RED),
            other => (other, "0"),
        };
        self.paint(colour, &format!("{verb:<width$}"))
    }
}

/// Path and intent, at most `width` characters.
fn about(event: &Recorded, width: usize) -> String {
    let path = event.event.path_text().map(|p| p.to_string_lossy().into_owned());
    let intent = event.event.intent_text().map(|i| i.to_string_lossy().into_owned());
    let text = [path, intent].into_iter().flatten().collect::<Vec<_>>().join(": ");
    if text.chars().count() <= width {
        return text;
    }
    let cut: String = text.chars().take(width - 1).collect();
    format!("{cut}…")
}
