//! The workspace's only build tool: `cargo xtask lint`, `test`, `bench`, `check-layers`.

mod bench;
mod layers;
mod lint;
mod test;

use std::process::Command;

use anyhow::{Context, bail};
use clap::Parser;

/// What CI runs, and what you can run.
#[derive(Parser)]
enum Task {
    /// Formatting, clippy, documentation, layers, and every crate with each of its features alone.
    Lint,
    /// Every test, documentation tests included.
    Test {
        /// Fetch missing outside services through apt and pip first.
        #[arg(long)]
        install: bool,
    },
    /// Every benchmark, and the table of what was asked and what was measured.
    Bench {
        /// Only show what the last run measured.
        #[arg(long)]
        last: bool,
    },
    /// Fail on an edge between crates that the layers forbid.
    CheckLayers,
}

fn main() -> anyhow::Result<()> {
    std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).context("the workspace's folder")?;
    match Task::parse() {
        Task::Lint => lint::run(),
        Task::Test { install } => test::run(install),
        Task::Bench { last } => bench::run(last),
        Task::CheckLayers => layers::check(),
    }
}

/// Runs cargo with `arguments`, after saying so.
fn cargo(arguments: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<()> {
    eprintln!("$ cargo {}", arguments.join(" "));
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    // This process was itself started by cargo, whose view of a single package must not leak into the next one.
    command.args(arguments).env_remove("CARGO_MANIFEST_DIR").envs(environment.iter().copied());
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("`cargo {}` failed", arguments.join(" "));
    }
    Ok(())
}
