use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agent_sre::alerts::{NotifyConfig, SCHEMA};
use agent_sre::sqlite::SqliteAlertStore;
use agent_sre::{
    Alert, AlertQuery, AlertRecord, AlertStore, Clock, DeliveryRecord, DeliveryState, Severity, SystemClock, Timestamp,
    Window,
};
use anyhow::{Context, bail};
use clap::ValueEnum;
use comfy_table::{Table, presets};

use crate::notify;

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Send a test alert to one channel.
    Test {
        /// The channels file.
        #[arg(long, value_name = "FILE")]
        notify: PathBuf,
        /// The channel to test.
        #[arg(long, value_name = "NAME")]
        channel: String,
        /// The severity of the test alert.
        #[arg(long, value_enum, default_value_t = TestSeverity::Warning)]
        severity: TestSeverity,
        /// Resolve the alert at once.
        #[arg(long)]
        resolve: bool,
    },
    /// List the alerts that were sent and their deliveries, newest first.
    List {
        #[command(flatten)]
        history: History,
        /// Only alerts of this agent.
        #[arg(long, value_name = "NAME")]
        agent: Option<String>,
        /// Only alerts of this severity: info, warning, critical or resolved.
        #[arg(long)]
        severity: Option<Severity>,
        /// Only alerts of this objective.
        #[arg(long, value_name = "NAME")]
        slo: Option<String>,
        /// Only alerts sent within this time, such as 24h.
        #[arg(long, value_name = "DURATION")]
        since: Option<Window>,
        /// The maximum number of alerts.
        #[arg(long, default_value_t = 20)]
        limit: usize,
        /// The output format.
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Acknowledge an open incident, which stops its repeats and escalation.
    Ack {
        #[command(flatten)]
        history: History,
        /// The incident's key, as `sre alerts list` shows it.
        key: String,
        /// Who acknowledges it.
        #[arg(long, env = "USER", value_name = "NAME")]
        by: String,
    },
    /// Print the JSON Schema of the channels file, for editors.
    Schema,
}

