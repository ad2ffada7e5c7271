//! What causes stand for: events in the ledger first, then those in the record.

use crate::cores::CauseSource;
use crate::pipeline::Pipeline;
use semj_storage::error::ReadError;
use semj_storage::log::entry::derived_sequence;
use std::ops::ControlFlow;
use uuid::Uuid;

/// Looks causes up in the ledger first, then in the record.
pub(crate) struct Resolver<'a>(pub(crate) &'a Pipeline);

impl CauseSource for Resolver<'_> {
    fn id_of(&self, sequence: u64) -> Result<Option<Uuid>, ReadError> {
        if let Some(given) = self.0.ledger.id_of(sequence) {
            return Ok(Some(given.unwrap_or_else(|| self.0.derived_id(sequence))));
        }
        let mut id = None;
        let read = self.0.segments.read(sequence, sequence, &mut |entry| {
            id = Some(entry.id());
            ControlFlow::Continue(())
        });
        match read {
            Err(e) if !e.is_damage() => Err(e),
            _ => Ok(id),
        }
    }

    fn find(&self, id: &Uuid) -> Result<Option<u64>, ReadError> {
        // An id that this run derived is answered by arithmetic.
        if let Some(sequence) = derived_sequence(id)
            && sequence > self.0.opened_at
            && self.0.derived_id(sequence) == *id
        {
            return Ok(Some(sequence));
        }
        Ok(self.0.ledger.find_id(id, self.0.watermark.durable())?.map(|known| known.sequence))
    }
}
