//! Events to JSON: one line each, valid as input again.

use super::Recorded;

/// The event as one line of JSON, without the line feed.
pub fn to_json(_event: &Recorded) -> String {
    String::new()
}
