//! The `sre` command. Exit codes: 0 success; 1 the `--fail-on` level was reached, or a deploy is not allowed; 2 invalid input
//! or configuration, or an alert that was not delivered.

/// Writes text to standard output. If its reader has closed the pipe, as in `sre … | head`, the exit code still counts.
macro_rules! out {
    ($($text:tt)*) => { $crate::print(format_args!($($text)*)) };
}

/// Writes a line to standard output, like `out!`.
macro_rules! outln {
    ($($text:tt)*) => { out!("{}\n", format_args!($($text)*)) };
}

/// Writes a line to standard error, if it can be written.
macro_rules! errln {
    ($($text:tt)*) => { drop(std::io::Write::write_fmt(&mut anstream::stderr(), format_args!("{}\n", format_args!($($text)*)))) };
}

mod alerts;
mod arguments;
mod breakers;
mod check;
mod config;
mod costs;
mod demo;
mod events;
mod export;
mod exporters;
mod findings;
mod gate;
mod generate;
mod init;
mod input;
mod notify;
mod report;
mod rules;
mod serve;
mod service_client;
mod services_without_events;
mod slo;
mod timeline;
mod trace;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// The service keeps allocating and freeing bodies and snapshots of several megabytes, under which the resident memory of
/// glibc's allocator grows without bound.
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
    /// Write objectives and settings into the current folder, and print the lines that connect its agent.
    Init,
    /// Check a recorded run against its service level objectives.
    Check(check::Args),
    /// Print the agent events of a recorded run, as JSON Lines.
    Events(events::Args),
    /// Run the live service: receive events over HTTP, evaluate objectives, send alerts and track costs.
    Serve(serve::Args),
    /// Ask the live service whether a deploy is allowed: exit code 0 if it is, 1 if it is not.
    Gate(gate::Args),
    /// Send a recorded run to a backend such as an OpenTelemetry collector, Langfuse or MLflow.
    Export(export::Args),
    /// Work with the exporters of the live service.
    #[command(subcommand)]
    Exporters(exporters::Command),
    /// Work with the configuration of the live service.
    #[command(subcommand)]
    Config(config::Command),
    /// Work with files of objectives.
    #[command(subcommand)]
    Slo(slo::Command),
    /// Work with traces.
    #[command(subcommand)]
    Trace(trace::Command),
    /// Work with alerts: test a channel, read the history.
    #[command(subcommand)]
    Alerts(alerts::Command),
    /// Write shell completions and manual pages to a folder.
    Generate(generate::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Init => init::run(),
        Command::Check(args) => check::run(args),
        Command::Events(args) => events::run(&args),
        Command::Serve(args) => serve::run(args),
        Command::Gate(args) => gate::run(args),
        Command::Export(args) => export::run(&args),
        Command::Exporters(command) => exporters::run(command),
        Command::Config(command) => config::run(command),
        Command::Slo(command) => slo::run(&command),
        Command::Trace(command) => trace::run(command),
        Command::Alerts(command) => alerts::run(command),
        Command::Generate(args) => generate::run(&args, Cli::command()),
    };
    result.unwrap_or_else(|error| {
        // A reader that closes the pipe early, as in `sre … | head`, is not an error.
        if is_closed_pipe(&error) {
            return ExitCode::SUCCESS;
        }
        errln!("{}error:{} {}", report::style::ERROR, report::style::PLAIN, message(&error));
        ExitCode::from(2)
    })
}

fn print(text: std::fmt::Arguments<'_>) -> std::io::Result<()> {
    match std::io::Write::write_fmt(&mut anstream::stdout(), text) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

/// Returns whether the reader of the output has closed its pipe.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Returns the error with its causes, without those that the message contains already.
fn message(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |message, cause| match () {
        () if message.is_empty() => cause,
        () if message.contains(&cause) => message,
        () => format!("{message}: {cause}"),
    })
}
