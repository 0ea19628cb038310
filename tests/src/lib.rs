//! Tests across the crates; see the files beside `Cargo.toml`.
