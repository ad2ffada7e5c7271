//! Which parts of a query an index or a block's summary can decide.

use super::{BlockSummary, Query, agent_bits};
use crate::event::{Category, EventType};
use crate::trees::{Bits, ChunkView, Index, Kind, TreeError, Wanted, chunk_first};

/// Where in a chunk a query has to look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidates {
    /// Events that may match.
    pub matching: Bits,
    /// Sequences that the index could not read.
    pub unread: Bits,
    /// The last sequence of the chunk that the index knows; what follows must be scanned.
    pub through: u64,
}

/// The parts of a query that restrict where to look.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Each must hold, by one of its alternatives.
    constraints: Vec<(Kind, Vec<Wanted>)>,
    since: Option<i64>,
    until: Option<i64>,
    /// Bits of block summaries, one of which must be set.
    types: u64,
    /// Filters of agents and of sessions: all bits of one of each group must be set.
    filters: Vec<Vec<[u8; 32]>>,
}

impl Plan {
    /// The plan of a query.
    pub fn of(query: &Query) -> Self {
        let exact = |values: &[Vec<u8>]| values.iter().cloned().map(Wanted::Exact).collect::<Vec<_>>();
        let codes = |codes: Vec<u32>| codes.iter().map(|c| Wanted::Exact(c.to_be_bytes().to_vec())).collect();
        let category = |c: &Category| {
            let [a, b, c, _] = base_of(*c).to_be_bytes();
            Wanted::Prefix(vec![a, b, c])
        };
        // What restricts most usually comes first.
        let mut constraints = vec![
            (Kind::Session, exact(&query.sessions)),
            (Kind::Transaction, exact(&query.transactions)),
            (Kind::Tag, exact(&query.tags)),
            (Kind::Name, exact(&query.names)),
            (Kind::Type, codes(query.types.iter().map(|t| t.code()).collect())),
            (Kind::Agent, exact(&query.agents)),
            (Kind::Stream, exact(&query.streams)),
            (Kind::Priority, codes(query.priorities.iter().map(|p| p.code()).collect())),
            (Kind::Source, exact(&query.sources)),
            (Kind::Path, query.paths.iter().cloned().map(Wanted::Prefix).collect()),
            (Kind::Type, query.categories.iter().map(category).collect()),
        ];
        constraints.retain(|(_, alternatives)| !alternatives.is_empty());
        let mut filters: Vec<Vec<[u8; 32]>> =
            [&query.agents, &query.sessions].map(|v| v.iter().map(|text| agent_bits(text)).collect()).into();
        filters.retain(|group| !group.is_empty());
        Self {
            constraints,
            since: query.since.map(|t| t.0),
            until: query.until.map(|t| t.0),
            types: type_bits(query),
            filters,
        }
    }

    fn has_time(&self) -> bool {
        self.since.is_some() || self.until.is_some()
    }

    /// Whether an index can save work at all.
    pub fn uses_index(&self) -> bool {
        !self.constraints.is_empty() || self.has_time()
    }

    /// Whether block summaries can save work at all.
    pub fn uses_summaries(&self) -> bool {
        self.types != u64::MAX || !self.filters.is_empty() || self.has_time()
    }

    /// Whether a block may hold a match.
    pub fn may_match(&self, block: &BlockSummary) -> bool {
        let holds =
            |bits: &[u8; 32]| bits.iter().zip(block.agents).all(|(wanted, found)| found & wanted == *wanted);
        let in_time = block.time_min <= block.time_max
            && self.since.is_none_or(|s| block.time_max >= s)
            && self.until.is_none_or(|u| block.time_min < u);
        block.types & self.types != 0
            && (!self.has_time() || in_time)
            && self.filters.iter().all(|group| group.iter().any(holds))
    }

    /// Where in a chunk to look; `None` where the index does not know the chunk.
    pub fn candidates(&self, index: &Index, chunk: u64) -> Option<Candidates> {
        index.with_chunk(chunk, |view| self.look(chunk, view))
    }

    fn look(&self, chunk: u64, view: &dyn ChunkView) -> Result<Candidates, TreeError> {
        let meta = view.meta();
        let mut matching = Bits::first(meta.events);
        if self.has_time() {
            matching.intersect(&meta.times.overlapping(self.since, self.until));
        }
        for (kind, alternatives) in &self.constraints {
            if matching.is_empty() {
                break;
            }
            let mut any = Bits::EMPTY;
            alternatives.iter().try_for_each(|wanted| view.lookup(*kind, wanted, &mut any))?;
            matching.intersect(&any);
        }
        let through = chunk_first(chunk) + u64::from(meta.events) - 1;
        Ok(Candidates { matching, unread: meta.unread, through })
    }
}

/// The code of a category with the low byte cleared.
fn base_of(category: Category) -> u32 {
    match category {
        Category::Other(base) => base,
        named => EventType::all().find(|t| t.category() == named).map_or(0, |t| t.code() & !0xFF),
    }
}

/// The bits of block summaries under which a match would be filed.
fn type_bits(query: &Query) -> u64 {
    let bit = |t: EventType| 1u64 << t.summary_bit();
    let mut bits = u64::MAX;
    if !query.types.is_empty() {
        bits &= query.types.iter().fold(0, |all, t| all | bit(*t));
    }
    if !query.categories.is_empty() {
        // Unnamed codes belong to categories, too, and share one bit.
        let named = EventType::all().filter(|t| query.categories.contains(&t.category()));
        bits &= named.fold(1 << 63, |all, t| all | bit(t));
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Timestamp;

    #[test]
    fn summaries_rule_out_by_type_time_and_agent() {
        let bit = |name: &str| 1u64 << EventType::parse(name).unwrap().summary_bit();
        let block = BlockSummary {
            first_sequence: 1,
            last_sequence: 9,
            types: bit("agent.decision") | bit("filesystem.read"),
            time_min: 10,
            time_max: 20,
            agents: agent_bits(b"planner"),
        };
        let may = |query: Query| Plan::of(&query).may_match(&block);
        assert!(may(Query::new()) && may(Query::new().category(Category::Agent)));
        assert!(may(Query::new().agent("planner").agent("nobody")) && may(Query::new().since(Timestamp(20))));
        assert!(!may(Query::new().category(Category::Vector)) && !may(Query::new().until(Timestamp(10))));
        assert!(!may(Query::new().agent("nobody")) && !may(Query::new().since(Timestamp(21))));
        assert!(!may(Query::new().agent("planner").session("nobody")));
        assert!(!may(Query::new().event_types(EventType::parse("agent.query"))));
        let timeless = BlockSummary { time_min: i64::MAX, time_max: i64::MIN, types: 1 << 63, ..block };
        assert!(!Plan::of(&Query::new().since(Timestamp(i64::MIN))).may_match(&timeless));
        assert!(
            Plan::of(&Query::new().category(Category::Agent)).may_match(&timeless),
            "an unnamed agent code"
        );
        assert!(!Plan::of(&Query::new().text("x")).uses_summaries());
    }
}
