use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use agent_sre::cost::{PriceBook, Pricing};
use agent_sre::{AgentEvent, RunLimits, Window};

use crate::input::{self, Input, InputFormat};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The format of the input.
    #[arg(long, value_parser = input::formats(), default_value = "auto", value_name = "FORMAT")]
    from: InputFormat,
    /// Files with one record per line (for OTLP also the protobuf body of a request), or `-` for standard input.
    #[arg(required = true)]
    input: Vec<PathBuf>,
    /// Add costs to model calls without one, from this file: LiteLLM's price map as JSON, or a price list as YAML.
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// The time after which an unfinished task counts as failed.
    #[arg(long, default_value = "10m", value_name = "DURATION")]
    task_timeout: Window,
    /// Fail on a malformed line instead of skipping it.
    #[arg(long)]
    strict: bool,
}

/// Prints the agent events of a recorded run.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let limits = RunLimits { task_timeout: args.task_timeout.duration(), ..Default::default() };
    let mut input = Input::new(&args.input);
    let mut adapter = input.format(args.from)?.adapter(limits);
    let pricing =
        Pricing::new(args.prices.as_deref().map(PriceBook::load).transpose()?.unwrap_or_else(PriceBook::public));
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut written = Ok(());
    let mut print = |mut event: AgentEvent| {
        pricing.price(&mut event);
        if written.is_ok() {
            written = serde_json::to_writer(&mut out, &event).map_err(Into::into).and_then(|()| out.write_all(b"\n"));
        }
    };
    input.read(args.strict, &mut *adapter, &mut print)?;
    adapter.finish(&mut print);
    written?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
