use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;

use agent_sre::Window;
use anyhow::Context;
use sre_server::{Config, Server};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::demo;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The configuration file (YAML); `sre config schema` prints its schema.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The address to listen on; 127.0.0.1:4318 by default.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// The folder for all data; ./sre-data by default.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Objectives: YAML files, or folders of them.
    #[arg(long, value_name = "FILE_OR_DIR")]
    slo: Vec<PathBuf>,
    /// Stream recorded runs of three agents in, as if they happened now.
    #[arg(long)]
    demo: bool,
    /// Stop after this time.
    #[arg(long, value_name = "DURATION", hide = true)]
    stop_after: Option<Window>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    // Standard output carries the ready line only; the log goes to standard error.
    let filter = EnvFilter::try_from_env("SRE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let is_terminal = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(is_terminal).with_writer(std::io::stderr).init();
    let mut config = args.config.as_deref().map(Config::load).transpose()?.unwrap_or_default();
    config.listen = args.listen.unwrap_or(config.listen);
    config.data = args.data.unwrap_or(config.data);
    if !args.slo.is_empty() {
        (config.slos, config.slos_given) = (args.slo, true);
    }
    // Bodies are parsed on blocking threads: more of them would only use more memory.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(16)
        .build()
        .context("cannot start")?;
    runtime.block_on(serve(config, args.demo, args.stop_after))
}

async fn serve(config: Config, demo: bool, stop_after: Option<Window>) -> anyhow::Result<ExitCode> {
    let data = config.data.display().to_string();
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    let mut asked_to_stop = pin!(async {
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot wait for signals"),
            _ = terminate.recv() => Ok(()),
        }
    });
    let server = tokio::select! {
        started = Server::start(config) => started?,
        asked = &mut asked_to_stop => return asked.map(|()| ExitCode::SUCCESS),
    };
    let objectives = match server.objectives() {
        1 => "1 objective".to_owned(),
        number => format!("{number} objectives"),
    };
    // Scripts wait for this line.
    writeln!(std::io::stdout(), "ready: {} ({objectives}, data in {data})", server.url())?;
    let demo = demo.then(|| tokio::spawn(demo::stream(server.url())));
    let stopped = async {
        match stop_after {
            Some(after) => tokio::time::sleep(after.duration()).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        asked = asked_to_stop => asked?,
        () = stopped => {}
    }
    if let Some(demo) = demo {
        demo.abort();
    }
    server.stop().await;
    Ok(ExitCode::SUCCESS)
}
