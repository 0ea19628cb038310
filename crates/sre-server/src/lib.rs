//! The live service: receives the telemetry of AI agents over HTTP, evaluates objectives, alerts, breakers and costs, and shows
//! them.
//!
//! Acknowledged batches survive a crash: a batch is in the journal before it is acknowledged, and a restart restores the last
//! snapshot and replays the journal's entries after it. Two threads process batches in order: one writes them to the journal,
//! the other feeds them to the engines. API requests read the state of the engines.
//!
//! Request bodies of megabytes fragment the memory of some allocators. The `sre` command uses jemalloc, which keeps memory flat;
//! a program of your own that runs a server should do so too.
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
mod admission;
mod api;
mod app;
mod batch;
mod body_buffer;
mod body_memory;
mod check;
mod config;
mod connection;
mod counters;
mod dropped_agents;
mod engine_set;
mod event_checks;
mod exporter_log;
mod history;
mod journal_clock;
mod listen;
mod live;
mod loaded_config;
mod overlap;
mod overrides;
mod pipeline;
mod processor;
mod reload;
mod removed_exporters;
mod replay;
mod request_metrics;
mod scrapes;
mod server;
mod service_time;
mod shared;
mod start_error;
mod token;

pub use agent_sre::yaml::ConfigError;
pub use api::openapi;
pub use config::{Config, ServerLimits, Tls, config_schema};
pub use dropped_agents::DroppedAgents;
pub use engine_set::EngineSetError;
pub use ipnet::IpNet;
pub use loaded_config::LoadError;
pub use overrides::Overrides;
pub use server::Server;
pub use start_error::StartError;
pub use token::{Scope, Token};

/// Tests the README's examples.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
