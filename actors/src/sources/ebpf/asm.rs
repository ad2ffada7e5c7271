//! An assembler for the few instructions that the programs need.

use std::collections::HashMap;

/// The frame pointer.
pub(super) const FP: u8 = 10;

/// Helpers of the kernel, by number.
pub(super) mod helper {
    pub(crate) const MAP_LOOKUP: i32 = 1;
    pub(crate) const MAP_UPDATE: i32 = 2;
    pub(crate) const MAP_DELETE: i32 = 3;
    pub(crate) const PROCESSOR: i32 = 8;
    pub(crate) const PID_TGID: i32 = 14;
    pub(crate) const COMMAND: i32 = 16;
    pub(crate) const CGROUP: i32 = 80;
    pub(crate) const READ_KERNEL: i32 = 113;
    pub(crate) const READ_USER_TEXT: i32 = 114;
    pub(crate) const READ_KERNEL_TEXT: i32 = 115;
    pub(crate) const BOOT_NS: i32 = 125;
    pub(crate) const RING_OUTPUT: i32 = 130;
    pub(crate) const TASK: i32 = 158;
}

/// A program that is being written.
#[derive(Default)]
pub(super) struct Asm {
    code: Vec<u64>,
    jumps: Vec<(usize, String)>,
    labels: HashMap<String, usize>,
    /// Registers that may have to be set, to what, and where it goes on: behind the end of the program.
    aside: Vec<(u8, i32, usize)>,
}

impl Asm {
    fn put(&mut self, code: u8, to: u8, from: u8, offset: i16, value: i32) {
        let word = u64::from(code)
            | u64::from(to | (from << 4)) << 8
            | u64::from(offset.cast_unsigned()) << 16
            | u64::from(value.cast_unsigned()) << 32;
        self.code.push(word);
    }

