//! Shared internals of the agent-sre crates. Not public API: may change in any version.

mod decimal;
pub mod duration;
pub mod json_text;
mod unique_name;

pub use self::decimal::decimal;
pub use self::unique_name::unique_name;
pub use crate::hash::stable_hash;
pub use crate::sync::lock;
pub use crate::thread::thread_number;
