//! The fixed texts of the kernel's four producers: what they write where their caller gives nothing.

use crate::event::{Category, EventType};

/// The kernel's producers of events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Producer {
    Filesystem,
    Graph,
    Vector,
    Agent,
}

impl Producer {
    /// The producer of this type's category, if it has one.
    pub(super) fn of(event_type: EventType) -> Option<Self> {
        match event_type.category() {
            Category::Filesystem => Some(Self::Filesystem),
            Category::Graph => Some(Self::Graph),
            Category::Vector => Some(Self::Vector),
            Category::Agent => Some(Self::Agent),
            _ => None,
        }
    }

    pub(super) fn intent(self) -> &'static str {
        match self {
            Self::Filesystem => "Filesystem operation",
            Self::Graph => "Graph operation",
            Self::Vector => "Vector operation",
            Self::Agent => "AI agent operation",
        }
    }

    pub(super) fn confidence(self) -> u32 {
        match self {
            Self::Filesystem => 95,
            Self::Graph => 90,
            Self::Vector => 85,
            Self::Agent => 80,
        }
    }

    pub(super) fn agent_confidence(self) -> u32 {
        if self == Self::Agent { 75 } else { 0 }
    }

    /// The tags, not yet cut. An agent's name goes in as it is: this is not always JSON.
    pub(super) fn tags(self, code: u32, context: &super::Context<'_>, agent: &[u8]) -> Vec<u8> {
        match self {
            Self::Filesystem => {
                let name = match code {
                    0x0101 => "create",
                    0x0102 => "delete",
                    0x0103 => "read",
                    0x0104 => "write",
                    _ => "unknown",
                };
                format!(r#"{{"operation":"filesystem","type":"{name}"}}"#).into_bytes()
            }
            Self::Graph => {
                let (node, edge) = (context.graph_node_id, context.graph_edge_id);
                format!(r#"{{"operation":"graph","node_id":{node},"edge_id":{edge}}}"#).into_bytes()
            }
            Self::Vector => {
                let (id, dimensions) = (context.vector_id, context.vector_dimensions);
                format!(r#"{{"operation":"vector","vector_id":{id},"dimensions":{dimensions}}}"#).into_bytes()
            }
            Self::Agent => {
                let mut tags = br#"{"operation":"agent","agent_id":""#.to_vec();
                tags.extend_from_slice(agent);
                tags.extend_from_slice(br#""}"#);
                tags
            }
        }
    }
}

/// What the kernel writes as the description of a link.
pub(super) fn link_description(cause: u64, effect: u64) -> String {
    format!("Causal link: {cause} -> {effect}")
}
