//! Writes durations as settings files have them, such as `30s`, for `#[serde(serialize_with = "…")]`.

use std::time::Duration;

use serde::Serializer;

use crate::Window;

/// Writes a duration.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    match Window::try_from(*duration) {
        Ok(window) if duration.subsec_nanos().is_multiple_of(1_000_000) => serializer.collect_str(&window),
        // Settings have no unit below the millisecond.
        _ => serializer.collect_str(&format_args!("{duration:?}")),
    }
}

/// Writes a duration, or `null`.
pub fn serialize_option<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serialize(duration, serializer),
        None => serializer.serialize_none(),
    }
}
