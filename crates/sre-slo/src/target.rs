use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A target ratio: above 0, at most 1.
///
/// ```
/// use sre_slo::SloTarget;
/// assert_eq!("99.5%".parse::<SloTarget>().unwrap().ratio(), 0.995);
/// assert_eq!(SloTarget::from_number(95.0).unwrap().ratio(), 0.95);
/// assert_eq!(SloTarget::try_from(0.95).unwrap().budget(), 0.05);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct SloTarget(f64);

/// An invalid target.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("found `{found}`, expected a ratio such as 0.95, or a percentage such as 95 or `95%`")]
pub struct InvalidTarget {
    found: String,
}

impl SloTarget {
    /// Returns the ratio, above 0 and at most 1.
    pub const fn ratio(self) -> f64 {
        self.0
    }

    /// Returns the error budget, `1 - target`, without rounding errors.
    pub fn budget(self) -> f64 {
        round_to_12_decimals(1.0 - self.0)
    }

    /// Creates a target from a ratio up to 1, or from a percentage above 1 and up to 100.
    ///
    /// # Errors
    ///
    /// Returns an error for any other number.
    pub fn from_number(number: f64) -> Result<Self, InvalidTarget> {
        let ratio = if number > 1.0 { percent(number) } else { number };
        Self::try_from(ratio).map_err(|_| InvalidTarget { found: number.to_string() })
    }
}

fn percent(number: f64) -> f64 {
    round_to_12_decimals(number / 100.0)
}

/// Rounds to twelve decimals, so that 1 - 0.95 is 0.05.
pub(crate) fn round_to_12_decimals(number: f64) -> f64 {
    (number * 1e12).round() / 1e12
}

impl TryFrom<f64> for SloTarget {
    type Error = InvalidTarget;

    fn try_from(ratio: f64) -> Result<Self, InvalidTarget> {
        if ratio > 0.0 && ratio <= 1.0 { Ok(Self(ratio)) } else { Err(InvalidTarget { found: ratio.to_string() }) }
    }
}

impl FromStr for SloTarget {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let invalid = || InvalidTarget { found: text.to_owned() };
        match text.trim().strip_suffix('%') {
            Some(number) => {
                let number: f64 = number.trim().parse().map_err(|_| invalid())?;
                Self::try_from(percent(number)).map_err(|_| invalid())
            }
            None => Self::from_number(text.trim().parse().map_err(|_| invalid())?).map_err(|_| invalid()),
        }
    }
}

impl fmt::Display for SloTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", round_to_12_decimals(self.0 * 100.0))
    }
}

impl Serialize for SloTarget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

impl<'de> Deserialize<'de> for SloTarget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let target = match &value {
            serde_json::Value::Number(number) => Self::from_number(number.as_f64().unwrap_or(f64::NAN)),
            serde_json::Value::String(text) => text.parse(),
            other => Err(InvalidTarget { found: other.to_string() }),
        };
        target.map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_percentages_and_nonsense() {
        for (number, ratio) in [(0.95, 0.95), (1.0, 1.0), (95.0, 0.95), (99.9, 0.999), (100.0, 1.0)] {
            assert_eq!(SloTarget::from_number(number).unwrap().ratio(), ratio);
        }
        for number in [0.0, -0.5, 100.1, f64::NAN, f64::INFINITY] {
            assert!(SloTarget::from_number(number).is_err(), "{number}");
        }
        assert_eq!("0.5%".parse::<SloTarget>().unwrap().ratio(), 0.005);
        assert!("lots".parse::<SloTarget>().is_err() && "%".parse::<SloTarget>().is_err());
    }
}
