//! Doorbells: contentless messages that say "look at the ledger", at most one of them under way per receiver.

use crate::sync::{AtomicBool, Ordering, RwLock};
use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Handler, Message};
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

/// The way to an actor that may be replaced: the address behind it changes. What is sent while there is none is gone,
/// which costs nothing, since work lies in the ledger.
pub(crate) struct Route<A: Actor>(RwLock<Option<Addr<A>>>);

impl<A: Actor> Default for Route<A> {
    fn default() -> Self {
        Route(RwLock::new(None))
    }
}

impl<A: Actor> fmt::Debug for Route<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Route(set: {})", self.0.read().is_some())
    }
}

impl<A: Actor> Route<A> {
    /// Leads to `address` from now on.
    pub(crate) fn set(&self, address: Addr<A>) {
        *self.0.write() = Some(address);
    }

    /// Leads nowhere from now on.
    pub(crate) fn clear(&self) {
        *self.0.write() = None;
    }

    /// Sends a message.
    pub(crate) fn send<M>(&self, message: M)
    where
        M: Message + Send + 'static,
        M::Result: Send,
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
    {
        if let Some(address) = self.0.read().as_ref() {
            address.do_send(message);
        }
    }
}
