//! Creates the exporters from their settings. Each exporter has one row.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sre_core::yaml::{ConfigError, Environment, Fields, Node};
use sre_core::{ExportBatch, ExportError, ExportReport, Exporter, HttpClient, Resource, Wants};
use sre_http::OutboxOptions;

use crate::RuntimeBuilder;

struct Row {
    name: &'static str,
    schema: &'static str,
    read: fn(&mut Fields<'_>) -> Result<Arc<dyn Exporter>, ConfigError>,
}

macro_rules! exporters {
    ($($name:literal: $module:ident::{$settings:ident, $exporter:ident},)*) => {
        static EXPORTERS: &[Row] = &[
            $(
                #[cfg(feature = $name)]
                Row {
                    name: $name,
                    schema: crate::$module::$settings::SCHEMA,
                    read: |fields| exporter(fields, crate::$module::$settings::read, crate::$module::$exporter::new),
                },
            )*
        ];
    };
}

// All exporters, by the names of their features, of which this build may lack some. To add an exporter, add a row.
exporters! {
    "otlp": otlp::{OtlpSettings, OtlpExporter},
    "mlflow": mlflow::{MlflowSettings, MlflowExporter},
    "langfuse": langfuse::{LangfuseSettings, LangfuseExporter},
    "langsmith": langsmith::{LangSmithSettings, LangSmithExporter},
    "phoenix": phoenix::{PhoenixSettings, PhoenixExporter},
    "braintrust": braintrust::{BraintrustSettings, BraintrustExporter},
    "datadog": datadog::{DatadogSettings, DatadogExporter},
    "wandb": wandb::{WandbSettings, WandbExporter},
    "agentops": agentops::{AgentOpsSettings, AgentOpsExporter},
    "helicone": helicone::{HeliconeSettings, HeliconeExporter},
}

/// Reads the settings of an exporter, and creates it.
#[allow(dead_code, reason = "a build may have no exporter")]
fn exporter<S, E: Exporter + 'static>(
    fields: &mut Fields<'_>,
    read: fn(&mut Fields<'_>) -> Result<S, ConfigError>,
    new: fn(S) -> Result<E, sre_core::InvalidExporter>,
) -> Result<Arc<dyn Exporter>, ConfigError> {
    let settings = read(fields)?;
    Ok(Arc::new(new(settings).map_err(|error| fields.invalid(error))?))
}

/// An exporter from a settings file, and how it is run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExporterConfig {
    /// The exporter. Its name is the setting `name`, or its type.
    pub exporter: Arc<dyn Exporter>,
    /// The type, such as `otlp`.
    pub kind: &'static str,
    /// How often metrics and snapshots are sent; every minute by default.
    pub interval: Duration,
    /// The exporting process: the setting `resource`, with `service.name: agent-sre` by default.
    pub resource: Resource,
}

impl ExporterConfig {
    /// Returns the options of an outbox for the exporter.
    pub fn outbox_options(&self) -> OutboxOptions {
        let mut options = OutboxOptions { resource: self.resource.clone(), ..OutboxOptions::default() };
        options.limits.interval = self.interval;
        options
    }
}

impl RuntimeBuilder {
    /// Adds configured exporters, each with an outbox of its own.
    #[must_use]
    pub fn exporters(self, exporters: &[ExporterConfig], http: &Arc<dyn HttpClient>) -> Self {
        exporters.iter().fold(self, |builder, config| {
            builder.export(config.exporter.clone(), http.clone(), config.outbox_options())
        })
    }
}

/// Returns the types of exporters that this build can configure.
pub fn exporter_types() -> impl Iterator<Item = &'static str> {
    EXPORTERS.iter().map(|row| row.name)
}

/// Returns the types of exporters that this build can configure, each with the JSON Schema of its own settings: those besides `type`,
/// `name`, `interval` and `resource`. The schema has an example of all of them.
pub fn exporter_schemas() -> impl Iterator<Item = (&'static str, &'static str)> {
    EXPORTERS.iter().map(|row| (row.name, row.schema))
}

/// Reads a list of exporters, each a mapping with its `type`, its own settings, and optionally `name`, `interval` and
/// `resource`. `${NAME}` in a text is replaced by the environment variable of that name.
///
/// ```
/// # #[cfg(feature = "otlp")] {
/// use sre_core::yaml::document;
/// let text = "- {type: otlp, url: \"http://127.0.0.1:4318\", headers: {api-key: \"${KEY}\"}}";
/// let list = document(text, "sre.yaml", "exporters").unwrap();
/// let exporters = agent_sre::read_exporters(&list, "sre.yaml", &|name| Some(format!("the value of {name}"))).unwrap();
/// assert_eq!(exporters[0].exporter.name(), "otlp");
/// # }
/// # use agent_sre as _;
/// ```
pub fn read_exporters(
    list: &Node,
    file: &str,
    environment: &Environment<'_>,
) -> Result<Vec<ExporterConfig>, ConfigError> {
    let sre_core::yaml::Kind::List(items) = &list.kind else {
        let message = format!("exporters: found {}, expected a list", list.found());
        return Err(ConfigError::document(file, list.line, message));
    };
    let mut names = BTreeSet::new();
    let mut exporters = Vec::new();
    for (at, node) in items.iter().enumerate() {
        let config = read(node, file, &format!("exporters[{at}]."), environment)?;
        if !names.insert(config.exporter.name().to_owned()) {
            let message = format!("found a second exporter `{}`, expected a `name` of its own", config.exporter.name());
            return Err(ConfigError::document(file, node.line, format!("exporters[{at}]: {message}")));
        }
        exporters.push(config);
    }
    Ok(exporters)
}

