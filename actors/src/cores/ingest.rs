//! What causes stand for, settled once against smaller sequences.

use crate::ledger::Chunk;
use semj_storage::error::ReadError;
use semj_storage::event::{Cause, ResolvedCause};
use uuid::Uuid;

/// Where the core looks up events that came before.
pub trait CauseSource {
    /// The id of event `sequence`, which was given to some event; `None` where damage hides it.
    ///
    /// # Errors
    /// When the record cannot be read.
    fn id_of(&self, sequence: u64) -> Result<Option<Uuid>, ReadError>;

    /// The event that has this id, whatever its sequence.
    ///
    /// # Errors
    /// When the record cannot be read.
    fn find(&self, id: &Uuid) -> Result<Option<u64>, ReadError>;
}

/// The logic of the ingest actor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IngestCore {
    /// Events up to here were handed on.
    cursor: u64,
}

impl IngestCore {
    /// A core that goes on behind event `cursor`.
    pub fn new(cursor: u64) -> Self {
        IngestCore { cursor }
    }

    /// Events up to here were handed on.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Resolves the causes of the next chunk and moves on behind it.
    ///
    /// # Errors
    /// When the record cannot be read; the core has not moved.
    pub fn step(
        &mut self,
        chunk: &Chunk,
        source: &impl CauseSource,
    ) -> Result<Vec<ResolvedCause>, ReadError> {
        assert_eq!(chunk.first_sequence, self.cursor + 1, "chunks are taken in order");
        let mut resolved = Vec::with_capacity(chunk.causes.len());
        let mut causes = chunk.causes.iter();
        for (entry, sequence) in chunk.entries.iter().zip(chunk.first_sequence..) {
            for cause in causes.by_ref().take(usize::from(entry.causes)) {
                resolved.push(match *cause {
                    Cause::Sequence(n) => {
                        assert!(n < sequence, "admission refuses causes that are not given yet");
                        let id = source.id_of(n)?;
                        // The number of an event that damage hides still names it.
                        ResolvedCause { id: id.unwrap_or_default(), sequence: Some(n) }
                    }
                    // An id that no smaller sequence has is foreign, for ever.
                    Cause::Id(id) => {
                        ResolvedCause { id, sequence: source.find(&id)?.filter(|n| *n < sequence) }
                    }
                });
            }
        }
        self.cursor = chunk.last_sequence();
        Ok(resolved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Entry;

    struct Known;
    impl CauseSource for Known {
        fn id_of(&self, sequence: u64) -> Result<Option<Uuid>, ReadError> {
            Ok(Some(Uuid::from_u128(u128::from(sequence))))
        }
        fn find(&self, id: &Uuid) -> Result<Option<u64>, ReadError> {
            Ok(u64::try_from(id.as_u128()).ok())
        }
    }

    #[test]
    fn only_smaller_sequences_are_joined() {
        let entry = |causes| Entry { start: 0, end: 0, causes, type_bit: 0, time: 0, boot_ns: 0, id: None };
        let id = Uuid::from_u128;
        let chunk = Chunk {
            first_sequence: 10,
            entries: vec![entry(0), entry(3)],
            causes: vec![Cause::Sequence(10), Cause::Id(id(7)), Cause::Id(id(11))],
            ..Chunk::default()
        };
        let mut core = IngestCore::new(9);
        let resolved = core.step(&chunk, &Known).unwrap();
        let want = [(10, Some(10)), (7, Some(7)), (11, None)];
        assert_eq!(resolved, want.map(|(n, sequence)| ResolvedCause { id: id(n), sequence }));
        assert_eq!(core.cursor(), 11);
    }
}
