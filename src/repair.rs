//! What can safely be done about a journal that is not as it should be.

use crate::{Error, Options};
use std::path::Path;
use std::time::Duration;

/// Repairs what can be repaired and tells what was done, a sentence each. Nothing is ever deleted: damaged and torn
/// bytes are copied to `quarantine/`, and the range that is lost is written into the record.
///
/// # Errors
/// As opening, and what the disk can bring.
pub fn repair(path: &Path) -> Result<Vec<String>, Error> {
    let before = crate::Journal::open_read_only(path)?.verify(crate::VerifyLevel::Full)?;
    let journal = Options::default().create(false).open(path)?;
    let mut done = Vec::new();
    if let Some(torn) = &before.record.torn_tail {
        let file = torn.segment.file_name().unwrap_or_default().to_string_lossy().into_owned();
        done.push(format!("{} torn bytes at the end of {file} were set aside in quarantine/", torn.length));
    }
    for damage in &before.record.damage {
        let place = journal.set_damage_aside(damage)?;
        done.push(format!("{damage}: the bytes were copied to {}", place.display()));
    }
    if before.trees == "missing" || before.trees == "stale" {
        done.push("the trees are being built again from the record; queries are right meanwhile".into());
    }
    journal.close(Duration::from_secs(60))?;
    Ok(done)
}
