//! The workspace's only build tool: `cargo xtask lint`, `test`, `verify`, `bench`, `check-layers`.

mod bench;
mod layers;
mod lint;
mod manifests;
mod test;
mod tools;
mod verify;

use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use clap::Parser;

/// What CI runs, and what you can run.
#[derive(Parser)]
enum Task {
    /// Formatting, clippy, documentation, layers, manifests, dependencies, and every crate with each of its features alone.
    Lint {
        /// Install cargo-hack and cargo-deny first, and fail where that is impossible.
        #[arg(long)]
        install: bool,
    },
    /// Every test, documentation tests included.
    Test {
        /// Install the outside programs that tests use first, and fail where one is missing.
        #[arg(long)]
        install: bool,
    },
    /// The checks that CI has no time for, as a table for `docs/verification.md`.
    Verify {
        /// Only these checks; all of them by default.
        #[arg(value_parser = verify::names())]
        names: Vec<String>,
        /// The git revision that `semver` compares with; the last tag by default.
        #[arg(long, value_name = "REV")]
        baseline_rev: Option<String>,
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
        Task::Lint { install } => lint::run(install),
        Task::Test { install } => test::run(install),
        Task::Verify { names, baseline_rev } => verify::run(&names, baseline_rev),
        Task::Bench { last } => bench::run(last),
        Task::CheckLayers => layers::check(),
    }
}

/// Runs cargo with `arguments`, after saying so.
fn cargo(arguments: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<()> {
    eprintln!("$ cargo {}", arguments.join(" "));
    let mut command = cargo_command(arguments);
    let status = command.envs(environment.iter().copied()).status().context("cannot start cargo")?;
    if !status.success() {
        bail!("`cargo {}` failed", arguments.join(" "));
    }
    Ok(())
}

/// Cargo, and the subcommands that `--install` brought.
fn cargo_command(arguments: &[&str]) -> Command {
    let mut path = std::path::absolute(tools::FOLDER).unwrap_or_default().join("bin").into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    // This process was itself started by cargo, whose view of a single package must not leak into the next one.
    command.args(arguments).env_remove("CARGO_MANIFEST_DIR").env("PATH", path);
    command
}

/// Runs a package manager, after saying so, and shows its errors.
fn install(program: &str, arguments: &[&str]) -> bool {
    eprintln!("$ {program} {}", arguments.join(" "));
    let mut command = Command::new(program);
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).stdout(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// True when a program runs and succeeds; prints nothing.
fn runs(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
