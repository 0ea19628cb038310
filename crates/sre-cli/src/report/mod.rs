//! The report that a person reads at a glance.
mod format;
pub(crate) mod style;
mod text;

pub(crate) use text::text;
