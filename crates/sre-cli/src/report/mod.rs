//! The text report of `sre check`.
mod format;
mod guards;
pub(crate) mod style;
mod text;

pub(crate) use text::text;
