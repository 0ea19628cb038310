use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::hash::{stable_hash, stable_id};

/// The id of a trace, as in the [W3C trace context](https://www.w3.org/TR/trace-context/#trace-id): 16 bytes, not all
/// zero. Its text is 32 lower-case hex digits.
///
/// ```
/// use sre_core::TraceId;
/// let id: TraceId = "5b8efff798038103d269b633813fc60c".parse().unwrap();
/// assert_eq!(id.to_string(), "5b8efff798038103d269b633813fc60c");
/// assert!("00000000000000000000000000000000".parse::<TraceId>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(value_type = String, pattern = "^(?!0+$)[0-9a-f]{32}$"))]
pub struct TraceId(NonZeroU128);

/// The id of a span, as in the [W3C trace context](https://www.w3.org/TR/trace-context/#parent-id): 8 bytes, not all
/// zero. Its text is 16 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(value_type = String, pattern = "^(?!0+$)[0-9a-f]{16}$"))]
pub struct SpanId(NonZeroU64);

/// An invalid id of a trace or span.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidId {
    /// The wrong length, or not hex digits.
    #[error("found `{found}`, expected {digits} hex digits")]
    NotHex {
        /// The text.
        found: String,
        /// The expected number of digits.
        digits: usize,
    },
    /// All zero, which is not a valid id in the W3C trace context.
    #[error("found only zeros, expected an id")]
    Zero,
}

/// Passes the hex digits of `bytes` to `write`, without the machinery of formatting: exporters write ids for every event.
fn hex_digits<T>(bytes: &[u8], digits: &mut [u8], write: impl FnOnce(&str) -> T) -> T {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    write(std::str::from_utf8(digits).expect("digits"))
}

/// Implements the methods and traits of both id types, which differ only in length.
macro_rules! hex_id {
    ($id:ident, $nonzero:ident, $integer:ident, $bytes:literal) => {
        impl $id {
            /// Creates an id from its bytes, most significant first. Returns `None` if all are zero.
            pub fn from_bytes(bytes: [u8; $bytes]) -> Option<Self> {
                $nonzero::new($integer::from_be_bytes(bytes)).map(Self)
            }

            /// Returns the bytes of the id, most significant first.
            pub fn to_bytes(self) -> [u8; $bytes] {
                self.0.get().to_be_bytes()
            }
        }

        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                hex_digits(&self.to_bytes(), &mut [0; 2 * $bytes], |digits| f.write_str(digits))
            }
        }

        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $id {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                // `from_str_radix` alone would accept a sign.
                let is_hex = text.len() == 2 * $bytes && text.bytes().all(|byte| byte.is_ascii_hexdigit());
                let number = is_hex.then(|| $integer::from_str_radix(text, 16).ok()).flatten();
                let number = number.ok_or_else(|| InvalidId::NotHex { found: text.to_owned(), digits: 2 * $bytes })?;
                $nonzero::new(number).map(Self).ok_or(InvalidId::Zero)
            }
        }

        impl Serialize for $id {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    hex_digits(&self.to_bytes(), &mut [0; 2 * $bytes], |digits| serializer.serialize_str(digits))
                } else {
                    self.to_bytes().serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $id {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
                } else {
                    let bytes = Deserialize::deserialize(deserializer)?;
                    Self::from_bytes(bytes).ok_or_else(|| de::Error::custom(InvalidId::Zero))
                }
            }
        }
    };
}

hex_id!(TraceId, NonZeroU128, u128, 16);
hex_id!(SpanId, NonZeroU64, u64, 8);

impl TraceId {
    /// Derives an id from texts. The same texts give the same id in every version and on every machine.
    pub fn derived(parts: &[&str]) -> Self {
        Self::from_bytes(stable_id(parts)).expect("a stable id is never all zero")
    }

    /// Derives an id from a framework's own id. The same text always gives the same id.
    pub fn from_native(native_id: &str) -> Self {
        let hash = u128::from_be_bytes(stable_hash(&[native_id.as_bytes()]));
        Self(NonZeroU128::new(hash).unwrap_or(NonZeroU128::MAX))
    }
}

impl SpanId {
    /// Derives an id from texts. The same texts give the same id in every version and on every machine.
    pub fn derived(parts: &[&str]) -> Self {
        Self::first_half(stable_id(parts))
    }

    /// Returns the first half of a longer id; never all zero, which is not a valid id.
    pub(crate) fn first_half(id: [u8; 16]) -> Self {
        let half = (u128::from_be_bytes(id) >> 64) as u64;
        Self(NonZeroU64::new(half).unwrap_or(NonZeroU64::MIN))
    }

    /// Derives an id from a framework's own span id, which is unique within `trace`. The same texts always give the
    /// same id.
    pub fn from_native(trace: &str, native_id: &str) -> Self {
        let hash = u128::from_be_bytes(stable_hash(&[trace.as_bytes(), native_id.as_bytes()]));
        Self(NonZeroU64::new(hash as u64).unwrap_or(NonZeroU64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_hex_of_their_length_and_not_zero() {
        let id: SpanId = "00F067AA0BA902B7".parse().unwrap();
        assert_eq!((id.to_string().as_str(), id.to_bytes()[1]), ("00f067aa0ba902b7", 0xf0));
        assert_eq!(SpanId::from_bytes(id.to_bytes()), Some(id));
        assert_eq!("0".repeat(16).parse::<SpanId>(), Err(InvalidId::Zero));
        for text in
            ["", "f067aa0ba902b7", "+0f067aa0ba902b7", "00f067aa0ba902bg", "00f067aa0ba902b7\n", "é0f067aa0ba902b"]
        {
            assert!(matches!(text.parse::<SpanId>(), Err(InvalidId::NotHex { .. })), "{text}");
        }
    }

    #[test]
    fn both_forms_round_trip() {
        let id: TraceId = "5b8efff798038103d269b633813fc60c".parse().unwrap();
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, r#""5b8efff798038103d269b633813fc60c""#);
        assert_eq!(serde_json::from_str::<TraceId>(&json).unwrap(), id);
        let bytes = postcard::to_stdvec(&id).unwrap();
        assert_eq!(bytes.len(), 16);
        assert_eq!(postcard::from_bytes::<TraceId>(&bytes).unwrap(), id);
        assert!(postcard::from_bytes::<TraceId>(&[0; 16]).is_err());
    }

    #[test]
    fn native_ids_have_one_id_each_within_their_trace() {
        assert_eq!(SpanId::from_native("a", "b"), SpanId::from_native("a", "b"));
        assert_ne!(SpanId::from_native("a", "b"), SpanId::from_native("ab", ""));
        assert_ne!(TraceId::from_native("a"), TraceId::from_native("b"));
    }
}
