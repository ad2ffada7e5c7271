//! How much a decoder may allocate.

/// Calls `decode` and asserts that it allocated no more than a few times what it was given: a size in the bytes is
/// believed only as far as there are bytes.
pub fn within<T>(input: usize, decode: impl FnOnce() -> T) -> T {
    let mut answer = None;
    let info = allocation_counter::measure(|| answer = Some(decode()));
    let limit = 2 * input as u64 + 4_096;
    assert!(info.bytes_max <= limit, "{} bytes allocated for an input of {input}", info.bytes_max);
    answer.unwrap_or_else(|| unreachable!("it was called"))
}
