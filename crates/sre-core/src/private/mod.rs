//! Shared internals of the agent-sre crates. Not public API: may change in any version.

mod decimal;
pub mod duration;
pub(crate) mod float;
pub mod json_text;
pub mod lenient;
pub mod text_only;
mod unique_name;

pub use self::decimal::{apart, decimal, decimal_with, is_rounding, without_zeros};
pub use self::unique_name::unique_name;
pub use crate::hash::stable_hash;
pub use crate::sync::lock;
pub use crate::thread::thread_number;

/// Maximum size of the JSON of a signal that is restored from saved state, in bytes. Larger ones were saved by an earlier version, in
/// which names had no limit.
pub const MAX_SIGNAL_BYTES: usize = 1 << 20;
