//! The difference between two byte strings of one length, as runs of other bytes: what makes a record exact that the
//! fields of an event reproduce but for a few bytes.
//!
//! A run is the number of equal bytes before it and its length, both LEB128, and its bytes.

/// Equal bytes that are cheaper to repeat than to leave out.
const GAP_MIN: usize = 3;

/// The runs that turn `from` into `to`; empty where they are equal. Both have one length.
pub(super) fn diff(from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut done, mut at) = (0, 0);
    while let Some(next) = next_difference(from, to, at) {
        let mut end = next + 1;
        // Goes on until enough bytes in a row are equal.
        let mut equal = 0;
        while equal < GAP_MIN {
            match (from.get(end + equal), to.get(end + equal)) {
                (Some(a), Some(b)) if a == b => equal += 1,
                (Some(_), Some(_)) => {
                    end += equal + 1;
                    equal = 0;
                }
                _ => break,
            }
        }
        number(next - done, &mut out);
        number(end - next, &mut out);
        out.extend_from_slice(to.get(next..end).unwrap_or_default());
        (done, at) = (end, end);
    }
    out
}

/// The first place at or behind `at` where the two differ; whole pieces are compared at once.
fn next_difference(from: &[u8], to: &[u8], at: usize) -> Option<usize> {
    const PIECE: usize = 256;
    let (from, to) = (from.get(at..)?, to.get(at..)?);
    let mut before = at;
    for (a, b) in from.chunks(PIECE).zip(to.chunks(PIECE)) {
        if a != b {
            return a.iter().zip(b).position(|(x, y)| x != y).map(|i| before + i);
        }
        before += a.len();
    }
    None
}

/// Puts the runs of a patch over `bytes`; `None` where they do not fit, `bytes` then being of no use.
pub(super) fn apply(patch: &[u8], bytes: &mut [u8]) -> Option<()> {
    let (mut rest, mut at) = (patch, 0usize);
    while !rest.is_empty() {
        let (gap, after) = take_number(rest)?;
        let (length, after) = take_number(after)?;
        let (run, after) = after.split_at_checked(length)?;
        at = at.checked_add(gap)?;
        let end = at.checked_add(length)?;
        bytes.get_mut(at..end)?.copy_from_slice(run);
        (rest, at) = (after, end);
    }
    Some(())
}

fn number(mut n: usize, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn take_number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut n = 0usize;
    for (i, byte) in bytes.iter().take(4).enumerate() {
        n |= usize::from(byte & 0x7F) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((n, bytes.get(i + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equal_bytes_need_no_patch_and_one_byte_needs_three() {
        assert!(diff(&[5; 9000], &[5; 9000]).is_empty());
        let mut other = [5; 9000];
        other[7000] = 6;
        assert_eq!(diff(&[5; 9000], &other).len(), 2 + 1 + 1);
    }

    proptest! {
        #[test]
        fn what_differs_comes_back(
            from in proptest::collection::vec(0u8..3, 0..600),
            changes in proptest::collection::vec((0usize..600, 0u8..3), 0..60),
        ) {
            let mut to = from.clone();
            for (at, value) in changes {
                if let Some(byte) = to.get_mut(at) {
                    *byte = value;
                }
            }
            let mut made = from.clone();
            prop_assert_eq!(apply(&diff(&from, &to), &mut made), Some(()));
            prop_assert_eq!(made, to);
        }

        #[test]
        fn noise_is_refused_or_applied_within_bounds(patch: Vec<u8>, mut bytes: Vec<u8>) {
            let _ = apply(&patch, &mut bytes);
        }
    }
}
