use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agent_sre::slo::{
    ChangeKind, SCHEMA, SliRegistry, SloEngine, SloSpec, SpecError, SpecErrors, diff, load, to_openslo, to_yaml,
};
use clap::ValueEnum;
use comfy_table::{Table, presets};

use crate::rules;

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Check that objectives are valid.
    Validate {
        /// YAML files of agent-sre or OpenSLO, or folders of them.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Show what changed between two versions of objectives.
    Diff {
        /// The old version: a file or folder.
        before: PathBuf,
        /// The new version: a file or folder.
        after: PathBuf,
        /// Exit with 1 if a change is of this kind or a worse one.
        #[arg(long, value_enum, default_value_t = FailOn::Never)]
        fail_on: FailOn,
        /// The output format.
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Convert objectives between the YAML of agent-sre and OpenSLO v1.
    Convert {
        /// YAML files of agent-sre or OpenSLO, or folders of them.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// The target format.
        #[arg(long, value_enum)]
        to: Format,
    },
    /// Print Prometheus alerting rules on the metrics of `sre serve`.
    Rules {
        /// YAML files of agent-sre or OpenSLO, or folders of them.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Print a Grafana dashboard of the metrics of `sre serve`.
    Dashboard,
    /// Print the JSON Schema of objective files, for editors.
    Schema,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum FailOn {
    Loosened,
    Breaking,
    Never,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Output {
    Text,
    Json,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Format {
    Yaml,
    Openslo,
}

pub(crate) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Validate { paths } => validate(paths),
        Command::Diff { before, after, fail_on, output } => compare(before, after, *fail_on, *output),
        Command::Convert { paths, to } => {
            let specs = load(paths, &SliRegistry::default())?;
            out!("{}", if matches!(to, Format::Yaml) { to_yaml(&specs) } else { to_openslo(&specs) })?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Rules { paths } => {
            let rules = rules::rules(&load(paths, &SliRegistry::default())?)?;
            out!("{}", serde_saphyr::to_string(&rules)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Dashboard => {
            out!("{}", include_str!("dashboard.json"))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Schema => {
            out!("{SCHEMA}")?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn validate(paths: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let specs = load(paths, &SliRegistry::default())?;
    SloEngine::new(specs.clone(), SliRegistry::default())?;
    for spec in &specs {
        outln!("{}: valid{}", spec.name, not_evaluable(spec))?;
    }
    match specs.len() {
        1 => outln!("1 objective, valid")?,
        count => outln!("{count} objectives, all valid")?,
    }
    Ok(ExitCode::SUCCESS)
}

fn not_evaluable(spec: &SloSpec) -> String {
    let registry = SliRegistry::default();
    let slo = agent_sre::slo::Slo::from_spec(spec, "", &registry);
    let missing = slo.map(|slo| slo.snapshot_at(agent_sre::Timestamp::default()).not_evaluable).unwrap_or_default();
    if missing.is_empty() { String::new() } else { format!("; not measurable from events: {}", missing.join(", ")) }
}

fn compare(before: &Path, after: &Path, fail_on: FailOn, output: Output) -> anyhow::Result<ExitCode> {
    let changes = diff(&load_version(before)?, &load_version(after)?);
    match output {
        Output::Json => outln!("{}", serde_json::to_string_pretty(&changes)?)?,
        Output::Text if changes.is_empty() => outln!("no change")?,
        Output::Text => {
            let mut table = Table::new();
            table.load_style(presets::NOTHING);
            for change in &changes {
                let field = if change.field.is_empty() { "objective" } else { &change.field };
                table.add_row([
                    change.kind.to_string(),
                    change.slo.clone(),
                    field.to_owned(),
                    format!("{} → {}", display(&change.from), display(&change.to)),
                ]);
            }
            outln!("{table}")?;
        }
    }
    let failed = changes.iter().any(|change| match fail_on {
        FailOn::Loosened => matches!(change.kind, ChangeKind::Loosened | ChangeKind::Breaking),
        FailOn::Breaking => change.kind == ChangeKind::Breaking,
        FailOn::Never => false,
    });
    Ok(ExitCode::from(u8::from(failed)))
}

/// Loads a version of objectives, which may have none: all of them are new, or were removed.
fn load_version(path: &Path) -> Result<Vec<SloSpec>, SpecErrors> {
    match load(&[path], &SliRegistry::default()) {
        Err(errors) if matches!(errors.as_slice(), [SpecError::Empty { .. }]) => Ok(Vec::new()),
        loaded => loaded,
    }
}

fn display(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "–".to_owned(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
