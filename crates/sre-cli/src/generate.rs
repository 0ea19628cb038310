//! `sre generate`: shell completions and manual pages.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::ValueEnum;
use clap_complete::Shell;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder to write to, which is created if it is missing.
    folder: PathBuf,
}

/// Writes the completions of every shell and the manual pages of a command.
pub(crate) fn run(args: &Args, command: clap::Command) -> anyhow::Result<ExitCode> {
    // `help` would have a page for every command again.
    let mut command = command.disable_help_subcommand(true);
    let written = || {
        std::fs::create_dir_all(&args.folder)?;
        for shell in Shell::value_variants() {
            clap_complete::generate_to(*shell, &mut command, "sre", &args.folder)?;
        }
        clap_mangen::generate_to(command, &args.folder)
    };
    written().with_context(|| format!("cannot write to {}", args.folder.display()))?;
    Ok(ExitCode::SUCCESS)
}
