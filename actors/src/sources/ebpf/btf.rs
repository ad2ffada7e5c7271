//! The kernel's own description of its types (BTF, `<linux/btf.h>`): where a field stands, and the number of a type.

use super::super::native::u32_at;
use std::collections::HashMap;

const INT: u32 = 1;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const TYPEDEF: u32 = 8;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const DECL_TAG: u32 = 17;
const ENUM64: u32 = 19;
/// Deepest nesting of structures without names that is followed.
const DEPTH_MAX: u32 = 16;

/// The types of the running kernel.
pub(super) struct Btf {
    bytes: Vec<u8>,
    strings: usize,
    /// Where each type begins; number 0 is `void`.
    types: Vec<usize>,
    /// Structures and typedefs by kind and name.
    named: HashMap<(u32, Vec<u8>), usize>,
}

impl Btf {
    /// Reads them; `None` where the bytes are none.
    pub(super) fn parse(bytes: Vec<u8>) -> Option<Self> {
        let word = |at| u32_at(&bytes, at);
        let head = word(4)? as usize;
        let (types_at, types_bytes) = (head + word(8)? as usize, word(12)? as usize);
        let strings = head + word(16)? as usize;
        let mut btf = Btf { bytes, strings, types: vec![0], named: HashMap::new() };
        let mut at = types_at;
        while at < types_at + types_bytes {
            let (kind, count) = btf.kind_at(at)?;
            if kind == STRUCT || kind == TYPEDEF {
                let name = btf.name(at)?.to_vec();
                btf.named.entry((kind, name)).or_insert(btf.types.len());
            }
            btf.types.push(at);
            at += 12
                + match kind {
                    INT | VAR | DECL_TAG => 4,
                    ARRAY => 12,
                    STRUCT | UNION | DATASEC | ENUM64 => 12 * count,
                    ENUM | FUNC_PROTO => 8 * count,
                    _ => 0,
                };
        }
        Some(btf)
    }

    fn kind_at(&self, at: usize) -> Option<(u32, usize)> {
        let info = u32_at(&self.bytes, at + 4)?;
        Some(((info >> 24) & 31, (info & 0xFFFF) as usize))
    }

    /// The name that the word at `at` stands for.
    fn name(&self, at: usize) -> Option<&[u8]> {
        let begin = self.strings + u32_at(&self.bytes, at)? as usize;
        self.bytes.get(begin..)?.split(|b| *b == 0).next()
    }

    /// The number of the type of a raw tracepoint.
    pub(super) fn tracepoint(&self, name: &str) -> Option<u32> {
        let name = format!("btf_trace_{name}").into_bytes();
        u32::try_from(*self.named.get(&(TYPEDEF, name))?).ok()
    }

    /// Where `field` stands in `structure`, in bytes; structures without names are looked into.
    pub(super) fn field(&self, structure: &str, field: &str) -> Option<i16> {
        let number = *self.named.get(&(STRUCT, structure.as_bytes().to_vec()))?;
        i16::try_from(self.field_of(number, field.as_bytes(), 0)?).ok()
    }

    fn field_of(&self, number: usize, field: &[u8], depth: u32) -> Option<u32> {
        let at = *self.types.get(number).filter(|_| depth < DEPTH_MAX)?;
        let has_bits = u32_at(&self.bytes, at + 4)? >> 31 == 1;
        for member in 0..self.kind_at(at)?.1 {
            let at = at + 12 + 12 * member;
            let offset = u32_at(&self.bytes, at + 8)?;
            let bytes = (if has_bits { offset & 0xFF_FFFF } else { offset }) / 8;
            let name = self.name(at)?;
            if name == field {
                return Some(bytes);
            }
            let inner = u32_at(&self.bytes, at + 4)? as usize;
            if name.is_empty()
                && matches!(self.kind_at(*self.types.get(inner)?)?.0, STRUCT | UNION)
                && let Some(within) = self.field_of(inner, field, depth + 1)
            {
                return Some(bytes + within);
            }
        }
        None
    }
}
