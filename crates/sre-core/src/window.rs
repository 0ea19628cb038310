use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The length of a rolling window, above 0: `5m`, `6h` or `30d`.
///
/// Parses the units `ms`, `s`, `m`, `h`, `d` and `w`, also combined (`1h30m`). Displays the largest unit that divides it, with
/// days from two days on (`24h`, but `3d`).
///
/// ```
/// use sre_core::Window;
/// let window: Window = "90m".parse().unwrap();
/// assert_eq!(window, "1h30m".parse().unwrap());
/// assert_eq!(Window::hours(72).to_string(), "3d");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(value_type = String, description = "A length of time: `5m`, `6h` or `1h30m`. Units are ms, s, m, h, d and w.", pattern = "^([0-9]+(ms|s|m|h|d|w))*0*[1-9][0-9]*(ms|s|m|h|d|w)([0-9]+(ms|s|m|h|d|w))*$"))]
pub struct Window(Duration);

/// An invalid window.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found `{found}`, expected a duration such as 5m, 6h or 30d")]
pub struct InvalidWindow {
    found: String,
}

const UNITS: [(&str, u64); 6] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];

const SHORTEST: Duration = Duration::from_millis(1);
/// 100 years.
const LONGEST_SECONDS: u64 = 100 * 365 * 86_400;

impl Window {
    /// Five minutes.
    pub const FIVE_MINUTES: Self = Self::minutes(5);
    /// One hour.
    pub const HOUR: Self = Self::hours(1);
    /// Twenty-four hours.
    pub const DAY: Self = Self::hours(24);
    /// Seven days.
    pub const WEEK: Self = Self::days(7);
    /// The shortest window over which good and bad events are counted exactly, to 1 % of its length.
    pub const SHORTEST_COUNTED: Self = Self(Duration::from_secs(1));
    /// Thirty days.
    pub const MONTH: Self = Self::days(30);

    /// Creates a window of `minutes` minutes, within 1 ms and 100 years.
    pub const fn minutes(minutes: u64) -> Self {
        Self::seconds(minutes.saturating_mul(60))
    }

    /// Creates a window of `hours` hours, within 1 ms and 100 years.
    pub const fn hours(hours: u64) -> Self {
        Self::seconds(hours.saturating_mul(3_600))
    }

    /// Creates a window of `days` days, within 1 ms and 100 years.
    pub const fn days(days: u64) -> Self {
        Self::seconds(days.saturating_mul(86_400))
    }

    const fn seconds(seconds: u64) -> Self {
        Self(match seconds {
            0 => SHORTEST,
            LONGEST_SECONDS.. => Duration::from_secs(LONGEST_SECONDS),
            _ => Duration::from_secs(seconds),
        })
    }

    /// Returns the length.
    pub const fn duration(self) -> Duration {
        self.0
    }

    /// Returns the length in seconds.
    pub fn as_secs_f64(self) -> f64 {
        self.0.as_secs_f64()
    }

    /// Returns a window of a `part`th of the length, at least 1 ms. The short window of a burn alert is a twelfth of the long one.
    pub fn fraction(self, part: u32) -> Self {
        Self((self.0 / part.max(1)).max(SHORTEST))
    }
}

impl TryFrom<Duration> for Window {
    type Error = InvalidWindow;

    fn try_from(duration: Duration) -> Result<Self, InvalidWindow> {
        if duration < SHORTEST || duration > Duration::from_secs(LONGEST_SECONDS) {
            return Err(InvalidWindow { found: format!("{duration:?}") });
        }
        Ok(Self(duration))
    }
}

impl FromStr for Window {
    type Err = InvalidWindow;

    fn from_str(text: &str) -> Result<Self, InvalidWindow> {
        let invalid = || InvalidWindow { found: text.to_owned() };
        let (mut rest, mut millis) = (text.trim(), 0u64);
        if rest.is_empty() {
            return Err(invalid());
        }
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let count: u64 = rest[..digits].parse().map_err(|_| invalid())?;
            rest = &rest[digits..];
            let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
            let unit = UNITS.iter().find(|(name, _)| *name == &rest[..letters]).ok_or_else(invalid)?;
            rest = &rest[letters..];
            millis = count.checked_mul(unit.1).and_then(|more| millis.checked_add(more)).ok_or_else(invalid)?;
        }
        Self::try_from(Duration::from_millis(millis)).map_err(|_| invalid())
    }
}

impl Window {
    /// Returns the text of the window, for the usual ones without an allocation.
    pub(crate) fn text(self) -> Cow<'static, str> {
        const USUAL: [(Window, &str); 7] = [
            (Window::FIVE_MINUTES, "5m"),
            (Window::minutes(30), "30m"),
            (Window::HOUR, "1h"),
            (Window::hours(6), "6h"),
            (Window::DAY, "24h"),
            (Window::days(3), "3d"),
            (Window::MONTH, "30d"),
        ];
        let usual = USUAL.iter().find(|(window, _)| *window == self);
        usual.map_or_else(|| self.to_string().into(), |(_, text)| (*text).into())
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let (unit, size) = match millis {
            _ if millis % 86_400_000 == 0 && millis > 86_400_000 => UNITS[4],
            _ if millis % 3_600_000 == 0 => UNITS[3],
            _ if millis % 60_000 == 0 => UNITS[2],
            _ if millis % 1_000 == 0 => UNITS[1],
            _ => UNITS[0],
        };
        write!(f, "{}{unit}", millis / size)
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_text_of_usual_windows_is_what_they_display() {
        for days in 1..32 {
            for window in [Window::minutes(days), Window::minutes(30 * days), Window::hours(days), Window::days(days)] {
                assert_eq!(window.text(), window.to_string());
            }
        }
    }

    #[test]
    fn no_number_panics_and_every_window_parses_again() {
        for number in [0, 1, 40_000, u64::MAX] {
            for window in [Window::minutes(number), Window::hours(number), Window::days(number)] {
                assert_eq!(window.to_string().parse(), Ok(window), "{number}");
            }
        }
        assert!(Window::minutes(0) < Window::minutes(1));
    }

    #[test]
    fn displays_the_largest_unit() {
        for text in ["5m", "30m", "1h", "6h", "24h", "3d", "7d", "30d", "90s", "250ms", "36h"] {
            assert_eq!(text.parse::<Window>().unwrap().to_string(), text);
        }
        assert_eq!("1w".parse::<Window>().unwrap().to_string(), "7d");
    }

    #[test]
    fn rejects_invalid_durations() {
        for text in ["", "5", "m", "0s", "30x", "-5m", "5m3", "1.5h", "99999999999999999999d", "9999999999999d"] {
            assert!(text.parse::<Window>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_round_trips(millis in 1u64..3_000_000_000_000) {
            let window = Window::try_from(Duration::from_millis(millis)).unwrap();
            prop_assert_eq!(window.to_string().parse::<Window>().unwrap(), window);
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".*") {
            let _ = text.parse::<Window>();
        }
    }
}
