//! A causal graph as an indented tree.
//!
//! Graphs come from events, so nothing here trusts their shape: no recursion (a chain may be a million long), each
//! event is opened once (a graph is no tree), and the indentation has an end.

use super::out::{Out, Style};
use super::outcome::Ended;
use super::{escape, timeline};
use semj::{Edge, Graph, Recorded};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// Deepest level that is still indented further; below it, the level is told as a number.
const INDENT_MAX: usize = 24;

/// Which way the edges are followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    /// From effects to causes.
    Causes,
    /// From causes to effects.
    Effects,
}

impl Direction {
    /// The end of an edge that the walk comes from.
    pub(crate) fn near(self, edge: &Edge) -> Uuid {
        match self {
            Direction::Causes => edge.effect,
            Direction::Effects => edge.cause,
        }
    }

    /// The end of an edge that the walk goes to.
    pub(crate) fn far(self, edge: &Edge) -> Uuid {
        match self {
            Direction::Causes => edge.cause,
            Direction::Effects => edge.effect,
        }
    }
}

/// One line that is still to be shown.
struct Row<'g> {
    id: Uuid,
    edge: Option<&'g Edge>,
    level: usize,
    /// What stands before the branch, from the levels above.
    prefix: String,
    is_last: bool,
}

/// Prints the tree of `graph` from its root.
pub(crate) fn print(out: &mut Out, graph: &Graph, direction: Direction) -> Result<(), Ended> {
    let by_id: HashMap<Uuid, &Recorded> = graph.events.values().map(|e| (e.id, e)).collect();
    let mut branches: HashMap<Uuid, Vec<&Edge>> = HashMap::new();
    for edge in &graph.edges {
        branches.entry(direction.near(edge)).or_default().push(edge);
    }
    let mut opened = HashSet::new();
    let root = graph.start.id;
    let mut rows = vec![Row { id: root, edge: None, level: 0, prefix: String::new(), is_last: true }];
    while let Some(row) = rows.pop() {
        let children = branches.get(&row.id).map_or(&[][..], Vec::as_slice);
        let first_time = opened.insert(row.id);
        let event = if row.id == root { Some(&graph.start) } else { by_id.get(&row.id).copied() };
        let mut line = branch(&row);
        line.push_str(&describe(out, &row, event));
        if !first_time && !children.is_empty() {
            line.push_str(&out.paint(Style::Faint, "  (opened above)"));
        }
        out.line(&line)?;
        if first_time {
            let prefix = below(&row);
            // Pushed in reverse: the last pushed is the next shown.
            rows.extend(children.iter().rev().enumerate().map(|(i, edge)| Row {
                id: direction.far(edge),
                edge: Some(edge),
                level: row.level + 1,
                prefix: prefix.clone(),
                is_last: i == 0,
            }));
        }
    }
    Ok(())
}

/// What stands before the text of a row.
fn branch(row: &Row<'_>) -> String {
    if row.level == 0 {
        return String::new();
    }
    let corner = if row.is_last { "└─ " } else { "├─ " };
    let level = if row.level > INDENT_MAX { format!("[{}] ", row.level) } else { String::new() };
    format!("{}{corner}{level}", row.prefix)
}

/// What stands before the branches below a row.
fn below(row: &Row<'_>) -> String {
    if row.level == 0 || row.level >= INDENT_MAX {
        return row.prefix.clone();
    }
    format!("{}{}", row.prefix, if row.is_last { "   " } else { "│  " })
}

fn describe(out: &Out, row: &Row<'_>, event: Option<&Recorded>) -> String {
    let edge = row.edge.map(|edge| {
        let strength = edge.strength.map(|s| format!(" {s}%")).unwrap_or_default();
        out.paint(Style::Faint, &format!("{}{strength}: ", escape::cut(&edge.kind, 40)))
    });
    let what = match event {
        Some(event) => {
            let agent = event.event.agent_text().map(ToString::to_string).unwrap_or_else(|| event.stream());
            format!(
                "{} {} {}  {}",
                out.paint(Style::Faint, &format!("#{}", event.sequence)),
                out.paint(Style::Agent, &escape::cut(&agent, 32)),
                out.paint(Style::Kind, &event.event.event_type().to_string()),
                timeline::about(event)
            )
        }
        None => format!("{} (not in this journal)", row.id),
    };
    format!("{}{}", edge.unwrap_or_default(), what.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(level: usize, prefix: &str, is_last: bool) -> Row<'static> {
        Row { id: Uuid::nil(), edge: None, level, prefix: prefix.into(), is_last }
    }

    #[test]
    fn branches_line_up_and_the_indentation_ends() {
        assert_eq!(branch(&row(0, "", true)), "");
        assert_eq!(branch(&row(1, "", false)), "├─ ");
        assert_eq!(below(&row(1, "", false)), "│  ");
        assert_eq!(branch(&row(2, "│  ", true)), "│  └─ ");
        assert_eq!(below(&row(2, "│  ", true)), "│     ");
        let deep = row(500, "   ", true);
        assert_eq!((branch(&deep), below(&deep)), ("   └─ [500] ".into(), "   ".into()));
    }
}
