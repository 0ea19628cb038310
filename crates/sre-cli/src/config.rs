use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use sre_server::{Config, Scope, Token, config_schema};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Check a configuration file, every file that it names, the address and the data folder.
    Check {
        /// The configuration file.
        #[arg(default_value = "sre.yaml")]
        file: PathBuf,
        /// Check what a running service would reload: neither the address nor the data folder.
        #[arg(long)]
        reload: bool,
    },
    /// Generate a token, and the configuration line that accepts it.
    Token {
        /// What the token permits.
        #[arg(long, value_enum)]
        scope: TokenScope,
        /// The owner's name, for logs.
        #[arg(long, default_value = "agents")]
        name: String,
    },
    /// Print the JSON Schema of the configuration file, for editors.
    Schema,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum TokenScope {
    /// Sending events.
    Ingest,
    /// Reading, and asking whether a deploy is allowed.
    Read,
}

pub(crate) fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Check { file, reload } => {
            let config = Config::load(&file)?;
            let objectives = if reload { config.check_reload()? } else { config.check()? };
            let counted = if objectives == 1 { "objective" } else { "objectives" };
            outln!("{}: valid, {objectives} {counted}", file.display())?;
        }
        Command::Token { scope, name } => {
            let scope = match scope {
                TokenScope::Ingest => Scope::Ingest,
                TokenScope::Read => Scope::Read,
            };
            let (token, digest) = Token::generate()?;
            outln!("{token}")?;
            errln!("The token is shown only once. Add this line to `tokens` in the configuration:");
            errln!("  - {{name: {name}, scope: {}, sha256: {digest}}}", scope.as_str());
        }
        Command::Schema => outln!("{:#}", config_schema())?,
    }
    Ok(ExitCode::SUCCESS)
}
