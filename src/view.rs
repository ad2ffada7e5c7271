//! Reading, the same for an owner and for a reader beside it.

use crate::Error;
use semj_storage::error::ReadError;
use semj_storage::event::{Cause, Recorded};
use semj_storage::query::{EventSource, Graph, Query, QueryRun, WalkLimits, impact, why};
use semj_storage::trees::Index;
use std::ops::ControlFlow;
use std::sync::Arc;

/// All that was durable at one moment, with the index where there is one.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) source: Arc<dyn EventSource>,
    pub(crate) index: Option<Arc<Index>>,
}

/// The events of an answer, one by one.
#[derive(Debug)]
pub struct Events(QueryRun);

impl Events {
    /// How many sequences were passed over so far because they could not be read.
    pub fn damage_skipped(&self) -> u64 {
        self.0.damage_skipped()
    }

    /// The damage that was passed over so far: its first 64 spots.
    pub fn damage_passed(&self) -> &[crate::Damage] {
        self.0.damage_passed()
    }
}

impl Iterator for Events {
    type Item = Result<Recorded, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|item| item.map_err(Error::from))
    }
}

impl View {
    pub(crate) fn run(&self, query: Query) -> Events {
        Events(QueryRun::new(self.source.clone(), self.index.clone(), query))
    }

    pub(crate) fn count(&self, query: Query) -> Result<u64, Error> {
        Ok(QueryRun::new(self.source.clone(), self.index.clone(), query).count_matches()?)
    }

    pub(crate) fn sequence_of(&self, event: Cause) -> Result<Option<u64>, Error> {
        Ok(match event {
            Cause::Sequence(n) => {
                (self.source.first_sequence()..=self.source.last_sequence()).contains(&n).then_some(n)
            }
            Cause::Id(id) => self.source.find_id(&id)?,
        })
    }

    pub(crate) fn get(&self, event: Cause) -> Result<Option<Recorded>, Error> {
        let Some(sequence) = self.sequence_of(event)? else { return Ok(None) };
        let mut found = None;
        self.source.read(sequence, sequence, &mut |entry| {
            found = entry.event().map(|e| entry.recorded(e));
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    fn walk(
        &self,
        event: Cause,
        limits: WalkLimits,
        walk: impl Fn(&dyn EventSource, Option<&Index>, u64, WalkLimits) -> Result<Option<Graph>, ReadError>,
    ) -> Result<Graph, Error> {
        let missing = || {
            Error::NoSuchEvent(match event {
                Cause::Sequence(n) => n.to_string(),
                Cause::Id(id) => id.to_string(),
            })
        };
        let start = self.sequence_of(event)?.ok_or_else(missing)?;
        walk(self.source.as_ref(), self.index.as_deref(), start, limits)?.ok_or_else(missing)
    }

    pub(crate) fn why(&self, event: Cause, limits: WalkLimits) -> Result<Graph, Error> {
        self.walk(event, limits, why)
    }

    pub(crate) fn impact(&self, event: Cause, limits: WalkLimits) -> Result<Graph, Error> {
        self.walk(event, limits, impact)
    }
}
