use std::io::{BufWriter, Write};
use std::process::ExitCode;

use agent_sre::{AgentEvent, RunLimits, Window};

use crate::input::{Input, RecordingArgs};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    recording: RecordingArgs,
    /// The time after which an unfinished task counts as failed.
    #[arg(long, default_value = "10m", value_name = "DURATION")]
    task_timeout: Window,
}

/// Prints the agent events of a recorded run.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let limits = RunLimits { task_timeout: args.task_timeout.duration(), ..Default::default() };
    let mut input = Input::new(&args.recording.input);
    let mut adapter = input.format(args.recording.from)?.adapter(limits);
    let pricing = args.recording.pricing()?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut written = Ok(());
    let mut print = |mut event: AgentEvent| {
        pricing.price(&mut event);
        if written.is_ok() {
            written = serde_json::to_writer(&mut out, &event).map_err(Into::into).and_then(|()| out.write_all(b"\n"));
        }
    };
    input.read(args.recording.strict, &mut *adapter, &mut print)?;
    adapter.finish(&mut print);
    written?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
