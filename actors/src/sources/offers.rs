//! Which sources there are, and whether this machine has them.

use super::{SemjTail, Unavailable};

/// A kind of source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    /// What it is called.
    pub name: &'static str,
    /// What it sees.
    pub sees: &'static str,
    /// What it does not see, or cannot tell.
    pub misses: &'static str,
    /// Why it cannot be had here and now; found by trying.
    pub unavailable: Option<Unavailable>,
}

/// All kinds of sources, the best first. Each is tried.
pub fn offers() -> Vec<Offer> {
    vec![SemjTail::offer()]
}

impl SemjTail {
    /// What it is. It can be had wherever there are files.
    pub fn offer() -> Offer {
        Offer {
            name: "semj_tail",
            sees: "records that another program writes to a file, a FIFO or a block device",
            misses: "whatever that program leaves out",
            unavailable: None,
        }
    }
}
