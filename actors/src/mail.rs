//! Doorbells: contentless messages that say "look at the ledger", at most one of them under way per receiver.

use crate::sync::{AtomicBool, Ordering, RwLock};
use std::fmt;

type Ring = Box<dyn Fn() + Send + Sync>;

/// A doorbell. It outlives the actor behind it; a new incarnation clears it when it starts.
#[derive(Default)]
pub struct Bell {
    armed: AtomicBool,
    ring: RwLock<Option<Ring>>,
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bell(armed: {})", self.armed.load(Ordering::Relaxed))
    }
}

impl Bell {
    /// Tells where the bell rings.
    pub fn connect(&self, ring: impl Fn() + Send + Sync + 'static) {
        *self.ring.write() = Some(Box::new(ring));
    }

    /// Rings, unless a ring is under way already.
    pub fn ring(&self) {
        if !self.armed.swap(true, Ordering::SeqCst)
            && let Some(ring) = self.ring.read().as_ref()
        {
            ring();
        }
    }

    /// The receiver heard it; from now on the next ring gets through. Call before looking at the ledger.
    pub fn heard(&self) {
        self.armed.store(false, Ordering::SeqCst);
    }
}
