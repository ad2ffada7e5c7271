//! What a source has queued to be handed out, and the points that lie between.

use super::Item;
use std::collections::VecDeque;

/// One of them.
#[derive(Debug)]
pub(super) enum Ready {
    Item(Item),
    /// Everything before this point was handed out.
    Passed(u64),
}

/// Hands out up to `max` items, and moves `passed` over the points between them.
pub(super) fn hand_out(ready: &mut VecDeque<Ready>, passed: &mut u64, max: usize, out: &mut Vec<Item>) {
    let mut given = 0;
    while given < max
        && let Some(next) = ready.pop_front()
    {
        match next {
            Ready::Item(item) => {
                out.push(item);
                given += 1;
            }
            Ready::Passed(number) => *passed = number,
        }
    }
}
