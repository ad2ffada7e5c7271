//! Opens the trees on a thread that may be lost, and opens them anew when they are missing, stale or broken.

use crate::pipeline::Pipeline;
use parking_lot::Mutex;
use semj_storage::log::LogView;
use semj_storage::trees::{Index, TreeError, Trees};
use std::path::PathBuf;
use std::sync::Arc;

/// An opening that takes longer than this hangs, ns.
const OPEN_DEADLINE_NS: i64 = 10_000_000_000;
/// Openings tried before queries are left to scanning.
const ATTEMPTS_MAX: u32 = 4;

#[derive(Debug, Default)]
struct State {
    /// The opening under way: its number and when it began.
    opening: Option<(u32, i64)>,
    attempts: u32,
}

/// Keeps the trees usable. All of it may fail: queries then scan.
#[derive(Debug)]
pub struct TreeKeeper {
    index: Arc<Index>,
    /// Where the trees lie; `None` where there are no real files.
    folder: Option<PathBuf>,
    state: Mutex<State>,
}

impl TreeKeeper {
    /// A keeper of the trees in `folder`.
    pub fn new(folder: Option<PathBuf>) -> Self {
        TreeKeeper { index: Arc::new(Index::new()), folder, state: Mutex::default() }
    }

    /// The index.
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// The thread that fed the trees is lost, perhaps inside one of their calls: they are opened anew.
    pub fn abandon(&self) {
        self.index.fail(TreeError::Hung);
    }

    /// Whether the trees are in use or may still come into use.
    pub fn has_hope(&self) -> bool {
        let state = self.state.lock();
        self.folder.is_some()
            && (self.index.has_trees() || state.opening.is_some() || state.attempts < ATTEMPTS_MAX)
    }

    /// Whether the trees may be fed now. Where not, an opening is begun if none is under way; its end rings the bell.
    pub fn ready(self: &Arc<Self>, pipeline: &Arc<Pipeline>) -> bool {
        if self.index.has_trees() {
            return true;
        }
        let Some(folder) = self.folder.clone() else { return false };
        let now = pipeline.clock().boot_ns();
        let mut state = self.state.lock();
        let hangs = match state.opening {
            Some((_, since)) if now - since < OPEN_DEADLINE_NS => return false,
            Some(_) => true,
            None => false,
        };
        if state.attempts >= ATTEMPTS_MAX {
            return false;
        }
        state.attempts += 1;
        let number = state.attempts;
        state.opening = Some((number, now));
        drop(state);
        // Trees that failed are dropped on that thread, too: that calls into sled again.
        let failed = self.index.take_failed();
        let aside = hangs || self.index.needs_rebuild();
        let (keeper, pipeline) = (self.clone(), Arc::downgrade(pipeline));
        let open = move || {
            drop(failed);
            let install = |anew: bool| {
                if anew {
                    let aside = folder.with_extension(format!("aside-{number}"));
                    let _ = std::fs::remove_dir_all(&aside);
                    Trees::set_aside(&folder, &aside)?;
                    // Projections only: nothing in them is worth keeping.
                    let _ = std::fs::remove_dir_all(&aside);
                }
                let trees = Trees::open(&folder)?;
                let Some(pipeline) = pipeline.upgrade() else { return Ok(0) };
                let view = LogView::new(pipeline.segments().clone(), pipeline.watermark().durable());
                keeper.index.install(trees, &view)
            };
            if install(aside).is_err() {
                let _ = install(true);
            }
            let mut state = keeper.state.lock();
            if state.opening.is_some_and(|(n, _)| n == number) {
                state.opening = None;
            }
            drop(state);
            if let Some(pipeline) = pipeline.upgrade() {
                pipeline.bells.index.ring();
            }
        };
        if std::thread::Builder::new().name("semj-trees".into()).spawn(open).is_err() {
            self.state.lock().opening = None;
        }
        false
    }
}
