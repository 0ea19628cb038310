//! The report that a person reads at a glance.
mod format;
mod guards;
pub(crate) mod style;
mod text;

pub(crate) use text::text;
