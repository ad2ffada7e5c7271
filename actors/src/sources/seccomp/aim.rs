//! What a call would do, and whether it did: judged by what was at its places before and what is there after.
//!
//! A call's end is not told; its traces are. What is there after a caller has gone on, and what is not, is proof as long as
//! nobody else changes the same place in between. Others of the same tool cannot: their calls wait, too.

use super::place::{Look, State};
use crate::sources::Op;
use rustix::fs::FileType;

/// What a call would do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Aim {
    /// Make something at the first place.
    Make,
    /// Give the object at the second place a name at the first.
    Link,
    /// Remove what is at the first place.
    Remove,
    /// Move what is at the first place to the second.
    Rename,
    /// Empty the file at the first place.
    Cut,
    /// Change the object at the first place in this way.
    Change(Op),
}

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Judgement {
    /// Its effect is there.
    Done,
    /// Nothing has changed.
    Nothing,
    /// What is there could be its effect, or not.
    Unclear,
}

/// What was seen at the first place and at the second.
pub(super) type Looks = [Look; 2];

/// The verdict before the call is made, where it cannot but fail, or where nothing can be seen.
pub(super) fn at_entry(aim: Aim, before: Looks) -> Option<Judgement> {
    let [first, second] = before;
    match (aim, first) {
        (_, Look::Hidden) => Some(Judgement::Unclear),
        (Aim::Make | Aim::Link, Look::There(_)) => Some(Judgement::Nothing),
        (Aim::Make, Look::Absent) => None,
        (Aim::Link, Look::Absent) if second == Look::Absent => Some(Judgement::Nothing),
        (Aim::Link, Look::Absent) => None,
        (Aim::Remove | Aim::Rename | Aim::Cut | Aim::Change(_), Look::Absent) => Some(Judgement::Nothing),
        (Aim::Remove | Aim::Rename | Aim::Cut | Aim::Change(_), Look::There(_)) => None,
    }
}

/// The verdict on what is there now. `is_fresh`: the object was changed so shortly before the call that the clock of the file
/// system may not have moved since.
pub(super) fn judge(aim: Aim, before: Looks, after: Looks, is_fresh: bool) -> Judgement {
    let done = |is_done: bool| if is_done { Judgement::Done } else { Judgement::Nothing };
    match (aim, before, after) {
        (_, _, [Look::Hidden, _]) | (_, [Look::Hidden, _], _) => Judgement::Unclear,
        (Aim::Make | Aim::Link, _, [now, _]) => done(now != Look::Absent),
        (Aim::Remove, [was, _], [now, _]) => done(object(now) != object(was)),
        (Aim::Rename, [was, _], [now, _]) if object(now) == object(was) => Judgement::Nothing,
        (Aim::Rename, ..) => Judgement::Done,
        (Aim::Cut | Aim::Change(_), [Look::There(was), _], [Look::There(now), _])
            if was.object() == now.object() =>
        {
            match changed(aim, &was, &now) {
                true => Judgement::Done,
                false if is_fresh => Judgement::Unclear,
                false => Judgement::Nothing,
            }
        }
        // Something else is there now, or nothing.
        (Aim::Cut | Aim::Change(_), ..) => Judgement::Unclear,
    }
}

fn object(look: Look) -> Option<(u64, u64)> {
    match look {
        Look::There(state) => Some(state.object()),
        Look::Absent | Look::Hidden => None,
    }
}

fn changed(aim: Aim, was: &State, now: &State) -> bool {
    let touched = was.changed_ns != now.changed_ns;
    // Writing moves both times, whatever else does.
    let not_written = was.written_ns == now.written_ns;
    match aim {
        Aim::Change(Op::Chmod) => was.mode != now.mode || (touched && not_written),
        Aim::Change(Op::Chown) => was.owner != now.owner || (touched && not_written),
        Aim::Change(Op::Attribute) => touched || was.read_ns != now.read_ns || !not_written,
        _ => was.size != now.size || !not_written,
    }
}

