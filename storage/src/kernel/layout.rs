//! How a packed structure of little-endian fields is declared once and read, written, shown and taken from it.

use super::json_in::Unreadable;
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;

/// The bytes a field takes.
pub trait Width {
    /// In bytes.
    const WIDTH: usize;
}

/// A field of a packed structure.
pub trait Field<'a>: Width + Sized {
    /// The field at `at`; zeros where the bytes end. Callers check lengths first.
    fn read(bytes: &'a [u8], at: usize) -> Self;
    /// Puts the field at `at` of bytes that are zero there.
    fn write(&self, out: &mut [u8], at: usize);
    /// The field from its JSON form.
    ///
    /// # Errors
    /// When the value is no such field.
    fn from_json(value: &Value) -> Result<Self, Unreadable>;
}

/// `N` bytes at `at`; zeros where the slice ends.
pub(super) fn get<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

/// Puts `value` at `at`; places are inside the structure by construction.
pub(super) fn put(out: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = out.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

macro_rules! integer {
    ($($type:ty, $bytes:literal, $as:ident, $words:literal;)*) => {$(
        impl Width for $type {
            const WIDTH: usize = $bytes;
        }
        impl<'a> Field<'a> for $type {
            #[inline(always)]
            fn read(bytes: &'a [u8], at: usize) -> Self {
                <$type>::from_le_bytes(get(bytes, at))
            }
            #[inline(always)]
            fn write(&self, out: &mut [u8], at: usize) {
                put(out, at, &self.to_le_bytes());
            }
            fn from_json(value: &Value) -> Result<Self, Unreadable> {
                let number = value.$as().and_then(|n| n.try_into().ok());
                number.ok_or_else(|| Unreadable::value($words, value))
            }
        }
    )*};
}

integer! {
    u32, 4, as_u64, "an integer from 0 to 4294967295";
    u64, 8, as_u64, "an integer from 0 to 18446744073709551615";
    i64, 8, as_i64, "an integer of 64 bits with a sign";
}

/// Text in a field of `N` bytes. The producers pad with NUL, but a field may be filled to its last byte and may hold
/// bytes behind its first NUL: all `N` bytes are kept.
#[derive(Clone, Default)]
pub struct Padded<'a, const N: usize> {
    /// At most `N` bytes; what is missing is zero.
    bytes: Cow<'a, [u8]>,
}

impl<'a, const N: usize> Padded<'a, N> {
    /// A field that holds exactly these bytes; `None` for more than `N`.
    pub fn exact(bytes: impl Into<Cow<'a, [u8]>>) -> Option<Self> {
        let bytes = bytes.into();
        (bytes.len() <= N).then_some(Padded { bytes })
    }

    /// Text as the producers put it: cut bytewise to `N - 1`, so that a NUL always ends it.
    pub fn cut(text: impl Into<Cow<'a, [u8]>>) -> Self {
        let mut bytes = text.into();
        if bytes.len() >= N {
            bytes = match bytes {
                Cow::Borrowed(b) => Cow::Borrowed(b.get(..N - 1).unwrap_or(b)),
                Cow::Owned(mut b) => {
                    b.truncate(N - 1);
                    Cow::Owned(b)
                }
            };
        }
        Padded { bytes }
    }

    /// The text: what stands before the first NUL.
    pub fn text(&self) -> &[u8] {
        let end = self.bytes.iter().position(|b| *b == 0).unwrap_or(self.bytes.len());
        self.bytes.get(..end).unwrap_or_default()
    }

    /// Whether a NUL ends the text within the field.
    pub fn is_terminated(&self) -> bool {
        self.text().len() < N
    }

    /// What stands behind the first NUL, up to the last byte that is not zero; empty as a rule.
    pub fn behind(&self) -> &[u8] {
        let rest = self.bytes.get(self.text().len() + 1..).unwrap_or_default();
        if all_zero(rest) {
            return &[];
        }
        let end = rest.iter().rposition(|b| *b != 0).map_or(0, |i| i + 1);
        rest.get(..end).unwrap_or_default()
    }
}

/// Whether every byte is zero.
pub(super) fn all_zero(bytes: &[u8]) -> bool {
    bytes.chunks(256).all(|chunk| chunk.iter().fold(0, |acc, b| acc | b) == 0)
}

impl<const N: usize> PartialEq for Padded<'_, N> {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text() && self.behind() == other.behind()
    }
}
impl<const N: usize> Eq for Padded<'_, N> {}

impl<const N: usize> fmt::Debug for Padded<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.text()))
    }
}

impl<const N: usize> Width for Padded<'_, N> {
    const WIDTH: usize = N;
}

impl<'a, const N: usize> Field<'a> for Padded<'a, N> {
    #[inline(always)]
    fn read(bytes: &'a [u8], at: usize) -> Self {
        Padded { bytes: Cow::Borrowed(bytes.get(at..at + N).unwrap_or_default()) }
    }
    #[inline(always)]
    fn write(&self, out: &mut [u8], at: usize) {
        put(out, at, &self.bytes);
    }
    fn from_json(value: &Value) -> Result<Self, Unreadable> {
        super::json_in::padded(value)
    }
}

