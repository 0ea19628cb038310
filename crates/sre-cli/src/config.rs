use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use sre_server::{CONFIG_SCHEMA, Config, Scope, Token};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Check the service's settings, and every file that they name.
    Check {
        /// The settings.
        #[arg(default_value = "sre.yaml")]
        file: PathBuf,
    },
    /// Make a token, and the lines for the settings that let its owner in.
    Token {
        /// What it is good for.
        #[arg(long, value_enum)]
        scope: TokenScope,
        /// Whose it is.
        #[arg(long, default_value = "agents")]
        name: String,
    },
    /// Print the JSON Schema of the settings, for editors.
    Schema,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum TokenScope {
    /// Sending events.
    Ingest,
    /// Reading, and asking whether a deploy may go on.
    Read,
}

pub(crate) fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Check { file } => {
            let config = Config::load(&file)?;
            let objectives = config.check()?;
            let counted = if objectives == 1 { "objective" } else { "objectives" };
            anstream::println!("{}: fine, with {objectives} {counted}", file.display());
        }
        Command::Token { scope, name } => {
            let scope = match scope {
                TokenScope::Ingest => Scope::Ingest,
                TokenScope::Read => Scope::Read,
            };
            let (token, digest) = Token::generate()?;
            anstream::println!("{token}");
            anstream::eprintln!("It is shown this once. In the settings, under `tokens`:");
            anstream::eprintln!("  - {{name: {name}, scope: {}, sha256: {digest}}}", scope.as_str());
        }
        Command::Schema => anstream::print!("{CONFIG_SCHEMA}"),
    }
    Ok(ExitCode::SUCCESS)
}
