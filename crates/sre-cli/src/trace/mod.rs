mod kept;
mod list;
mod recorded;
mod show;

use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// List the traces of a recorded run, and which of them spent a budget of an objective; or those of the last bad and slow tasks
    /// that the live service keeps.
    List(list::Args),
    /// Show the traces of a recorded run, or one that the live service keeps, as trees: where the time went, what they cost, what
    /// failed, and where they are incomplete.
    Show(show::Args),
}

pub(crate) fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::List(args) => list::run(args),
        Command::Show(args) => show::run(args),
    }
}
