//! An actor that survives its own panics: the unwind is caught around the actor's future, the actor is rebuilt from its
//! seed in place, and mailbox and addresses stay valid.

use actix::dev::ContextFut;
use actix::{Actor, Addr, AsyncContext, Context, Supervised};
use crossbeam_channel::Sender;
use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

/// Which actor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// Cuts chunks from the ledger and resolves causes.
    Ingest,
    /// Packs batches.
    Batcher,
    /// Writes and syncs.
    Persister,
    /// Keeps the trees.
    Indexer,
}

impl Role {
    /// The role's name in messages and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Role::Ingest => "ingest",
            Role::Batcher => "batcher",
            Role::Persister => "persister",
            Role::Indexer => "indexer",
        }
    }

    /// All roles.
    pub const ALL: [Role; 4] = [Role::Ingest, Role::Batcher, Role::Persister, Role::Indexer];
}

/// The report of a death.
#[derive(Clone, Debug)]
pub struct Obituary {
    /// Who.
    pub role: Role,
    /// The panic's words, or how it ended.
    pub cause: String,
    /// Whether the actor lives again.
    pub restarted: bool,
}

/// An actor that can be rebuilt from what outlives it.
pub trait Recover: Actor<Context = Context<Self>> + Supervised + Unpin + Sized {
    /// What outlives an incarnation.
    type Seed: Clone + Send + Unpin + 'static;
    /// Its role.
    const ROLE: Role;
    /// A new incarnation.
    fn recover(seed: Self::Seed) -> Self;
}

/// The future of a supervised actor.
pub struct Cell<A: Recover> {
    actor: ContextFut<A, Context<A>>,
    obituaries: Sender<Obituary>,
}

impl<A: Recover> Cell<A> {
    /// Starts the actor on the current arbiter.
    pub fn start(seed: A::Seed, obituaries: Sender<Obituary>) -> Addr<A> {
        let context = Context::<A>::new();
        let address = context.address();
        let cell = Cell { actor: context.into_future(A::recover(seed)), obituaries };
        actix_rt::spawn(cell);
        address
    }

    fn report(&self, cause: String, restarted: bool) {
        let _ = self.obituaries.send(Obituary { role: A::ROLE, cause, restarted });
    }
}

/// The words of a panic.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text =
        payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without words").to_owned()
}

impl<A: Recover> Future for Cell<A> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            let cause = match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut this.actor).poll(cx))) {
                Ok(Poll::Pending) => return Poll::Pending,
                // Its addresses are gone, or it was asked to stop: the end, not a crash.
                Ok(Poll::Ready(())) => return Poll::Ready(()),
                Err(payload) => panic_text(payload.as_ref()),
            };
            // A panic while rebuilding would take the cell with it.
            match catch_unwind(AssertUnwindSafe(|| this.actor.restart())) {
                Ok(true) => this.report(cause, true),
                Ok(false) => return Poll::Ready(()),
                Err(payload) => {
                    let again = panic_text(payload.as_ref());
                    this.report(format!("{cause}; then, while it was rebuilt: {again}"), false);
                    return Poll::Ready(());
                }
            }
        }
    }
}
