//! x
mod spec { mod node; }