    /// `to = from`
    pub(super) fn copy(&mut self, to: u8, from: u8) {
        self.put(0xBF, to, from, 0, 0);
    }
    /// `to = value`
    pub(super) fn set(&mut self, to: u8, value: i32) {
        self.put(0xB7, to, 0, 0, value);
    }
    /// `to += value`
    pub(super) fn add(&mut self, to: u8, value: i32) {
        self.put(0x07, to, 0, 0, value);
    }
    /// `to += from`
    pub(super) fn add_register(&mut self, to: u8, from: u8) {
        self.put(0x0F, to, from, 0, 0);
    }
    /// `to <<= bits`
    pub(super) fn left(&mut self, to: u8, bits: i32) {
        self.put(0x67, to, 0, 0, bits);
    }
    /// `to >>= bits`
    pub(super) fn right(&mut self, to: u8, bits: i32) {
        self.put(0x77, to, 0, 0, bits);
    }
    /// `to >>= bits`, keeping the sign
    pub(super) fn signed_right(&mut self, to: u8, bits: i32) {
        self.put(0xC7, to, 0, 0, bits);
    }
    /// `to &= value`
    pub(super) fn and(&mut self, to: u8, value: i32) {
        self.put(0x57, to, 0, 0, value);
    }
    /// `to = *(u64 *)(from + offset)`
    pub(super) fn load(&mut self, to: u8, from: u8, offset: i16) {
        self.put(0x79, to, from, offset, 0);
    }
    /// `to = *(u32 *)(from + offset)`
    pub(super) fn load32(&mut self, to: u8, from: u8, offset: i16) {
        self.put(0x61, to, from, offset, 0);
    }
    /// `to = *(u16 *)(from + offset)`
    pub(super) fn load16(&mut self, to: u8, from: u8, offset: i16) {
        self.put(0x69, to, from, offset, 0);
    }
    /// `to = *(u8 *)(from + offset)`
    pub(super) fn load8(&mut self, to: u8, from: u8, offset: i16) {
        self.put(0x71, to, from, offset, 0);
    }
    /// `*(u64 *)(to + offset) = from`
    pub(super) fn store(&mut self, to: u8, offset: i16, from: u8) {
        self.put(0x7B, to, from, offset, 0);
    }
    /// `*(u32 *)(to + offset) = from`
    pub(super) fn store32(&mut self, to: u8, offset: i16, from: u8) {
        self.put(0x63, to, from, offset, 0);
    }
    /// `*(u16 *)(to + offset) = from`
    pub(super) fn store16(&mut self, to: u8, offset: i16, from: u8) {
        self.put(0x6B, to, from, offset, 0);
    }
    /// `*(u8 *)(to + offset) = from`
    pub(super) fn store8(&mut self, to: u8, offset: i16, from: u8) {
        self.put(0x73, to, from, offset, 0);
    }
    /// `*(u64 *)(to + offset) = value`
    pub(super) fn store_value(&mut self, to: u8, offset: i16, value: i32) {
        self.put(0x7A, to, 0, offset, value);
    }
    /// `r0 = helper(r1..r5)`
    pub(super) fn call(&mut self, helper: i32) {
        self.put(0x85, 0, 0, 0, helper);
    }
    /// `r0 = a function of the kernel(r1..r5)`, by its BTF number
    pub(super) fn call_kernel(&mut self, function: i32) {
        self.put(0x85, 0, 2, 0, function);
    }
    /// `to = map`
    pub(super) fn map(&mut self, to: u8, fd: i32) {
        self.put(0x18, to, 1, 0, fd);
        self.put(0, 0, 0, 0, 0);
    }
    /// `to = the address of byte offset in the only value of an array`
    pub(super) fn map_value(&mut self, to: u8, fd: i32, offset: i32) {
        self.put(0x18, to, 2, 0, fd);
        self.put(0, 0, 0, 0, offset);
    }
    /// `from = *(u64 *)to, *(u64 *)to += from`, at once
    pub(super) fn fetch_add(&mut self, to: u8, from: u8) {
        self.put(0xDB, to, from, 0, 1);
    }
    /// `if *(u64 *)to == r0 { *(u64 *)to = new }`, at once; `r0` is what stood there
    pub(super) fn compare_exchange(&mut self, to: u8, new: u8) {
        self.put(0xDB, to, new, 0, 0xF1);
    }
    fn jump_by(&mut self, code: u8, a: u8, b: u8, value: i32, label: &str) {
        self.jumps.push((self.code.len(), label.to_owned()));
        self.put(code, a, b, 0, value);
    }
    /// `goto label`
    pub(super) fn jump(&mut self, label: &str) {
        self.jump_by(0x05, 0, 0, 0, label);
    }
    /// `if a == value goto label`
    pub(super) fn if_equal(&mut self, a: u8, value: i32, label: &str) {
        self.jump_by(0x15, a, 0, value, label);
    }
    /// `if a != value goto label`
    pub(super) fn if_not(&mut self, a: u8, value: i32, label: &str) {
        self.jump_by(0x55, a, 0, value, label);
    }
    /// `if a == b goto label`
    pub(super) fn if_same(&mut self, a: u8, b: u8, label: &str) {
        self.jump_by(0x1D, a, b, 0, label);
    }
    /// `if a & value goto label`
    pub(super) fn if_any(&mut self, a: u8, value: i32, label: &str) {
        self.jump_by(0x45, a, 0, value, label);
    }
    /// `if a > value goto label`, both without sign
    pub(super) fn if_above(&mut self, a: u8, value: i32, label: &str) {
        self.jump_by(0x25, a, 0, value, label);
    }
    /// `if a > value { a = otherwise }`, without sign. What follows is verified with all that `a` may be first, and for
    /// `otherwise` not again: the other way round each such place would double the work.
    pub(super) fn limit(&mut self, a: u8, value: i32, otherwise: i32) {
        self.if_above(a, value, &format!("aside {}", self.aside.len()));
        self.aside.push((a, otherwise, self.code.len()));
    }
    /// `if a < 0 goto label`
    pub(super) fn if_negative(&mut self, a: u8, label: &str) {
        self.jump_by(0xC5, a, 0, 0, label);
    }
    /// The place that jumps to `label` lead to.
    pub(super) fn label(&mut self, label: &str) {
        self.labels.insert(label.to_owned(), self.code.len());
    }
    /// `return 0`
    pub(super) fn end(&mut self) {
        self.set(0, 0);
        self.put(0x95, 0, 0, 0, 0);
    }
    /// Jumps to the label that stands beside the number in `register`, or to `otherwise`. `table` is in the order
    /// of its numbers.
    pub(super) fn choose(&mut self, register: u8, table: &[(i32, String)], otherwise: &str) {
        /// So few are compared one by one.
        const FEW: usize = 3;
        if table.len() <= FEW {
            for (number, label) in table {
                self.if_equal(register, *number, label);
            }
            return self.jump(otherwise);
        }
        let (low, high) = table.split_at(table.len() / 2);
        let Some((last, _)) = low.last() else { return };
        let beyond = format!("{otherwise} beyond {last}");
        self.if_above(register, *last, &beyond);
        self.choose(register, low, otherwise);
        self.label(&beyond);
        self.choose(register, high, otherwise);
    }
    /// The finished program; `None` where a jump leads nowhere or too far.
    pub(super) fn finish(mut self) -> Option<Vec<u64>> {
        for (n, (register, value, back)) in std::mem::take(&mut self.aside).into_iter().enumerate() {
            self.label(&format!("aside {n}"));
            self.set(register, value);
            self.labels.insert(format!("back {n}"), back);
            self.jump(&format!("back {n}"));
        }
        for (at, label) in &self.jumps {
            let to = i64::try_from(*self.labels.get(label)?).ok()?;
            let offset = i16::try_from(to - i64::try_from(*at).ok()? - 1).ok()?;
            *self.code.get_mut(*at)? |= u64::from(offset.cast_unsigned()) << 16;
        }
        Some(self.code)
    }
}
