//! The kernel's own description of its types (BTF, `<linux/btf.h>`): where a field stands, and the number of a type.

use crate::sources::native::u32_at;

const INT: u32 = 1;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const TYPEDEF: u32 = 8;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const DECL_TAG: u32 = 17;
const ENUM64: u32 = 19;
/// Deepest nesting of structures without names that is followed.
const DEPTH_MAX: u32 = 16;

/// What can be asked for by its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Named {
    /// A structure.
    Struct(&'static str),
    /// A raw tracepoint.
    Tracepoint(&'static str),
    /// A function.
    Function(&'static str),
}

impl Named {
    const fn kind(self) -> u32 {
        match self {
            Named::Struct(_) => STRUCT,
            Named::Tracepoint(_) => TYPEDEF,
            Named::Function(_) => FUNC,
        }
    }

    /// Whether the text that begins here, and ends with a zero, is its name.
    fn is(self, text: &[u8]) -> bool {
        let (before, name) = match self {
            Named::Struct(name) | Named::Function(name) => ("", name),
            Named::Tracepoint(name) => ("btf_trace_", name),
        };
        let rest = text.strip_prefix(before.as_bytes()).and_then(|t| t.strip_prefix(name.as_bytes()));
        rest.and_then(<[u8]>::first) == Some(&0)
    }
}

/// The types of the running kernel.
pub(super) struct Btf {
    bytes: Vec<u8>,
    strings: usize,
    /// Where each type begins; number 0 is `void`.
    types: Vec<u32>,
    /// What was asked for, with the first type of that name.
    named: Vec<(Named, usize)>,
}

impl Btf {
    /// Reads them, and finds what is `wanted`; `None` where the bytes are no types. There are more than a hundred
    /// thousand: only those that may be wanted are looked at closely.
    pub(super) fn parse(bytes: Vec<u8>, wanted: &[Named]) -> Option<Self> {
        let word = |at| u32_at(&bytes, at);
        let head = word(4)? as usize;
        let (types_at, types_bytes) = (head + word(8)? as usize, word(12)? as usize);
        let strings = head + word(16)? as usize;
        let mut btf = Btf { bytes, strings, types: vec![0], named: Vec::new() };
        // By kind and first letter, whether anything like it is wanted.
        let mut may_be = [[false; 256]; 32];
        for name in wanted {
            let (kind, first) = match *name {
                Named::Tracepoint(_) => (name.kind(), b'b'),
                Named::Struct(n) | Named::Function(n) => (name.kind(), *n.as_bytes().first()?),
            };
            *may_be.get_mut(kind as usize)?.get_mut(usize::from(first))? = true;
        }
        let mut at = types_at;
        while at < types_at + types_bytes {
            let (kind, count) = btf.kind_at(at)?;
            if matches!(kind, STRUCT | TYPEDEF | FUNC) {
                let text = btf.text(at)?;
                if *may_be.get(kind as usize)?.get(usize::from(*text.first()?))?
                    && let Some(name) = wanted.iter().find(|n| n.kind() == kind && n.is(text))
                    && !btf.named.iter().any(|(n, _)| n == name)
                {
                    btf.named.push((*name, btf.types.len()));
                }
            }
            btf.types.push(u32::try_from(at).ok()?);
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

    /// From where the name begins that the word at `at` stands for.
    fn text(&self, at: usize) -> Option<&[u8]> {
        self.bytes.get(self.strings + u32_at(&self.bytes, at)? as usize..)
    }

    /// The name that the word at `at` stands for.
    fn name(&self, at: usize) -> Option<&[u8]> {
        self.text(at)?.split(|b| *b == 0).next()
    }

    /// The number of what was wanted, if this kernel has it.
    pub(super) fn number(&self, wanted: Named) -> Option<u32> {
        let found = self.named.iter().find(|(name, _)| *name == wanted)?;
        u32::try_from(found.1).ok()
    }

    /// Where `field` stands in `structure`, in bytes; structures without names are looked into.
    pub(super) fn field(&self, structure: &'static str, field: &str) -> Option<i16> {
        let number = self.number(Named::Struct(structure))?;
        i16::try_from(self.field_of(number as usize, field.as_bytes(), 0)?).ok()
    }

    fn type_at(&self, number: usize) -> Option<usize> {
        self.types.get(number).map(|at| *at as usize)
    }

    fn field_of(&self, number: usize, field: &[u8], depth: u32) -> Option<u32> {
        let at = self.type_at(number).filter(|_| depth < DEPTH_MAX)?;
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
                && matches!(self.kind_at(self.type_at(inner)?)?.0, STRUCT | UNION)
                && let Some(within) = self.field_of(inner, field, depth + 1)
            {
                return Some(bytes + within);
            }
        }
        None
    }
}
