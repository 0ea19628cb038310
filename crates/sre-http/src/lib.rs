//! The HTTP client of agent-sre, which implements [`sre_core::HttpClient`], and the [`Outbox`] of exporters.
//!
//! The client has connect and total time-outs, TLS by rustls with the system's roots, proxies from the environment
//! (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`) and a size limit for responses; it follows no redirects. It makes single
//! requests: retries follow a [`RetryPolicy`](sre_core::RetryPolicy) and are up to the caller, such as the outbox.
//! Errors name the host but not the rest of the URL, which may hold a key.
//!
//! ```
//! use std::time::Duration;
//! use sre_http::{Client, Options};
//! let client = Client::new(Options { timeout: Duration::from_secs(3), ..Default::default() }).unwrap();
//! # let _: &dyn sre_core::HttpClient = &client;
//! ```
mod client;
mod outbox;

pub use client::{BuildError, Client, Options};
pub use outbox::{DropReason, Outbox, OutboxError, OutboxLimits, OutboxOptions, OutboxStats, RecordCounts};

/// Runs the README's example as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