#[derive(clap::Args)]
pub(crate) struct History {
    /// The channels file, which names the history.
    #[arg(long, value_name = "FILE", conflicts_with = "history")]
    notify: Option<PathBuf>,
    /// The history file; by default `alerts.db` or `agent_sre_alerts.db` in the current folder.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum TestSeverity {
    Info,
    Warning,
    Critical,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Output {
    Text,
    Json,
}

pub(crate) fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Test { notify, channel, severity, resolve } => test(&notify, &channel, severity, resolve),
        Command::List { history, agent, severity, slo, since, limit, output } => {
            let since = since.map(|window| SystemClock.now().saturating_sub(window.duration()));
            let limit = Some(limit);
            let query = AlertQuery { agent_id: agent, severity, slo_name: slo, since, limit, ..AlertQuery::default() };
            list(&history.open()?, &query, output)
        }
        Command::Ack { history, key, by } => {
            if !history.open()?.acknowledge(&key, &by, SystemClock.now())? {
                bail!("`{key}`: found no open incident with this key, expected one that `sre alerts list` shows");
            }
            outln!("{key}: acknowledged by {by}")?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Schema => {
            out!("{SCHEMA}")?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn test(path: &Path, channel: &str, severity: TestSeverity, resolve: bool) -> anyhow::Result<ExitCode> {
    let mut config = notify::load(path)?;
    let names: Vec<String> = config.channels.iter().map(|(known, _)| known.name().to_owned()).collect();
    config.channels.retain(|(known, _)| known.name() == channel);
    let Some((_, channel_config)) = config.channels.first_mut() else {
        bail!("{}: found no channel `{channel}`, expected one of {}", path.display(), names.join(", "));
    };
    // The test is about delivery, so the channel's filters do not apply.
    *channel_config = Default::default();
    channel_config.min_severity = Severity::Info;
    let defaults = agent_sre::alerts::AlertOptions::default();
    config.options =
        agent_sre::alerts::AlertOptions { http: config.options.http.clone(), retry: config.options.retry, ..defaults };
    let mut alert = Alert {
        severity: match severity {
            TestSeverity::Info => Severity::Info,
            TestSeverity::Warning => Severity::Warning,
            TestSeverity::Critical => Severity::Critical,
        },
        dedup_key: format!("sre-alerts-test/{channel}"),
        ..Alert::new(
            "Test alert",
            format!("Sent by `sre alerts test` to check channel `{channel}`. No action is needed."),
        )
    };
    alert.labels.insert("test".to_owned(), "true".to_owned());
    let mut alerts = vec![alert.clone()];
    if resolve {
        alerts.push(Alert { severity: Severity::Resolved, ..alert });
    }
    let failures = notify::deliver(config.start()?, &alerts)?;
    if !failures.is_empty() {
        bail!("{}", failures.join("\n"));
    }
    outln!("{channel}: delivered")?;
    Ok(ExitCode::SUCCESS)
}

impl History {
    fn open(&self) -> anyhow::Result<SqliteAlertStore> {
        let path = match (&self.history, &self.notify) {
            (Some(path), _) => path.clone(),
            (None, Some(notify)) => NotifyConfig::load(notify)?
                .history
                .with_context(|| format!("{}: `history` is missing; set it to a file name", notify.display()))?,
            (None, None) => {
                let names = ["alerts.db", SqliteAlertStore::DEFAULT_FILE].map(PathBuf::from);
                let here = names.into_iter().find(|name| name.exists());
                here.context("no alerts.db in this folder; pass --notify FILE or --history FILE")?
            }
        };
        if !path.exists() {
            bail!("{}: no such file; no alert has been sent yet", path.display());
        }
        Ok(SqliteAlertStore::open(path)?)
    }
}

fn list(store: &SqliteAlertStore, query: &AlertQuery, output: Output) -> anyhow::Result<ExitCode> {
    let records = store.query(query)?;
    match output {
        Output::Json => {
            let mut stdout = std::io::stdout().lock();
            serde_json::to_writer_pretty(&mut stdout, &records).map_err(std::io::Error::from)?;
            writeln!(stdout)?;
        }
        Output::Text => {
            let mut table = Table::new();
            table.load_style(presets::NOTHING);
            table.set_header(["sent", "severity", "alert", "key", "delivered to"]);
            for record in &records {
                table.add_row(row(record));
            }
            let mut stdout = anstream::stdout().lock();
            if !records.is_empty() {
                writeln!(stdout, "{}", table.trim_fmt())?;
            }
            writeln!(stdout, "{} of {} alerts", records.len(), store.count()?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn row(record: &AlertRecord) -> [String; 5] {
    let AlertRecord { at, alert, deliveries, acknowledged, .. } = record;
    let mut title = alert.title.clone();
    if let Some(acknowledged) = acknowledged {
        title.push_str(&format!("\nacknowledged by {}", acknowledged.by));
    }
    let deliveries: Vec<String> = deliveries.iter().map(delivery).collect();
    let deliveries = if deliveries.is_empty() { "no channel".to_owned() } else { deliveries.join("\n") };
    [seconds(*at), alert.severity.to_string(), title, alert.key().into_owned(), deliveries]
}

fn delivery(delivery: &DeliveryRecord) -> String {
    let DeliveryRecord { channel, state, attempts, status, error, .. } = delivery;
    let status = status.map(|status| format!(" ({status})")).unwrap_or_default();
    let tries = if *attempts > 1 { format!(", attempt {attempts}") } else { String::new() };
    match (state, error) {
        (DeliveryState::Delivered, _) => format!("{channel}{status}{tries}"),
        (_, Some(error)) => format!("{channel}: {}{tries}, {error}", state.as_str()),
        (_, None) => format!("{channel}: {}", state.as_str()),
    }
}

/// Formats a time in whole seconds.
fn seconds(time: Timestamp) -> String {
    Timestamp::from_secs(time.as_secs()).to_string()
}
