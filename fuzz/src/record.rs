//! Records: what decodes encodes to the same bytes, by way of its fields and by way of its JSON.

use super::{allocated, mend};
use semj_storage::kernel::{Kind, Record, bytes_of, show};

/// Checks the bytes as they are, and as a whole record.
///
/// # Panics
/// When something is not true.
pub fn check(data: &[u8]) {
    as_it_is(data);
    let whole = mend::record(data);
    assert!(as_it_is(&whole), "a mended record is whole");
}

fn as_it_is(bytes: &[u8]) -> bool {
    let Ok((record, used)) = allocated::within(bytes.len(), || Record::decode(bytes)) else { return false };
    let own = &bytes[..used];
    assert!(record.to_bytes().as_deref() == Ok(own), "a record that decodes encodes to its bytes");
    let (text, shown) = show(Kind::Event, bytes, true, false).expect("what decodes can be shown");
    let object = serde_json::from_str(&text).expect("it is shown as JSON");
    let back = bytes_of(&object).expect("what is shown in full can be written");
    assert!(shown == used && back == own, "a record comes back from its JSON");
    true
}
