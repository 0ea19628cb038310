mod framework;

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use self::framework::Framework;

/// The files that are written, with what they hold.
const FILES: [(&str, &str); 2] = [("slo.yaml", include_str!("slo.yaml")), ("sre.yaml", include_str!("sre.yaml"))];

/// Writes objectives and settings into the current folder, and prints the lines that connect its agent.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let folder = Path::new(".");
    let found = framework::find(folder).context("cannot read the current folder")?;
    for (name, text) in FILES {
        let outcome = if write_new(name, text)? { "written" } else { "exists already, left as it is" };
        outln!("{name}: {outcome}")?;
    }
    match &found {
        Some((file, frameworks)) => {
            outln!("{file}: {}\n", names(frameworks))?;
            let of_framework = frameworks.first().and_then(|framework| framework.tap);
            out!("{}", of_framework.map_or_else(|| OPENTELEMETRY.to_owned(), tap))?;
        }
        None => out!("no framework found in lock files and lists of requirements\n\n{OPENTELEMETRY}")?,
    }
    outln!(
        "\nThen check the settings, and start the service:\n\n    sre config check\n    sre serve --config sre.yaml"
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a file, and returns whether it has: one that exists is left as it is.
fn write_new(name: &str, text: &str) -> anyhow::Result<bool> {
    let file = OpenOptions::new().write(true).create_new(true).open(name);
    match file.and_then(|mut file| file.write_all(text.as_bytes())) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot write {name}")),
    }
}

/// Returns the frameworks that were found. Only the first is connected, since an agent that reports twice is counted twice.
fn names(frameworks: &[&Framework]) -> String {
    let [first, others @ ..] = frameworks else { return String::new() };
    match others.iter().map(|framework| framework.name).collect::<Vec<_>>() {
        others if others.is_empty() => format!("the agent uses {}", first.name),
        others => format!("the agent uses {}, with {}", first.name, others.join(", ")),
    }
}

/// Returns the lines that connect an agent by its framework's tap.
fn tap((module, line): (&str, &str)) -> String {
    format!(
        "Install the tap where the agent runs, from a checkout of agent-sre or the wheel of `cargo xtask dist`, and add its lines\n\
         before the agent starts:\n\n    \
         pip install ./crates/sre-cli\n\n    \
         import sre_taps.{module}\n    \
         {line}\n"
    )
}

/// The lines that connect an agent with OpenTelemetry instrumentation, as in `docs/serve.md`.
const OPENTELEMETRY: &str = "\
Switch the framework's OpenTelemetry instrumentation on, and set where the agent runs:

    export OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf
";
