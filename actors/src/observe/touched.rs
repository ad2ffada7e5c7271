//! What a call touched, path by path.

use crate::sources::{KernelRecord, Op};
use std::collections::BTreeMap;

/// Most paths that are told one by one; beyond it only the counts go on.
const PATHS_MAX: usize = 100_000;

/// What was done to one path, in the order in which each was first done.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Done {
    /// Each kind of effect, and how often.
    pub ops: Vec<(Op, u64)>,
    /// Where it was last moved to; empty where it was not.
    pub target: Vec<u8>,
}

/// Everything that was touched.
#[derive(Clone, Debug, Default)]
pub struct Touched {
    /// By path, in the order of paths.
    pub paths: BTreeMap<Vec<u8>, Done>,
    /// Each kind of effect, and how often, whatever the path.
    pub ops: Vec<(Op, u64)>,
    /// There were more paths than are kept.
    pub is_cut: bool,
}

impl Touched {
    /// Takes an effect in.
    pub fn add(&mut self, record: &KernelRecord) {
        count(&mut self.ops, record.op);
        let path = record.path.any();
        if self.paths.len() >= PATHS_MAX && !self.paths.contains_key(path) {
            self.is_cut = true;
            return;
        }
        let done = self.paths.entry(path.to_vec()).or_default();
        count(&mut done.ops, record.op);
        if record.op == Op::Rename {
            done.target.clone_from(&record.path.target);
        }
    }

    /// How many effects.
    pub fn effects(&self) -> u64 {
        self.ops.iter().map(|(_, n)| n).sum()
    }
}

fn count(ops: &mut Vec<(Op, u64)>, op: Op) {
    match ops.iter_mut().find(|(o, _)| *o == op) {
        Some((_, n)) => *n += 1,
        None => ops.push((op, 1)),
    }
}
