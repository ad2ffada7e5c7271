//! The full check of a record: every byte that should be something is looked at. It reports, and never stops at damage.

use crate::backend::{Backend, OpenMode};
use crate::error::{Damage, ReadError};
use crate::log::{ChainValue, LockInfo, SegmentCheck, TornTail, check_segment, genesis, inspect, is_sealed};
use std::path::Path;

/// How much is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VerifyLevel {
    /// Headers and chain links; block bodies are not read.
    Quick,
    /// Every checksum and every hash.
    Full,
    /// Also every event is decoded, and what block headers tell of their events is computed again.
    Deep,
}

/// What a check found.
#[derive(Clone, Debug)]
pub struct VerifyReport {
    /// No damage.
    pub intact: bool,
    /// Events that are whole.
    pub events: u64,
    /// The last event.
    pub head_sequence: u64,
    /// The chain after it.
    pub head_chain: ChainValue,
    /// What cannot be trusted.
    pub damage: Vec<Damage>,
    /// Bytes behind the last commit that were never acknowledged.
    pub torn_tail: Option<TornTail>,
}

/// Checks the record in `folder` (the journal's `segments/`). With a live owner only what is durable is looked at.
///
/// `progress` is called with the number of bytes read so far and in all.
///
/// # Errors
/// When files cannot be read at all, or are of a newer format.
pub fn verify(
    backend: &dyn Backend,
    folder: &Path,
    lock: Option<&LockInfo>,
    owned: bool,
    level: VerifyLevel,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<VerifyReport, ReadError> {
    let watermark = lock.filter(|_| owned).and_then(|l| l.watermark);
    let found = match watermark {
        Some(_) => None,
        None => Some(inspect(backend, folder, lock)?),
    };
    let journal = found.as_ref().map_or(lock.map(|l| l.journal), |f| f.journal);
    let last = found.as_ref().map_or(watermark.map_or(0, |w| w.durable), |f| f.last_sequence);
    let cut = |path: &Path| found.as_ref().is_some_and(|f| f.cuts.iter().any(|c| c.segment == path));
    let stillborn = |first: &u64| found.as_ref().is_some_and(|f| f.stillborn.contains(first));
    let mut report = VerifyReport {
        intact: true,
        events: 0,
        head_sequence: last,
        head_chain: [0; 32],
        damage: Vec::new(),
        torn_tail: found.as_ref().and_then(|f| f.torn.clone()),
    };
    let Some(journal) = journal else { return Ok(report) };
    report.head_chain = genesis(&journal);
    let mut segments = Vec::new();
    let mut total = 0;
    for (first, path) in crate::log::segment_files(backend, folder)? {
        if watermark.is_some() && first > last {
            // Begun by the owner, perhaps this very moment: nothing durable is in it, not even its header.
            break;
        }
        let file =
            backend.open(&path, OpenMode::Read).map_err(|e| ReadError::io(&path, "open the segment", e))?;
        let len = file.len().map_err(|e| ReadError::io(&path, "measure the segment", e))?;
        total += len;
        if stillborn(&first) {
            // Nothing was ever committed in it; the next owner removes it.
            continue;
        }
        segments.push((first, path, file, len));
    }
    let (mut expected, mut chain) = (1, Some(report.head_chain));
    let mut done = 0;
    for (at, (first, path, file, len)) in segments.iter().enumerate() {
        let following = segments.get(at + 1).map(|(f, ..)| *f);
        let end = following.map_or(last, |f| (f - 1).min(last));
        if *first > expected {
            report.damage.push(Damage {
                segment: path.clone(),
                offset: 0,
                length: 0,
                first_sequence: expected,
                last_sequence: first - 1,
                reason: format!("the segments before this one end at event {}", expected - 1),
            });
            chain = None;
        }
        // A live owner is still writing behind the last event: commits in the last segment, the seal in others. What
        // was the last one when the watermark was read may be sealed by now, with events behind that watermark.
        let growing =
            watermark.is_some() && (following.is_none() || !is_sealed(backend, folder, journal, *first)?);
        let check = SegmentCheck {
            journal,
            first: *first,
            end,
            path,
            file: file.as_ref(),
            len: *len,
            chain_before: chain,
            level,
            // What is cut was never committed.
            tail_is_open: growing || cut(path),
            finished: following.is_some(),
            owned: watermark.is_some(),
        };
        let outcome = check_segment(&check, &mut |bytes| progress(done + bytes, total))?;
        done += len;
        report.events += outcome.events;
        report.damage.extend(outcome.damage);
        report.torn_tail = report.torn_tail.or(outcome.torn);
        chain = outcome.chain;
        expected = end.max(first - 1) + 1;
        report.head_chain = chain.unwrap_or(report.head_chain);
    }
    // What the inspection found and the walk could not see: a missing end.
    let mut unseen = found.as_ref().map(|f| f.damage.clone()).unwrap_or_default();
    unseen.retain(|d| !report.damage.iter().any(|r| r.segment == d.segment && r.offset == d.offset));
    report.damage.extend(unseen);
    report.intact = report.damage.is_empty();
    Ok(report)
}
