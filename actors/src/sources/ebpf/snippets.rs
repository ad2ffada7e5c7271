//! Pieces of which the programs are made.
//!
//! Registers: r6 the context, r7 the record once it is begun, r8 what is looked at in the kernel, r9 where the next name of
//! the record goes.

use super::asm::{Asm, FP, helper};
use super::layout::{ASIDE, BODY, LEVELS, NAME, PATHS_BELOW, at, word};
use super::offsets::Offsets;

/// Do not wake the reader: he looks by himself.
const NO_WAKEUP: i32 = 1;
/// Wake the reader, whatever else there is.
const FORCE_WAKEUP: i32 = 2;
const S_IFMT: i32 = 0xF000;
const S_IFREG: i32 = 0x8000;

/// Where on the stack things are kept.
pub(super) mod kept {
    pub(crate) const TGID: i16 = -4;
    pub(crate) const CHILD: i16 = -8;
    pub(crate) const PATH: i16 = -24;
    pub(crate) const FOLDER: i16 = -32;
    pub(crate) const TARGET: i16 = -40;
    pub(crate) const ABOVE: i16 = -48;
    pub(crate) const FILE: i16 = -56;
    pub(crate) const READ: i16 = -64;
    pub(crate) const FLAGS: i16 = -72;
    pub(crate) const FD: i16 = -80;
    pub(crate) const TAG: i16 = -88;
    pub(crate) const NAME: i16 = -96;
    pub(crate) const KEY: i16 = -104;
}

/// The maps, by descriptor.
pub(super) struct Maps {
    pub(super) ring: i32,
    pub(super) words: i32,
    pub(super) tags: i32,
    pub(super) written: i32,
    /// Where records are put together: a place for each program on each processor.
    pub(super) scratch: i32,
}

/// `to = the address of a shared word`
fn shared(a: &mut Asm, m: &Maps, to: u8, word: usize) {
    a.map_value(to, m.words, (word * 8) as i32);
}

/// Adds 1 to a shared word; `by` is what it was before.
pub(super) fn count(a: &mut Asm, m: &Maps, word: usize, by: u8) {
    shared(a, m, 1, word);
    a.set(by, 1);
    a.fetch_add(1, by);
}

/// `stack[TAG] = the tag of the process whose id is kept`; leaves where it has none.
pub(super) fn find_tag(a: &mut Asm, m: &Maps) {
    a.map(1, m.tags);
    a.copy(2, FP);
    a.add(2, kept::TGID.into());
    a.call(helper::MAP_LOOKUP);
    a.if_equal(0, 0, "out");
    a.load(1, 0, 0);
    a.store(FP, kept::TAG, 1);
}

/// `stack[TAG] = the tag of this process`; leaves where it has none.
pub(super) fn find_own_tag(a: &mut Asm, m: &Maps) {
    a.call(helper::PID_TGID);
    a.right(0, 32);
    a.store32(FP, kept::TGID, 0);
    find_tag(a, m);
}

/// `r7 = the place` where `program` puts a record together. It belongs to this program on this processor; the kernel
/// lets no program interrupt itself.
pub(super) fn place(a: &mut Asm, m: &Maps, program: i32) {
    a.store_value(FP, kept::KEY, program);
    a.map(1, m.scratch);
    a.copy(2, FP);
    a.add(2, kept::KEY.into());
    a.call(helper::MAP_LOOKUP);
    a.if_equal(0, 0, "out");
    a.copy(7, 0);
}

/// Writes what every record has, but for its kind.
pub(super) fn begin(a: &mut Asm) {
    a.load(1, FP, kept::TAG);
    a.store(7, at::TAG, 1);
    for (call, place) in
        [(helper::BOOT_NS, at::BOOT_NS), (helper::PID_TGID, at::PID_TGID), (helper::CGROUP, at::CGROUP)]
    {
        a.call(call);
        a.store(7, place, 0);
    }
    a.call(helper::PROCESSOR);
    a.store32(7, at::PROCESSOR, 0);
    // Two fields each: device and mode, and the device and lengths of the names.
    for place in [at::RESULT, at::INODE, at::DEVICE, at::OTHER, at::BASE_DEVICE] {
        a.store_value(7, place, 0);
    }
    a.copy(1, 7);
    a.add(1, at::COMMAND.into());
    a.set(2, 16);
    a.call(helper::COMMAND);
    a.set(9, BODY.into());
}

pub(super) fn kind(a: &mut Asm, kind: i32) {
    a.set(1, kind);
    a.store32(7, at::KIND, 1);
}

/// Appends the text whose address is in r3, of at most `bytes`, and keeps its length, which is 0 where it cannot be
/// read.
pub(super) fn text(a: &mut Asm, bytes: usize, reading: i32, length: i16) {
    a.copy(1, 7);
    a.add_register(1, 9);
    a.set(2, bytes as i32);
    a.call(reading);
    a.limit(0, bytes as i32, 0);
    a.store16(7, length, 0);
    a.add_register(9, 0);
}

