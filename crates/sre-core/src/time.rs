use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Clock, SystemClock};

/// A point in time from 1970 to 2262, in nanoseconds since the Unix epoch.
///
/// Serialized as RFC 3339; deserialized from RFC 3339 or Unix seconds, with fractions.
///
/// ```
/// use sre_core::Timestamp;
/// let time: Timestamp = "2026-11-23T03:02:13.5Z".parse().unwrap();
/// assert_eq!(time, Timestamp::from_unix_seconds(1_795_402_933.5).unwrap());
/// assert_eq!(time.to_string(), "2026-11-23T03:02:13.5Z");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime, description = "A time, as RFC 3339."))]
pub struct Timestamp(i64);

/// An invalid or out-of-range time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found {found}, expected RFC 3339 or Unix seconds between 1970 and 2262")]
pub struct InvalidTime {
    found: String,
}

impl Timestamp {
    /// Returns the time of the system clock. Engines take a [`Clock`](crate::Clock) instead.
    pub fn now() -> Self {
        SystemClock.now()
    }

    /// Creates the time `nanos` nanoseconds after the Unix epoch.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Creates the time `seconds` seconds after the Unix epoch.
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    /// Creates the time `seconds` seconds after the Unix epoch.
    ///
    /// # Errors
    ///
    /// Returns an error outside 1970 to 2262.
    pub fn from_unix_seconds(seconds: f64) -> Result<Self, InvalidTime> {
        if (0.0..9.2e9).contains(&seconds) {
            // Whole seconds and fraction separately: their product would be rounded to a quarter of a microsecond.
            Ok(Self(seconds.trunc() as i64 * 1_000_000_000 + (seconds.fract() * 1e9).round() as i64))
        } else {
            Err(InvalidTime { found: seconds.to_string() })
        }
    }

    /// Returns the nanoseconds since the Unix epoch.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Returns the whole seconds since the Unix epoch, rounded down.
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }

    /// Returns the seconds since the Unix epoch.
    pub fn as_unix_seconds(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// Returns the time elapsed since `earlier`, or zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Returns the milliseconds elapsed since `earlier`, or zero if `earlier` is later.
    pub fn millis_since(self, earlier: Self) -> f64 {
        self.since(earlier).as_nanos() as f64 / 1e6
    }

    /// Passes the RFC 3339 text to `write`, without the machinery of formatting: exporters write times for every event.
    fn with_text<T>(self, write: impl FnOnce(&str) -> T) -> T {
        let (seconds, nanos) = (self.as_secs(), self.0.rem_euclid(1_000_000_000) as i32);
        let time = jiff::Timestamp::new(seconds, nanos).expect("within years 1677 to 2262");
        let time = jiff::tz::Offset::UTC.to_datetime(time);
        let mut text = *b"0000-00-00T00:00:00.000000000Z";
        let mut put = |place: usize, number: i8| {
            (text[place], text[place + 1]) = (b'0' + (number / 10) as u8, b'0' + (number % 10) as u8);
        };
        put(0, (time.year() / 100) as i8);
        put(2, (time.year() % 100) as i8);
        for (place, number) in
            [(5, time.month()), (8, time.day()), (11, time.hour()), (14, time.minute()), (17, time.second())]
        {
            put(place, number);
        }
        let (mut end, mut rest) = (19, nanos);
        for place in (20..29).rev().take_while(|_| nanos != 0) {
            // The fraction ends with its last digit that is not 0.
            if end == 19 && rest % 10 != 0 {
                end = place + 1;
            }
            text[place] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        text[end] = b'Z';
        write(std::str::from_utf8(&text[..=end]).expect("digits"))
    }

    /// Adds a duration, saturating in the year 2262.
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }

    /// Subtracts a duration, saturating at the minimum.
    pub fn saturating_sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(duration)))
    }
}

