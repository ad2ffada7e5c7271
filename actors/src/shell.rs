//! The actix actor around a stage: it carries messages in and effects out, and decides nothing.

use crate::error::StageError;
use crate::mail::Route;
use crate::stages::{
    BatcherStage, Birth, Effect, IndexerStage, IngestStage, KernelSyncStage, On, PersisterStage, Stage, Timer,
};
use crate::supervision::{Cell, Life, Ward};
use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, Supervised,
    WrapFuture,
};
use std::sync::Arc;

/// The ways to all actors. The addresses behind them change when a lane is replaced.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    pub(crate) ingest: Route<StageActor<IngestStage>>,
    pub(crate) batcher: Route<StageActor<BatcherStage>>,
    pub(crate) persister: Route<StageActor<PersisterStage>>,
    pub(crate) indexer: Route<StageActor<IndexerStage>>,
    pub(crate) kernel_sync: Route<StageActor<KernelSyncStage>>,
}

impl Routes {
    /// They lead nowhere from now on.
    pub(crate) fn clear(&self) {
        self.ingest.clear();
        self.batcher.clear();
        self.persister.clear();
        self.indexer.clear();
        self.kernel_sync.clear();
    }
}

/// See the module.
pub(crate) struct StageActor<S: Stage> {
    seed: S::Seed,
    routes: Arc<Routes>,
    life: Arc<Life>,
    /// `None` before its first turn, and between a crash and the next turn.
    stage: Option<S>,
    is_restart: bool,
    out: Vec<Effect>,
}

impl<S: Stage> StageActor<S> {
    /// Starts the actor on the current arbiter. Nothing that may fail is done before its first turn.
    pub(crate) fn start(seed: S::Seed, routes: Arc<Routes>, ward: Arc<Ward>, life: Arc<Life>) -> Addr<Self> {
        let actor = StageActor {
            seed,
            routes,
            is_restart: life.is_restart,
            life: life.clone(),
            stage: None,
            out: Vec::new(),
        };
        Cell::start(actor, ward, life)
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
            self.life.fail(words);
            ctx.terminate();
        }
    }

    fn carry_out(&mut self, ctx: &mut Context<Self>) {
        for effect in std::mem::take(&mut self.out) {
            match effect {
                Effect::Batch(range) => self.routes.batcher.send(range),
                Effect::Commit(batch) => self.routes.persister.send(batch),
                Effect::After(time, timer) => {
                    ctx.run_later(time, move |actor, ctx| actor.time_passed(timer, ctx));
                }
                Effect::Yield(timer) => {
                    let turn = tokio::task::yield_now().into_actor(self);
                    ctx.spawn(turn.map(move |(), actor: &mut Self, ctx| actor.time_passed(timer, ctx)));
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
