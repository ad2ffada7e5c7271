//! `semj why` and `semj impact`: the causes and the consequences of one event.

use super::out::{self, Out, json_line};
use super::outcome::{Ended, Outcome};
use super::tree::{self, Direction};
use super::{Context, show};
use clap::Args;
use semj::event::{Cause, to_json};
use semj::{Edge, ErrorKind, Graph, WalkLimits};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// Most events of one answer: they are held in memory until the shape of the graph is known.
const EVENTS_MAX: usize = 100_000;

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
    fn limits(&self) -> WalkLimits {
        WalkLimits { depth: self.depth.unwrap_or(u32::MAX), events_max: EVENTS_MAX }
    }

    /// Walks from the event and prints what was found.
    fn run(&self, context: &Context, direction: Direction) -> Outcome {
        let reader = context.read()?;
        let event = show::find(context, &reader, self.event)?;
        let walked = match direction {
            Direction::Causes => reader.why(event.sequence, self.limits()),
            Direction::Effects => reader.impact(event.sequence, self.limits()),
        };
        let mut graph = walked.map_err(|e| context.failed(&e))?;
        if !self.follow.is_empty() {
            follow_only(&mut graph, &self.follow, direction);
        }
        print(context, &graph, direction)?;
        if graph.truncated && self.depth.is_none() {
            out::complain(&format!("there is more than {EVENTS_MAX} events; --depth or --follow narrows it"));
        }
        match &graph.damage {
            Some(damage) => Err(Ended::journal(&context.path(), ErrorKind::Damaged, damage)),
            None => Ok(()),
        }
    }
}

/// Keeps the edges of these kinds that can be reached along such edges alone.
fn follow_only(graph: &mut Graph, kinds: &[String], direction: Direction) {
    graph.edges.retain(|edge| kinds.contains(&edge.kind));
    let mut ahead: HashMap<Uuid, Vec<Uuid>> = HashMap::new();
    for edge in &graph.edges {
        ahead.entry(direction.near(edge)).or_default().push(direction.far(edge));
    }
    let mut reached = HashSet::from([graph.start.id]);
    let mut todo = vec![graph.start.id];
    while let Some(id) = todo.pop() {
        todo.extend(ahead.remove(&id).into_iter().flatten().filter(|next| reached.insert(*next)));
    }
    graph.edges.retain(|edge| reached.contains(&direction.near(edge)));
    graph.events.retain(|_, event| reached.contains(&event.id));
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
        self.start.run(context, Direction::Causes)
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
        self.start.run(context, Direction::Effects)
    }
}

fn print(context: &Context, graph: &Graph, direction: Direction) -> Outcome {
    let mut out = Out::new(context.json());
    if context.json() {
        out.line(&to_json(&graph.start))?;
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