pub(crate) fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_text(|text| f.write_str(text))
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTime;

    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        let invalid = || InvalidTime { found: format!("`{text}`") };
        let time: jiff::Timestamp = text.parse().map_err(|_| invalid())?;
        match i64::try_from(time.as_nanosecond()) {
            Ok(nanos) if nanos >= 0 => Ok(Self(nanos)),
            _ => Err(invalid()),
        }
    }
}

/// Serializes as RFC 3339 in human-readable formats and as nanoseconds in others.
impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            self.with_text(|text| serializer.serialize_str(text))
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(TimeVisitor)
        } else {
            i64::deserialize(deserializer).map(Self)
        }
    }
}

struct TimeVisitor;

impl de::Visitor<'_> for TimeVisitor {
    type Value = Timestamp;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time as RFC 3339 or Unix seconds")
    }

    fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Timestamp, E> {
        Timestamp::from_unix_seconds(seconds).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Timestamp, E> {
        let nanos = i64::try_from(seconds).ok().and_then(|seconds| seconds.checked_mul(1_000_000_000));
        nanos.map(Timestamp).ok_or_else(|| E::custom(InvalidTime { found: seconds.to_string() }))
    }

    fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Timestamp, E> {
        Err(E::custom(InvalidTime { found: seconds.to_string() }))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Timestamp, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_jiff() {
        for nanos in [
            i64::MIN,
            -1,
            0,
            1,
            999_999_999,
            951_782_400_000_000_000,
            1_795_402_933_500_000_000,
            1_795_402_933_000_000_120,
            4_107_542_399_999_999_999,
            i64::MAX,
        ] {
            let expected = jiff::Timestamp::from_nanosecond(nanos.into()).unwrap().to_string();
            let time = Timestamp::from_nanos(nanos);
            assert_eq!(time.to_string(), expected);
            assert_eq!(serde_json::to_string(&time).unwrap(), format!("\"{expected}\""));
        }
    }

    #[test]
    fn now_is_the_time_of_the_system() {
        let since_epoch = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        let before = since_epoch();
        let now = u128::try_from(Timestamp::now().as_nanos()).unwrap();
        assert!((before..=since_epoch()).contains(&now));
    }

    #[test]
    fn text_is_parsed_in_both_forms_and_errors_say_what_was_found() {
        for (text, nanos) in [
            ("2026-11-23T03:00:23Z", 1_795_402_823_000_000_000),
            ("2026-11-23T04:00:23.5+01:00", 1_795_402_823_500_000_000),
            ("1970-01-01T00:00:00Z", 0),
        ] {
            assert_eq!(text.parse::<Timestamp>().map(Timestamp::as_nanos), Ok(nanos), "{text}");
        }
        for text in
            ["", "yesterday", "2026-11-23", "2026-13-01T00:00:00Z", "1969-12-31T23:59:59Z", "2300-01-01T00:00:00Z"]
        {
            let error = text.parse::<Timestamp>().unwrap_err();
            let source: &dyn std::error::Error = &error;
            assert!(source.to_string().starts_with("found "), "{text}: {source}");
            assert!(source.to_string().contains(text), "{text}: {source}");
        }
    }

    #[test]
    fn both_forms_are_parsed_and_impossible_times_rejected() {
        for (json, nanos) in [
            ("0", 0),
            ("1795402823", 1_795_402_823_000_000_000),
            ("1795402823.25", 1_795_402_823_250_000_000),
            ("\"2026-11-23T03:00:23+00:00\"", 1_795_402_823_000_000_000),
            ("\"2026-11-23T04:00:23.000000001+01:00\"", 1_795_402_823_000_000_001),
        ] {
            assert_eq!(serde_json::from_str::<Timestamp>(json).unwrap().as_nanos(), nanos, "{json}");
        }
        for json in ["-1", "1e300", "1795402823000", "\"yesterday\"", "\"1969-12-31T23:59:59Z\"", "null", "true"] {
            assert!(serde_json::from_str::<Timestamp>(json).is_err(), "{json}");
        }
    }
}
