//! Shared internals of the agent-sre crates. Not public API: may change in any version.

mod decimal;
pub mod duration;
pub mod json_text;

pub use self::decimal::decimal;
pub use crate::hash::stable_hash;
pub use crate::sync::lock;
pub use crate::thread::thread_number;
