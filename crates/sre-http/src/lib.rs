//! The one HTTP client of the workspace, behind [`sre_core::HttpClient`].
//!
//! Connect and total time-outs, TLS by rustls with the system's roots, proxies by environment (`HTTPS_PROXY`,
//! `HTTP_PROXY`, `NO_PROXY`), no redirects, a bound on the size of answers. It makes single requests: when to try again
//! is a [`RetryPolicy`](sre_core::RetryPolicy), applied by whoever keeps the queue. Errors name the host and never the
//! rest of a URL, which may hold a key.
//!
//! ```
//! use std::time::Duration;
//! use sre_http::{Client, Options};
//! let client = Client::new(Options { timeout: Duration::from_secs(3), ..Default::default() }).unwrap();
//! # let _: &dyn sre_core::HttpClient = &client;
//! ```
mod client;

pub use client::{BuildError, Client, Options};

/// The README's example compiles and holds.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
