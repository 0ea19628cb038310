//! The live service: takes agents' runs in over HTTP, keeps their objectives, alerts and costs, and shows them.
//!
//! What it has acknowledged survives: a batch is in the journal before its sender hears of it, and state is a snapshot and
//! the journal's entries after it. Two threads do that, in order: one writes what waits to the journal, the other takes it
//! in. Everything else answers from what they have made of it.
//!
//! Bodies of megabytes come and go all the time. The `sre` command has jemalloc for its allocator, under which memory stays flat;
//! a program of your own that runs a server should have one like it.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use sre_server::{Config, Server};
//! # let folder = tempfile::tempdir()?;
//! let config = Config { listen: "127.0.0.1:0".parse()?, data: folder.path().into(), ..Config::default() };
//! let server = Server::start(config).await?;
//! println!("{}", server.url());
//! server.stop().await;
//! # Ok(())
//! # }
//! ```
mod api;
mod app;
mod batch;
mod config;
mod engine_set;
mod history;
mod listen;
mod live;
mod loaded_config;
mod pipeline;
mod processor;
mod reload;
mod server;
mod shared;
mod token;

pub use agent_sre::yaml::ConfigError;
pub use api::OPENAPI;
pub use config::{CONFIG_SCHEMA, Config, ServerLimits, Tls};
pub use engine_set::EngineSetError;
pub use loaded_config::LoadError;
pub use server::{Server, StartError};
pub use token::{Scope, Token};

/// The README's example compiles and holds.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
