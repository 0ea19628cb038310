//! The `sre` command. Exit codes: 0 fine, 1 the fail-on level was reached, 2 the input or the spec is wrong, or an alert was
//! not delivered.

mod alerts;
mod breakers;
mod check;
mod config;
mod costs;
mod demo;
mod events;
mod gate;
mod input;
mod notify;
mod report;
mod rules;
mod serve;
mod slo;
mod timeline;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Bodies and snapshots of megabytes come and go while the service runs: under these, glibc's allocator grew by 40 MiB in ten
/// minutes, and goes on.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Reliability engineering for AI agents.
#[derive(Parser)]
#[command(name = "sre", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check a recorded run against its service level objectives.
    Check(check::Args),
    /// Print the events that an adapter makes of a recorded run, as our own JSON Lines.
    Events(events::Args),
    /// Run the live service: take events in over HTTP, keep objectives, alerts and costs, and show them.
    Serve(serve::Args),
    /// Ask the live service whether a deploy may go on: exit code 0 if so, 1 if not.
    Gate(gate::Args),
    /// Work with the live service's settings.
    #[command(subcommand)]
    Config(config::Command),
    /// Work with objectives as files.
    #[command(subcommand)]
    Slo(slo::Command),
    /// Work with alerts: test a channel, read the history.
    #[command(subcommand)]
    Alerts(alerts::Command),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Check(args) => check::run(args),
        Command::Events(args) => events::run(&args),
        Command::Serve(args) => serve::run(args),
        Command::Gate(args) => gate::run(args),
        Command::Config(command) => config::run(command),
        Command::Slo(command) => slo::run(&command),
        Command::Alerts(command) => alerts::run(command),
    };
    result.unwrap_or_else(|error| {
        // Whoever reads the output may go away early: `sre … | head` is no failure of ours.
        let closed =
            error.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe);
        if closed {
            return ExitCode::SUCCESS;
        }
        anstream::eprintln!("{}error:{} {}", report::style::ERROR, report::style::PLAIN, message(&error));
        ExitCode::from(2)
    })
}

/// The error with its causes, each told once: many messages hold their cause already.
fn message(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |message, cause| match () {
        () if message.is_empty() => cause,
        () if message.contains(&cause) => message,
        () => format!("{message}: {cause}"),
    })
}
