use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An amount of US dollars, counted in nano-dollars (10⁻⁹ $), from −9.2 to 9.2 billion.
///
/// Serialised as a decimal string. Deserialised from a string or a number, rounded half to even to nine decimals. Sums saturate
/// instead of wrapping.
///
/// ```
/// use sre_core::Usd;
/// let cost: Usd = "0.0125".parse().unwrap();
/// assert_eq!(cost.nanos(), 12_500_000);
/// assert_eq!((cost + cost).to_string(), "0.025");
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(value_type = String, description = "US dollars, as a decimal.", pattern = "^-?[0-9]+([.][0-9]+)?$"))]
pub struct Usd(i64);

/// An amount that is not a number, or out of range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found {found}, expected an amount of dollars such as 0.25, at most 9.2 billion")]
pub struct InvalidUsd {
    found: String,
}

const NANOS: i64 = 1_000_000_000;

impl Usd {
    /// Zero dollars.
    pub const ZERO: Self = Self(0);

    /// Creates an amount from nano-dollars.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Returns the amount in nano-dollars.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Returns the amount in dollars, for charts and means. Keep sums in [`Usd`], which is exact.
    pub fn as_dollars(self) -> f64 {
        self.0 as f64 / NANOS as f64
    }

    /// Returns the sum, or `None` if it is out of range.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// Returns the difference, or `None` if it is out of range.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// Returns the amount in percent of `whole`, or `None` if `whole` is 0.
    pub fn percent_of(self, whole: Self) -> Option<f64> {
        (whole != Self::ZERO).then(|| self.0 as f64 * 100.0 / whole.0 as f64)
    }

    /// Returns whether the amount is below zero.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }
}

impl TryFrom<f64> for Usd {
    type Error = InvalidUsd;

    fn try_from(dollars: f64) -> Result<Self, InvalidUsd> {
        // The shortest decimal that parses to the same float is the number as written.
        if dollars.is_finite() { format!("{dollars}").parse() } else { Err(InvalidUsd { found: dollars.to_string() }) }
    }
}

impl FromStr for Usd {
    type Err = InvalidUsd;

    fn from_str(text: &str) -> Result<Self, InvalidUsd> {
        let invalid = || InvalidUsd { found: format!("`{text}`") };
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| invalid())?),
            None => (digits, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.len() + fraction.len() == 0 || !is_number(whole) || !is_number(fraction) || exponent.abs() > 400 {
            return Err(invalid());
        }
        let nanos = round_to_nanos(whole, fraction, exponent).ok_or_else(invalid)?;
        Ok(Self(if negative { -nanos } else { nanos }))
    }
}

/// Returns `whole.fraction × 10^exponent` dollars in nano-dollars, rounded half to even.
fn round_to_nanos(whole: &str, fraction: &str, exponent: i32) -> Option<i64> {
    let kept = i64::try_from(whole.len()).ok()? + i64::from(exponent) + 9;
    let (mut nanos, mut first_cut, mut rest_cut) = (0i64, 0u8, false);
    for (place, byte) in whole.bytes().chain(fraction.bytes()).enumerate() {
        let (place, digit) = (i64::try_from(place).ok()?, byte - b'0');
        if place < kept {
            nanos = nanos.checked_mul(10)?.checked_add(i64::from(digit))?;
        } else if place == kept {
            first_cut = digit;
        } else {
            rest_cut |= digit != 0;
        }
    }
    let given = i64::try_from(whole.len() + fraction.len()).ok()?;
    if nanos != 0 {
        for _ in given..kept {
            nanos = nanos.checked_mul(10)?;
        }
    }
    let up = first_cut > 5 || (first_cut == 5 && (rest_cut || nanos % 2 == 1));
    nanos.checked_add(i64::from(up))
}

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        let (whole, fraction) = (nanos / NANOS.unsigned_abs(), nanos % NANOS.unsigned_abs());
        let sign = if self.0 < 0 { "-" } else { "" };
        if fraction == 0 {
            return write!(f, "{sign}{whole}");
        }
        let digits = format!("{fraction:09}");
        write!(f, "{sign}{whole}.{}", digits.trim_end_matches('0'))
    }
}

impl fmt::Debug for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Usd({self})")
    }
}

impl Add for Usd {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Usd {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Usd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

/// A decimal string in human-readable formats, nano-dollars in others.
impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(UsdVisitor)
        } else {
            i64::deserialize(deserializer).map(Self)
        }
    }
}

struct UsdVisitor;

impl de::Visitor<'_> for UsdVisitor {
    type Value = Usd;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an amount of dollars, as a decimal string or a number")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Usd, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, dollars: f64) -> Result<Usd, E> {
        Usd::try_from(dollars).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, dollars: u64) -> Result<Usd, E> {
        let nanos = i64::try_from(dollars).ok().and_then(|dollars| dollars.checked_mul(NANOS));
        nanos.map(Usd).ok_or_else(|| E::custom(InvalidUsd { found: dollars.to_string() }))
    }

    fn visit_i64<E: de::Error>(self, dollars: i64) -> Result<Usd, E> {
        dollars.checked_mul(NANOS).map(Usd).ok_or_else(|| E::custom(InvalidUsd { found: dollars.to_string() }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rounds_half_to_even_at_the_nano_dollar() {
        for (text, nanos) in [
            ("0.0000000005", 0),
            ("0.0000000015", 2),
            ("0.00000000050001", 1),
            ("0.0000000025", 2),
            ("1e-9", 1),
            ("1.5E3", 1_500_000_000_000),
            ("-0.25", -250_000_000),
            (".5", 500_000_000),
            ("0e300", 0),
            ("9223372036.854775807", i64::MAX),
        ] {
            assert_eq!(text.parse::<Usd>().unwrap().nanos(), nanos, "{text}");
        }
        for text in ["", "-", ".", "1,5", "$1", "NaN", "inf", "1e", "9223372036.854775808", "1e300", "--1", "1.2.3"] {
            assert!(text.parse::<Usd>().is_err(), "{text}");
        }
        assert!(Usd::try_from(f64::NAN).is_err() && Usd::try_from(f64::INFINITY).is_err());
    }

    proptest! {
        #[test]
        fn text_and_json_round_trip(nanos in any::<i64>()) {
            let amount = Usd::from_nanos(nanos.max(-i64::MAX));
            prop_assert_eq!(amount.to_string().parse::<Usd>().unwrap(), amount);
            let json = serde_json::to_string(&amount).unwrap();
            prop_assert_eq!(serde_json::from_str::<Usd>(&json).unwrap(), amount);
        }

        #[test]
        fn a_sum_is_exact_whatever_its_order(amounts in prop::collection::vec(0i64..1 << 40, 0..50)) {
            let exact: i64 = amounts.iter().sum();
            let forwards: Usd = amounts.iter().map(|&nanos| Usd::from_nanos(nanos)).sum();
            let backwards: Usd = amounts.iter().rev().map(|&nanos| Usd::from_nanos(nanos)).sum();
            prop_assert_eq!(forwards.nanos(), exact);
            prop_assert_eq!(backwards, forwards);
        }

        #[test]
        fn numbers_read_as_what_was_written(nanos in 0i64..1_000_000_000_000) {
            let written = Usd::from_nanos(nanos);
            let number: f64 = written.to_string().parse().unwrap();
            prop_assert_eq!(Usd::try_from(number).unwrap(), written);
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".*") {
            let _ = text.parse::<Usd>();
        }
    }
}
