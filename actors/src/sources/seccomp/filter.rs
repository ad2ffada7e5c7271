//! The filter: classic BPF that picks the calls which change something, and lets all others go on at once.
//!
//! Calls of another architecture than this program's (32-bit, x32) go on unseen: their numbers mean something else. The
//! kernel remembers which numbers always go on, so that most calls do not even run the filter.

use super::calls::{CALLS, Call, Flags};
use rustix::fs::OFlags;
use semj_sys::seccomp::{ALLOW, Instruction, NOTIFY};

/// Load a word of `struct seccomp_data`; compare; test bits; answer.
const LOAD: u16 = 0x20;
const IF_EQUAL: u16 = 0x15;
const IF_AT_LEAST: u16 = 0x35;
const IF_ANY: u16 = 0x45;
const ANSWER: u16 = 0x06;

/// Where `struct seccomp_data` keeps the call's number and its architecture, in bytes.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// `AUDIT_ARCH_*` of this program.
const OURS: u32 = if cfg!(target_arch = "aarch64") { 0xC000_00B7 } else { 0xC000_003E };
/// From here on numbers are x32's.
const X32: u32 = 0x4000_0000;

/// The lower half of an argument.
const fn argument(number: usize) -> u32 {
    let low = if cfg!(target_endian = "little") { 0 } else { 4 };
    16 + 8 * number as u32 + low
}

/// Flags with which opening changes something, now or later.
fn changing() -> u32 {
    (OFlags::WRONLY | OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC).bits()
}

const fn instruction(code: u16, value: u32, then: u8, or_else: u8) -> Instruction {
    Instruction { code, then, or_else, value }
}

/// The filter.
pub(super) fn program() -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD, ARCHITECTURE, 0, 0),
        instruction(IF_EQUAL, OURS, 1, 0),
        instruction(ANSWER, ALLOW, 0, 0),
        instruction(LOAD, NUMBER, 0, 0),
        instruction(IF_AT_LEAST, X32, 0, 1),
        instruction(ANSWER, ALLOW, 0, 0),
    ];
    for (number, call) in CALLS {
        match call {
            // A descriptor that is a mere name opens nothing, whatever its other flags.
            Call::Open { flags: Flags::In(flags), .. } => program.extend([
                instruction(IF_EQUAL, *number, 0, 5),
                instruction(LOAD, argument(*flags), 0, 0),
                instruction(IF_ANY, OFlags::PATH.bits(), 1, 0),
                instruction(IF_ANY, changing(), 1, 0),
                instruction(ANSWER, ALLOW, 0, 0),
                instruction(ANSWER, NOTIFY, 0, 0),
            ]),
            _ => program.extend([instruction(IF_EQUAL, *number, 0, 1), instruction(ANSWER, NOTIFY, 0, 0)]),
        }
    }
    program.push(instruction(ANSWER, ALLOW, 0, 0));
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter answers, by a small machine.
    fn answer(architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let program = program();
        let (mut at, mut loaded) = (0usize, 0u32);
        loop {
            let i = program[at];
            at += 1;
            let holds = match i.code {
                LOAD => {
                    loaded = match i.value {
                        NUMBER => number,
                        ARCHITECTURE => architecture,
                        other => arguments[(other as usize - 16) / 8] as u32,
                    };
                    continue;
                }
                ANSWER => return i.value,
                IF_EQUAL => loaded == i.value,
                IF_AT_LEAST => loaded >= i.value,
                IF_ANY => loaded & i.value != 0,
                code => panic!("unknown instruction {code:#x}"),
            };
            at += usize::from(if holds { i.then } else { i.or_else });
        }
    }

    #[test]
    fn exactly_the_calls_of_the_table_wait() {
        for number in 0..1_000 {
            let waits = answer(OURS, number, [0; 6]) == NOTIFY;
            let expected = match super::super::calls::call(number) {
                Some(Call::Open { flags: Flags::In(_), .. }) | None => false,
                Some(_) => true,
            };
            assert_eq!(waits, expected, "call {number}");
            assert_eq!(answer(0x4000_0003, number, [u64::MAX; 6]), ALLOW, "32-bit call {number}");
            assert_eq!(answer(OURS, number | X32, [u64::MAX; 6]), ALLOW, "x32 call {number}");
        }
    }

    #[test]
    fn opening_waits_only_where_its_flags_change_something() {
        for (number, call) in CALLS {
            let Call::Open { flags: Flags::In(flags), .. } = call else { continue };
            let with = |bits: OFlags| {
                let mut arguments = [0; 6];
                arguments[*flags] = u64::from(bits.bits());
                answer(OURS, *number, arguments)
            };
            for waits in [OFlags::WRONLY, OFlags::RDWR, OFlags::CREATE, OFlags::TRUNC] {
                assert_eq!(with(waits | OFlags::CLOEXEC), NOTIFY, "call {number} with {waits:?}");
                assert_eq!(with(waits | OFlags::PATH), ALLOW, "call {number} with {waits:?} and PATH");
            }
            for goes_on in [OFlags::empty(), OFlags::DIRECTORY | OFlags::CLOEXEC, OFlags::PATH] {
                assert_eq!(with(goes_on), ALLOW, "call {number} with {goes_on:?}");
            }
        }
    }
}