/// Hands the record over, which is r9 bytes long; the ends of a program.
///
/// Waking. (1) A record is counted, (2) then the word `SLEEPS` is read, (3) then the record is put into the ring, with a
/// wake-up if the word was not 0. The reader writes the word, and then reads the count. Both counting and writing are
/// full barriers, so either the program sees that the reader sleeps, or the reader sees the count and does not.
/// After the wake-up the word is set back, so that one is enough, but only where it is still the same sleep: the reader
/// may have woken, and gone to sleep again, in between. Where there was no room nothing is set back, and nothing needs
/// to be: the ring was empty when the reader lay down, so what fills it has woken him.
pub(super) fn publish(mut a: Asm, m: &Maps) -> Option<Vec<u64>> {
    a.label("publish");
    count(&mut a, m, word::MADE, 2);
    a.store(7, at::SEQUENCE, 2);
    shared(&mut a, m, 1, word::SLEEPS);
    a.load(8, 1, 0);
    a.map(1, m.ring);
    a.copy(2, 7);
    a.copy(3, 9);
    a.set(4, NO_WAKEUP);
    a.if_equal(8, 0, "awake");
    a.set(4, FORCE_WAKEUP);
    a.label("awake");
    a.call(helper::RING_OUTPUT);
    a.if_not(0, 0, "lost");
    a.if_equal(8, 0, "out");
    a.copy(0, 8);
    shared(&mut a, m, 1, word::SLEEPS);
    a.set(2, 0);
    a.compare_exchange(1, 2);
    a.label("out");
    a.end();
    a.label("lost");
    count(&mut a, m, word::LOST, 2);
    a.end();
    a.finish()
}

/// `to = the field of what register from points to`, 2, 4 or 8 bytes of it. Where addresses cannot be made pointers a
/// helper reads it, and r1 to r5 are gone; whatever is not there is 0.
pub(super) fn field(a: &mut Asm, o: &Offsets, to: u8, (from, offset): (u8, i16), bytes: i32) {
    if o.cast.is_some() {
        return match bytes {
            2 => a.load16(to, from, offset),
            4 => a.load32(to, from, offset),
            _ => a.load(to, from, offset),
        };
    }
    a.copy(3, from);
    a.add(3, offset.into());
    a.store_value(FP, kept::READ, 0);
    a.copy(1, FP);
    a.add(1, kept::READ.into());
    a.set(2, bytes);
    a.call(helper::READ_KERNEL);
    a.load(to, FP, kept::READ);
}

/// `r8 = stack[FILE] = the open file whose number is kept at fd`
pub(super) fn find_file(a: &mut Asm, o: &Offsets, fd: i16) {
    task(a, o);
    a.load(1, 0, o.files);
    a.load(1, 1, o.fdt);
    a.load(3, 1, o.fd);
    a.load(4, FP, fd);
    a.left(4, 32);
    a.signed_right(4, 32);
    a.left(4, 3);
    a.add_register(3, 4);
    a.store_value(FP, kept::FILE, 0);
    a.copy(1, FP);
    a.add(1, kept::FILE.into());
    a.set(2, 8);
    a.call(helper::READ_KERNEL);
    a.load(8, FP, kept::FILE);
    if let Some(cast) = &o.cast {
        a.copy(1, 8);
        a.set(2, cast.file);
        a.call_kernel(cast.function);
        a.copy(8, 0);
    }
}

/// `r0 = the task`. The verifier looks for what it knows of each step from a pointer that it trusts, among all types and
/// by name; one that it does not trust loads in a tenth of the time.
pub(super) fn task(a: &mut Asm, o: &Offsets) {
    a.call(helper::TASK);
    if let Some(cast) = &o.cast {
        a.copy(1, 0);
        a.set(2, cast.task);
        a.call_kernel(cast.function);
    }
}

/// Leaves unless r8 is a regular file: a terminal or a pipe keeps nothing.
pub(super) fn only_files(a: &mut Asm, o: &Offsets) {
    field(a, o, 1, (8, o.file_inode), 8);
    field(a, o, 1, (1, o.inode_mode), 2);
    a.and(1, S_IFMT);
    a.if_not(1, S_IFREG, "out");
}

/// Records the names from directory entry r8 up to the root of its file system, and the device of that.
pub(super) fn climb(a: &mut Asm, o: &Offsets) {
    // Whatever way led here, what follows is verified once: no way leaves more than this in r9.
    a.store16(7, ASIDE, 9);
    a.load16(9, 7, ASIDE);
    a.and(9, PATHS_BELOW as i32 - 1);
    field(a, o, 1, (8, o.dentry_sb), 8);
    field(a, o, 1, (1, o.dev), 4);
    a.store32(7, at::BASE_DEVICE, 1);
    for _ in 0..LEVELS {
        field(a, o, 1, (8, o.parent), 8);
        a.if_same(1, 8, "publish");
        a.store(FP, kept::ABOVE, 1);
        field(a, o, 1, (8, o.name), 8);
        a.store(FP, kept::NAME, 1);
        field(a, o, 2, (8, o.name_bytes), 4);
        a.limit(2, NAME as i32, NAME as i32);
        a.copy(1, 7);
        a.add_register(1, 9);
        a.store8(1, 0, 2);
        a.add(1, 1);
        a.add_register(9, 2);
        a.add(9, 1);
        a.load(3, FP, kept::NAME);
        a.call(helper::READ_KERNEL);
        a.load(8, FP, kept::ABOVE);
    }
}

/// The key of the map of written files is the file's address.
pub(super) fn written(a: &mut Asm, m: &Maps, call: i32) {
    a.map(1, m.written);
    a.copy(2, FP);
    a.add(2, kept::FILE.into());
    a.copy(3, FP);
    a.add(3, kept::FILE.into());
    a.set(4, 0);
    a.call(call);
}
