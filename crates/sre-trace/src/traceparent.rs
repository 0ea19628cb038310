use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use sre_core::{SpanId, TraceId};

/// The value of a `traceparent` header: the trace, the caller's span, and flags.
///
/// Parsing and formatting allocate nothing.
///
/// ```
/// use sre_trace::Traceparent;
/// let parsed: Traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap();
/// assert!(parsed.flags.is_sampled());
/// assert_eq!(&*parsed.to_text(), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
/// ```
///
/// Exhaustive: the specification defines these fields, and later versions keep them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Traceparent {
    /// The trace.
    pub trace_id: TraceId,
    /// The span of the caller: `parent-id` in the specification.
    pub span_id: SpanId,
    /// The flags.
    pub flags: TraceFlags,
}

/// The flags of a trace. Those that this version of the specification does not define are not kept.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct TraceFlags(u8);

/// An invalid `traceparent`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTraceparent {
    /// The wrong length.
    #[error("found {found} characters, expected {expected}")]
    Length {
        /// The length in bytes.
        found: usize,
        /// The expected length.
        expected: &'static str,
    },
    /// A character is not a lower-case hex digit, or not the dash between two fields.
    #[error("found `{found}` at byte {position}, expected {expected}")]
    Character {
        /// The character.
        found: char,
        /// Where it is, counted in bytes from 0.
        position: usize,
        /// What is allowed there.
        expected: &'static str,
    },
    /// The version `ff`.
    #[error("found version `ff`, which is forbidden, expected `00`")]
    Version,
    /// An id of zeros only.
    #[error("found only zeros as {field}, expected an id")]
    Zero {
        /// The field: `trace-id` or `parent-id`.
        field: &'static str,
    },
}

const LENGTH: usize = 55;

const HEX: &[u8; 16] = b"0123456789abcdef";
/// A byte of one in each byte.
const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x80 * ONES;

/// Reads eight hex digits at once. The second number is zero if all are lower-case hex digits.
#[inline]
fn hex(digits: [u8; 8]) -> (u32, u64) {
    let text = u64::from_be_bytes(digits);
    // Without the high bits, no sum carries into the next byte.
    let low = text & !HIGH_BITS;
    // A byte has its high bit in the sum if it is at least the first character.
    let at_least = |first: u8| low + u64::from(0x80 - first) * ONES;
    let decimal = at_least(b'0') & !at_least(b'9' + 1);
    let letters = at_least(b'a') & !at_least(b'f' + 1);
    let invalid = (text | !(decimal | letters)) & HIGH_BITS;
    // The low four bits of `a` are 1; letters have the bit of 64.
    let values = (low & (0x0f * ONES)) + 9 * (low >> 6 & ONES);
    let pairs = (values | values >> 4) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs | pairs >> 8) & 0x0000_ffff_0000_ffff;
    ((fours | fours >> 16) as u32, invalid)
}

/// Returns eight bytes from a position.
#[inline]
fn eight(fields: &[u8; LENGTH], start: usize) -> [u8; 8] {
    std::array::from_fn(|index| fields[start + index])
}

impl Traceparent {
    /// Parses the value of a header, without white space around it. Of a later version of the specification, the fields that this
    /// version knows are read.
    ///
    /// # Errors
    ///
    /// Returns an error that says what was found and what was expected.
    #[inline]
    pub fn parse(text: &str) -> Result<Self, InvalidTraceparent> {
        let bytes = text.as_bytes();
        let Some((fields, rest)) = bytes.split_first_chunk::<LENGTH>() else { return Err(error_of(text)) };
        let [trace_1, trace_2, trace_3, trace_4, span_1, span_2] =
            [3, 11, 19, 27, 36, 44].map(|start| hex(eight(fields, start)));
        let others = hex([fields[0], fields[1], fields[53], fields[54], b'0', b'0', b'0', b'0']);
        let [version, flags, ..] = others.0.to_be_bytes();
        let halves = |(one, _): (u32, u64), (other, _): (u32, u64)| u64::from(one) << 32 | u64::from(other);
        let trace_id = u128::from(halves(trace_1, trace_2)) << 64 | u128::from(halves(trace_3, trace_4));
        let invalid = [trace_1, trace_2, trace_3, trace_4, span_1, span_2, others].iter().fold(0, |all, of| all | of.1);
        let has_dashes = (fields[2], fields[35], fields[52]) == (b'-', b'-', b'-');
        let is_end = rest.is_empty() || (version > 0 && rest[0] == b'-');
        match (TraceId::from_bytes(trace_id.to_be_bytes()), SpanId::from_bytes(halves(span_1, span_2).to_be_bytes())) {
            (Some(trace_id), Some(span_id)) if invalid == 0 && has_dashes && is_end && version != 0xff => {
                Ok(Self { trace_id, span_id, flags: TraceFlags::from_bits(flags) })
            }
            _ => Err(error_of(text)),
        }
    }