fn read(node: &Node, file: &str, path: &str, environment: &Environment<'_>) -> Result<ExporterConfig, ConfigError> {
    let mut fields = Fields::new(node, file, path)?.with_environment(environment);
    let types = exporter_types().collect::<Vec<_>>().join(", ");
    let kind = fields.text("type")?;
    let row = EXPORTERS.iter().find(|row| kind.as_deref() == Some(row.name));
    let row = row.ok_or_else(|| match node.entry("type") {
        Some((_, found)) => fields.error("type", found, &format!("one of {types}")),
        None => fields.missing("type", &format!("one of {types}")),
    })?;
    let name = fields.text("name")?.filter(|name| !name.is_empty());
    if name.as_ref().is_some_and(|name| name.contains('/')) {
        let found = node.entry("name").map_or(node, |(_, found)| found);
        return Err(fields.error("name", found, "a name without `/`"));
    }
    let interval = fields.duration("interval")?.unwrap_or(sre_http::OutboxLimits::default().interval);
    let mut resource = Resource::new("agent-sre");
    for (name, value) in fields.secrets("resource")? {
        resource = resource.with(name, value.expose());
    }
    let exporter = (row.read)(&mut fields)?;
    fields.finish()?;
    let exporter = match name {
        Some(name) if name != row.name => Arc::new(Named { name, exporter }),
        _ => exporter,
    };
    Ok(ExporterConfig { exporter, kind: row.name, interval, resource })
}

/// An exporter with a name of its own.
#[derive(Debug)]
struct Named {
    name: String,
    exporter: Arc<dyn Exporter>,
}

#[async_trait]
impl Exporter for Named {
    fn name(&self) -> &str {
        &self.name
    }

    fn wants(&self) -> Wants {
        self.exporter.wants()
    }

    fn state_max_age(&self) -> Option<Duration> {
        self.exporter.state_max_age()
    }

    async fn export(&self, batch: &ExportBatch<'_>, http: &dyn HttpClient) -> Result<ExportReport, ExportError> {
        self.exporter.export(batch, http).await
    }
}

#[cfg(all(test, feature = "langfuse", feature = "otlp"))]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<ExporterConfig>, ConfigError> {
        let list = sre_core::yaml::document(text, "f", "exporters")?;
        read_exporters(&list, "f", &|name| (name == "KEY").then(|| "s3cr3t".to_owned()))
    }

    #[test]
    fn exporters_have_their_settings_and_a_name_each() {
        let exporters = parse(
            "- {type: otlp, url: 'http://a:4318', headers: {api-key: '${KEY}'}, interval: 10s, resource: {a.b: c}}\n\
             - {type: otlp, name: other, url: 'http://b:4318'}\n\
             - {type: langfuse, public_key: pk, secret_key: '${KEY}'}\n",
        )
        .unwrap();
        let names: Vec<_> = exporters.iter().map(|config| (config.exporter.name(), config.kind)).collect();
        assert_eq!(names, [("otlp", "otlp"), ("other", "otlp"), ("langfuse", "langfuse")]);
        assert_eq!(exporters[0].interval, Duration::from_secs(10));
        assert_eq!(exporters[0].resource.attributes["a.b"], "c");
        assert_eq!(exporters[1].resource.attributes["service.name"], "agent-sre");
        assert!(!format!("{exporters:?}").contains("s3cr3t"));
    }

    #[test]
    fn errors_name_line_setting_and_expectation_without_secrets() {
        for (text, expected) in [
            ("{}", "f:1: exporters: found a mapping, expected a list"),
            ("- {url: x}", "f:1: `exporters[0].type`: expected one of "),
            ("- {type: fax}", "f:1: `exporters[0].type: fax`: expected one of otlp, "),
            ("- {type: otlp}", "f:1: `exporters[0].url`: expected the URL of a collector"),
            (
                "- {type: otlp, name: signals/x, url: 'http://a'}",
                "f:1: `exporters[0].name: signals/x`: expected a name without `/`",
            ),
            ("- {type: otlp, url: nowhere}", "f:1: exporters[0]: otlp: `url`: expected a URL such as"),
            ("- {type: otlp, url: 'http://a', speed: 7}", "f:1: `exporters[0].speed`: unknown field"),
            ("- {type: otlp, url: 'http://a', protocol: smtp}", "f:1: exporters[0]: found protocol `smtp`"),
            (
                "\n- {type: otlp, url: 'http://a', headers: {k: '${UNSET}'}}",
                "f:2: `exporters[0].headers`: expected the environment variable UNSET to be set",
            ),
            (
                "- {type: langfuse, public_key: s3cr3t, secret_key: [s3cr3t]}",
                "f:1: `exporters[0].secret_key`: expected a text",
            ),
            (
                "- {type: otlp, url: 'http://a'}\n- {type: otlp, url: 'http://b'}",
                "f:2: exporters[1]: found a second exporter `otlp`, expected a `name` of its own",
            ),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(expected) && !error.contains("s3cr3t"), "{error}");
        }
    }
}
