//! The actix actor around a stage: it carries messages in and effects out, and decides nothing.

use crate::error::StageError;
use crate::mail::Route;
use crate::stages::{BatcherStage, Birth, Effect, On, PersisterStage, Stage, Timer};
use crate::supervision::{Cell, Life, Supervisable, Ward};
use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, Supervised,
    WrapFuture,
};
use parking_lot::Mutex;
use std::sync::Arc;

/// Where effects go. The addresses behind it change when a lane is replaced.
#[derive(Debug, Default)]
pub struct Routes {
    /// The batcher.
    pub batcher: Route<StageActor<BatcherStage>>,
    /// The persister.
    pub persister: Route<StageActor<PersisterStage>>,
}

/// See the module.
pub struct StageActor<S: Stage> {
    seed: S::Seed,
    routes: Arc<Routes>,
    life: Arc<Life>,
    /// `None` before its first turn, and between a crash and the next turn.
    stage: Option<S>,
    is_restart: bool,
    failure: Arc<Mutex<Option<String>>>,
    out: Vec<Effect>,
}

impl<S: Stage> StageActor<S> {
    /// Starts the actor on the current arbiter. Nothing that may fail is done before its first turn.
    pub fn start(seed: S::Seed, routes: Arc<Routes>, ward: Arc<Ward>, life: Arc<Life>) -> Addr<Self> {
        let failure = Arc::new(Mutex::new(None));
        let actor = StageActor {
            seed,
            routes,
            is_restart: life.is_restart,
            life: life.clone(),
            stage: None,
            failure: failure.clone(),
            out: Vec::new(),
        };
        Cell::start(actor, failure, ward, life)
    }

    /// Lets the stage do something, unless this incarnation was replaced, and carries out what it wants.
    fn step(
        &mut self,
        ctx: &mut Context<Self>,
        step: impl FnOnce(&mut S, &mut Vec<Effect>) -> Result<(), StageError>,
    ) {
        let Some(stage) = self.stage.as_mut().filter(|_| self.life.progress.tick()) else { return };
        self.out.clear();
        let stepped = step(stage, &mut self.out);
        self.carry_out(ctx);
        self.settle(stepped, ctx);
    }

    fn settle(&mut self, outcome: Result<(), StageError>, ctx: &mut Context<Self>) {
        if let Err(StageError(words)) = outcome {
            *self.failure.lock() = Some(words);
            ctx.terminate();
        }
    }

    fn carry_out(&mut self, ctx: &mut Context<Self>) {
        for effect in self.out.drain(..) {
            match effect {
                Effect::Batch(range) => self.routes.batcher.send(range),
                Effect::Commit(batch) => self.routes.persister.send(batch),
                Effect::After(time, timer) => {
                    ctx.run_later(time, move |actor, ctx| actor.time_passed(timer, ctx));
                }
                Effect::Yield(timer) => {
                    let turn = tokio::task::yield_now().into_actor(self);
                    ctx.spawn(turn.map(move |(), actor, ctx| actor.time_passed(timer, ctx)));
                }
            }
        }
    }

    fn time_passed(&mut self, timer: Timer, ctx: &mut Context<Self>) {
        self.step(ctx, |stage, out| stage.timer(timer, out));
    }
}

impl<S: Stage> Actor for StageActor<S> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        if !self.life.progress.tick() {
            return;
        }
        let birth = Birth { progress: self.life.progress.clone(), is_restart: self.is_restart };
        self.is_restart = true;
        match S::recover(&self.seed, birth) {
            Ok(stage) => self.stage = Some(stage),
            Err(e) => return self.settle(Err(e), ctx),
        }
        self.step(ctx, S::start);
    }
}

impl<S: Stage> Supervised for StageActor<S> {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.stage = None;
        self.out.clear();
    }
}

impl<S: Stage> Supervisable for StageActor<S> {
    fn take_failure(&mut self) -> Option<String> {
        self.failure.lock().take()
    }
}

impl<S, M> Handler<M> for StageActor<S>
where
    S: On<M>,
    M: Message<Result = ()> + Send + 'static,
{
    type Result = ();
    fn handle(&mut self, message: M, ctx: &mut Context<Self>) {
        self.step(ctx, |stage, out| stage.on(message, out));
    }
}
