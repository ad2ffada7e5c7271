//! Walking causes: what led to an event, and what came of it.
//!
//! A reference was settled when its event was committed: to a smaller sequence, or foreign for ever. So `why` follows
//! numbers backwards, and `impact` meets every consequence behind its cause. The one thing that breaks this order is a
//! link between two other events; both walks look for those separately.

use super::EventSource;
use super::carriers::Reader;
use crate::error::{Damage, ReadError};
use crate::event::{Recorded, ResolvedCause, Text};
use crate::trees::{Bits, Index, Kind, chunk_first, chunk_of, offset_of};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ops::ControlFlow;
use uuid::Uuid;

/// How often `impact` goes through the journal again because a link named an earlier event as its effect.
const PASSES_MAX: usize = 64;

/// How far a walk may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WalkLimits {
    /// How many steps away from the start; 1: direct causes or consequences only.
    pub depth: u32,
    /// How many events are returned at most, the start included.
    pub events_max: usize,
}

impl Default for WalkLimits {
    /// Any depth, 10,000 events.
    fn default() -> Self {
        Self { depth: u32::MAX, events_max: 10_000 }
    }
}

/// One event made another happen.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Edge {
    /// Id of the cause.
    pub cause: Uuid,
    /// Id of the effect.
    pub effect: Uuid,
    /// The cause's sequence; `None` for a foreign event.
    pub cause_sequence: Option<u64>,
    /// The effect's sequence; `None` for a foreign event.
    pub effect_sequence: Option<u64>,
    /// `parent`, `root`, or the link's kind; `link` where it names none.
    pub kind: String,
    /// How sure, 0 to 100, where a link says so.
    pub strength: Option<u32>,
}

/// What a walk found.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Graph {
    /// Where it began.
    pub start: Recorded,
    /// All edges, nearest first.
    pub edges: Vec<Edge>,
    /// All events that were reached and could be read, the start included.
    pub events: BTreeMap<u64, Recorded>,
    /// There is more than was asked for.
    pub truncated: bool,
    /// The first damage met: events behind it may be missing here.
    pub damage: Option<Damage>,
}

/// All edges that an event carries, with their cause and effect.
pub(super) fn edges_of(carrier: &Recorded) -> Vec<Edge> {
    let own = ResolvedCause { id: carrier.id, sequence: Some(carrier.sequence) };
    let edge = |cause: ResolvedCause, effect: ResolvedCause, kind: String, strength| Edge {
        cause: cause.id,
        effect: effect.id,
        cause_sequence: cause.sequence,
        // A link may spell out its own event.
        effect_sequence: if effect.id == own.id { own.sequence } else { effect.sequence },
        kind,
        strength,
    };
    let mut edges = Vec::new();
    edges.extend(carrier.parent().map(|c| edge(c, own, "parent".into(), None)));
    edges.extend(carrier.root().map(|c| edge(c, own, "root".into(), None)));
    for (link, cause, effect) in carrier.links() {
        let kind = link.kind.as_ref().map_or_else(|| "link".into(), Text::to_string_lossy).into_owned();
        edges.extend(cause.map(|c| edge(c, effect.unwrap_or(own), kind, link.strength)));
    }
    edges
}

/// Edges and events gathered so far.
struct Walk {
    limits: WalkLimits,
    events: BTreeMap<u64, Recorded>,
    /// How many steps each reached event is away.
    depths: BTreeMap<u64, u32>,
    edges: Vec<(u32, Edge)>,
    known: HashSet<Edge>,
    truncated: bool,
}

impl Walk {
    fn new(limits: WalkLimits, start: &Recorded) -> Self {
        Self {
            limits,
            events: BTreeMap::from([(start.sequence, start.clone())]),
            depths: BTreeMap::from([(start.sequence, 0)]),
            edges: Vec::new(),
            known: HashSet::new(),
            truncated: false,
        }
    }

    fn depth_of(&self, sequence: u64) -> u32 {
        self.depths.get(&sequence).copied().unwrap_or(0)
    }

    fn add_edge(&mut self, depth: u32, edge: Edge) {
        if self.known.insert(edge.clone()) {
            self.edges.push((depth, edge));
        }
    }

    /// Notes that an event was reached. Answers whether its own edges must be followed (again).
    fn reach(&mut self, sequence: u64, depth: u32) -> bool {
        match self.depths.get(&sequence) {
            Some(known) if *known <= depth => return false,
            None if self.depths.len() >= self.limits.events_max.max(1) => {
                self.truncated = true;
                return false;
            }
            _ => {}
        }
        self.depths.insert(sequence, depth);
        true
    }

    fn finish(mut self, start: Recorded, reader: Reader<'_>) -> Graph {
        self.edges.sort_by_key(|(depth, e)| (*depth, e.cause_sequence, e.effect_sequence));
        Graph {
            start,
            edges: self.edges.into_iter().map(|(_, edge)| edge).collect(),
            events: self.events,
            truncated: self.truncated || reader.truncated,
            damage: reader.damage,
        }
    }
}

