//! The taxonomy: 60 named event types in 7 categories, priorities and flags, numbered as in the kernel.
//!
//! Unknown codes are preserved, never refused: a type is its number, and a name where one exists.

use std::fmt;

/// The category of an event type: its code with the low byte cleared.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Category {
    /// `0x0100`: what happened to files.
    Filesystem,
    /// `0x0200`: what happened to a graph.
    Graph,
    /// `0x0300`: what happened to a vector store.
    Vector,
    /// `0x0400`: what an agent asked, thought, decided, learned or said.
    Agent,
    /// `0x0500`: mounts, checkpoints, recovery.
    System,
    /// `0x0600`: transactions, causality, intent.
    Semantic,
    /// `0x0800`: spans, logs, metrics, errors.
    Observability,
    /// Any other code; the number is the code with the low byte cleared.
    Other(u32),
}

/// One row of the taxonomy.
struct Group {
    category: Category,
    base: u32,
    name: &'static str,
    types: &'static [&'static str],
}

const GROUPS: [Group; 7] = [
    Group {
        category: Category::Filesystem,
        base: 0x0100,
        name: "filesystem",
        types: &[
            "create", "delete", "read", "write", "rename", "chmod", "chown", "truncate", "mkdir", "rmdir",
            "symlink", "hardlink",
        ],
    },
    Group {
        category: Category::Graph,
        base: 0x0200,
        name: "graph",
        types: &[
            "node_create",
            "node_delete",
            "node_update",
            "edge_create",
            "edge_delete",
            "edge_update",
            "property_set",
            "property_delete",
            "traverse",
            "query",
        ],
    },
    Group {
        category: Category::Vector,
        base: 0x0300,
        name: "vector",
        types: &["create", "delete", "update", "search", "index", "similarity", "cluster", "embed"],
    },
    Group {
        category: Category::Agent,
        base: 0x0400,
        name: "agent",
        types: &["query", "reasoning", "decision", "orchestration", "learning", "interaction"],
    },
    Group {
        category: Category::System,
        base: 0x0500,
        name: "system",
        types: &["mount", "unmount", "sync", "checkpoint", "recovery", "optimization"],
    },
    Group {
        category: Category::Semantic,
        base: 0x0600,
        name: "semantic",
        types: &[
            "transaction_begin",
            "transaction_end",
            "causality_link",
            "intent_capture",
            "context_switch",
            "semantic_link",
        ],
    },
    Group {
        category: Category::Observability,
        base: 0x0800,
        name: "observability",
        types: &[
            "metric_collected",
            "log_generated",
            "trace_span_start",
            "trace_span_end",
            "alert_triggered",
            "health_check",
            "performance_counter",
            "error_reported",
            "audit_event",
            "system_status",
            "resource_usage",
            "threshold",
        ],
    },
];

impl Category {
    /// The category's name, e.g. `agent`; `None` for an unassigned code.
    pub fn name(self) -> Option<&'static str> {
        GROUPS.iter().find(|g| g.category == self).map(|g| g.name)
    }

    /// The category with this name.
    pub fn parse(name: &str) -> Option<Self> {
        GROUPS.iter().find(|g| g.name == name).map(|g| g.category)
    }

    /// The names of all seven categories.
    pub fn names() -> impl Iterator<Item = &'static str> {
        GROUPS.iter().map(|g| g.name)
    }
}

/// What kind of event: a code of the kernel's numbering, named where a name exists.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventType(u32);

impl EventType {
    /// The type with this code; every code is legal.
    pub const fn from_code(code: u32) -> Self {
        Self(code)
    }

    /// The kernel's number of this type.
    pub const fn code(self) -> u32 {
        self.0
    }

    /// The category: the code with the low byte cleared.
    pub fn category(self) -> Category {
        let base = self.0 & !0xFF;
        GROUPS.iter().find(|g| g.base == base).map_or(Category::Other(base), |g| g.category)
    }

    /// Category and name, e.g. `("agent", "decision")`; `None` for an unnamed code.
    pub fn names(self) -> Option<(&'static str, &'static str)> {
        let group = GROUPS.iter().find(|g| g.base == self.0 & !0xFF)?;
        let index = (self.0 & 0xFF).checked_sub(1)? as usize;
        group.types.get(index).map(|name| (group.name, *name))
    }

