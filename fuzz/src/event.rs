//! A record becomes an event of the journal, is stored, and becomes the same record again.

use super::mend;
use semj_storage::event::{decode_body, encode_body};
use semj_storage::kernel::{Instance, event_of, restore, set_wall_time, split_id};

/// Checks the whole record that the bytes make.
///
/// # Panics
/// When something is not true.
pub fn check(data: &[u8]) {
    let record = mend::record(data);
    let instance = Instance::named("fuzz");
    let mut event = event_of(&record, &instance).expect("a whole record is an event");
    event.check_limits().expect("within the limits of events");
    let id = event.given_id().expect("with an id");
    let number = u64::from_le_bytes(record[..8].try_into().expect("eight bytes"));
    assert_eq!(split_id(id), Some((instance.bits(), number)));
    if data.len() & 1 == 1 {
        set_wall_time(&mut event, number.cast_signed());
    }
    let mut body = Vec::new();
    encode_body(&event, &mut body).expect("an event within its limits can be stored");
    let stored = decode_body(&body).expect("and read");
    let mut again = Vec::new();
    assert_eq!(restore(&stored, id, &[], &mut again), Some(number));
    assert!(again == record, "the record leaves byte for byte");
}