/// Declares a packed structure: each field with its offset. That every field begins where the one before it ends, and
/// the last one ends with the structure, is asserted when it is compiled.
macro_rules! layout {
    ($(#[$meta:meta])* pub struct $name:ident $(<$lt:lifetime>)? : $size:literal {
        $($(#[$fmeta:meta])* $field:ident : $type:ty = $at:literal,)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, Debug, Default)]
        pub struct $name $(<$lt>)? {
            $($(#[$fmeta])* pub $field: $type,)*
        }

        impl $(<$lt>)? $name $(<$lt>)? {
            /// Bytes of the structure.
            pub const BYTES: usize = {
                let mut end = 0;
                $(
                    assert!(end == $at, "a field does not begin where the one before it ends");
                    end += <$type as $crate::kernel::layout::Width>::WIDTH;
                )*
                assert!(end == $size, "the fields do not fill the structure");
                end
            };

            /// Reads the structure.
            #[inline]
            pub fn read(bytes: & $($lt)? [u8; $size]) -> Self {
                $name { $($field: $crate::kernel::layout::Field::read(bytes, $at),)* }
            }

            /// Writes the structure over zeros.
            #[inline]
            pub fn write(&self, out: &mut [u8; $size]) {
                $($crate::kernel::layout::Field::write(&self.$field, out, $at);)*
            }

            /// The structure as bytes.
            pub fn to_bytes(&self) -> [u8; $size] {
                let mut out = [0; $size];
                self.write(&mut out);
                out
            }

            /// The structure from its JSON form; what is left out is zero.
            ///
            /// # Errors
            /// A key that it does not have, or a value that is no such field.
            pub fn from_json(
                value: &serde_json::Value,
            ) -> Result<Self, $crate::kernel::json_in::Unreadable> {
                let mut all = Self::default();
                for (key, value) in $crate::kernel::json_in::members(value)? {
                    match key.as_str() {
                        $(stringify!($field) => {
                            all.$field = $crate::kernel::layout::Field::from_json(value).map_err(|e| e.at(key))?;
                        })*
                        _ => return Err($crate::kernel::json_in::Unreadable::unknown(key)),
                    }
                }
                Ok(all)
            }
        }

        const _: () = assert!($name::BYTES == $size);

        impl $(<$lt>)? $crate::kernel::json_out::ShowInto for $name $(<$lt>)? {
            fn show_into<M: serde::ser::SerializeMap>(&self, map: &mut M, full: bool) -> Result<(), M::Error> {
                $(map.serialize_entry(
                    stringify!($field),
                    &$crate::kernel::json_out::Shown { value: &self.$field, full },
                )?;)*
                Ok(())
            }
        }

        impl $(<$lt>)? serde::Serialize for $crate::kernel::json_out::Shown<'_, $name $(<$lt>)?> {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                let mut map = s.serialize_map(None)?;
                $crate::kernel::json_out::ShowInto::show_into(self.value, &mut map, self.full)?;
                serde::ser::SerializeMap::end(map)
            }
        }
    };
}
pub(super) use layout;

#[cfg(test)]
mod tests {
    use super::*;

    fn field(bytes: &[u8; 8]) -> Padded<'_, 8> {
        Field::read(bytes, 0)
    }

    #[test]
    fn text_ends_at_its_first_nul_and_nothing_is_lost() {
        let full = *b"eight by";
        assert_eq!((field(&full).text(), field(&full).is_terminated()), (&b"eight by"[..], false));
        let behind = *b"a\0\0xy\0\0\0";
        assert_eq!(
            (field(&behind).text(), field(&behind).is_terminated(), field(&behind).behind()),
            (&b"a"[..], true, &b"\0xy"[..])
        );
        let plain = *b"a\0\0\0\0\0\0\0";
        assert_eq!(field(&plain).behind(), b"");
        assert_eq!(Some(field(&plain)), Padded::exact(&b"a"[..]));
        assert_ne!(field(&plain), field(&behind));
        for bytes in [full, behind, plain] {
            let mut out = [0; 8];
            field(&bytes).write(&mut out, 0);
            assert_eq!(out, bytes);
        }
    }

    #[test]
    fn producers_cut_bytewise_and_leave_room_for_a_nul() {
        let cut = Padded::<8>::cut("éééé".as_bytes());
        assert_eq!(cut.text(), &"éééé".as_bytes()[..7]);
        assert_eq!(Padded::<8>::cut(b"1234567".to_vec()).text(), b"1234567");
        assert_eq!(Padded::<8>::cut(b"12345678".to_vec()).text(), b"1234567");
        assert!(Padded::<8>::exact(b"123456789".to_vec()).is_none());
    }
}