    /// Parses `category.snake_case`, e.g. `agent.decision`.
    pub fn parse(text: &str) -> Option<Self> {
        let (category, name) = text.split_once('.')?;
        let group = GROUPS.iter().find(|g| g.name == category)?;
        let index = group.types.iter().position(|t| *t == name)?;
        Some(Self(group.base + index as u32 + 1))
    }

    /// All 60 named types in the order of their codes.
    pub fn all() -> impl Iterator<Item = Self> {
        GROUPS.iter().flat_map(|g| (1..=g.types.len() as u32).map(|n| Self(g.base + n)))
    }

    /// The type's place among the 60 named ones, or 63 for all others: the bit it has in a block's summary.
    pub fn summary_bit(self) -> u32 {
        let mut before = 0;
        for group in &GROUPS {
            if group.base == self.0 & !0xFF {
                let number = self.0 & 0xFF;
                return if number >= 1 && number <= group.types.len() as u32 {
                    before + number - 1
                } else {
                    63
                };
            }
            before += group.types.len() as u32;
        }
        63
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.names() {
            Some((category, name)) => write!(f, "{category}.{name}"),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// How urgent an event is; smaller is more urgent. It never changes the order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Priority(u32);

const PRIORITY_NAMES: [&str; 5] = ["critical", "high", "normal", "low", "background"];

impl Priority {
    /// Commits at once and is never shed.
    pub const CRITICAL: Self = Self(1);
    /// More urgent than usual.
    pub const HIGH: Self = Self(2);
    /// The default.
    pub const NORMAL: Self = Self(3);
    /// May be shed when emitted without a ticket.
    pub const LOW: Self = Self(4);
    /// May be shed when emitted without a ticket.
    pub const BACKGROUND: Self = Self(5);

    /// The priority with this number; every number is legal.
    pub const fn from_code(code: u32) -> Self {
        Self(code)
    }

    /// The kernel's number.
    pub const fn code(self) -> u32 {
        self.0
    }

    /// The name of numbers 1 to 5.
    pub fn name(self) -> Option<&'static str> {
        PRIORITY_NAMES.get((self.0 as usize).checked_sub(1)?).copied()
    }

    /// The priority with this name.
    pub fn parse(name: &str) -> Option<Self> {
        PRIORITY_NAMES.iter().position(|n| *n == name).map(|i| Self(i as u32 + 1))
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::NORMAL
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Debug for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The kernel's event flags; unknown bits survive.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Flags(u32);

const FLAG_NAMES: [&str; 8] = [
    "atomic",
    "transactional",
    "causal",
    "agent_visible",
    "deterministic",
    "compressed",
    "indexed",
    "replicated",
];

impl Flags {
    /// The flags with these bits; every bit is legal.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The bits.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The single flag with this name.
    pub fn parse(name: &str) -> Option<Self> {
        FLAG_NAMES.iter().position(|n| *n == name).map(|i| Self(1 << i))
    }

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Each set bit alone: its name, or its value where it has none.
    pub fn iter(self) -> impl Iterator<Item = Result<&'static str, u32>> {
        (0..32u32)
            .filter(move |i| self.0 & (1 << i) != 0)
            .map(|i| FLAG_NAMES.get(i as usize).copied().ok_or(1 << i))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixty_types_in_seven_categories_parse_back() {
        let all: Vec<_> = EventType::all().collect();
        assert_eq!(all.len(), 60);
        for (i, t) in all.iter().enumerate() {
            assert_eq!(EventType::parse(&t.to_string()), Some(*t));
            assert_eq!(t.summary_bit() as usize, i);
        }
        assert_eq!(EventType::parse("agent.decision").map(EventType::code), Some(0x0403));
        assert_eq!(EventType::parse("observability.trace_span_start").map(EventType::code), Some(0x0803));
        assert_eq!(Category::names().count(), 7);
    }

    #[test]
    fn unknown_codes_keep_their_number() {
        for code in [0, 0x0100, 0x010D, 0x0701, 0x0907, u32::MAX] {
            let t = EventType::from_code(code);
            assert_eq!((t.names(), t.summary_bit(), t.to_string()), (None, 63, code.to_string()));
        }
        assert_eq!(EventType::from_code(0x0701).category(), Category::Other(0x0700));
    }
}