    /// Returns the value of the header, in version `00`.
    #[inline]
    pub fn to_text(self) -> TraceparentText {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        put_hex(&mut text[3..35], &self.trace_id.to_bytes());
        put_hex(&mut text[36..52], &self.span_id.to_bytes());
        put_hex(&mut text[53..], &[self.flags.0]);
        TraceparentText(text)
    }
}

#[inline]
fn put_hex(text: &mut [u8], bytes: &[u8]) {
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
}

/// Says why a value is invalid.
#[cold]
fn error_of(text: &str) -> InvalidTraceparent {
    let is_first_version = text.get(..2).is_none_or(|version| version == "00");
    for (position, found) in text.char_indices().take_while(|(position, _)| *position <= LENGTH) {
        let expected = match position {
            2 | 35 | 52 if found != '-' => "`-`",
            LENGTH if is_first_version => break,
            LENGTH if found != '-' => "`-` or the end",
            2 | 35 | 52 | LENGTH => continue,
            _ if !matches!(found, '0'..='9' | 'a'..='f') => "a lower-case hex digit",
            _ => continue,
        };
        return InvalidTraceparent::Character { found, position, expected };
    }
    match text.len() {
        found if found < LENGTH || (is_first_version && found > LENGTH) => {
            let expected = if is_first_version { "55" } else { "at least 55" };
            InvalidTraceparent::Length { found, expected }
        }
        _ if text.starts_with("ff") => InvalidTraceparent::Version,
        _ if text[3..35].bytes().all(|byte| byte == b'0') => InvalidTraceparent::Zero { field: "trace-id" },
        _ => InvalidTraceparent::Zero { field: "parent-id" },
    }
}

impl FromStr for Traceparent {
    type Err = InvalidTraceparent;

    fn from_str(text: &str) -> Result<Self, InvalidTraceparent> {
        Self::parse(text)
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

impl TraceFlags {
    /// The caller may have recorded the trace.
    pub const SAMPLED: Self = Self(1);
    /// At least the last seven bytes of the trace's id are random.
    pub const RANDOM_TRACE_ID: Self = Self(2);

    /// Creates flags from the byte of the header. Undefined bits are dropped: the specification requires them to be zero when sent.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & (Self::SAMPLED.0 | Self::RANDOM_TRACE_ID.0))
    }

    /// Returns the byte of the header.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Returns whether the caller may have recorded the trace.
    pub const fn is_sampled(self) -> bool {
        self.0 & Self::SAMPLED.0 != 0
    }

    /// Returns whether at least the last seven bytes of the trace's id are random, so that they may be used for sampling.
    pub const fn is_trace_id_random(self) -> bool {
        self.0 & Self::RANDOM_TRACE_ID.0 != 0
    }

    /// Returns these flags with `sampled` set or cleared.
    #[must_use]
    pub const fn with_sampled(self, sampled: bool) -> Self {
        Self(self.0 & !Self::SAMPLED.0 | sampled as u8)
    }

    /// Returns the flags that are in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for TraceFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}", self.0)
    }
}

/// The text of a [`Traceparent`], on the stack; a `str`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceparentText([u8; LENGTH]);

impl Deref for TraceparentText {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hex digits and dashes")
    }
}

