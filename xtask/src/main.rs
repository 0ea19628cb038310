//! The workspace's only build tool: `cargo xtask lint`, `install`, `test`, `fuzz`, `soak`, `verify`, `bench`, `prices`, `dist`, `check-layers`.

mod bench;
mod dist;
mod docs;
mod fuzz;
mod layers;
mod lint;
mod manifests;
mod prices;
mod soak;
mod test;
mod tools;
mod verify;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use clap::Parser;

/// Build, test and release tasks of the workspace, as CI runs them.
#[derive(Parser)]
enum Task {
    /// Check formatting, clippy, documentation, layers, manifests, dependencies, and each feature alone.
    Lint {
        /// Install cargo-hack and cargo-deny first, and fail if that is impossible.
        #[arg(long)]
        install: bool,
    },
    /// Install the external programs that tests use, and fail if one is missing.
    Install,
    /// Run all tests, including documentation tests.
    Test {
        /// Install the external programs that tests use first, and fail if one is missing.
        #[arg(long)]
        install: bool,
    },
    /// Search for inputs that break a parser or the service, starting from the recordings.
    Fuzz {
        /// The targets to run; all by default.
        #[arg(value_parser = fuzz::names())]
        names: Vec<String>,
        /// How long to run each, in seconds.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// Install cargo-fuzz first, if it is missing.
        #[arg(long)]
        install: bool,
    },
    /// Run the live service under load and faults, and compare its counts with what it acknowledged.
    Soak {
        /// How long.
        #[arg(long, default_value_t = 2.0)]
        minutes: f64,
        /// The seed of load and faults; a different one each time by default.
        #[arg(long)]
        seed: Option<u64>,
        /// Write the result into `docs/performance.md`.
        #[arg(long)]
        record: bool,
    },
    /// Run the checks that are too slow for CI, and print a table for `docs/verification.md`.
    Verify {
        /// The checks to run; all by default.
        #[arg(value_parser = verify::names())]
        names: Vec<String>,
        /// The git revision that `semver` compares with; the last tag by default.
        #[arg(long, value_name = "REV")]
        baseline_rev: Option<String>,
    },
    /// Run benchmarks three times, and write required and measured values into `docs/performance.md`.
    Bench {
        /// The tables to measure; all by default.
        #[arg(value_parser = bench::names())]
        names: Vec<String>,
        /// Only write the results of the last runs.
        #[arg(long)]
        last: bool,
    },
    /// Write the built-in list of public prices from LiteLLM's price map.
    Prices {
        /// The map, `model_prices_and_context_window.json`.
        map: PathBuf,
    },
    /// Build the wheel with the taps, a tarball and a Debian package in `target/dist`, and try them.
    Dist {
        /// Install maturin and cargo-deb first, if they are missing.
        #[arg(long)]
        install: bool,
        /// Do not optimize.
        #[arg(long)]
        dev: bool,
    },
    /// Check that no crate depends on a layer that it must not.
    CheckLayers,
}

fn main() -> anyhow::Result<()> {
    std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .context("cannot enter the workspace folder")?;
    match Task::parse() {
        Task::Lint { install } => lint::run(install),
        Task::Install => test::install_outside(),
        Task::Test { install } => test::run(install),
        Task::Fuzz { names, seconds, install } => fuzz::run(&names, seconds, install),
        Task::Soak { minutes, seed, record } => soak::run(minutes, seed, record),
        Task::Verify { names, baseline_rev } => verify::run(&names, baseline_rev),
        Task::Bench { names, last } => bench::run(&names, last),
        Task::Prices { map } => prices::run(&map),
        Task::Dist { install, dev } => dist::run(install, dev),
        Task::CheckLayers => layers::check(),
    }
}

/// Prints and runs a cargo command.
fn cargo(arguments: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<()> {
    run_command(cargo_command(arguments).envs(environment.iter().copied()))
}

/// Prints and runs a command, and fails if it does.
fn run_command(command: &mut Command) -> anyhow::Result<()> {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let arguments = command.get_args().map(|argument| argument.to_string_lossy());
    let line = std::iter::once(program.as_str().into()).chain(arguments).collect::<Vec<_>>().join(" ");
    eprintln!("$ {line}");
    let status = command.status().with_context(|| format!("cannot start {program}"))?;
    if !status.success() {
        bail!("`{line}` failed");
    }
    Ok(())
}

/// Returns a cargo command that finds the subcommands installed by `--install`.
fn cargo_command(arguments: &[&str]) -> Command {
    let mut command = with_tools(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    command.args(arguments);
    command
}

/// Returns a command that finds the tools installed by `--install`.
fn with_tools(program: &str) -> Command {
    // The folder comes last, because its `python3` must not hide that of the system.
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":");
    path.push(std::path::absolute(tools::FOLDER).unwrap_or_default().join("bin"));
    let mut command = Command::new(program);
    // Cargo started this process and set variables of a single package, which must not reach the next cargo.
    command.env_remove("CARGO_MANIFEST_DIR").env("PATH", path);
    command
}

/// Prints and runs a command of a package manager.
fn install(program: &str, arguments: &[&str]) -> bool {
    eprintln!("$ {program} {}", arguments.join(" "));
    let mut command = Command::new(program);
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).stdout(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Returns true if a program runs and succeeds; discards its output.
fn runs(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