/// Whether a change of the object may leave its times as they are: files of systems with coarse clocks, changed just now.
pub(super) fn is_fresh(state: &State, wall_ns: i64) -> bool {
    /// Longer than a tick of any kernel, in nanoseconds.
    const TICK_NS: i128 = 11_000_000;
    state.kind() != FileType::Unknown && i128::from(wall_ns) - state.changed_ns < TICK_NS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(inode: u64) -> State {
        State {
            device: 1,
            inode,
            mode: 0o100_644,
            owner: (0, 0),
            links: 1,
            size: 5,
            read_ns: 0,
            written_ns: 0,
            changed_ns: 0,
        }
    }

    fn there(inode: u64) -> Look {
        Look::There(state(inode))
    }

    const NO: Look = Look::Absent;

    #[test]
    fn names_tell_what_became_of_a_call() {
        use Judgement::{Done, Nothing, Unclear};
        for (aim, before, after, expected) in [
            (Aim::Make, [NO, NO], [there(1), NO], Done),
            (Aim::Make, [NO, NO], [NO, NO], Nothing),
            (Aim::Make, [NO, NO], [Look::Hidden, NO], Unclear),
            (Aim::Link, [NO, there(1)], [there(1), there(1)], Done),
            (Aim::Remove, [there(1), NO], [NO, NO], Done),
            (Aim::Remove, [there(1), NO], [there(1), NO], Nothing),
            (Aim::Remove, [there(1), NO], [there(2), NO], Done),
            (Aim::Rename, [there(1), NO], [NO, there(1)], Done),
            (Aim::Rename, [there(1), there(2)], [there(2), there(1)], Done),
            (Aim::Rename, [there(1), there(2)], [there(1), there(2)], Nothing),
            (Aim::Rename, [there(1), there(1)], [there(1), there(1)], Nothing),
            (Aim::Cut, [there(1), NO], [there(1), NO], Nothing),
            (Aim::Cut, [there(1), NO], [there(2), NO], Unclear),
            (Aim::Change(Op::Chmod), [there(1), NO], [NO, NO], Unclear),
        ] {
            assert_eq!(judge(aim, before, after, false), expected, "{aim:?} {before:?} {after:?}");
        }
    }

    #[test]
    fn what_changes_an_object_is_seen_in_what_it_changes() {
        let judged = |op, change: fn(&mut State), is_fresh| {
            let mut now = state(1);
            change(&mut now);
            judge(Aim::Change(op), [there(1), NO], [Look::There(now), NO], is_fresh)
        };
        let write: fn(&mut State) = |s| (s.size, s.written_ns, s.changed_ns) = (9, 1, 1);
        let touch: fn(&mut State) = |s| s.changed_ns = 1;
        assert_eq!(judged(Op::Chmod, |s| s.mode = 0o100_600, false), Judgement::Done);
        assert_eq!(judged(Op::Chmod, touch, false), Judgement::Done);
        assert_eq!(judged(Op::Chmod, write, false), Judgement::Nothing);
        assert_eq!(judged(Op::Chown, |s| s.owner = (1, 1), false), Judgement::Done);
        assert_eq!(judged(Op::Truncate, |s| s.size = 0, false), Judgement::Done);
        assert_eq!(judged(Op::Truncate, touch, false), Judgement::Nothing);
        assert_eq!(judged(Op::Attribute, touch, false), Judgement::Done);
        assert_eq!(judged(Op::Attribute, |_| (), false), Judgement::Nothing);
        assert_eq!(judged(Op::Attribute, |_| (), true), Judgement::Unclear);
    }

    #[test]
    fn a_call_that_cannot_but_fail_is_known_before_it_is_made() {
        use Judgement::{Nothing, Unclear};
        for (aim, before, expected) in [
            (Aim::Make, [there(1), NO], Some(Nothing)),
            (Aim::Make, [NO, NO], None),
            (Aim::Remove, [NO, NO], Some(Nothing)),
            (Aim::Rename, [NO, there(1)], Some(Nothing)),
            (Aim::Rename, [there(1), there(2)], None),
            (Aim::Link, [NO, NO], Some(Nothing)),
            (Aim::Change(Op::Chmod), [Look::Hidden, NO], Some(Unclear)),
        ] {
            assert_eq!(at_entry(aim, before), expected, "{aim:?} {before:?}");
        }
    }
}