impl fmt::Debug for TraceparentText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn later_versions_may_have_more_fields() {
        for text in [VALID, &VALID.replacen("00", "cc", 1), &format!("{}-future", VALID.replacen("00", "cc", 1))] {
            assert_eq!(&*Traceparent::parse(text).unwrap().to_text(), VALID, "{text}");
        }
    }

    #[test]
    fn flags_that_are_not_defined_are_not_sent_on() {
        let parsed = Traceparent::parse(&VALID.replace("-01", "-ff")).unwrap();
        assert!(parsed.flags.is_sampled() && parsed.flags.is_trace_id_random());
        assert!(parsed.to_text().ends_with("-03"));
        assert!(
            !parsed.flags.with_sampled(false).is_sampled() && parsed.flags.with_sampled(false).is_trace_id_random()
        );
    }

    #[test]
    fn an_error_says_what_was_found() {
        for (text, expected) in [
            (String::new(), "found 0 characters, expected 55"),
            (VALID[..54].to_owned(), "found 54 characters, expected 55"),
            (format!("{VALID}-more"), "found 60 characters, expected 55"),
            (format!("cc{}.more", &VALID[2..]), "found `.` at byte 55, expected `-` or the end"),
            ("cc-0af7651916cd43dd8448eb211c80319c".to_owned(), "found 35 characters, expected at least 55"),
            (VALID.to_uppercase(), "found `A` at byte 4, expected a lower-case hex digit"),
            (VALID.replace("9c-", "9c0"), "found `0` at byte 35, expected `-`"),
            (VALID.replace("0af", "é7f"), "found `é` at byte 3, expected a lower-case hex digit"),
            (format!("ff{}", &VALID[2..]), "found version `ff`, which is forbidden, expected `00`"),
            (
                VALID.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
                "found only zeros as trace-id, expected an id",
            ),
            (VALID.replace("b7ad6b7169203331", &"0".repeat(16)), "found only zeros as parent-id, expected an id"),
        ] {
            assert_eq!(Traceparent::parse(&text).unwrap_err().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn every_byte_in_every_place_is_a_digit_or_not() {
        for byte in 0..=u8::MAX {
            for place in 0..8 {
                let mut digits = *b"09af5b6c";
                digits[place] = byte;
                let text = std::str::from_utf8(&digits).ok();
                let text = text.filter(|text| text.bytes().all(|byte| HEX.contains(&byte)));
                let expected = text.map(|text| u32::from_str_radix(text, 16).unwrap());
                let (found, invalid) = hex(digits);
                assert_eq!((invalid == 0).then_some(found), expected, "{digits:?}");
            }
        }
    }

    /// The grammar of the specification, by splitting at dashes instead of by position.
    fn by_grammar(text: &str) -> Option<(u128, u64, u8)> {
        let is_hex = |field: &str, length| {
            field.len() == length && field.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        };
        let fields: Vec<&str> = text.split('-').collect();
        let [version, trace, span, flags] = *fields.first_chunk()?;
        let is_valid = is_hex(version, 2) && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2);
        let is_version = version != "ff" && (version != "00" || fields.len() == 4);
        if !is_valid || !is_version {
            return None;
        }
        let (trace, span) = (u128::from_str_radix(trace, 16).ok()?, u64::from_str_radix(span, 16).ok()?);
        (trace > 0 && span > 0).then_some((trace, span, u8::from_str_radix(flags, 16).ok()?))
    }

    proptest! {
        #[test]
        fn parsing_follows_the_grammar(text in r"(00|cc|ff|[0-9a-f]{2}|[0-9a-g.]{1,3})-(0{32}|[0-9a-f]{32}|[0-9a-fA-F.]{31,33})-(0{16}|[0-9a-f]{16}|[0-9a-f.]{15,17})-([0-9a-f]{2}|[0-9a-f.]{1,3})(|-|-.*|.*)") {
            let expected = by_grammar(&text);
            let found = Traceparent::parse(&text);
            prop_assert_eq!(found.is_ok(), expected.is_some(), "{:?}", found);
            if let (Ok(found), Some((trace, span, flags))) = (found, expected) {
                prop_assert_eq!(u128::from_be_bytes(found.trace_id.to_bytes()), trace);
                prop_assert_eq!(u64::from_be_bytes(found.span_id.to_bytes()), span);
                prop_assert_eq!(found.flags.bits(), flags & 3);
                prop_assert_eq!(Traceparent::parse(&found.to_text()).unwrap(), found);
            }
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,80}") {
            prop_assert_eq!(Traceparent::parse(&text).is_ok(), by_grammar(&text).is_some());
        }
    }
}
