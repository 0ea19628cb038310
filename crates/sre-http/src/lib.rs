//! The one HTTP client of the workspace, behind [`sre_core::HttpClient`], and the [`Outbox`] that sends batches with it.
//!
//! Connect and total time-outs, TLS by rustls with the system's roots, proxies by environment (`HTTPS_PROXY`,
//! `HTTP_PROXY`, `NO_PROXY`), no redirects, a bound on the size of answers. It makes single requests: when to try again
//! is a [`RetryPolicy`](sre_core::RetryPolicy), applied by whoever keeps the queue, such as the outbox. Errors name the host and never the
//! rest of a URL, which may hold a key.
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
