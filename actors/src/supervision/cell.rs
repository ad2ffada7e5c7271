//! An actor that survives its own crashes: the unwind is caught around the actor's future, the actor is rebuilt from its
//! seed in place, and mailbox and addresses stay valid. The death of its lane is reported as the cell is dropped.

use super::policy::{Exit, Verdict};
use super::ward::{Command, Life, Ward};
use actix::dev::ContextFut;
use actix::{Actor, Addr, AsyncContext, Context, Supervised, System};
use semj_storage::chaos::Injected;
use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;
use tokio::time::Sleep;

/// The future of a supervised actor.
pub struct Cell<A: Actor<Context = Context<A>>> {
    actor: ContextFut<A, Context<A>>,
    ward: Arc<Ward>,
    life: Arc<Life>,
    pause: Option<Pin<Box<Sleep>>>,
    is_over: bool,
}

/// What one turn of the actor came to.
enum Turn {
    Waits,
    Died(Exit, String),
}

impl<A: Actor<Context = Context<A>> + Supervised + Unpin> Cell<A> {
    /// Starts `actor`, which does nothing before its first turn, on the current arbiter.
    pub fn start(actor: A, ward: Arc<Ward>, life: Arc<Life>) -> Addr<A> {
        let context = Context::<A>::new();
        let address = context.address();
        let actor = context.into_future(actor);
        if cfg!(feature = "unsupervised") {
            actix_rt::spawn(actor);
            return address;
        }
        actix_rt::spawn(Cell { actor, ward, life, pause: None, is_over: false });
        address
    }

    fn turn(&mut self, cx: &mut TaskContext<'_>) -> Turn {
        if !self.life.progress.begin() {
            return Turn::Waits;
        }
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut self.actor).poll(cx)));
        self.life.progress.end();
        match polled {
            Ok(Poll::Pending) => Turn::Waits,
            Ok(Poll::Ready(())) => match self.life.take_failure() {
                Some(words) => Turn::Died(Exit::Failed, words),
                None => Turn::Died(Exit::Stopped, "it was stopped".into()),
            },
            Err(payload) => {
                let injected = payload.is::<Injected>();
                Turn::Died(Exit::Panicked { injected }, panic_text(payload.as_ref()))
            }
        }
    }

    /// Makes the actor forget everything and begin again; `false` when nobody has its address any more.
    fn restart(&mut self) -> bool {
        // What is dropped with the old value must not take the cell with it.
        catch_unwind(AssertUnwindSafe(|| self.actor.restart())).unwrap_or(true)
    }

    /// Ends for good.
    fn over(&mut self) -> Poll<()> {
        self.is_over = true;
        self.life.progress.fence_dead();
        Poll::Ready(())
    }
}

/// The words of a panic.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> String {
    if let Some(injected) = payload.downcast_ref::<Injected>() {
        return format!("failpoint {}", injected.point);
    }
    let text =
        payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without words").to_owned()
}

impl<A: Actor<Context = Context<A>> + Supervised + Unpin> Future for Cell<A> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            if this.life.progress.is_fenced() {
                return this.over();
            }
            let command = this.life.take_command(cx.waker());
            if let Some(pause) = &mut this.pause {
                if pause.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                this.pause = None;
                if !this.restart() {
                    return this.over();
                }
            }
            let turn = match command {
                Some(Command::Restart) => {
                    if !this.restart() {
                        return this.over();
                    }
                    continue;
                }
                Some(Command::Crash) => {
                    Turn::Died(Exit::Panicked { injected: true }, "it was asked to crash".into())
                }
                Some(Command::Stop) => Turn::Died(Exit::Stopped, "it was asked to stop".into()),
                Some(Command::Hang(time)) => {
                    if this.life.progress.begin() {
                        std::thread::sleep(time);
                        this.life.progress.end();
                    }
                    continue;
                }
                Some(Command::EndLane) => {
                    System::current().stop();
                    return Poll::Pending;
                }
                None => this.turn(cx),
            };
            let (exit, words) = match turn {
                Turn::Waits if this.life.progress.is_fenced() => return this.over(),
                Turn::Waits => return Poll::Pending,
                Turn::Died(exit, words) => (exit, words),
            };
            match this.ward.died(&this.life, exit, &words) {
                Verdict::Restart { after_ns: 0 } => {
                    if !this.restart() {
                        return this.over();
                    }
                }
                Verdict::Restart { after_ns } => {
                    let after = Duration::from_nanos(after_ns as u64);
                    this.pause = Some(Box::pin(tokio::time::sleep(after)));
                }
                Verdict::End | Verdict::GiveUp { .. } => return this.over(),
            }
        }
    }
}

impl<A: Actor<Context = Context<A>>> Drop for Cell<A> {
    fn drop(&mut self) {
        // Dropping the future polls the actor once more: whatever it finds in its mailbox, it must do nothing.
        let was_replaced = self.life.progress.is_fenced();
        self.life.progress.fence_dead();
        if !self.is_over && !was_replaced {
            self.ward.died(&self.life, Exit::LaneEnded, "the thread of its lane ended");
        }
    }
}
