//! `semj why` and `semj impact`: the causes and the consequences of one event.

use super::out::{Out, json_line};
use super::outcome::Outcome;
use super::{Context, show, tree};
use clap::Args;
use semj::event::{Cause, to_json};
use semj::{Edge, Graph, Walk};
use serde::Serialize;

/// Where to start and how far to go.
#[derive(Args, Debug)]
struct Start {
    /// Sequence or id of the event
    #[arg(value_name = "SEQ|UUID", value_parser = show::reference)]
    event: Cause,
    /// At most this many steps
    #[arg(long, value_name = "N")]
    depth: Option<u32>,
    /// Only along edges of this kind: parent, root, or the kind of a link [repeated: any of them]
    #[arg(long, value_name = "KIND")]
    follow: Vec<String>,
}

impl Start {
    fn walk(&self) -> Walk {
        Walk { depth: self.depth, kinds: self.follow.clone() }
    }
}

/// Show the causes of an event, and theirs
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  semj why 17 --depth 3")]
pub(crate) struct Why {
    #[command(flatten)]
    start: Start,
}

impl Why {
    pub(crate) fn run(&self, context: &Context) -> Outcome {
        let reader = context.read()?;
        let event = show::find(context, &reader, self.start.event)?;
        let graph = reader.why(event.id, &self.start.walk()).map_err(|e| context.failed(&e))?;
        print(context, &graph, tree::Direction::Causes)
    }
}

/// Show the consequences of an event, and theirs
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  semj impact 3 --follow parent")]
pub(crate) struct Impact {
    #[command(flatten)]
    start: Start,
}

impl Impact {
    pub(crate) fn run(&self, context: &Context) -> Outcome {
        let reader = context.read()?;
        let event = show::find(context, &reader, self.start.event)?;
        let graph = reader.impact(event.id, &self.start.walk()).map_err(|e| context.failed(&e))?;
        print(context, &graph, tree::Direction::Effects)
    }
}

fn print(context: &Context, graph: &Graph, direction: tree::Direction) -> Outcome {
    let mut out = Out::new(context.json());
    if context.json() {
        out.line(&to_json(&graph.root))?;
        for edge in &graph.edges {
            out.line(&json_line(&EdgeLine::from(edge)))?;
        }
    } else {
        tree::print(&mut out, graph, direction)?;
    }
    out.flush()
}

/// One edge as JSON.
#[derive(Serialize)]
struct EdgeLine<'a> {
    cause: String,
    effect: String,
    cause_sequence: Option<u64>,
    effect_sequence: Option<u64>,
    kind: &'a str,
    strength: Option<u32>,
}

impl<'a> From<&'a Edge> for EdgeLine<'a> {
    fn from(edge: &'a Edge) -> Self {
        EdgeLine {
            cause: edge.cause.to_string(),
            effect: edge.effect.to_string(),
            cause_sequence: edge.cause_sequence,
            effect_sequence: edge.effect_sequence,
            kind: &edge.kind,
            strength: edge.strength,
        }
    }
}
