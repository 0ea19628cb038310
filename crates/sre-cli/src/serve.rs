use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;

use agent_sre::Window;
use anyhow::Context;
use sre_server::{Config, Overrides, Server};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::arguments::EngineFiles;
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
    /// The file of alert channels.
    #[arg(long, value_name = "FILE")]
    notify: Option<PathBuf>,
    #[command(flatten)]
    engines: EngineFiles,
    /// Stream recorded runs of three agents in, as if they happened now. Without `--data`, their data is in a temporary folder
    /// that is deleted at the end.
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
    let (demo, stop_after) = (args.demo, args.stop_after);
    // Deleted when it is dropped.
    let mut demo_folder = None;
    let mut overrides = Overrides {
        listen: args.listen,
        data: args.data,
        slos: args.slo,
        notify: args.notify,
        engine_files: args.engines.0,
    };
    if demo {
        let folder =
            tempfile::Builder::new().prefix("sre-demo-").tempdir().context("cannot create a folder for the demo")?;
        if overrides.data.is_none() {
            overrides.data = Some(folder.path().join("data"));
            tracing::info!("The data of the demo is deleted at the end; `--data DIR` keeps it");
        }
        if args.config.is_none() && overrides.slos.is_empty() {
            let file = folder.path().join("slos.yaml");
            std::fs::write(&file, demo::OBJECTIVES).context("cannot write the objective of the demo")?;
            overrides.slos.push(file);
        }
        demo_folder = Some(folder);
    }
    if args.config.is_none() && !demo && std::path::Path::new("sre.yaml").exists() {
        tracing::warn!("sre.yaml in this folder is not used; `--config sre.yaml` uses it");
    }
    let is_demo_alone = demo && args.config.is_none();
    let mut config =
        args.config.as_deref().map(Config::load).transpose()?.unwrap_or_default().with_overrides(overrides);
    // The errors of the demo are nobody's secret.
    config.traces.texts |= is_demo_alone;
    // Bodies are parsed on blocking threads: more of them would only use more memory.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(16)
        .build()
        .context("cannot start")?;
    let code = runtime.block_on(serve(config, demo, stop_after))?;
    drop(runtime);
    if let Some(folder) = demo_folder {
        folder.close().context("cannot delete the folder of the demo")?;
    }
    Ok(code)
}

async fn serve(config: Config, demo: bool, stop_after: Option<Window>) -> anyhow::Result<ExitCode> {
    let data = config.data.display().to_string();
    if !config.engine_files.contains_key("prices") {
        let as_of = agent_sre::cost::PriceBook::PUBLIC_AS_OF;
        tracing::info!("Model prices: the public list of {as_of}; `prices` in sre.yaml replaces it");
    }
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
        // Otherwise it may report that the stopped service does not answer.
        let _ = demo.await;
    }
    server.stop().await;
    Ok(ExitCode::SUCCESS)
}
