//! Text that is nearly always UTF-8, and preserved byte for byte where it is not (the kernel cuts names bytewise).

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;

/// A text field of an event: UTF-8, or foreign bytes kept as they are.
#[derive(Clone)]
pub enum Text<'a> {
    /// UTF-8.
    Str(Cow<'a, str>),
    /// Bytes that are not UTF-8.
    Bytes(Cow<'a, [u8]>),
}

impl<'a> Text<'a> {
    /// Text from bytes: UTF-8 where they are, raw otherwise.
    pub fn from_bytes(bytes: Vec<u8>) -> Text<'static> {
        match String::from_utf8(bytes) {
            Ok(s) => Text::Str(Cow::Owned(s)),
            Err(e) => Text::Bytes(Cow::Owned(e.into_bytes())),
        }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Text::Str(s) => s.as_bytes(),
            Text::Bytes(b) => b,
        }
    }

    /// The text, when it is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Text::Str(s) => Some(s),
            Text::Bytes(_) => None,
        }
    }

    /// The text with foreign bytes replaced, for display.
    pub fn to_string_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.as_bytes())
    }

    /// The same text, owning its bytes.
    pub fn into_owned(self) -> Text<'static> {
        match self {
            Text::Str(s) => Text::Str(Cow::Owned(s.into_owned())),
            Text::Bytes(b) => Text::Bytes(Cow::Owned(b.into_owned())),
        }
    }

    /// The same text, borrowed.
    pub fn borrowed(&self) -> Text<'_> {
        match self {
            Text::Str(s) => Text::Str(Cow::Borrowed(s)),
            Text::Bytes(b) => Text::Bytes(Cow::Borrowed(b)),
        }
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}
impl Eq for Text<'_> {}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string_lossy(), f)
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_string_lossy())
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(s: &'a str) -> Self {
        Text::Str(Cow::Borrowed(s))
    }
}
impl<'a> From<&'a String> for Text<'a> {
    fn from(s: &'a String) -> Self {
        Text::Str(Cow::Borrowed(s))
    }
}
impl From<String> for Text<'_> {
    fn from(s: String) -> Self {
        Text::Str(Cow::Owned(s))
    }
}
impl<'a> From<Cow<'a, str>> for Text<'a> {
    fn from(s: Cow<'a, str>) -> Self {
        Text::Str(s)
    }
}

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Text::Str(t) => s.serialize_str(t),
            Text::Bytes(b) => s.serialize_bytes(b),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }
            fn visit_borrowed_str<E: Error>(self, v: &'de str) -> Result<Text<'de>, E> {
                Ok(Text::Str(Cow::Borrowed(v)))
            }
            fn visit_str<E: Error>(self, v: &str) -> Result<Text<'de>, E> {
                Ok(Text::Str(Cow::Owned(v.to_owned())))
            }
            fn visit_borrowed_bytes<E: Error>(self, v: &'de [u8]) -> Result<Text<'de>, E> {
                Ok(Text::Bytes(Cow::Borrowed(v)))
            }
            fn visit_bytes<E: Error>(self, v: &[u8]) -> Result<Text<'de>, E> {
                Ok(Text::Bytes(Cow::Owned(v.to_vec())))
            }
        }
        d.deserialize_any(V)
    }
}