/// What led to an event: its causes, their causes, and so on. `None` when there is no such event.
///
/// # Errors
/// When the start or the record cannot be read. Damage elsewhere is noted in the graph.
pub fn why(
    source: &dyn EventSource,
    index: Option<&Index>,
    start: u64,
    limits: WalkLimits,
) -> Result<Option<Graph>, ReadError> {
    let mut reader = Reader::new(source, index);
    let Some(first) = reader.start(start)? else { return Ok(None) };
    let mut walk = Walk::new(limits, &first);
    let carriers = if limits.depth == 0 { BTreeMap::new() } else { reader.carriers_of_effects()? };
    let mut queue = VecDeque::from([start]);
    // Breadth first: whatever is reached later is not nearer, so no event is followed twice.
    while let Some(sequence) = queue.pop_front() {
        let depth = walk.depth_of(sequence);
        if depth >= limits.depth {
            continue;
        }
        let mut edges = walk.events.get(&sequence).map(edges_of).unwrap_or_default();
        for carrier in carriers.get(&sequence).into_iter().flatten() {
            edges.extend(reader.event(*carrier)?.iter().flat_map(edges_of));
        }
        for edge in edges.into_iter().filter(|e| e.effect_sequence == Some(sequence)) {
            if let Some(cause) = edge.cause_sequence.filter(|c| walk.reach(*c, depth + 1)) {
                queue.push_back(cause);
                walk.events.extend(reader.event(cause)?.map(|event| (cause, event)));
            }
            walk.add_edge(depth, edge);
        }
    }
    Ok(Some(walk.finish(first, reader)))
}

/// What came of an event: its consequences, their consequences, and so on. `None` when there is no such event.
///
/// # Errors
/// When the start or the record cannot be read. Damage elsewhere is noted in the graph.
pub fn impact(
    source: &dyn EventSource,
    index: Option<&Index>,
    start: u64,
    limits: WalkLimits,
) -> Result<Option<Graph>, ReadError> {
    let mut reader = Reader::new(source, index);
    let Some(first) = reader.start(start)? else { return Ok(None) };
    let mut walk = Walk::new(limits, &first);
    let mut pass =
        Pass { active: BTreeMap::new(), again: BTreeMap::from([(start, first.id)]), missing: Vec::new() };
    for _ in 0..PASSES_MAX {
        pass.active = std::mem::take(&mut pass.again);
        pass.active.retain(|sequence, _| walk.depth_of(*sequence) < limits.depth);
        let Some((lowest, _)) = pass.active.first_key_value() else { break };
        pass.run(&mut reader, &mut walk, lowest + 1)?;
        for effect in std::mem::take(&mut pass.missing) {
            walk.events.extend(reader.event(effect)?.map(|event| (effect, event)));
        }
        if walk.truncated {
            break;
        }
    }
    walk.truncated |= !pass.again.is_empty();
    Ok(Some(walk.finish(first, reader)))
}

/// One way through the journal, looking for what active events caused.
struct Pass {
    /// Events whose consequences are looked for.
    active: BTreeMap<u64, Uuid>,
    /// Events reached behind the place of the pass: only another one finds their consequences.
    again: BTreeMap<u64, Uuid>,
    /// Reached, still to be read.
    missing: Vec<u64>,
}

impl Pass {
    fn run(&mut self, reader: &mut Reader<'_>, walk: &mut Walk, from: u64) -> Result<(), ReadError> {
        let end = reader.last();
        let mut next = from.max(reader.first());
        while next <= end && !walk.truncated {
            let chunk = chunk_of(next);
            let last = end.min(chunk_first(chunk + 1) - 1);
            match reader.places(chunk, Kind::Cause, self.active.values()) {
                Some(places) => self.run_places(reader, walk, chunk, places, (next, last))?,
                None => self.run_all(reader, walk, next, last)?,
            }
            next = last + 1;
        }
        Ok(())
    }

    /// Looks at every event of `first..=last` that refers to an active one.
    fn run_all(
        &mut self,
        reader: &mut Reader<'_>,
        walk: &mut Walk,
        first: u64,
        last: u64,
    ) -> Result<(), ReadError> {
        reader.scan(first, last, &mut |entry| {
            if !entry.causes().any(|c| c.sequence.is_some_and(|s| self.active.contains_key(&s))) {
                return Some(ControlFlow::Continue(()));
            }
            self.take(walk, &entry.recorded(entry.event()?));
            Some(if walk.truncated { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })
    }

    /// Looks at places that an index named, and at those it names for events reached on the way.
    fn run_places(
        &mut self,
        reader: &mut Reader<'_>,
        walk: &mut Walk,
        chunk: u64,
        mut places: Bits,
        (mut next, last): (u64, u64),
    ) -> Result<(), ReadError> {
        while next <= last && !walk.truncated {
            let Some(offset) = places.first_from(offset_of(next)) else { break };
            let sequence = chunk_first(chunk) + u64::from(offset);
            next = sequence + 1;
            if sequence > last {
                break;
            }
            let Some(event) = reader.event(sequence)? else { continue };
            self.take(walk, &event);
            if let Some(id) = self.active.get(&sequence) {
                match reader.places(chunk, Kind::Cause, std::iter::once(id)) {
                    Some(more) => places.union(&more),
                    None => return self.run_all(reader, walk, next, last),
                }
            }
        }
        Ok(())
    }

    /// Takes in the edges of a carrier whose causes are active.
    fn take(&mut self, walk: &mut Walk, carrier: &Recorded) {
        for edge in edges_of(carrier) {
            let Some(cause) = edge.cause_sequence.filter(|c| self.active.contains_key(c)) else { continue };
            let depth = walk.depth_of(cause) + 1;
            if let Some(effect) = edge.effect_sequence.filter(|e| walk.reach(*e, depth)) {
                let own = effect == carrier.sequence;
                if own {
                    walk.events.insert(effect, carrier.clone());
                } else if !walk.events.contains_key(&effect) {
                    self.missing.push(effect);
                }
                if depth < walk.limits.depth {
                    let next = if own { &mut self.active } else { &mut self.again };
                    next.insert(effect, edge.effect);
                }
            }
            walk.add_edge(depth - 1, edge);
        }
    }
}
